"""Any number of workers, in any number of parts and in any precision, trains the same model."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sdezoo.errors import DataError, ParameterError, RunError, SdezooError
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.restoring import restore
from sdezoo.training import metrics
from sdezoo.training.config import TrainingConfig
from sdezoo.training.workers import threads, threads_for

SMALL = {"net": "mlp:width=16,depth=1", "steps": 12, "batch_size": 16, "data": "wine", "device": "cpu"}


def run(out: Path, **values: object) -> list[dict]:
    train(TrainingConfig.build({**SMALL, "out": str(out), **values}), overwrite=True)
    return lines(out)


def lines(out: Path) -> list[dict]:
    """Those on steps; a command adds one on the columns of a table."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if "columns" not in row]


def weights(out: Path) -> dict[str, torch.Tensor]:
    folder = checkpoint.newest(out)
    assert folder
    return checkpoint.read_tensors(folder, "model")


def assert_close(a: Path, b: Path, tolerance: float) -> None:
    for (key, x), y in zip(weights(a).items(), weights(b).values(), strict=True):
        torch.testing.assert_close(x, y, rtol=tolerance, atol=tolerance, msg=key)


def test_two_workers_train_the_model_of_one(tmp_path: Path) -> None:
    """Over gloo, at the same batch: losses, levels and weights are those of one process within rounding."""
    options = [f"--{key.replace('_', '-')}={value}" for key, value in {**SMALL, "noise_levels": "importance"}.items()]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "sdezoo_cli", "train", *options]
    subprocess.run(
        [*command, f"--out={tmp_path / 'two'}", "--quiet"],
        check=True,
        capture_output=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    (one,), (two,) = run(tmp_path / "one", noise_levels="importance"), lines(tmp_path / "two")
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    assert [level is None for level in two["levels"]] == [level is None for level in one["levels"]]
    assert [level or 0 for level in two["levels"]] == pytest.approx([level or 0 for level in one["levels"]], rel=1e-4)
    assert_close(tmp_path / "one", tmp_path / "two", 1e-5)
    assert len(list((tmp_path / "two" / "samples").iterdir())) == 1


@pytest.mark.parametrize("noise_levels", ["log-normal", "importance"])
def test_a_batch_in_parts_is_the_same_batch(tmp_path: Path, noise_levels: str) -> None:
    whole, parts = (run(tmp_path / str(n), accumulate=n, noise_levels=noise_levels)[-1] for n in (1, 4))
    assert parts["loss"] == pytest.approx(whole["loss"], rel=1e-5)
    assert_close(tmp_path / "1", tmp_path / "4", 1e-5)


def test_half_precision_is_of_the_network_alone(tmp_path: Path) -> None:
    """Losses differ by what 8 bits of mantissa leave; weights stay float32."""
    whole, half = (run(tmp_path / name, precision=name)[-1] for name in ("float32", "bf16"))
    assert half["loss"] != whole["loss"]
    assert half["loss"] == pytest.approx(whole["loss"], rel=2**-7)
    assert {v.dtype for v in weights(tmp_path / "bf16").values()} == {torch.float32}


def test_a_processor_without_bfloat16_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: "AVX2")
    with pytest.warns(UserWarning, match="no instructions for bfloat16.* Give --precision float32"):
        run(tmp_path / "run", precision="bf16", steps=1)


def test_what_cannot_be_shared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="A batch of 16 cannot be split evenly into 3"):
        run(tmp_path / "run", accumulate=3)
    with pytest.raises(RunError, match="fp16 needs a CUDA device"):
        run(tmp_path / "run", precision="fp16")
    with pytest.raises(ParameterError, match="A batch of 500 is larger than the data, which have 89 rows"):
        run(tmp_path / "run", batch_size=500)
    assert list(tmp_path.iterdir()) == []
    run(tmp_path / "run", batch_size=None, steps=1)


def test_labels_condition_the_network(tmp_path: Path) -> None:
    """A class of its own is learnt: with the label, the denoiser ends near that class."""
    data = tmp_path / "two.npz"
    x = np.exp(np.array([[-2.0, -2.0], [2.0, 2.0]], dtype=np.float32))
    labels = np.tile([0, 1], 100)
    np.savez(data, x=x[labels] * np.exp(0.05 * np.random.default_rng(0).standard_normal((200, 2), dtype=np.float32)), y=labels)
    run(tmp_path / "run", data=str(data), condition="labels", steps=600, lr=3e-3, batch_size=64)
    trained = restore(tmp_path / "run")
    assert trained.state.classes == 2
    model = trained.model.condition_on(torch.tensor([0, 1]))
    end, sde = torch.tensor(1.0, dtype=torch.float64), trained.model.sde
    found = sde.decode(model.denoise(torch.zeros(2, 2), end)).log().mean(1)
    assert found.tolist() == pytest.approx([-2, 2], abs=0.5)
    free = sde.decode(trained.model.denoise(torch.zeros(2, 2), end)).log().mean()
    assert abs(free) < 1.7


def test_labels_are_asked_for_where_there_are_some(tmp_path: Path) -> None:
    x = 1 + np.arange(40, dtype=np.float32).reshape(20, 2)
    np.save(tmp_path / "none.npy", x)
    with pytest.raises(DataError, match=r"none.npy' have no labels"):
        run(tmp_path / "run", data=str(tmp_path / "none.npy"), condition="labels")
    np.savez(tmp_path / "one.npz", x=x, y=np.zeros(20, dtype=int))
    with pytest.raises(DataError, match="the same label"):
        run(tmp_path / "run", data=str(tmp_path / "one.npz"), condition="labels")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "constant"},
        {"grad_clip_norm": 1e-3},
        {"warmup_steps": 0},
        {"ema_half_life_images": 0},
        {"noise_levels": "uniform"},
        {"optimizer": "egd-adam"},
    ],
)
def test_every_setting_changes_the_training(tmp_path: Path, change: dict) -> None:
    run(tmp_path / "plain", steps=30)
    run(tmp_path / "changed", steps=30, **change)
    a, b = (checkpoint.read_tensors(checkpoint.folder_of(tmp_path / name, 30), "ema") for name in ("plain", "changed"))
    assert any(not torch.equal(a[key], b[key]) for key in a)


def test_exponentiated_gradients_keep_the_signs(tmp_path: Path) -> None:
    """Of every weight that had one after the first step: Dale's law."""
    run(tmp_path / "run", optimizer="egd-adam", steps=60, checkpoint_every=5, keep=12, schedule="constant")
    early, late = (checkpoint.read_tensors(checkpoint.folder_of(tmp_path / "run", step), "model") for step in (5, 60))
    moved = 0
    for key in early:
        if key.startswith("net.") and early[key].ndim > 1:
            assert torch.equal(early[key].sign(), late[key].sign()), key
            moved += int((early[key] != late[key]).sum())
    assert moved > 100
    with pytest.raises(RunError, match="trained with optimizer=egd-adam, not adamw"):
        train(TrainingConfig.build({**SMALL, "out": str(tmp_path / "run"), "steps": 70}), resume=True)


def test_no_average_is_the_last_weights(tmp_path: Path) -> None:
    run(tmp_path / "run", ema_half_life_images=0)
    model, ema = (checkpoint.read_tensors(checkpoint.folder_of(tmp_path / "run", 12), part) for part in ("model", "ema"))
    assert all(torch.equal(model[key], ema[key]) for key in model)


def test_a_loss_that_is_not_finite_is_named(tmp_path: Path) -> None:
    with pytest.raises(SdezooError, match=r"no longer finite at step \d+, .*batch.*, at noise scale .*no checkpoint.*--lr"):
        run(tmp_path / "run", lr=1e30, steps=60)


def test_a_loss_that_grows_without_bound_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shrink(step: int, _steps: int, _loss: float) -> None:
        if step == 50:
            monkeypatch.setattr(metrics, "_GROWN", 0.1)

    config = TrainingConfig.build({**SMALL, "out": str(tmp_path / "run"), "steps": 200, "checkpoint_every": 50})
    with pytest.raises(SdezooError, match=r"has grown from 0\.\d+ to 0\.\d+ at step 100; the last checkpoint is .*step-50"):
        train(config, progress=shrink)
    assert restore(tmp_path / "run").state.step == 50


def test_small_work_gets_one_thread_and_large_work_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def multiply(size: int) -> Tensor:
        return torch.ones(size, size) @ torch.ones(size, size)

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threads(2):
        assert [threads_for(lambda size=size: multiply(size)) for size in (10, 1000)] == [1, 2]
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert threads_for(lambda: multiply(10)) == 2


def test_a_small_table_trains_with_one_thread_and_leaves_the_rest_of_the_program_its_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threads(2):
        run = train(TrainingConfig.build({**SMALL, "steps": 2, "out": str(tmp_path / "run")})).run
        assert torch.get_num_threads() == 2
    assert checkpoint.read_state(checkpoint.folder_of(run, 2)).computing["threads"] == 1
