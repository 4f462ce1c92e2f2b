"""Time grids: where a sampler asks for the score.

A grid of `N` steps has `N + 1` times, float64 on the CPU: `hi = t_0 > … > t_{N−1} = lo > t_N = 0`. The last step,
from `lo` to 0, is free of noise. With one step it is `(hi, 0)`. The spacings:

- `uniform`: equal steps in `t`; any process;
- `karras`: `σ̂ = σ/α` between its ends as `(σ̂_max^{1/ρ} + i/(N−1) (σ̂_min^{1/ρ} − σ̂_max^{1/ρ}))^ρ`, `ρ = 7` (Karras
  et al., arXiv 2206.00364, eq. 5); affine processes;
- `log-snr`: equal steps in `ln(α/σ)` (Lu et al., arXiv 2206.00927); affine processes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Process

Spacing = Literal["auto", "uniform", "karras", "log-snr"]

_RHO = 7.0


def grid(sde: Process, steps: int, spacing: Spacing) -> Tensor:
    """The times of `steps` steps; `auto` is `karras` for affine processes and `uniform` for the others."""
    lo, hi = sde.times
    if steps == 1:
        return torch.tensor([hi, 0.0], dtype=torch.float64)
    u = torch.linspace(0, 1, steps, dtype=torch.float64)
    if spacing == "uniform" or not isinstance(sde, AffineSDE):
        times = hi + (lo - hi) * u
    else:
        last, first = sde.coefficients(torch.tensor([lo, hi], dtype=torch.float64)).ratio
        power = 0.0 if spacing == "log-snr" else 1 / _RHO
        times = sde.time_at(_between(first, last, u, power))
    times[0], times[-1] = hi, lo
    return torch.cat([times, times.new_zeros(1)])


def grid_refuses(spacing: Spacing, sde: Process) -> str | None:
    """Why `spacing` does not work with `sde`; None where it does."""
    if spacing in ("karras", "log-snr") and not isinstance(sde, AffineSDE):
        return f"with spacing={spacing} needs an affine SDE (Gaussian in its coordinates)"
    return None


def _between(first: Tensor, last: Tensor, u: Tensor, power: float) -> Tensor:
    # Equal steps in the power of the ratio; the limit of power 0 is its logarithm.
    if not power:
        return (first.log() + (last.log() - first.log()) * u).exp()
    return (first**power + (last**power - first**power) * u) ** (1 / power)
