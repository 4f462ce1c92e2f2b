"""Fill the missing values of rows with draws from a model, given the other values of the row."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdezoo.errors import DataError
from sdezoo.generation.given import STEPS, Given, column_names
from sdezoo.generation.samples import Draw, SampleIndices, SamplingProgress, choose_sampler
from sdezoo.runs.between.arrays import read_like
from sdezoo.runs.between.drawing import number_of
from sdezoo.runs.frames import Rows, fill_holes, make_frame
from sdezoo.store.restoring import Trained


class Filled(NamedTuple):
    """Rows without missing values.

    Args:
        rows: `(draws, N, d)`, float32, codes of the model; what was not missing is as before.
        given: the rows with holes.
        effective: smallest effective number of particles of each draw of an incomplete row.
    """

    rows: Tensor
    given: Given
    effective: tuple[float, ...]


def fill_rows(
    x: Tensor,
    trained: Trained,
    draws: int,
    seed: int,
    *,
    sampler: str | None = None,
    steps: int = STEPS,
    batch_size: int | None = None,
    device: torch.device | None = None,
    progress: SamplingProgress | None = None,
) -> Filled:
    """Draw values for what is missing. Draw `k` of row `i` depends on (seed, `k`, `i`, its other values) alone.

    Args:
        x: rows `(N, d)`, float32, codes of the model, NaN where a value is missing.
        trained: the model, on `device`.
        draws: number of draws of each row.
        seed: the seed.
        sampler: spec string of the sampler for unconditional samples; None: the preferred one that fits.
        steps: steps of the particle filter.
        batch_size: rows in a batch; affects memory and speed only.
        device: device of the model; None: CPU.
        progress: called after every step.

    Raises:
        SdezooError: if nothing is missing, a value is infinite or outside the support, or the process is not affine.
    """
    if infinite := int(x.isinf().sum()):
        raise DataError(f"{infinite} of the values are infinite.", "Give finite numbers, or leave them missing.")
    given = Given.cells(x)
    if not given.incomplete:
        raise DataError("There are no missing cells.", "Leave the cells to fill empty: NaN or null.")
    indices = SampleIndices(tuple(_ranges([k * len(x) + i for k in range(draws) for i in given.incomplete])))
    draw = Draw(trained, choose_sampler(trained, sampler), indices, steps, seed, batch_size, device, given=given)
    draw.conditional.check()
    rows = x.repeat(draws, 1)
    rows[list(indices)] = draw.together(progress=progress).x
    return Filled(rows.unflatten(0, (draws, len(x))), given, tuple(draw.conditional.effective))


def impute_like(given: Any, draws: int, seed: int, rows: Rows, trained: Trained, sampler: str | None, who: str) -> list[Any]:
    """Fill the missing values of arrays and data frames.

    Args:
        given: rows `(N, d)` of the form that was fitted.
        draws: number of draws of each row.
        seed: the seed.
        rows: the rows that the model was fitted on; their values are not used.
        trained: the model.
        sampler: spec string of the sampler for unconditional samples; None: the preferred one that fits.
        who: what expects the rows, for messages.

    Returns:
        The rows with all values, for each draw.

    Raises:
        SdezooError: as for `fill_rows`, or if the rows do not fit the model.
    """
    column_names(trained)  # refuses what is no table
    filled = fill_rows(read_like(given, rows, trained, who), trained, number_of(draws, "draws"), seed, sampler=sampler)
    names = trained.state.columns
    made = (make_frame(rows, names, part, trained.encoding) if names else part.numpy() for part in filled.rows)
    return [fill_holes(given, one) for one in made]


def _ranges(indices: Sequence[int]) -> list[range]:
    """Join increasing indices to ranges."""
    found = []
    for _, part in groupby(enumerate(indices), key=lambda pair: pair[1] - pair[0]):
        members = [index for _, index in part]
        found.append(range(members[0], members[-1] + 1))
    return found
