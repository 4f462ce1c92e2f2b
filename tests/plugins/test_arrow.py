"""A folder that the library datasets wrote: its columns, classes and splits, without that library."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from sdezoo.data.column_types import CategoryType
from sdezoo.data.dataset import Data
from sdezoo.errors import DataError
from sdezoo.zoo.datasets import find_dataset

LABEL = {"names": ["cat", "dog"], "_type": "ClassLabel"}


def save(folder: Path, columns: dict[str, list], features: dict[str, object], files: int = 2) -> Path:
    """Write as `Dataset.save_to_disk` does."""
    folder.mkdir(parents=True)
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table(columns).replace_schema_metadata(metadata)
    names = [f"data-{k:05}-of-{files:05}.arrow" for k in range(files)]
    for k, name in enumerate(names):
        part = table.slice(k * len(table) // files, (k + 1) * len(table) // files - k * len(table) // files)
        with pa.ipc.new_stream(folder / name, part.schema) as stream:
            stream.write_table(part)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names], "_split": "train"}))
    return folder


def rows(seed: int, count: int) -> dict[str, list]:
    rng = np.random.default_rng(seed)
    return {
        "price": rng.lognormal(size=count).tolist(),
        "kind": rng.integers(-1, 2, count).tolist(),
        "count": rng.poisson(3, count).tolist(),
    }


def load(text: object) -> Data:
    return find_dataset(str(text)).load()


def test_a_data_set_and_its_classes(tmp_path: Path) -> None:
    columns = rows(0, 60)
    data = load(f"arrow:path={save(tmp_path / 'd', columns, {'kind': LABEL})},holdout=0")
    assert data.columns == ("price", "kind", "count")
    assert np.allclose(data.train[:, 0], columns["price"])
    assert data.types[1] == CategoryType(("cat", "dog"))
    assert data.train[:, 1].isnan().tolist() == [kind < 0 for kind in columns["kind"]]
    assert len(load(tmp_path / "d").test) == 6, "found by its content"


def test_splits_are_training_and_held_out_rows(tmp_path: Path) -> None:
    for name, count in (("train", 50), ("test", 20), ("more", 9)):
        save(tmp_path / "d" / name, rows(1, count) | {"kind": [k % 2 for k in range(count)]}, {"kind": LABEL})
    (tmp_path / "d" / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "test", "more"]}))
    data = load(f"arrow:path={tmp_path / 'd'},label_column=kind")
    assert (len(data.train), len(data.test)) == (50, 20)
    assert data.test_labels is not None
    assert data.test_labels.tolist() == [k % 2 for k in range(20)]
    assert (data.class_names, data.label_place) == (("cat", "dog"), 1)
    assert "'more'" in data.notes[0]


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    images = {"picture": [{"bytes": b"", "path": "a.png"}] * 8}
    with pytest.raises(DataError, match="holds files of images"):
        load(save(tmp_path / "images", images, {"picture": {"_type": "Image"}}))
    with pytest.raises(DataError, match="list"):
        load(save(tmp_path / "lists", {"x": [[1, 2]] * 8}, {}))
    outside = save(tmp_path / "outside", rows(0, 30), {})
    for text in ('{"_data_files": [{"filename": "../images/data-00000-of-00002.arrow"}]}', "{}", "[", '{"_data_files": []}'):
        (outside / "state.json").write_text(text)
        with pytest.raises(DataError, match="cannot be read as a folder of the library datasets"):
            load(outside)
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["a", "b"]}')
    with pytest.raises(DataError, match="no split 'train'"):
        load(tmp_path)
