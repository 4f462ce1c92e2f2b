"""Two trainings at one folder, readers while it is written, and disks that are full, read-only or gone."""

import errno
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file

from sdezoo.errors import RunError
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig

SETTINGS = {"net": "mlp:width=16,depth=1", "data": "wine", "batch_size": 8, "steps": 4, "checkpoint_every": 2, "device": "cpu"}


def config(run: Path, **values: object) -> TrainingConfig:
    return TrainingConfig.build({**SETTINGS, "out": str(run), **values})


def content(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("resume", [True, False])
def test_a_second_training_is_refused(tmp_path: Path, resume: bool) -> None:
    run, refused = tmp_path / "run", []

    def second(step: int, _steps: int, _loss: float) -> None:
        if step == 3:
            before = content(run)
            with pytest.raises(RunError, match=r"Another training run is writing to .*another --out"):
                train(config(run), resume=resume, overwrite=not resume)
            assert content(run) == before
            refused.append(step)

    train(config(run), progress=second)
    assert refused == [3]
    train(config(run, steps=5), resume=True)


def test_a_reader_meets_whole_checkpoints(tmp_path: Path) -> None:
    """While a training replaces its only checkpoint at every step."""
    run, done, read, wrong = tmp_path / "run", threading.Event(), set(), []

    def reader() -> None:
        while not done.is_set():
            try:
                time.sleep(0.002)
                if checkpoint.newest(run):
                    read.add(restore(run).state.step)
            except Exception as error:
                wrong.append(error)
                return

    thread = threading.Thread(target=reader)
    thread.start()
    try:
        train(config(run, steps=12, checkpoint_every=1, keep=1))
    finally:
        done.set()
        thread.join()
    assert not wrong
    assert len(read) > 1


@pytest.mark.parametrize("at", range(0, 24, 4))
def test_a_full_disk_keeps_what_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """From the `at`-th time on that something is put on the disk."""
    run, left, sync = tmp_path / "run", at, os.fsync

    def full(handle: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        if at < 22:
            with pytest.raises(RunError, match=r"cannot be written \(No space left on device\)\. Make room"):
                train(config(run))
        else:
            train(config(run))
    for folder in checkpoint.steps(run).values():
        checkpoint.check(folder)
    assert not list(run.rglob(".*.partial"))
    train(config(run), resume=(run / "config.yaml").is_file(), notify=lambda _: None)
    train(config(tmp_path / "whole"))
    a, b = (load_file(checkpoint.folder_of(tmp_path / name, 4) / "ema.safetensors") for name in ("run", "whole"))
    assert all((a[key] == b[key]).all() for key in a)


@pytest.mark.parametrize(("gone", "every"), [("", 2), ("", 3), ("*", 2), ("checkpoints", 2)])
def test_a_folder_that_vanishes_is_not_begun_anew(tmp_path: Path, gone: str, every: int) -> None:
    """Before a line is written, and between it and its checkpoint; all of it, all that was mounted there, or the checkpoints alone."""
    run = tmp_path / "run"

    def vanish(step: int, _steps: int, _loss: float) -> None:
        if step == 3:
            for path in run.glob(gone) if gone else [run]:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    with pytest.raises(RunError, match=r"metrics.jsonl' cannot be written \(No such file|is gone\. Restore it.*--resume"):
        train(config(run, checkpoint_every=every), progress=vanish)
    assert not list(run.glob(gone or "*"))


def unshared(*command: str) -> list[str]:
    return ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"]), *command]


def may_mount() -> bool:
    if sys.platform != "linux" or not shutil.which("unshare"):
        return False
    return subprocess.run(unshared("mount", "-t", "tmpfs", "none", "/mnt"), capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not may_mount(), reason="no file system can be mounted here")
def test_real_disks(tmp_path: Path) -> None:
    script = str(Path(__file__).with_name("faulty_disk.py"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        unshared(sys.executable, script, str(tmp_path)), capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    reached = found["full"]["whole"]
    assert len(reached) >= 2
    for name in ("full", "still full"):
        assert "cannot be written (No space left on device). Make room" in found[name]["words"]
        assert found[name]["whole"] == reached
        assert found[name]["left"] == []
    last = reached[-1]
    assert found["room"] == {"words": None, "whole": list(range(1, last + 3)), "left": []}
    assert "cannot be written to. Give another --out" in found["read-only"]["words"]
    assert found["read-only"]["whole"] == found["room"]["whole"]
    assert "is gone. Restore it" in found["vanished"]["words"]
    assert found["there"] == [], "nothing is written where it was mounted"
