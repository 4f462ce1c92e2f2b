"""Evaluate samples of a run: compare them with the held-out part of its data by the measures of `sdezoo.evaluation`.

A folder of results contains `evaluation.json` and `evaluation.png`. A classifier of images is cached in the run's `evaluation/` as
`classifier-FINGERPRINT.safetensors`, with its metadata beside it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sdezoo.bridging.rounds import DIRECTIONS
from sdezoo.data.dataset import Data
from sdezoo.errors import DataError, ParameterError, RunError
from sdezoo.evaluation.comparison import EvaluationProgress, Extractor, Parts, columns, images, series
from sdezoo.evaluation.measures.classifier import Judge, classifier
from sdezoo.evaluation.measures.inception import Inception
from sdezoo.evaluation.measures.tails import Contrast
from sdezoo.evaluation.rows import choice
from sdezoo.evaluation.sizes import Sizes, compared_rows, sizes
from sdezoo.evaluation.suite import Measured
from sdezoo.evaluation.table import number, record, text
from sdezoo.evaluation.verdict import verdict
from sdezoo.generation.samples import choose_sampler, generate, steps_for
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.plots import Figure, save
from sdezoo.process.bridge import Bridge
from sdezoo.process.process import Process
from sdezoo.runs.between.asked import Asked, Found, count_outside_range
from sdezoo.runs.between.directions import read_directions
from sdezoo.runs.between.ends import compare_ends
from sdezoo.runs.between.observed import compare_paths
from sdezoo.runs.given_rows import read_samples, training_data
from sdezoo.store.files import as_path, atomic_write, clear, refuse_links, writable_folder
from sdezoo.store.launch import usual_torch
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SDES

EXTRACTORS = ("classifier", "inception")
"""Feature extractors for images, used in addition to pixels."""

FILES = ("evaluation.json", "evaluation.png")
"""Names of the files of an evaluation."""

_ELSEWHERE = "Give --out another place."
_GIVEN, _COMPARED = 2, 3  # random streams for choosing rows


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The results of an evaluation.

    Args:
        source: where the samples come from, in words.
        sizes: numbers of rows compared.
        measured: the measures, one table row each.
        notes: remarks and warnings for the reader of the table.
        facts: settings and further results, as JSON values.
        picture: figure that compares samples with data.
        verdict: the answer in two sentences, see `sdezoo.evaluation.verdict`.
    """

    source: str
    sizes: Sizes
    measured: list[Measured]
    notes: list[str]
    facts: dict[str, Any]
    picture: Figure
    verdict: str

    @property
    def n(self) -> int:
        """Number of samples, and of data rows, compared."""
        return self.sizes.compared

    @property
    def record(self) -> dict[str, Any]:
        """All results as JSON values."""
        return {"verdict": self.verdict, **self.facts, "n": self.n, "measures": record(self.measured), "notes": self.notes}

    @property
    def text(self) -> str:
        """The verdict, the table as text, and the notes."""
        data, others = ("held-out rows", "training rows") if self.sizes.held_out else ("rows of the data", "others")
        drawn = f"{self.n} of {self.sizes.samples}" if self.sizes.samples > self.n else f"{self.n}"
        head = f"{self.source}: {drawn} samples against {self.n} {data}; real rows: {self.n} {others} in their place."
        return "\n".join([self.verdict, "", head, "", text(self.measured), *self.notes, ""])


@usual_torch()
def evaluate(
    run: str | Path,
    *,
    checkpoint: str = "newest",
    sampler: str | None = None,
    steps: int | None = None,
    n: int = 1000,
    samples: str | Path | None = None,
    features: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: torch.device | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: EvaluationProgress = lambda done, total, what: None,
) -> Evaluation:
    """Evaluate samples of a trained model against the held-out part of its data.

    Args:
        run: the run folder. A classifier of images is cached in its `evaluation/`.
        checkpoint: the checkpoint, see `sdezoo.store.checkpoint.choose`.
        sampler: spec string of the sampler; None: the one that `sdezoo sample` chooses.
        steps: sampler steps; None: as for `sdezoo.runs.sample.sample`; of paths, one between two observations.
        n: largest number of samples, and of data rows to compare them with; lower if the held-out part, the training part or the file has
            fewer rows.
        samples: file of samples to evaluate in place of the model's, see `read_samples`.
        features: one of `EXTRACTORS`, for images; None: the classifier if the training images have labels.
        seed: seed of the samples, the choice of rows, and the random numbers of the measures.
        batch_size: samples in a batch; affects memory and speed only. None: 64, and more of small rows.
        device: device to sample on; None: CPU.
        out: folder to write `FILES` to; None: nothing is written.
        overwrite: whether existing results may be replaced.
        progress: called during the computation.

    Raises:
        ParameterError: if a number is not positive, if `features` is unknown or does not apply to this kind of data, or if there is a
            sampler or steps together with `samples`.
        RunError: if the run cannot be read or contains links, or the features are not available.
        DataError: if there are too few rows, or the file does not hold samples of this run.
        SdezooError: as for `sdezoo.generation.samples.generate`.
    """
    run, samples, out = Path(run), as_path(samples), as_path(out)
    idle = [name for name, value in {"sampler": sampler, "steps": steps}.items() if samples and value is not None]
    if idle:
        raise ParameterError(f"--{idle[0]} has no effect on samples from a file.", f"Leave out --{idle[0]} or --samples.")
    refuse_links(run)
    if out:
        check_folder(out, overwrite=overwrite)
    for name, value in {"n": n, "steps": steps, "batch_size": batch_size}.items():
        if value is not None and value < 1:
            raise ParameterError(f"{name}={value} is too small.", f"Give {name} at least 1.")
    began = time.perf_counter()
    asked = Asked(n, steps, seed, sampler, device or torch.device("cpu"))
    directions = {name: one.trained for name, one in read_directions(run).items()}
    trained = list(directions.values())[-1] if directions else restore(run, checkpoint)
    if isinstance(trained.model.sde, Bridge):
        for name, given in {"samples": samples, "checkpoint": directions and checkpoint != "newest"}.items():
            if given:
                raise ParameterError(f"--{name} does not apply to a bridge.", f"Leave out --{name}.")
        models = directions or {DIRECTIONS[trained.model.sde.forward]: trained}
        found = _of_bridge(run, models, asked, features, progress)
    elif is_simulated(trained.model):
        found = _of_paths(run, trained, asked, samples, features, progress)
    else:
        found = _of_rows(run, trained, asked, samples, features, batch_size, progress)
    found.facts["seconds"] = round(time.perf_counter() - began, 3)
    if out:
        write(found, out)
    return found


def _of_rows(
    run: Path,
    trained: Trained,
    asked: Asked,
    samples: Path | None,
    features: str | None,
    batch_size: int | None,
    progress: EvaluationProgress,
) -> Evaluation:
    """Evaluate samples of a model of rows at one time."""
    seed, n = asked.seed, asked.n
    config = TrainingConfig.of_run(run)
    origin = config.data
    data = _load(run, trained)
    _check_features(features, data)
    given = None if samples is None else read_samples(samples, trained)
    most = n if given is None else min(n, len(given))
    size = sizes(most, training=len(data.train), held_out=len(data.test), image=data.kind == "image")
    chosen = choose_sampler(trained, asked.sampler)
    steps = asked.steps or steps_for(trained, chosen)
    judge, extractor = _extractors(run / "evaluation", data, features, progress) if data.kind == "image" else (None, None)
    if given is None:
        options = {"steps": steps, "seed": seed, "batch_size": batch_size, "device": asked.device}
        x = generate(trained, chosen, size.samples, **options, progress=lambda done, total: progress(done, total, "sampling")).x
        drawn, source = {"sampler": chosen.spec, "steps": steps}, f"{run} by {chosen.spec} in {steps} steps"
    else:
        x, drawn, source = given[choice(len(given), size.samples, seed, _GIVEN)], {"samples": str(samples)}, str(samples)
    held_out, floor = compared_rows(data.train, data.test, size, seed)
    parts = Parts(x[choice(len(x), size.compared, seed, _COMPARED)], held_out, floor, data.train)
    title = f"{source}, {size.compared} samples"
    if data.kind == "image":
        labels = data.train_labels
        found = images(parts, title, levels=data.levels, extractor=extractor, judge=judge, labels=labels, seed=seed, progress=progress)
    elif data.form:
        options = {"names": data.columns, "relative": data.form != "real", "overlap": data.overlap}
        found = series(parts, title, held_out=data.test if len(data.test) else held_out, seed=seed, progress=progress, **options)
    else:
        options = {"seed": seed, "progress": progress, "private": (data.test, x), "categories": trained.encoding.categories}
        found = columns(parts, title, names=data.columns, **options)
    outside, words = count_outside_range(x, trained)
    facts = {"run": str(run), "data": origin, "kind": data.kind, **drawn, "seed": seed, **outside, **found.facts}
    facts |= {"step": trained.state.step, "asked": n}
    notes = [words, *size.notes, *found.notes, *_out_of_reach(found.tails, trained.model.sde)]
    real = "held-out rows" if size.held_out else "rows of the data"
    answer = verdict(found.measured, size.compared, found.tests, found.copies, real)
    return Evaluation(source, size, found.measured, notes, facts, found.picture, answer)


def _of_bridge(run: Path, models: Mapping[str, Trained], asked: Asked, features: str | None, progress: EvaluationProgress) -> Evaluation:
    """Evaluate both directions of a bridge."""
    newest = list(models.values())[-1]
    data = training_data(run, newest)
    _check_features(features, data)
    found = compare_ends(run, models, data, asked, _inception() if features == "inception" else None, progress)
    return _told(run, found, data, asked, {})


def _of_paths(
    run: Path, trained: Trained, asked: Asked, samples: Path | None, features: str | None, progress: EvaluationProgress
) -> Evaluation:
    """Evaluate an SDE that was learned from paths."""
    data = _load(run, trained)
    _check_features(features, data)
    found = compare_paths(run, trained, data, asked, samples, progress)
    return _told(run, found, data, asked, {"step": trained.state.step})


def _told(run: Path, found: Found, data: Data, asked: Asked, more: dict[str, Any]) -> Evaluation:
    """What was found, with the settings of the run."""
    config = TrainingConfig.of_run(run)
    facts = {"run": str(run), "data": config.data} | ({"target": config.target} if config.target else {})
    facts |= {"kind": data.kind, "seed": asked.seed, **found.facts, **more, "asked": asked.n}
    return Evaluation(found.source, found.sizes, found.measured, found.notes, facts, found.picture, found.verdict)


def _check_features(features: str | None, data: Data) -> None:
    if features and (data.kind != "image" or features not in EXTRACTORS):
        raise ParameterError(f"There are no features '{features}' of {data.kind} data.", f"For images: {' or '.join(EXTRACTORS)}.")


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Check that results can be written to a folder, and remove leftovers of killed commands. Call it before the computation.

    Args:
        folder: the folder.
        overwrite: whether existing results may be replaced.

    Raises:
        RunError: if the folder cannot be written to, or holds results (unless `overwrite`).
    """
    writable_folder(folder)
    for name in FILES:
        clear(folder / name)
    there = next((folder / name for name in FILES if (folder / name).exists()), None)
    if there and not overwrite:
        raise RunError(f"'{there}' exists.", "Give --overwrite to replace it, or another --out.")


def write(found: Evaluation, folder: Path) -> tuple[Path, Path]:
    """Write `FILES` to a folder, creating it if needed; existing files are replaced atomically.

    Args:
        found: the results.
        folder: the folder.

    Returns:
        The paths of the table and the picture.

    Raises:
        RunError: if the folder cannot be written to.
    """
    written = json.dumps(found.record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    table, sheet = (folder / name for name in FILES)
    with atomic_write(table, _ELSEWHERE) as file:
        file.write(written.encode())
    with atomic_write(sheet, _ELSEWHERE) as file:
        save(found.picture, file)
    return table, sheet


def _load(run: Path, trained: Trained) -> Data:
    data = training_data(run, trained)
    if data.event != tuple(trained.state.event):
        raise DataError(
            f"The rows of the data of '{run}' have shape {data.event}, but the model has {trained.state.event}.", "Restore the data."
        )
    return data


def _extractors(folder: Path, data: Data, features: str | None, progress: EvaluationProgress) -> tuple[Judge | None, Extractor | None]:
    """Build the classifier, or None without labels of two classes or more, and the feature extractor, or None."""
    inception = _inception() if features == "inception" else None
    if data.train_labels is None or len(data.train_labels.unique()) < 2:
        if features == "classifier":
            what = "no labels" if data.train_labels is None else "one label"
            raise DataError(f"The training images have {what}, so no classifier can be trained.", "Leave --features out.")
        return None, inception
    progress(0, 1, "training a classifier")
    judge = classifier(folder, data.train, data.train_labels, data.test, data.test_labels)
    return judge, inception or Extractor("classifier", judge.net.features)


def _inception() -> Extractor:
    return Extractor("inception", Inception().features)


def _out_of_reach(tails: Sequence[Contrast], sde: Process) -> list[str]:
    """Warn if samples have a lighter tail than the data because the noise of the process is too light-tailed."""
    missed = [c for c in tails if c.data.heavier(c.samples) and c.data.high < sde.tail]
    if not missed:
        return []
    worst = min(missed, key=lambda c: c.data.index)
    noise = "a tail that decays faster than any power" if math.isinf(sde.tail) else f"tail index {number(sde.tail)}"
    heavy = [name for name, other in defaults(SDES) if math.isfinite(other.tail) and not (worst.positive and _negative(other))]
    kind = "non-negative" if worst.positive else "such"
    return [
        f"Warning: the tail index of the data is {number(worst.data.index)} ({worst.name}), that of samples {number(worst.samples.index)}. "
        f"The noise of '{sde.title()}' has {noise}, so no network can reproduce the tail of the data. "
        f"Processes with heavy-tailed noise for {kind} data: {', '.join(heavy) or 'none installed'}."
    ]


def _negative(sde: Process) -> bool:
    """Whether the support of the process contains negative values."""
    return bool(sde.support.check(torch.tensor([-1.0])).all())
