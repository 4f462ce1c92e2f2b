"""Imputation: fill the missing cells of a table with draws from a model, given the other cells of the row."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sdezoo.data.conversion import from_numbers, held
from sdezoo.data.filling import Filling, check_draws
from sdezoo.data.formats import TableFormat
from sdezoo.data.opening.dialect import Dialect
from sdezoo.errors import DataError, ParameterError, PluginError
from sdezoo.generation.export import check_place
from sdezoo.generation.given import STEPS, column_names
from sdezoo.generation.samples import SamplingProgress
from sdezoo.runs.between.imputing import fill_rows
from sdezoo.store.files import atomic_write
from sdezoo.store.launch import resolve_device, usual_torch
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.formats import endings, find_format
from sdezoo.zoo.registry import load


@dataclass(frozen=True)
class Imputed:
    """Summary of an imputation.

    Args:
        out: the file.
        rows: rows of the table.
        incomplete: how many of them had a missing cell.
        missing: number of missing cells.
        draws: number of draws.
        effective: smallest effective number of particles of each draw of an incomplete row.
        seconds: time spent, in seconds.
    """

    out: Path
    rows: int
    incomplete: int
    missing: int
    draws: int
    effective: tuple[float, ...]
    seconds: float


@usual_torch()
def impute(
    run: str | Path,
    table: str | Path,
    out: str | Path,
    *,
    draws: int = 1,
    checkpoint: str = "newest",
    sampler: str | None = None,
    steps: int = STEPS,
    batch_size: int = 64,
    seed: int = 0,
    device: str = "auto",
    overwrite: bool = False,
    plugins: Sequence[Path] = (),
    progress: SamplingProgress | None = None,
) -> Imputed:
    """Fill the missing cells of a table.

    Each row with missing cells gets a draw from the model, given its other cells, see `sdezoo.sampling.conditioning`. Those cells, columns
    that the model does not know, and complete rows are written as they are. Several draws are written one after the other, numbered from 1
    in a first column `draw` (the long format of multiple imputation). Draw `k` of row `i` depends on (seed, `k`, `i`, its cells) alone.

    Args:
        run: the run folder.
        table: file with the columns of the run, in any order, written as the table for training: what the parameters of its dataset say,
            such as `missing=?`, holds for this one too.
        out: output file, of the same format.
        draws: number of draws.
        checkpoint: the checkpoint, see `sdezoo.store.checkpoint.choose`.
        sampler: spec string of the sampler for unconditional samples; None: the preferred one that fits.
        steps: steps of the particle filter.
        batch_size: rows in a batch; affects memory and speed only.
        seed: the seed.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        overwrite: whether an existing file may be replaced.
        plugins: files or modules to load first, see `sdezoo.zoo.registry.load`.
        progress: called after every step.

    Raises:
        SdezooError: before anything is written, if an argument is invalid, a cell lies outside the support, or the process is not affine.
    """
    began, table, out = time.perf_counter(), Path(table), Path(out)
    if draws < 1:
        raise ParameterError(f"draws={draws} is too small.", "Give draws at least 1.")
    for file in plugins:
        load(file)
    trained, where = restore(Path(run), checkpoint), resolve_device(device)
    names, form = column_names(trained), find_format(table, TableFormat)
    if form is None:
        raise DataError(f"No installed format can read a table from '{table}'.", f"Give one of {', '.join(endings(TableFormat))}.")
    if find_format(out, TableFormat) != form:
        raise ParameterError(f"'{out}' has another format than '{table}'.", "Give both files the same ending.")
    form.check_fill(table)
    check_place(out, overwrite)
    dialect = _dialect(Path(run))
    x, columns = form.read_cells(table, names, trained.encoding.types, dialect)
    check_draws(columns, draws, table)
    trained.model.to(where)
    filled, given, effective = fill_rows(
        x, trained, draws, seed, sampler=sampler, steps=steps, batch_size=batch_size, device=where, progress=progress
    )
    types = held(trained.encoding.types, filled)
    values = [from_numbers(part, names, types) for part in filled]
    missing = ~given.known.numpy()
    filling = {name: Filling(missing[:, i], [part.column(i) for part in values]) for i, name in enumerate(names) if missing[:, i].any()}
    with atomic_write(out, "Give --out another place.") as file:
        form.fill(table, file, filling, draws, dialect)
    return Imputed(out, len(x), len(given.incomplete), int(missing.sum()), draws, effective, time.perf_counter() - began)


def _dialect(run: Path) -> Dialect:
    """How the user says that the table for training is written; nothing, if the data were in memory."""
    with suppress(PluginError):
        return Dialect.of(find_dataset(TrainingConfig.of_run(run).data))
    return Dialect()
