"""Which process of a launch this is, and on which device it computes."""

from __future__ import annotations

import os

import torch

from sdezoo.errors import RunError


def launched() -> int:
    """How many workers `accelerate launch` or `torchrun` have started; 1 for a plain command."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the one that writes and shows."""
    return int(os.environ.get("RANK", "0")) == 0


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto` is cuda, else mps, else cpu.

    Raises:
        RunError: for a device that is not there.
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
