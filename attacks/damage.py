"""Damage files of data and of run folders, read them, and watch: a reader answers with what it read or two sentences, in bounds.

    python -P attacks/damage.py --inputs 3000 --seed 0
    python -P attacks/damage.py --large 60 --inputs 0

Half of the inputs are files of data: they are loaded, or trained on, imputed, compared with a run, or sampled from. The others are files of
run folders, which are sampled from, shown, reported, evaluated and resumed. Large inputs are data of 32 to 200 MiB. Each input is read in a
forked process, for at most 10 s of one core for every 32 MiB begun, and within the memory that `SECURITY.md` allows. Counted are
tracebacks, hangs, deaths, more memory, and files that were changed or appeared elsewhere.
"""

import argparse
import gc
import gzip
import hashlib
import io
import os
import random
import shutil
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from openpyxl import Workbook
from PIL import Image
from pyarrow import csv, parquet

from attacks.memory import MIB, SLACK, TEXT, TIMES, load, watched
from attacks.state import runs, seal
from sdezoo.exchange.card import card
from sdezoo.report.page import report
from sdezoo.runs import given_rows
from sdezoo.runs.estimator import DiffusionModel
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.impute import impute
from sdezoo.runs.overview import overview
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import SDES

Read = Callable[[Path], object]
ROWS, SHARES = (1, 90, 3000, 40_000), (2, 12, 3, 3)
"""Rows of the data that are damaged, and how many of 20 inputs have each."""
TEXTS = (".csv", ".tsv", ".csv.gz")


def folder_of(path: Path) -> object:
    return load(path.parent)


def contents(rng: np.random.Generator, rows: int) -> dict[str, tuple[bytes, Read]]:
    """Whole files of data, by name, and how to read each.

    Args:
        rng: of their values.
        rows: of tables and arrays; a sheet has 500 at most.
    """
    lines = [f"{a:.3f},{b},{'xyz'[c]},2020-01-{d:02},{'' if c else 'no'}" for a, b, c, d in zip(*_columns(rng, rows), strict=True)]
    text = ("a,b,c,when,said\n" + "\n".join(lines)).encode()
    sheet, arrow, array, arrays = (io.BytesIO() for _ in range(4))
    days = np.arange(rows).astype("datetime64[D]")
    table = {"a": rng.normal(size=rows), "b": rng.integers(0, 9, rows), "c": ["xyz"[k % 3] for k in range(rows)], "d": days}
    book, first = Workbook(), datetime(2020, 1, 1)
    for row in [["a", "b", "c", "d"], *([k % 13 / 2, k % 5, "xyz"[k % 3], first + timedelta(k)] for k in range(min(rows, 500)))]:
        book.worksheets[0].append(row)
    book.save(sheet)
    parquet.write_table(pa.table(table), arrow)
    np.save(array, rng.normal(size=(rows, 3)).astype(np.float32))
    np.savez_compressed(arrays, x=rng.normal(size=(rows // 3 + 1, 6, 2)).astype(np.float32), times=np.arange(6.0))
    idx = struct.pack(">HBBIII", 0, 8, 3, rows, 6, 6) + rng.integers(0, 256, 36 * rows, np.uint8).tobytes()
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
        side = max(8, int(rows**0.5) - 1)  # those beside it have 8
        Image.fromarray(rng.integers(0, 256, (side, side, 3), np.uint8)).save(picture, {"jpg": "jpeg"}.get(ending, ending))
        found[f"a.{ending}"] = (picture.getvalue(), folder_of)
    return found


def for_runs(place: Path) -> list[tuple[str, bytes, Read]]:
    """Files that commands take beside a run, with names, and the commands."""
    table, series, paths = ((place / name).read_bytes() for name in ("table.csv", "series.csv", "paths.npz"))
    arrow, sheet, book = io.BytesIO(), io.BytesIO(), Workbook()
    found = csv.read_csv(io.BytesIO(table))
    parquet.write_table(found, arrow)
    for row in [found.column_names, *zip(*found.to_pydict().values(), strict=True)]:
        book.worksheets[0].append(row)
    book.save(sheet)
    tables = {"new.csv": table, "new.tsv": table.replace(b",", b"\t"), "new.csv.gz": gzip.compress(table)}
    tables |= {"new.parquet": arrow.getvalue(), "new.xlsx": sheet.getvalue()}
    run = place / "table"
    made = {"steps": 1, "batch_size": 4, "device": "cpu", "out": "../new-run"}

    def trained(path: Path, **settings: Any) -> None:
        train(TrainingConfig.build({**made, "data": str(path), **settings}), overwrite=True, notify=lambda _: None)

    def imputed(path: Path) -> None:
        impute(run, path, Path(f"../out{''.join(path.suffixes)}"), draws=2, steps=2, overwrite=True)

    acts: list[Read] = [
        imputed,
        lambda path: trained(path, net="mlp:width=8,depth=1"),
        lambda path: trained(path, origin=str(run)),
        lambda path: evaluate(run, n=20, samples=path),
        lambda path: sample(run, Path("../out.npz"), n=2, steps=2, start=path, overwrite=True),
    ]
    return [
        *((name, content, act) for name, content in tables.items() for act in (acts[1:] if name == "new.xlsx" else acts)),
        ("new.csv", series, lambda path: given_rows.read_windows(path, restore(place / "series"))),
        ("new.csv", series, lambda path: trained(Path(f"series:path={path},window=9"), net="unet1d:width=4")),
        ("new.npz", paths, lambda path: trained(path, task="paths:width=8,depth=1")),
        ("new.npz", paths, lambda path: sample(place / "paths", Path("../out.npz"), n=2, steps=2, start=path, overwrite=True)),
        ("new.npz", paths, given_rows.read_observed),
    ]


def large(dice: random.Random) -> tuple[str, bytes, Read]:
    """A whole file of 32 to 200 MiB."""
    rng, size = np.random.default_rng(dice.getrandbits(32)), int(32 * MIB * (200 / 32) ** dice.random())
    name = dice.choice(["table.csv", "table.csv", "table.csv.gz", "table.parquet", "array.npy", "arrays.npz", "train-images-idx3-ubyte"])
    buffer = io.BytesIO()
    if name.startswith("table.csv"):
        block = "".join(f"{a:.3f},{b},{'xyz'[c]},2020-01-{d:02}\n" for a, b, c, d in zip(*_columns(rng, 90), strict=True)).encode()
        text = b"a,b,c,when\n" + block * (size // len(block))
        return name, gzip.compress(text, 1) if name.endswith("gz") else text, load
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


def _columns(rng: np.random.Generator, rows: int) -> tuple[Any, ...]:
    return rng.normal(size=rows), rng.integers(0, 5, rows), rng.integers(0, 3, rows), rng.integers(1, 29, rows)


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
        self.files, self.sizes = of_runs(folder / "runs"), Counter[int]()
        whole = [contents(np.random.default_rng(seed), rows) for rows in ROWS]
        self.data = [[(name, *found) for name, found in each.items()] for each in whole]
        self.data[ROWS.index(90)] += 2 * for_runs(folder / "runs")
        for name, content, read in self.data[ROWS.index(90)]:  # each is read as it is
            (self.place / name).write_bytes(content)
            read(self.place / name)
            (self.place / name).unlink()
        gc.freeze()  # else each forked process copies what it collects

    def of_data(self, name: str = "", content: bytes = b"", read: Read = load) -> tuple[str, bytes, str]:
        """Damage a file of data, one of the small ones if none is given: what was done, the input, and what is wrong, if anything."""
        if not name:
            name, content, read = self.dice.choice(self.dice.choices(self.data, SHARES)[0])
        _, other, _ = self.dice.choice([(name, content, read), *self.dice.choice(self.data)])
        path, kept = self.place / name, damaged(content, other, self.dice)
        path.write_bytes(kept)
        self.sizes[len(kept).bit_length()] += 1
        before = hashes(self.place)
        said, peak, size = watched(lambda: read(path), len(kept))
        wrong = self._wrong(name, said, peak, max(len(kept), size), hashes(self.place) != before)
        path.unlink()
        return f"{name} by {read.__qualname__}", kept, wrong

    def of_a_run(self) -> tuple[str, bytes, str]:
        """Damage a file of a run folder, as `of_data`. Most checkpoints are sealed again."""
        run, file, read, writes = self.dice.choice(self.files)
        whole, saved = run.parents[1] if run.parent.name == "rounds" else run, self.folder / "saved"
        shutil.copytree(whole, saved)
        kept = damaged(file.read_bytes(), file.read_bytes(), self.dice)
        file.write_bytes(kept)
        self.sizes[len(kept).bit_length()] += 1
        if self.dice.random() < 0.7 and file.name != "SHA256SUMS" and file.parent.name.startswith(("step-", "coupling")):
            seal(file.parent)
        before = hashes(whole)
        said, peak, _ = watched(lambda: read(run))
        name = f"{file.relative_to(self.folder / 'runs')} by {read.__qualname__}"
        trains = writes and file.name == "config.yaml"  # a network of any size, on other data
        wrong = self._wrong(file.name, said, 0 if trains else peak, len(kept), not writes and hashes(whole) != before)
        shutil.rmtree(whole)
        saved.rename(whole)
        return name, kept, wrong

    def _wrong(self, name: str, said: str, peak: int, honest: int, changed: bool) -> str:
        most = (TEXT if name.endswith(TEXTS) else TIMES) * honest + SLACK
        found = [] if said.startswith(("read", "refused")) else [said]
        found += [f"{peak / MIB:.0f} of {most / MIB:.0f} MiB"] if peak > most else []
        found += ["files changed"] if changed or any((self.folder / "outside").iterdir()) else []
        return ", ".join(found)


def main() -> int:
    """Read all inputs; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--large", type=int, default=0, help="as many inputs of 32 to 200 MiB, after the others")
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
            if (number + 1) % 500 == 0:
                sys.stdout.write(f"{number + 1} inputs, {bad} answered wrongly\n")
            if wrong:
                sys.stdout.write(f"{number}: {name}, {len(content)} bytes: {wrong}\n")
            sys.stdout.flush()
            if wrong and given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                (given.keep / f"{given.seed}-{number}-{Path(name.partition(' ')[0]).name}").write_bytes(content)
        os.chdir("/")
    sizes = [f"{count} below {2**bits if bits < 11 else f'{2 ** (bits - 10)} Ki'}B" for bits, count in sorted(trials.sizes.items())]
    sys.stdout.write(
        f"{given.inputs + given.large} inputs were damaged and read; {bad} were answered wrongly.\nOf them {', '.join(sizes)}.\n"
    )
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
