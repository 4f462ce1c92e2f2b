"""Processors without instructions for bfloat16, which compute it many times slower than float32."""

import torch


def emulated(device: torch.device) -> str | None:
    """Say that a device computes bfloat16 in software; None if it does not, or if that is not known.

    Args:
        device: the device that a network runs on.

    Returns:
        A sentence on what is slow, and one on what to do.
    """
    capability = torch.backends.cpu.get_cpu_capability()
    if device.type != "cpu" or capability not in ("DEFAULT", "AVX2"):
        return None
    return "This processor has no instructions for bfloat16, which is many times slower here than float32. Give --precision float32."
