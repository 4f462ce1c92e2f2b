"""Damage files of data and of run folders, read them, and watch: a reader answers with what it read or two sentences, in bounds.

    python -P attacks/damage.py --inputs 3000 --seed 0
    python -P attacks/damage.py --large 60 --inputs 0

Large inputs have 100 to 200 MiB. Each input is read in a forked process, for at most 10 s of one core for every 32 MiB begun, and within
the memory that `SECURITY.md` allows. Counted are
tracebacks, hangs, deaths, more memory, and files that were changed or appeared elsewhere.
"""

import argparse
import gzip
import hashlib
import io
import json
import os
import random
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from openpyxl import Workbook
from PIL import Image
from pyarrow import parquet

from attacks.memory import MIB, SLACK, TEXT, TIMES, resident
from attacks.state import runs, seal
from sdezoo.data.dataset import Data
from sdezoo.data.validation import check
from sdezoo.errors import SdezooError
from sdezoo.exchange.card import card
from sdezoo.report.page import report
from sdezoo.runs.estimator import DiffusionModel
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.overview import overview
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.registry import SDES

LIMIT, WAIT = 10, 120  # seconds of one core, and of the clock, that an input may take for every 32 MiB begun
Read = Callable[[Path], object]


def load(path: Path) -> Data:
    data = find_dataset(str(path)).load()
    check(data, missing=True)
    return data


def folder_of(path: Path) -> Data:
    return load(path.parent)


def contents(rng: np.random.Generator) -> dict[str, tuple[bytes, Read]]:
    """Whole files of data, by name, and how to read each."""
    rows = [f"{a:.3f},{b},{'xyz'[c]},2020-01-{d:02},{'' if c else 'no'}" for a, b, c, d in zip(*_columns(rng), strict=True)]
    text = ("a,b,c,when,said\n" + "\n".join(rows)).encode()
    table = pa.table({"a": rng.normal(size=80), "b": rng.integers(0, 9, 80), "c": ["xyz"[k % 3] for k in range(80)]})
    sheet, arrow, array, arrays = (io.BytesIO() for _ in range(4))
    book = Workbook()
    for row in [["a", "b"], *([float(k % 13), k % 5] for k in range(60))]:
        book.worksheets[0].append(row)
    book.save(sheet)
    parquet.write_table(table, arrow)
    np.save(array, rng.normal(size=(70, 3)).astype(np.float32))
    np.savez_compressed(arrays, x=rng.normal(size=(30, 6, 2)).astype(np.float32), times=np.arange(6.0))
    idx = struct.pack(">HBBIII", 0, 8, 3, 20, 6, 6) + rng.integers(0, 256, 720, np.uint8).tobytes()
    found: dict[str, tuple[bytes, Read]] = {
        "table.csv": (text, load),
        "table.tsv": (text.replace(b",", b"\t"), load),
        "table.csv.gz": (gzip.compress(text), load),
        "table.xlsx": (sheet.getvalue(), load),
        "table.parquet": (arrow.getvalue(), load),
        "array.npy": (array.getvalue(), load),
        "arrays.npz": (arrays.getvalue(), load),
        "train-images-idx3-ubyte": (idx, load),
        "train-images-idx3-ubyte.gz": (gzip.compress(idx), load),
    }
    for ending in ("png", "jpg", "tiff"):
        picture = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(picture, {"jpg": "jpeg"}.get(ending, ending))
        found[f"a.{ending}"] = (picture.getvalue(), folder_of)
    return found


def large(dice: random.Random) -> tuple[str, bytes, Read]:
    """A whole file of 100 to 200 MiB."""
    rng, size = np.random.default_rng(dice.getrandbits(32)), dice.randrange(100 * MIB, 200 * MIB)
    name = dice.choice(["table.csv", "table.parquet", "array.npy", "arrays.npz", "train-images-idx3-ubyte"])
    buffer = io.BytesIO()
    if name == "table.csv":
        block = "".join(f"{a:.3f},{b},{'xyz'[c]},2020-01-{d:02}\n" for a, b, c, d in zip(*_columns(rng), strict=True)).encode()
        return name, b"a,b,c,when\n" + block * (size // len(block)), load
    if name == "table.parquet":
        parquet.write_table(pa.table({key: rng.normal(size=size // 32) for key in "abcd"}), buffer)
    elif name == "array.npy":
        np.save(buffer, rng.normal(size=(size // 32, 8)).astype(np.float32))
    elif name == "arrays.npz":
        np.savez(buffer, x=rng.normal(size=(size // 32, 8)).astype(np.float32))
    else:
        count = size // 784
        return name, struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + rng.bytes(count * 784), load
    return name, buffer.getvalue(), load


def _columns(rng: np.random.Generator) -> tuple[Any, ...]:
    return rng.normal(size=90), rng.integers(0, 5, 90), rng.integers(0, 3, 90), rng.integers(1, 29, 90)


def damaged(content: bytes, other: bytes, dice: random.Random) -> bytes:
    """One to four damages of `content`; `other` is what is spliced in."""
    for _ in range(dice.choice([1, 1, 2, 4])):
        at = dice.randrange(len(content) + 1) if dice.random() < 0.5 else dice.randrange(min(len(content), 200) + 1)
        span = dice.choice([1, 4, 16, 256, 4096])
        head, tail = content[:at], content[at:]
        kind = dice.choice(["cut", "flip", "bits", "insert", "erase", "repeat", "splice", "number", "grow", "digits"])
        if kind == "cut":
            content = dice.choice([head, tail])
        elif kind == "flip":
            content = head + bytes(byte ^ 0xFF for byte in tail[:span]) + tail[span:]
        elif kind == "bits" and content:
            changed = bytearray(content)
            for _ in range(span):
                changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
            content = bytes(changed)
        elif kind == "insert":
            content = head + dice.choice([dice.randbytes(span), b"\0" * span, b"[" * span, b'"' * span, b"9" * span, b"\n," * span]) + tail
        elif kind == "erase":
            content = head + tail[span:]
        elif kind == "repeat":
            content = head + tail[:span] * dice.choice([2, 50]) + tail
        elif kind == "splice":
            content = head + other[dice.randrange(len(other) + 1) :]
        elif kind == "number":
            form = dice.choice(["<H", ">H", "<I", ">I", "<Q", ">Q"])
            size = struct.calcsize(form)
            content = head + struct.pack(form, dice.choice([0, 1, 255, 2**15, 2**31, 2**32 - 1, 2**63]) % 256**size) + tail[size:]
        elif kind == "grow" and dice.random() < 0.2 and tail:
            content = head + tail[:span] * (dice.choice([2**16, 2**20, 2**23, 2**25]) // min(span, len(tail))) + tail
        elif kind == "digits":
            place = next((k for k, byte in enumerate(tail) if chr(byte).isdigit()), len(tail))
            content = head + tail[:place] + dice.choice([b"-1", b"1e999", b"9" * 30, b"NaN", b"0x1", b"1_0"]) + tail[place + 1 :]
    return content


def of_runs(place: Path) -> list[tuple[Path, Path, Read, bool]]:
    """Files of run folders: the run, the file, how it is read, and whether reading writes into the run."""
    found = []
    for number, (run, how_to) in enumerate(runs(place)):
        if number == 0:
            evaluate(run, n=20, steps=2, out=run / "evaluation")
            sample(run, n=4, steps=2)
        if how_to and "given_first" in how_to:
            continue
        acts: list[tuple[Read, bool]] = [
            (lambda run, how_to=how_to: sample(run, Path("../out.npz"), n=2, steps=2, overwrite=True, **how_to), False),
            (overview, False),
            (lambda run: card(run, "name"), False),
            (lambda run: report([run], Path("../page.html"), overwrite=True), False),
            (DiffusionModel.from_pretrained, False),
            (_resumed, True),
            (lambda run: SDES.build(f"fitted:run={run}"), False),
        ]
        whole = run.parents[1] if run.parent.name == "rounds" else run
        files = sorted(file for file in whole.rglob("*") if file.is_file() and file.stat().st_size and file.suffix not in (".lock", ".png"))
        found += [(run, file, act, writes) for file in files for act, writes in acts]
        if whole != run:
            found += [(whole, file, act, True) for file in files for act in (_resumed, _backward)]
    return found


def _resumed(run: Path) -> None:
    train(TrainingConfig.build({**TrainingConfig.read(run / "config.yaml"), "out": str(run)}), resume=True, notify=lambda _: None)


def _backward(run: Path) -> None:
    sample(run, Path("../out.npz"), n=2, steps=2, overwrite=True, direction="backward")


def watched(act: Callable[[], object], length: int = 0) -> tuple[str, int, int]:
    """What a forked process says that does `act` on an input of a length, the memory it takes, and the honest size of what it read."""
    times = 1 + length // (32 * MIB)
    source, sink = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(source)
        resource.setrlimit(resource.RLIMIT_CPU, (times * LIMIT, times * LIMIT + 1))
        Path("/proc/self/clear_refs").write_text("5")
        before, said, size = resident("VmRSS"), "read", 0
        try:
            found = act()
            if isinstance(found, Data):
                size = 4 * (found.train.numel() + found.test.numel() + (found.rows if found.train_labels is not None else 0))
        except SdezooError:
            said = "refused"
        except BaseException as error:
            said = f"TRACEBACK {type(error).__name__}: {error}"[:300]
        os.write(sink, json.dumps([said, resident("VmHWM") - before, size]).encode())
        os._exit(0)
    os.close(sink)
    with os.fdopen(source, "rb") as answer:
        if not select.select([answer], [], [], times * WAIT)[0]:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return "HANG", 0, 0
        content = answer.read()
    _, status = os.waitpid(pid, 0)
    if not content:
        return "HANG" if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU else "DIED", 0, 0
    return tuple(json.loads(content))


def hashes(folder: Path) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


class Trials:
    """Damaged inputs, one after another.

    Args:
        folder: an empty folder.
        seed: of the damage.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice, self.folder, self.place = random.Random(seed), folder, folder / "place"
        for name in ("place", "outside", "runs"):
            (folder / name).mkdir()
        os.chdir(folder / "outside")
        for k in range(4):
            Image.new("RGB", (8, 8), (k, 60 * k, 9)).save(self.place / f"b{k}.png")
        self.data, self.files = contents(np.random.default_rng(seed)), of_runs(folder / "runs")
        for name, (content, read) in self.data.items():  # each is read as it is
            (self.place / name).write_bytes(content)
            read(self.place / name)
            (self.place / name).unlink()

    def of_data(self, name: str = "", content: bytes = b"", read: Read = load) -> tuple[str, bytes, str]:
        """Damage a file of data, one of the small ones if none is given: what was done, the input, and what is wrong, if anything."""
        if not name:
            name, (content, read) = self.dice.choice(list(self.data.items()))
        other, _ = self.dice.choice([(content, read), *self.data.values()])
        path, kept = self.place / name, damaged(content, other, self.dice)
        path.write_bytes(kept)
        before = hashes(self.place)
        said, peak, size = watched(lambda: read(path), len(kept))
        wrong = self._wrong(name, said, peak, max(len(kept), size), hashes(self.place) != before)
        path.unlink()
        return name, kept, wrong

    def of_a_run(self) -> tuple[str, bytes, str]:
        """Damage a file of a run folder, as `of_data`. Most checkpoints are sealed again."""
        run, file, read, writes = self.dice.choice(self.files)
        whole, saved = run.parents[1] if run.parent.name == "rounds" else run, self.folder / "saved"
        shutil.copytree(whole, saved)
        kept = damaged(file.read_bytes(), file.read_bytes(), self.dice)
        file.write_bytes(kept)
        if self.dice.random() < 0.7 and file.name != "SHA256SUMS" and file.parent.name.startswith(("step-", "coupling")):
            seal(file.parent)
        before = hashes(whole)
        said, peak, _ = watched(lambda: read(run))
        name = f"{file.relative_to(self.folder / 'runs')} by {read.__qualname__}"
        wrong = self._wrong(file.name, said, peak, len(kept), not writes and hashes(whole) != before)
        shutil.rmtree(whole)
        saved.rename(whole)
        return name, kept, wrong

    def _wrong(self, name: str, said: str, peak: int, honest: int, changed: bool) -> str:
        most = (TEXT if name.endswith((".csv", ".tsv", ".csv.gz")) else TIMES) * honest + SLACK
        found = [] if said in ("read", "refused") else [said]
        found += [f"{peak / MIB:.0f} of {most / MIB:.0f} MiB"] if peak > most else []
        found += ["files changed"] if changed or any((self.folder / "outside").iterdir()) else []
        return ", ".join(found)


def main() -> int:
    """Read all inputs; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--large", type=int, default=0, help="as many inputs of 100 to 200 MiB, after the others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that were answered wrongly")
    given, bad = parser.parse_args(), 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), given.seed)
        for number in range(given.inputs + given.large):
            if number >= given.inputs:
                name, content, wrong = trials.of_data(*large(trials.dice))
            else:
                name, content, wrong = trials.of_data() if number % 2 else trials.of_a_run()
            bad += bool(wrong)
            if wrong:
                sys.stdout.write(f"{number}: {name}, {len(content)} bytes: {wrong}\n")
                sys.stdout.flush()
            if wrong and given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / f"{given.seed}-{number}-{Path(name.partition(' ')[0]).name}").write_bytes(content)
        os.chdir("/")
    sys.stdout.write(f"{given.inputs + given.large} inputs were damaged and read; {bad} were answered wrongly.\n")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
