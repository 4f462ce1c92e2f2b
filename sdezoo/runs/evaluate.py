"""How good a run's samples are: samples against the held-out part of its data, by the measures of `sdezoo.evaluation`.

A folder of results holds `evaluation.json`, `evaluation.png`, and `classifier-FINGERPRINT.safetensors` with its facts beside it.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.data.formats import ReadableFormat
from sdezoo.data.validation import check, check_finite, check_one_time
from sdezoo.errors import DataError, ParameterError, RunError
from sdezoo.evaluation.classifier import Judge, classifier
from sdezoo.evaluation.comparison import EvaluationProgress, Extractor, Parts, columns, images
from sdezoo.evaluation.inception import Inception
from sdezoo.evaluation.rows import choice
from sdezoo.evaluation.suite import Measured, check_sizes
from sdezoo.evaluation.table import number, record, text
from sdezoo.evaluation.tails import Contrast
from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.process.process import Process
from sdezoo.store.files import atomic_write, writable_folder
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.formats import endings, find_format
from sdezoo.zoo.registry import SDES

EXTRACTORS = ("classifier", "inception")
"""What images are compared by, beside their pixels."""

FILES = ("evaluation.json", "evaluation.png")
"""Of every evaluation."""

_ELSEWHERE = "Give --out another place."
_STEPS = 20
_HELD, _TRAINING, _GIVEN = 0, 1, 2  # streams of the choices of rows


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures of samples.

    Args:
        source: what was measured, in words. n: rows of each kind. measured: the table. notes: what a reader of it has to know.
        facts: everything else, as JSON holds it. picture: the sheet.
    """

    source: str
    n: int
    measured: list[Measured]
    notes: list[str]
    facts: dict[str, Any]
    picture: Figure

    @property
    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {**self.facts, "n": self.n, "measures": record(self.measured), "notes": self.notes}

    @property
    def text(self) -> str:
        """The table, with the notes below it."""
        head = f"{self.source}: {self.n} samples against {self.n} held-out rows; real rows: {self.n} training rows in their place."
        return "\n".join([head, "", text(self.measured), *self.notes, ""])


def evaluate(
    run: Path,
    *,
    checkpoint: str = "newest",
    sampler: str | None = None,
    steps: int | None = None,
    n: int = 1000,
    samples: Path | None = None,
    features: str | None = None,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | None = None,
    out: Path | None = None,
    overwrite: bool = False,
    progress: EvaluationProgress = lambda done, total, what: None,
) -> Evaluation:
    """Measure samples of a model of a run folder against the held-out part of the run's data.

    Args:
        run: the folder; a classifier of images is kept in its `evaluation/`. checkpoint: see `sdezoo.store.checkpoint.choose`.
        sampler, steps: of the samples; default: as `sdezoo sample` chooses, and 20.
        n: samples at most, and rows of data to compare them with: fewer where the held-out part, the training part or the file has fewer.
        samples: a file of samples to be measured in the place of the model's, see `read_samples`.
        features: one of `EXTRACTORS`, for images; default: the classifier, where the training images have labels.
        seed: fixes the samples, the choice of rows and whatever a measure draws. batch_size: changes nothing but memory and speed.
        out: folder that the results are written to as `FILES`; None: nowhere. overwrite: replace results that are there.

    Raises:
        ParameterError: for a number that is not positive, features that are unknown or not for this kind of data, and a sampler or steps
            for samples that are given.
        RunError: where the run cannot be read, or the features are not there.
        DataError: where there are too few rows, or the file does not hold samples of the run's kind.
        SdezooError: as `generate` does.
    """
    idle = [name for name, value in {"sampler": sampler, "steps": steps}.items() if samples and value is not None]
    if idle:
        raise ParameterError(f"--{idle[0]} does nothing to samples that are given.", f"Leave out --{idle[0]} or --samples.")
    if out:
        check_folder(out, overwrite=overwrite)
    steps = _STEPS if steps is None else steps
    for name, value in {"n": n, "steps": steps, "batch_size": batch_size}.items():
        if value < 1:
            raise ParameterError(f"{name}={value} is too small.", f"Give {name} at least 1.")
    began = time.perf_counter()
    trained = restore(run, checkpoint)
    origin = TrainingConfig.build(TrainingConfig.read(run / "config.yaml")).data
    data = _load(origin, trained)
    if features and (data.kind != "image" or features not in EXTRACTORS):
        raise ParameterError(f"There are no features '{features}' of {data.kind} data.", f"For images: {' or '.join(EXTRACTORS)}.")
    given = None if samples is None else read_samples(samples, trained)
    n = min([n, len(data.test), len(data.train)] + ([] if given is None else [len(given)]))
    check_sizes({"held-out rows": len(data.test), "rows to compare": n})
    chosen = choose_sampler(trained, sampler)
    judge, extractor = _extractors(run / "evaluation", data, features, progress) if data.kind == "image" else (None, None)
    if given is None:
        options = {"steps": steps, "seed": seed, "batch_size": batch_size, "device": device}
        x = generate(trained, chosen, n, **options, progress=lambda done, total: progress(done, total, "sampling")).x
        drawn, source = {"sampler": chosen.spec, "steps": steps}, f"{run} by {chosen.spec} in {steps} steps"
    else:
        x, drawn, source = given[choice(len(given), n, seed, _GIVEN)], {"samples": str(samples)}, str(samples)
    held_out, training = (part[choice(len(part), n, seed, key)] for part, key in ((data.test, _HELD), (data.train, _TRAINING)))
    parts, title = Parts(x, held_out, training, data.train), f"{source}, {n} samples"
    if data.kind == "image":
        labels = data.train_labels
        found = images(parts, title, levels=data.levels, extractor=extractor, judge=judge, labels=labels, seed=seed, progress=progress)
    else:
        found = columns(parts, title, names=data.columns, seed=seed, progress=progress)
    outside, words = _outside(x, trained)
    facts = {"run": str(run), "data": origin, "kind": data.kind, **drawn, "seed": seed, **outside, **found.facts}
    facts["seconds"] = round(time.perf_counter() - began, 3)
    notes = [words, *found.notes, *_out_of_reach(found.tails, trained.model.sde)]
    evaluation = Evaluation(source, n, found.measured, notes, facts, found.picture)
    if out:
        write(evaluation, out)
    return evaluation


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that results cannot be written to; to be asked before any work is done.

    Raises:
        RunError: where it cannot be written to, or holds results and may not be overwritten.
    """
    writable_folder(folder)
    there = next((folder / name for name in FILES if (folder / name).exists()), None)
    if there and not overwrite:
        raise RunError(f"'{there}' exists.", "Give --overwrite to replace it, or another --out.")


def write(found: Evaluation, folder: Path) -> tuple[Path, Path]:
    """Write `FILES` to a folder, which is made where it is not there; each replaces what was there in one step.

    Raises:
        RunError: where it cannot be written to.
    """
    written = json.dumps(found.record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    table, sheet = (folder / name for name in FILES)
    with atomic_write(table, _ELSEWHERE) as file:
        file.write(written.encode())
    with atomic_write(sheet, _ELSEWHERE) as file:
        found.picture.savefig(file, format="png", pil_kwargs={"optimize": True})
    return table, sheet


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


def _load(origin: str, trained: Trained) -> Data:
    data = find_dataset(origin).load()
    check(data)
    check_one_time(data, "Evaluation")
    if data.event != tuple(trained.state.event):
        raise DataError(f"The rows of '{origin}' have shape {data.event}, and the model's have {trained.state.event}.", "Restore the data.")
    return data


def _extractors(folder: Path, data: Data, features: str | None, progress: EvaluationProgress) -> tuple[Judge | None, Extractor | None]:
    """The classifier, where there are labels, and whose features are compared, if anyone's."""
    inception = Extractor("inception", Inception().features) if features == "inception" else None
    if data.train_labels is None:
        if features == "classifier":
            raise DataError("The training images have no labels, so no classifier can be trained.", "Leave --features out.")
        return None, inception
    progress(0, 1, "training a classifier")
    judge = classifier(folder, data.train, data.train_labels, data.test, data.test_labels)
    return judge, inception or Extractor("classifier", judge.net.features)


def _out_of_reach(tails: Sequence[Contrast], sde: Process) -> list[str]:
    """The warning where samples have a lighter tail than the data, and the noise of the process is too light to do better."""
    missed = [c for c in tails if c.data.heavier(c.samples) and c.data.high < sde.tail]
    if not missed:
        return []
    worst = min(missed, key=lambda c: c.data.index)
    noise = "a tail that falls faster than any power" if math.isinf(sde.tail) else f"tail index {number(sde.tail)}"
    heavy = [name for name, other in defaults(SDES) if math.isfinite(other.tail)]
    return [
        f"Warning: the data's tail has index {number(worst.data.index)} ({worst.name}), and samples' {number(worst.samples.index)}. "
        f"The noise of '{sde.title()}' has {noise}, of which no network makes that of the data. "
        f"Processes with heavy-tailed noise: {', '.join(heavy) or 'none that is installed'}."
    ]


def _outside(x: Tensor, trained: Trained) -> tuple[dict[str, int], str]:
    """How many values leave the range of the data, and the support of the process; as JSON holds it, and in words."""
    sde, outside = trained.model.sde, trained.state.bounds.outside(x)
    counts = {"values": x.numel(), "outside_range": outside.count}
    counts["outside_support"] = int((~sde.support.check(trained.encoding.encode(x))).sum())
    words = f"Of {x.numel()} values {outside.count} lie outside the range of the data{outside.by}, {counts['outside_support']} outside the "
    return counts, words + f"support of '{sde.title()}'."
