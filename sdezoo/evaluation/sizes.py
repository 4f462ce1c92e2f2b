"""How many rows of each kind are compared, and which.

Samples are compared with rows that training has never seen. If a table has fewer than 20 of these, half of all its rows are compared
with as many samples, and the other half gives the floor. This compares distributions only: a model that has memorized its rows looks
perfect. Privacy is judged by the held-out rows in any case.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.evaluation.rows import choice, stream
from sdezoo.evaluation.suite import LEAST, check_sizes

_HELD, _TRAINING, _HALF = 0, 1, 4  # streams of the choices of rows

_NO_MORE = "Inspect samples instead, as `sdezoo sample` writes them."


class Sizes(NamedTuple):
    """How many rows are compared.

    Args:
        compared: number of rows of each kind.
        samples: number of samples for the privacy figures, at least `compared`.
        held_out: whether the rows compared are held-out ones.
    """

    compared: int
    samples: int
    held_out: bool

    @property
    def notes(self) -> list[str]:
        """Notes for the reader."""
        few = f"With fewer than {LEAST} held-out rows, samples are compared with rows that training has seen: a model that repeats them "
        return [] if self.held_out else [few + "looks good here, and only its privacy figures reveal it."]


def sizes(asked: int, *, training: int, held_out: int, image: bool) -> Sizes:
    """Return how many rows of each kind are compared.

    Args:
        asked: number of samples that the user asks for.
        training: number of training rows.
        held_out: number of held-out rows.
        image: whether the data are images.

    Raises:
        DataError: if there are too few rows.
    """
    check_sizes({"rows to compare": asked}, f"Take more samples, {LEAST} at least.")
    every = training + held_out
    if image or not held_out or min(training, held_out) >= LEAST:
        share = math.ceil(100 * LEAST / max(every, 1)) / 100
        more = f"Train with {LEAST} rows held out at least, such as by holdout={share:g} in --data."
        remedy = more if every >= 2 * LEAST else _NO_MORE
        check_sizes({"held-out rows": held_out, "training rows": training}, remedy)
        compared = min(asked, held_out, training)
        return Sizes(compared, compared if image else min(asked, max(training, compared)), held_out=True)
    check_sizes({"rows of data": every}, _NO_MORE)
    return Sizes(min(asked, every // 2), min(asked, every), held_out=False)


def compared_rows(training: Tensor, held_out: Tensor, found: Sizes, seed: int) -> tuple[Tensor, Tensor]:
    """Choose the rows that samples are compared with, and those of the floor.

    Args:
        training: all training rows, `(N, *event)`.
        held_out: all held-out rows, `(M, *event)`.
        found: the sizes.
        seed: random seed.

    Returns:
        The rows to compare with and the rows of the floor, `(n, *event)` each.
    """
    if found.held_out:
        held, floor = (part[choice(len(part), found.compared, seed, key)] for part, key in ((held_out, _HELD), (training, _TRAINING)))
        return held, floor
    every = torch.cat([held_out, training])
    order = stream(seed, _HALF).permutation(len(every))
    return every[order[: found.compared]], every[order[found.compared : 2 * found.compared]]
