"""`sdezoo sample` for large runs: interrupted it says how to resume, launched several times it gives the same file."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.runs.train import train
from sdezoo.store.shards import Shards
from sdezoo.training.config import TrainingConfig

Terminal = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = str(tmp_path_factory.mktemp("wine") / "run")
    return train(TrainingConfig.build({"net": "mlp:width=16,depth=1", "steps": 2, "data": "wine", "batch_size": 8, "out": out})).run


@pytest.fixture
def sample(run: Path, terminal: Terminal) -> Terminal:
    """Runs `sdezoo sample RUN --steps 3 --batch-size 2 …` in this process and an empty folder: a shard has 16 rows."""
    return lambda *arguments: terminal("sample", run, "--steps", 3, "--batch-size", 2, *arguments)


def stop_at(monkeypatch: pytest.MonkeyPatch, k: int, error: BaseException) -> None:
    put = Shards.put

    def stopped(self: Shards, at: int, *arguments: object) -> None:
        if at == k:
            raise error
        put(self, at, *arguments)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(Shards, "put", stopped)


def test_an_interrupt_says_how_to_go_on(sample: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_at(patch, 2, KeyboardInterrupt())
        code, out, err = sample("-n", 50, "--out", "s.npz", "--quiet")
    assert (code, out) == (130, "")
    assert err == "Interrupted: 32 of 50 samples are kept in 's.npz.parts'. Give the same command to resume.\n"
    code, out, _ = sample("-n", 50, "--out", "s.npz", "--json")
    assert code == 0
    assert json.loads(out)["kept"] == 32
    assert sample("-n", 50, "--out", "t.npz", "--quiet")[0] == 0
    assert Path("s.npz").read_bytes() == Path("t.npz").read_bytes()
    assert sorted(os.listdir()) == ["s.npz", "t.npz"]


def test_an_interrupt_before_the_first_shard_leaves_nothing(sample: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at(monkeypatch, 0, KeyboardInterrupt())
    assert sample("-n", 50, "--out", "s.npz", "--quiet") == (130, "", "Interrupted: nothing was written.\n")
    assert os.listdir() == []


def test_a_drawing_with_overwrite_goes_on_too(sample: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("s.npz").write_text("old")
    with monkeypatch.context() as patch:
        stop_at(patch, 1, KeyboardInterrupt())
        assert sample("-n", 50, "--out", "s.npz", "--overwrite", "--quiet")[0] == 130
    assert Path("s.npz").read_text() == "old"
    code, out, _ = sample("-n", 50, "--out", "s.npz", "--overwrite")
    assert code == 0
    assert "16 of them were drawn before" in out


def test_seeds_are_rows(sample: Terminal) -> None:
    sample("-n", 20, "--out", "all.npy", "--quiet")
    code, out, err = sample("--seeds", "3,17-19,0", "--out", "some.npy", "--json")
    assert code == 0, err
    assert json.loads(out)["n"] == 5
    assert json.loads(out)["seeds"] == "3,17-19,0"
    torch.testing.assert_close(*(torch.from_numpy(x) for x in (np.load("some.npy"), np.load("all.npy")[[3, 17, 18, 19, 0]])))


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        ("--seeds 5-3", "'5-3'", "100-120"),
        ("--seeds 1,1", "1 twice", "once"),
        ("--seeds 1 -n 2", "-n and --seeds", "one of them"),
        ("--precision fp8", "precision=fp8", "bf16"),
        ("--batch-size 0", "batch_size=0", "at least 1"),
        ("--trajectory way.mp4", "'way.mp4'", ".gif"),
        ("--trajectory s.png", "both", "another name"),
    ],
)
def test_a_mistake_is_two_sentences_and_leaves_nothing(sample: Terminal, arguments: str, problem: str, remedy: str) -> None:
    code, out, err = sample("--out", "s.png", *arguments.split())
    assert (code, out) == (2, "")
    first, second = err.rstrip("\n").split("\n")
    assert first.startswith("Error: ")
    assert problem in first
    assert remedy in second
    assert os.listdir() == []


def test_a_trajectory_and_bfloat16(sample: Terminal) -> None:
    code, out, err = sample("-n", 20, "--out", "s.csv", "--trajectory", "way.gif", "--precision", "bf16")
    assert code == 0, err
    assert "Trajectories of the first 20: way.gif" in out
    assert sorted(os.listdir()) == ["s.csv", "way.gif"]


def launch(run: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    with socket.socket() as free:  # 0 is a free port to new versions of accelerate alone
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    settings = ["--main_process_port", port, "--mixed_precision", "no", "--dynamo_backend", "no", "--no_python", "sdezoo"]
    command = ["sample", str(run), "--steps", "3", "--batch-size", "2", "--device", "cpu", *arguments]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path}
    return subprocess.run([*launcher, *settings, *command], cwd=folder, env=alone, capture_output=True, text=True, check=False, timeout=300)


def test_processes_launched_by_accelerate_give_the_same_file(sample: Terminal, run: Path, tmp_path: Path) -> None:
    done = launch(run, tmp_path, "-n", "50", "--out", "two.npz", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["n"] == 50  # some versions of gloo say so when they connect
    assert sample("-n", 50, "--out", "one.npz", "--quiet")[0] == 0
    assert Path("two.npz").read_bytes() == Path("one.npz").read_bytes()
    assert sorted(os.listdir()) == ["one.npz", "two.npz"]


@pytest.mark.slow
def test_of_launched_processes_one_says_what_is_refused(run: Path, tmp_path: Path) -> None:
    (tmp_path / "two.npz").touch()
    refused = launch(run, tmp_path, "-n", "50", "--out", "two.npz")
    assert refused.returncode != 0
    assert refused.stderr.count("Error: 'two.npz' exists.") == 1


def test_labels_are_asked_for_in_words(sample: Terminal) -> None:
    for label in ("cat", 0):
        code, _, said = sample("--label", label)
        assert (code, "This model is unconditional" in said) == (2, True)


def test_without_a_name_samples_go_to_the_run_and_replace_none(sample, run):
    """The same command may be given again."""
    folder = run / "samples"
    before = {path.name for path in folder.iterdir()} if folder.exists() else set()
    for _ in range(2):
        code, _, err = sample("-n", 2)
        assert code == 0, err
    assert {path.name for path in folder.iterdir()} - before == {"samples.csv", "samples-2.csv"}
    first = (folder / "samples.csv").read_bytes()
    assert first == (folder / "samples-2.csv").read_bytes()
    assert sample("-n", 3, "--overwrite")[0] == 0
    assert (folder / "samples.csv").read_bytes() != first
