"""Rows that a user gives to a trained model in a file: samples to judge, or where to start."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from sdezoo.data.formats import ReadableFormat
from sdezoo.data.validation import check_finite
from sdezoo.errors import DataError
from sdezoo.process.process import count_outside
from sdezoo.sampling.start import FromRows
from sdezoo.store.restoring import Trained
from sdezoo.zoo.composition import support_in_words
from sdezoo.zoo.formats import endings, find_format


def read_samples(path: Path, trained: Trained) -> Tensor:
    """Samples `(n, *event)` in the user's units from a file, as `sdezoo sample` writes it, in any format that is read back.

    Raises:
        DataError: where it cannot be read, has other columns or another shape than the run's data, or values that are not finite.
    """
    state, form = trained.state, find_format(path, ReadableFormat)
    if form is None:
        raise DataError(f"'{path}' has no ending that samples are read from.", f"Give one of {', '.join(endings(ReadableFormat))}.")
    x = form.read_samples(path, state.columns)
    if tuple(x.shape[1:]) != tuple(state.event):
        raise DataError(
            f"The samples in '{path}' have shape {tuple(x.shape)}.", f"Give rows of the shape of the run's data, {state.event}."
        )
    check_finite(x, state.columns, "given")
    return x


def start_at(path: Path, trained: Trained, time: float | None = None) -> FromRows:
    """A start from the rows of a file, sample `i` from row `i`.

    Args:
        path: the file, see `read_samples`.
        trained: the model.
        time: how far rows are noised, see `FromRows`; None: all the way.

    Raises:
        DataError: as `read_samples`, where there are none, or they lie outside the support of the process.
        ParameterError: for a time that the process does not have.
    """
    given = read_samples(path, trained)
    if not len(given):
        raise DataError(f"'{path}' holds no rows.", "Give a file with a row for each sample.")
    sde, x = trained.model.sde, trained.encoding.encode(given)
    outside = count_outside(sde.support, x)
    if outside:
        raise DataError(
            f"{outside} values in '{path}' lie outside {support_in_words(sde.support)}, where '{sde.title()}' lives.",
            "Give rows like those that the model was trained on.",
        )
    start = FromRows(x, time)
    start.begin(sde)
    return start
