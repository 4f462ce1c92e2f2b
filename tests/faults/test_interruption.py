"""Ctrl-C at any moment, and what the command finds around it: messages, never a traceback."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.errors import RunError
from sdezoo.runs import estimator
from sdezoo.runs.estimator import DiffusionModel
from sdezoo.runs.train import train
from sdezoo.store.launch import is_first, launched
from sdezoo.training.config import TrainingConfig

STARTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
modules = {modules!r}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in modules:
            modules.remove(name)
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
{patch}
from sdezoo_cli.app import main
sys.argv = ["sdezoo", *{arguments!r}]
main()
"""

AGAIN = """
from sdezoo.store.shards import Shards
put, rows = Shards.put, Shards.rows
def twice(self):
    if interrupted:
        signal.raise_signal(signal.SIGINT)
    return rows(self)
interrupted = []
def first(self, k, parts):
    interrupted.append(k)
    signal.raise_signal(signal.SIGINT)
Shards.put, Shards.rows = first, twice
"""


def started(
    folder: Path, arguments: list[str], modules: tuple[str, ...] = (), patch: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    code = STARTED.format(modules=list(modules), arguments=arguments, patch=patch)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-P", "-c", code]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = {"net": "mlp:width=16,depth=1", "data": "wine", "batch_size": 8, "steps": 1, "device": "cpu"}
    return train(TrainingConfig.build({**settings, "out": str(tmp_path_factory.mktemp("trained") / "run")})).run


@pytest.mark.parametrize("module", ["sdezoo.errors", "sdezoo_cli.commands", "typer", "sdezoo_cli.runs.train", "torch", "sdezoo.runs.train"])
def test_an_interruption_of_the_start_is_no_traceback(tmp_path: Path, module: str) -> None:
    done = started(tmp_path, ["train", "--data", "wine"], (module,))
    assert done.returncode == 128 + signal.SIGINT, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "modules", [("typer", "torch"), ("torch", "sdezoo.store.restoring"), ("sdezoo.runs.sample", "sdezoo.store.launch")]
)
def test_a_second_one_neither(tmp_path: Path, run: Path, modules: tuple[str, str]) -> None:
    done = started(tmp_path, ["sample", str(run), "--out", "a.npy"], modules)
    assert done.returncode in (128 + signal.SIGINT, -signal.SIGINT)
    assert "Traceback" not in done.stderr


def test_a_second_one_while_sampling_ends_at_once(tmp_path: Path, run: Path) -> None:
    command = ["sample", str(run), "-n", "20", "--batch-size", "2", "--out", "a.npy", "--quiet"]
    done = started(tmp_path, command, patch=AGAIN)
    assert done.returncode == -signal.SIGINT
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two, which is not a whole number"),
        ({"RANK": ""}, "RANK=, which is not a whole number"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x, which is not"),
        ({"MASTER_PORT": "x"}, "MASTER_PORT=x, which is not"),
        ({"WORLD_SIZE": "0"}, "RANK=0 and WORLD_SIZE=0, which is no rank"),
        ({"RANK": "1"}, "RANK=1 and WORLD_SIZE=1, which is no rank"),
        ({"RANK": "-1"}, "RANK=-1"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2, but not RANK"),
        ({"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_PORT": "1"}, "but not MASTER_ADDR"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK=0, but not WORLD_SIZE"),
    ],
)
def test_a_broken_launch_is_named(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], says: str) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    for ask in (launched, is_first):
        with pytest.raises(RunError, match=says) as error:
            ask()
        assert error.value.remedy == "Unset it, or start with torchrun or accelerate launch."


@pytest.mark.parametrize(
    ("command", "environment"),
    [(["train", "--data", "wine", "--steps", "1"], {"WORLD_SIZE": "2"}), (["sample", "RUN", "--out", "a.npy"], {"LOCAL_RANK": "x"})],
)
def test_a_broken_launch_is_two_sentences(tmp_path: Path, run: Path, command: list[str], environment: dict[str, str]) -> None:
    done = started(tmp_path, [str(run) if part == "RUN" else part for part in command], **environment)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: The environment has ")
    assert len(done.stderr.splitlines()) == 2
    assert not list(tmp_path.iterdir())


def test_a_working_folder_that_is_gone_is_two_sentences(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    patch = f"import os\nos.chdir({str(tmp_path / 'gone')!r})\nos.rmdir({str(tmp_path / 'gone')!r})"
    done = started(tmp_path, ["train", "--data", "wine"], patch=patch)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "Error: The working folder does not exist any more.\n       Change to another folder.\n"


LONG = "x" * 300


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--out", LONG],
        ["train", "--data", f"{LONG}.csv"],
        ["train", "--config", LONG],
        ["train", "--plugin", LONG],
        ["train", "--plugin", f"{LONG}.py"],
        ["sample", LONG],
        ["sample", "RUN", "--out", f"{LONG}.csv"],
        ["sample", "RUN", "--from", f"{LONG}.csv", "--out", "a.csv"],
        ["sample", "RUN", "--out", "a.csv", "--trajectory", f"{LONG}.png"],
        ["show", LONG],
        ["show", f"./{LONG}"],
        ["evaluate", LONG],
        ["evaluate", "RUN", "--out", LONG],
        ["evaluate", "RUN", "--samples", f"{LONG}.csv"],
        ["check", "--plugin", LONG],
        ["check", "gbm", "--compare", LONG],
        ["verify", "gbm", "--out", LONG],
        ["bench", "noise", "--out", LONG],
        ["new", "sde", "a", "--into", LONG],
        ["new", "sde", LONG],
    ],
)
def test_a_name_that_is_too_long_is_two_sentences(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    from sdezoo_cli.app import main

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sdezoo", *(str(run) if part == "RUN" else part for part in command)])
    with pytest.raises(SystemExit) as leave:
        main()
    _, err = capsys.readouterr()
    assert leave.value.code == 2
    assert err.startswith("Error: ")
    assert len(err.splitlines()) == 2


def test_a_fit_that_a_notebook_interrupts_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel gets SIGINT; the next cell fits the same model as if nothing had been."""
    rows, temporary = np.random.default_rng(0).normal(size=(60, 2)), tmp_path / "temporary"
    settings = {"sde": "vp", "net": "mlp:width=8,depth=1", "steps": 4, "device": "cpu", "random_state": 0}
    whole = DiffusionModel(**settings).fit(rows).sample(5)
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))

    def interrupting() -> Callable[[int, int, float], None]:
        return lambda done, _total, _loss: signal.raise_signal(signal.SIGINT) if done == 2 else None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threads, model = torch.get_num_threads(), DiffusionModel(**settings, verbose=True)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(estimator, "print_progress", interrupting)
            with pytest.raises(KeyboardInterrupt):
                model.fit(rows)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert torch.get_num_threads() == threads
    assert not list(temporary.iterdir())
    assert not hasattr(model, "trained_")
    np.testing.assert_array_equal(model.set_params(verbose=False).fit(rows).sample(5), whole)
