"""Mirrored Langevin dynamics: samples from unnormalized densities of positive numbers.

Langevin dynamics in the coordinates of the mirror map `∇ψ(x) = log x`, `ψ(x) = Σ x log x − x` (Hsieh et al., arXiv
1802.10174; for exponentiated descent Shetty et al., arXiv 2510.02730). The Jacobian of `x = exp z` makes the density of
`z` the product `p(x) Π x`, and::

    dz = (1 + x ∘ ∇ log p(x)) dt + √2 dW

leaves it invariant. A step of size `ε` is multiplicative, so `x > 0` by construction::

    x ← x ∘ exp(ε (1 + h) + √(2ε) ξ),     h = x ∘ ∇ log p(x)  (the Hyvärinen score),  ξ ~ N(0, 1)

The stationary distribution of the chains is off by `O(ε)`. For a log-normal distribution with standard deviation `s` of `log x`, the
variance of `log x` is `s²/(1 − ε/2s²)` exactly; for a Gamma distribution the mean is right at every `ε`. With `metropolis` a step is
accepted with probability `min(1, p_Z(z') q(z | z') / (p_Z(z) q(z' | z)))`, where `q` is the normal proposal, and the stationary
distribution is exact (Roberts & Tweedie 1996, MALA).

This is not a `Sampler`. Samplers reverse a process that turned data into noise, along its times, with a score for each noise level.
Here there is no process, no time and no network: only one density, and a chain that forgets its start.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.errors import DataError, ParameterError, SupportError
from sdezoo.parameters import Count, Plugin, Positive
from sdezoo.process.noise import KeyedNoise, Noise

LogProb = Callable[[Tensor], Tensor]
"""`log p` up to a constant, from positive `x` `(B, *event)` to `(B,)`; differentiable, and row `i` depends on row `i` alone."""


class Chains(NamedTuple):
    """The samples of all chains, and how often each accepted a step."""

    draws: Tensor
    """Samples, positive, `(draws, B, *event)`: `B` independent chains side by side."""
    accepted: Tensor
    """Share of accepted steps of each chain, burn-in included, float64, `(B,)`; 1 without `metropolis`."""


@dataclass(frozen=True)
class MirroredLangevin(Plugin):
    """Mirrored Langevin dynamics for unnormalized densities of positive numbers."""

    step: Positive
    """Step size `ε`; choose it below the smallest variance of `log x`, which is half the size at which chains diverge."""
    burn_in: Count = 1000
    """Number of steps before the first kept sample."""
    thin: Count = 1
    """Number of steps from one kept sample to the next."""
    metropolis: bool = False
    """Accept or reject every step, so that the stationary distribution is `p` itself."""

    def sample(
        self,
        log_prob: LogProb,
        start: Tensor,
        draws: int = 1,
        seed: int = 0,
        *,
        first: int = 0,
        callback: Callable[[int], None] | None = None,
    ) -> Chains:
        """Run one chain from each row of `start`.

        Args:
            log_prob: `log p` up to a constant, see `LogProb`.
            start: positive starting values, `(B, *event)`; gives dtype and device.
            draws: number of samples to keep from each chain, in `burn_in + (draws − 1) thin` steps.
            seed: random seed; chain `i` depends on (seed, first + i) and its start alone.
            first: index of the first chain in the whole run.
            callback: called after each step with the number of steps done.

        Returns:
            The samples and the acceptance rate of each chain.

        Raises:
            DataError: if `start` is empty or holds values that are not positive and finite.
            ParameterError: if `draws` is below 1, or `log_prob` does not return one differentiable number per row.
            SupportError: if the log-density or its gradient is not finite, or a coordinate overflows.
        """
        if draws < 1:
            raise ParameterError(f"draws={draws} is too few.", "Give draws at least 1.")
        if start.numel() == 0 or start.ndim == 0:
            raise DataError(f"The start has shape {tuple(start.shape)} and holds no chain.", "Give one row for each chain.")
        wrong = int((~((start > 0) & start.isfinite())).sum())
        if wrong:
            raise DataError(
                f"{wrong} of the starting values are not positive numbers.", "Start the chains at positive values, for example at ones."
            )
        noise = KeyedNoise(seed, range(first, first + len(start)))
        with torch.inference_mode(False), torch.no_grad():
            here = _visit(log_prob, start.detach().clone().log())
            self._refuse(here, "at the start", ~here.log_prob.isfinite())
            taken = torch.zeros(len(start), dtype=torch.float64, device=start.device)
            kept: list[Tensor] = []
            steps = self.burn_in + (draws - 1) * self.thin
            for k in range(1, steps + 1):
                xi = noise.normal(here.z)
                there = _visit(log_prob, here.z + self.step * here.slope + math.sqrt(2 * self.step) * xi)
                accepted = self._accepted(here, there, xi, noise) if self.metropolis else torch.ones_like(taken, dtype=torch.bool)
                self._refuse(there, f"at step {k} of {steps}", accepted & there.log_prob.isneginf())
                here = _Visit(*(torch.where(_like(accepted, new), new, old) for new, old in zip(there, here, strict=True)))
                taken += accepted
                if k >= self.burn_in and (k - self.burn_in) % self.thin == 0:
                    kept.append(here.z.exp())
                if callback:
                    callback(k)
            return Chains(torch.stack(kept), taken / steps)

    def _accepted(self, here: _Visit, there: _Visit, xi: Tensor, noise: Noise) -> Tensor:
        """Return which chains accept their step, `(B,)`."""
        back = here.z - there.z - self.step * there.slope
        ratio = there.log_prob - here.log_prob + _rows(xi**2).sum(1) / 2 - _rows(back**2).sum(1) / (4 * self.step)
        return torch.special.log_ndtr(noise.normal(ratio)) < ratio  # log of a uniform number, from a normal one: these are drawn in blocks

    def _refuse(self, visit: _Visit, when: str, outside: Tensor) -> None:
        """Stop if a chain is `outside`, or if its density is not a number, so that the step could be neither accepted nor rejected."""
        inside = visit.log_prob.isfinite() & _rows(visit.slope.isfinite()).all(1)
        lost = int((outside | ~(inside | visit.log_prob.isneginf())).sum())
        if lost:
            raise SupportError(
                f"The log-density or its gradient is not finite in {lost} of {len(visit.z)} chains {when}.",
                f"Take smaller steps than step={self.step:g}, start where the density is positive, or check the density.",
            )


class _Visit(NamedTuple):
    z: Tensor
    log_prob: Tensor
    """Log-density of `z`, `(B,)`; −inf if an entry of `x = exp z` is not a normal positive floating-point number."""
    slope: Tensor
    """Gradient of the log-density, `1 + h`."""


def _visit(log_prob: LogProb, z: Tensor) -> _Visit:
    with torch.enable_grad():
        leaf = z.detach().requires_grad_()
        x = leaf.exp()
        positive = (x >= torch.finfo(x.dtype).tiny) & x.isfinite()
        value = log_prob(torch.where(positive, x, torch.ones_like(x)))
        if value.shape != (len(z),) or not value.requires_grad:
            raise ParameterError(
                f"log_prob returned a tensor of shape {tuple(value.shape)} for {len(z)} rows{'' if value.requires_grad else ', detached'}.",
                "Return one number a row, summed over its entries, computed from them by torch operations.",
            )
        total = value + _rows(leaf).sum(1)
        (slope,) = torch.autograd.grad(total.sum(), leaf)
    return _Visit(z, torch.where(_rows(positive).all(1), total.detach(), -math.inf), slope)


def _rows(values: Tensor) -> Tensor:
    return values.reshape(len(values), -1)


def _like(rows: Tensor, values: Tensor) -> Tensor:
    return rows.reshape(-1, *[1] * (values.ndim - 1))
