"""Read files of 15 MiB and more, real and forged, and measure the peak of memory of each in a process of its own.

Reading may take four times the honest size of a file, and 64 MiB. The honest size is its length, or 4 bytes for each value
that it holds.
"""

import ctypes
import gc
import hashlib
import io
import json
import os
import select
import signal
import sys
import tempfile
import traceback
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from pyarrow import parquet

from sdezoo.data.dataset import Data
from sdezoo.data.opening.table import return_memory
from sdezoo.data.validation import check
from sdezoo.errors import SdezooError
from sdezoo.store import checkpoint
from sdezoo.zoo.datasets import find_dataset

MIB = 2**20
TIMES, SLACK = 4, 64 * MIB
LIMIT, WAIT = 10, 240
TRIM = ctypes.CDLL(None).malloc_trim


def text(names: str, row: bytes, size: int) -> bytes:
    return names.encode() + b"\n" + row * (size // len(row))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy(array))
    return buffer.getvalue()


def table(options: dict[str, Any] | None = None, **columns: Any) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer, **(options or {}))
    return buffer.getvalue()


def different(count: int) -> pa.Array:
    """Texts of 32 characters that all differ."""
    return pa.array([f"{k * 2654435761 % 2**63:032x}" for k in range(count)])


WRITTEN: dict[str, Callable[[int], str]] = {
    "short texts": lambda k: f"{chr(97 + k % 26)}{k * 7919 % 2**24:05x};{k % 9}",
    "repeated texts": lambda k: f"{chr(97 + k % 26)}{hash((k, 1)) % 2**21:05x};{k % 9}",
    "long texts": lambda k: f"{chr(97 + k % 26)}{k * 2654435761 % 2**63:031x};{k % 9}",
    "quoted": lambda k: f'"a{k}";{f"b{k}" if k % 3 else ""}',
    "prices": lambda k: f"${k % 9999:,}.{k % 100:02};{k % 7}%",
    "commas": lambda k: f"{k % 977},{k % 10};{k % 100}",
    "days": lambda k: f"{k % 12 + 1}/{k % 28 + 1}/{1990 + k % 30};{k % 24}:{k % 60:02}",
    "moments": lambda k: f"20{k % 30:02}-0{k % 9 + 1}-1{k % 10}T0{k % 10}:30:{k % 60:02};{k % 40 - 9} kg",
}
"""Rows of two columns of text, by their number."""


def files() -> Iterator[tuple[str, bytes]]:
    twenty = ",".join("abcdefghijklmnopqrst")
    yield "one.csv", text("a", b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", 15 * MIB)
    yield "floats.csv", text("a,b", b"-0.52349,11.25234\n1.0123,2.4\n", 15 * MIB)
    yield "empty.csv", text("a,b,c,d", b"1,2,3,4\n,,,\n,,,\n,,,\n,,,\n", 15 * MIB)
    yield "twenty.csv", text(twenty, b",".join([b"7"] * 20) + b"\n" + b",".join([b"5"] * 20) + b"\n", 15 * MIB)
    for name, row in WRITTEN.items():
        yield f"{name}.csv", "\n".join(["a;b", *map(row, range(45 * MIB // len(row(10**6))))]).encode()
    yield "doubles.parquet", table(a=np.random.default_rng(0).normal(size=2 * MIB))
    for name, options in {"plain": {"use_dictionary": False}, "usual": {}, "coded": {"dictionary_pagesize_limit": 2**30}}.items():
        texts = different(MIB if name == "plain" else MIB // 2)
        yield f"{name} texts.parquet", table({"compression": "none", **options}, a=texts, b=np.arange(len(texts)) % 7 / 2)
    long = ["a" * 10**6] * 300
    options = {"compression": "zstd", "dictionary_pagesize_limit": 4096}
    yield "long texts.parquet", table(options, a=[*map(str, range(3000)), *long], b=np.arange(3300) % 7 / 2)
    yield "doubles.npy", npy(np.random.default_rng(0).normal(size=(2 * MIB, 1)))
    yield "halves.npy", npy(np.zeros((8 * MIB, 1), np.float16))
    yield "column.npz", npz(x=np.zeros((6 * MIB, 1), np.float32), y=np.zeros(6 * MIB, np.uint8))


def metadata() -> Iterator[tuple[str, bytes]]:
    """Files of a checkpoint that hold nothing but entries."""
    for size in (MIB - 100, 29 * MIB):
        yield "state.json", b'{"format": 4, "columns": [' + b"[]," * (size // 3) + b"0]}"
        yield "SHA256SUMS", b"0  a\n" * (size // 5)
        head = json.dumps({f"{k}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for k in range(size // 68)}).encode()
        yield "ema.safetensors", len(head).to_bytes(8, "little") + head


def hashes(folder: Path) -> dict[str, str]:
    """The digest of each file below a folder, by its path."""
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def release() -> None:
    """Return to the system what allocators keep, so that nothing read later takes it without being counted."""
    gc.collect()
    return_memory()
    TRIM(0)


def resident(peak: bool = False) -> int:
    """Bytes of memory that this process has, or had at most, without what it shares with files: their pages come after a fork."""
    lines = Path("/proc/self/status").read_text().splitlines()
    found = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.startswith(("Vm", "Rss"))}
    return found["VmHWM" if peak else "VmRSS"] - found["RssFile"]


def attempted(act: Callable[[], object], before: int, length: int) -> tuple[str, int, int]:
    """What `act` says, the memory it takes beyond `before`, and the honest size of what it read; a signal ends the process if it hangs.

    Args:
        act: reads an input.
        before: resident memory before.
        length: of the input, in bytes.
    """
    said, size = "read", 0
    signal.setitimer(signal.ITIMER_PROF, limits(length)[0])
    Path("/proc/self/clear_refs").write_text("5")
    try:
        found = act()
        if isinstance(found, Data):
            size = 4 * (found.train.numel() + found.test.numel() + (found.rows if found.train_labels is not None else 0))
    except SdezooError as error:
        said = f"refused: {error.problem[:80]}"
    except BaseException as error:
        said = f"TRACEBACK {type(error).__name__}: {error}"[:300]
    signal.setitimer(signal.ITIMER_PROF, 0)
    return said, resident(peak=True) - before, size


def limits(length: int) -> tuple[int, int]:
    """Seconds of one core, and of the clock, that an input of a length may take: 10 and 240 for every 32 MiB begun."""
    begun = 1 + length // (32 * MIB)
    return LIMIT * begun, WAIT * begun


def forked(work: Callable[[Callable[[Any], object]], object], expected: int, wait: int) -> Iterator[Any]:
    """What `work` says in a forked process, one after the other; at last "HANG" or "DIED" if it ends too early.

    Args:
        work: is handed what to say things with, as JSON.
        expected: number of things that it says.
        wait: seconds to wait for each.
    """
    source, sink = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(source)
        try:
            work(lambda said: os.write(sink, json.dumps(said).encode() + b"\n"))
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb", buffering=0) as answers:
        for _ in range(expected):
            late = not select.select([answers], [], [], wait)[0]
            line = b"" if late else answers.readline()
            if not line:
                os.kill(pid, signal.SIGKILL) if late else None
                _, status = os.waitpid(pid, 0)
                yield "HANG" if late or (os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGPROF) else "DIED"
                return
            yield json.loads(line)
    os.waitpid(pid, 0)


def watched(act: Callable[[], object], length: int = 0) -> tuple[str, int, int]:
    """As `attempted`, in a forked process."""
    (found,) = forked(lambda say: say(attempted(act, resident(), length)), 1, limits(length)[1])
    return (found, 0, 0) if isinstance(found, str) else tuple(found)


def load(path: Path) -> Data:
    data = find_dataset(str(path)).load()
    check(data, missing=True)
    return data


def opened(folder: Path, name: str) -> object:
    if name == "state.json":
        return checkpoint.read_state(folder)
    if name == "SHA256SUMS":
        return checkpoint.check(folder, "a")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n")
    return checkpoint.read_tensors(folder, name.removesuffix(".safetensors"))


def main() -> int:
    torch.set_num_threads(1)
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        warm = Path(folder, "warm.csv")
        warm.write_text("a,b,c\n" + "1,x,2020-01-01\n2,y,2020-01-03\n" * 9)
        load(warm)
        for name, content in [("warm.npz", npz(x=np.ones((9, 2)))), ("warm.parquet", table(a=[1.5, 2.5] * 9))]:
            Path(folder, name).write_bytes(content)
            load(Path(folder, name))
        place = Path(folder, "step-1")
        place.mkdir()
        for kind in (files, metadata):
            for name, content in kind():
                path = (place if kind is metadata else Path(folder)) / name
                path.write_bytes(content)
                honest = len(content)
                del content
                release()
                act = partial(load, path) if kind is files else partial(opened, place, name)
                said, peak, size = watched(act, honest)
                most = TIMES * max(honest, size) + SLACK
                wrong = peak > most or not said.startswith(("read", "refused"))
                bad += wrong
                sys.stdout.write(f"{name}, {honest / MIB:.0f} MiB: {peak / MIB:.0f} of {most / MIB:.0f} MiB{' WRONG' * wrong}: {said}\n")
                path.unlink()
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
