"""Interpolants: data fade while noise of any law comes in.

::

    z_t = α(t) z_0 + σ(t) e,      α(0) = 1,  σ(0) = 0,      e of any law with mean 0, drawn once a sample

Paths between data and noise are straight in `e`; there is no Brownian motion to reverse. With `D = E[z_0 | z_t]`, the flow::

    dz/dt = E[dz_t/dt | z_t] = α' D + σ' (z − α D)/σ

takes the law of `z_t` at one time to that at another, whatever the law of `e` (Albergo & Vanden-Eijnden, arXiv 2209.15571, section 2;
Lipman et al., arXiv 2210.02747, theorem 1): `α' z_0 + σ' e` is the velocity of each path, and its mean given the place that of
all. What a network learns is `S = E[(α z_0 − z_t)/σ² | z_t]`, so that `D = (z + σ² S)/α`. For normal `e` this `S` is `∇ log p(z_t)`,
and the flow is the probability flow; for other laws it is no gradient, and takes the place of the score in the flow alone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional


class Mix(NamedTuple):
    """`z_t = alpha z_0 + sigma e`; each broadcasts against the state."""

    alpha: Tensor
    sigma: Tensor


class Interpolant(Conditional):
    """A mixture of data with noise of any law. Abstract: `mix` and `base`."""

    @abstractmethod
    def mix(self, t: Tensor) -> Mix:
        """`α` and `σ` at `t`, float64, shaped like `t`."""

    @abstractmethod
    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """A draw of `e`, with dtype and device of `like`; rows are independent, the entries of one need not be."""

    def at(self, t: Tensor, z: Tensor) -> Mix:
        """`α` and `σ` at `t`, in the dtype and device of `z`."""
        return Mix(*(k if k.ndim == 0 else k.to(z) for k in self.mix(t)))

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        z0, k = self.encode(x0, noise), self.at(t, x0)
        return k.alpha * z0 + k.sigma * self.base(z0.shape, noise, z0)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """`σ e` at the last time: that of data at the origin."""
        k = self.at(torch.tensor(self.t_span[1], dtype=torch.float64), like)
        return k.sigma * self.base(self.state_shape(shape), noise, like)

    def scale(self, t: Tensor) -> Tensor:
        return self.mix(t).sigma

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        """`(α x_0 − z)/σ²`, which is the gradient of a density for normal noise alone."""
        k = self.at(t, z)
        return (k.alpha * x0 - z) / k.sigma**2

    def denoised(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """`E[z_0 | z_t = z] = (z + σ² s)/α` from what a network has learnt."""
        k = self.at(t, z)
        return (z + k.sigma**2 * s) / k.alpha
