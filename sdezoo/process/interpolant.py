"""Interpolants: mixtures of data with noise of any distribution.

::

    z_t = α(t) z_0 + σ(t) e,      α(0) = 1,  σ(0) = 0,      e of any distribution with mean 0, one for each sample

Paths between data and noise are linear in `e`; there is no Brownian motion to reverse. With the denoiser `D = E[z_0 | z_t]`, the flow::

    dz/dt = E[dz_t/dt | z_t] = α' D + σ' (z − α D)/σ

transports the distribution of `z_t` from one time to another, for any distribution of `e` (Albergo & Vanden-Eijnden, arXiv 2209.15571,
section 2; Lipman et al., arXiv 2210.02747, theorem 1). Each path has the velocity `α' z_0 + σ' e`; its mean given `z_t` is the velocity
of the flow.

A network learns `D`. No score is needed: if `e` is not normal, the velocity of the flow does not contain the gradient of a density. If `e`
is normal, `∇ log p(z_t) = (α D − z_t)/σ²` (Tweedie): such an interpolant may override `score_from_denoiser`, and derive from `Conditional`
too.
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
    """Coefficients of `z_t = alpha z_0 + sigma e`; each broadcasts against the state."""

    alpha: Tensor
    """`α(t)`, the scale of the clean state."""
    sigma: Tensor
    """`σ(t)`, the scale of the noise."""


class Interpolant(Denoised):
    """A mixture of data with noise of any distribution. Abstract: `mix` and `base`."""

    in_words = "an interpolant (data mixed with noise of any distribution)"

    @abstractmethod
    def mix(self, t: Tensor) -> Mix:
        """`α` and `σ` at `t`.

        Args:
            t: time, float64, of any shape.

        Returns:
            The coefficients, differentiable in `t`, float64 and shaped like `t`.
        """

    @abstractmethod
    def base(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample the noise `e`. Rows are independent; the entries of one row need not be.

        Args:
            shape: shape of the state, `(B, *state)`.
            noise: random numbers.
            like: a tensor with the dtype and device of the result.
        """

    def at(self, t: Tensor, z: Tensor) -> Mix:
        """`α` and `σ` at `t`, with the dtype and device of `z`."""
        return Mix(*(k if k.ndim == 0 else k.to(z) for k in self.mix(t)))

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        z0, k = self.encode(x0, noise), self.at(t, x0)
        return k.alpha * z0 + k.sigma * self.base(z0.shape, noise, z0)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample `σ e` at the last time: the prior of data at the origin."""
        k = self.at(torch.tensor(self.t_span[1], dtype=torch.float64), like)
        return k.sigma * self.base(self.state_shape(shape), noise, like)

    def scale(self, t: Tensor) -> Tensor:
        return self.mix(t).sigma

    def denoiser_from_output(self, out: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """`(z − σ F)/α`: the network output `F` predicts the noise `e`. Override it together with `error_scale`."""
        k = self.at(t, z)
        return (z - k.sigma * out) / k.alpha

    def error_scale(self, t: Tensor) -> Tensor:
        """`σ/α`: the ratio of the denoiser's error to the error of the network's output."""
        k = self.mix(t)
        return k.sigma / k.alpha

    def velocity(self, z: Tensor, t: Tensor, denoised: Tensor) -> Tensor:
        """The velocity `dz/dt = α' D + σ' (z − α D)/σ`, shaped like the state.

        It is the velocity of the flow for `D = E[z_0 | z_t = z]`, and of a single path for `D = z_0`.

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
