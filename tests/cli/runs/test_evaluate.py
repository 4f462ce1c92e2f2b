"""`sdezoo evaluate`: figures with their errors beside a reference, or two sentences."""

import json
from pathlib import Path

import numpy as np
import pytest

from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

SMALL = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "data": "wine"}
QUICK = ["--likelihood", "-n", 6, "--steps", 2]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for name, values in {"wine": {}, "digits": {"data": "digits", "net": "unet:width=8"}}.items():
        train(TrainingConfig.build({**SMALL, **values, "out": str(folder / name)}))
    return folder


@pytest.fixture
def sdezoo(terminal, runs):
    return lambda run, *arguments: terminal("evaluate", runs / run, *arguments)


def test_the_likelihood_stands_beside_a_reference(sdezoo):
    code, out, err = sdezoo("wine", *QUICK)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].startswith("Negative log-likelihood of 6 rows, the held-out part of wine, 13 dimensions")
    assert lines[1].split() == ["nats", "nats/dim", "bits/dim"]
    assert [line.split("  ")[1] for line in lines[2:5]] == ["model", "log-normal, full covariance", "model − reference"]
    assert all(line.count(" ± ") == 3 for line in lines[2:5])
    assert lines[5:] == ["Probability flow in 2 steps, exact divergence."]
    assert "6/6" in err
    assert "left" in err


def test_dequantization_and_probes_are_told(sdezoo):
    _, out, _ = sdezoo("digits", *QUICK, "--seed", 3)
    assert "uniform noise of one level's width (0.0625), seed 3" in out
    assert "2 random probes per row, which contribute" in out
    assert "log-normal, diagonal covariance" in out
    _, out, _ = sdezoo("wine", *QUICK, "--probes", 1)
    assert "1 random probe per row, whose contribution to the error is unknown" in out
    assert "Dequantized" not in out
    assert "exact divergence" in sdezoo("wine", *QUICK, "--probes", "exact")[1]


def test_a_machine_reads_the_same(sdezoo):
    code, out, err = sdezoo("digits", *QUICK, "--json", "--probes", 3)
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["n"], found["dims"], found["probes"], found["width"], found["out"]) == (6, 64, 3, 1 / 16, None)
    assert found["probe_spread"] > 0
    for name in ("model", "reference", "difference"):
        assert set(found[name]) == {"nats", "nats_per_dim", "bits_per_dim"}
        assert found[name]["nats"]["standard_error"] > 0
    assert sdezoo("wine", *QUICK, "--quiet") == (0, "", "")


def test_each_row_is_written(sdezoo):
    found = json.loads(sdezoo("wine", *QUICK, "--json", "--out", "rows.csv")[1])
    lines = [line.replace('"', "").split(",") for line in Path("rows.csv").read_text().splitlines()]
    assert lines[0] == ["row", "model", "probe_error", "reference"]
    rows = np.array(lines[1:], dtype=float)
    assert rows.shape == (6, 4)
    assert rows[:, 1].mean() == pytest.approx(found["model"]["nats"]["mean"], rel=1e-5)
    assert rows[:, 3].mean() == pytest.approx(found["reference"]["nats"]["mean"], rel=1e-5)
    sdezoo("wine", *QUICK, "--out", "rows.npz")
    np.testing.assert_allclose(np.load("rows.npz")["x"], rows, rtol=1e-5)


def test_samples_are_measured(sdezoo, runs):
    code, out, err = sdezoo("wine", "--steps", 2, "-n", 20, "--out", "figures")
    assert code == 0, err
    verdict, _, rest = out.partition("\n\n")
    assert verdict.count(". ") + 1 == 2
    assert verdict.startswith("A classifier")
    lines = rest.splitlines()
    assert "by unipc:spacing=optimized,order=3,prediction=noise in 2 steps: 20 samples against 20 held-out rows" in lines[0]
    assert lines[2].split("  ")[0] == "rows, in standard deviations"
    assert any(line.startswith("  C2ST, random forest") for line in lines)
    assert lines[-1] == "Files: figures/evaluation.json, figures/evaluation.png"
    code, _, err = sdezoo("wine", "--steps", 2, "-n", 20, "--out", "figures")
    assert code == 2
    assert "'figures/evaluation.json' exists" in err
    newest = runs / "wine" / "evaluation" / "evaluation.json"
    newest.parent.mkdir()
    newest.write_text("{}")
    code, out, err = sdezoo("wine", "--steps", 2, "-n", 20, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["n"] == 20
    assert {**json.loads(newest.read_text()), "table": found["table"], "sheet": found["sheet"]} == found


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        (["--split", "train"], "--split applies only to --likelihood", "Omit"),
        (["--likelihood", "--sampler", "heun"], "--sampler does not apply to --likelihood", "Omit"),
        (["--samples", "x.npz", "--steps", 3], "--steps has no effect", "--samples"),
        (["--features", "classifier"], "'classifier' of table data", "images"),
        (["-n", 5], "5 rows to compare; at least 20", "more"),
        (["--out", "zero.npy"], "is a file, not a folder", "another --out"),
        (["--likelihood", "--probes", "few"], "probes=few", "exact"),
        (["--likelihood", "--probes", 0], "probes=0", "at least 1"),
        (["--likelihood", "--steps", 0], "steps=0", "at least 1"),
        (["--likelihood", "--split", "half"], "split=half", "test, train, all"),
        (["--likelihood", "--data", "spirals"], "shape (2,)", "shape"),
        (["--likelihood", "--data", "none.csv"], "'none.csv'", "path"),
        (["--likelihood", "--data", "zero.npy"], "(number 7, counted from 0) has values outside the support", "Remove"),
        (["--likelihood", "--out", "rows.jpg"], "'rows.jpg'", ".csv"),
        (["--likelihood", "--out", "zero.npy"], "exists", "--overwrite"),
        (["--likelihood", "--device", "abacus"], "'abacus'", "cpu"),
    ],
)
def test_a_mistake_is_two_sentences(sdezoo, arguments, problem, remedy):
    rows = np.ones((10, 13))
    rows[-3] = 0
    np.save("zero.npy", rows)
    arguments = [a if a != "zero.npy" or "--out" in arguments else "array:path=zero.npy,holdout=0" for a in arguments]
    code, out, err = sdezoo("wine", *arguments)
    assert (code, out) == (2, "")
    first, second = err.rstrip("\n").split("\n")
    assert problem in first
    assert remedy in second
    assert [path.name for path in Path().iterdir()] == ["zero.npy"]


def test_a_run_that_is_none(sdezoo):
    code, _, err = sdezoo("nowhere", "--likelihood")
    assert code == 2
    assert "does not exist" in err
