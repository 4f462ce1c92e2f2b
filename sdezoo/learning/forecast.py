"""A score model of series that also knows the distribution of the rest given the beginning.

With `u` the first `k` steps of a clean series `z_0`, the model learns the score of `p(z_t | u)` for every `k`, 0 included. Where a step is
given, the score and the denoiser are known::

    E[z_0 | z_t, u] = z_0,      ∇ log p(z_t | u) = (α z_0 + m − z_t) / v

Elsewhere the network gives them. It sees the clean steps in place of noised ones, and one more column that marks them (as in CSDI, Tashiro
et al., arXiv 2107.03502). The loss vanishes where nothing is to learn, and elsewhere its minimizer is the conditional score. So any sampler
draws from the forecast distribution, at the cost of an unconditional sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from weakref import proxy

import torch
from torch import Tensor

from sdezoo.learning.model import Conditioned, Model, ScoreModel
from sdezoo.learning.output import Call
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Process


def forecasts(kind: str, sde: Process, event: Sequence[int], classes: int | None) -> bool:
    """Whether a model of such data also learns to continue them: series, an affine process on their own shape, no labels.

    Args:
        kind: kind of the data.
        sde: the process.
        event: shape of an encoded row.
        classes: number of classes; None: unconditional.
    """
    if kind != "series" or classes is not None or not isinstance(sde, AffineSDE):
        return False
    return sde.element_wise and tuple(sde.network_input_shape(tuple(event))) == tuple(event)


def beginnings(z0: Tensor, lengths: Tensor) -> Tensor:
    """Build conditions of `ForecastModel`.

    Args:
        z0: clean states `(B, T, d)`; steps that are not given are ignored.
        lengths: number of given steps of each series, int64 `(B,)`.

    Returns:
        The given steps, 0 elsewhere, and their marks: `(B, T, d + 1)`.
    """
    mark = (torch.arange(z0.shape[1], device=z0.device) < lengths.to(z0.device)[:, None])[..., None]
    return torch.cat([torch.where(mark, z0, 0.0), mark.to(z0)], -1)


class ForecastModel(ScoreModel[AffineSDE]):
    """A score model of series with a condition: what is given of each, see `beginnings`.

    The arguments are those of `ScoreModel`; the network takes one more column than the data have.
    """

    def score(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        found = super().score(z, t, condition)
        if condition is None:
            return found
        k, clean, given = self.sde.at(t, z), condition[..., :-1].to(z), condition[..., -1:] > 0
        return torch.where(given, (k.alpha * clean + k.shift - z) / k.variance, found)

    def denoise(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = super().denoise(z, t, condition)
        return found if condition is None else torch.where(condition[..., -1:] > 0, condition[..., :-1].to(z), found)

    def condition_on(self, condition: Tensor) -> Model[AffineSDE]:
        """The model given the beginning of each series.

        Args:
            condition: what is given, `(B, T, d + 1)`, see `beginnings`.
        """
        return _Continued(self, condition)

    def _call(self, level: Tensor | float, condition: Tensor | None) -> Call:
        here, through = proxy(self), super()._call(level, None)

        def call(inputs: Tensor) -> Tensor:
            if condition is None:
                return through(torch.cat([inputs, torch.zeros_like(inputs[..., :1])], -1))[..., :-1]
            given = condition[..., -1:].to(inputs)
            mean, std = (moment.to(inputs) for moment in (here.mean, here.std))
            clean = (condition[..., :-1].to(inputs) - mean) / std
            return through(torch.cat([torch.where(given > 0, clean, inputs), given], -1))[..., :-1]

        return call


class _Continued(Conditioned[AffineSDE]):
    def intercept_network(self, wrap: Callable[[Call], Call]) -> Model[AffineSDE]:
        # Where a step is given, the score is known: it is more than calls of the network and arithmetic on the state.
        return Model.intercept_network(self, wrap)
