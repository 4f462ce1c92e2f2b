"""Samples of series that continue given beginnings, or start at given values."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.forecast import ForecastModel, beginnings
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.columns import count_outside
from sdezoo.store.restoring import Trained
from sdezoo.zoo.composition import support_in_words


@dataclass(frozen=True, eq=False)
class Beginnings:
    """What is given of series: sample `i` continues window `i` modulo `M`.

    Args:
        observed: windows `(M, T, d)`, float32, in the user's units, NaN where they are unknown; the first `steps` are known.
        encoded: the given steps in the domain of the process, `(M, steps or steps − 1, d)`.
        steps: number of given steps; 0: only the values that the windows start at.
        relative: whether the model's windows start at 1.
    """

    observed: Tensor
    encoded: Tensor
    steps: int
    relative: bool

    @classmethod
    def of(cls, windows: Tensor, steps: int, trained: Trained) -> Beginnings:
        """Build from windows in the user's units.

        Args:
            windows: `(M, length, d)`, float32; `length` is between `steps` and that of the model's windows.
            steps: number of given steps.
            trained: the model.

        Raises:
            CompositionError: if the model does not continue series.
            ParameterError: if there are no steps left to draw, or none given.
            DataError: if the windows are too short or too long, or have values that the process cannot have.
        """
        length, columns = _shape(trained)
        if not isinstance(trained.model, ForecastModel):
            raise CompositionError(
                "This model does not continue series.", "Train one of series without --condition, with a process such as gbm or vp."
            )
        if not 1 <= steps < length:
            raise ParameterError(
                f"given_first={steps} does not leave a beginning and a rest of {length} steps.", f"Give 1 to {length - 1} steps."
            )
        if windows.ndim != 3 or not len(windows) or windows.shape[2] != columns or not steps <= windows.shape[1] <= length:
            raise DataError(
                f"The windows have shape {tuple(windows.shape)}.",
                f"Give {steps} to {length} steps of {columns} columns: (windows, steps, d).",
            )
        known = windows[:, :steps]
        if not known.isfinite().all():
            raise DataError("The given steps have missing or infinite values.", "Fill them in.")
        relative = trained.encoding.starts_at_one
        if relative and not (known > 0).all():
            raise DataError(
                f"{int((known <= 0).sum())} given values are zero or negative, and have no growth.", "Give series like those of the run."
            )
        encoded = trained.encoding.encode(known / known[:, :1] if relative else known)
        sde = trained.model.sde
        if outside := count_outside(sde.support, encoded):
            raise DataError(
                f"{outside} given values lie outside {support_in_words(sde.support)}, the support of '{sde.title()}'.",
                "Give series like those of the run.",
            )
        observed = torch.full((len(windows), length, columns), torch.nan)
        observed[:, : windows.shape[1]] = windows
        return cls(observed, encoded, steps, relative)

    @classmethod
    def starting(cls, values: Sequence[float], trained: Trained) -> Beginnings:
        """Build from the values at which samples start.

        Args:
            values: one for each column, positive, or one for all.
            trained: the model.

        Raises:
            CompositionError: if the model's series do not start at 1.
            ParameterError: if a value is not positive, or their number is wrong.
        """
        length, columns = _shape(trained)
        if not trained.encoding.starts_at_one:
            raise CompositionError("The series of this model do not start at 1.", "Leave out --start-value.")
        if len(values) not in (1, columns) or not all(0 < value < torch.inf for value in values):
            raise ParameterError(
                f"start_value={','.join(f'{value:g}' for value in values)} is not a positive number for each of {columns} columns.",
                "Give one number, or one for each column, separated by commas.",
            )
        observed = torch.full((1, length, columns), torch.nan)
        observed[:, 0] = torch.tensor(values, dtype=torch.float32)
        return cls(observed, torch.empty(1, 0, columns), 0, True)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what is given."""
        known = self.observed[:, : max(self.steps, 1)]
        return hashlib.sha256(str((tuple(known.shape), self.steps)).encode() + known.contiguous().numpy().tobytes()).hexdigest()

    def continued(self, model: ForecastModel, rows: Sequence[int], steps: int) -> Model[AffineSDE]:
        """The model of the series given their beginnings.

        Args:
            model: the model.
            rows: indices of the samples.
            steps: number of encoded steps of a series.
        """
        known = self.encoded.shape[1]
        if not known:
            return model
        at = torch.tensor([row % len(self.encoded) for row in rows])
        x = self.encoded[at][:, [*range(known), *[known - 1] * (steps - known)]]  # any values in the support where nothing is given
        z = model.sde.encode(x)
        return model.condition_on(beginnings(z, torch.full((len(rows),), known)).to(model.mean.device))

    def restored(self, x: Tensor, rows: Sequence[int]) -> Tensor:
        """Put windows at their level, and the given values in their places.

        Args:
            x: final rows `(n, T, d)`.
            rows: indices of the samples, `n` of them.
        """
        observed = self.observed[torch.tensor([row % len(self.observed) for row in rows])]
        found = x * observed[:, :1] if self.relative else x.clone()
        found[:, : self.steps] = observed[:, : self.steps]
        return found


def _shape(trained: Trained) -> tuple[int, int]:
    if trained.state.kind != "series":
        raise CompositionError(
            f"This model is of {trained.state.kind} data, not of series.",
            "Train one of series: of the dataset series, or of arrays (N, T, d).",
        )
    steps, columns = trained.state.event
    return steps, columns
