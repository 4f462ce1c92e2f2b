"""Generation of samples in the user's units.

A sample is a function of the model, the sampler, the number of steps, the seed and its own index. Batches, processes and interruptions
affect only the rounding in the network. Memory is that of one batch, for any number of samples and steps.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, pairwise
from typing import Any, Literal

import psutil
import torch
from torch import Tensor, nn

from sdezoo.data.bounds import Outside
from sdezoo.errors import CompositionError, LeftSupportError, ParameterError
from sdezoo.generation.beginnings import Beginnings
from sdezoo.generation.classes import class_names
from sdezoo.generation.given import ConditionalDraw, Given
from sdezoo.generation.guiding import NO_GUIDES, Guides
from sdezoo.learning.model import Model
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.sampling.sampler import Sampler
from sdezoo.sampling.simulation import Simulation
from sdezoo.sampling.start import PRIOR, Start, check_rows
from sdezoo.store.restoring import Trained
from sdezoo.zoo.composition import check_fit, fitting, usual_sampler
from sdezoo.zoo.registry import SAMPLERS

SamplingProgress = Callable[[float, int], None]
"""Callback after every step: called with the number of samples (or rows of data) done and the total. A running batch counts in part."""

_MOST, _COPIES = 10**15, 4  # indices in one range; samples in memory as batches, joined and converted
_ROWS, _VALUES = 64, 2**15
"""A batch has 64 rows, or as many as hold so many values."""


@dataclass(frozen=True)
class SampleIndices:
    """Ordered sample indices: which of the infinitely many samples of a seed to draw.

    Args:
        ranges: non-empty ranges of indices, with step 1.
    """

    ranges: tuple[range, ...]

    @classmethod
    def first(cls, n: int) -> SampleIndices:
        """Build the indices 0, …, n − 1.

        Args:
            n: number of samples.

        Raises:
            ParameterError: if `n` is not positive.
        """
        if n < 1:
            raise ParameterError(f"n={n} is too small.", "Give n at least 1.")
        if n > _MOST:
            raise ParameterError(f"n={n} is too large.", f"Give n at most {_MOST}.")
        return cls((range(n),))

    @classmethod
    def parse(cls, text: str) -> SampleIndices:
        """Parse a list of sample indices.

        Args:
            text: indices and inclusive ranges, separated by commas, such as `0-63` or `3,17,100-120`.

        Raises:
            ParameterError: if `text` has another form, or an index occurs twice.
        """
        ranges = []
        for part in text.split(","):
            found = re.fullmatch(r"\s*(\d{1,18})\s*(?:-\s*(\d{1,18})\s*)?", part, re.ASCII)
            if not found or int(found[2] or found[1]) < int(found[1]):
                raise ParameterError(
                    f"seeds={text} is not a list of indices: '{part}'.", "Give whole numbers and ranges such as 3,17,100-120."
                )
            ranges.append(range(int(found[1]), int(found[2] or found[1]) + 1))
        ordered = sorted(ranges, key=lambda part: part.start)
        for one, other in pairwise(ordered):
            if other.start < one.stop:
                raise ParameterError(f"seeds={text} contains {other.start} twice.", "Give each index once.")
        return cls(tuple(ranges))

    def __len__(self) -> int:
        return sum(map(len, self.ranges))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self.ranges)

    def __str__(self) -> str:
        return ",".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else f"{part[0]}" for part in self.ranges)

    def cut(self, first: int, last: int) -> SampleIndices:
        """Slice the indices by position.

        Args:
            first: first position.
            last: one past the last position.
        """
        pieces, before = [], 0
        for part in self.ranges:
            pieces.append(part[max(first - before, 0) : max(last - before, 0)])
            before += len(part)
        return SampleIndices(tuple(piece for piece in pieces if piece))


@dataclass(frozen=True)
class Generated:
    """Generated samples.

    Args:
        x: samples `(n, *event)`, float32 on the CPU, in the user's units, never clamped.
        outside: statistics of the values outside the range of the training data.
        evaluations: network evaluations (NFE) for each sample.
    """

    x: Tensor
    outside: Outside
    evaluations: int


class Calls(AbstractContextManager[None]):
    """Context manager that counts the calls of a model's network in `count`; 0 if the model has no network.

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
    """The specification of samples to draw.

    Args:
        trained: the model, on `device`.
        sampler: the sampler.
        rows: indices of the samples.
        steps: sampler steps.
        seed: the seed.
        batch_size: samples in a batch; None: 64, and more of small rows.
        device: device of the model; None: CPU.
        label: class to condition on; `each`: sample `i` has class `i` modulo the number of classes; None: no label.
        guides: what steers the samples.
        start: initial states.
        given: conditions on the columns of the samples; None: none.
        begun: the beginnings that samples of series continue, or the values that they start at; None: none.
        wide: whether states are float64; the network has to take them, see `sdezoo.generation.acceleration.prepare`.

    Raises:
        ParameterError: if a number is not positive, the class does not exist, a guide has no label to guide to, or `start` has no row for
            a sample.
        CompositionError: if there is a label and the model is unconditional.
    """

    trained: Trained
    sampler: Sampler
    rows: SampleIndices
    steps: int = 20
    seed: int = 0
    batch_size: int | None = None
    device: torch.device | None = None
    label: int | Literal["each"] | None = None
    guides: Guides = NO_GUIDES
    start: Start = PRIOR
    given: Given | None = None
    wide: bool = False
    begun: Beginnings | None = None

    def __post_init__(self) -> None:
        if self.given is not None and self.wide:
            raise ParameterError("Samples that meet conditions are drawn in float32.", "Leave out --precision float64, or --given.")
        if self.given is not None and self.start is not PRIOR:
            raise ParameterError("Samples that start from rows take no conditions.", "Leave out --from, or --given.")
        check_rows(self.start, [part[-1] for part in self.rows.ranges])
        for name, value in {"steps": self.steps, "batch_size": self.batch}.items():
            if value < 1:
                raise ParameterError(f"{name}={value} is too small.", f"Give {name} at least 1.")
        self.guides.check(self.trained, self.sampler, self.steps, len(self.rows))
        if self.label is None:
            self.guides.refuse_without_label(self.trained.state.classes)
        elif self.label != "each" and not 0 <= self.label < len(names := class_names(self.trained.state)):
            raise ParameterError(f"There is no class {self.label}.", f"Give a number from 0 to {len(names) - 1}, or each.")

    @cached_property
    def batch(self) -> int:
        """Number of samples in a batch."""
        return max(_ROWS, _VALUES // math.prod(self.trained.encoded_event)) if self.batch_size is None else self.batch_size

    @cached_property
    def taken(self) -> int:
        """Number of steps taken: fewer than `steps` if sampling starts from partially noised rows."""
        if self.given is not None:
            return self.steps
        return len(self.sampler.times(self.sampler.view(self.trained.model), self.steps, self.start)) - 1

    def batches(self, first: int = 0, last: int | None = None, progress: SamplingProgress | None = None) -> Iterator[Generated]:
        """Draw the samples at positions `first`, …, `last − 1` of `rows`, batch by batch. Pixels are not yet at their levels.

        Args:
            first: first position in `rows`.
            last: one past the last position; None: all.
            progress: called after every step.

        Raises:
            SupportError: if the sampler leaves the support; the message names the samplers that do not.
        """
        last = len(self.rows) if last is None else last
        for start in range(first, last, self.batch):
            stop = min(start + self.batch, last)

            def follow(done: int, _z: Tensor, _t: Tensor, start: int = start, stop: int = stop) -> None:
                if progress:
                    progress(start - first + (stop - start) * done / self.taken, last - first)

            yield self._batch(self.rows.cut(start, stop), follow)

    def together(self, first: int = 0, last: int | None = None, progress: SamplingProgress | None = None) -> Generated:
        """As `batches`, in memory, with final rows and the mean number of network evaluations.

        Raises:
            ParameterError: if the samples do not fit in the available memory.
            SupportError: as for `batches`.
        """
        needed = _COPIES * 4 * len(self.rows) * math.prod(self.trained.encoded_event)
        if needed > 2**28 and needed > (free := psutil.virtual_memory().available):
            raise ParameterError(
                f"{len(self.rows)} samples take {needed / 2**30:.1f} GiB of memory, more than the {free / 2**30:.1f} GiB available.",
                "Draw fewer at a time, or write them to disk: sdezoo sample RUN -n NUMBER.",
            )
        made = list(self.batches(first, last, progress))
        x, outside = torch.cat([one.x for one in made]), sum((one.outside for one in made), Outside())
        return Generated(self.trained.state.bounds.final(x), outside, sum(one.evaluations for one in made) // len(made))

    def _batch(self, rows: SampleIndices, progress: Callable[[int, Tensor, Tensor], None]) -> Generated:
        self._model(list(rows))  # pilots of guides are drawn before evaluations are counted
        calls = Calls(self.trained.model)
        with calls:
            z = self.sample(rows, progress)
        x = self.trained.encoding.decode(z.cpu())
        if self.given is not None:
            x = self.given.restored(x, list(rows))
        outside = self.trained.state.bounds.outside(x)
        if self.begun is not None:
            x = self.begun.restored(x, list(rows))
        return Generated(x, outside, calls.count or self.sampler.evaluations(self.steps))

    def sample(self, rows: SampleIndices, callback: Callable[[int, Tensor, Tensor], None]) -> Tensor:
        """Draw one batch of samples in the domain of the process.

        Args:
            rows: indices of the samples.
            callback: called after every step, see `sdezoo.sampling.sampler.Callback`.

        Returns:
            Encoded rows `(n, *encoded event)`, float32 on `device`.

        Raises:
            DataError: if no sample that meets the conditions was found.
            SupportError: as for `batches`.
        """
        shape, like = (len(rows), *self.trained.encoded_event), self._like
        try:
            if self.given is not None:
                return self.conditional.sample(self._model, list(rows), callback)
            return self.sampler.sample(
                self._model(list(rows)), shape, self.steps, self.seed, rows=list(rows), start=self.start, like=like, callback=callback
            ).float()
        except LeftSupportError as error:
            raise _with_alternatives(error, self.trained) from None

    @cached_property
    def conditional(self) -> ConditionalDraw:
        """The drawing of samples that meet `given`.

        Raises:
            SdezooError: as for `ConditionalDraw`, or if there are no conditions.
        """
        if self.given is None:
            raise ParameterError("There are no conditions.", "Give --given COLUMN=VALUE.")
        return ConditionalDraw(self.trained, self.sampler, self.given, self.steps, self.seed, self.device)

    def _model(self, rows: Sequence[int]) -> Model[Any]:
        if self.begun is not None:
            return self.begun.continued(self.trained.model, rows, self.trained.encoded_event[0])
        labels = self.labels(rows)
        labels = None if labels is None else labels.to(self.device)
        return self.guides.model(self.trained, self.sampler, self.steps, self.seed, labels, self._like, rows)

    @property
    def _like(self) -> Tensor:
        return torch.empty((), dtype=torch.float64 if self.wide else torch.float32, device=self.device)

    def labels(self, rows: Sequence[int]) -> Tensor | None:
        """The classes of samples, int64 `(n,)`; None: no label.

        Args:
            rows: indices of the samples, `n` of them.
        """
        if self.label is None:
            return None
        classes = len(class_names(self.trained.state))
        return torch.tensor([row % classes if self.label == "each" else self.label for row in rows])


def choose_sampler(trained: Trained, spec: str | None) -> Sampler:
    """Build a sampler for a model.

    Args:
        trained: the model.
        spec: spec string of the sampler; None: that of `usual_sampler`.

    Raises:
        CompositionError: if the sampler does not fit the process of the model, or none does.
    """
    sde = trained.model.sde
    if is_simulated(trained.model):
        if spec is not None:
            raise CompositionError("Paths are simulated forward in time, which takes no sampler.", "Leave out --sampler.")
        return Simulation(substeps=trained.model.substeps)
    sampler: Sampler = SAMPLERS.build(spec) if spec else usual_sampler(sde, trained.state.kind, decides=trained.model.decides)
    check_fit(sde, sampler)
    return sampler


SERIES_STEPS = 50
"""Sampler steps for series, if none are given. With 20 and an exact score, forecasts of an AR(1) process are 9 % too wide; with 50, 2 %."""


def steps_for(trained: Trained, sampler: Sampler) -> int:
    """Number of sampler steps if the user gives none: at least `SERIES_STEPS` for series, else `Sampler.usual_steps`.

    Args:
        trained: the model.
        sampler: the sampler.
    """
    return max(sampler.usual_steps, SERIES_STEPS if trained.state.kind == "series" else 1)


def generate(
    trained: Trained,
    sampler: Sampler,
    n: int,
    *,
    steps: int = 20,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | None = None,
    given: Given | None = None,
    progress: SamplingProgress | None = None,
) -> Generated:
    """Draw `n` samples into memory. Sample `i` depends only on `(seed, i)`.

    Args:
        trained: the model; it is moved to `device`.
        sampler: the sampler, see `choose_sampler`.
        n: number of samples.
        steps: sampler steps.
        seed: the seed.
        batch_size: samples in a batch; affects memory, speed and rounding only. None: 64, and more of small rows.
        device: device to sample on; None: CPU.
        given: conditions on the columns of the samples; None: none.
        progress: called after every step.

    Raises:
        ParameterError: if a number is not positive.
        DataError: if the conditions cannot be met.
        SupportError: if the sampler leaves the support; the message names the samplers that do not.
    """
    draw = Draw(trained, sampler, SampleIndices.first(n), steps, seed, batch_size, device, given=given)
    trained.model.to(device or torch.device("cpu"))
    return draw.together(progress=progress)


def _with_alternatives(error: LeftSupportError, trained: Trained) -> LeftSupportError:
    safe = [name for name in fitting(trained.model.sde, SAMPLERS) if SAMPLERS.load(name).preserves_support]
    return LeftSupportError(error.problem, f"Take more steps, or a sampler that preserves the support: {', '.join(safe)}.")
