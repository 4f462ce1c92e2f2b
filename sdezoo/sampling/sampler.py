"""Samplers: the way back from the prior to the data.

The base class owns the only loop. A sampler writes one `step`, from time `t` to `s < t`, and gets back at the next
step the memory it returned, so that multistep methods hold what they need without a loop of their own.

The step that ends at `s = 0` must be free of noise; there no score may be asked for, since no process offers one
outside its `t_span`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Generic

import torch
from torch import Tensor
from typing_extensions import TypeVar

from sdezoo.errors import LeftSupportError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.parameters import Plugin
from sdezoo.process.noise import KeyedNoise, Noise
from sdezoo.process.process import Process, count_outside
from sdezoo.process.requirement import P, Requirement
from sdezoo.sampling.folding import FOLDS
from sdezoo.sampling.grid import Spacing, check_grid, grid, grid_refuses
from sdezoo.sampling.start import PRIOR, Start

M = TypeVar("M", default=None)
"""What a sampler remembers from one step to the next."""

Callback = Callable[[int, Tensor, Tensor], None]
"""Called after each step with the number of steps done, the state and its time."""


@dataclass(frozen=True)
class Sampler(Plugin, Requirement[P], ABC, Generic[P, M]):
    """A sampler. Abstract: `step`. `spacing` chooses its time grid, see `sdezoo.sampling.grid`.

    `Sampler[P]` works on processes of the class `P` and remembers nothing from step to step; `Sampler[P, M]` remembers an `M`.
    """

    preserves_support: ClassVar[bool] = True
    """False for a sampler that may leave the support of the data: then every step is checked, and sampling stops where one does."""

    weak_order: ClassVar[float | None] = 1.0
    """Expectations err by `O(h^weak_order)` in the size `h` of a step; None: it discretizes no reversal, and nothing is claimed."""
    strong_order: ClassVar[float | None] = None
    """Paths err by `O(h^strong_order)` on average for given noise, one normal number an entry and step; None: not claimed."""

    adaptive: ClassVar[bool] = False
    """True for a sampler whose evaluations depend on the state, and not on `steps` alone: then `evaluations` is the least number."""

    _: KW_ONLY
    spacing: Spacing = "auto"
    """Spacing of the time grid; `auto`: karras for affine processes, else uniform."""

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or grid_refuses(self.spacing, sde)

    def view(self, model: Model[P]) -> Model[Any]:
        """The model as this sampler sees it; default: on the state. The steps move in the view's state."""
        return model

    def grid(self, model: Model[Any], steps: int) -> Tensor:
        """The times of `steps` steps, float64 and decreasing: `hi`, …, `lo`, 0."""
        return grid(model.sde, steps, self.spacing)

    def times(self, view: Model[Any], steps: int, start: Start) -> Tensor:
        """The times of the steps that are taken: those of `grid`, checked, from where `start` is on.

        Raises:
            ParameterError: for a grid that does not go from `hi` through `lo` to 0, or a start outside it.
        """
        times = self.grid(view, steps)
        check_grid(times, view.sde)
        return start.times(times, view.sde)

    def evaluations(self, steps: int) -> int:
        """Evaluations of the score in `steps` steps; default: one a step."""
        return steps

    @abstractmethod
    def step(self, model: Model[P], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: M | None) -> tuple[Tensor, M | None]:
        """From `z` at `t` to `s < t`; `memory` is what the last step returned, None in the first."""

    def sample(
        self,
        model: Model[P],
        shape: Sequence[int],
        steps: int,
        seed: int = 0,
        *,
        first: int = 0,
        rows: Sequence[int] | None = None,
        start: Start | None = None,
        like: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Draw data of `shape` `(B, *event)`.

        Args:
            model: the score. shape: of the data, batch in front. steps: number of steps; they cost `evaluations(steps)` calls of
            the score. seed: sample `i` depends on (seed, rows[i]) alone. first: index of the first sample in the whole run.
            rows: index of each sample in the whole run; default: `first`, `first + 1`, …. start: where to start;
            default: from the model's prior. like: gives dtype (float32 or float64) and device; default float32 on the CPU.
            callback: called after every step.

        Raises:
            CompositionError: where the model's process does not fit.
            ParameterError: for fewer than one sample or step, a number of rows that is not that of the samples, or a start that has no row
                for one of them.
            SupportError: when a state leaves the support, or cannot be decoded.
        """
        self.require(model.sde)
        for what, count in (("samples", shape[0]), ("steps", steps)):
            if count < 1:
                raise ParameterError(f"{self.title()}: {count} {what} is too few.", "Give at least 1.")
        view = self.view(model)
        rows = range(first, first + shape[0]) if rows is None else rows
        if len(rows) != shape[0]:
            raise ParameterError(f"{self.title()}: {len(rows)} rows were given for {shape[0]} samples.", "Give one row for each sample.")
        noise = KeyedNoise(seed, rows)
        like = torch.empty(()) if like is None else like
        with torch.no_grad():
            start = start or PRIOR
            z, times = start.states(view, shape, rows, noise, like), self.times(view, steps, start)
            path = self._path(view, z, times, noise)
            for k, z in enumerate(path, start=1):
                if not self.preserves_support:
                    self._check_support(view, z, k, len(times) - 1)
                if callback:
                    callback(k, z, times[k])
            return view.sde.decode(z)

    def _path(self, view: Model[Any], z: Tensor, times: Tensor, noise: Noise) -> Iterator[Tensor]:
        """The state after each step."""
        folded = FOLDS.get(self, view, times, z)
        if folded is not None:
            yield from folded.run(z, noise)
            return
        memory = None
        for t, s in pairwise(times.unbind()):
            z, memory = self.step(view, z, t, s, noise, memory)
            yield z

    def _check_support(self, view: Model[Any], z: Tensor, done: int, steps: int) -> None:
        outside = count_outside(view.sde.support, z)
        if outside:
            raise LeftSupportError(
                f"{self.title()} left the support of the data: {outside} of {z.numel()} coordinates at step {done} of {steps}.",
                "Take more steps, or a sampler that preserves the support.",
            )
