"""A training that is killed, interrupted or terminated at any moment goes on to the very bytes of one that was not."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import sdezoo_cli.runs.train
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig
from sdezoo.training.interruption import Interrupted
from sdezoo_cli.app import main

SETTINGS = {"net": "mlp:width=16,depth=1", "data": "wine", "batch_size": 16, "steps": 12, "device": "cpu"}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(autouse=True)
def heard() -> Iterator[None]:
    """A shell's background job inherits an ignored SIGINT, and Python then installs no handler of its own."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def config(run: Path, **values: object) -> TrainingConfig:
    return TrainingConfig.build({**SETTINGS, "out": str(run), **values})


def killed(*arguments: object) -> dict[str, int]:
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def assert_nothing_lost(found: dict[str, int], kills: int) -> None:
    assert found["kills"] >= kills
    assert (found["equal"], found["lost"]) == (found["runs"], 0), found


def test_killed_at_random_moments(tmp_path: Path) -> None:
    assert_nothing_lost(killed(tmp_path, "random", 3, 0), 3)


@pytest.mark.slow
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    found = killed(tmp_path, "random", 100, 1)
    assert_nothing_lost(found, 100)
    assert found["inside"] > 0, "some inside a save"


def test_killed_wherever_something_is_put_on_the_disk(tmp_path: Path) -> None:
    """`config.yaml`, `env.json`, `metrics.jsonl`, and eight times in each of two saves; a file and its folder each."""
    found = killed(tmp_path, "syncs")
    assert_nothing_lost(found, 22)
    assert found["inside"] == 14


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_step_and_saves(tmp_path: Path, number: signal.Signals) -> None:
    before = signal.getsignal(number)

    def report(step: int, _steps: int, _loss: float) -> None:
        if step == 3:
            signal.raise_signal(number)

    with pytest.raises(Interrupted, match="after step 4 of 12, which is saved in") as stop:
        train(config(tmp_path / "cut"), interruptible=True, progress=report)
    assert stop.value.number == number
    assert stop.value.checkpoint == checkpoint.newest(tmp_path / "cut")
    assert signal.getsignal(number) is before
    train(config(tmp_path / "cut"), resume=True)
    train(config(tmp_path / "whole"))
    for name in ("model", "ema", "optimizer", "times"):
        a, b = (load_file(checkpoint.folder_of(tmp_path / run, 12) / f"{name}.safetensors") for run in ("whole", "cut"))
        assert all(torch.equal(a[key], b[key]) for key in a), name


def test_a_second_signal_stops_at_once(tmp_path: Path) -> None:
    def report(step: int, _steps: int, _loss: float) -> None:
        if step in (3, 4):
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as stop:
        train(config(tmp_path / "run"), interruptible=True, progress=report)
    assert not isinstance(stop.value, Interrupted)
    assert checkpoint.newest(tmp_path / "run") is None, "it did not wait for the save"


def test_a_shell_that_hangs_up_twice_is_heard_once(tmp_path: Path) -> None:
    """The terminal hangs up, and the shell passes it on."""

    def report(step: int, _steps: int, _loss: float) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGHUP)

    with pytest.raises(Interrupted, match="after step 4 of 12, which is saved in"):
        train(config(tmp_path / "run"), interruptible=True, progress=report)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no such terminals")
def test_a_terminal_that_is_closed_ends_the_step_and_saves(tmp_path: Path) -> None:
    """Nothing can be printed any more then, a bar neither."""
    run = tmp_path / "run"
    options = [f"--{key.replace('_', '-')}={value}" for key, value in {**SETTINGS, "steps": 100_000}.items()]
    command = [sys.executable, "-P", "-m", "sdezoo_cli", "train", *options, f"--out={run}"]
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, command, ENVIRONMENT)
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert time.monotonic() < until
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 2**16)
    os.close(terminal)
    os.waitpid(pid, 0)
    folder = checkpoint.newest(run)
    assert folder
    checkpoint.check(folder)


def test_signals_are_left_alone_unasked(tmp_path: Path) -> None:
    def report(_step: int, _steps: int, _loss: float) -> None:
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL

    train(config(tmp_path / "run", steps=1), progress=report)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_the_command_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: signal.Signals, code: int
) -> None:
    @contextmanager
    def bar(*_: object, **__: object) -> Iterator[Callable[..., None]]:
        yield lambda done, *_: signal.raise_signal(number) if done == 3 else None

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["sdezoo", "train", "--data=wine", "--net=mlp:width=16,depth=1", "--steps=12", "--out=my run"])
    with monkeypatch.context() as patched:
        patched.setattr(sdezoo_cli.runs.train, "bar", bar)
        with pytest.raises(SystemExit) as leave:
            main()
    assert leave.value.code == code
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first == "Stopped after step 4 of 12, which is saved in 'my run/checkpoints/step-4'."
    assert second == "Resume with:  sdezoo train --out 'my run' --resume"
    monkeypatch.setattr(sys, "argv", ["sdezoo", "train", "--out", "my run", "--resume"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 0
    assert checkpoint.newest(Path("my run")) == Path("my run/checkpoints/step-12")


@pytest.mark.skipif(sys.platform != "linux", reason="finds a worker in /proc")
def test_all_workers_stop_at_one_step(tmp_path: Path) -> None:
    """The signal reaches the second of two workers alone; the first saves. One process goes on with the run."""
    run, options = tmp_path / "run", [f"--{key.replace('_', '-')}={value}" for key, value in {**SETTINGS, "steps": 100_000}.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "sdezoo_cli", "train", *options, f"--out={run}"]
    launcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    until = time.monotonic() + 120
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert launcher.poll() is None, launcher.stderr and launcher.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.1)
    _, second = map(int, Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split())
    os.kill(second, signal.SIGTERM)
    _, said = launcher.communicate(timeout=120)
    assert "Resume with:" in said
    folder = checkpoint.newest(run)
    assert folder
    step = checkpoint.read_state(folder).step
    assert f"Stopped after step {step} of 100000" in said
    with pytest.warns(UserWarning, match=r"workers=2 \(now 1\)"):
        train(config(run, steps=step + 1), resume=True)
