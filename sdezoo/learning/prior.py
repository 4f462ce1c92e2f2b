"""Fitted priors: a Gaussian prior with the moments of the data.

The prior of a process is `p(z_1 | z_0 = 0)`. If the noise at `t = 1` does not dominate the data, the marginal `p(z_1)` is
wider, and samples that start from the prior of the process lack variance along the large directions of the data. The
Gaussian with the first two moments of `p(z_1)` is::

    N(α μ + m,  α² Σ + v I),        μ, Σ: mean and covariance of the clean coordinates z_0;  α, m, v at t = hi

`full` keeps every direction of `Σ` up to 1024 dimensions. Beyond, it keeps the leading 256 and spreads the remaining
variance evenly over the others. `white` is the prior of the multiplicative-diffusion paper (arXiv 2510.02730): one mean
and one variance for each channel or column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn

from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import as_affine

PriorKind = Literal["full", "white", "process"]
"""Where sampling starts: from a fitted Gaussian, `full` or `white`, or from the prior of the process."""

_FULL_UP_TO = 1024
_LEADING = 256
_ROWS = 4096
_WHAT = "A fitted prior"


class Moments(NamedTuple):
    """Mean and standard deviation of clean coordinates; each broadcasts against an event."""

    mean: Tensor
    """Mean."""
    sigma_data: Tensor
    """Standard deviation, positive."""


def measure(z: Tensor) -> Moments:
    """Compute the moments of each column of vectors, paths and series, or of each channel of images.

    Args:
        z: clean coordinates, `(N, *event)`.
    """
    axes = [0, 1] if z.ndim == 3 else [0, *range(2, z.ndim)]
    wide = z.double()
    mean, std = wide.mean(axes, keepdim=True)[0], wide.std(axes, keepdim=True)[0]
    # A constant column has standard deviation 0, which would divide by zero; use 1.
    return Moments(mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float())


class FittedPrior(nn.Module):
    """A Gaussian fit to clean coordinates, noised by a process to `t = hi`.

    Args:
        mean: `μ`, broadcasts against an event.
        floor: variance outside `directions`, 0-dim; without directions, a tensor that broadcasts against an event.
        directions: orthonormal rows, `(k, d)`, where `d` is the size of an event.
        excess: variance along each direction in addition to `floor`, `(k,)`.
    """

    PARTS: ClassVar = ("mean", "floor", "directions", "excess")
    """Names of the buffers."""

    mean: Tensor
    floor: Tensor
    directions: Tensor
    excess: Tensor

    def __init__(self, mean: Tensor, floor: Tensor, directions: Tensor, excess: Tensor) -> None:
        super().__init__()
        for name, value in zip(self.PARTS, (mean, floor, directions, excess), strict=True):
            self.register_buffer(name, value)

    @classmethod
    def fit(cls, z: Tensor, kind: Literal["full", "white"] = "full") -> FittedPrior:
        """Fit the prior.

        Args:
            z: clean coordinates, `(N, *event)`.
            kind: `full` or `white`, see the module.
        """
        size = z[0].numel()
        if kind == "white":
            mean, std = measure(z)
            return cls(mean, std**2, torch.zeros(0, size), torch.zeros(0))
        every = -(-len(z) // _ROWS)
        mean = z.double().mean(0)
        rows = (z[::every].double() - mean).flatten(1)
        _, singular, directions = torch.linalg.svd(rows, full_matrices=False)
        variances = singular**2 / max(len(rows) - 1, 1)
        kept = len(variances) if size <= _FULL_UP_TO else min(_LEADING, len(variances))
        floor = variances[kept:].sum() / max(size - kept, 1)
        excess = variances[:kept] - floor
        return cls(mean.float(), floor.float(), directions[:kept].float().contiguous(), excess.float())

    def draw(self, sde: Process, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample `N(α μ + m, α² Σ + v I)` at the last time of `sde`.

        Args:
            sde: the noise process, affine.
            shape: shape of the data, `(B, *event)`.
            noise: random numbers.
            like: a tensor with the dtype and device of the result.

        Raises:
            CompositionError: if the process is not affine.
        """
        k = as_affine(sde, _WHAT).at(torch.tensor(sde.t_span[1], dtype=torch.float64), like)
        white = noise.normal(like, sde.state_shape(shape))
        mean, floor, directions, excess = (b.to(like) for b in (self.mean, self.floor, self.directions, self.excess))
        base = (k.alpha**2 * floor + k.variance).sqrt()
        z = k.alpha * mean + k.shift + base * white
        if len(directions):
            wider = (k.alpha**2 * (floor + excess) + k.variance).sqrt() - base
            z = z + (white.flatten(1) @ directions.T * wider @ directions).reshape(white.shape)
        return z

    def log_prob(self, sde: Process, z: Tensor) -> Tensor:
        """`log N(z; α μ + m, α² Σ + v I)` at the last time of `sde`, in nats, float64 `(B,)` on the CPU.

        Args:
            sde: the noise process, affine.
            z: state, `(B, *event)`.

        Raises:
            CompositionError: if the process is not affine.
        """
        k = as_affine(sde, _WHAT).exact(torch.tensor(sde.t_span[1], dtype=torch.float64))
        z = z.cpu().double()  # MPS has no float64
        alpha, shift, variance = k
        mean, floor, directions, excess = (b.to(z) for b in (self.mean, self.floor, self.directions, self.excess))
        away = z - (alpha * mean + shift)
        base = (alpha**2 * floor + variance).expand_as(away)
        entries = -0.5 * (away**2 / base + base.log() + math.log(2 * math.pi))
        total = entries.reshape(len(z), -1).sum(1)
        if len(directions):  # `floor` is then a scalar, so the directions are eigenvectors
            narrow = alpha**2 * floor + variance
            wide = narrow + alpha**2 * excess
            along = away.flatten(1) @ directions.T
            total = total - 0.5 * (along**2 * (1 / wide - 1 / narrow) + (wide / narrow).log()).sum(1)
        return total


def fit(sde: Process, x0: Tensor, kind: PriorKind) -> tuple[Moments | None, FittedPrior | None]:
    """Fit moments and prior to data, in the coordinates of the process.

    Args:
        sde: the noise process.
        x0: clean data, `(N, *event)`.
        kind: `full` or `white` fits a Gaussian; `process` uses the prior of the process.

    Returns:
        Moments, None if the process is not affine; and the prior, None if it is that of the process. A process that is not
        affine always uses its own prior.
    """
    if not isinstance(sde, AffineSDE):
        return None, None
    z0 = sde.encode(x0)
    return measure(z0), None if kind == "process" else FittedPrior.fit(z0, kind)
