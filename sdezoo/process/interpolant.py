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

Self-decomposable noise, `e ~ c e + Δ_c` with an independent `Δ_c` for every `c` in (0, 1), is that of a Markov process
(`SelfDecomposable`; Sato, *Lévy Processes and Infinitely Divisible Distributions*, theorem 16.1). With the noise level `ρ = σ/α`,
`s < t` and `c = ρ_s/ρ_t`, its step is `z_t = (α_t/α_s) z_s + σ_t Δ_c`. Stable noise of index `κ` is an example,
`a e + b e' ~ (a^κ + b^κ)^{1/κ} e` (`SelfSimilar`)::

    z_t = (α_t/α_s) z_s + α_t (ρ_t^κ − ρ_s^κ)^{1/κ} e

Stable noise with `κ < 2` is normal noise of random variance (`ScaleMixture`), and so are its increments. Given the variances, the process
is Gaussian.
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


class SelfDecomposable(Interpolant):
    """An interpolant whose noise at a time is that of an earlier time, shrunk, plus an independent increment. Abstract: `increment`."""

    in_words = "an interpolant with self-decomposable noise (earlier noise, shrunk, plus an independent increment is later noise)"

    @property
    def inexact_increments(self) -> str | None:
        """Why `increment` is not exact for these parameters, as a phrase that follows *needs*. None, the default: it is exact."""
        return None

    @abstractmethod
    def increment(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """Sample `z_t − (α_t/α_s) z_s`, which does not depend on `z_s`; shaped like `z`.

        Args:
            z: a state, for its shape, dtype and device, `(B, *state)`.
            t: the later time, 0-dim or `(B, 1, …, 1)`.
            s: the earlier time, shaped like `t`.
            noise: random numbers.
        """


class SelfSimilar(SelfDecomposable):
    """An interpolant with stable noise, whose increments have the distribution of the noise itself. Abstract: `index`."""

    in_words = "an interpolant with self-similar noise (a sum of two noises is distributed as one)"

    @property
    @abstractmethod
    def index(self) -> float:
        """Index `κ` of stability: `a e + b e' ~ (a^κ + b^κ)^{1/κ} e`. It is 2 for normal noise and 1 for Cauchy's."""

    def increment(self, z: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        p, q = self.mix(t), self.mix(s)
        level = (p.sigma / p.alpha) ** self.index - (q.sigma / q.alpha) ** self.index
        return _like(p.alpha * level ** (1 / self.index), z) * self.base(z.shape, noise, z)


class ScaleMixture(SelfSimilar):
    """Self-similar noise that is normal given its variance, `σ e = √V ε` with one random `V` for each sample.

    Abstract: `variance_given`, `earlier_variance`.
    """

    in_words = "an interpolant with self-similar noise that is normal given its variance"

    @abstractmethod
    def variance_given(self, y: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Sample the variance `V_t` of the noise given the noise.

        Args:
            y: the noise `z_t − α_t z_0`, `(B, *state)`.
            t: time, 0-dim.
            noise: random numbers.

        Returns:
            `V_t`, float64 `(B, 1, …, 1)`.
        """

    @abstractmethod
    def earlier_variance(self, variance: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """Sample `V_s` given `V_t`, where `V_t = (α_t/α_s)² V_s` plus the variance of the increment.

        Args:
            variance: `V_t`, float64 `(B, 1, …, 1)`.
            t: the later time, 0-dim.
            s: the earlier time, 0-dim.
            noise: random numbers.

        Returns:
            `V_s`, shaped like `variance`.
        """


def _like(k: Tensor, z: Tensor) -> Tensor:
    return k if k.ndim == 0 else k.to(z)
