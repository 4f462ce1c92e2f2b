"""Laws of `sdezoo.generation.export`: what is written is read back unchanged, and a bad path is refused before any work."""

import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import csv, parquet
from torch import Tensor

from sdezoo.data.dataset import Kind
from sdezoo.errors import RunError
from sdezoo.generation.export import check_output, write

floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
tables = st.integers(1, 4).flatmap(lambda d: st.lists(st.lists(floats, min_size=d, max_size=d), min_size=1, max_size=5))


def read(path: Path) -> Tensor:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            assert list(archive) == ["x"]
            array = archive["x"]
    elif path.suffix == ".npy":
        array = np.load(path, allow_pickle=False)
    else:
        table = csv.read_csv(path) if path.suffix == ".csv" else parquet.read_table(path)
        array = np.stack([column.to_numpy().astype(np.float32) for column in table.columns], 1)
    assert array.dtype == np.float32
    return torch.from_numpy(array)


@given(tables, st.sampled_from([".npz", ".npy", ".csv", ".parquet"]))
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read_back_to_the_bit(rows: list[list[float]], ending: str) -> None:
    samples = torch.tensor(rows)
    with TemporaryDirectory() as folder:
        path = Path(folder, "made", "out" + ending)
        write(samples, path, kind="points")
        assert torch.equal(read(path), samples)
        assert os.listdir(path.parent) == [path.name]


@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8),
        min_size=2,
        max_size=3,
        unique=True,
    )
)
@settings(max_examples=40, deadline=None)
def test_columns_keep_their_names(names: list[str]) -> None:
    with TemporaryDirectory() as folder:
        for ending, reader in ((".csv", csv.read_csv), (".parquet", parquet.read_table)):
            path = Path(folder, "out" + ending)
            write(torch.ones(2, len(names)), path, kind="table", columns=names)
            assert reader(path).column_names == names


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_whole_numbers_stay_whole(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"x{ending}"
    samples = torch.tensor([[0.4, 0.25, 300.6], [-0.4, 1e-3, -3.5], [2.5e9, 1e30, 4.0]])
    write(samples, path, kind="table", columns=("a", "b", "c"), types=("int64", "float64", "uint8"))
    table = csv.read_csv(path) if ending == ".csv" else parquet.read_table(path)
    assert table["a"].to_pylist() == [0, 0, 2_500_000_000]
    assert table["c"].to_pylist() == [301, -4, 4], "uint8 does not hold them"
    assert [str(field.type) for field in table.schema][::2] == ["int64", "int64"]
    assert np.array_equal(np.array(table["b"].to_pylist(), np.float32), samples[:, 1].numpy())
    with pytest.raises(RunError, match=r"integer column 'c' has samples from -3.5e\+20 to 3.006e\+22, which overflow"):
        write(samples * 1e20, tmp_path / f"y{ending}", kind="table", columns=("b", "a", "c"), types=("float64", "float64", "int8"))
    assert not (tmp_path / f"y{ending}").exists()


def test_columns_without_names_are_numbered(tmp_path: Path) -> None:
    write(torch.ones(2, 3), tmp_path / "out.csv", kind="points")
    assert csv.read_csv(tmp_path / "out.csv").column_names == ["x0", "x1", "x2"]


def test_arrays_of_images_are_never_clamped(tmp_path: Path) -> None:
    samples = torch.tensor([-0.25, 0.5, 1.25, 1.0]).reshape(1, 1, 2, 2)
    write(samples, tmp_path / "out.npz", kind="image", levels=16)
    assert torch.equal(read(tmp_path / "out.npz"), samples)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (4, "RGBA"), (2, "L")])
def test_a_grid_shows_every_image_saturated_and_enlarged(tmp_path: Path, channels: int, mode: str) -> None:
    samples = torch.linspace(-0.2, 1.2, 5 * channels * 12).reshape(5, channels, 3, 4)
    write(samples, tmp_path / "out.png", kind="image", levels=16)
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == mode
        shown = torch.from_numpy(np.asarray(image).copy()).float().reshape(image.height, image.width, -1)
    images = samples.flatten(0, 1)[:, None] if channels == 2 else samples
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    factor = shown.shape[1] // (columns * 5 + 1)
    assert factor > 1
    assert shown.shape[:2] == ((rows * 4 + 1) * factor, (columns * 5 + 1) * factor)
    shown = shown[::factor, ::factor]
    for i, image in enumerate(images):
        top, left = i // columns * 4 + 1, i % columns * 5 + 1
        lattice = (image.clamp(0, 1) * 16).round() / 16
        assert torch.equal(shown[top : top + 3, left : left + 4].permute(2, 0, 1), (lattice * 255).round())


def test_large_pictures_are_not_enlarged(tmp_path: Path) -> None:
    write(torch.rand(1, 1, 600, 2), tmp_path / "out.PNG", kind="image")
    with Image.open(tmp_path / "out.PNG") as image:
        assert image.size == (4, 602)


@pytest.mark.parametrize(("kind", "d"), [("points", 1), ("points", 2), ("table", 3), ("table", 40)])
def test_points_and_tables_are_drawn(tmp_path: Path, kind: Kind, d: int) -> None:
    write(torch.randn(20, d), tmp_path / "out.png", kind=kind, columns=[f"a_{i}$" for i in range(d)])
    with Image.open(tmp_path / "out.png") as image:
        assert image.convert("L").getextrema() != (255, 255)


@pytest.mark.parametrize("samples", [torch.full((2, 3), math.nan), torch.ones(0, 3)])
def test_what_cannot_be_drawn_is_refused_and_leaves_nothing(tmp_path: Path, samples: Tensor) -> None:
    with pytest.raises(RunError, match=r"cannot be drawn.*Write \.npz"):
        write(samples, tmp_path / "out.png", kind="points")
    assert not any(tmp_path.iterdir())


def test_a_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    write(torch.rand(4, 1, 2, 2), path, kind="image")
    before = path.read_bytes()
    with pytest.raises(RunError):
        write(torch.full((4, 1, 2, 2), math.inf), path, kind="image")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    write(torch.rand(9, 1, 2, 2), path, kind="image")
    assert path.read_bytes() != before


def test_a_file_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot be written"):
        write(torch.ones(2, 2), tmp_path / "file" / "out.npz", kind="points")


def test_an_output_is_checked_without_a_trace(tmp_path: Path) -> None:
    check_output(tmp_path / "new" / "deep" / "out.npz", "image")
    assert not any(tmp_path.iterdir())


def test_an_output_path_that_cannot_be(tmp_path: Path) -> None:
    taken = tmp_path / "taken.npz"
    taken.touch()
    dangling = tmp_path / "dangling.npz"
    dangling.symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.npz").mkdir()
    cases: list[tuple[Path, Kind, str]] = [
        (tmp_path / "out.xyz", "image", r"No installed format can write .* Give one of \.npy, \.npz, \.png\.$"),
        (tmp_path / "out", "table", r"Give one of \.csv, \.csv\.gz, \.npy, \.npz, \.parquet, \.png, \.tsv, \.tab, \.tsv\.gz, \.xlsx\.$"),
        (tmp_path / "out.csv", "image", r"Images cannot be written as a table"),
        (tmp_path / "out.csv", "paths", r"Paths cannot be written as a table, .* Give one of \.npy, \.npz\.$"),
        (tmp_path / "out.parquet", "paths", r"Paths cannot be written as a table"),
        (tmp_path / "out.png", "paths", r"Paths cannot be written as a picture, .* Give one of \.npy, \.npz\.$"),
        (taken, "image", "exists.*--overwrite"),
        (dangling, "image", "exists.*--overwrite"),
        (tmp_path / "folder.npz", "image", "is a folder"),
        (taken / "out.npz", "image", "is not a folder"),
    ]
    for path, kind, says in cases:
        with pytest.raises(RunError, match=says):
            check_output(path, kind)
    check_output(taken, "image", overwrite=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot be written to"):
        check_output(tmp_path / "out.npz", "image")
