"""Kill training, sampling, evaluation, imputation and reports by SIGKILL at random moments, repeat the command, and compare hashes.

    python -P attacks/kill.py --kills 100 --seed 0 --only bridge

A process that imports torch once, and starts no thread, forks each command. A kill comes after a time that is uniform over that of the
whole command; the next command resumes. What it ends with must be what an uninterrupted one ends with, byte for byte (but for the seconds
that are recorded), and nothing half-written may lie beside it.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sdezoo.errors import RunError
from sdezoo.report.page import report
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.impute import impute
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig

SETTINGS = {"net": "mlp:width=16,depth=1", "batch_size": 16, "device": "cpu", "checkpoint_every": 5, "keep": 2}
SECONDS = ("seconds", "images_per_second")


class Command(NamedTuple):
    """What is killed, and what it ends with."""

    act: Callable[[Path], object]
    outcome: Callable[[Path], str]


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def of_run(place: Path) -> str:
    """What a run ends with, and each of its rounds."""
    run = place / "run"
    return digest([_of_one(folder) for folder in (sorted((run / "rounds").iterdir()) if (run / "rounds").exists() else [run])])


def _of_one(run: Path) -> str:
    folder = checkpoint.newest(run)
    assert folder
    checkpoint.check(folder)
    sums = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if "state.json" not in line]
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    rows = [{key: value for key, value in line.items() if key not in SECONDS} for line in lines]
    return digest(run.name, sums, sorted(checkpoint.steps(run)), [path.read_bytes() for path in sorted(run.glob("coupling/*"))], rows)


def of_files(place: Path) -> str:
    files = sorted(path for path in place.rglob("*") if path.is_file())
    return digest([(str(path.relative_to(place)), hashlib.sha256(_content(path)).hexdigest()) for path in files])


def _content(path: Path) -> bytes:
    if path.name != "evaluation.json":
        return path.read_bytes()
    return json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "seconds"}).encode()


def commands(folder: Path) -> dict[str, Command]:
    """The commands, on a small table with categories and missing values."""
    table = folder / "table.csv"
    rows = (f"{k * 37 % 101 / 10:.1f},{k % 7},{'xyz'[k % 3]},{'' if k % 5 == 0 else 1.5 + k % 11}\n" for k in range(120))
    table.write_text("a,b,c,d\n" + "".join(rows))
    trained = folder / "trained"
    train(TrainingConfig.build({**SETTINGS, "data": str(table), "sde": "auto", "steps": 5, "out": str(trained)}), notify=lambda _: None)

    normal = np.random.default_rng(0).normal
    np.savez(folder / "a.npz", x=normal(size=(200, 2)).astype(np.float32))
    np.savez(folder / "b.npz", x=normal(1, size=(150, 2)).astype(np.float32))
    np.savez(folder / "paths.npz", x=normal(size=(30, 12, 2)).cumsum(1).astype(np.float32), times=np.arange(12) / 4)
    ends = {"data": str(folder / "a.npz"), "target": str(folder / "b.npz"), "sde": "bridge", "task": "bridge:simulation_steps=3"}

    def resumed(**settings: object) -> Callable[[Path], object]:
        def act(place: Path) -> None:
            run = place / "run"
            config = TrainingConfig.build({**SETTINGS, "steps": 40, **settings, "out": str(run)})
            train(config, resume=(run / "config.yaml").is_file(), notify=lambda _: None)

        return act

    def drawn(ending: str) -> Callable[[Path], object]:
        def act(place: Path) -> None:
            try:
                sample(trained, place / f"out.{ending}", n=60, steps=4, batch_size=2)
            except RunError as error:
                if "exists" not in error.problem:  # a kill at the very end
                    raise

        return act

    def filled(place: Path) -> None:
        impute(trained, table, place / "out.csv", steps=6, overwrite=True)

    def measured(place: Path) -> None:
        evaluate(trained, n=40, steps=4, out=place / "measures", overwrite=True)

    def reported(place: Path) -> None:
        report([trained], place / "page.html", overwrite=True)

    return {
        "train": Command(resumed(data="wine", noise_levels="importance"), of_run),
        "bridge": Command(resumed(**ends, rounds=3, steps=10, checkpoint_every=4, keep=1), of_run),
        "paths": Command(resumed(task="paths:width=8,depth=1", data=str(folder / "paths.npz"), net=None, steps=30), of_run),
        "sample csv": Command(drawn("csv"), of_files),
        "sample npz": Command(drawn("npz"), of_files),
        "impute": Command(filled, of_files),
        "evaluate": Command(measured, of_files),
        "report": Command(reported, of_files),
    }


def forked(work: Callable[[], object]) -> int:
    """Fork a process that does `work` and ends."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def killed(command: Command, folder: Path, kills: int, moments: random.Random) -> dict[str, int]:
    """Kill a command until that has been done `kills` times; each run ends at last."""
    for place in ("warm", "whole"):
        (folder / place).mkdir(parents=True)
        began = time.perf_counter()
        os.waitpid(forked(lambda place=place: command.act(folder / place)), 0)
        seconds = time.perf_counter() - began
    expected = command.outcome(folder / "whole")
    found, k = {"kills": 0, "runs": 0, "equal": 0, "lost": 0, "left": 0}, 0
    while found["kills"] < kills:
        place = folder / f"run-{k}"
        place.mkdir(exist_ok=True)
        pid = forked(lambda place=place: command.act(place))
        time.sleep(moments.uniform(0, 1.1 * seconds))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            found["kills"] += 1
            if found["kills"] < kills:
                continue
            _, status = os.waitpid(forked(lambda place=place: command.act(place)), 0)
        found["runs"] += 1
        found["lost"] += os.WEXITSTATUS(status) != 0
        found["left"] += any(path.name.endswith((".partial", ".removed", ".parts")) for path in place.rglob("*"))
        found["equal"] += os.WEXITSTATUS(status) == 0 and command.outcome(place) == expected
        shutil.rmtree(place)
        k += 1
    return found


def main() -> int:
    """Kill all commands; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", help="commands; default: all")
    given = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, command in commands(Path(folder)).items():
            if given.only and name not in given.only:
                continue
            found = killed(command, Path(folder) / name.replace(" ", "-"), given.kills, random.Random(given.seed))
            sys.stdout.write(f"{name}: {json.dumps(found)}\n")
            sys.stdout.flush()
            bad += found["lost"] + found["left"] + found["runs"] - found["equal"]
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
