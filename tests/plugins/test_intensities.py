"""Images of every depth: read to [0, 1] on their own lattice, and written one file each at the depth that they came in."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdezoo.data.dataset import Data
from sdezoo.data.validation import check
from sdezoo.errors import DataError, RunError
from sdezoo.generation.single_files import check_folder, names_a_folder, write_folder
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo_plugins.datasets.array import Array
from sdezoo_plugins.datasets.folder import Folder

RNG = np.random.default_rng(0)
SHAPE = (5, 4, 6)
FORMS = {
    "L": (RNG.integers(0, 256, SHAPE).astype(np.uint8), "png"),
    "LA": (RNG.integers(0, 256, (*SHAPE, 2)).astype(np.uint8), "png"),
    "RGB": (RNG.integers(0, 256, (*SHAPE, 3)).astype(np.uint8), "png"),
    "RGBA": (RNG.integers(0, 256, (*SHAPE, 4)).astype(np.uint8), "png"),
    "16 bits": (RNG.integers(0, 65536, SHAPE).astype(np.uint16), "png"),
    "16 bits, tif": (RNG.integers(0, 65536, SHAPE).astype(np.uint16), "tif"),
    "16 bits, pgm": (RNG.integers(0, 65536, SHAPE).astype(np.uint16), "pgm"),
    "floats": (RNG.random(SHAPE, np.float32), "tif"),
}


def put(folder: Path, pixels: np.ndarray, ending: str) -> Path:
    folder.mkdir(exist_ok=True)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{i:06}.{ending}")
    return folder


def loaded(data: Data) -> np.ndarray:
    """The rows, channels last, in the units of the file."""
    check(data)
    return (data.train.double() * (data.levels or 1)).movedim(1, -1).squeeze(-1).numpy()


@pytest.mark.parametrize("form", FORMS)
def test_images_are_read_exactly_and_written_at_their_depth(tmp_path: Path, form: str) -> None:
    pixels, ending = FORMS[form]
    data = Folder(str(put(tmp_path / "in", pixels, ending)), holdout=0).load()
    assert data.levels == {"uint8": 255, "uint16": 65535, "float32": None}[pixels.dtype.name]
    np.testing.assert_allclose(loaded(data), pixels, atol=0.01 if data.levels else 0)
    out = tmp_path / "out"
    check_folder(out, "image", data.event, data.levels)
    write_folder(data.train.split(2), out, data.levels, "Give another place.")
    written = sorted(out.iterdir())
    assert len(written) == len(pixels)
    assert np.array_equal(np.stack([np.asarray(Image.open(file)) for file in written]), pixels)
    assert torch.equal(Folder(str(out), holdout=0).load().train, data.train)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_arrays_of_integers_have_the_lattice_of_their_type(tmp_path: Path, dtype: type) -> None:
    """Or that of the largest value that they can have, as of cameras of 12 bits."""
    pixels = RNG.integers(0, 200, (5, 4, 6, 3)).astype(dtype)
    np.save(tmp_path / "a.npy", pixels)
    data = Array(str(tmp_path / "a.npy"), holdout=0).load()
    assert data.levels == np.iinfo(dtype).max
    np.testing.assert_allclose(loaded(data), pixels, atol=0.01)
    data = Array(str(tmp_path / "a.npy"), holdout=0, maximum=199).load()
    assert (data.levels, float(data.train.max())) == (199, 1.0)
    for wide in (pixels.astype(np.int32), pixels.astype(np.float32)):
        np.save(tmp_path / "a.npy", wide)
        with pytest.raises(DataError, match="maximum="):
            Array(str(tmp_path / "a.npy"), holdout=0).load()
        np.testing.assert_allclose(Array(str(tmp_path / "a.npy"), holdout=0, maximum=250).load().train.max(), pixels.max() / 250, rtol=1e-6)
    with pytest.raises(DataError, match=r"must lie in \[0, 100\], but .* give their largest value: maximum=199"):
        Array(str(tmp_path / "a.npy"), maximum=100).load()


def test_one_axis_is_one_column(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(5.0))
    data = Array(str(tmp_path / "a.npy"), holdout=0).load()
    assert (data.kind, data.train.tolist()) == ("points", [[0.0], [1.0], [2.0], [3.0], [4.0]])


def test_alpha_is_opaque_where_there_is_none(tmp_path: Path) -> None:
    """Of a palette with a transparent colour, too."""
    colours = Image.fromarray(FORMS["RGB"][0][0])
    colours.save(tmp_path / "a.png")
    colours.quantize(4).save(tmp_path / "b.png", transparency=0)
    data = Folder(str(tmp_path), holdout=0).load()
    assert data.event == (4, 4, 6)
    assert (data.train[0, 3] == 1).all()
    assert set(data.train[1, 3].flatten().tolist()) == {0.0, 1.0}
    assert np.array_equal((data.train[0, :3] * 255).round().movedim(0, -1).numpy(), FORMS["RGB"][0][0])


@pytest.mark.parametrize(
    ("first", "other", "says"),
    [
        ("L", "RGB", "with 3 channels, colour, but .* 1 channel, grey"),
        ("LA", "RGBA", "all grey or all colour"),
        ("L", "16 bits", r"16 bits \(mode I;16\), grey, but"),
        ("16 bits", "floats", r"floats \(mode F\)"),
    ],
)
def test_depths_and_colours_are_not_mixed(tmp_path: Path, first: str, other: str, says: str) -> None:
    for name, form in (("a", first), ("b", other)):
        Image.fromarray(FORMS[form][0][0]).save(tmp_path / f"{name}.tif")
    with pytest.raises(DataError, match=says):
        Folder(str(tmp_path)).load()


def test_floats_beyond_one_are_refused_with_what_to_give(tmp_path: Path) -> None:
    put(tmp_path, 300 * FORMS["floats"][0], "tif")
    with pytest.raises(DataError, match=r"largest value: maximum=29\d"):
        Folder(str(tmp_path)).load()
    assert Folder(str(tmp_path), holdout=0, maximum=300).load().train.max() <= 1
    put(tmp_path, np.where(FORMS["floats"][0] > 0.5, np.nan, 0).astype(np.float32), "tif")
    with pytest.raises(DataError, match=r"missing \(NaN\)"):
        Folder(str(tmp_path)).load()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_colour_of_16_bits_is_written_exactly(tmp_path: Path, channels: int) -> None:
    """Read here by its definition: Pillow reads 8 of the bits, which are the first."""
    pixels = RNG.integers(0, 65536, (3, 4, 6, channels)).astype(np.uint16)
    x, out = torch.from_numpy(pixels / 65535).movedim(-1, 1).float(), tmp_path / "out"
    check_folder(out, "image", (channels, 4, 6), 65535)
    write_folder([x], out, 65535, "")
    for file, image in zip(sorted(out.iterdir()), pixels, strict=True):
        content = file.read_bytes()
        assert struct.unpack(">IIBB", content[16:26]) == (6, 4, 16, (0, 4, 2, 6)[channels - 1])
        packed = content[content.index(b"IDAT") + 4 : content.index(b"IEND") - 8]
        rows = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(4, -1)
        assert not rows[:, 0].any()
        assert np.array_equal(np.ascontiguousarray(rows[:, 1:]).view(">u2").reshape(4, 6, channels), image)
        with Image.open(file) as read:
            seen = np.asarray(read.convert("RGBA") if channels == 2 else read).reshape(4, 6, -1)
        seen = seen[..., [0, 3]] if channels == 2 else seen
        assert np.array_equal(seen, image if channels == 1 else image >> 8)


@pytest.mark.parametrize(("dtype", "maximum", "ending"), [("float32", 1000.0, "tif"), ("uint8", 100, "png"), ("uint16", 4095, "png")])
def test_pixels_come_out_in_the_units_of_the_data(tmp_path: Path, dtype: str, maximum: float, ending: str) -> None:
    """A largest pixel that the user names is undone in single files."""
    pixels = (RNG.random(SHAPE) * maximum).astype(dtype)
    data = Folder(str(put(tmp_path / "in", pixels, ending)), holdout=0, maximum=maximum).load()
    write_folder([data.train], tmp_path / "out", data.levels, "", data.maximum)
    written = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").iterdir())])
    np.testing.assert_allclose(written, pixels, rtol=1e-6)
    np.save(tmp_path / "x.npy", pixels[:, None])
    assert Array(str(tmp_path / "x.npy"), maximum=maximum).load().maximum == maximum


def test_a_folder_of_ones_own_is_left_alone(tmp_path: Path) -> None:
    x, out = torch.rand(3, 1, 4, 4), tmp_path / "out"
    write_folder([x], out, 255, "")
    with pytest.raises(RunError, match=r"has images.*--overwrite"):
        check_folder(out, "image", (1, 4, 4), 255)
    check_folder(out, "image", (1, 4, 4), 255, overwrite=True)
    write_folder([x[:1]], out, 255, "")
    assert [file.name for file in out.iterdir()] == ["000000.png"], "no image of before stays"
    (out / "mine.txt").touch()
    with pytest.raises(RunError, match=r"other files, such as 'mine\.txt'"):
        check_folder(out, "image", (1, 4, 4), 255, overwrite=True)
    for event, levels, says in (((5, 4, 4), 65535, "5 channels of 16 bits"), ((3, 4, 4), None, "floating values")):
        with pytest.raises(RunError, match=says):
            check_folder(tmp_path / "new", "image", event, levels)
    with pytest.raises(RunError, match="only images"):
        check_folder(tmp_path / "new", "table", (3,), None)
    (tmp_path / "link").symlink_to(out)
    with pytest.raises(RunError, match="a link"):
        check_folder(tmp_path / "link", "image", (1, 4, 4), 255)
    assert names_a_folder("a/")
    assert names_a_folder(out)
    assert not names_a_folder(tmp_path / "out.png")


def test_a_constant_channel_comes_back_exactly(tmp_path: Path) -> None:
    """An opaque alpha and a constant colour are no noise; images of one constant channel alone are still refused."""
    pixels = RNG.integers(0, 256, (8, 8, 8, 4)).astype(np.uint8)
    pixels[..., 1], pixels[..., 3] = 77, 255
    settings = {"net": "unet:width=8,multipliers=(1,)", "steps": 1, "batch_size": 4, "device": "cpu"}
    run = train(TrainingConfig.build({**settings, "data": str(put(tmp_path / "in", pixels, "png")), "out": str(tmp_path / "run")})).run
    sample(run, f"{tmp_path}/out/", n=3, steps=2, device="cpu")
    made = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").iterdir())])
    assert (made[..., [1, 3]] == (77, 255)).all()
    assert len(np.unique(made[..., [0, 2]])) > 9
    assert (restore(run).encoding.decode(torch.rand(2, 4, 8, 8))[:, 1] == torch.tensor(77 / 255)).all()
    flat = TrainingConfig.build({**settings, "data": str(put(tmp_path / "flat", 0 * pixels[..., 0], "png")), "out": str(tmp_path / "none")})
    with pytest.raises(DataError, match="All rows of the data are the same"):
        train(flat)


def test_samples_of_a_run_are_single_files(tmp_path: Path) -> None:
    """However many there are, in memory or streamed."""
    data = str(put(tmp_path / "in", RNG.integers(0, 65536, (8, 8, 8)).astype(np.uint16), "png"))
    settings = {"data": data, "net": "unet:width=8", "steps": 1, "batch_size": 4, "device": "cpu", "out": str(tmp_path / "run")}
    run = train(TrainingConfig.build(settings)).run
    for out, batch in (("few/", 64), ("many/", 1)):
        made = sample(run, f"{tmp_path}/{out}", n=10, steps=1, batch_size=batch, device="cpu")
        assert made is not None
        files = sorted((tmp_path / out).iterdir())
        assert [file.name for file in files] == [f"{i:06}.png" for i in range(10)]
        assert Image.open(files[0]).mode == "I;16"
    assert not (tmp_path / "many.parts").exists()
    with pytest.raises(RunError, match="has images"):
        sample(run, f"{tmp_path}/few/", n=1, device="cpu")


@pytest.mark.parametrize(("values", "dtype", "levels"), [
    ((0, 255), "uint8", 1), ((0, 85, 170, 255), "uint8", 3), ((0, 15, 255), "uint8", 17), ((0, 1, 255), "uint8", 255),
    ((0, 100), "uint8", 255), ((0, 65535), "uint16", 65535), ((0, 5, 65535), "uint16", 13107), ((0, 0), "uint8", 255),
])  # fmt: skip
def test_levels_are_those_that_pixels_have(tmp_path: Path, values: tuple[int, ...], dtype: str, levels: int) -> None:
    """A mask of 0 and 255 has two; held-out images count, and 16 bits stay 16 bits."""
    pixels = np.full((70, 4, 6), values[0], dtype)
    pixels[1:, 0, 0] = np.resize(values[1:], 69)
    np.savez(tmp_path / "x.npz", x=pixels)
    np.savez(tmp_path / "parts.npz", x_train=pixels[:1], x_test=pixels[1:])
    for data in (
        Folder(str(put(tmp_path / "in", pixels, "png"))).load(),
        Array(str(tmp_path / "x.npz")).load(),
        Array(str(tmp_path / "parts.npz")).load(),
    ):
        assert data.levels == levels
        assert data.notes == ()


def test_samples_of_masks_are_masks(tmp_path: Path) -> None:
    put(tmp_path / "in", RNG.integers(0, 2, (40, 8, 8)).astype(bool), "png")
    settings = {"net": "unet:width=8", "steps": 2, "batch_size": 8, "data": str(tmp_path / "in"), "out": str(tmp_path / "run")}
    run = train(TrainingConfig.build(settings)).run
    sample(run, f"{tmp_path}/out/", n=4, steps=3)
    written = np.stack([np.asarray(Image.open(file)) for file in sorted((tmp_path / "out").iterdir())])
    assert set(np.unique(written)) == {0, 255}


def test_dark_images_are_noted(tmp_path: Path) -> None:
    for values, dtype, said in (((0, 1), "uint8", "above 1 of 255"), ((3, 4000), "uint16", "maximum=4000, or maximum=4095 of 12 bits")):
        pixels = np.resize(np.array(values, dtype), (20, 4, 6))
        np.savez(tmp_path / "x.npz", x=pixels)
        assert said in "".join(Array(str(tmp_path / "x.npz")).load().notes)
        assert Array(str(tmp_path / "x.npz"), maximum=4095).load().notes == ()
    assert Array(str(tmp_path / "x.npz"), maximum=4095).load().levels == 4095
