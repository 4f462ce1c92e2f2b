"""Classes keep the names that the data have: they are chosen by name, and tables of samples name them."""

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sdezoo import DiffusionModel
from sdezoo.errors import ParameterError, RunError
from sdezoo.generation.classes import class_names
from sdezoo.generation.single_files import check_folder
from sdezoo.runs.given_rows import read_samples
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.datasets import find_dataset

SMALL = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "condition": "labels"}

pytestmark = pytest.mark.filterwarnings("ignore:The classes of column 'kind' are numbered")


def trained(folder: Path, labels: list[object]) -> Path:
    """A run on two columns beside the labels."""
    rows = np.random.default_rng(0).lognormal(size=(30, 2))
    with (folder / "kinds.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["a", "kind", "b"], *([a, labels[i % len(labels)], b] for i, (a, b) in enumerate(rows))])
    data = f"table:path={folder}/kinds.csv,label_column=kind,holdout=0"
    return train(TrainingConfig.build({**SMALL, "data": data, "out": str(folder / "run")})).run


def test_a_class_is_drawn_by_its_name_which_the_table_of_samples_has(tmp_path: Path) -> None:
    run = trained(tmp_path, ["setosa", "virginica", "1"])
    assert class_names(restore(run).state) == ("1", "setosa", "virginica")
    made = sample(run, tmp_path / "one.csv", label="setosa", n=3, steps=2)
    assert made is not None
    assert made.label == "setosa"
    names, *rows = csv.reader((tmp_path / "one.csv").open())
    assert names == ["a", "kind", "b"]
    assert [row[1] for row in rows] == ["setosa"] * 3
    sample(run, tmp_path / "two.parquet", label=2, n=1, steps=2)
    assert pq.read_table(tmp_path / "two.parquet")["kind"].to_pylist() == ["virginica"], "a number, as long as no name is it"
    sample(run, tmp_path / "name.csv", label="1", n=3, steps=2)
    assert {row[1] for row in list(csv.reader((tmp_path / "name.csv").open()))[1:]} == {"1"}, "a name comes before a number"
    with pytest.raises(ParameterError, match=r"no class 'rosa'. Give --label one of 1, setosa, virginica, or each"):
        sample(run, tmp_path / "none.csv", label="rosa")


def test_classes_in_turn_are_named_by_the_indices_of_the_samples(tmp_path: Path) -> None:
    """In a file that is written at once, in one that is streamed, and beside the rows that `evaluate` reads."""
    run = trained(tmp_path, [30, 10, 20])
    sample(run, tmp_path / "all.csv", label="each", seeds="4,7-9", steps=2)
    sample(run, tmp_path / "streamed.csv", label="each", seeds="4,7-27", batch_size=1, steps=2)
    for file, indices in (("all.csv", (4, 7, 8, 9)), ("streamed.csv", (4, *range(7, 28)))):
        _, *rows = csv.reader((tmp_path / file).open())
        assert [int(row[1]) for row in rows] == [(10, 20, 30)[i % 3] for i in indices]
    assert read_samples(tmp_path / "all.csv", restore(run)).shape == (4, 2)
    sample(run, tmp_path / "rows.npy", label=20, n=2, steps=2)
    assert np.load(tmp_path / "rows.npy").shape == (2, 2), "an array has the columns of the model"
    sample(run, tmp_path / "rows.npz", label="each", seeds="4,7-27", batch_size=1, steps=2)
    with np.load(tmp_path / "rows.npz") as arrays:
        assert arrays["y"].tolist() == [(10, 20, 30)[i % 3] for i in (4, *range(7, 28))]
        assert arrays["x"].shape == (22, 2)
    with pytest.raises(ParameterError, match="no class '0'"):
        sample(run, tmp_path / "none.csv", label=0)


def test_images_lie_in_a_folder_for_each_class(tmp_path: Path) -> None:
    """The folder is one that can be trained on: names and classes come back."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 4, 4), np.uint8)
    np.savez(tmp_path / "x.npz", x=pixels, y=np.array(["cat", "no dog"] * 10))
    settings = {**SMALL, "net": "unet:width=8,multipliers=(1,)", "data": str(tmp_path / "x.npz"), "out": str(tmp_path / "run")}
    run = train(TrainingConfig.build(settings)).run
    for label in ("each", "cat"):
        sample(run, f"{tmp_path}/{label}/", label=label, n=5, steps=2)
    sample(run, f"{tmp_path}/each/", label="each", n=4, steps=2, overwrite=True)
    assert [str(file.relative_to(tmp_path / "each")) for file in sorted((tmp_path / "each").rglob("*.png"))] == [
        *("cat/000000.png", "cat/000002.png", "no dog/000001.png", "no dog/000003.png")
    ]
    assert find_dataset(str(tmp_path / "each")).load().class_names == ("cat", "no dog")
    assert len(list((tmp_path / "cat" / "cat").iterdir())) == 5
    (tmp_path / "each" / "cat" / "mine.txt").touch()
    with pytest.raises(RunError, match="has other files, such as 'cat'"):
        sample(run, f"{tmp_path}/each/", label="each", n=4, steps=2, overwrite=True)
    for name in ("a/b", "..", ".hidden"):
        with pytest.raises(RunError, match="cannot be the name of a folder"):
            check_folder(tmp_path / "new", "image", (1, 4, 4), 255, classes=("cat", name))


def test_an_estimator_that_is_loaded_knows_the_names(tmp_path: Path) -> None:
    x = np.random.default_rng(0).lognormal(size=(20, 2)).astype(np.float32)
    model = DiffusionModel(**{**SMALL, "sampling_steps": 2}).fit(x, ["left", "right"] * 10)
    model.save(tmp_path / "model")
    again = DiffusionModel.load(tmp_path / "model").set_params(sampling_steps=2)
    assert again.classes_.tolist() == model.classes_.tolist() == ["left", "right"]
    assert np.array_equal(again.sample(2, condition="right"), model.sample(2, condition="right"))


@pytest.mark.parametrize("data", ["wine", "breast-cancer"])
def test_data_of_the_packages_name_their_classes(data: str) -> None:
    from sdezoo import DATASETS

    found = DATASETS.build(data).load()
    assert found.train_labels is not None
    assert len(found.class_names) == int(found.train_labels.max()) + 1
