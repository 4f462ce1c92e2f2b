"""The rank of this process in a distributed launch, its device, and the defaults of torch that the code is written for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

from sdezoo.errors import RunError

_NUMBERS = {"WORLD_SIZE": 1, "RANK": 0, "LOCAL_RANK": -1, "LOCAL_WORLD_SIZE": 1, "MASTER_PORT": 0}
"""Numbers that launchers put into the environment of each process, and what they are in a plain command."""

_NEEDED = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_REMEDY = "Unset it, or start with torchrun or accelerate launch."


@contextmanager
def usual_torch() -> Iterator[None]:
    """Within the context, or a function that it decorates, torch has its own defaults, whatever the caller has set: float32, tensors on the
    CPU, gradients where they are asked for.
    """
    with ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if torch.is_inference_mode_enabled():
            stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield


def launched() -> int:
    """Number of processes that `accelerate launch` or `torchrun` started; 1 for a plain command.

    Raises:
        RunError: if the environment does not describe a launch.
    """
    return _launch()[0]


def is_first() -> bool:
    """Whether this is the main process (rank 0), which writes files and prints.

    Raises:
        RunError: as for `launched`.
    """
    return _launch()[1] == 0


def _launch() -> tuple[int, int]:
    """Number of processes, and rank of this one."""
    found = {}
    for name, default in _NUMBERS.items():
        text = os.environ.get(name, str(default))
        try:
            found[name] = int(text)
        except ValueError:
            raise RunError(f"The environment has {name}={text}, which is not a whole number.", _REMEDY) from None
    count, rank = found["WORLD_SIZE"], found["RANK"]
    if not 0 <= rank < count:
        raise RunError(f"The environment has RANK={rank} and WORLD_SIZE={count}, which is no rank of a launch.", _REMEDY)
    missing = [name for name in _NEEDED if name not in os.environ]
    if missing and (count > 1 or found["LOCAL_RANK"] >= 0):
        name = "WORLD_SIZE" if count > 1 else "LOCAL_RANK"
        raise RunError(f"The environment has {name}={found[name]}, but not {missing[0]}.", _REMEDY)
    return count, rank


def resolve_device(name: str) -> torch.device:
    """Resolve a device name.

    Args:
        name: a name for `torch.device`, or `auto`: cuda if available, else mps, else cpu.

    Raises:
        RunError: if this machine has no such device.
    """
    here = [*["cuda"] * torch.cuda.is_available(), *["mps"] * torch.backends.mps.is_available(), "cpu"]
    if name == "auto":
        return torch.device(here[0])
    try:
        device = torch.device(name)
        torch.empty(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError):
        raise RunError(f"There is no device '{name}' on this machine.", f"Choose one of: {', '.join(here)}, or auto.") from None
    return device
