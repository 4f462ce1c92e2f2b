"""Workers: where and how the network is evaluated in training; the one file of a training that knows accelerate.

`accelerate launch` or `torchrun` start a worker a device. Each takes its share of every batch, gradients are averaged, and
the first one writes. Noise is keyed by the position in the batch, so that any number of workers trains the same model. Mixed precision is
autocast around the network alone: states, losses, and weights stay float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sdezoo.errors import RunError
from sdezoo.store.launch import launched

PrecisionName = Literal["float32", "bf16", "fp16"]

_MIXED = {"float32": "no", "bf16": "bf16", "fp16": "fp16"}


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """torch computes by deterministic algorithms alone while the block runs, where `wanted`.

    Raises:
        RunError: where it has none for what the network does.
    """
    if not wanted:
        yield
        return
    before, benchmark = torch.get_deterministic_debug_mode(), torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs for it
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, RunError) or "deterministic" not in str(error):
            raise
        operation = str(error).split()[0]
        raise RunError(
            f"torch has no deterministic way to compute '{operation}' here.", "Leave out --deterministic, or give another --device."
        ) from error
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.backends.cudnn.benchmark = benchmark


class Workers:
    """All workers of a training, seen from one of them.

    Args:
        device: of a single worker; several get theirs from the launcher. precision: None is what accelerate was launched with, else
        float32. compiled: whether the network is compiled.

    Raises:
        RunError: for a precision that the device does not have, or a launch of a kind that is not supported.
    """

    def __init__(self, device: torch.device, precision: PrecisionName | None, *, compiled: bool) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState, GradientState
        from accelerate.utils import DistributedType

        # Their states are of the process; the settings of one training are not those of the next.
        AcceleratorState._reset_state(reset_partial_state=launched() == 1)
        GradientState._reset_state()
        if precision == "fp16" and device.type != "cuda":
            raise RunError(f"fp16 needs a CUDA device, and this is {device}.", "Give --precision bf16, or leave it out.")
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
                f"Training in the manner of {kind.value} is not supported.", "Launch with data parallelism (MULTI_GPU, MULTI_CPU)."
            )
        self.device = self._accelerator.device
        self._network: nn.Module | None = None
        self.count, self.index = self._accelerator.num_processes, self._accelerator.process_index
        self._hosts = torch.distributed.new_group(backend="gloo") if self.count > 1 else None

    def positions(self, batch: int, parts: int) -> list[Tensor]:
        """The positions in a batch of `batch` samples that this worker takes, in `parts` parts.

        Raises:
            RunError: where they cannot be shared evenly.
        """
        shares = self.count * parts
        if batch % shares:
            raise RunError(
                f"A batch of {batch} cannot be shared evenly among {shares} ({self.count} workers, {parts} parts each).",
                f"Give --batch-size a multiple of {shares}.",
            )
        return list(torch.arange(batch).chunk(shares))[self.index * parts : (self.index + 1) * parts]

    def network(self, net: nn.Module) -> nn.Module:
        """`net` as training calls it: its weights are the same tensors."""
        self._network = self._accelerator.prepare_model(net)
        return self._network

    def optimizer(self, optimizer: Optimizer) -> Optimizer:
        """`optimizer` with the scaling of gradients that fp16 needs."""
        return self._accelerator.prepare_optimizer(optimizer)

    def alone(self) -> AbstractContextManager[None]:
        """Gradients of the network that was prepared are not averaged over workers inside it."""
        return self._accelerator.no_sync(self._network) if self.count > 1 and self._network else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Gradients of `loss`, added to those there are."""
        self._accelerator.backward(loss)

    def clip(self, parameters: Iterable[Tensor], norm: float) -> Tensor:
        """Scale all gradients down to `norm`; what it was."""
        found = self._accelerator.clip_grad_norm_(list(parameters), norm)
        assert found is not None
        return found

    def gather(self, values: Tensor) -> Tensor:
        """The `values` of all workers, stacked in front: `(count, …)`."""
        return cast(Tensor, self._accelerator.gather(values[None])) if self.count > 1 else values[None]

    def most(self, number: int) -> int:
        """The largest `number` of all workers; they meet through their hosts, and no device is waited for."""
        if self._hosts is None:
            return number
        largest = torch.tensor(number)
        torch.distributed.all_reduce(largest, torch.distributed.ReduceOp.MAX, group=self._hosts)
        return int(largest)

    def wait(self) -> None:
        """Until all workers are here."""
        self._accelerator.wait_for_everyone()

    @property
    def precision(self) -> str:
        """Of the network."""
        return next(name for name, mixed in _MIXED.items() if mixed == self._accelerator.mixed_precision)

    @property
    def scaling(self) -> dict[str, float] | None:
        """State of the gradients' scaling, where there is one."""
        return self._accelerator.scaler.state_dict() if self._accelerator.scaler else None

    def resume_scaling(self, state: dict[str, float] | None) -> None:
        """Go on with a scaling of before."""
        if state and self._accelerator.scaler:
            self._accelerator.scaler.load_state_dict(state)
