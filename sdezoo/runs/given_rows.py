"""Read rows for a trained model: its data, samples to evaluate, or initial rows for sampling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sdezoo.data.conversion import recoded
from sdezoo.data.dataset import Data
from sdezoo.data.formats import SERIES, STEP, ArrayFormat, ReadableFormat, TableFormat
from sdezoo.data.opening.dialect import Dialect
from sdezoo.data.reading import reading
from sdezoo.data.validation import check_finite
from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.paths.simulated import SimulatedModel, is_simulated
from sdezoo.process.columns import count_outside
from sdezoo.sampling.start import AtRows, FromRows
from sdezoo.store.provenance import fingerprint
from sdezoo.store.restoring import Trained
from sdezoo.training.config import TrainingConfig
from sdezoo.training.planning import load_data
from sdezoo.zoo.column_options import ColumnOptions
from sdezoo.zoo.column_roles import prepared
from sdezoo.zoo.composition import support_in_words
from sdezoo.zoo.formats import endings, find_format


def as_trained(data: Data, trained: Trained, config: TrainingConfig) -> Data:
    """Prepare data for a trained model: without the columns and rows that training left out, in the codes of the model.

    Args:
        data: the data as read.
        trained: the model.
        config: the settings of its run.

    Raises:
        DataError: if the data are invalid, or a column has values that the data of the run could not have.
    """
    data = prepared(data, ColumnOptions.parse(config.column), config.missing)
    types = trained.encoding.types
    if data.kind != "table" or data.types == types or len(types or data.types) != data.event[-1]:
        return data
    code = partial(recoded, own=data.types, types=types, names=data.columns)
    later = tuple(replace(at, train=code(at.train), test=code(at.test)) for at in data.later)
    return replace(data, train=code(data.train), test=code(data.test), later=later, types=types)


def training_data(run: Path, trained: Trained) -> Data:
    """Read the data that a run was trained on, of a bridge those of both ends. All commands that use the data of a run read them here.

    Args:
        run: the run folder.
        trained: its model.

    Raises:
        DataError: if they are no longer those of the run.
        PluginError: if they were in memory, or cannot be found.
    """
    config = TrainingConfig.of_run(run)
    data = as_trained(load_data(config), trained, config)
    if trained.state.data is not None and fingerprint(data, trained.encoding) != trained.state.data:
        raise DataError(f"The data '{config.data}' are not those that the run was trained on.", "Restore them.")
    return data


def read_samples(path: Path, trained: Trained) -> Tensor:
    """Read samples from a file in any readable format, as `sdezoo sample` writes it.

    Args:
        path: the file.
        trained: the model; the rows must have the shape and columns of its data.

    Returns:
        Rows `(n, *event)`, float32, in the user's units; series that are learned relative to their start are divided by it.

    Raises:
        DataError: if the file cannot be read, its shape or columns differ from the run's data, or a value is not finite.
    """
    state, form = trained.state, _format(path, "samples")
    if state.kind == "series" and isinstance(form, TableFormat):
        x = _long_table(path, form, state.columns)
    elif isinstance(form, TableFormat):
        x = _table(path, form, trained)
    else:
        x = form.read_samples(path, state.columns, trained.encoding.types)
    if tuple(x.shape[1:]) != tuple(state.event):
        raise DataError(
            f"The samples in '{path}' have shape {tuple(x.shape)}.", f"Give rows of the shape of the run's data, {state.event}."
        )
    gaps = trained.encoding.missing if state.kind == "table" else []
    seen = x.clone()
    seen[:, gaps] = seen[:, gaps].nan_to_num(0, torch.inf, -torch.inf)
    check_finite(seen if gaps else x, state.columns, "given")
    if not trained.encoding.starts_at_one:
        return x
    if not (x > 0).all():
        raise DataError(
            f"{int((x <= 0).sum())} values in '{path}' are zero or negative, and have no growth.", "Give series like those of the run."
        )
    return x / x[:, :1]


def _table(path: Path, form: TableFormat, trained: Trained) -> Tensor:
    columns, types, style = trained.state.columns, trained.encoding.types, trained.state.style
    if style is None:
        return form.read_samples(path, columns, types)
    marks = Dialect(missing=style.marks)
    try:
        return form.read_cells(path, columns, types, marks).x
    except DataError:
        # A text that can be read in two ways is written as the data were.
        with suppress(DataError):
            return form.read_cells(path, columns, types, replace(marks, separator=style.separator, decimal=style.decimal)).x
        raise


def _format(path: Path, what: str) -> ReadableFormat:
    """The format that reads a file; `what` it is to hold, for the message."""
    form = find_format(path, ReadableFormat)
    if form is None:
        raise DataError(f"No installed format can read {what} from '{path}'.", f"Give one of {', '.join(endings(ReadableFormat))}.")
    return form


def read_observed(path: Path) -> dict[str, Tensor]:
    """Read what was observed of samples, for the guides that take it.

    Args:
        path: an array file of numbers, see `observation`.

    Returns:
        Arrays by name, float32; the only one of a `.npy` is `x`.

    Raises:
        DataError: if the file cannot be read, or as for `observation`.
    """
    form = find_format(path, ArrayFormat)
    if form is None:
        raise DataError(f"No installed format can read arrays from '{path}'.", f"Give one of {', '.join(endings(ArrayFormat))}.")
    with reading(path, "an observation", TypeError):
        found = form.read(path, lambda names: names)
    return observation(found, f"'{path}'")


def observation(found: Mapping[str, np.ndarray], source: str) -> dict[str, Tensor]:
    """Convert what was observed of samples, for the guides that take it.

    Args:
        found: arrays of numbers by name. With an array `mask`, the entries of `x` where it is 0 become NaN, which stands for unknown.
        source: what holds them, for messages.

    Returns:
        Arrays by name, float32.

    Raises:
        DataError: if one holds no numbers, or `mask` has another shape than `x`.
    """
    if not_numbers := [name for name, array in found.items() if array.dtype.kind not in "fiub"]:
        raise DataError(f"The array {not_numbers[0]} in {source} holds no numbers.", "Store numbers; NaN stands for an unknown one.")
    observed = {name: torch.from_numpy(array.astype(np.float32)) for name, array in found.items()}
    mask = observed.pop("mask", None)
    if mask is None or "x" not in observed:
        return observed
    x = observed["x"]
    try:
        return observed | {"x": torch.where(mask.expand(x.shape) != 0, x, torch.nan)}
    except RuntimeError:
        shapes = f"{tuple(mask.shape)}, and x {tuple(x.shape)}"
        raise DataError(f"In {source}, mask has the shape {shapes}.", "Give both the same shape.") from None


def read_windows(path: Path, trained: Trained) -> Tensor:
    """Read windows of series: an array `x` `(M, length, d)`, or a table with a row for each step, and a column `series` if several.

    Args:
        path: the file.
        trained: the model.

    Returns:
        Windows `(M, length, d)`, float32, in the user's units, NaN after the end of a shorter one.

    Raises:
        DataError: if the file cannot be read, or lacks a column.
    """
    form = _format(path, "series")
    if isinstance(form, TableFormat):
        return _long_table(path, form, trained.state.columns)
    return form.read_samples(path, trained.state.columns, ())


def _long_table(path: Path, form: TableFormat, columns: Sequence[str]) -> Tensor:
    """Series of a table with a row for each step, `(M, T, d)`, NaN after the end of a shorter one."""
    cells = form.read_cells(path, columns, (), Dialect())
    if SERIES not in cells.names:
        return cells.x[None]
    keys = form.read_cells(path, [SERIES, *([STEP] if STEP in cells.names else [])], (), Dialect()).x
    parts = []
    for key in keys[:, 0].unique():
        rows = keys[:, 0] == key
        if keys.shape[1] > 1 and (keys[rows, 1].diff() <= 0).any():
            raise DataError(f"The steps of series {key:g} in '{path}' do not increase.", "Sort its rows by step.")
        parts.append(cells.x[rows])
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=torch.nan)


def snapshot_rows(run: Path, trained: Trained) -> list[Tensor]:
    """Read the snapshots of the data that a bridge was trained on, in the codes of the model.

    Args:
        run: the run folder of a direction.
        trained: its model.

    Returns:
        The rows of each snapshot `(N, *event)`, float32, in the user's units: training rows, then held-out ones.

    Raises:
        SdezooError: if the data cannot be read, or are no longer those of the run.
    """
    return [torch.cat([at.train, at.test]) for at in training_data(run, trained).snapshots]


def start_at_end(snapshots: Sequence[Tensor], trained: Trained) -> FromRows:
    """Build a start from the data at the end of a bridge where sampling begins.

    Args:
        snapshots: the rows of each snapshot, see `snapshot_rows`.
        trained: the model of a direction.
    """
    rows = snapshots[0] if trained.model.sde.forward else snapshots[-1]
    return FromRows(trained.encoding.encode(rows))


def start_at(path: Path, trained: Trained, time: float | None = None) -> AtRows:
    """Build a start from the rows of a file; sample `i` starts from row `i`, noised if the process adds noise.

    Args:
        path: the file, see `read_samples`.
        trained: the model.
        time: process time up to which rows are noised, see `FromRows`; None: the final time.

    Raises:
        DataError: as for `read_samples`, or if the file has no rows, or values outside the support of the process. For a model of paths,
            rows are `(n, d)`, or paths, of which the first observations count.
        ParameterError: if the process has no such time.
    """
    if is_simulated(trained.model):
        return _first_observations(path, trained, time)
    return start_of(read_samples(path, trained), trained, f"'{path}'", time)


def start_of(given: Tensor, trained: Trained, source: str, time: float | None = None) -> AtRows:
    """Build a start from rows; sample `i` starts from row `i`, as for `start_at`.

    Args:
        given: rows `(n, *event)`, float32, in the user's units and the codes of the model; `(n, d)` for a model of paths.
        trained: the model.
        source: what holds the rows, for messages.
        time: process time up to which rows are noised, see `FromRows`; None: the final time.

    Raises:
        SdezooError: as for `start_at`.
    """
    if not len(given):
        raise DataError(f"{source} holds no rows.", "Give a row for each sample.")
    simulated = is_simulated(trained.model)
    check_finite(given, trained.state.columns, "given", missing=trained.state.kind == "table" and bool(trained.encoding.missing))
    sde, x = trained.model.sde, given if simulated else trained.encoding.encode(given)
    outside = count_outside(sde.support, x)
    if outside:
        raise DataError(
            f"{outside} values in {source} lie outside {support_in_words(sde.support)}, the support of '{sde.title()}'.",
            "Give rows like those that the model was trained on.",
        )
    if simulated:
        return AtRows(x)
    start = FromRows(x, time)
    start.begin(sde)
    return start


def _first_observations(path: Path, trained: Trained, time: float | None) -> AtRows:
    """A start of paths."""
    if time is not None:
        raise ParameterError("Paths start at their rows, and are not noised before.", "Leave out --from-time.")
    x = _format(path, "rows").read_samples(path, trained.state.columns, ())
    return start_of(first_of(x, trained, f"The rows in '{path}'"), trained, f"'{path}'")


def first_of(x: Tensor, trained: Trained, rows: str) -> Tensor:
    """The first observations of paths, `(n, d)`.

    Args:
        x: rows `(n, d)`, or paths `(n, T, d)`.
        trained: a model of paths.
        rows: what they are called in messages.

    Raises:
        CompositionError: if the model does not go on from an observation alone.
        DataError: if they have another shape.
    """
    assert isinstance(trained.model, SimulatedModel), "a model of paths"
    if not trained.model.markov:
        raise CompositionError(
            "A first observation does not tell the hidden state of this model.", "Draw new paths, without rows to start from."
        )
    d = trained.state.event[-1]
    x = x[:, 0] if x.ndim == 3 else x
    if x.ndim != 2 or x.shape[1] != d:
        raise DataError(f"{rows} have shape {tuple(x.shape)}.", f"Give rows (n, {d}), or paths (n, T, {d}).")
    return x
