"""Laws of the dataset plugins: a written file is read back as it was, a damaged one is refused in one sentence."""

import contextlib
import gzip
import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pyarrow import parquet
from torch import Tensor
from torch.distributions import constraints

from sdezoo.data.dataset import Data, Dataset
from sdezoo.data.validation import check
from sdezoo.errors import DataError
from sdezoo.generation.export import write
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo_plugins.datasets.array import Array
from sdezoo_plugins.datasets.breast_cancer import BreastCancer
from sdezoo_plugins.datasets.digits import Digits
from sdezoo_plugins.datasets.folder import Folder
from sdezoo_plugins.datasets.idx import Idx
from sdezoo_plugins.datasets.spirals import Spirals
from sdezoo_plugins.datasets.table import Table
from sdezoo_plugins.datasets.wine import Wine

PLUGINS = (Array, Digits, Folder, Idx, Spirals, Table, Wine)
pixel_arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5))


def whole(data: Data) -> Tensor:
    """All rows of a data set that was loaded with nothing held out."""
    check(data)
    assert len(data.test) == 0
    assert data.train.dtype == torch.float32
    return data.train


def refused(dataset: Dataset, says: str = ".") -> None:
    with pytest.raises(DataError, match=says) as refusal:
        dataset.load()
    assert refusal.value.problem.endswith(".")
    assert refusal.value.remedy.endswith(".")


def gzipped(content: bytes) -> bytes:
    """The same bytes in every second: they name tests."""
    return gzip.compress(content, mtime=0)


def packed_idx(array: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def packed_npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def packed_npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=True, **arrays)
    return buffer.getvalue()


def packed_parquet(**columns: list[object]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def packed_png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 4, 5), dtype=np.uint8)
POINTS = RNG.normal(size=(5, 2))


class TestEmbedded:
    def test_digits_are_the_real_ones_split_by_class(self) -> None:
        data = Digits().load()
        check(data)
        assert data.train.shape == (899, 1, 8, 8)
        assert data.test.shape == (898, 1, 8, 8)
        assert (data.train * 16 == (data.train * 16).round()).all()
        assert data.levels == 16
        assert data.train_labels is not None
        assert data.test_labels is not None
        assert data.train_labels.unique().tolist() == list(range(10))
        counts = data.train_labels.bincount() - data.test_labels.bincount()
        assert counts.abs().max() <= 1

    def test_wine_is_positive_with_named_columns(self) -> None:
        data = Wine().load()
        assert data.train.shape == (89, 13)
        assert data.test.shape == (89, 13)
        assert data.columns[0] == "alcohol"
        assert len(data.columns) == 13
        assert fit_encoding(data, constraints.positive).codecs[0].shift == 0

    def test_breast_cancer_has_zeros_that_a_shift_takes_in(self) -> None:
        data = BreastCancer().load()
        check(data)
        assert (data.train.shape, data.test.shape) == ((284, 30), (285, 30))
        assert (torch.cat([data.train, data.test]) == 0).any(0).sum() == 6
        assert data.train_labels is not None
        assert data.train_labels.unique().tolist() == [0, 1]
        with pytest.raises(DataError, match=r"zero or negative.*--shift auto"):
            fit_encoding(data, constraints.positive)
        assert (fit_encoding(data, constraints.positive, "auto").codecs[0].shift > 0).sum() == 6

    def test_spirals_are_the_same_every_time_and_lie_on_the_arms(self) -> None:
        data, again = Spirals().load(), Spirals().load()
        check(data)
        assert torch.equal(data.train, again.train)
        assert not torch.equal(data.train, data.test)
        assert data.train.shape == data.test.shape == (2000, 2)
        fine = Spirals(n=500, noise=1e-6).load()
        radius = fine.train.norm(dim=1)
        angle = 3 * torch.pi * radius
        assert fine.train_labels is not None
        arm = (1 - 2 * fine.train_labels)[:, None] * radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
        torch.testing.assert_close(fine.train, arm, atol=1e-4, rtol=0)


def test_every_plugin_says_what_it_is_and_no_two_read_the_same_ending() -> None:
    endings = [suffix for plugin in PLUGINS for suffix in plugin.endings()]
    assert len(endings) == len(set(endings))
    assert all(plugin.__doc__ and plugin.__doc__.splitlines()[0].endswith(".") for plugin in PLUGINS)


@pytest.mark.parametrize(
    ("name", "plugin"),
    [
        ("a.npz", Array),
        ("a.NPY", Array),
        ("train-images-idx3-ubyte", Idx),
        ("train-images-idx3-ubyte.gz", Idx),
        ("a.csv", Table),
        ("a.parquet", Table),
        ("folder.npz", Folder),
        ("a.txt", None),
    ],
)
def test_a_path_finds_its_plugin(tmp_path: Path, name: str, plugin: type[Dataset] | None) -> None:
    if name.startswith("folder"):
        (tmp_path / name).mkdir()
    assert [p for p in PLUGINS if p.reads(tmp_path / name)] == ([plugin] if plugin else [])


class TestArray:
    @given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2), elements=st.floats(-10, 10, width=32)))
    @settings(deadline=None, max_examples=30)
    def test_points_are_read_back_in_any_order_of_memory_and_bytes(self, points: np.ndarray) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder, "a.npy")
            for stored in (points, np.asfortranarray(points), points.astype(">f8"), points.astype(np.float16)):
                path.write_bytes(packed_npy(stored))
                data = Array(str(path), holdout=0).load()
                assert data.kind == "points"
                assert np.array_equal(whole(data).numpy(), stored.astype(np.float32))

    @pytest.mark.parametrize("kind", ["image", "points"])
    @pytest.mark.parametrize("ending", [".npz", ".npy"])
    def test_samples_are_data_again(self, tmp_path: Path, ending: str, kind: str) -> None:
        samples = torch.rand(4, 1, 3, 5) if kind == "image" else torch.randn(4, 3)
        path = tmp_path / ("a" + ending)
        write(samples, path, kind="image" if kind == "image" else "points")
        data = Array(str(path), holdout=0).load()
        assert data.kind == kind
        assert torch.equal(whole(data), samples)

    @pytest.mark.parametrize(
        ("shape", "channels"),
        [((2, 5, 6), 1), ((2, 5, 6, 3), 3), ((2, 4, 5, 6), 4), ((2, 1, 5, 6), 1), ((2, 3, 5, 3), 3)],
    )
    def test_images_become_channels_first_in_zero_to_one(self, tmp_path: Path, shape: tuple[int, ...], channels: int) -> None:
        pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
        path = tmp_path / "a.npy"
        path.write_bytes(packed_npy(pixels))
        data = Array(str(path), holdout=0).load()
        assert data.kind == "image"
        assert data.levels == 255
        assert data.event[0] == channels
        last = shape[-1] == channels and len(shape) == 4
        expected = np.moveaxis(pixels, -1, 1) if last else pixels.reshape(2, channels, *shape[-2:])
        assert np.array_equal((whole(data) * 255).round().numpy(), expected)

    @pytest.mark.parametrize("shape", [(2, 3, 5, 3), (2, 3, 5, 6), (2, 5, 6), (2, 5, 6, 3)])
    def test_floating_images_prefer_channels_first(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        pixels = RNG.random(shape)
        path = tmp_path / "a.npy"
        path.write_bytes(packed_npy(pixels))
        data = Array(str(path), holdout=0).load()
        assert data.levels is None
        assert data.event == ((3, 5, 6) if shape == (2, 5, 6, 3) else (1, 5, 6) if shape == (2, 5, 6) else shape[1:])

    def test_paths_have_their_times_beside_them(self, tmp_path: Path) -> None:
        """Also where they could be images: numbers of any dtype, out of any range."""
        path, x, times = tmp_path / "a.npz", RNG.normal(size=(9, 4, 5)), np.array([0, 0.5, 3, 3.25])
        path.write_bytes(packed_npz(x=x, times=times, y=np.arange(9)))
        data = Array(str(path), holdout=0).load()
        assert (data.kind, data.event, data.levels) == ("paths", (4, 5), None)
        assert np.array_equal(whole(data).numpy(), x.astype(np.float32))
        assert data.times is not None
        assert data.times.tolist() == times.tolist()
        assert data.train_labels is not None
        path.write_bytes(packed_npz(x_train=PIXELS, x_test=PIXELS[:1], times=np.arange(4, dtype=np.int8)))
        data = Array(str(path)).load()
        assert (data.kind, len(data.train), len(data.test)) == ("paths", 3, 1)
        assert np.array_equal(data.train.numpy(), PIXELS.astype(np.float32))
        path.write_bytes(packed_npz(x=PIXELS))
        assert Array(str(path), holdout=0).load().kind == "image"

    def test_keys_tell_the_parts(self, tmp_path: Path) -> None:
        path, y = tmp_path / "a.npz", np.arange(5, dtype=np.uint8)
        path.write_bytes(packed_npz(x_train=POINTS, y_train=y, x_test=POINTS[:2], y_test=y[:2, None], other=np.array(["?"])))
        data = Array(str(path)).load()
        assert data.train_labels is not None
        assert data.test_labels is not None
        assert data.train_labels.tolist() == [0, 1, 2, 3, 4]
        assert data.test_labels.tolist() == [0, 1]
        assert data.train_labels.dtype == torch.int64
        assert len(data.test) == 2
        path.write_bytes(packed_npz(x=POINTS, y=y))
        data = Array(str(path), holdout=0.4).load()
        assert data.train_labels is not None
        assert len(data.train) == 3
        assert len(data.test) == 2
        torch.testing.assert_close(data.train, torch.from_numpy(POINTS).float()[data.train_labels])
        path.write_bytes(packed_npz(anything=POINTS))
        assert Array(str(path)).load().train_labels is None

    @pytest.mark.parametrize(
        ("arrays", "says"),
        [
            ({}, "it is empty"),
            ({"a": POINTS, "b": POINTS}, "it holds a, b.*Store the data as x_train"),
            ({"x": POINTS[:0]}, "is empty"),
            ({"x": 1e9 + POINTS.astype(np.float64)}, "too close together for float32. Subtract 99999"),
            ({"x": np.zeros((2, 2, 2, 2, 2))}, r"has shape \(2, 2, 2, 2, 2\)"),
            ({"x": np.exp(RNG.normal(size=(9, 4, 5)))}, r"grey images lie in \[0, 1\], and paths need times.* such as x / \d+\.$"),
            ({"x": PIXELS / 256.0 + 1}, "paths need times"),
            ({"x": np.float32(1)}, r"has shape \(\)"),
            ({"x": POINTS * 1j}, "holds complex128"),
            ({"x": np.array([["a"]])}, "not numbers"),
            ({"x": np.array([[{}]])}, "pickled objects are never read"),
            ({"x": PIXELS.astype(np.int64)}, "no known range.*uint8"),
            ({"x": PIXELS.astype(float)}, "Divide them by 255"),
            ({"x": np.zeros((2, 5, 6, 7), np.uint8)}, "no axis of 1, 3 or 4 channels"),
            ({"x": np.array([[0.0, 1.0], [np.nan, 1.0]])}, r"1 missing \(NaN\) value, the first in row 1, column 0"),
            ({"x": np.array([[0.0, 1e300]])}, "too large for float32.*row 0, column 1"),
            ({"x": POINTS, "y": POINTS[:, 0] + 0.5}, "labels are fractions"),
            ({"x": POINTS, "y": np.arange(4)}, r"shape \(4,\)"),
            ({"x": POINTS[:1], "y": np.array(1)}, "labels"),
            ({"x_train": POINTS, "x_test": POINTS[:, :1]}, "x_test differs"),
            ({"x_train": PIXELS, "x_test": PIXELS / 255}, "x_test differs"),
            ({"x": POINTS, "times": np.arange(2)}, r"shape \(5, 2\), not paths \(N, T, d\).*leave out times"),
            ({"x": PIXELS, "times": np.arange(3)}, r"4 observations, and times of shape \(3,\)"),
            ({"x": PIXELS, "times": np.zeros((4, 1))}, r"times of shape \(4, 1\)"),
            ({"x": PIXELS, "times": np.array([0, 2, 1, 3])}, r"do not increase: number 2 .*, 1, is not later"),
            ({"x": PIXELS, "times": np.array([0, 1, np.nan, 3])}, "do not increase: number 2"),
            ({"x_train": PIXELS, "x_test": PIXELS[:, :2], "times": np.arange(4)}, "x_test differs"),
        ],
    )
    def test_bad_arrays(self, tmp_path: Path, arrays: dict[str, np.ndarray], says: str) -> None:
        path = tmp_path / "a.npz"
        path.write_bytes(packed_npz(**arrays))
        refused(Array(str(path)), says)

    @pytest.mark.parametrize("shape", ["(10**12, 2)", "(400, 2)", "(-5, -2)", "(4, 2)", "(2.5, 4)", "{}"])
    def test_headers_that_do_not_fit_the_file_are_refused_before_anything_is_allocated(self, tmp_path: Path, shape: str) -> None:
        true = packed_npy(POINTS)
        false = true.replace(b"(5, 2), }" + b" " * 12, f"{shape}, }}".replace("10**12", str(10**12)).ljust(21).encode())
        assert false != true
        assert len(false) == len(true)
        (tmp_path / "a.npy").write_bytes(false)
        refused(Array(str(tmp_path / "a.npy")))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", false)
        refused(Array(str(tmp_path / "a.npz")))

    def test_a_member_that_promises_more_than_its_bytes_can_hold(self, tmp_path: Path) -> None:
        packed = bytearray(packed_npz(x=POINTS))
        for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
            at = packed.index(signature) + offset
            packed[at : at + 4] = struct.pack("<I", 2**31)
        (tmp_path / "a.npz").write_bytes(packed)
        refused(Array(str(tmp_path / "a.npz")), "declares more data than it can hold")

    def test_a_changed_byte_in_an_npz_is_noticed(self, tmp_path: Path) -> None:
        packed = bytearray(packed_npz(x=POINTS))
        packed[150] ^= 0xFF
        (tmp_path / "a.npz").write_bytes(packed)
        refused(Array(str(tmp_path / "a.npz")), "a NumPy file")


class TestIdx:
    @given(pixel_arrays, st.booleans())
    @settings(deadline=None, max_examples=40)
    def test_images_are_read_back(self, pixels: np.ndarray, compress: bool) -> None:
        with TemporaryDirectory() as folder:
            path = Path(folder, "images.idx" + ".gz" * compress)
            path.write_bytes(gzipped(packed_idx(pixels)) if compress else packed_idx(pixels))
            data = Idx(str(path), holdout=0).load()
            assert data.kind == "image"
            assert 255 % (data.levels or 0) == 0
            assert not (pixels % (255 // (data.levels or 0))).any()
            assert data.train_labels is None
            assert np.array_equal((data.train * 255).round().numpy(), pixels[:, None])

    @pytest.mark.parametrize("images", ["train-images-idx3-ubyte", "train-images.idx3-ubyte", "train-images-idx3-ubyte.gz"])
    @pytest.mark.parametrize("compress", [False, True])
    def test_labels_and_the_held_out_part_are_found_beside(self, tmp_path: Path, images: str, compress: bool) -> None:
        def put(name: str, array: np.ndarray, packed: bool) -> None:
            content = packed_idx(array)
            (tmp_path / (name + ".gz" * packed)).write_bytes(gzipped(content) if packed else content)

        stem = images.removesuffix(".gz")
        labels = stem.replace("images", "labels").replace("idx3", "idx1")
        put(stem, PIXELS, images.endswith(".gz"))
        put(labels, np.array([7, 8, 9], np.uint8), compress)
        put(stem.replace("train", "t10k"), PIXELS[:2], compress)
        put(labels.replace("train", "t10k"), np.array([1, 2], np.uint8), compress)
        data = Idx(str(tmp_path / images)).load()
        check(data)
        assert data.train.shape == (3, 1, 4, 5)
        assert data.test.shape == (2, 1, 4, 5)
        assert data.train_labels is not None
        assert data.test_labels is not None
        assert data.train_labels.tolist() == [7, 8, 9]
        assert data.test_labels.tolist() == [1, 2]

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "an IDX file"),
            (packed_idx(PIXELS)[:-1], "more than it can hold|fewer"),
            (packed_idx(PIXELS) + b"\0", "more bytes"),
            (packed_idx(PIXELS, kind=13), "not an IDX file of uint8"),
            (b"\x89PNG" + bytes(100), "not an IDX file of uint8"),
            (packed_idx(PIXELS[0, 0]), r"shape \(5,\), not images"),
            (packed_idx(PIXELS[:0]), r"shape \(0, 4, 5\)"),
            (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "more than it can hold"),
            (gzipped(struct.pack(">HBB3I", 0, 8, 3, 60_000, 28, 28)), "more than it can hold"),
            (gzipped(struct.pack(">HBB3I", 0, 8, 3, 2, 28, 28)), "fewer"),
            (gzipped(packed_idx(PIXELS))[:20] + b"damage", "an IDX file"),
            (gzipped(packed_idx(PIXELS))[:-8] + bytes(8), "an IDX file"),
        ],
    )
    def test_bad_files(self, tmp_path: Path, content: bytes, says: str) -> None:
        path = tmp_path / "a.idx"
        path.write_bytes(content)
        refused(Idx(str(path)), says)

    def test_memory_is_taken_as_bytes_come(self, tmp_path: Path) -> None:
        """A hundred kilobytes of noise that promise what deflate could make of them."""
        path = tmp_path / "a.idx.gz"
        path.write_bytes(gzipped(struct.pack(">HBB3I", 0, 8, 3, 100_000, 25, 40) + RNG.bytes(100_000)))
        tracemalloc.start()
        refused(Idx(str(path)), "fewer")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 4 * path.stat().st_size + 2**20

    def test_parts_that_do_not_match(self, tmp_path: Path) -> None:
        path = tmp_path / "train-images-idx3-ubyte"
        path.write_bytes(packed_idx(PIXELS))
        (tmp_path / "train-labels-idx1-ubyte").write_bytes(packed_idx(PIXELS[0, 0]))
        refused(Idx(str(path)), "there are 3 images next to it")
        (tmp_path / "train-labels-idx1-ubyte").unlink()
        (tmp_path / "t10k-images-idx3-ubyte").write_bytes(packed_idx(PIXELS[:, 1:]))
        refused(Idx(str(path)), "two parts of one image size")


class TestFolder:
    @pytest.mark.parametrize("shape", [(3, 4), (3, 4, 3), (3, 4, 4)])
    def test_images_are_read_back_in_the_order_of_their_names(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        pixels = RNG.integers(0, 256, (4, *shape), dtype=np.uint8)
        for i, image in enumerate(pixels):
            (tmp_path / f"{i}.png").write_bytes(packed_png(image))
        for name in ("README.txt", ".hidden.png"):
            (tmp_path / name).touch()
        data = Folder(str(tmp_path), holdout=0).load()
        expected = pixels.reshape(4, 3, 4, -1).transpose(0, 3, 1, 2)
        assert data.levels == 255
        assert np.array_equal((whole(data) * 255).round().numpy(), expected)

    def test_sub_folders_are_classes(self, tmp_path: Path) -> None:
        for name in ("b", "a", "empty", ".git"):
            (tmp_path / name).mkdir()
        for i, name in enumerate(["a/1.png", "b/0.PNG", "b/1.png", ".git/x.png"]):
            (tmp_path / name).write_bytes(packed_png(np.full((2, 2), i, np.uint8)))
        data = Folder(str(tmp_path), holdout=0).load()
        assert data.train_labels is not None
        assert data.train_labels.tolist() == [0, 1, 1]
        assert (data.train[:, 0, 0, 0] * 255).round().tolist() == [0, 1, 2]

    def test_black_and_white_is_grey_and_a_palette_is_colour(self, tmp_path: Path) -> None:
        for mode, channels in (("1", 1), ("P", 3)):
            for i in range(2):
                Image.fromarray(PIXELS[i] & 128).convert(mode).save(tmp_path / f"{i}.png")
            assert Folder(str(tmp_path), holdout=0).load().event == (channels, 4, 5)

    def test_photos_are_turned_as_viewers_turn_them(self, tmp_path: Path) -> None:
        """Orientation 6 asks for a quarter turn to the right. Metadata that cannot be read ask for nothing."""
        turned = Image.Exif()
        turned[274] = 6
        for i, exif in enumerate((turned.tobytes(), b"Exif\0\0MM\0*\0\0", b"nonsense")):
            (tmp_path / "a.png").unlink(missing_ok=True)
            Image.fromarray(PIXELS[0]).save(tmp_path / "a.png", exif=exif)
            found = (Folder(str(tmp_path), holdout=0).load().train[0, 0] * 255).round().numpy()
            assert np.array_equal(found, np.rot90(PIXELS[0], -1) if i == 0 else PIXELS[0])

    @pytest.mark.parametrize(
        ("other", "says"),
        [
            (packed_png(PIXELS[0, 1:]), r"b\.png' is 5 × 3 with 1 channel, grey, but 'a\.png' is 5 × 4 with 1 channel, grey"),
            (packed_png(np.zeros((4, 5, 3), np.uint8)), "with 3 channels, colour, but"),
            (packed_png(np.zeros((4, 5), np.uint16)), "mode I;16"),
            (b"", r"b\.png' cannot be read as an image"),
            (b"nonsense", r"b\.png' cannot be read as an image"),
        ],
    )
    def test_the_first_image_that_differs_is_named(self, tmp_path: Path, other: bytes, says: str) -> None:
        (tmp_path / "a.png").write_bytes(packed_png(PIXELS[0]))
        (tmp_path / "b.png").write_bytes(other)
        refused(Folder(str(tmp_path)), says)

    def test_bad_folders(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        refused(Folder(str(tmp_path)), "has no images")
        refused(Folder(str(tmp_path / "nowhere")), "There is no file or folder")
        (tmp_path / "a.png").write_bytes(packed_png(PIXELS[0]))
        refused(Folder(str(tmp_path / "a.png")), "a folder of images")
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 19)
        refused(Folder(str(tmp_path)), "decompression bomb")
        (tmp_path / "sub").mkdir()
        (tmp_path / "sub" / "a.png").write_bytes(packed_png(PIXELS[0]))
        refused(Folder(str(tmp_path)), "both in itself and in sub-folders")
        (tmp_path / "sub" / "deep").mkdir()
        (tmp_path / "sub" / "a.png").rename(tmp_path / "sub" / "deep" / "a.png")
        (tmp_path / "a.png").unlink()
        refused(Folder(str(tmp_path)), "images only two levels down")

    def test_what_other_readers_of_pillow_would_take(self, tmp_path: Path) -> None:
        """PostScript is a program, and Pillow would have it run by another."""
        (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
        refused(Folder(str(tmp_path)), "cannot be read as an image .cannot identify")

    def test_a_header_that_claims_more_pixels_than_the_file_can_hold(self, tmp_path: Path) -> None:
        for size in (struct.pack(">II", 4096, 4096), struct.pack(">II", 2**31 - 1, 2**31 - 1)):
            header = b"IHDR" + size + packed_png(PIXELS[0])[24:29]
            content = bytearray(packed_png(PIXELS[0]))
            content[12:33] = header + struct.pack(">I", zlib.crc32(header))
            (tmp_path / "a.png").write_bytes(content)
            refused(Folder(str(tmp_path)), "more than it can hold|decompression bomb")

    def test_more_than_one_frame(self, tmp_path: Path) -> None:
        first, *rest = (Image.fromarray(image) for image in PIXELS)
        first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
        refused(Folder(str(tmp_path)), "more than one frame")


class TestTable:
    @pytest.mark.parametrize("ending", [".csv", ".parquet"])
    def test_a_written_table_is_read_back_with_its_names(self, tmp_path: Path, ending: str) -> None:
        samples, names = torch.randn(6, 3), ("a b", 'say "c"', "ü,")
        path = tmp_path / ("a" + ending)
        write(samples, path, kind="table", columns=names)
        data = Table(str(path), holdout=0).load()
        assert data.kind == "table"
        assert data.columns == names
        assert torch.equal(whole(data), samples)

    def test_all_kinds_of_numbers_are_read(self, tmp_path: Path) -> None:
        kinds = (pa.int8(), pa.uint64(), pa.float16(), pa.float32(), pa.decimal128(30, 2))
        table = pa.table({str(kind): pa.array([1, 2, 3]).cast(kind, safe=False) for kind in kinds})
        parquet.write_table(table, tmp_path / "a.parquet")
        values = whole(Table(str(tmp_path / "a.parquet"), holdout=0).load())
        assert torch.equal(values, torch.tensor([1.0, 2.0, 3.0])[:, None].expand(3, 5))

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            ("", "a table.*is empty"),
            ("a,b\n", "no rows"),
            ("1,2\n3,4\n5,6\n", "a line of numbers"),
            ("a,b\n1,2\n3\n", r"2 column names, but line 3 has 1 field: 3\."),
            ("a,a\n1,2\n3,4\n", "more than one column named 'a'"),
            ("a,b\n1,2\n3,inf\n", "1 infinite .* row 1, column 'b'"),
            ("a\n1\n1e300\n", "too large for float32.* row 1, column 'a'"),
        ],
    )
    def test_bad_csv(self, tmp_path: Path, content: str, says: str) -> None:
        (tmp_path / "a.csv").write_text(content)
        refused(Table(str(tmp_path / "a.csv")), says)

    @pytest.mark.parametrize(
        ("columns", "says"),
        [
            ({"a": [[1], [2]]}, "columns of lists.*neither numbers nor categories nor times: 'a'"),
            ({}, "no rows"),
        ],
    )
    def test_bad_parquet(self, tmp_path: Path, columns: dict[str, list[object]], says: str) -> None:
        (tmp_path / "a.parquet").write_bytes(packed_parquet(**columns))
        refused(Table(str(tmp_path / "a.parquet")), says)

    def test_a_wide_csv_is_read_like_a_narrow_one(self, tmp_path: Path) -> None:
        samples, path = torch.randn(4, 1500), tmp_path / "a.csv"
        write(samples, path, kind="table", columns=[f'c "{i}", x' for i in range(1500)])
        data = Table(str(path), holdout=0).load()
        assert torch.equal(whole(data), samples)
        assert data.columns[7] == 'c "7", x'
        names = ",".join(f"c{i}" for i in range(1500))
        for line, says in (
            ("1," * 1498 + "1", r"1500 column names, but line 2 has 1499 fields"),
            ("1," * 1499 + "inf", "row 0, column 'c1499'"),
            ("", "no rows"),
        ):
            path.write_text(f"{names}\n{line}\n")
            refused(Table(str(path)), says)

    @pytest.mark.parametrize("columns", [2, 1500])
    def test_missing_values_are_nan(self, tmp_path: Path, columns: int) -> None:
        lines = [",".join(f"c{i}" for i in range(columns)), "1," * (columns - 1), "nan" + ",2" * (columns - 1), "3" + ",4" * (columns - 1)]
        (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
        found = Table(str(tmp_path / "a.csv"), holdout=0).load().train.isnan()
        assert found[:, [0, -1]].tolist() == [[False, True], [True, False], [False, False]]
        assert int(found.sum()) == 2

    def test_columns_without_end(self, tmp_path: Path) -> None:
        for content in ("a," * 100_001 + "\n1\n", '"' + "a" * 2**24, "a" * 200_000 + "\n1\n"):
            (tmp_path / "a.csv").write_text(content)
            refused(Table(str(tmp_path / "a.csv")), "100000 columns|field larger")


def test_toys_are_not_larger_than_memory() -> None:
    refused(Spirals(n=10**12), "declares 4000000000000 values")


FILES: list[tuple[type[Array] | type[Idx] | type[Table], str, bytes]] = [
    (Array, "a.npy", packed_npy(POINTS)),
    (Array, "a.npz", packed_npz(x=POINTS)),
    (Idx, "a.idx", packed_idx(PIXELS)),
    (Idx, "a.idx.gz", gzipped(packed_idx(PIXELS))),
    (Table, "a.parquet", packed_parquet(a=[1, 2], b=[0.5, 1.5])),
]


@pytest.mark.parametrize(("plugin", "name", "content"), FILES, ids=[name for _, name, _ in FILES])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, plugin: Callable[[str], Dataset], name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    plugin(str(path)).load()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        refused(plugin(str(path)))


def test_an_image_cut_off_anywhere_is_refused_unless_all_of_its_pixels_are_there(tmp_path: Path) -> None:
    content, read = packed_png(PIXELS[0]), 0
    for length in range(len(content)):
        for name in "ab":
            (tmp_path / f"{name}.png").write_bytes(content[:length])
        try:
            values = whole(Folder(str(tmp_path), holdout=0).load())
        except DataError:
            continue
        read += 1
        assert np.array_equal((values[0, 0] * 255).round().numpy(), PIXELS[0])
    # Pillow does without the closing chunk (12 bytes), two checksums (8), and the last byte of the compressed stream.
    assert read <= 12 + 8 + 1


@given(st.sampled_from(FILES), st.data())
@settings(deadline=None, max_examples=150)
def test_a_damaged_file_is_read_or_refused_but_never_a_traceback(
    file: tuple[type[Array] | type[Idx] | type[Table], str, bytes], data: st.DataObject
) -> None:
    plugin, name, content = file
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(damaged)
        with contextlib.suppress(DataError):
            plugin(str(path)).load()


@pytest.mark.parametrize("plugin", [Array, Idx, Folder, Table])
def test_missing_files_and_wrong_kinds_of_paths(tmp_path: Path, plugin: Callable[[str], Dataset]) -> None:
    refused(plugin(str(tmp_path / "nowhere")), "There is no file or folder")
    if plugin is not Folder:
        refused(plugin(str(tmp_path)), "cannot be read")


def test_mnist_is_read() -> None:
    path = os.environ.get("SDEZOO_MNIST")
    if path is None:
        pytest.skip("SDEZOO_MNIST is not set; it is the path of mnist.npz")
    data = Array(path).load()
    check(data)
    assert data.train.shape == (60_000, 1, 28, 28)
    assert data.test.shape == (10_000, 1, 28, 28)
    assert data.levels == 255
    assert data.train_labels is not None
    assert data.train_labels.bincount().tolist()[:2] == [5923, 6742]
    affine = fit_encoding(data, constraints.positive)
    lattice = affine.decode(affine.encode(data.test[:100])) * 255
    assert torch.equal(lattice.round(), (data.test[:100] * 255).round())


@pytest.mark.parametrize(
    ("labels", "names"),
    [(["b", "a", "c"], ("a", "b", "c")), ([-1, 1, 2], (-1, 1, 2)), ([0.0, 1.0, 2.0], (0, 1, 2)), ([True, False, True], (0, 1))],
)
def test_labels_of_arrays_name_the_classes(tmp_path: Path, labels: list[object], names: tuple[object, ...]) -> None:
    y = np.array(labels * 10)
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).random((30, 2)), y=y)
    data = Array(str(tmp_path / "a.npz")).load()
    assert data.class_names == names
    assert sorted(names[k] for k in data.train_labels.tolist() + data.test_labels.tolist()) == sorted(y.tolist())
    np.savez(tmp_path / "b.npz", x=np.array([["1", "2"]] * 30), y=y)
    with pytest.raises(DataError, match="holds texts"):
        Array(str(tmp_path / "b.npz")).load()
