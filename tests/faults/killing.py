"""Trainings in forked processes, killed at random moments or at each moment at which something is put on the disk.

    python tests/faults/killing.py FOLDER random KILLS SEED
    python tests/faults/killing.py FOLDER syncs

A process that imports torch once, and starts no thread, forks one that trains; it is killed by SIGKILL, and the next one resumes. What
a run ends with is compared with an uninterrupted one: bytes of the tensors, and lines of the metrics but for their seconds. The outcome
is printed as JSON: `kills`, `inside` (of them while a checkpoint was being written), `runs`, `equal` of these, `lost`.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch

from attacks.kill import forked
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig

SETTINGS = {"net": "mlp:width=16,depth=1", "data": "wine", "batch_size": 16, "noise_levels": "importance", "device": "cpu"}


def trained(run: Path, settings: dict[str, Any]) -> None:
    """Begin a training, or go on with it."""
    config = TrainingConfig.build({**SETTINGS, **settings, "out": str(run)})
    train(config, resume=(run / "config.yaml").is_file(), notify=lambda _: None)


def outcome(run: Path) -> tuple[Any, ...]:
    """What a training ended with; nothing half-written is left."""
    assert not [*run.rglob(".*.partial"), *run.rglob(".*.removed")]
    folder = checkpoint.newest(run)
    assert folder
    checkpoint.check(folder)
    sums = [line for line in (folder / "SHA256SUMS").read_text().splitlines() if "state.json" not in line]
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return sums, [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


def at_random(folder: Path, kills: int, seed: int) -> dict[str, int]:
    """Kill after a time that is uniform over that of a whole training, until that has been done `kills` times."""
    settings = {"steps": 60, "checkpoint_every": 5, "keep": 2}
    trained(folder / "warm", settings)
    began = time.perf_counter()
    trained(folder / "whole", settings)
    seconds, expected = time.perf_counter() - began, outcome(folder / "whole")
    found, moments, k = {"kills": 0, "inside": 0, "runs": 0, "equal": 0, "lost": 0}, random.Random(seed), 0
    while True:
        run = folder / f"run-{k}"
        pid = forked(lambda run=run: trained(run, settings))
        last = found["kills"] == kills
        if not last:
            time.sleep(moments.uniform(0, seconds))
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFSIGNALED(status):
            found["kills"] += 1
            found["inside"] += any(run.glob("checkpoints/.step-*"))
            continue
        found["runs"] += 1
        found["lost"] += os.WEXITSTATUS(status) != 0
        found["equal"] += os.WEXITSTATUS(status) == 0 and outcome(run) == expected
        k += 1
        if last:
            return found


def at_syncs(folder: Path) -> dict[str, int]:
    """Kill before each call of fsync of a short training, each in a run of its own."""
    settings = {"steps": 4, "checkpoint_every": 2, "keep": 1}
    trained(folder / "whole", settings)
    expected = outcome(folder / "whole")
    found = {"kills": 0, "inside": 0, "runs": 0, "equal": 0, "lost": 0}
    while True:
        run = folder / f"run-{found['kills']}"

        def work(left: int = found["kills"], run: Path = run) -> None:
            sync = os.fsync

            def killing(handle: int) -> None:
                nonlocal left
                if not left:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                sync(handle)

            os.fsync = killing
            trained(run, settings)

        _, status = os.waitpid(forked(work), 0)
        if not os.WIFSIGNALED(status):
            return found
        found["kills"] += 1
        found["inside"] += any(run.glob("checkpoints/.step-*"))
        _, status = os.waitpid(forked(lambda run=run: trained(run, settings)), 0)
        found["runs"] += 1
        found["lost"] += status != 0
        found["equal"] += status == 0 and outcome(run) == expected


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, how, *numbers = sys.argv[1:]
    found = at_syncs(Path(place)) if how == "syncs" else at_random(Path(place), *map(int, numbers))
    sys.stdout.write(json.dumps(found) + "\n")
