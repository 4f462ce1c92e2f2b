"""A table in a folder that the library `datasets` of Hugging Face writes by `save_to_disk`, read without that library.

A data set is `state.json` and the files that it names, in Arrow's stream format. A dictionary of splits is `dataset_dict.json` and a
folder for each split. Names of classes are in the metadata of the schema.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.dataset import Data, Dataset, split
from sdezoo.data.opening.labels import take_labels
from sdezoo.data.opening.table import return_memory
from sdezoo.data.opening.words import held_as_text
from sdezoo.data.reading import check_size, reading
from sdezoo.data.tables import columns
from sdezoo.data.validation import check_finite
from sdezoo.errors import DataError, shortened
from sdezoo.parameters import Fraction
from sdezoo.store.files import read_small

_STATE, _SPLITS = "state.json", "dataset_dict.json"
_TRAIN, _TEST = "train", "test"
_LARGEST = 2**22  # bytes read of a record


@dataclass(frozen=True)
class Arrow(Dataset):
    """A table that `save_to_disk` of the library datasets wrote: numbers, categories, dates, missing values.

    Of several splits, `train` is for training and `test` is held out; others are not read. Columns of lists, images or sounds are refused.
    """

    suffixes: ClassVar[tuple[str, ...]] = ("",)

    path: str
    """Path of the folder."""
    holdout: Fraction = 0.1
    """Fraction of the rows that are held out if there is no split `test`; the same ones every time."""
    label_column: str | None = None
    """Column with class labels, for `--condition labels`."""
    text: tuple[str, ...] = ()
    """Columns to read as categories though they look like numbers."""

    @classmethod
    def reads(cls, path: str | Path) -> bool:
        return any((Path(path) / name).is_file() for name in (_STATE, _SPLITS))

    def load(self) -> Data:
        root, notes, known = Path(self.path), [], {}
        with reading(root, "a folder of the library datasets", pa.ArrowException, KeyError, TypeError, AttributeError):
            parts = [_table(at) for at in _splits(root, notes.append)]
        if any(part.schema != parts[0].schema for part in parts):
            raise DataError(f"The splits of '{root}' have different columns.", "Save them with the same columns.")
        table = pa.concat_tables(parts)
        if self.label_column is not None:
            table, labels = take_labels(table, self.label_column)
            known = labels.settings
        found = columns(root, table, self.text)
        del table
        return_memory()
        check_finite(found.values, found.names, missing=True)
        data = split(
            found.values,
            "table",
            holdout=self.holdout if len(parts) == 1 else 0,
            columns=found.names,
            types=found.types,
            notes=tuple(notes),
            **known,
        )
        return data if len(parts) == 1 else _parted(data, len(parts[0]))


def _parted(data: Data, count: int) -> Data:
    """The data with the rows from `count` on held out."""
    labels = {} if data.train_labels is None else {"train_labels": data.train_labels[:count], "test_labels": data.train_labels[count:]}
    return replace(data, train=data.train[:count], test=data.train[count:], **labels)


def _splits(root: Path, notify: Callable[[str], None]) -> list[Path]:
    """The folders of the training split, and of the held-out one if there is one."""
    if (root / _STATE).is_file():
        return [root]
    names = [name for name in _record(root / _SPLITS)["splits"] if isinstance(name, str) and _is_name(name)]
    chosen = [name for name in (_TRAIN, _TEST) if name in names] or names[:1]
    if _TRAIN not in chosen and len(names) != 1:
        raise DataError(f"'{root}' has no split '{_TRAIN}', but {shortened(map(repr, names)) or 'none'}.", "Give the folder of one split.")
    if others := [name for name in names if name not in chosen]:
        notify(f"Splits of '{root}' that are not read: {shortened(map(repr, others))}.")
    return [root / name for name in chosen]


def _table(root: Path) -> pa.Table:
    names = [entry["filename"] for entry in _record(root / _STATE)["_data_files"]]
    if not names or not all(map(_is_name, names)):
        raise ValueError(f"{_STATE} names no files of this folder")
    tables, held = [], 0
    for name in names:
        with (root / name).open("rb") as file, pa.ipc.open_stream(file) as stream:
            batches = []
            for batch in stream:
                batch.validate(full=True)  # else its offsets and indices are believed
                held += batch.nbytes
                check_size(root, held // 4)
                batches.append(batch)
            tables.append(pa.Table.from_batches(batches, stream.schema))
    return _with_classes(root, pa.concat_tables(tables))


def _with_classes(root: Path, table: pa.Table) -> pa.Table:
    """The table with names of classes in the place of their numbers, and without metadata."""
    record = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}"))
    features: dict[str, Any] = record.get("info", {}).get("features", {})
    for place, name in enumerate(table.column_names):
        feature = features.get(name) or {}
        kind = feature.get("_type") if isinstance(feature, dict) else None
        if kind in ("Image", "Audio", "Video"):
            raise DataError(
                f"The column '{name}' of '{root}' holds files of {kind.lower()}s.",
                "Save images as files in a folder, or leave the column out.",
            )
        if kind == "ClassLabel":
            classes = pa.array(feature["names"], pa.string())
            index = pa.chunked_array([chunk.cast(pa.int32()) for chunk in table.column(place).chunks], pa.int32())
            index = pc.if_else(pc.greater_equal(index, 0), index, None)  # -1: not known
            chunks = [pa.DictionaryArray.from_arrays(chunk, classes) for chunk in index.chunks]
            table = table.set_column(place, held_as_text(name), pa.chunked_array(chunks, pa.dictionary(pa.int32(), pa.string())))
    return table.replace_schema_metadata(None)


def _record(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(read_small(path, _LARGEST))
    return found


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and Path(name).name == name
