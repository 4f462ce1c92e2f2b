"""Data distributions on which a process is verified: score, density and quantiles are known at every time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import FLAT, event_at, smallest_event, typical
from sdezoo.conformance.bank.problems import Atoms, Mixture, gaussian
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process, Supervised

CENTRES, DEVIATIONS, WEIGHTS = (-0.8, 0.9), (0.35, 0.45), (0.6, 0.4)
"""Two normal components in coordinates; the mixture has mean −0.12 and standard deviation 0.92."""
POINTS = (-0.7, 0.6)
"""Two data points, as the normal numbers that `typical` maps to them."""


def entries(sde: AffineSDE) -> int:
    """Number of entries of the smallest state."""
    return sde.state_shape((1, *smallest_event(sde)))[-1]


def normal(sde: AffineSDE, mean: float, deviation: float) -> Mixture:
    """Independent normal coordinates, one for each entry of the smallest state.

    Args:
        sde: The process.
        mean: Of each coordinate.
        deviation: Standard deviation of each coordinate.
    """
    size = entries(sde)
    return gaussian(sde, [mean] * size, [deviation] * size)


def humps(sde: AffineSDE) -> Mixture:
    """A mixture of two normal components in coordinates, the same along every entry of the smallest state."""
    column = torch.ones(1, entries(sde), dtype=torch.float64)
    return Mixture(sde, torch.tensor(CENTRES)[:, None] * column, torch.tensor(DEVIATIONS)[:, None] * column, torch.tensor(WEIGHTS))


def points(sde: Supervised) -> Atoms:
    """Two points in the support; a single point if the process offers no transition density, which the score of two needs."""
    event = smallest_event(sde)
    # Shares of equal numbers are equal whatever the numbers are, so entries differ.
    wave = 1 + 0.3 * torch.arange(int(torch.Size(event).numel()), dtype=torch.float64)
    a = typical(sde, (torch.tensor(POINTS, dtype=torch.float64)[:, None] * wave).reshape(-1, *event))
    return Atoms(sde, a if sde.knows_density else a[:1])


def model_of(sde: Process) -> Mixture | Atoms | None:
    """`humps` for an affine process, `points` for any other `Supervised` one, else None."""
    if isinstance(sde, AffineSDE):
        return humps(sde)
    return points(sde) if isinstance(sde, Supervised) else None


REACHES = (1.5, 2.5)
"""How widely data are spread to which processes that go back without a score adapt, in the normal numbers of `typical`."""


def named(sde: Any, rows: int) -> list[tuple[Any, Tensor, Tensor]]:
    """For data of each spread: the process adapted to them, the data, and zeros of the shape of data like these; none if it names none.

    Args:
        sde: A process that goes back in time given its denoiser.
        rows: Number of rows of the zeros.
    """
    found = []
    for reach in REACHES:
        like = torch.zeros(rows, *event_at(sde, FLAT), dtype=torch.float64)
        grid = torch.linspace(-reach, reach, 64, dtype=torch.float64).reshape(64, *(1,) * (like.ndim - 1)).expand(64, *like.shape[1:])
        data = typical(sde, grid)
        kind = sde.adapted(data)
        if kind.exact_data(like.shape, Noise.seeded(0), like) is not None:
            found.append((kind, data, like))
    return found
