"""What tasks on observed paths share: the coordinates of the data, and data that they refuse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.data.dataset import Data
from sdezoo.errors import DataError
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.training.task import Task


@dataclass(frozen=True)
class ObservedPaths(Task):
    """Base of tasks that learn an SDE from observed paths, without a process, a loss or a network of the registry."""

    uses_loss: ClassVar[bool] = False
    uses_network: ClassVar[bool] = False

    coordinates: Literal["identity", "exp"] = "identity"
    """exp: the SDE is that of `log x`, for positive paths, which stay positive."""

    def process(self) -> _Observed:
        return _Observed(self.coordinates)

    def check_data(self, data: Data) -> None:
        if data.kind != "paths":
            raise DataError(
                f"The task '{self.title()}' learns from paths, and these data are of kind '{data.kind}'.",
                "Store paths (N, T, d) as x in an .npz, and their times, (T,) or (N, T), as times.",
            )
        if data.event[0] < 2:
            raise DataError("The paths have one observation, and so no transition.", "Give paths of two observations or more.")
        wrong = sum(int((rows <= 0).sum()) for rows in (data.train, data.test))
        if self.coordinates == "exp" and wrong:
            raise DataError(
                f"{wrong} values of the paths are 0 or less, and have no logarithm.", "Leave out coordinates=exp, or leave out these paths."
            )

    def note_on(self, z: Tensor) -> str | None:
        """A remark on data whose coordinates are `z`, if any."""
        if self.coordinates == "identity" and bool((z > 0).all()):
            return f"All values are positive. If the quantity cannot be 0 or less, give --task {self.name}:coordinates=exp."
        return None


@dataclass(frozen=True)
class _Observed(Process):
    """Where observed paths live, before an SDE of them is known."""

    coordinates: Literal["identity", "exp"] = "identity"

    @property
    def support(self) -> Constraint:
        return constraints.positive if self.coordinates == "exp" else constraints.real

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """The coordinates of observations; `noise` is unused."""
        return x.log() if self.coordinates == "exp" else x

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return self.encode(x0)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return noise.normal(like, shape)


def increments(z: Tensor, names: Sequence[str]) -> Tensor:
    """Increments of paths over their root mean square, `(N (T − 1), d)`.

    Args:
        z: coordinates of the paths, `(N, T, d)`.
        names: names of the columns; may be empty.

    Raises:
        DataError: if a column never changes.
    """
    steps = z.diff(dim=1).flatten(0, 1)
    sizes = steps.square().mean(0).sqrt()
    for column in (sizes == 0).nonzero().flatten().tolist():
        name = f"'{names[column]}'" if names else str(column)
        raise DataError(f"The column {name} never changes within a path.", "Leave it out.")
    return steps / sizes
