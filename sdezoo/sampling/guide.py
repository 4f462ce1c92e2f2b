"""Guides: plugins that steer a sample.

A guide puts a model around a model, so that every sampler takes it, and guides can be put around one another. It acts on the score in
coordinates: a sampler that keeps the support keeps it under a guide. What a guide may know besides the model is its `Reference`: the
classes that are asked for, the training rows, and rows that the model inside generates, a *pilot*.

**A sample does not depend on its batch.** So a guide compares no sample with the others of its batch, but with a pilot: rows with keys of
their own, drawn once from the model inside by the same sampler.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor

from sdezoo.errors import ParameterError
from sdezoo.learning.model import Model
from sdezoo.parameters import Plugin
from sdezoo.process.noise import KeyedNoise, mix
from sdezoo.process.requirement import P, Requirement
from sdezoo.sampling.sampler import Sampler

_PILOT, _CHOICE, _NOISED = 0x9107, 0x9108, 0x9109


class Reference:
    """What a guide may know besides the model that it surrounds.

    Args:
        inner: the model inside the guide for rows of these classes, `(B,)`, or without labels if None.
        sampler: the sampler of the samples.
        steps: its number of steps.
        event: shape of an encoded row.
        seed: seed of the samples.
        rows: encoded training rows, of one class or of all if None, `(N, *event)`; None: there are none.
        labels: classes of the samples of this batch, int64 `(B,)`; None: no label.
        like: gives dtype and device; None: float32 on the CPU.
        kept: answers of references to the same model, sampler, steps and seed; None: none yet.
    """

    def __init__(
        self,
        inner: Callable[[Tensor | None], Model[Any]],
        sampler: Sampler,
        steps: int,
        event: Sequence[int],
        *,
        seed: int = 0,
        rows: Callable[[int | None], Tensor] | None = None,
        labels: Tensor | None = None,
        like: Tensor | None = None,
        kept: dict[Any, Any] | None = None,
    ) -> None:
        self.labels, self.steps, self.event, self.seed = labels, steps, tuple(event), seed
        self._inner, self._sampler, self._rows = inner, sampler, rows
        self._like, self._kept = torch.empty(()) if like is None else like, {} if kept is None else kept

    @property
    def classes(self) -> list[int | None]:
        """The classes of the samples of this batch, each once; `[None]` without labels."""
        return [None] if self.labels is None else self.labels.unique().tolist()

    def data(self, count: int, label: int | None) -> Tensor:
        """Return training rows, chosen by the seed, `(at most count, *event)`.

        Args:
            count: most rows.
            label: class of the rows; None: any.

        Raises:
            ParameterError: if there are no training rows, or none of this class.
        """
        if self._rows is None:
            raise ParameterError("A guide needs the training rows, and there are none here.", "Sample from a run folder.")
        key = ("rows", count, label)
        if key not in self._kept:
            x = self._rows(label)
            if not len(x):
                raise ParameterError(f"No training row has the class {label}, and a guide needs some.", "Give --label another class.")
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mix(self.seed, _CHOICE)))
            self._kept[key] = x[order[:count].to(x.device)].to(self._like)
        return self._kept[key]

    def noised(self, x: Tensor, t: Tensor) -> Tensor:
        """Noise rows to a time: row `i` with the same random numbers at every time and in every set of rows.

        Sets that are compared with each other then differ by their rows alone. With noise of its own for each, the difference of two
        finite sets at a high level would be that of their noise.

        Args:
            x: encoded rows, `(N, *event)`.
            t: time, 0-dim.

        Returns:
            States, `(N, *state)`.
        """
        return self._inner(self.labels).sde.perturb(x, t, KeyedNoise(mix(self.seed, _NOISED), range(len(x)), ahead=1))

    def pilot(self, count: int, label: int | None, through: Callable[[Model[Any]], Model[Any]] | None = None, turn: int = 0) -> Tensor:
        """Draw a pilot from the model inside the guide, or return the one drawn before: encoded rows, `(count, *event)`.

        Args:
            count: number of rows.
            label: their class; None: no label.
            through: puts a model around the one inside; None: draw from that one.
            turn: number of this pilot among those of the guide, which tells them apart.
        """
        key = ("pilot", count, label, turn)
        if key not in self._kept:
            inner = self._inner(None if label is None else torch.full((count,), label, device=self._like.device))
            model, shape = inner if through is None else through(inner), (count, *self.event)
            self._kept[key] = self._sampler.sample(model, shape, self.steps, mix(self.seed, _PILOT), like=self._like)
        return self._kept[key]


class Guide(Plugin, Requirement[P], ABC, Generic[P]):
    """Base class of guides; subclasses implement `around`. `Guide[P]` works on processes of class `P`."""

    conditions: ClassVar[bool] = False
    """Whether it turns to the class that is asked for by itself. It is then given the model of all classes, and stands inside the others.
    There is at most one such guide."""
    needs_rows: ClassVar[bool] = False
    """Whether it needs the training rows."""

    @abstractmethod
    def around(self, model: Model[P], reference: Reference) -> Model[P]:
        """Put the guide around a model.

        The result must treat each row by itself. At weight 0 it is `model`, to the bit.

        Args:
            model: the model of the samples of one batch.
            reference: what else is known.

        Raises:
            SdezooError: if something is missing that the guide needs.
        """
