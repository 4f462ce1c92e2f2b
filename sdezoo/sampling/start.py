"""Where sampling starts: the prior, or rows that a user gives.

From rows, a sample is its own row, seen again through noise: the row is noised to a time `t` by the process, and time is reversed from
there (Meng et al., arXiv 2108.01073, SDEdit). At `t = hi` little of the row is left, towards `t = lo` all of it. A process that runs
between two distributions, such as a bridge, starts from the row as it is: what becomes of a row is the process's to say
(`Process.start_from`).

Sample `i` starts at row `i`, with noise of its own key, and so depends on (seed, `i`, row `i`) alone.
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
    """Where sampling starts. Abstract: `states`."""

    @property
    def rows(self) -> int | None:
        """How many samples can start, with indices from 0; None: any number."""
        return None

    @property
    def fingerprint(self) -> str | None:
        """SHA-256 in hexadecimal of the data that samples depend on, and of how; None where there are none."""
        return None

    @abstractmethod
    def states(self, model: Model[Any], shape: Sequence[int], indices: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """The first states.

        Args:
            model: as the sampler sees it.
            shape: of the data, `(B, *event)`.
            indices: of the samples, `B` of them.
            noise: keyed by the samples' indices.
            like: gives dtype and device.

        Returns:
            States at the first of `times`, `(B, *state)`.
        """

    def times(self, grid: Tensor, sde: Process) -> Tensor:
        """The times of the steps, from those of the sampler's `grid`; default: all of them, from `hi` on."""
        return grid


@dataclass(frozen=True)
class FromPrior(Start):
    """What the model's prior draws: the Gaussian that was fitted to the data, or the process's own prior."""

    def states(self, model: Model[Any], shape: Sequence[int], indices: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return model.prior(shape, noise, like)


PRIOR = FromPrior()


@dataclass(frozen=True, eq=False)
class AtRows(Start):
    """Data that are taken, encoded, for the states at `t = hi`.

    Args:
        x: `(N, *event)`, in the domain of the process; sample `i` starts at row `i`.
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
        """The rows of the samples with these indices, `(B, *event)`, with dtype and device of `like`.

        Raises:
            ParameterError: where there is no such row.
        """
        check_rows(self, indices)
        return self.x[torch.as_tensor(list(indices))].to(like)


@dataclass(frozen=True, eq=False)
class FromRows(AtRows):
    """Data from which the process starts: noised to `time`, or as they are where it runs between two distributions.

    Args:
        x: as for `AtRows`.
        time: where the steps begin, above `lo` and at most `hi` of the process's `t_span`; None: `hi`. Steps of the grid above it are left
            out.
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
        """The time of the first state, float64, 0-dim.

        Raises:
            ParameterError: where the process has no such time.
        """
        lo, hi = sde.t_span
        time = hi if self.time is None else self.time
        if not lo < time <= hi:
            raise ParameterError(
                f"'{sde.title()}' has no state to start from at t = {time:g}.", f"Give a time above {lo:g}, and at most {hi:g}."
            )
        return torch.tensor(time, dtype=torch.float64)


def check_rows(start: Start, indices: Sequence[int]) -> None:
    """Refuse samples that have no row to start from.

    Raises:
        ParameterError: with the number of rows.
    """
    if start.rows is not None and max(indices) >= start.rows:
        raise ParameterError(
            f"Sample {max(indices)} has no row to start from: there are {start.rows} rows, from 0 on.", "Give fewer samples, or more rows."
        )
