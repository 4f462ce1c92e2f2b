"""How often each noise level is drawn in training.

A time is a quantile `u` in [0, 1) taken to `[lo, hi]`:

- `uniform`: `t = lo + (hi − lo) u`;
- `log-normal`: `ln(σ̂/s) ~ N(0, 1.2²)` truncated to the process's levels, where most is to be learnt; `σ̂ = σ/α`, and `s` is the
  root mean square of the data's standard deviation over channels or columns; uniform for processes without noise level;
- `importance`: `u` of `log-normal` has a density `p`, constant on each of 64 bins, and a sample counts `1/p(u)` times, so
  that the expected loss is the same and its variance least: `p ∝ √E[L² | u]` (Nichol & Dhariwal, arXiv 2102.09672, eq. 18), the mean
  taken over the losses `L` seen so far with a memory of 64 for each bin. A tenth of `p` stays uniform; all of it, until every bin was seen.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from sdezoo.learning.model import ScoreModel
from sdezoo.process.noise import Noise

NoiseLevels = Literal["log-normal", "uniform", "importance"]

_SPREAD = 1.2
_BINS = 64
_MEMORY = 64
_UNIFORM = 0.1


def draw_times(name: str, model: ScoreModel, span: tuple[float, float], shape: tuple[int, ...], noise: Noise, like: Tensor) -> Tensor:
    """Times in `span` of `shape` `(B, 1, …, 1)`, with dtype and device of `like`, one quantile a row."""
    return times_at(name, model, span, quantiles(shape, noise)).to(like)


def quantiles(shape: tuple[int, ...], noise: Noise) -> Tensor:
    """Uniform `u` of `shape`, float64 on the CPU."""
    return noise.uniform(torch.empty((), dtype=torch.float64), shape)


def times_at(name: str, model: ScoreModel, span: tuple[float, float], u: Tensor) -> Tensor:
    """The times in `span` whose quantile is `u`, float64 on the CPU."""
    sde = model.sde
    lo, hi = span
    ends = None if name == "uniform" else sde.noise_level(torch.tensor([lo, hi], dtype=torch.float64))
    if ends is None:
        return lo + (hi - lo) * u
    centre = float(model.sigma_data.double().pow(2).mean().sqrt().log())
    a, b = torch.special.ndtr((ends.log() - centre) / _SPREAD).tolist()
    return sde.time_at((centre + _SPREAD * torch.special.ndtri(a + (b - a) * u)).exp())


class Importance:
    """The density `p` of quantiles, learnt from the losses that they gave.

    Args:
        state: that of another one, `(2, 64)` float64: the mean of `L²` in each bin, and how many were seen.
    """

    def __init__(self, state: Tensor | None = None) -> None:
        self.state = torch.zeros(2, _BINS, dtype=torch.float64) if state is None else state.double()

    @property
    def density(self) -> Tensor:
        """`p` on each bin, mean 1."""
        squares, seen = self.state
        root = squares.sqrt()
        if not (seen > 0).all() or not root.sum() > 0:
            return torch.ones(_BINS, dtype=torch.float64)
        return _UNIFORM + (1 - _UNIFORM) * root / root.mean()

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Quantiles of density `p` from uniform ones, and `1/p` there, both of the shape of `u`."""
        p = self.density
        below = torch.cat([p.new_zeros(1), p.cumsum(0) / _BINS])
        bins = torch.searchsorted(below, u.contiguous(), right=True).clamp(1, _BINS) - 1
        return ((bins + (u - below[bins]) / p[bins] * _BINS) / _BINS).clamp(0, 1), 1 / p[bins]

    def observe(self, u: Tensor, losses: Tensor) -> None:
        """Take notice of `losses` `(B,)`, before they are divided by `p`, at quantiles `u` of any shape with `B` entries."""
        bins = (u.flatten() * _BINS).long().clamp(0, _BINS - 1)
        counts = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, torch.ones(len(bins), dtype=torch.float64))
        sums = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, losses.detach().double().cpu().flatten() ** 2)
        squares, seen = self.state
        total = torch.minimum(seen, torch.full_like(seen, _MEMORY)) + counts
        kept = (total - counts) / total.clamp(min=1)
        self.state = torch.stack([torch.where(counts > 0, kept * squares + sums / total.clamp(min=1), squares), seen + counts])
