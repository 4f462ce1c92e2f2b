"""How long a small table is trained: cross-validation stops where a network begins to memorize, and what is given is obeyed."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sdezoo.data.dataset import Data
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training import selection
from sdezoo.training.config import TrainingConfig
from sdezoo.training.selection import cross_validates, select_steps


def config(run: Path, **values: Any) -> TrainingConfig:
    return TrainingConfig.build({"net": "mlp:width=16,depth=1", "device": "cpu", "out": str(run), **values})


def positive(rows: int, columns: int = 3) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).exp()


def points(rows: int) -> Data:
    x = positive(rows)
    return Data(x, x[:0], "points")


class Known:
    """A training run whose validation loss is known: it falls to `least` steps and rises after them."""

    def __init__(self, least: int) -> None:
        self.step, self.threads, self.average, self.optimizer = 0, 1, None, None
        self.learner = SimpleNamespace(
            live=lambda _: None, level_edges=torch.zeros(2), validation_loss=lambda _: 1.0 + abs(self.step - least) / 1000
        )

    def advance(self, *_: object) -> None:
        self.step += 1


@pytest.mark.parametrize("least", [25, 150, 700])
def test_steps_are_twice_those_of_the_least_validation_loss(monkeypatch: pytest.MonkeyPatch, least: int) -> None:
    runs = []

    def known(*_: object) -> Known:
        runs.append(Known(least))
        return runs[-1]

    monkeypatch.setattr(selection, "Training", known)
    monkeypatch.setattr(selection, "_without", lambda plan, held: plan)
    plan: Any = SimpleNamespace(data=points(100), config=SimpleNamespace(seed=0))
    workers: Any = SimpleNamespace(network=None, optimizer=lambda optimizer: optimizer)
    seen: list[int] = []
    found = select_steps(plan, workers, lambda done, total, _: seen.append(done))
    assert (found.steps, found.least, found.folds) == (2 * least, least, 5)
    assert [run.step for run in runs] == [min(1000, int(-(-1.5 * least // 25)) * 25 + 100)] * 5, "soon after the least"
    assert seen == sorted(seen)


@pytest.mark.parametrize(("rows", "folds"), [(20, 5), (149, 5), (150, 3), (599, 3)])
def test_every_row_is_held_out_once(monkeypatch: pytest.MonkeyPatch, rows: int, folds: int) -> None:
    held = []

    def record(plan: Any, rows_held: torch.Tensor) -> Any:
        held.append(rows_held)
        return plan

    monkeypatch.setattr(selection, "_without", record)
    monkeypatch.setattr(selection, "_curve", lambda *_: [4.0, 2.0, 1.0, 3.0])
    plan: Any = SimpleNamespace(data=points(rows), config=SimpleNamespace(seed=3))
    assert select_steps(plan, SimpleNamespace(), None).steps == 100  # type: ignore[arg-type]
    times = torch.stack(held).sum(0)
    assert (times == 1).all()
    assert len(held) == folds
    sizes = torch.stack(held).sum(1)
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize(("curve", "steps"), [([1.0, 0.996, 1.1], 1), ([1.0, 1.01], 1), ([1.0, 0.99, 1.1], 50), ([math.inf, math.inf], 50)])
def test_a_network_that_gains_next_to_nothing_is_left_as_it_begins(monkeypatch: pytest.MonkeyPatch, curve: list[float], steps: int) -> None:
    monkeypatch.setattr(selection, "_without", lambda plan, held: plan)
    monkeypatch.setattr(selection, "_curve", lambda *_: curve)
    plan: Any = SimpleNamespace(data=points(60), config=SimpleNamespace(seed=3))
    found = select_steps(plan, SimpleNamespace(), None)  # type: ignore[arg-type]
    assert found.steps == steps
    assert found.reason.startswith(f"{steps} step")


def test_who_is_cross_validated() -> None:
    x, image = positive(700), torch.rand(40, 1, 4, 4)
    assert [cross_validates(Data(x[:n], x[:0], "table")) for n in (19, 20, 599, 600)] == [False, True, True, False]
    assert not cross_validates(Data(image, image[:0], "image"))


def test_the_choice_is_recorded_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same steps give the same bytes as if they had been given; a resumed run does not choose again."""
    monkeypatch.setattr(selection, "_MOST", 50)
    chosen = train(config(tmp_path / "chosen", batch_size=8), data=points(30))
    assert any("5-fold cross-validation" in reason for reason in chosen.reasons)
    assert chosen.steps in (1, 50, 100)
    assert TrainingConfig.read(tmp_path / "chosen" / "config.yaml")["steps"] == chosen.steps
    given = train(config(tmp_path / "given", batch_size=8, steps=chosen.steps), data=points(30))
    assert not any("cross-validation" in reason for reason in given.reasons)
    one, two = (restore(run).model.state_dict() for run in (chosen.run, given.run))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    monkeypatch.setattr(selection, "select_steps", None)
    again = TrainingConfig.build(TrainingConfig.read(tmp_path / "chosen" / "config.yaml") | {"steps": chosen.steps + 5})
    assert train(again, data=points(30), resume=True).steps == chosen.steps + 5


def test_width_follows_rows_and_columns() -> None:
    from sdezoo.networks import MLP

    sizes = {(5, 299): 64, (5, 300): 128, (5, 2999): 128, (5, 3000): 256, (60, 100): 120, (500, 100): 1000, (2000, 100): 1024}
    for (columns, rows), width in sizes.items():
        assert MLP().sized((columns,), rows) == MLP(width=width)
    assert MLP(width=7).sized((500,), 100) == MLP(width=7)


def test_few_rows_are_not_copied(tmp_path: Path) -> None:
    """89 correlated rows: samples lie as far from the closest training row as new rows do, where long training of a wide network copies."""
    generator = torch.Generator().manual_seed(1)
    mix = torch.randn(8, 8, generator=generator) / 3
    x = (torch.randn(178, 8, generator=generator) @ mix).exp()
    result = train(TrainingConfig.build({"device": "cpu", "out": str(tmp_path / "run")}), data=Data(x[:89], x[:0], "table"))
    from sdezoo.generation.samples import choose_sampler, generate

    trained = restore(result.run)
    samples = generate(trained, choose_sampler(trained, None), 300, batch_size=300).x
    spread = x[:89].log().std(0)
    near = [torch.cdist(rows.log() / spread, x[:89].log() / spread).amin(1).median() for rows in (samples, x[89:])]
    assert near[0] / near[1] > 0.85
