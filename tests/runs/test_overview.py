"""A run at a glance: everything that is recorded, also of what is damaged or of plugins that are not here."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdezoo import SDES
from sdezoo.errors import PluginError, RunError
from sdezoo.runs.overview import overview
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import load_file

SMALL = {"net": "mlp:width=8,depth=1", "batch_size": 8, "steps": 4, "checkpoint_every": 2, "device": "cpu"}


def trained(tmp_path: Path, data: str = "wine", sde: str = "gbm") -> Path:
    return train(TrainingConfig.build({**SMALL, "data": data, "sde": sde, "out": str(tmp_path / "run")})).run


def test_settings_origin_and_checkpoints_are_told(tmp_path: Path) -> None:
    run = overview(trained(tmp_path))
    assert run["config"]["net"] == SMALL["net"]
    assert run["environment"]["plugins"].keys() == {
        *("sdes/gbm", "losses/mult-dsm", "networks/mlp", "datasets/wine", "tasks/score", "optimizers/adamw")
    }
    assert run["environment"]["data"] == run["state"]["data"]
    assert [entry["step"] for entry in run["checkpoints"]] == [2, 4]
    assert all(entry["damaged"] is None and entry["bytes"] > 0 for entry in run["checkpoints"])
    assert run["best"] == min(run["checkpoints"], key=lambda entry: entry["validation_loss"])["step"]
    assert run["metrics"]["step"] == run["state"]["step"] == 4


def test_damage_is_told_and_the_rest_still_shown(tmp_path: Path) -> None:
    run = trained(tmp_path)
    with (run / "checkpoints" / "step-4" / "ema.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    (run / "env.json").write_text("[[[", encoding="utf-8")
    (run / "metrics.jsonl").write_text('{"step": 2}\n{"step', encoding="utf-8")
    found = overview(run)
    assert [entry["damaged"] is None for entry in found["checkpoints"]] == [True, False]
    assert "ema.safetensors" in found["checkpoints"][1]["damaged"]
    assert found["state"]["step"] == 2
    assert found["environment"] == {}
    assert found["metrics"] == {"step": 2}


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run of sdezoo"):
        overview(tmp_path)
    with pytest.raises(RunError, match="does not exist"):
        overview(tmp_path / "nowhere")


def test_resuming_with_other_data_is_refused(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).lognormal(size=(60, 3)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    run = trained(tmp_path, str(tmp_path / "x.npy"), "gbm:sigma=0.3,sigma_end=10")  # the process does not tell
    again = TrainingConfig.build({**TrainingConfig.read(run / "config.yaml"), "steps": 6})
    rows[0] = rows[1]
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(RunError, match=r"has data=\w+, not \w+"):
        train(again, resume=True)


def test_a_model_whose_plugin_is_missing_says_what_brought_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    head = "from dataclasses import dataclass\nfrom sdezoo import SDES\n\n"
    file.write_text(f"{head}@dataclass(frozen=True)\nclass Passing(SDES.load('gbm')):\n    pass\n", encoding="utf-8")
    load_file(file)
    run = train(TrainingConfig.build({**SMALL, "sde": "passing", "data": "wine", "out": str(tmp_path / "run")})).run
    SDES.remove("passing")
    with pytest.raises(PluginError, match=f"SDE 'passing' of {file}, which is not installed") as error:
        restore(run)
    assert f"--plugin {file}" in error.value.remedy
    assert json.loads((run / "env.json").read_text(encoding="utf-8"))["plugins"]["sdes/passing"] == str(file)
    assert overview(run)["state"]["plugins"]["sdes/passing"] == str(file)
