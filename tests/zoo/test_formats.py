"""File formats: what is written is read back, by every format that says so; a new one is found by its ending, everywhere."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from sdezoo.data.dataset import Kind
from sdezoo.data.formats import ArrayFormat, FileFormat, ReadableFormat, Samples, TableFormat
from sdezoo.data.tables import Columns
from sdezoo.data.validation import check
from sdezoo.errors import DataError, PluginError, RunError
from sdezoo.generation.export import check_output, write, write_parts
from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.runs.evaluate import read_samples
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.formats import endings, find_format
from sdezoo.zoo.registry import FORMATS

EVENTS: dict[Kind, tuple[int, ...]] = {"image": (1, 3, 4), "table": (3,), "points": (2,), "paths": (5, 2), "series": (5, 2)}
WRITTEN = [(name, kind) for name in FORMATS.names() for kind in FORMATS.load(name).kinds]


@dataclass(frozen=True)
class Lines(TableFormat):
    """A table of one number a line, below the number of columns and their names."""

    endings: ClassVar[tuple[str, ...]] = (".lines", ".lines.txt")

    def write(self, samples: Samples, file: BinaryIO) -> None:
        head = [str(samples.shape[1]), *samples.names]
        file.write("".join(f"{line}\n" for line in head).encode())
        for part in samples.parts:
            file.write("".join(f"{value!r}\n" for value in part.flatten().tolist()).encode())

    def read(self, path: Path) -> Columns:
        count, *lines = path.read_text(encoding="utf-8").splitlines()
        names, values = lines[: int(count)], lines[int(count) :]
        return Columns(tuple(names), torch.tensor([float(value) for value in values]).reshape(-1, int(count)), ())


@pytest.fixture
def lines() -> Iterator[None]:
    name = FORMATS.add(Lines, "a test")
    yield
    FORMATS.remove(name)


def drawn(kind: Kind, n: int = 7) -> Tensor:
    return torch.rand(n, *EVENTS[kind], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("name", "kind"), WRITTEN)
def test_what_is_written_in_parts_is_read_back_to_the_bit(tmp_path: Path, name: str, kind: Kind) -> None:
    form, x = FORMATS.build(name), drawn(kind)
    path = tmp_path / f"x{form.endings[0]}"
    open_parts: list[int] = []

    def parts() -> Iterator[Tensor]:
        for number, part in enumerate(x.split(3)):
            open_parts.append(number)
            yield part

    write_parts(parts(), x.shape, path, kind=kind)
    assert open_parts == [0, 1, 2], "gone through once"
    assert type(find_format(path, FileFormat)) is type(form)
    if isinstance(form, ReadableFormat):
        found = form.read_samples(path, ())
        assert torch.equal(found[:, 2:].reshape(x.shape) if kind == "series" and isinstance(form, TableFormat) else found, x)


def test_readable_and_other_formats() -> None:
    readable = {".csv", ".csv.gz", ".npy", ".npz", ".parquet", ".tab", ".tsv", ".tsv.gz", ".xlsx"}
    assert readable <= set(endings(ReadableFormat))
    assert readable == set(endings(ArrayFormat)) | set(endings(TableFormat))
    assert ".png" not in endings(ReadableFormat)
    assert set(endings(FileFormat, "paths")) == {".npy", ".npz"}


def test_columns_are_taken_by_name_from_every_table(tmp_path: Path) -> None:
    x = drawn("table")
    for ending in endings(TableFormat):
        path = tmp_path / f"x{ending}"
        write(x, path, kind="table", columns=("a", "b", "c"))
        form = find_format(path, ReadableFormat)
        assert form is not None
        assert torch.equal(form.read_samples(path, ("c", "a")), x[:, [2, 0]])
        with pytest.raises(DataError, match="no column 'd'"):
            form.read_samples(path, ("a", "d"))


def test_paths_are_data_again_with_their_times(tmp_path: Path) -> None:
    x, times = drawn("paths"), torch.tensor([0, 0.1, 0.2, 1, 10.0], dtype=torch.float64)
    write(x, tmp_path / "x.npz", kind="paths", times=times)
    data = find_dataset(f"array:path={tmp_path}/x.npz,holdout=0").load()
    check(data)
    assert data.kind == "paths"
    assert data.times is not None
    assert torch.equal(data.times, times)
    assert torch.equal(data.train, x)


@pytest.mark.parametrize("name", ["x.png", "x.PNG", "x.npz.png"])
def test_an_ending_is_the_last_one_in_letters_of_any_size(name: str) -> None:
    found = find_format(name, FileFormat)
    assert found is not None
    assert found.endings == (".png",)


@pytest.mark.parametrize("name", ["png", ".png", "x.png.old", "x"])
def test_no_ending_no_format(name: str) -> None:
    assert find_format(name, FileFormat) is None


def test_a_format_of_ones_own_is_trained_on_written_and_measured(tmp_path: Path, lines: None) -> None:
    """With no edit of the core, of a dataset or of a command."""
    x = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) + 1
    path = tmp_path / "data.lines.txt"
    write(x, path, kind="table", columns=("a", "b"))
    settings = {"sde": "gbm", "net": "mlp:width=8,depth=1", "steps": 2, "batch_size": 8}
    run = train(TrainingConfig.build({**settings, "data": str(path), "out": str(tmp_path / "run")})).run
    trained = restore(run)
    assert trained.state.columns == ("a", "b")
    made = generate(trained, choose_sampler(trained, None), 20, steps=2).x
    check_output(tmp_path / "samples.lines", "table")
    write(made, tmp_path / "samples.lines", kind="table", columns=("a", "b"))
    assert torch.equal(read_samples(tmp_path / "samples.lines", trained), made)
    with pytest.raises(RunError, match="Images cannot be written as a table"):
        check_output(tmp_path / "samples.lines", "image")
    with pytest.raises(DataError, match=r"No installed format can read samples from .*\. Give one of .*\.lines, \.lines\.txt"):
        read_samples(tmp_path / "samples.png", trained)


def test_an_ending_of_two_formats_is_nobodys(lines: None) -> None:
    @dataclass(frozen=True)
    class Others(Lines):
        """Claims what another has."""

        endings: ClassVar[tuple[str, ...]] = (".txt", ".lines")

    name = FORMATS.add(Others, "another test")
    try:
        with pytest.raises(PluginError, match=r"the file formats 'lines' and 'others'\. Uninstall one"):
            find_format("x.lines", FileFormat)
        found = find_format("x.lines.txt", FileFormat)
        assert found is not None
        assert found.title() == "lines", "the longest ending tells"
    finally:
        FORMATS.remove(name)


def test_a_broken_format_breaks_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    load = FORMATS.load

    def broken(name: str) -> Any:
        if name == "csv":
            raise PluginError("The file format 'csv' is broken.", "Fix it.")
        return load(name)

    monkeypatch.setattr(FORMATS, "load", broken)
    assert ".csv" not in endings(FileFormat)
    assert find_format("x.csv", FileFormat) is None
    assert find_format("x.npz", FileFormat) is not None


def test_times_are_increasing_after_a_round_trip_of_many_kinds(tmp_path: Path) -> None:
    """Times of every real dtype, as somebody else stores them."""
    for dtype, ending in itertools.product((np.int8, np.uint16, np.float16, np.float64), ("x", "x_train")):
        np.savez(tmp_path / "a.npz", times=np.arange(5, dtype=dtype), **{ending: drawn("paths").numpy()})
        data = find_dataset(str(tmp_path / "a.npz")).load()
        assert data.times is not None
        assert data.times.tolist() == [0, 1, 2, 3, 4]
