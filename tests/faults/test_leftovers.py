"""What a kill leaves between two operations on the disk is cleared by the same command, and no file of a living process is."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdezoo.errors import RunError
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store import checkpoint, files
from sdezoo.store.shards import Shards
from sdezoo.training.config import TrainingConfig

SETTINGS = {"net": "mlp:width=16,depth=1", "data": "wine", "batch_size": 8, "checkpoint_every": 1, "device": "cpu"}


def config(run: Path, **values: object) -> TrainingConfig:
    return TrainingConfig.build({**SETTINGS, "out": str(run), **values})


class Killed(BaseException):
    """Stands for a kill: nothing after it is done."""


def killed(monkeypatch: pytest.MonkeyPatch, name: str, work: Callable[[], object]) -> None:
    """Do `work` up to the call of the function `name`."""

    def stop(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(name, stop)
        with pytest.raises(Killed):
            work()


def test_a_checkpoint_too_many_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill between saving the last checkpoint and pruning."""
    run = tmp_path / "run"
    train(config(run, steps=3, keep=1))
    prune = checkpoint.prune

    def stop(run: Path, step: int, keep: int) -> None:
        if step == 4:
            raise Killed
        prune(run, step, keep)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "prune", stop)
        with pytest.raises(Killed):
            train(config(run, steps=4, keep=1), resume=True)
    assert set(checkpoint.steps(run)) > {4, checkpoint.best(run)}
    train(config(run, steps=4, keep=1), resume=True, notify=lambda _: None)
    assert set(checkpoint.steps(run)) == {4, checkpoint.best(run)}


def test_a_damaged_checkpoint_saves_the_one_before(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(config(run, steps=3, keep=2))
    *_, before, last = checkpoint.steps(run).values()
    (last / "ema.safetensors").write_bytes(b"")

    def report(_step: int, _steps: int, _loss: float) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(config(run, steps=5, keep=1), resume=True, notify=lambda _: None, progress=report)
    assert before.is_dir()
    assert last.is_dir(), "it stays for whoever wants to look at it until a later one is saved"


def _dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.mark.parametrize("part", ["", "checkpoints", "samples", "evaluation"])
def test_leftovers_of_dead_processes_are_swept(tmp_path: Path, part: str) -> None:
    run = tmp_path / "run"
    train(config(run, steps=1))
    (run / part).mkdir(exist_ok=True)
    dead, living = (run / part / f".step-1.csv.{process}.partial" for process in (_dead(), os.getppid()))
    for file in (dead, living):
        file.touch()
    train(config(run, steps=2), resume=True)
    assert not dead.exists()
    assert living.exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(tmp_path_factory.mktemp("trained") / "run", steps=1)).run


@pytest.mark.parametrize("ending", ["npz", "npy", "csv", "parquet", "png"])
def test_a_command_that_was_killed_after_it_wrote_its_file_ends_well(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Between the rename of the file and the removal of the parts."""
    out = tmp_path / f"out.{ending}"

    def draw() -> object:
        return sample(trained, out, n=20, batch_size=2, steps=2)

    killed(monkeypatch, "sdezoo.store.shards.Shards.remove", draw)
    written, parts = out.read_bytes(), Shards.folder_of(out)
    assert parts.is_dir()
    out.write_bytes(b"of somebody else")
    with pytest.raises(RunError, match="exists"):
        draw()
    assert out.read_bytes() == b"of somebody else"
    out.write_bytes(written)
    draw()
    assert out.read_bytes() == written
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    with pytest.raises(RunError, match="exists"):
        draw()


def test_parts_disappear_at_once(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while they are deleted leaves a file that is complete, and nothing that the next command meets."""
    out = tmp_path / "out.npy"
    killed(monkeypatch, "shutil.rmtree", lambda: sample(trained, out, n=20, batch_size=2, steps=2))
    assert not Shards.folder_of(out).exists()
    sample(trained, out, n=20, batch_size=2, steps=2, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EIO])
def test_some_file_systems_cannot_flush_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    sync = os.fsync

    def refused(handle: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(code, os.strerror(code))
        sync(handle)

    monkeypatch.setattr(os, "fsync", refused)
    if code == errno.EIO:
        with pytest.raises(RunError, match="cannot be written"):
            train(config(tmp_path / "run", steps=1))
    else:
        train(config(tmp_path / "run", steps=1))


def test_a_file_that_cannot_be_flushed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_handle: int) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(RunError, match="cannot be written"), files.atomic_write(tmp_path / "file", "") as file:
        file.write(b"x")
