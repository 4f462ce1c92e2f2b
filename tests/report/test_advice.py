"""Advice is what training and sampling would choose, and its commands can be typed."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest

from sdezoo.errors import SdezooError
from sdezoo.generation.samples import choose_sampler
from sdezoo.report.advice import advise
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig


def test_the_answer_comes_first_and_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).lognormal(size=(50, 2))
    np.savetxt("my prices.csv", rows, delimiter=",", header="price,area", comments="")
    found = advise("my prices.csv")
    lines = found.text.splitlines()
    assert shlex.split(lines[0])[:4] == ["sdezoo", "train", "--data", "my prices.csv"]
    assert (found.process, found.sampler, found.training_steps) == ("gbm", "unipc:spacing=optimized,order=3,prediction=noise", None)
    assert any("cross-validation" in sentence for _, sentence in found.reasons)
    json.dumps(found.record)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my prices.csv"]


def test_a_table_with_categories_gets_the_sampler_that_decides_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).lognormal(size=40)
    Path("a.csv").write_text("price,kind\n" + "".join(f"{price:.6f},{'ab'[i % 2]}\n" for i, price in enumerate(rows)), encoding="utf-8")
    found = advise("a.csv")
    run = train(TrainingConfig.build({"data": "a.csv", "steps": 1, "device": "cpu"})).run
    assert found.sampler == choose_sampler(restore(run), None).spec
    assert (found.sampling_steps, "order=3" in found.sampler) == (16, False)


def test_a_line_break_in_a_name_breaks_no_line(tmp_path: Path) -> None:
    np.savetxt(tmp_path / "a.csv", np.random.default_rng(0).lognormal(size=(50, 2)), delimiter=",", header='"a\nb",c', comments="")
    assert r"gbm for 'a\nb', 'c': positive" in advise(str(tmp_path / "a.csv")).text


@pytest.mark.parametrize(("data", "steps"), [("digits", 20), ("spirals", 20)])
def test_it_is_what_training_chooses(data: str, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = advise(data)
    net = "unet:width=4,multipliers=(1,)" if data == "digits" else "mlp:width=4,depth=1"
    result = train(TrainingConfig.build({"data": data, "steps": 1, "net": net, "device": "cpu"}))
    assert TrainingConfig.read(result.run / "config.yaml")["sde"] == found.process
    assert str(result.run) in found.commands[1]
    assert (found.sampling_steps, found.training_steps) == (steps, 2000)


def test_what_cannot_be_read_is_refused() -> None:
    with pytest.raises(SdezooError, match="no file or folder"):
        advise("nowhere.csv")
