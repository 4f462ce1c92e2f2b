"""Guides: plugins that steer a sample.

A guide puts a model around a model, so that every sampler takes it, and guides can be put around one another. It acts on the score in
coordinates: a sampler that keeps the support keeps it under a guide. What a guide may know besides the model is its `Reference`: the
classes that are asked for, what was observed of the samples, the training rows, and rows that the model inside generates, a *pilot*.

**A sample does not depend on its batch.** So a guide compares no sample with the others of its batch, but with a pilot: rows with keys of
their own, drawn once from the model inside by the same sampler.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from sdezoo.data.encoding import Encoding
from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.model import Model, View
from sdezoo.parameters import Plugin
from sdezoo.process.noise import KeyedNoise, mix
from sdezoo.process.requirement import P, Requirement, as_affine
from sdezoo.sampling.sampler import Sampler

_PILOT, _CHOICE, _NOISED = 0x9107, 0x9108, 0x9109
_SPREAD_OF = 1024

T = TypeVar("T")


class Reference:
    """What a guide may know besides the model that it surrounds.

    Args:
        inner: the model inside the guide for rows of these classes, `(B,)`, or without labels if None, and of these indices.
        sampler: the sampler of the samples.
        steps: its number of steps.
        event: shape of an encoded row.
        seed: seed of the samples.
        rows: encoded training rows, of one class or of all if None, `(N, *event)`; None: there are none.
        labels: classes of the samples of this batch, int64 `(B,)`; None: no label.
        like: gives dtype and device; None: float32 on the CPU.
        kept: answers of references to the same model, sampler, steps and seed; None: none yet.
        observed: arrays by name, in the user's units: what was observed of the samples; None: nothing.
        indices: indices of the samples of this batch, `B` of them.
        encoding: the encoding of the data; None: encoded rows are in the user's units.
        features: features of the network of the model inside all guides, see `Model.network_features`; None: it has none.
    """

    def __init__(
        self,
        inner: Callable[[Tensor | None, Sequence[int]], Model[Any]],
        sampler: Sampler,
        steps: int,
        event: Sequence[int],
        *,
        seed: int = 0,
        rows: Callable[[int | None], Tensor] | None = None,
        labels: Tensor | None = None,
        like: Tensor | None = None,
        kept: dict[Any, Any] | None = None,
        observed: Mapping[str, Tensor] | None = None,
        indices: Sequence[int] = (),
        encoding: Encoding | None = None,
        features: View | None = None,
    ) -> None:
        self.features = features
        self.indices, self._observed = tuple(indices), observed
        self.encoding = Encoding(()) if encoding is None else encoding
        self.labels, self.steps, self.event, self.seed = labels, steps, tuple(event), seed
        self._inner, self._sampler, self._rows = inner, sampler, rows
        self._like, self._kept = torch.empty(()) if like is None else like, {} if kept is None else kept

    @property
    def classes(self) -> list[int | None]:
        """The classes of the samples of this batch, each once; `[None]` without labels."""
        return [None] if self.labels is None else self.labels.unique().tolist()

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what a guide computes once for all batches, from the training rows and pilots alone.

        Args:
            key: tells it apart from what else the guide computes.
            make: computes it.
        """
        return self._once(("once", key), make)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def data(self, count: int, label: int | None) -> Tensor:
        """Return training rows, chosen by the seed, `(at most count, *event)`.

        Args:
            count: most rows.
            label: class of the rows; None: any.

        Raises:
            ParameterError: if there are no training rows, or none of this class.
        """
        read = self._rows
        if read is None:
            raise ParameterError(
                "A guide needs the training rows, and there are none here.", "Sample from a run folder, or a model just fitted."
            )

        def choose() -> Tensor:
            x = read(label)
            if not len(x):
                raise ParameterError(f"No training row has the class {label}, and a guide needs some.", "Give --label another class.")
            order = torch.randperm(len(x), generator=torch.Generator().manual_seed(mix(self.seed, _CHOICE)))
            return x[order[:count].to(x.device)].to(self._like)

        return self._once(("rows", count, label), choose)

    def observed(self, name: str) -> Tensor:
        """Return what was observed of the samples of this batch: sample `i` has row `i` modulo their number.

        Args:
            name: name of the array.

        Returns:
            Rows `(B, …)` in the user's units.

        Raises:
            ParameterError: if nothing was observed.
            DataError: if there is no such array, or it has no rows.
        """
        rows = self.observation(name)
        if not rows.ndim or not len(rows):
            raise DataError(f"The observed array {name} has no rows.", "Give a row for each sample, or one for all.")
        return rows[[index % len(rows) for index in self.indices]]

    def observation(self, name: str) -> Tensor:
        """Return an observed array that is the same for all samples.

        Args:
            name: name of the array.

        Raises:
            SdezooError: as for `observed`.
        """
        if self._observed is None:
            raise ParameterError("A guide needs what was observed of the samples.", "Give --observed a .npz file.")
        if name not in self._observed:
            held = ", ".join(sorted(self._observed)) or "nothing"
            raise DataError(f"The observed file has no array {name}; it holds {held}.", f"Store it as {name}.")
        return self._observed[name]

    @property
    def like(self) -> Tensor:
        """An empty tensor of the dtype and on the device of the samples."""
        return self._like

    def encoded(self, x: Tensor) -> Tensor:
        """Encode rows in the user's units, such as observed ones; NaN stays NaN.

        Args:
            x: rows, `(B, *event)`.

        Returns:
            Encoded rows, of the dtype and on the device of the samples.
        """
        return self.encoding.encode_exactly(x).to(self._like)

    def spread(self) -> float:
        """Return the standard deviation of all entries of at most 1024 training rows in the coordinates of the process.

        Raises:
            ParameterError: as for `data`.
        """

        def measure() -> float:
            sde = self._inner(self.labels, self.indices).sde
            found = float(as_affine(sde, "A spread in coordinates").encode(self.data(_SPREAD_OF, None)).double().std())
            return found if 0 < found < math.inf else 1.0

        return self._once("spread", measure)

    def units(self) -> tuple[Tensor, Tensor]:
        """Return `a` and `b` of an encoding that is affine, `x = a + b u` with `x` in the user's units and `u` encoded.

        Returns:
            Two tensors `event`, float64 on the CPU.

        Raises:
            CompositionError: if the encoding is not affine.
        """
        at = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64).reshape(-1, *(1,) * len(self.event)).expand(-1, *self.event)
        zero, one, two = self.encoding.encode_exactly(at.clone())
        if not torch.allclose(two - one, one - zero, rtol=1e-9, atol=0):
            raise CompositionError(
                "The encoding of the data is not linear, so no linear map of them is known.",
                "Use points, or images trained with --shift 1, which keeps their pixels as they are.",
            )
        return -zero / (one - zero), 1 / (one - zero)

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
        return self._inner(self.labels, self.indices).sde.perturb(x, t, KeyedNoise(mix(self.seed, _NOISED), range(len(x)), ahead=1))

    def pilot(self, count: int, label: int | None, through: Callable[[Model[Any]], Model[Any]] | None = None, turn: int = 0) -> Tensor:
        """Draw a pilot from the model inside the guide, or return the one drawn before: encoded rows, `(count, *event)`.

        Args:
            count: number of rows.
            label: their class; None: no label.
            through: puts a model around the one inside; None: draw from that one.
            turn: number of this pilot among those of the guide, which tells them apart.
        """

        def draw() -> Tensor:
            inner = self._inner(None if label is None else torch.full((count,), label, device=self._like.device), range(count))
            model, shape = inner if through is None else through(inner), (count, *self.event)
            return self._sampler.sample(model, shape, self.steps, mix(self.seed, _PILOT), like=self._like)

        return self._once(("pilot", count, label, turn), draw)


class Guide(Plugin, Requirement[P], ABC, Generic[P]):
    """Base class of guides; subclasses implement `around`. `Guide[P]` works on processes of class `P`."""

    conditions: ClassVar[bool] = False
    """Whether it turns to the class that is asked for by itself. It is then given the model of all classes, and stands inside the others.
    There is at most one such guide."""
    needs_rows: ClassVar[bool] = False
    """Whether it needs the training rows."""
    observes: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays that it needs of what was observed of the samples, see `Reference.observed`."""

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
