"""The negative log-likelihood of data rows under a trained model, and under a Gaussian reference.

Values are in nats, in the user's units (`Trained.likelihood`). Data on a lattice, such as pixels of 17 or 256 grey values, have
probabilities, not densities. They are dequantized: each value `k` is spread uniformly over the cell of width `w = 1/levels` around it. The
result is the bound (Theis et al., arXiv 1511.01844, eq. 3 to 5)::

    −log P(k) ≤ −E_u log p(k + w (u − ½)) − d log w,        u uniform on [0, 1)^d, one sample a row

The reference is the moment-matched Gaussian: `N(μ, Σ)` in coordinates, with the mean and covariance of the training rows (dequantized in
the same way), transformed to the user's units. On positive data in logarithms it is the log-normal distribution. For images `Σ` is
diagonal.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from sdezoo.data.dataset import Data
from sdezoo.data.validation import check_one_time, column_name
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError, SdezooError
from sdezoo.generation.export import check_output, write
from sdezoo.generation.samples import SamplingProgress
from sdezoo.process.noise import Noise
from sdezoo.runs.given_rows import as_trained, training_data
from sdezoo.sampling.likelihood import Divergence, dequantize, encoded
from sdezoo.store.files import as_path
from sdezoo.store.launch import usual_torch
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.registry import LOSSES

EXACT_UP_TO = 32
"""Largest dimension for which the divergence is exact by default."""

_REFERENCE_ROWS = 10_000
_CHOICE, _CELLS, _REFERENCE_CELLS = -1, -2, -3  # noise keys; the probes use the row indices 0, 1, …
_LEAST = 1e-6  # degenerate if less than this fraction of a column's standard deviation is left, given the others
_NAMED = 5


class Figure(NamedTuple):
    """A mean over rows with its standard error."""

    mean: float
    """The mean."""
    standard_error: float | None
    """Standard error of the mean; None for a single row."""

    @classmethod
    def of(cls, values: Tensor) -> Figure:
        """Compute a mean and its standard error.

        Args:
            values: one value a row, `(n,)`.
        """
        return cls(float(values.mean()), float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None)

    def over(self, unit: float) -> Figure:
        """Convert to another unit.

        Args:
            unit: size of the new unit in the current one.
        """
        return Figure(self.mean / unit, None if self.standard_error is None else self.standard_error / unit)


@dataclass(frozen=True, eq=False)
class Likelihood:
    """Negative log-likelihoods of `n` rows, in nats and in the user's units; upper bounds for data on a lattice.

    Args:
        data: description of the data, for the report.
        rows: indices of the rows in the data, `(n,)`.
        dims: dimension of the state of a row.
        model: negative log-likelihoods under the model, `(n,)`, float64.
        probe_error: standard error of each value due to the probes, `(n,)`; 0 if the divergence is exact, NaN with a single probe.
        reference: negative log-likelihoods under the reference, `(n,)`, float64; None: no reference.
        law: description of the reference, or why there is none.
        width: width of a cell; None for continuous data.
        probes: probes for each row; None if the divergence is exact.
        steps: steps of the integrator.
        seed: the seed.
    """

    data: str
    rows: Tensor
    dims: int
    model: Tensor
    probe_error: Tensor
    reference: Tensor | None
    law: str
    width: float | None
    probes: int | None
    steps: int
    seed: int

    @property
    def figures(self) -> dict[str, Figure]:
        """Means in nats: `model`, and if there is a reference, `reference` and the row-wise `difference`, model minus reference."""
        if self.reference is None:
            return {"model": Figure.of(self.model)}
        values = {"model": self.model, "reference": self.reference, "difference": self.model - self.reference}
        return {name: Figure.of(value) for name, value in values.items()}

    @property
    def units(self) -> dict[str, float]:
        """Units of the figures, as divisors of nats: nats, nats per dimension, bits per dimension."""
        return {"nats": 1.0, "nats_per_dim": float(self.dims), "bits_per_dim": self.dims * math.log(2)}

    @property
    def probe_spread(self) -> float | None:
        """Standard error of the model's mean due to the probes, in nats; None with a single probe."""
        spread = float(self.probe_error.square().sum().sqrt()) / len(self.rows)
        return spread if math.isfinite(spread) else None

    @property
    def table(self) -> dict[str, Tensor]:
        """The values of all rows, as named columns `(n,)`."""
        columns = {"row": self.rows, "model": self.model, "probe_error": self.probe_error}
        return columns if self.reference is None else {**columns, "reference": self.reference}

    def record(self) -> dict[str, Any]:
        """Summarize as JSON values, without the values of single rows."""
        figures = {name: {unit: f.over(size)._asdict() for unit, size in self.units.items()} for name, f in self.figures.items()}
        kept = {name: getattr(self, name) for name in ("data", "dims", "law", "width", "probes", "probe_spread", "steps", "seed")}
        none = dict.fromkeys(("model", "reference", "difference"))
        return {"measure": "negative log-likelihood", "n": len(self.rows), **kept, **none, **figures}


@usual_torch()
def likelihood(
    run: str | Path,
    *,
    checkpoint: str = "newest",
    data: str | None = None,
    split: str | None = None,
    n: int = 1000,
    divergence: Divergence | None = None,
    probes: int = 2,
    steps: int = 50,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: SamplingProgress | None = None,
) -> Likelihood:
    """Compute the negative log-likelihood of data rows under a trained model.

    Args:
        run: the run folder.
        checkpoint: the checkpoint, see `sdezoo.store.checkpoint.choose`.
        data: spec string of a dataset, or a path; None: the data that the run was trained on.
        split: `test`, `train` or `all` (training rows first); None: `test`, or `all` if `data` is given.
        n: largest number of rows; more rows are subsampled at random.
        divergence: `exact` or `hutchinson`; None: exact up to `EXACT_UP_TO` dimensions.
        probes: probes for each row, see `sdezoo.sampling.likelihood.estimate`.
        steps: steps of the integrator, see `sdezoo.sampling.likelihood.estimate`.
        seed: seed of the choice of rows, the dequantization and the probes.
        batch_size: rows in a batch; affects memory and speed only.
        device: device to compute on; None: CPU.
        out: file for a table of all rows, see `sdezoo.generation.export.write`; None: no file.
        overwrite: whether an existing file may be replaced.
        progress: called after every step.

    Raises:
        ParameterError: if a number is not positive, or the split is unknown.
        RunError: if the run cannot be read, `out` cannot be written, or a value is not finite.
        DataError: if the data cannot be read, or rows lie outside the support of the process; the message names the rows.
        CompositionError: if the process has no likelihood, or the loss learns the score of the data only.
    """
    run, out = Path(run), as_path(out)
    for name, value in {"n": n, "steps": steps, "batch_size": batch_size, "probes": probes}.items():
        if value < 1:
            raise ParameterError(f"{name}={value} is too small.", f"Give {name} at least 1.")
    if out:
        check_output(out, "table", overwrite)
    trained, config = restore(run, checkpoint), TrainingConfig.of_run(run)
    _refuse_loss(trained, config)
    source, part = data or config.data, split or ("all" if data else "test")
    held = as_trained(find_dataset(data).load(), trained, config) if data else training_data(run, trained)
    check_one_time(held, "The likelihood")
    _refuse_data(trained, held, source)
    every = _part(held, part, source)
    rows = _choose(len(every), n, seed)
    trained.log_det(every[rows][:1])  # refuses rows that have no density
    raw = _spread(every[rows], held.levels, Noise.seeded(seed, _CELLS))
    _refuse_outside(trained, raw, rows)
    dims = math.prod(trained.model.sde.state_shape((1, *trained.encoded_event))[1:])
    chosen: Divergence = divergence or ("exact" if dims <= EXACT_UP_TO else "hutchinson")
    options = {"divergence": chosen, "probes": probes, "steps": steps, "seed": seed}
    nats, errors = _follow(trained, raw, batch_size, device, progress, options)
    _refuse_infinite(nats, rows)
    reference, law = _reference(trained, lambda: training_data(run, trained) if data else held, raw, seed)
    width = 1 / held.levels if held.levels else None
    cells = dims * math.log(width) if width else 0.0
    found = Likelihood(
        data=f"{_PARTS[part]} {source}",
        rows=rows,
        dims=dims,
        model=-nats - cells,
        probe_error=errors,
        reference=None if reference is None else -reference - cells,
        law=law,
        width=width,
        probes=probes if chosen == "hutchinson" else None,
        steps=steps,
        seed=seed,
    )
    if out:
        write(torch.stack([column.double() for column in found.table.values()], 1), out, kind="table", columns=tuple(found.table))
    return found


_PARTS = {"test": "the held-out part of", "train": "the training part of", "all": "all of"}


def _part(data: Data, part: str, source: str) -> Tensor:
    """Select the rows of a part of `data`."""
    if part not in _PARTS:
        raise ParameterError(f"split={part} is unknown.", f"Choose one of: {', '.join(_PARTS)}.")
    found = {"test": data.test, "train": data.train, "all": torch.cat([data.train, data.test])}[part]
    if not len(found):
        raise DataError(f"There are no rows in {_PARTS[part]} '{source}'.", "Choose another --split, or give other data with --data.")
    return found


def _choose(count: int, most: int, seed: int) -> Tensor:
    """Choose at most `most` of the indices below `count` at random, sorted."""
    if count <= most:
        return torch.arange(count)
    noise = Noise.seeded(seed, _CHOICE)
    shuffled = noise.draw(lambda rows, generator: torch.randperm(len(rows), generator=generator), torch.empty(count))
    return shuffled[:most].sort().values


def _spread(raw: Tensor, levels: int | None, noise: Noise) -> Tensor:
    """Dequantize rows on a lattice, over the cell around each value; return other rows unchanged."""
    return dequantize(raw - 0.5 / levels, noise, 1 / levels) if levels else raw


def _follow(
    trained: Trained, raw: Tensor, batch_size: int, device: torch.device | None, progress: SamplingProgress | None, options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Compute log-densities of `raw` and their standard errors, batch by batch."""
    trained.model.to(device or torch.device("cpu"))
    parts = []
    for first in range(0, len(raw), batch_size):
        batch = raw[first : first + batch_size].to(device)

        def follow(done: int, first: int = first, rows: int = len(batch)) -> None:
            if progress:
                progress(first + rows * done / options["steps"], len(raw))

        parts.append(trained.likelihood(batch, first=first, callback=follow, **options))
    nats, errors = (torch.cat(part) for part in zip(*parts, strict=True))
    return nats, errors


def _reference(trained: Trained, load: Callable[[], Data], raw: Tensor, seed: int) -> tuple[Tensor | None, str]:
    """Compute log-densities of `raw` under the reference, and describe it; or None and the reason why there is none."""
    try:
        data = load()
    except SdezooError as error:
        return None, f"none, because the training rows cannot be read ({error.problem.rstrip('.')})"
    train = data.train[:: -(-len(data.train) // _REFERENCE_ROWS)]
    train = _spread(train, data.levels, Noise.seeded(seed, _REFERENCE_CELLS))
    sde, diagonal = trained.model.sde, data.kind == "image"
    plain = replace(trained, encoding=trained.encoding.without_scores)
    z, _ = encoded(sde, plain.encoding.encode(train).double())
    law = _moment_matched(z.flatten(1), diagonal)
    if law is None:
        return None, f"none, because the covariance of the {len(train)} training rows is not of full rank"
    here, stretch = encoded(sde, plain.encoding.encode(raw).double())
    nats = law.log_prob(here.flatten(1)) - stretch + plain.log_det(raw)
    name = "log-normal" if sde.multiplicative else "Gaussian in coordinates"
    return nats, f"{name}, {'diagonal' if diagonal else 'full'} covariance"


def _moment_matched(z: Tensor, diagonal: bool) -> Distribution | None:
    """Fit a normal distribution to the mean and covariance of `z` `(n, d)`; None if it is degenerate."""
    mean, std = z.mean(0), z.std(0)
    if diagonal:
        return Independent(Normal(mean, std), 1) if (std > 0).all() else None
    away = z - mean
    factor, failed = torch.linalg.cholesky_ex(away.T @ away / (len(z) - 1))
    if failed or len(z) <= len(mean) or (factor.diagonal() < _LEAST * std).any():
        return None
    return MultivariateNormal(mean, scale_tril=factor)


def _refuse_loss(trained: Trained, config: TrainingConfig) -> None:
    sde = trained.model.sde
    if config.loss and (loss := LOSSES.build(config.loss)).t_span(sde) != sde.t_span:
        raise CompositionError(
            f"'{loss.title()}' learns the score of the data only, but a likelihood needs the score at every noise level.",
            "Train with another loss.",
        )


def _refuse_data(trained: Trained, data: Data, source: str) -> None:
    """Reject rows whose shape or columns differ from those that the model was trained on."""
    event, columns = tuple(trained.state.event), tuple(trained.state.columns)
    if data.event != event:
        raise DataError(f"The rows of '{source}' have shape {data.event}, but the model has {event}.", "Give rows of that shape.")
    if data.columns and columns and data.columns != columns:
        first = next(i for i, (one, other) in enumerate(zip(data.columns, columns, strict=True)) if one != other)
        raise DataError(
            f"Column {first} of '{source}' is called {column_name(first, data.columns)}, and the model's {column_name(first, columns)}.",
            "Give the model's columns in their order.",
        )


def _refuse_outside(trained: Trained, raw: Tensor, rows: Tensor) -> None:
    """Reject rows outside the support of the process, by their indices."""
    x = trained.encoding.encode(raw)
    inside, finite = (values.reshape(len(x), -1).all(1) for values in (trained.model.sde.support.check(x), x.isfinite()))
    outside = rows[~(inside & finite)].tolist()
    if outside:
        raise DataError(
            f"{_counted(outside, 'has', 'have')} values outside the support of '{trained.model.sde.title()}'.",
            "Remove or correct them: the model has no density there.",
        )


def _refuse_infinite(nats: Tensor, rows: Tensor) -> None:
    infinite = rows[~nats.isfinite()].tolist()
    if infinite:
        raise RunError(
            f"{_counted(infinite, 'has', 'have')} no finite likelihood: the probability flow diverged.",
            "Take more --steps, or train the model longer.",
        )


def _counted(rows: list[int], one: str, more: str) -> str:
    """Count and name rows, as the subject of a sentence."""
    which = ", ".join(map(str, rows[:_NAMED])) + (", …" if len(rows) > _NAMED else "")
    return f"{len(rows)} row{'s' * (len(rows) > 1)} (number {which}, counted from 0) {more if len(rows) > 1 else one}"
