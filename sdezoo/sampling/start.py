"""Where sampling starts: the prior, or rows that the user gives.

Started from rows, a sample is a noised and denoised copy of its own row: the process noises the row to a time `t`, and time is
reversed from there (Meng et al., arXiv 2108.01073, SDEdit). At `t = hi` little of the row is left, towards `t = lo` all of it. A
process that runs between two distributions, such as a bridge, starts from the row as it is. The process decides how to use a row
(`Process.start_from`).

Sample `i` starts at row `i`, with noise from its own key, and so depends on (seed, `i`, row `i`) alone.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdezoo.errors import ParameterError
from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process


class Start(ABC):
    """Base class of starting points; subclasses implement `states`."""

    @property
    def rows(self) -> int | None:
        """Number of samples that can start, with indices from 0; None: any number."""
        return None

    @property
    def fingerprint(self) -> str | None:
        """SHA-256, in hexadecimal, of the data that samples depend on and of how they depend on it; None if there are no such data."""
        return None

    @abstractmethod
    def states(self, model: Model[Any], shape: Sequence[int], indices: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Return the first states.

        Args:
            model: the score model, as the sampler sees it.
            shape: shape of the samples, `(B, *event)`.
            indices: indices of the samples, `B` of them.
            noise: source of random numbers, keyed by the samples' indices.
            like: gives dtype and device.

        Returns:
            States at the first of `times`, `(B, *state)`.
        """

    def times(self, grid: Tensor, sde: Process) -> Tensor:
        """Return the times of the steps to take; default: the whole grid, from `hi` on.

        Args:
            grid: times of the sampler's grid, float64, `(N + 1,)`, decreasing.
            sde: the process of the states.

        Returns:
            Times, float64, 1-D, decreasing to 0.
        """
        return grid


@dataclass(frozen=True)
class FromPrior(Start):
    """Start from the model's prior: the Gaussian fitted to the data, or the process's own prior."""

    def states(self, model: Model[Any], shape: Sequence[int], indices: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return model.prior(shape, noise, like)


PRIOR = FromPrior()


@dataclass(frozen=True, eq=False)
class AtRows(Start):
    """Start at `t = hi` from given rows, encoded but not noised.

    Args:
        x: rows, `(N, *event)`, in the domain of the process; sample `i` starts at row `i`.
    """

    x: Tensor

    @property
    def rows(self) -> int:
        return len(self.x)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self._told()} {self.x.dtype} {tuple(self.x.shape)}".encode())
        digest.update(self.x.detach().cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def _told(self) -> str:
        return type(self).__name__

    def states(self, model: Model[Any], shape: Sequence[int], indices: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return model.sde.encode(self.chosen(indices, like), noise)

    def chosen(self, indices: Sequence[int], like: Tensor) -> Tensor:
        """Return the rows of some samples.

        Args:
            indices: indices of the samples, `B` of them.
            like: gives dtype and device.

        Returns:
            Rows, `(B, *event)`.

        Raises:
            ParameterError: if there is no row for an index.
        """
        check_rows(self, indices)
        return self.x[torch.as_tensor(list(indices))].to(like)


@dataclass(frozen=True, eq=False)
class FromRows(AtRows):
    """Start from given rows, noised to `time`; a process between two distributions takes them as they are.

    Args:
        x: rows, `(N, *event)`, in the domain of the process; sample `i` starts at row `i`.
        time: where the steps begin, above `lo` and at most `hi` of the process's `t_span`; None: `hi`. Steps of the grid above it are
            left out.
    """

    time: float | None = None

    def _told(self) -> str:
        return f"{type(self).__name__} {self.time}"

    def states(self, model: Model[Any], shape: Sequence[int], indices: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return model.sde.start_from(self.chosen(indices, like), self.begin(model.sde), noise)

    def times(self, grid: Tensor, sde: Process) -> Tensor:
        if self.time is None:
            return grid
        t = self.begin(sde)
        return torch.cat([t[None], grid[grid < t]])

    def begin(self, sde: Process) -> Tensor:
        """Return the time of the first state, float64, 0-dim.

        Raises:
            ParameterError: if `time` is outside the process's `t_span`.
        """
        lo, hi = sde.t_span
        time = hi if self.time is None else self.time
        if not lo < time <= hi:
            raise ParameterError(
                f"'{sde.title()}' has no state to start from at t = {time:g}.", f"Give a time above {lo:g}, and at most {hi:g}."
            )
        return torch.tensor(time, dtype=torch.float64)


def check_rows(start: Start, indices: Sequence[int]) -> None:
    """Check that every sample has a row to start from.

    Args:
        start: where sampling starts.
        indices: indices of the samples.

    Raises:
        ParameterError: if an index has no row; the message gives the number of rows.
    """
    if start.rows is not None and max(indices) >= start.rows:
        raise ParameterError(
            f"Sample {max(indices)} has no row to start from: there are {start.rows} rows, from 0 on.", "Give fewer samples, or more rows."
        )
