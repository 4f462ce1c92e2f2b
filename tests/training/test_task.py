"""The seam of what is learned: a task of its own trains, is killed, resumes, is restored and samples, without an edit of the core."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sdezoo import SDES, Model
from sdezoo.data.dataset import Data
from sdezoo.errors import PluginError, RunError
from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.process.noise import mix
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.training.task import Draw, Learner, Losses, Plan, Task
from sdezoo.zoo.registry import TASKS
from tests.interrupting import train_killed

ROWS, MEAN, DEVIATION = 4000, (1.0, -2.0), (0.5, 1.5)
"""Independent normal columns."""


class NormalModel(Model, nn.Module):
    """The score of normal data under an affine process, `−(z − α μ − m)/(α² s² + v)`; `μ` and `log s` are learned."""

    def __init__(self, sde: Any, size: int) -> None:
        nn.Module.__init__(self)
        self.sde, self.mean, self.log_std = sde, nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size))

    def forward(self, x0: Tensor) -> Tensor:
        """`−log p(x_0)` of each row, up to a constant."""
        return (((x0 - self.mean) / self.log_std.exp()) ** 2 / 2 + self.log_std).sum(1)

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        k = self.sde.at(t, z)
        return -(z - k.alpha * self.mean.to(z) - k.shift) / (k.alpha**2 * self.log_std.to(z).exp() ** 2 + k.variance)


class NormalLearner(Learner[NormalModel]):
    learning_rate = 0.05

    def __init__(self, plan: Plan) -> None:
        self.plan, self.module, self.seen = plan, NormalModel(plan.sde, plan.data.event[0]), torch.zeros(())

    def live(self, prepare: Any) -> NormalModel:
        return prepare(self.module)

    def losses(self, live: NormalModel, draw: Draw) -> Losses:
        x0 = self.plan.x0[draw.rows]
        jitter = 1e-3 * torch.randn(x0.shape, generator=torch.Generator().manual_seed(mix(self.plan.config.seed, draw.step)))
        self.seen = self.seen + len(x0)
        return Losses(live(x0 + jitter), 1.0, torch.zeros(len(x0)), torch.zeros(len(x0)))

    def validation_loss(self, module: NormalModel) -> float:
        return float(module(self.plan.encoding.encode(self.plan.data.test)).mean().detach())

    def state(self) -> dict[str, Tensor]:
        return {"seen": self.seen}

    def restore_state(self, tensors: dict[str, Tensor]) -> None:
        self.seen = tensors["seen"]

    def record(self) -> dict[str, Any]:
        return {"sde": self.plan.sde.full_spec, "net": "", "output": ""}


@dataclass(frozen=True)
class NormalFit(Task):
    """Normal columns by maximum likelihood."""

    uses_loss = False
    uses_network = False

    def learner(self, plan: Plan, positions: Any) -> Learner:
        return NormalLearner(plan)

    def rebuild(self, state: checkpoint.State, tensors: dict[str, Tensor]) -> NormalModel:
        model = NormalModel(SDES.build(state.sde), len(tensors["mean"]))
        model.load_state_dict(tensors)
        return model


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    name = TASKS.add(NormalFit, "a test")
    yield
    TASKS.remove(name)


def config(run: Path, **values: Any) -> TrainingConfig:
    return TrainingConfig.build({"task": "normal-fit", "sde": "vp", "steps": 400, "shift": "none", "out": str(run), **values})


def data() -> Data:
    x = torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor(DEVIATION) + torch.tensor(MEAN)
    return Data(x[: ROWS // 2], x[ROWS // 2 :], "points")


def tensors(run: Path, step: int) -> dict[str, dict[str, Tensor]]:
    return {name: load_file(checkpoint.folder_of(run, step) / f"{name}.safetensors") for name in ("model", "ema", "optimizer", "times")}


def test_a_task_of_ones_own_learns_and_samples(tmp_path: Path) -> None:
    """The maximum-likelihood estimate is known: mean and deviation of the training rows."""
    result = train(config(tmp_path / "run"), data=data())
    trained = restore(tmp_path / "run")
    assert isinstance(trained.model, NormalModel)
    train_rows = data().train
    torch.testing.assert_close(trained.model.mean, train_rows.mean(0), atol=0.02, rtol=0)
    torch.testing.assert_close(trained.model.log_std.exp(), train_rows.std(0), atol=0.02, rtol=0.02)
    assert result.validation_loss == pytest.approx(trained.state.validation_loss)
    n = 4000
    x = generate(trained, choose_sampler(trained, "heun"), n, steps=50, batch_size=n).x
    error = torch.tensor(DEVIATION) / np.sqrt(n)
    assert ((x.mean(0) - trained.model.mean).abs() < 4 * error + 0.02).all()
    assert ((x.std(0) / trained.model.log_std.exp() - 1).abs() < 4 / np.sqrt(2 * n) + 0.02).all()


def test_a_task_of_ones_own_survives_a_kill(tmp_path: Path) -> None:
    train(config(tmp_path / "whole", steps=30, checkpoint_every=10), data=data())
    train_killed(config(tmp_path / "cut", steps=30, checkpoint_every=10), 25, data())
    assert checkpoint.newest(tmp_path / "cut") == checkpoint.folder_of(tmp_path / "cut", 20)
    train(config(tmp_path / "cut", steps=30, checkpoint_every=10), data=data(), resume=True)
    whole, cut = tensors(tmp_path / "whole", 30), tensors(tmp_path / "cut", 30)
    assert int(whole["times"]["seen"]) == 30 * 128
    for part, values in whole.items():
        assert values, part
        assert all(torch.equal(value, cut[part][key]) for key, value in values.items()), part


def test_an_unknown_task_is_named(tmp_path: Path) -> None:
    run = train(config(tmp_path / "run", steps=2), data=data()).run
    TASKS.remove("normal-fit")
    with pytest.raises(PluginError, match="task 'normal-fit' of a test, which is not installed"):
        restore(run)


def test_a_plugin_that_fails_while_it_is_restored_is_named_and_no_file_blamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(config(tmp_path / "run", steps=2), data=data()).run

    def failing(*_: Any) -> NormalModel:
        raise TypeError("no such thing")

    monkeypatch.setattr(NormalFit, "rebuild", failing)
    with pytest.raises(RunError, match=r"'normal-fit' fails .*TypeError: no such thing") as error:
        restore(run)
    assert "damaged" not in str(error.value)
