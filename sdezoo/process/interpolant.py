"""Interpolants: data fade while noise of any law comes in.

::

    z_t = α(t) z_0 + σ(t) e,      α(0) = 1,  σ(0) = 0,      e of any law with mean 0, drawn once a sample

Paths between data and noise are straight in `e`; there is no Brownian motion to reverse. With the denoiser `D = E[z_0 | z_t]`, the flow::

    dz/dt = E[dz_t/dt | z_t] = α' D + σ' (z − α D)/σ

takes the law of `z_t` at one time to that at another, whatever the law of `e` (Albergo & Vanden-Eijnden, arXiv 2209.15571, section 2;
Lipman et al., arXiv 2210.02747, theorem 1): `α' z_0 + σ' e` is the velocity of each path, and its mean given the place that of all.

A network learns `D`. No score is learned and none is needed: for `e` that is not normal, what the flow asks for is not the gradient of a
density. For normal `e` it is, `∇ log p(z_t) = (α D − z_t)/σ²` (Tweedie): such an interpolant may say so by `score_from_denoiser`, and
derive from `Conditional` too.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.process.differentiation import along
from sdezoo.process.noise import Noise
from sdezoo.process.process import Denoised


class Mix(NamedTuple):
    """`z_t = alpha z_0 + sigma e`; each broadcasts against the state."""

    alpha: Tensor
    sigma: Tensor


class Interpolant(Denoised):
    """A mixture of data with noise of any law. Abstract: `mix` and `base`."""

    in_words = "data mixed with noise of some law (an interpolant)"

    @abstractmethod
    def mix(self, t: Tensor) -> Mix:
        """`α` and `σ` at `t`, float64, shaped like `t`, as differentiable functions of `t`."""

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

    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """`(z − σ F)/α`: the network predicts the noise `e`. Override it together with `error_scale`."""
        k = self.at(t, z)
        return (z - k.sigma * out) / k.alpha

    def error_scale(self, t: Tensor) -> Tensor:
        """`σ/α`: an error of the denoiser is so many times that of the network's output."""
        k = self.mix(t)
        return k.sigma / k.alpha

    def velocity(self, z: Tensor, t: Tensor, denoised: Tensor) -> Tensor:
        """`dz/dt = α' D + σ' (z − α D)/σ`, shaped like the state: of the flow for `D = E[z_0 | z_t = z]`, of one path for its own `z_0`.

        Args:
            z: noised state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`, above 0.
            denoised: `D`, shaped like `z`.
        """
        (alpha, sigma), (alpha_rate, sigma_rate) = along(lambda u: tuple(self.mix(u)), t.double())
        toward, away = alpha_rate - alpha * sigma_rate / sigma, sigma_rate / sigma
        return _like(toward, z) * denoised + _like(away, z) * z


def _like(k: Tensor, z: Tensor) -> Tensor:
    return k if k.ndim == 0 else k.to(z)
