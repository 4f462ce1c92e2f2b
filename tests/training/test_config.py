"""Config files: plain values alone, whatever YAML can say; what does not fit is refused by name."""

import os
from pathlib import Path

import pytest

from sdezoo.errors import ParameterError, RunError
from sdezoo.store.files import writable_folder
from sdezoo.store.launch import resolve_device
from sdezoo.training.config import TrainingConfig

LAUGHS = "a: &a [x, x]\n" + "".join(f"{k}: &{k} [*{j}, *{j}, *{j}]\n" for j, k in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True))


def read(folder: Path, text: str) -> TrainingConfig:
    (folder / "config.yaml").write_text(text)
    return TrainingConfig.build(TrainingConfig.read(folder / "config.yaml"))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    config = TrainingConfig(sde="gbm:sigma=0.8", shift="auto", lr=1e-3, out="runs/ü: *a", compile=True)
    config.write(tmp_path / "config.yaml")
    assert TrainingConfig.build(TrainingConfig.read(tmp_path / "config.yaml")) == config


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a mapping of settings"),
        ("[1]", "not a mapping of settings"),
        ("1: 2", "not a mapping of settings"),
        ("steps: [1]", "not a mapping of settings"),
        ("steps: {a: 1}", "not a mapping of settings"),
        ("a: &x 1\nsteps: *x", "not a mapping of settings"),
        ("<<: {steps: 1}", "not a mapping of settings"),
        (LAUGHS, "not a mapping of settings"),
        ("steps: 0x" + "f" * 100, "not a mapping of settings"),
        ("a: 1\n---\nb: 2\n", "not a mapping of settings"),
        ("steps: 2001-99-99", "is not YAML"),
        ("steps: !!timestamp x", "is not YAML"),
        ("steps: !!bool x", "is not YAML"),
        ("steps: !!python/object/apply:os.getcwd []", "not a mapping of settings"),
        ("steps: !!python/name:os.getcwd ''", "is not YAML"),
        ("\0", "is not YAML"),
        ("a: " * 40_000, "is not YAML|not a mapping"),
        ("a: " + "b" * 200_000, "too large"),
        ("a: 1", "no setting 'a'"),
        ("steps: -1", "steps=-1 is not allowed"),
        ("lr: .nan", "lr=nan is not allowed"),
    ],
)
def test_what_is_no_config_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says) as refusal:
        read(tmp_path, text)
    assert len(str(refusal.value)) < 1000


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "nowhere", tmp_path / ("a" * 300)):
        with pytest.raises(RunError, match=r"is not a file|cannot be read"):
            TrainingConfig.read(path)


@pytest.mark.parametrize("name", ["a" * 300, "a\0b", "b" * 300 + "/c"])
def test_a_folder_that_no_system_could_make(name: str) -> None:
    with pytest.raises(RunError, match="cannot be a folder"):
        writable_folder(Path(name))


@pytest.mark.parametrize("name", ["meta", "gpu", "", "cpu:99999999999", "cuda:99"])
def test_a_device_that_computes_nothing(name: str) -> None:
    with pytest.raises(RunError, match="no device"):
        resolve_device(name)
