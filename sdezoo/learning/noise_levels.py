"""The distribution of noise levels in training.

A quantile `u` in [0, 1) is mapped to a time in `[lo, hi]`:

- `uniform`: `t = lo + (hi − lo) u`;
- `log-normal`: `ln(σ̂/s) ~ N(0, 1.2²)`, truncated to the noise levels of the process. Here `σ̂ = σ/α`, and `s` is the root mean
  square of the data's standard deviation over channels or columns. A process without noise levels uses `uniform`;
- `importance`: as `log-normal`, but `u` has a density `p`, constant on each of 64 bins, and a sample has weight `1/p(u)`. The
  expected loss is the same, and `p ∝ √E[L² | u]` minimizes its variance (Nichol & Dhariwal, arXiv 2102.09672, eq. 18). The mean
  runs over past losses `L`, with a memory of 64 for each bin. A tenth of `p` is uniform; all of `p` is, until every bin has losses.
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
    """Sample the times of a training step.

    Args:
        name: `log-normal`, `uniform` or `importance`; `importance` samples as `log-normal` here.
        model: the model to train.
        span: `(lo, hi)`, the times used in training.
        shape: shape of the result, `(B, 1, …, 1)`.
        noise: random numbers.
        like: a tensor with the dtype and device of the result.
    """
    return times_at(name, model, span, quantiles(shape, noise)).to(like)


def quantiles(shape: tuple[int, ...], noise: Noise) -> Tensor:
    """Sample uniform quantiles `u`, float64 on the CPU.

    Args:
        shape: shape of the result, `(B, 1, …, 1)`.
        noise: random numbers.
    """
    return noise.uniform(torch.empty((), dtype=torch.float64), shape)


def times_at(name: str, model: ScoreModel, span: tuple[float, float], u: Tensor) -> Tensor:
    """Map quantiles to times, float64 on the CPU.

    Args:
        name: `log-normal`, `uniform` or `importance`; `importance` maps as `log-normal`.
        model: the model to train.
        span: `(lo, hi)`, the times used in training.
        u: quantiles in [0, 1), float64 on the CPU, of any shape.
    """
    sde = model.sde
    lo, hi = span
    ends = None if name == "uniform" else sde.noise_level(torch.tensor([lo, hi], dtype=torch.float64))
    if ends is None:
        return lo + (hi - lo) * u
    centre = float(model.sigma_data.double().pow(2).mean().sqrt().log())
    a, b = torch.special.ndtr((ends.log() - centre) / _SPREAD).tolist()
    return sde.time_at((centre + _SPREAD * torch.special.ndtri(a + (b - a) * u)).exp())


class Importance:
    """The density `p` of quantiles for importance sampling, estimated from past losses.

    Args:
        state: a saved state, `(2, 64)` float64: the mean of `L²` and the number of losses in each bin. None: no losses yet.
    """

    def __init__(self, state: Tensor | None = None) -> None:
        self.state = torch.zeros(2, _BINS, dtype=torch.float64) if state is None else state.double()

    @property
    def density(self) -> Tensor:
        """`p` on each bin, `(64,)` float64, with mean 1."""
        squares, seen = self.state
        root = squares.sqrt()
        if not (seen > 0).all() or not root.sum() > 0:
            return torch.ones(_BINS, dtype=torch.float64)
        return _UNIFORM + (1 - _UNIFORM) * root / root.mean()

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Map uniform quantiles to quantiles with density `p`.

        Args:
            u: uniform quantiles in [0, 1), float64 on the CPU, of any shape.

        Returns:
            The quantiles, and their weights `1/p`, both shaped like `u`.
        """
        p = self.density
        below = torch.cat([p.new_zeros(1), p.cumsum(0) / _BINS])
        bins = torch.searchsorted(below, u.contiguous(), right=True).clamp(1, _BINS) - 1
        return ((bins + (u - below[bins]) / p[bins] * _BINS) / _BINS).clamp(0, 1), 1 / p[bins]

    def observe(self, u: Tensor, losses: Tensor) -> None:
        """Update the density with the losses of a batch.

        Args:
            u: quantiles with density `p`, of any shape with `B` entries.
            losses: losses without the weight `1/p`, `(B,)`.
        """
        bins = (u.flatten() * _BINS).long().clamp(0, _BINS - 1)
        counts = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, torch.ones(len(bins), dtype=torch.float64))
        sums = torch.zeros(_BINS, dtype=torch.float64).index_add_(0, bins, losses.detach().double().cpu().flatten() ** 2)
        squares, seen = self.state
        total = torch.minimum(seen, torch.full_like(seen, _MEMORY)) + counts
        kept = (total - counts) / total.clamp(min=1)
        self.state = torch.stack([torch.where(counts > 0, kept * squares + sums / total.clamp(min=1), squares), seen + counts])
