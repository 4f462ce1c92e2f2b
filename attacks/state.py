"""Change entries of a checkpoint's `state.json`, seal it again with new sums, and sample: a sample or two sentences, never anything else.

    python -P attacks/state.py --changes 200 --seed 0
    python -P attacks/state.py --changes 100 --by export

A fifth of the changes each is made to a run on a table, on series, with and without their beginnings, on observed paths, and to a
round of a bridge. That on a table is also given to three of the other commands, or to the one that `--by` names.
"""

import argparse
import hashlib
import json
import random
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdezoo.errors import SdezooError
from sdezoo.exchange.card import card
from sdezoo.exchange.graphs import export_onnx
from sdezoo.report.page import report
from sdezoo.runs.estimator import DiffusionModel
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.impute import impute
from sdezoo.runs.likelihood import likelihood
from sdezoo.runs.overview import overview
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig

VALUES = [None, -1, 0, 1, 10**6, 10**30, 1.5, float("nan"), float("inf"), "", "x", "gbm", "mlp", "a" * 5000, [], [0], [1, 2, 3], [[1]], {}]
VALUES += [{"a": 1}, True, "int64", "timestamp[us]", "dictionary", 2**63, [-1], "score", "lift", "\ud800", '"""\nraise SystemExit(7)\n"""']


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[key], (*path, key))


def changed(state: Any, path: tuple[Any, ...], how: Any) -> Any:
    """`state` with another value at `path`, or without the entry, where `how` is `...`."""
    if not path:
        return how
    state = json.loads(json.dumps(state))
    inner = state
    for key in path[:-1]:
        inner = inner[key]
    if how is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = how
    return state


def seal(folder: Path) -> None:
    parts = sorted({*folder.iterdir()} - {folder / "SHA256SUMS"})
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n" for part in parts))


def runs(place: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Runs of each kind, and how to sample from them."""
    normal = np.random.default_rng(0).normal
    rows = (f"{k * 37 % 101 / 10:.1f},{k % 7},{'xyz'[k % 3]},2020-01-{1 + k % 28:02},{'' if k % 5 else 1.5 + k}\n" for k in range(120))
    (place / "table.csv").write_text("a,b,c,d,e\n" + "".join(rows))
    (place / "series.csv").write_text("price\n" + "".join(f"{100 * np.exp(x):.4f}\n" for x in normal(0, 0.01, 200).cumsum()))
    np.savez(place / "paths.npz", x=normal(size=(20, 9, 2)).cumsum(1).astype(np.float32), times=np.arange(9.0))
    for name in ("a", "b"):
        np.savez(place / f"{name}.npz", x=normal(size=(60, 2)).astype(np.float32))
    mlp = {"net": "mlp:width=8,depth=1"}
    ends = {"data": str(place / "a.npz"), "target": str(place / "b.npz"), "sde": "bridge", "rounds": 2}
    settings = {
        "table": {"data": str(place / "table.csv"), **mlp},
        "series": {"data": f"series:path={place / 'series.csv'},window=9", "net": "unet1d:width=4"},
        "paths": {"data": str(place / "paths.npz"), "task": "paths:width=8,depth=1"},
        "bridge": {**ends, **mlp},
    }
    for name, values in settings.items():
        run = place / name
        common = {"steps": 1, "batch_size": 4, "device": "cpu", "out": str(run)}
        train(TrainingConfig.build({**common, **values}), notify=lambda _: None)
        if name == "series":
            yield run, {"given_first": 3}
        yield (run / "rounds" / "2-forward", {"direction": "forward"}) if name == "bridge" else (run, {})


def others(run: Path, out: Path) -> dict[str, Callable[[], object]]:
    """The other commands that read the state of a run on a table, with categories, dates and missing values; of series, export alone."""
    export: dict[str, Callable[[], object]] = {"export": lambda: export_onnx(run, Path(tempfile.mkdtemp(dir=out)) / "graph", steps=2, n=2)}
    if run.name != "table":
        return export if run.name == "series" else {}
    table = run.parent / "table.csv"
    again = {"data": str(table), "steps": 1, "batch_size": 4, "device": "cpu", "out": str(out / "again"), "origin": str(run)}
    return {
        "sample, a category given": lambda: sample(run, out / "given.csv", n=2, steps=2, given=["c=x"], overwrite=True),
        "sample, a date given": lambda: sample(run, out / "given.xlsx", n=2, steps=2, given=["d=2020-01-05"], overwrite=True),
        "sample, a range given": lambda: sample(run, out / "given.parquet", n=2, steps=2, given=["a=1..5", "b=3"], overwrite=True),
        "impute": lambda: impute(run, table, out / "imputed.csv", steps=2, overwrite=True),
        "evaluate": lambda: evaluate(run, n=20, steps=2),
        "likelihood": lambda: likelihood(run, n=4, steps=2),
        "train --from": lambda: train(TrainingConfig.build(again), overwrite=True, notify=lambda _: None),
        "show": lambda: overview(run),
        "card": lambda: card(run, "name"),
        "report": lambda: report([run], out / "page.html", overwrite=True),
        "from_pretrained": lambda: DiffusionModel.from_pretrained(run).sample(2),
        **export,
    }


def answered(act: Callable[[], object], what: str) -> bool:
    """Whether a command answers with what it made or two sentences."""
    try:
        act()
    except SdezooError:
        return True
    except Exception as error:
        sys.stdout.write(f"{what}: {type(error).__name__}: {error}\n")
        return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--by", help="the only other command, such as export")
    given, bad = parser.parse_args(), 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as place:
        for run, how_to in runs(Path(place)):
            folder = checkpoint.newest(run)
            assert folder
            state = json.loads((folder / "state.json").read_text())
            sample(run, Path(place, "out.npz"), n=2, steps=2, overwrite=True, **how_to)  # as it is, it is sampled from
            trials = [(path, how) for path in places(state) for how in [*VALUES, ...] if path or how is not ...]
            dice = random.Random(given.seed)
            more = {
                name: act for name, act in others(run, Path(place)).items() if given.by == name or (not given.by and run.name == "table")
            }
            for name, act in more.items():
                bad += not answered(act, f"{run.name} as it is by {name}")
            for path, how in dice.sample(trials, given.changes // 5):
                (folder / "state.json").write_text(json.dumps(changed(state, path, how)))
                seal(folder)
                what, out = f"{run.name}: {path} as {str(how)[:40]}", Path(place, "out.npz")
                bad += not answered(lambda run=run, how_to=how_to, out=out: sample(run, out, n=2, steps=2, overwrite=True, **how_to), what)
                for name in dice.sample(sorted(more), min(3, len(more))):
                    bad += not answered(more[name], f"{what} by {name}")
            (folder / "state.json").write_text(json.dumps(state))
            seal(folder)
    sys.stdout.write(f"{given.changes} changes of state.json were sealed and sampled from; {bad} ended in a traceback.\n")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
