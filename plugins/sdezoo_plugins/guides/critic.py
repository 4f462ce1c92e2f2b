"""The discriminator of the Fisher integral probability metric, in closed form, on features of a network.

Among functions `D = ⟨v, Φ⟩` of standardized features `Φ`, the Fisher metric (Mroueh & Sercu, NeurIPS 2017) takes the one that maximizes
the difference of means between data `p` and generated states `q`, at a given second moment::

    v = argmax E_p D − E_q D − ½ E_m D² − ½ λ ‖v‖² = (S + λ I)⁻¹ (E_p Φ − E_q Φ),      m = (p + q)/2,   S = E_m [Φ Φᵀ]

Over all functions the maximum is `2 (p − q)/(p + q)`, which is `log p/q` where the two are near each other: the slope `∇D` is in units of
the score, at every noise level alike. No step is taken to find it; a level costs one solution of `k` linear equations.

How much of it is real is found by cross-validation. The rows are split into halves; `v_a` of one is judged on the other by the objective
above, `c (v_aᵀ δ_b) − ½ c² v_aᵀ S_b v_a`. Of a few `λ` the best is taken, with the best factor `c` between 0 and 1. Where noise covers the
difference, or there are too few rows, `c` is 0: there nothing is steered, and the network is not asked.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdezoo.learning.model import View

_ROWS = 32
"""Rows in a block: each row rounds alike in every batch."""
_KEPT = 4096
"""Most noise levels whose directions are kept."""
_RIDGES = 0.01, 0.03, 0.1, 0.3, 1.0


class Critic:
    """The slope of the Fisher critic between noised rows and a pilot.

    Args:
        features: features of states at a time, `(B, *state)` and a time to `(B, k)`, a row for a row.
        real: encoded training rows, `(n, *event)`.
        noised: noises them to a time, see `Reference.noised`.
        pilot: generated rows, encoded, `(m, *event)`.
        before: the critic under which the pilot was drawn; its slope is added. None: the pilot is unguided.
    """

    def __init__(
        self, features: View, real: Tensor, noised: Callable[[Tensor, Tensor], Tensor], pilot: Tensor, before: "Critic | None" = None
    ) -> None:
        self._features, self._real, self._noised, self._pilot, self._before = features, real, noised, pilot, before
        self._kept: dict[float, Tensor | None] = {}

    def at(self, t: Tensor) -> Tensor | None:
        """Return the direction of `D` in features as they are, `∇_Φ D`, float64 `(k,)`; None: nothing is sure at this level.

        Args:
            t: time, 0-dim.
        """
        at = float(t)
        if at not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            found = direction(*(self._seen(rows, t.detach()) for rows in (self._real, self._pilot)))
            earlier = None if self._before is None else self._before.at(t)
            self._kept[at] = found if earlier is None else earlier if found is None else found + earlier
        return self._kept[at]

    def slope(self, z: Tensor, t: Tensor) -> Tensor:
        """Return `∇D(z)`, shaped like `z`.

        Args:
            z: states, `(B, *state)`.
            t: time, 0-dim.
        """
        along = self.at(t)
        if along is None:
            return torch.zeros_like(z)
        return torch.cat([self._block_slope(block, t, along.to(z)) for block in _blocks(z)])[: len(z)]

    def _block_slope(self, z: Tensor, t: Tensor, along: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (slope,) = torch.autograd.grad((self._features(z, t) @ along).sum(), z)
        return slope

    def _seen(self, rows: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            states = self._noised(rows, t)
            return torch.cat([self._features(block, t) for block in _blocks(states)])[: len(rows)].double()


def _blocks(z: Tensor) -> tuple[Tensor, ...]:
    """Blocks of a fixed number of rows; the last is filled up with zeros."""
    return pad(z, (0, 0) * (z.ndim - 1) + (0, -len(z) % _ROWS)).split(_ROWS)


def direction(real: Tensor, made: Tensor) -> Tensor | None:
    """Return the direction of `D` in features as they are, float64 `(k,)`; None: no part of it holds on the other half of the rows.

    Args:
        real: features of data, float64 `(n, k)`.
        made: features of generated states, float64 `(m, k)`.
    """
    mean = (real.mean(0) + made.mean(0)) / 2
    spread = torch.cat([real, made]).std(0)
    spread = torch.where(spread > 1e-6 * mean.abs(), spread, torch.inf)  # a feature that is constant tells nothing
    real, made = (real - mean) / spread, (made - mean) / spread
    gain, share, ridge = max((*_held(real, made, ridge), ridge) for ridge in _RIDGES)
    return share * _solved(*_moments(real, made), ridge) / spread if gain > 0 else None


def _held(real: Tensor, made: Tensor, ridge: float) -> tuple[float, float]:
    """The objective that one half's direction reaches on the other, and the factor `c` of the direction there."""
    halves = [_moments(real[part::2], made[part::2]) for part in (0, 1)]
    reached = power = 0.0
    for (second, gap), other in (halves, reversed(halves)):
        found = _solved(*other, ridge)
        reached += float(found @ gap)
        power += float(found @ second @ found)
    share = min(max(reached / power, 0.0), 1.0) if power > 0 else 0.0
    return share * reached - share**2 * power / 2, share


def _moments(real: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
    """`S` and `E_p Φ − E_q Φ`."""
    return (real.T @ real / len(real) + made.T @ made / len(made)) / 2, real.mean(0) - made.mean(0)


def _solved(second: Tensor, gap: Tensor, ridge: float) -> Tensor:
    return torch.linalg.solve(second + ridge * torch.eye(len(gap)).to(gap), gap)
