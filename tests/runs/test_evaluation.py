"""A run is measured against its held-out rows, its samples or a file's, and the figures are on the disk."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from sdezoo import DATASETS
from sdezoo.data.dataset import Data
from sdezoo.errors import DataError, ParameterError, RunError
from sdezoo.evaluation import suite
from sdezoo.evaluation.measures import classifier
from sdezoo.generation.export import write as export
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, generate
from sdezoo.runs import evaluate as module
from sdezoo.runs.evaluate import FILES, check_folder, evaluate, read_samples, write
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig

_halves, _c2st = suite.halves, suite.c2st


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Fewer resamples and less training than a user gets."""
    monkeypatch.setattr(suite, "halves", lambda *a, seed: _halves(*a, repeats=10, seed=seed))
    monkeypatch.setattr(suite, "c2st", lambda *a, seed: _c2st(*a, trees=10, seed=seed))
    monkeypatch.setattr(classifier, "_STEPS", 30)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    small = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "data": "wine"}
    for name, values in {"wine": {}, "digits": {"data": "digits", "net": "unet:width=8"}}.items():
        train(TrainingConfig.build({**small, **values, "out": str(folder / name)}))
    return folder


def figures(found):
    return {(m.group, m.name): m.value for m in found.measured}


def test_samples_of_the_model_are_measured(runs):
    found = evaluate(runs / "wine", steps=3, seed=1)
    assert found.n == 89
    assert (found.facts["sampler"], found.facts["steps"], found.facts["kind"]) == (
        "unipc:spacing=optimized,order=3,prediction=noise",
        3,
        "table",
    )
    trained = restore(runs / "wine")
    x = generate(trained, choose_sampler(trained, None), 89, steps=3, seed=1)
    assert found.facts["outside_range"] == x.outside.count
    assert found.facts["outside_support"] == 0
    assert f"Of 1157 values {x.outside.count} lie outside the range" in found.text
    assert found.facts["columns"][0]["name"] == "alcohol"


def test_a_tail_out_of_reach_is_warned_of(tmp_path):
    """Data of index 2.5: no network makes them of normal noise; noise of index 2.1 reaches further out than they do.

    Noise on the real line is advised for data of both signs alone.
    """
    pareto = np.random.default_rng(0).pareto(2.5, (3000, 2)).astype(np.float32) + 1
    np.save(tmp_path / "positive.npy", pareto)
    np.save(tmp_path / "heavy.npy", pareto * np.random.default_rng(1).choice([-1, 1], pareto.shape).astype(np.float32))
    light = np.random.default_rng(0).normal(size=(3000, 2)).astype(np.float32)
    np.save(tmp_path / "light.npy", light)
    said = {}
    for sde, data in (("vp", "heavy"), ("student-t:nu=2.1", "heavy"), ("vp", "light"), ("vp", "positive")):
        run = tmp_path / f"{sde[:2]}-{data}"
        settings = {"net": "mlp:width=16,depth=1", "steps": 2, "loss": "dsm", "data": f"array:path={tmp_path}/{data}.npy,holdout=0.5"}
        train(TrainingConfig.build({**settings, "sde": sde, "out": str(run)}))
        found = evaluate(run, steps=3, n=1500)
        said[sde[:2], data] = [note for note in found.notes if note.startswith("Warning")]
    assert said["st", "heavy"] == said["vp", "light"] == []
    [warning] = said["vp", "heavy"]
    assert "the tail index of the data is 2." in warning
    assert "The noise of 'vp' has a tail that decays faster than any power" in warning
    assert "student-t" in warning
    [warning] = said["vp", "positive"]
    assert "for non-negative data: log-laplace" in warning
    assert "student-t" not in warning


@pytest.fixture
def table(tmp_path):
    """A run on a table of so many rows, of which a tenth is held out."""

    def made(count):
        rows = np.exp(np.random.default_rng(0).standard_normal((count, 3)))
        (tmp_path / "t.csv").write_text("a,b,c\n" + "\n".join(",".join(map(str, row)) for row in rows))
        settings = {"net": "mlp:width=16,depth=1", "steps": 2, "data": str(tmp_path / "t.csv"), "out": str(tmp_path / str(count))}
        train(TrainingConfig.build(settings))
        return tmp_path / str(count)

    return made


def test_a_table_of_thirty_rows_is_measured(table, tmp_path):
    run = table(31)
    found = evaluate(run, steps=3)
    assert found.n == 15
    assert "15 of 31 samples against 15 rows of the data; real rows: 15 others" in found.text
    names = {m.name: m for m in found.measured}
    assert {"C2ST, random forest", "columns with KS p > 0.01", "membership inference, AUC"} <= set(names)
    assert not {"coverage", "tail index, largest entry of a row"} & set(names)
    assert any("15 rows are too few" in note for note in found.notes)
    assert any("training has seen" in note for note in found.notes)
    assert any("31 samples, 28 training rows, 3 held-out rows" in note for note in found.notes)
    assert found.facts["values"] == 31 * 3
    json.dumps(found.record, allow_nan=False)
    trained = restore(run)
    export(generate(trained, choose_sampler(trained, None), 31, steps=3).x, tmp_path / "x.npz", kind="table", columns=("a", "b", "c"))
    assert figures(evaluate(run, samples=tmp_path / "x.npz")) == figures(found)
    data = np.loadtxt(tmp_path / "t.csv", delimiter=",", skiprows=1)
    np.save(tmp_path / "copies.npy", data)
    copied = evaluate(run, samples=tmp_path / "copies.npy")
    assert figures(copied)["privacy", "exact copies"] == pytest.approx(28 / 31)
    assert copied.notes[-2].startswith("Warning: samples repeat training rows, by")


def test_so_few_rows_tell_nothing(table):
    with pytest.raises(DataError, match="19 rows of data; at least 20") as error:
        evaluate(table(19), steps=2)
    assert "sdezoo sample" in error.value.remedy
    assert evaluate(table(20), steps=2).n == 10


def test_a_figure_depends_on_its_seed_alone(runs, tmp_path):
    first, again, other = (evaluate(runs / "wine", steps=2, n=40, seed=seed, batch_size=size) for seed, size in ((1, 64), (1, 7), (2, 64)))
    assert figures(first) == figures(again)
    assert figures(first) != figures(other)


def test_a_file_of_samples_is_measured_as_the_model_is(runs, tmp_path):
    trained = restore(runs / "wine")
    x = generate(trained, choose_sampler(trained, None), 89, steps=3, seed=1).x
    direct = figures(evaluate(runs / "wine", steps=3, seed=1))
    for name in ("x.csv", "x.npz", "x.npy", "x.parquet"):
        export(x, tmp_path / name, kind="table", columns=trained.state.columns)
        torch.testing.assert_close(read_samples(tmp_path / name, trained), x, rtol=1e-6, atol=0)
    given = evaluate(runs / "wine", samples=tmp_path / "x.npz", seed=1)
    assert figures(given) == direct
    assert given.facts["samples"] == str(tmp_path / "x.npz")
    assert evaluate(runs / "wine", samples=tmp_path / "x.npz", n=30).n == 30


def test_whole_numbers_are_judged_as_they_are_written(tmp_path):
    """A count beside a measurement: the run and each file that is written of it have the same figures, to the last digit."""
    rng = np.random.default_rng(0)
    rows = zip(rng.poisson(3, 120), rng.lognormal(size=120).round(3), strict=True)
    (tmp_path / "t.csv").write_text("count,size\n" + "".join(f"{a + 1},{b}\n" for a, b in rows))
    settings = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "data": f"table:path={tmp_path}/t.csv,holdout=0.5"}
    run = tmp_path / "run"
    train(TrainingConfig.build({**settings, "out": str(run)}))
    direct, trained = evaluate(run, steps=3, seed=1), restore(run)
    made = generate(trained, choose_sampler(trained, None), direct.n, steps=3, seed=1)
    assert torch.equal(made.x[:, 0], made.x[:, 0].round())
    assert made.outside.count == direct.facts["outside_range"]
    for name in ("x.csv", "x.parquet", "x.npz"):
        export(made.x, tmp_path / name, kind="table", columns=trained.state.columns, types=trained.encoding.types)
        given = evaluate(run, samples=tmp_path / name, seed=1)
        assert figures(given) == figures(direct)
        assert given.notes == direct.notes


def test_pixels_are_judged_as_they_are_written(runs, tmp_path):
    trained, direct = restore(runs / "digits"), evaluate(runs / "digits", steps=3, seed=1)
    sample(runs / "digits", tmp_path / "x.npz", n=direct.n, steps=3, seed=1)
    assert np.isin(np.load(tmp_path / "x.npz")["x"], np.arange(17, dtype=np.float32) / 16).all()
    given = evaluate(runs / "digits", samples=tmp_path / "x.npz", seed=1)
    assert figures(given) == figures(direct)
    assert given.notes == direct.notes
    between = Draw(trained, choose_sampler(trained, None), SampleIndices.first(direct.n), 3, 1)
    np.savez(tmp_path / "between.npz", x=torch.cat([part.x for part in between.batches()]).numpy())
    foreign = evaluate(runs / "digits", samples=tmp_path / "between.npz", seed=1)
    assert figures(foreign) == figures(direct)
    assert [note for note in foreign.notes if note not in direct.notes and "between the 17 levels" in note]


def test_copies_and_held_out_rows_are_told_apart(runs, tmp_path):
    data = DATASETS.build("digits").load()
    np.savez(tmp_path / "copies.npz", x=data.train[:300])
    np.savez(tmp_path / "real.npz", x=data.test[:300])
    copied, real = (figures(evaluate(runs / "digits", samples=tmp_path / name)) for name in ("copies.npz", "real.npz"))
    ratio = ("pixels", "distance to training rows, over held-out")
    assert copied[ratio] < 1e-6
    assert real[ratio] == pytest.approx(1, abs=0.1)


def test_images_have_features_of_a_classifier_that_is_kept(runs):
    found = evaluate(runs / "digits", steps=2, n=50)
    kept = list((runs / "digits" / "evaluation").glob("classifier-*.safetensors"))
    assert [str(path) for path in kept] == [found.facts["classifier"]["file"]]
    assert 0 < found.facts["classifier"]["accuracy"] <= 1
    assert ("features of classifier", "FID") in figures(found)
    assert sum(found.facts["classes"]["samples"]) == pytest.approx(1)
    before = kept[0].stat().st_mtime_ns
    evaluate(runs / "digits", steps=2, n=50, features="classifier")
    assert kept[0].stat().st_mtime_ns == before


def test_images_without_labels_have_pixels(runs, monkeypatch):
    digits = DATASETS.build("digits").load()
    plain = Data(digits.train, digits.test, "image", levels=16)
    monkeypatch.setattr(module, "_load", lambda *_: plain)
    found = evaluate(runs / "digits", steps=2, n=50)
    assert "FID and KID need features" in found.text
    assert {m.group for m in found.measured} == {"pixels"}
    with pytest.raises(DataError, match="no labels"):
        evaluate(runs / "digits", steps=2, n=50, features="classifier")
    plain = replace(plain, train_labels=torch.zeros(len(plain.train), dtype=torch.int64))
    with pytest.raises(DataError, match="one label"):
        evaluate(runs / "digits", steps=2, n=50, features="classifier")


def test_what_is_written_is_what_was_found(runs, tmp_path):
    found = evaluate(runs / "wine", steps=2, n=40)
    folder = tmp_path / "new" / "folder"
    check_folder(folder, overwrite=False)
    table, sheet = write(found, folder)
    read = json.loads(table.read_text())
    assert [m["value"] for m in read["measures"]] == [m.value for m in found.measured]
    assert (read["n"], read["run"], read["data"]) == (40, str(runs / "wine"), "wine")
    with Image.open(sheet) as picture:
        assert picture.size[0] > 500
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    with pytest.raises(RunError, match="exists"):
        check_folder(folder, overwrite=False)
    check_folder(folder, overwrite=True)


@pytest.mark.parametrize(
    ("options", "error", "problem"),
    [
        ({"n": 0}, ParameterError, "n=0"),
        ({"n": 5}, DataError, "5 rows to compare"),
        ({"features": "classifier"}, ParameterError, "'classifier' of table data"),
        ({"sampler": "none"}, Exception, "none"),
    ],
)
def test_a_mistake_is_told_before_any_work(runs, options, error, problem, monkeypatch):
    monkeypatch.setattr(module, "generate", None)
    with pytest.raises(error, match=problem):
        evaluate(runs / "wine", **options)


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("none.npz", None, "no file"),
        ("x.txt", b"1,2", "No installed format"),
        ("x.npz", b"damaged", "cannot be read"),
        ("x.csv", b"alcohol,ash\n1,2\n", "has no column 'malic_acid'"),
        ("x.npy", np.ones((30, 2)), "shape"),
        ("x.npy", np.full((30, 13), np.inf), "infinite"),
        ("x.npy", np.array([{}]), "not numbers"),
    ],
)
def test_a_file_that_holds_no_samples(runs, tmp_path, name, content, problem):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(DataError, match=problem):
        evaluate(runs / "wine", samples=path)


def test_data_without_a_held_out_part(runs, monkeypatch):
    wine = DATASETS.build("wine").load()
    monkeypatch.setattr(module, "_load", lambda *_: Data(wine.train, wine.test[:0], "table", wine.columns))
    with pytest.raises(DataError, match="0 held-out rows"):
        evaluate(runs / "wine")
