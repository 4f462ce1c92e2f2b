"""Trainings on a disk that is full, read-only, or gone: a small file system in memory, in a namespace of mounts of its own.

    unshare --mount --map-root-user python tests/faults/faulty_disk.py FOLDER

What each training says, and which checkpoints are whole after it, is printed as JSON.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from sdezoo.errors import RunError
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig
from sdezoo.training.loop import TrainingProgress

SETTINGS = {"net": "mlp:width=32,depth=1", "data": "wine", "batch_size": 8, "checkpoint_every": 1, "keep": 100, "device": "cpu"}


def mount(*options: str) -> None:
    """Call `mount`."""
    subprocess.run(["mount", *options], check=True)


def said(disk: Path, steps: int, *, resume: bool = True, progress: TrainingProgress | None = None) -> dict[str, Any]:
    """What a training says, and which checkpoints are whole after it."""
    run, words = disk / "run", None
    try:
        config = TrainingConfig.build({**SETTINGS, "steps": steps, "out": str(run)})
        train(config, resume=resume, progress=progress, notify=lambda _: None)
    except RunError as error:
        words = str(error)
    whole = []
    for step, folder in checkpoint.steps(run).items():
        checkpoint.check(folder)
        whole.append(step)
    return {"words": words, "whole": whole, "left": [str(path.name) for path in run.rglob(".*") if path.name != ".lock"]}


def main(disk: Path) -> None:
    """Make the disk, and train on it."""
    mount("-t", "tmpfs", "-o", "size=1m", "none", str(disk))
    found: dict[str, Any] = {"full": said(disk, 100, resume=False), "still full": said(disk, 100)}
    steps = found["full"]["whole"][-1]
    mount("-o", "remount,size=100m", str(disk))
    found["room"] = said(disk, steps + 2)
    mount("-o", "remount,ro", str(disk))
    found["read-only"] = said(disk, steps + 4)
    mount("-o", "remount,rw", str(disk))

    def vanish(step: int, _steps: int, _loss: float) -> None:
        if step == steps + 3:
            subprocess.run(["umount", "--lazy", str(disk)], check=True)

    found["vanished"] = said(disk, steps + 4, progress=vanish)
    found["there"] = sorted(path.name for path in disk.iterdir())
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
