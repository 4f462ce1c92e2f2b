"""What the tests share: which processes and samplers they run over, and how they compare moments and laws."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdezoo.process.affine import AffineSDE
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS, SDES

VARIANTS = ["gbm:sigma=0.8", "gbm:sigma=0.8,mu=0.1", "gbm:sigma=0.1,sigma_end=2"]
AFFINE_SPECS = [name for name, sde in defaults(SDES) if isinstance(sde, AffineSDE) and sde.coordinates.bijective] + VARIANTS
POSITIVE_SPECS = [spec for spec in AFFINE_SPECS if SDES.build(spec).multiplicative]
GBM_SPECS = ["gbm", *VARIANTS]
SAMPLER_SPECS = [name for name, sampler in defaults(SAMPLERS) if sampler.refuses(SDES.build("gbm")) is None]

SIGMAS = 4.5
"""How many standard errors a measured moment may be off: 7e-6 of all correct runs would be flagged."""


def coordinates(count: int, size: int, seed: int = 0) -> Tensor:
    """Clean coordinates to try things on, float64 `(count, size)`."""
    return 0.2 + 0.7 * torch.randn(count, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def times(sde: AffineSDE, count: int) -> Tensor:
    """Times from `lo` to `hi`, float64 `(count, 1)`."""
    return torch.linspace(*sde.t_span, count, dtype=torch.float64)[:, None]


def at(t: float) -> Tensor:
    """A time as samplers give it: 0-dim float64."""
    return torch.tensor(t, dtype=torch.float64)


def assert_moments(z: Tensor, mean: Tensor, deviation: Tensor, bias: float = 0.0) -> None:
    """Sample mean and standard deviation of `z` `(N, d)` agree with those of a normal law, up to sampling error and `bias` deviations."""
    count = len(z)
    off = ((z.double().mean(0) - mean).abs() / deviation).max()
    spread = (z.double().std(0) / deviation - 1).abs().max()
    assert off <= SIGMAS / math.sqrt(count) + bias, f"mean is off by {off:.3f} standard deviations"
    assert spread <= SIGMAS / math.sqrt(2 * count) + bias, f"standard deviation is off by {spread:.1%}"


def sliced_w1(sample: Tensor, data: Tensor, directions: int = 32) -> float:
    """Sliced Wasserstein-1 distance in the plane, averaged over evenly spaced directions; `data` may be a multiple as large as `sample`."""
    angle = torch.arange(directions, dtype=sample.dtype) * math.pi / directions
    axes = torch.stack([angle.cos(), angle.sin()])
    quantiles = torch.sort(data @ axes, 0)[0].reshape(len(sample), -1, directions).mean(1)
    return float((torch.sort(sample @ axes, 0)[0] - quantiles).abs().mean())
