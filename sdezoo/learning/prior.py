"""Fitted priors: where sampling starts when the data are known.

A process's own prior is `p(z_1 | z_0 = 0)`. When the terminal noise does not swamp the data, the true marginal
`p(z_1)` is wider, and starting from the process's prior loses what the data's large directions carry. The Gaussian
with the right first two moments is::

    N(α μ + m,  α² Σ + v I),        μ, Σ: mean and covariance of the clean coordinates z_0;  α, m, v at t = hi

`full` keeps every direction of `Σ` up to 1024 dimensions and the leading 256 beyond, where the rest of the variance
is spread evenly; `white` is the prior of the multiplicative-diffusion paper (arXiv 2510.02730): one mean and one
variance, for a channel or a column.
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

_FULL_UP_TO = 1024
_LEADING = 256
_ROWS = 4096
_WHAT = "A fitted prior"


class Moments(NamedTuple):
    """Mean and standard deviation of clean coordinates; each broadcasts against an event."""

    mean: Tensor
    sigma_data: Tensor


def measure(z: Tensor) -> Moments:
    """Moments of `z` `(N, *event)`: one of each for a column of vectors, for a channel of images."""
    axes = [0, *range(2, z.ndim)]
    wide = z.double()
    mean, std = wide.mean(axes, keepdim=True)[0], wide.std(axes, keepdim=True)[0]
    # A constant column has no scale of its own; one keeps it finite, and its mean keeps it where it is.
    return Moments(mean.float(), torch.where(std > 0, std, torch.ones_like(std)).float())


class FittedPrior(nn.Module):
    """A Gaussian over clean coordinates, pushed through a process to `t = hi`.

    Args:
        mean: `μ`, broadcasts against an event.
        floor: variance outside `directions`; a broadcastable tensor where there are none, else 0-dim.
        directions: orthonormal rows `(k, d)`, `d` the size of an event.
        excess: variance along each direction beyond `floor`, `(k,)`.
    """

    PARTS: ClassVar = ("mean", "floor", "directions", "excess")

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
        """The prior of clean coordinates `z` `(N, *event)`."""
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
        """A draw of `N(α μ + m, α² Σ + v I)` at the last time of `sde`, for data of `shape`."""
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
        """`log N(z; α μ + m, α² Σ + v I)` at the last time of `sde` in nats, float64 `(B,)` on the CPU, for `z` `(B, *event)`."""
        k = as_affine(sde, _WHAT).exact(torch.tensor(sde.t_span[1], dtype=torch.float64))
        z = z.cpu().double()  # Apple's devices have no float64
        alpha, shift, variance = k
        mean, floor, directions, excess = (b.to(z) for b in (self.mean, self.floor, self.directions, self.excess))
        away = z - (alpha * mean + shift)
        base = (alpha**2 * floor + variance).expand_as(away)
        entries = -0.5 * (away**2 / base + base.log() + math.log(2 * math.pi))
        total = entries.reshape(len(z), -1).sum(1)
        if len(directions):  # they come with a single floor, so that they are eigenvectors
            narrow = alpha**2 * floor + variance
            wide = narrow + alpha**2 * excess
            along = away.flatten(1) @ directions.T
            total = total - 0.5 * (along**2 * (1 / wide - 1 / narrow) + (wide / narrow).log()).sum(1)
        return total


def fit(sde: Process, x0: Tensor, kind: PriorKind) -> tuple[Moments | None, FittedPrior | None]:
    """Moments and prior of clean data `x0` `(N, *event)` in the coordinates of `sde`; None for what it has not.

    A process that is not affine has neither, and starts from its own prior, as `kind="process"` does.
    """
    if not isinstance(sde, AffineSDE):
        return None, None
    z0 = sde.encode(x0)
    return measure(z0), None if kind == "process" else FittedPrior.fit(z0, kind)
