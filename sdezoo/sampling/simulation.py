"""Simulation: samples of a model of paths are paths of its SDE, forward in time.

Every path starts at a first state that the model draws, or at a given row, and takes the steps of the learned SDE
(`SteppingProcess.transition`) from one time of observation to the next. States are float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from sdezoo.errors import CompositionError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.learning.paths.simulated import SimulatedModel, SteppingProcess
from sdezoo.process.noise import KeyedNoise, Noise
from sdezoo.sampling.sampler import Callback, Sampler
from sdezoo.sampling.start import PRIOR, Start


@dataclass(frozen=True)
class Simulation(Sampler[SteppingProcess]):
    """Simulate a learned SDE forward; `steps` are those between two observations."""

    name: ClassVar[str] = "simulation"
    weak_order: ClassVar[float | None] = None

    substeps: int = 1
    """Number of steps between two observations, if the user gives none."""

    @property
    def usual_steps(self) -> int:
        return self.substeps

    def times(self, view: Model[Any], steps: int, start: Start) -> Tensor:
        """Return the times of all steps, increasing from 0, float64, `((T − 1) steps + 1,)`."""
        assert isinstance(view, SimulatedModel)
        return _refined((view.times - view.times[0]).cpu(), steps)

    def evaluations(self, steps: int) -> int:
        return steps

    def step(self, model: Model[SteppingProcess], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        """Take one step forward, from `t` to `s > t`; otherwise as `Sampler.step`."""
        return model.sde.transition(z, t, s, noise), None

    def sample(
        self,
        model: Model[SteppingProcess],
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
        """Draw paths `(B, T, d)`, float64, in the user's units; arguments as for `Sampler.sample`.

        Raises:
            CompositionError: if the model has learned no SDE.
            ParameterError: if there are no steps, or `start` has no row for a path.
            SupportError: if a path does not stay finite.
        """
        if not isinstance(model, SimulatedModel):
            raise CompositionError("Only a model of paths is simulated forward in time.", "Choose a sampler, such as heun.")
        if steps < 1:
            raise ParameterError(f"{self.title()}: {steps} steps is too few.", "Give at least 1.")
        rows = range(first, first + shape[0]) if rows is None else rows
        noise = KeyedNoise(seed, rows)
        like = (torch.empty(()) if like is None else like).double()
        with torch.no_grad():
            z = (start or PRIOR).states(model, shape, rows, noise, like)
            return model.sde.decode(simulated(model.sde, z, (model.times - model.times[0]).cpu(), steps, noise, callback))


def simulated(sde: SteppingProcess, z: Tensor, times: Tensor, steps: int, noise: Noise, callback: Callback | None = None) -> Tensor:
    """Simulate paths from given states, by the scheme of the SDE.

    Args:
        sde: the SDE.
        z: coordinates at the first time, `(B, d)`.
        times: increasing times of the SDE, float64 on the CPU, `(T,)`, or those of each path, `(B, T)`.
        steps: number of steps from one time to the next.
        noise: random numbers.
        callback: called after every step.

    Returns:
        Coordinates at all times, `(B, T, d)`.
    """
    found, fine = [z], _refined(times, steps)
    fine = fine[..., None].to(z.device) if fine.ndim == 2 else fine
    for k, (t, s) in enumerate(pairwise(fine.unbind(times.ndim - 1)), start=1):
        z = sde.transition(z, t, s, noise)
        if k % steps == 0:
            found.append(z)
        if callback:
            callback(k, z, s)
    return torch.stack(found, 1)


def _refined(times: Tensor, steps: int) -> Tensor:
    """The times of all steps, `(…, (T − 1) steps + 1)`, where `steps` steps lead from one time to the next."""
    shares = torch.arange(steps, dtype=torch.float64) / steps
    inner = times[..., :-1, None] + times.diff(dim=-1)[..., None] * shares
    return torch.cat([inner.flatten(-2), times[..., -1:]], -1)
