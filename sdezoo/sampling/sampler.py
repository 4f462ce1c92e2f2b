"""Samplers: reverse the process from the prior to the data.

The base class owns the only sampling loop. A sampler implements one `step`, from time `t` to `s < t`. What a step returns
as memory is passed to the next step, so multistep methods need no loop of their own.

The step that ends at `s = 0` must add no noise. It must not evaluate the score at 0: no process defines one outside its
`t_span`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar, Generic, Self

import torch
from torch import Tensor
from typing_extensions import TypeVar

from sdezoo.errors import LeftSupportError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.parameters import Plugin
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import KeyedNoise, Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import P, Requirement
from sdezoo.sampling.folding import FOLDS
from sdezoo.sampling.grid import Spacing, check_grid, grid, grid_refuses
from sdezoo.sampling.start import PRIOR, Start

M = TypeVar("M", default=None)
"""Type of the memory that a sampler passes from one step to the next."""

Callback = Callable[[int, Tensor, Tensor], None]
"""Called after each step with the number of steps done, the state and its time."""


@dataclass(frozen=True)
class Sampler(Plugin, Requirement[P], ABC, Generic[P, M]):
    """Base class of samplers; subclasses implement `step`.

    `Sampler[P]` works on processes of class `P` and keeps no memory between steps. `Sampler[P, M]` keeps a memory of type `M`.
    """

    preserves_support: ClassVar[bool] = True
    """False if a step may leave the support of the data: every step is then checked, and sampling stops with an error if one does."""

    weak_order: ClassVar[float | None] = 1.0
    """Expectations have error `O(h^weak_order)` in the step size `h`; None: not claimed, since no reverse process is discretized."""
    strong_order: ClassVar[float | None] = None
    """Paths have mean error `O(h^strong_order)` for given noise, one normal number per entry and step; None: not claimed."""

    adaptive: ClassVar[bool] = False
    """True if the number of score evaluations depends on the state, not on `steps` alone: `evaluations` is then a lower bound."""

    _: KW_ONLY
    spacing: Spacing = "auto"
    """Spacing of the time grid, see `sdezoo.sampling.grid`; `auto`: karras for affine processes, else uniform."""

    @property
    def usual_steps(self) -> int:
        """Number of steps if the user gives none. Default: 20."""
        return 20

    def deciding(self) -> Self:
        """The variant that is used if the user names no sampler and values turn to one of two, as marks and categories do. Default: itself.

        Within few steps a row turns to one of them. A sampler that overshoots there draws them at another rate.
        """
        return self

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or grid_refuses(self.spacing, sde)

    def view(self, model: Model[P]) -> Model[Any]:
        """Return the model that the steps see; default: `model` itself.

        Args:
            model: the score model.

        Returns:
            A model whose process defines the state that `step` works on.
        """
        return model

    def grid(self, model: Model[Any], steps: int) -> Tensor:
        """Return the times of `steps` steps.

        Args:
            model: the score model, as returned by `view`.
            steps: number of steps, at least 1.

        Returns:
            Times, float64, `(steps + 1,)`, decreasing: `hi`, …, `lo`, 0.
        """
        return grid(model.sde, steps, self.spacing)

    def times(self, view: Model[Any], steps: int, start: Start) -> Tensor:
        """Return the times of the steps to take: those of `grid`, checked, cut to where `start` begins.

        Args:
            view: the score model, as returned by `view`.
            steps: number of steps in the full grid.
            start: where sampling starts.

        Returns:
            Times, float64, 1-D, decreasing to 0.

        Raises:
            ParameterError: if the grid does not go from `hi` through `lo` to 0, or the start lies outside it.
        """
        times = self.grid(view, steps)
        check_grid(times, view.sde)
        return start.times(times, view.sde)

    def evaluations(self, steps: int) -> int:
        """Return the number of score evaluations in `steps` steps; default: one per step."""
        return steps

    @abstractmethod
    def step(self, model: Model[P], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: M | None) -> tuple[Tensor, M | None]:
        """Take one step, from time `t` to `s < t`.

        Args:
            model: the score model, as returned by `view`.
            z: state at `t`, `(B, *state)`.
            t: time at the start of the step, float64, 0-dim.
            s: time at the end of the step, float64, 0-dim; 0 in the last step.
            noise: source of random numbers, keyed by sample.
            memory: what the previous step returned; None in the first step.

        Returns:
            The state at `s`, `(B, *state)`, and the memory for the next step.
        """

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
        """Draw samples.

        Args:
            model: the score model.
            shape: shape of the samples, `(B, *event)`.
            steps: number of steps; they cost `evaluations(steps)` score evaluations.
            seed: random seed; sample `i` depends on (seed, rows[i]) alone.
            first: index of the first sample in the whole run; unused if `rows` is given.
            rows: index of each sample in the whole run, `B` of them; default: `first`, `first + 1`, ….
            start: where sampling starts; default: the model's prior.
            like: gives dtype (float32 or float64) and device; default: float32 on the CPU.
            callback: called after every step with the number of steps done, the state and its time.

        Returns:
            Samples, `(B, *event)`.

        Raises:
            CompositionError: if the sampler does not support the model's process.
            ParameterError: if fewer than one sample or step is asked for, `rows` does not hold one index per sample, or `start` has no row
                for a sample.
            SupportError: if a state leaves the support or cannot be decoded.
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
        """Yield the state after each step."""
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
