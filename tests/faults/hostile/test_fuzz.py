"""Damaged inputs of every kind: each works, or is refused in one sentence and a remedy; `tests.faults.hostile.hunting` has the bounds."""

import gzip
import hashlib
import io
import shutil
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from sdezoo.data.dataset import Data, Dataset
from sdezoo.data.opening.excel import write_sheet
from sdezoo.data.validation import check
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.training.planning import draft
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import REGISTRIES
from sdezoo_plugins.datasets.array import Array
from sdezoo_plugins.datasets.folder import Folder
from sdezoo_plugins.datasets.idx import Idx
from sdezoo_plugins.datasets.table import Table
from tests.faults.hostile.hunting import attempt, hunt

FEW, MANY = 20, 500
"""Inputs of each kind: always, and in the long run."""

RNG = np.random.default_rng(0)
POINTS = RNG.normal(size=(8, 3))
PIXELS = RNG.integers(0, 256, (3, 4, 5), dtype=np.uint8)


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def lying_npy(shape: object, dtype: str = "<f4", body: bytes = bytes(64)) -> bytes:
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text) + 1) + text.encode() + b"\n" + body


def npz(method: int = zipfile.ZIP_DEFLATED, **members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name + ".npy", content)
    return buffer.getvalue()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def png(array: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, form)
    return buffer.getvalue()


def lying_png(width: int, height: int, depth: int = 8, colour: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def table(**columns: list[float]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def sheet() -> bytes:
    buffer = io.BytesIO()
    write_sheet(("a", "b"), ((i, i / 7) for i in range(20)), buffer)
    return buffer.getvalue()


def wide(columns: int) -> bytes:
    return (",".join(f"a{i}" for i in range(columns)) + "\n" + ("1," * (columns - 1) + "1\n") * 2).encode()


PICTURES = [png(PIXELS[0], form) for form in ("PNG", "BMP", "JPEG", "TIFF", "WEBP", "PPM")]
FILES: dict[str, tuple[type[Array] | type[Idx] | type[Table] | type[Folder], str, list[bytes]]] = {
    "npy": (
        Array,
        "a.npy",
        [
            *(npy(a) for a in (POINTS, np.asfortranarray(POINTS), POINTS.astype(">f2"), PIXELS, PIXELS / 255, np.zeros((0, 3)))),
            npy(np.array([[np.nan]])),
            *(lying_npy(shape) for shape in ((10**12, 4), (2**62,), (4, 4, 4, 4, 4), "{}", "(" * 500, "4" * 5000, (10**9, 1), "(True, 4)")),
            *(lying_npy((4, 4), dtype) for dtype in ("|O", "|S4", "<c8", "<M8[s]", "|b1", "f4,f4", "<f16", "|V9", "(2,)f4")),
        ],
    ),
    "npz": (
        Array,
        "a.npz",
        [
            npz(x=npy(POINTS), y=npy(np.arange(8))),
            npz(x_train=npy(PIXELS), x_test=npy(PIXELS), y_train=npy(np.arange(3)), y_test=npy(np.arange(3))),
            npz(x=npy(np.zeros((300_000, 10), np.float32))),
            npz(x=lying_npy((10**12, 4))),
            npz(x=npy(POINTS), y=npy(np.full(8, 2**63, np.uint64))),
            npz(zipfile.ZIP_LZMA, x=npy(POINTS)),
            npz(zipfile.ZIP_BZIP2, x=npy(POINTS)),
            npz(),
        ],
    ),
    "idx": (Idx, "a.idx", [idx(PIXELS), idx(PIXELS[0]), struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 9)]),
    "idx.gz": (Idx, "a.idx.gz", [gzip.compress(idx(PIXELS)), gzip.compress(idx(np.zeros((500, 28, 28), np.uint8))), gzip.compress(b"")]),
    "csv": (
        Table,
        "a.csv",
        [
            b"a,b,c\n" + b"1,2.5,-3e4\n" * 9,
            b'"a ""x""",b\n1,2\n"3",4\n',
            b"\xef\xbb\xbfa,b\r\n1,2\r\n3,nan\r\n",
            b"a,b\n1,\n,inf\n",
            b"a\n" + b"9" * 300_000 + b"\n1\n",
            b'a\n"' + b"x\n" * 100_000,
            wide(2_000),
            wide(150_000),
            b"a," * 5_000 + b"\n",
            b"a,b\n2020-01-01,true\n",
            b'sep=;\na;b\n"1.234,5";$2\n# x\n3;4\n',
            "# \n,gr\u00f6\u00dfe\n0,1 234\n1,5\n".encode("utf-16"),
            gzip.compress(b"a,b\n" + b"1,text\n" * 2_000, mtime=0),
        ],
    ),
    "xlsx": (Table, "a.xlsx", [sheet()]),
    "parquet": (Table, "a.parquet", [table(a=[1.0, 2.0, 3.0], b=[4.0, 5.0, 6.0]), table(a=[0.0] * 5_000)]),
    "image": (
        Folder,
        "b.png",
        [
            *PICTURES,
            *(
                lying_png(*size)
                for size in ((2**31 - 1, 2**31 - 1), (9_000, 9_000), (20_000, 1), (100_000, 100_000, 1), (5_000, 5_000, 16, 6))
            ),
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n",
        ],
    ),
}

long_too = pytest.mark.parametrize("examples", [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)])


def float32_of(found: object) -> int:
    """The honest size of what was read."""
    return 4 * (found.train.numel() + found.test.numel()) if isinstance(found, Data) else 0


@pytest.mark.parametrize("kind", FILES)
@long_too
def test_files_of_data(tmp_path: Path, kind: str, examples: int) -> None:
    plugin, name, contents = FILES[kind]
    if plugin is Folder:
        (tmp_path / "a.png").write_bytes(png(PIXELS[0]))

    def read(path: Path) -> Data:
        dataset: Dataset = plugin(str(tmp_path if plugin is Folder else path))
        data = dataset.load()
        check(data)
        return data

    hunt(contents, read, tmp_path / name, examples, float32_of)


CONFIG = TrainingConfig(data="wine", net="mlp:width=64", steps=10, out="runs/a").model_dump()
CONFIGS = [
    yaml.safe_dump(CONFIG).encode(),
    b"steps: 5\nsde: gbm:sigma=0.8\nshift: auto\n",
    b"data: a.csv\nloss: mult-dsm\nlr: 1e-3\nseed: 0x" + b"f" * 50,
    b"a: &a [x, x, x, x, x, x, x, x, x]\n" + b"".join(b"%c: &%c [%s]\n" % (k, k, b",".join([b"*%c" % (k - 1)] * 9)) for k in b"bcdefghijk"),
    b"a: &a {x: 1}\n" + b"".join(b"%c: &%c {<<: [%s]}\n" % (k, k, b",".join([b"*%c" % (k - 1)] * 9)) for k in b"bcdefghijk"),
    b"[" * 100_000,
    b"steps: 2001-99-99\n",
    b"steps: !!timestamp x\nseed: !!bool y\nlr: !!python/object/apply:os.system [ls]\n",
    b"sde: " + b"gbm:" + b"a=1," * 20_000,
    b"out: '" + b"a" * 5_000 + b"'\n",
    b'out: "a\\0b"\n',
    b"device: meta\n",
    b"net: module:path=os.system\n",
    b"sde: ./evil.py\n",
]


@long_too
def test_configs(tmp_path: Path, examples: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    hunt(CONFIGS, lambda path: draft(TrainingConfig.build(TrainingConfig.read(path))), tmp_path / "config.yaml", examples)


SPECS = [
    (kind, spec) for kind, registry in REGISTRIES.items() for _, plugin in defaults(registry) for spec in (plugin.spec, plugin.full_spec)
]
odd = st.one_of(
    st.text(max_size=20), st.sampled_from(["nan", "-inf", "1e400", "9" * 5_000, "(" * 300, "none", "true", "()", "(1,(2))", "0x1", "1_0"])
)


@pytest.mark.parametrize("kind", REGISTRIES)
@long_too
def test_spec_strings(tmp_path: Path, kind: str, examples: int) -> None:
    valid = [spec for registry, spec in SPECS if registry == kind] + ["array:path=a.npy", "module:path=os.path", "unet"]

    @settings(max_examples=examples, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(valid), st.data())
    def trial(spec: str, data: st.DataObject) -> None:
        name, _, rest = spec.partition(":")
        items = dict(item.partition("=")[::2] for item in rest.split(",") if item)
        for key in items:
            if data.draw(st.booleans()):
                items[key] = data.draw(odd)
        text = data.draw(
            st.sampled_from(
                [name + ":" + ",".join(f"{k}={v}" for k, v in items.items()), data.draw(odd) + spec, name + ":" + data.draw(odd)]
            )
        )
        attempt(lambda: REGISTRIES[kind].build(text), tmp_path, len(text))

    trial()


@pytest.mark.parametrize("text", ["gbm:" + "," * 50_000, "gbm:a=" + "(" * 50_000, "gbm:" + "(,)" * 20_000, "a" * 100_000])
def test_long_spec_strings(tmp_path: Path, text: str) -> None:
    attempt(lambda: REGISTRIES["sdes"].build(text), tmp_path, len(text))


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short training."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train(TrainingConfig(data="wine", net="mlp:width=8,depth=1", steps=2, batch_size=4, out=str(folder))).run


@pytest.mark.parametrize("name", ["state.json", "ema.safetensors", "optimizer.safetensors", "SHA256SUMS"])
@long_too
def test_checkpoints_damaged_by_accident(run_folder: Path, name: str, examples: int, tmp_path: Path) -> None:
    folder = copied(run_folder, tmp_path)
    hunt([(folder / name).read_bytes()], lambda _: restored(folder), folder / name, examples)


@pytest.mark.parametrize("name", ["state.json", "ema.safetensors", "optimizer.safetensors"])
@long_too
def test_checkpoints_damaged_on_purpose(run_folder: Path, name: str, examples: int, tmp_path: Path) -> None:
    """The sums beside the files are made anew, as somebody would who wants them to be believed."""
    folder = copied(run_folder, tmp_path)
    parts = sorted({*folder.iterdir()} - {folder / "SHA256SUMS"})

    def seal() -> None:
        sums = (f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n" for part in parts)
        (folder / "SHA256SUMS").write_text("".join(sums))

    hunt([(folder / name).read_bytes()], lambda _: restored(folder), folder / name, examples, seal=seal)


def copied(run: Path, place: Path) -> Path:
    shutil.copytree(run, place / "run")
    folder = checkpoint.newest(place / "run")
    assert folder is not None
    return folder


def restored(folder: Path) -> None:
    """All that is read of a checkpoint."""
    for part in ("model", "ema", "optimizer"):
        checkpoint.read_tensors(folder, part)
    restore(folder.parents[1])
