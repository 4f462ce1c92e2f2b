"""Rounds and couplings of a bridge that somebody else packed, or that a killed run left: training resumes, or says what is wrong."""

import hashlib
import itertools
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from sdezoo.bridging.rounds import newest_round, round_folder
from sdezoo.errors import RunError
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig
from sdezoo.training.interruption import Interrupted

SETTINGS: dict[str, Any] = {
    "sde": "bridge",
    "net": "mlp:width=8,depth=1",
    "steps": 2,
    "batch_size": 4,
    "checkpoint_every": 1,
    "keep": 1,
    "rounds": 2,
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    for name, seed in (("a", 0), ("b", 1)):
        np.savez(folder / f"{name}.npz", x=np.random.default_rng(seed).normal(size=(40, 2)).astype(np.float32))
    train(config(folder / "run", folder), notify=lambda _: None)
    return folder / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def config(run: Path, data: Path, **values: Any) -> TrainingConfig:
    ends = {"data": str(data / "a.npz"), "target": str(data / "b.npz"), "device": "cpu"}
    return TrainingConfig.build({**SETTINGS, **ends, "out": str(run), **values})


def resumed(run: Path, trained: Path, **values: Any) -> None:
    train(config(run, trained.parent, **values), resume=True, notify=lambda _: None)


def forged(folder: Path, **tensors: torch.Tensor) -> None:
    """Another coupling, with a digest that fits."""
    file = folder / "coupling" / "pairs.safetensors"
    save_file({key: values for key, values in tensors.items() if values.numel()}, file)
    (file.parent / "SHA256SUMS").write_text(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n")


def test_other_pairs_are_not_trained_on(run: Path, trained: Path) -> None:
    forged(round_folder(run, 2), **{"early.0": torch.zeros(40, 2), "late.0": torch.ones(40, 2)})
    with pytest.raises(RunError, match="has task=bridge"):
        resumed(run, trained)


@pytest.mark.parametrize(
    "change",
    [
        lambda good: {},
        lambda good: {"early.0": good["early.0"]},
        lambda good: {**good, "late.1": good["late.0"].clone()},
        lambda good: {**good, "late.0": good["late.0"][:3]},
        lambda good: {key: values[:, :1].contiguous() for key, values in good.items()},
        lambda good: {key: values.double() for key, values in good.items()},
        lambda good: {**good, "early.0": good["early.0"] * torch.nan},
    ],
    ids=["empty", "one end", "a span too many", "not paired", "another shape", "another dtype", "not finite"],
)
def test_a_coupling_that_does_not_fit_is_two_sentences(run: Path, trained: Path, change: Callable[[Any], Any]) -> None:
    folder = round_folder(run, 2)
    shutil.rmtree(folder / "checkpoints")
    forged(folder, **change(load_file(folder / "coupling" / "pairs.safetensors")))
    with pytest.raises(RunError, match=r"does not fit the run\. Remove '.*2-forward' to train this round again"):
        resumed(run, trained)


def test_a_round_that_was_removed_is_trained_again(run: Path, trained: Path) -> None:
    folder = round_folder(run, 2)
    shutil.rmtree(folder)
    resumed(run, trained)
    for name in ("checkpoints/step-2/ema.safetensors", "coupling/pairs.safetensors"):
        assert (folder / name).read_bytes() == (round_folder(trained, 2) / name).read_bytes()


def test_a_header_of_entries_alone_is_not_read(run: Path, trained: Path) -> None:
    folder = round_folder(run, 2)
    content = (2**24).to_bytes(8, "little") + b"[" * 2**24
    (folder / "coupling" / "pairs.safetensors").write_bytes(content)
    (folder / "coupling" / "SHA256SUMS").write_text(f"{hashlib.sha256(content).hexdigest()}  pairs.safetensors\n")
    shutil.rmtree(folder / "checkpoints")
    with pytest.raises(RunError, match="does not fit"):
        resumed(run, trained)


@pytest.mark.parametrize(("name", "value"), [("net", "mlp:width=9,depth=1"), ("seed", 1)])
def test_a_round_of_another_run_is_refused(run: Path, trained: Path, tmp_path: Path, name: str, value: Any) -> None:
    other = tmp_path / "other"
    train(config(other, trained.parent, rounds=1, **{name: value}), notify=lambda _: None)
    shutil.rmtree(round_folder(run, 1))
    shutil.copytree(round_folder(other, 1), round_folder(run, 1))
    with pytest.raises(RunError, match=rf"1-backward/checkpoints/step-2' has {name}="):
        resumed(run, trained, rounds=3)


def test_changed_data_do_not_go_into_the_next_round(run: Path, trained: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 2), ("b", 1)):
        np.savez(tmp_path / f"{name}.npz", x=np.random.default_rng(seed).normal(size=(40, 2)).astype(np.float32))
    text = (run / "config.yaml").read_text().replace(str(trained.parent), str(tmp_path))
    (run / "config.yaml").write_text(text)
    with pytest.raises(RunError, match=r"1-backward.* has (encoding|data|sde)="):
        train(config(run, tmp_path, rounds=3), resume=True, notify=lambda _: None)


def test_what_a_kill_leaves_in_an_earlier_round_is_removed(run: Path, trained: Path) -> None:
    """Between saving and pruning, and while a checkpoint was removed."""
    first = round_folder(run, 1)
    state = (first / "checkpoints" / "step-2" / "state.json").read_bytes()
    shutil.copytree(first / "checkpoints" / "step-2", first / "checkpoints" / "step-1")
    file = first / "checkpoints" / "step-1" / "state.json"
    file.write_bytes(state.replace(b'"step": 2', b'"step": 1'))
    sums = first / "checkpoints" / "step-1" / "SHA256SUMS"
    lines = [line for line in sums.read_text().splitlines(keepends=True) if "state.json" not in line]
    sums.write_text("".join([*lines, f"{hashlib.sha256(file.read_bytes()).hexdigest()}  state.json\n"]))
    (first / "checkpoints" / ".step-0.removed").mkdir()
    resumed(run, trained)
    assert [path.name for path in (first / "checkpoints").iterdir()] == ["step-2"]


def test_one_round_is_not_resumed_as_a_bridge(run: Path, trained: Path) -> None:
    folder = round_folder(run, 2)
    settings = {**TrainingConfig.read(folder / "config.yaml"), "out": str(folder)}
    before = sorted(run.rglob("*"))
    with pytest.raises(RunError, match=rf"is one round of a bridge\. Resume the run that it belongs to: --out {run}"):
        train(TrainingConfig.build(settings), resume=True, notify=lambda _: None)
    assert sorted(run.rglob("*")) == before


@pytest.mark.parametrize("name", ["rounds", "rounds/1-backward", "rounds/2-forward/coupling", "rounds/2-forward/coupling/SHA256SUMS"])
def test_links_in_rounds_are_refused(run: Path, trained: Path, tmp_path: Path, name: str) -> None:
    (run / name).rename(tmp_path / "elsewhere")
    (run / name).symlink_to(tmp_path / "elsewhere")
    for again in (True, False):
        with pytest.raises(RunError, match=f"{name}' is a link"):
            train(config(run, trained.parent, rounds=3), resume=again, overwrite=not again, notify=lambda _: None)
    assert (tmp_path / "elsewhere").exists()


def test_only_rounds_by_our_names_are_sampled_from(run: Path, trained: Path, tmp_path: Path) -> None:
    for name in ("9-forward", "3-x-forward", "²-forward", "00004-forward", "9" * 200 + "-forward"):
        shutil.copytree(round_folder(run, 2), run / "rounds" / name)
    (run / "rounds" / "4-forward").write_text("a file")
    assert newest_round(run, "forward") == round_folder(run, 2)
    sample(run, tmp_path / "out.npz", n=2, direction="forward", steps=2)


def test_a_second_training_of_a_bridge_is_refused(run: Path, trained: Path) -> None:
    refused = []

    def second(step: int, _steps: int, _loss: float) -> None:
        for act in (lambda: resumed(run, trained, rounds=3), lambda: sample(run, run.parent / f"{step}.npz", n=2, direction="forward")):
            try:
                act()
            except RunError as error:
                refused.append(error.problem)

    train(config(run, trained.parent, rounds=3), resume=True, notify=lambda _: None, progress=second)
    assert refused == [f"Another training run is writing to '{run}'."] * 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_in_a_round_saves_and_says_which_run_to_resume(run: Path, trained: Path, number: signal.Signals) -> None:
    def stop(step: int, _steps: int, _loss: float) -> None:
        if step == 5:
            signal.raise_signal(number)

    before = signal.signal(number, signal.SIG_DFL)  # a background job ignores some
    try:
        with pytest.raises(Interrupted) as stopped:
            train(config(run, trained.parent, rounds=4), resume=True, interruptible=True, notify=lambda _: None, progress=stop)
    finally:
        signal.signal(number, before)
    assert (stopped.value.run, stopped.value.step, stopped.value.number) == (run, 6, number)
    assert checkpoint.newest(round_folder(run, 3)) == round_folder(run, 3) / "checkpoints" / "step-2"


def test_locks_and_times_of_other_machines_mean_nothing(run: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock file with a number that another process has by now, times of files in the future, and a clock that runs backward."""
    for folder in (run, round_folder(run, 2)):
        (folder / ".lock").write_text("1\nanother-host\n")
    for path in run.rglob("*"):
        os.utime(path, (4e9, 4e9))
    clock = itertools.count(2e9, -3600)
    monkeypatch.setattr(time, "time", lambda: next(clock))
    resumed(run, trained, rounds=3)
    assert newest_round(run, "backward") == round_folder(run, 3)
