"""Generation: samples in the user's own units.

A sample is a function of the model, the sampler, the number of steps, the seed and its own index: no batch, process or
interruption enters but by the rounding of the network. Memory is that of a batch, whatever the number of samples or steps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sdezoo.data.bounds import Outside
from sdezoo.data.dataset import Kind
from sdezoo.errors import CompositionError, LeftSupportError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.sampling.guidance import Guided
from sdezoo.sampling.sampler import Sampler
from sdezoo.store.restoring import Trained
from sdezoo.zoo.composition import check_fit, fitting, preferred
from sdezoo.zoo.registry import SAMPLERS

PREFERRED_SAMPLERS: Mapping[Kind, tuple[str, ...]] = {
    "image": ("dpmpp-2m-sde", "euler-maruyama"),
    "table": ("dpmpp-2m", "euler-maruyama"),
    "points": ("dpmpp-2m", "euler-maruyama"),
}
"""By what is drawn: at 20 evaluations fresh noise makes better images, and worse tables (`docs/reproduction.md`)."""

SamplingProgress = Callable[[float, int], None]
"""Called after every step with the number of samples (or rows of data) done, a batch on its way counted in part, and of all."""


@dataclass(frozen=True)
class SampleIndices:
    """Indices of samples, in the order given: which of a seed's endlessly many samples are drawn.

    Args:
        ranges: of indices, of step 1, none of them empty.
    """

    ranges: tuple[range, ...]

    @classmethod
    def first(cls, n: int) -> SampleIndices:
        """0, …, n − 1.

        Raises:
            ParameterError: where `n` is not positive.
        """
        if n < 1:
            raise ParameterError(f"n={n} is too small.", "Give n at least 1.")
        return cls((range(n),))

    @classmethod
    def parse(cls, text: str) -> SampleIndices:
        """Indices and ranges, both ends included, separated by commas: `0-63` or `3,17,100-120`.

        Raises:
            ParameterError: for anything else, or an index that occurs twice.
        """
        ranges = []
        for part in text.split(","):
            found = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part, re.ASCII)
            if not found or int(found[2] or found[1]) < int(found[1]):
                raise ParameterError(
                    f"seeds={text} is no list of indices: '{part}'.", "Give whole numbers and ranges such as 3,17,100-120."
                )
            ranges.append(range(int(found[1]), int(found[2] or found[1]) + 1))
        ordered = sorted(ranges, key=lambda part: part.start)
        for one, other in pairwise(ordered):
            if other.start < one.stop:
                raise ParameterError(f"seeds={text} holds {other.start} twice.", "Give each index once.")
        return cls(tuple(ranges))

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)

    def __str__(self) -> str:
        return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in self.ranges)

    def cut(self, first: int, last: int) -> SampleIndices:
        """The indices at places `first`, …, `last − 1`."""
        pieces, before = [], 0
        for part in self.ranges:
            pieces.append(part[max(first - before, 0) : max(last - before, 0)])
            before += len(part)
        return SampleIndices(tuple(piece for piece in pieces if piece))


@dataclass(frozen=True)
class Generated:
    """Samples, and which of their values lie outside the range of the data they were learnt from.

    Args:
        x: `(n, *event)`, in the user's units, never clamped.
        outside: how many such values, and how far.
        evaluations: calls of the network for each sample.
    """

    x: Tensor
    outside: Outside
    evaluations: int


class Calls(AbstractContextManager[None]):
    """Counts the calls of a model's network inside the block; 0 where it has none of its own.

    Args:
        model: the model.
    """

    def __init__(self, model: Model[Any]) -> None:
        self.count, self._net = 0, getattr(model, "net", None)

    def __enter__(self) -> None:
        def see(*_: object) -> None:
            self.count += 1

        self._hook = self._net.register_forward_hook(see) if isinstance(self._net, nn.Module) else None

    def __exit__(self, *_: object) -> None:
        if self._hook:
            self._hook.remove()


@dataclass(frozen=True)
class Draw:
    """What is drawn, and how.

    Args:
        trained: the model, on `device`. sampler, steps, seed, rows: with the model, all that a sample depends on.
        batch_size: samples drawn at a time. device: None is the CPU. label: the class that is asked for; `each`: sample `i` is of class
        `i` modulo their number; None: no label. guidance: the scale `w` of `sdezoo.sampling.guidance.Guided`.

    Raises:
        ParameterError: for a number that is not positive, a class that there is not, or guidance without a label.
        CompositionError: for a label where the model was trained without.
    """

    trained: Trained
    sampler: Sampler
    rows: SampleIndices
    steps: int = 20
    seed: int = 0
    batch_size: int = 64
    device: torch.device | None = None
    label: int | Literal["each"] | None = None
    guidance: float = 1.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name}={getattr(self, name)} is too small.", f"Give {name} at least 1.")
        classes = self.trained.state.classes
        if self.label is None:
            if self.guidance != 1:
                raise ParameterError(f"guidance={self.guidance:g} has no label to guide to.", "Give --label a class, or each.")
        elif classes is None:
            raise CompositionError("This model is unconditional.", "Train one with --condition labels, or leave out --label.")
        elif self.label != "each" and not 0 <= self.label < classes:
            raise ParameterError(f"There is no class {self.label}.", f"Give --label a number from 0 to {classes - 1}, or each.")

    def batches(self, first: int = 0, last: int | None = None, progress: SamplingProgress | None = None) -> Iterator[Generated]:
        """The samples at places `first`, …, `last − 1` of `rows`, a batch at a time.

        Raises:
            SupportError: where the sampler leaves the support, naming those that do not.
        """
        last = len(self.rows) if last is None else last
        for start in range(first, last, self.batch_size):
            stop = min(start + self.batch_size, last)

            def follow(done: int, _z: Tensor, _t: Tensor, start: int = start, stop: int = stop) -> None:
                if progress:
                    progress(start - first + (stop - start) * done / self.steps, last - first)

            yield self._batch(self.rows.cut(start, stop), follow)

    def _batch(self, rows: SampleIndices, progress: Callable[[int, Tensor, Tensor], None]) -> Generated:
        calls = Calls(self.trained.model)
        with calls:
            z = self.sample(rows, progress)
        x = self.trained.encoding.decode(z.cpu())
        return Generated(x, self.trained.state.bounds.outside(x), calls.count or self.sampler.evaluations(self.steps))

    def sample(self, rows: SampleIndices, callback: Callable[[int, Tensor, Tensor], None]) -> Tensor:
        """The samples of `rows` in the domain of the process, on the device, as one batch.

        Raises:
            SupportError: as `batches`.
        """
        shape, like = (len(rows), *self.trained.encoded_event), torch.empty((), device=self.device)
        try:
            return self.sampler.sample(self._model(rows), shape, self.steps, self.seed, rows=list(rows), like=like, callback=callback)
        except LeftSupportError as error:
            raise _with_alternatives(error, self.trained) from None

    def _model(self, rows: SampleIndices) -> Model[Any]:
        model, classes = self.trained.model, self.trained.state.classes
        if self.label is None or classes is None:
            return model
        labels = torch.tensor([row % classes if self.label == "each" else self.label for row in rows], device=self.device)
        return Guided(model, labels, self.guidance)


def choose_sampler(trained: Trained, spec: str | None) -> Sampler:
    """The sampler of a spec string, or the first one that fits and is preferred for such data.

    Raises:
        CompositionError: where it does not fit the model's process, or none does.
    """
    sde = trained.model.sde
    order = PREFERRED_SAMPLERS.get(trained.state.kind, ())
    sampler: Sampler = SAMPLERS.build(spec or preferred(order, fitting(sde, SAMPLERS), f"samplers for '{sde.title()}'"))
    check_fit(sde, sampler)
    return sampler


def generate(
    trained: Trained,
    sampler: Sampler,
    n: int,
    *,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | None = None,
    progress: SamplingProgress | None = None,
) -> Generated:
    """Draw `n` samples into memory; sample `i` depends on (seed, i) alone.

    Raises:
        ParameterError: for a number that is not positive.
        SupportError: where a sampler leaves the support, naming those that do not.
    """
    draw = Draw(trained, sampler, SampleIndices.first(n), steps, seed, batch_size, device)
    trained.model.to(device or torch.device("cpu"))
    return together(draw.batches(progress=progress))


def together(batches: Iterator[Generated]) -> Generated:
    """Batches as one."""
    made = list(batches)
    evaluations = [one.evaluations for one in made]
    return Generated(torch.cat([one.x for one in made]), sum((one.outside for one in made), Outside()), sum(evaluations) // len(made))


def _with_alternatives(error: LeftSupportError, trained: Trained) -> LeftSupportError:
    safe = [name for name in fitting(trained.model.sde, SAMPLERS) if SAMPLERS.load(name).preserves_support]
    return LeftSupportError(error.problem, f"Take more steps, or a sampler that preserves the support: {', '.join(safe)}.")
