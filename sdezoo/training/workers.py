"""Workers: data parallelism, mixed precision and compilation in training. The only file of training that imports accelerate.

`accelerate launch` or `torchrun` starts one worker per device. Each handles its share of every batch; gradients are averaged; only the
first worker writes files. Noise is keyed by the position in the batch, so any number of workers trains the same model. Autocast covers
only the network: states, losses, and weights stay float32.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from sdezoo.errors import RunError
from sdezoo.store.launch import launched

PrecisionName = Literal["float32", "bf16", "fp16"]

_SMALL = 3e8
"""Floating-point operations of a forward pass below which one thread is as fast as several."""
_MIXED = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Use only deterministic algorithms of torch while the block runs.

    Args:
        wanted: whether to do so; if False, nothing changes.

    Raises:
        RunError: if an operation of the network has no deterministic implementation.
    """
    if not wanted:
        yield
        return
    before, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RunError) or "deterministic" not in str(error):
            raise
        operation = str(error).split()[0]
        raise RunError(
            f"torch has no deterministic implementation of '{operation}' here.", "Omit --deterministic, or give another --device."
        ) from error
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.backends.cudnn.benchmark = benchmark


def threads_for(work: Callable[[], object]) -> int:
    """Number of threads that `work` is worth, on a CPU: one if its operations are too small to be shared.

    Threads wait for each other after every operation. On a busy machine they wait for the scheduler too: a step of a small network then
    takes several times as long with two threads as with one. The choice depends on the number of operations alone, not on a measured time,
    so that the same settings give the same bytes. `OMP_NUM_THREADS` is obeyed.

    Args:
        work: computes what is done again and again, such as the losses of a batch.
    """
    if torch.get_num_threads() == 1 or "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()
    with FlopCounterMode(display=False) as counter:
        work()
    return 1 if counter.get_total_flops() < _SMALL else torch.get_num_threads()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Use `count` threads inside an operation of torch while the block runs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Workers:
    """All workers of a training run, as seen from one of them.

    Args:
        device: device of a single worker; the launcher assigns those of several workers.
        precision: precision of the network; None: the setting of the launcher, else float32.
        compiled: whether to compile the network.

    Raises:
        RunError: if the device does not support the precision, or the kind of launch is not supported.
    """

    def __init__(self, device: torch.device, precision: PrecisionName | None, *, compiled: bool) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, GradientState
        from accelerate.utils import DistributedType

        # accelerate keeps global state: reset it, so that settings of an earlier run do not leak.
        AcceleratorState._reset_state(reset_partial_state=launched() == 1)
        GradientState._reset_state()
        if precision == "fp16" and device.type != "cuda":
            raise RunError(f"fp16 needs a CUDA device, but the device is {device}.", "Give --precision bf16, or omit it.")
        if device.type == "cuda" and device.index is not None:
            os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)
        self._accelerator = Accelerator(
            mixed_precision=_MIXED[precision] if precision else None,
            cpu=device.type == "cpu",
            dynamo_backend="inductor" if compiled else "no",
        )
        kind = self._accelerator.distributed_type
        if kind not in (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU):
            raise RunError(
                f"Distributed training of type {kind.value} is not supported.", "Launch with data parallelism (MULTI_GPU, MULTI_CPU)."
            )
        self.device = self._accelerator.device
        self._network: nn.Module | None = None
        self.count, self.index = self._accelerator.num_processes, self._accelerator.process_index
        self._hosts = torch.distributed.new_group(backend="gloo") if self.count > 1 else None

    def positions(self, batch: int, parts: int) -> list[Tensor]:
        """Positions in a batch that this worker handles, one int64 tensor per micro-batch.

        Args:
            batch: number of samples in the batch.
            parts: number of micro-batches.

        Raises:
            RunError: if the batch cannot be split evenly.
        """
        shares = self.count * parts
        if batch % shares:
            raise RunError(
                f"A batch of {batch} cannot be split evenly into {shares} parts ({self.count} workers, {parts} parts each).",
                f"Give --batch-size a multiple of {shares}.",
            )
        return list(torch.arange(batch).chunk(shares))[self.index * parts : (self.index + 1) * parts]

    def network(self, net: nn.Module) -> nn.Module:
        """Wrap `net` for training; the weights are the same tensors."""
        self._network = self._accelerator.prepare_model(net)
        return self._network

    def optimizer(self, optimizer: Optimizer) -> Optimizer:
        """Wrap `optimizer` with the gradient scaling that fp16 needs."""
        return self._accelerator.prepare_optimizer(optimizer)

    def alone(self) -> AbstractContextManager[None]:
        """Context in which gradients of the wrapped network are not averaged over workers."""
        return self._accelerator.no_sync(self._network) if self.count > 1 and self._network else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Backpropagate `loss`; gradients accumulate."""
        self._accelerator.backward(loss)

    def clip(self, parameters: Iterable[Tensor], norm: float) -> Tensor:
        """Clip gradients in place.

        Args:
            parameters: the parameters whose gradients to clip.
            norm: largest norm of the concatenated gradients.

        Returns:
            The norm before clipping, 0-dim.
        """
        found = self._accelerator.clip_grad_norm_(list(parameters), norm)
        assert found is not None
        return found

    def gather(self, values: Tensor) -> Tensor:
        """Stack the `values` of all workers along a new first dimension: `(count, …)`."""
        return cast(Tensor, self._accelerator.gather(values[None])) if self.count > 1 else values[None]

    def most(self, number: int) -> int:
        """The largest `number` over all workers. Communicates through the hosts, without synchronizing devices."""
        if self._hosts is None:
            return number
        largest = torch.tensor(number)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self._hosts)
        return int(largest)

    def wait(self) -> None:
        """Wait for all workers."""
        self._accelerator.wait_for_everyone()

    @property
    def precision(self) -> str:
        """Precision of the network."""
        return next(name for name, mixed in _MIXED.items() if mixed == self._accelerator.mixed_precision)

    @property
    def scaling(self) -> dict[str, float] | None:
        """State of the gradient scaler, if there is one."""
        return self._accelerator.scaler.state_dict() if self._accelerator.scaler else None

    def resume_scaling(self, state: dict[str, float] | None) -> None:
        """Restore the state of the gradient scaler."""
        if state and self._accelerator.scaler:
            self._accelerator.scaler.load_state_dict(state)
