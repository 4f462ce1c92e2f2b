"""The SDE that a run of the task `paths` has learned, `dz = f_θ(z, t) dt + G_θ(z, t) dW` in `z = x` or `z = log x`.

Drift and diffusion are those of a checkpoint, with averaged weights, see `sdezoo.learning.paths.observed`. They must not depend on time.
Time has the unit of the observations, and runs to any horizon. A step is that of the scheme by which the run was fitted. The prior is
normal, with mean and deviations of all observations: a summary, since the SDE need not forget where it started.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from sdezoo.errors import CompositionError
from sdezoo.learning.paths.observed import LearnedSDE, PathCoefficients
from sdezoo.store.restoring import restore


@dataclass(frozen=True)
class Fitted(LearnedSDE):
    """The SDE that was fitted to observed paths, from a checkpoint of a run: fitted:run=FOLDER."""

    run: str
    """Folder of the run, trained by `sdezoo train --task paths`."""
    checkpoint: str = "newest"
    """Step of the checkpoint, or newest or best, which are replaced by the step: the object names its checkpoint."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "checkpoint", str(self._restored[1]))

    @property
    def learned(self) -> PathCoefficients:
        return self._restored[0]

    @cached_property
    def _restored(self) -> tuple[PathCoefficients, int]:
        trained = restore(Path(self.run), self.checkpoint)
        sde = trained.model.sde
        if not isinstance(sde, LearnedSDE):
            raise CompositionError(
                f"The run '{self.run}' has learned no SDE of its data alone.", "Give a run of sdezoo train --task paths."
            )
        if not sde.homogeneous:
            raise CompositionError(
                f"Drift and diffusion of the run '{self.run}' depend on time, and so hold for its times alone.",
                "Draw its paths by sdezoo sample, or train it with autonomous=true.",
            )
        return sde.learned, trained.state.step
