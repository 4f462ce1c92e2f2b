"""The last look at a table's model: columns that are wrong are named, columns that are right are not."""

import json
from pathlib import Path

import pytest
import torch

from sdezoo.data.dataset import Data
from sdezoo.errors import SupportError
from sdezoo.runs import column_check as module
from sdezoo.runs.column_check import LastLook, column_gaps
from sdezoo.runs.overview import overview
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig


def normals(rows: int, columns: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def test_right_samples_are_rarely_accused() -> None:
    """400 tables of five columns, heavy-tailed and rounded ones among them: at most 1 % are accused, and twice that with its error."""
    accused = 0
    for seed in range(400):
        a, b = normals(150, 5, 2 * seed), normals(300, 5, 2 * seed + 1)
        for x in (a, b):
            x[:, 1], x[:, 2] = x[:, 1].exp(), (3 * x[:, 2]).exp()
            x[:, 3] = x[:, 3].round()
        accused += bool(column_gaps(a, b))
    assert accused <= 2 * (4 + 3 * 4**0.5)


@pytest.mark.parametrize("factor", [0.2, 0.6, 1.6])
def test_a_spread_that_is_off_is_named(factor: float) -> None:
    a, b = normals(300, 3, 0), normals(500, 3, 1)
    b[:, 1] *= factor
    (gap,) = column_gaps(a, b, ("price", "year", "area"))
    assert gap.name == "'year'"
    assert gap.spread == pytest.approx(factor, rel=0.15)
    assert "'year' (spread" in str(LastLook([gap], []).note)


def test_a_shift_and_a_lost_atom_are_named() -> None:
    a, b = normals(300, 2, 0), normals(500, 2, 1)
    a[:100, 0] = 0.0
    b[:, 1] += 1
    assert [gap.name for gap in column_gaps(a, b)] == ["0", "1"]


def test_constant_columns() -> None:
    a, b = torch.full((50, 2), 7.46), torch.full((60, 2), 7.46)
    assert not column_gaps(a, b)
    b[:, 1] = 7.5
    assert [gap.name for gap in column_gaps(a, b)] == ["1"]


def config(tmp_path: Path) -> TrainingConfig:
    values = {"net": "mlp:width=16,depth=1", "steps": 20, "batch_size": 16, "device": "cpu"}
    return TrainingConfig.build({**values, "out": str(tmp_path / "run")})


def test_a_run_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples with a column of one value: in the note, and in the metrics, whose last line of losses `show` keeps showing."""
    x = normals(120, 2, 0).exp()
    drawn = module.last_look.__globals__["generate"]

    def narrow(*arguments: object, **options: object) -> object:
        made = drawn(*arguments, **options)
        made.x[:, 1] = made.x[:, 1].median() * (1 + 1e-3 * made.x[:, 0] / made.x[:, 0].max())
        return made

    monkeypatch.setitem(module.last_look.__globals__, "generate", narrow)
    result = train(config(tmp_path), data=Data(x[:100], x[100:], "table", ("price", "year")), preview=True)
    assert result.note
    assert "'year' (spread 0.0" in result.note
    assert "--steps" in result.note
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["columns"]["year"]["spread"] < 0.01
    assert overview(tmp_path / "run")["metrics"]["loss"] == pytest.approx(result.loss)


def test_samples_that_cannot_be_made_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise SupportError("Samples left the support.", "Take more steps.")

    monkeypatch.setattr(module, "last_look", fails)
    x = normals(120, 2, 0).exp()
    result = train(config(tmp_path), data=Data(x, x[:0], "table", ("a", "b")), preview=True)
    assert result.note
    assert "could not be compared" in result.note
    assert result.preview


def test_copies_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples that are training rows: in the note, and in the metrics; but not those of one draw alone."""
    x = normals(300, 2, 0).exp()
    drawn, often = module.last_look.__globals__["generate"], iter([True, True, True, False])

    def copies(*arguments: object, **options: object) -> object:
        made = drawn(*arguments, **options)
        if next(often):
            made.x[:150] = x[:150]
        return made

    monkeypatch.setitem(module.last_look.__globals__, "generate", copies)
    data = Data(x[:200], x[200:], "table", ("price", "year"))
    result = train(config(tmp_path), data=data, preview=True)
    assert result.note
    assert "The samples repeat training rows, by" in result.note
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert "exact copies" in last["copies"]
    assert not module.last_look(tmp_path / "run", data, torch.device("cpu"), 0).copies
