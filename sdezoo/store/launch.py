"""The rank of this process in a distributed launch, and its device."""

from __future__ import annotations

import os

import torch

from sdezoo.errors import RunError


def launched() -> int:
    """Number of processes that `accelerate launch` or `torchrun` started; 1 for a plain command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this is the main process (rank 0), which writes files and prints."""
    return int(os.environ.get("RANK", "0")) == 0


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
