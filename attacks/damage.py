"""Damage files of data and of run folders, read them, and watch: a reader answers with what it read or two sentences, in bounds.

    python -P attacks/damage.py --inputs 3000 --seed 0
    python -P attacks/damage.py --large 60 --inputs 0

Half of the inputs are files of data: they are loaded, or trained on, imputed, compared with a run, or sampled from. The others are files of
run folders, which are sampled from, shown, reported, evaluated and resumed. Large inputs are data of 32 to 200 MiB. They are read in
forked processes, each for at most 10 s of one core for every 32 MiB begun, and within the memory that `SECURITY.md` allows. Counted are
tracebacks, hangs, deaths, more memory, and files that were changed or appeared elsewhere.
"""

import argparse
import gc
import gzip
import io
import os
import random
import shutil
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from openpyxl import Workbook
from PIL import Image
from pyarrow import csv, parquet

from attacks.memory import MIB, SLACK, TIMES, attempted, forked, hashes, limits, load, release, resident
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
FILLED = 2**16
"""Largest size of tables that are imputed, in bytes; others are loaded. A hole takes time to fill, and damage may repeat rows."""
BATCH = 50
"""Small inputs that a forked process reads, one after the other."""


@dataclass(frozen=True)
class Trains:
    """A step of training on a file, which takes the memory of the model and of the data as it needs them.

    Args:
        settings: settings of the run.
        data: the data; the braces are the file.
    """

    settings: dict[str, Any]
    data: str = "{}"

    def __call__(self, path: Path) -> None:
        made = {"steps": 1, "batch_size": 4, "device": "cpu", "out": "../new-run", "data": self.data.format(path)}
        train(TrainingConfig.build({**made, **self.settings}), overwrite=True, notify=lambda _: None)


@dataclass(frozen=True)
class Starts:
    """Sampling from the rows of a file, which are encoded, all of them.

    Args:
        run: the run.
    """

    run: Path

    def __call__(self, path: Path) -> None:
        sample(self.run, Path("../out.npz"), n=2, steps=2, start=path, overwrite=True)


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

    def imputed(path: Path) -> object:
        if path.stat().st_size > FILLED:
            return load(path)
        return impute(run, path, Path(f"../out{''.join(path.suffixes)}"), draws=2, steps=2, overwrite=True)

    acts: list[Read] = [
        imputed,
        Trains({"net": "mlp:width=8,depth=1"}),
        Trains({"origin": str(run)}),
        lambda path: evaluate(run, n=20, samples=path),
        Starts(run),
    ]
    return [
        *((name, content, act) for name, content in tables.items() for act in (acts[1:] if name == "new.xlsx" else acts)),
        ("new.csv", series, lambda path: given_rows.read_windows(path, restore(place / "series"))),
        ("new.csv", series, Trains({"net": "unet1d:width=4"}, "series:path={},window=9")),
        ("new.npz", paths, Trains({"task": "paths:width=8,depth=1"})),
        ("new.npz", paths, Starts(place / "paths")),
        ("new.npz", paths, given_rows.read_observed),
    ]


def large(dice: random.Random) -> tuple[str, bytes, Read, int]:
    """A whole file of 32 to 200 MiB, or of as much text that is compressed, and the honest size of what it holds."""
    rng, size = np.random.default_rng(dice.getrandbits(32)), int(32 * MIB * (200 / 32) ** dice.random())
    name = dice.choice(["table.csv", "table.csv", "table.csv.gz", "table.parquet", "array.npy", "arrays.npz", "train-images-idx3-ubyte"])
    buffer = io.BytesIO()
    if name.startswith("table.csv"):
        block = "".join(f"{a:.3f},{b},{'xyz'[c]},2020-01-{d:02}\n" for a, b, c, d in zip(*_columns(rng, 90), strict=True)).encode()
        text = b"a,b,c,when\n" + block * (size // len(block))
        return name, gzip.compress(text, 1) if name.endswith("gz") else text, load, 16 * text.count(b"\n")
    if name == "table.parquet":
        parquet.write_table(pa.table({key: rng.normal(size=size // 32) for key in "abcd"}), buffer)
    elif name == "array.npy":
        np.save(buffer, rng.normal(size=(size // 32, 8)).astype(np.float32))
    elif name == "arrays.npz":
        np.savez(buffer, x=rng.normal(size=(size // 32, 8)).astype(np.float32))
    else:
        count = size // 784
        return name, struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + rng.bytes(count * 784), load, size
    return name, buffer.getvalue(), load, size


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
        # Who writes a config chooses what is trained, on what and for how long.
        found += [(run, file, act, writes) for file in files for act, writes in acts if act != _resumed or file.name != "config.yaml"]
        if whole != run:
            found += [(whole, file, act, True) for file in files for act in (_resumed, _backward) if file.name != "config.yaml"]
    return found


def _resumed(run: Path) -> None:
    train(TrainingConfig.build({**TrainingConfig.read(run / "config.yaml"), "out": str(run)}), resume=True, notify=lambda _: None)


def _backward(run: Path) -> None:
    sample(run, Path("../out.npz"), n=2, steps=2, overwrite=True, direction="backward")


@dataclass(frozen=True)
class Input:
    """A damaged file, and how it is read.

    Args:
        file: its place.
        content: its bytes.
        read: reads it.
        target: what is handed to `read`.
        holds: honest size of the file that was damaged, which is read up to the damage.
        whole: the run folder that it belongs to; None: a file of data.
        writes: whether reading writes into this folder.
        sealed: whether the sums of its folder are written anew.
    """

    file: Path
    content: bytes
    read: Read
    target: Path
    holds: int = 0
    whole: Path | None = None
    writes: bool = False
    sealed: bool = False


class Trials:
    """Damaged inputs, by number.

    Args:
        folder: an empty folder.
        seed: of the damage.
        small: inputs below this number are small.
    """

    def __init__(self, folder: Path, seed: int, small: int) -> None:
        self.seed, self.small, self.folder, self.place, self.runs = seed, small, folder, folder / "place", folder / "runs"
        for name in ("place", "outside", "runs"):
            (folder / name).mkdir()
        os.chdir(folder / "outside")
        for k in range(4):
            Image.new("RGB", (8, 8), (k, 60 * k, 9)).save(self.place / f"b{k}.png")
        self.files = of_runs(self.runs)
        whole = [contents(np.random.default_rng(seed), rows) for rows in ROWS]
        self.data = [[(name, *found) for name, found in each.items()] for each in whole]
        self.data[ROWS.index(90)] += 2 * for_runs(self.runs)
        for name, content, read in self.data[ROWS.index(90)]:  # each is read as it is
            (self.place / name).write_bytes(content)
            read(self.place / name)
            (self.place / name).unlink()
        shutil.copytree(self.runs, folder / "saved")
        shutil.copytree(self.place, folder / "saved-place")

    def made(self, number: int) -> Input:
        """Damage a file: of a run, of data, or a large one."""
        dice = random.Random(f"{self.seed} {number}")
        if number < self.small and number % 2:
            run, file, read, writes = dice.choice(self.files)
            whole = run.parents[1] if run.parent.name == "rounds" else run
            content = (self.folder / "saved" / file.relative_to(self.runs)).read_bytes()
            sealed = dice.random() < 0.7 and file.name != "SHA256SUMS" and file.parent.name.startswith(("step-", "coupling"))
            return Input(file, damaged(content, content, dice), read, run, 0, whole, writes, sealed)
        name, content, read, holds = (*dice.choice(dice.choices(self.data, SHARES)[0]), 0) if number < self.small else large(dice)
        _, other, _ = dice.choice([(name, content, read), *dice.choice(self.data)])
        return Input(self.place / name, damaged(content, other, dice), read, self.place / name, holds)

    def answered(self, numbers: Iterable[int], say: Callable[[Any], object]) -> None:
        """Read inputs until one is answered wrongly, and say of each its number, length, and what is wrong. The memory of all counts."""
        begun = 0
        for number in numbers:
            one = self.made(number)
            one.file.write_bytes(one.content)
            begun = begun or resident()
            if one.sealed:
                seal(one.file.parent)
            place = one.whole or self.place
            before = hashes(place)
            release()
            said, peak, size = attempted(lambda one=one: one.read(one.target), begun, len(one.content))
            free = isinstance(one.read, Trains | Starts)
            most = TIMES * max(len(one.content), one.holds, size) + SLACK
            found = [] if said.startswith(("read", "refused")) else [said]
            found += [f"{peak / MIB:.0f} of {most / MIB:.0f} MiB"] if peak > most and not free else []
            changed = not one.writes and hashes(place) != before
            found += ["files changed"] if changed or any((self.folder / "outside").iterdir()) else []
            self.restore(one if not (changed or one.writes) else None)
            say([number, len(one.content), ", ".join(found)])
            if found:
                return

    def restore(self, one: Input | None = None) -> None:
        """Put back all files, or only those that an input replaced."""
        if one is None:
            for there, saved in ((self.runs, "saved"), (self.place, "saved-place")):
                shutil.rmtree(there)
                shutil.copytree(self.folder / saved, there)
            for path in (self.folder / "outside").iterdir():
                path.unlink()
        elif one.whole is None:
            one.file.unlink()
        else:
            for file in (one.file, *([one.file.parent / "SHA256SUMS"] if one.sealed else [])):
                shutil.copyfile(self.folder / "saved" / file.relative_to(self.runs), file)


def answers(trials: Trials, done: int, inputs: int) -> Iterator[tuple[int, int, str]]:
    """Number, length, and what is wrong of each input from `done` on. One that is answered wrongly is read again, alone."""
    wait = limits(200 * MIB)[1]
    while done < inputs:
        batch, wrong = range(done, min(inputs, done + BATCH) if done < trials.small else done + 1), ""
        for said in forked(partial(trials.answered, batch), len(batch), wait):
            number, length, found = said if isinstance(said, list) else (done, 0, said)
            if not found:
                done += 1
                yield number, length, found
            wrong = wrong or found
        if wrong:
            trials.restore()
            (said,) = forked(partial(trials.answered, [done]), 1, wait)
            _, length, alone = said if isinstance(said, list) else (done, 0, said)
            yield done, length, alone or ("" if "MiB" in wrong else f"{wrong}, but not alone")
            trials.restore()
            done += 1


def main() -> int:
    """Read all inputs; 0 if nothing was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=300)
    parser.add_argument("--large", type=int, default=0, help="as many inputs of 32 to 200 MiB, after the others")
    parser.add_argument("--first", type=int, default=0, help="number of the first input; those before it are left out")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for inputs that were answered wrongly")
    given, bad, sizes = parser.parse_args(), 0, Counter[int]()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        trials = Trials(Path(folder), given.seed, given.inputs)
        gc.freeze()  # else each forked process copies what it collects
        for number, length, wrong in answers(trials, given.first, given.inputs + given.large):
            bad += bool(wrong)
            sizes[length.bit_length()] += 1
            if wrong:
                one = trials.made(number)
                name = one.file.relative_to(folder)
                sys.stdout.write(f"{number}: {name} by {getattr(one.read, '__qualname__', one.read)}, {length} bytes: {wrong}\n")
                if given.keep:
                    given.keep.mkdir(parents=True, exist_ok=True)
                    (given.keep / f"{given.seed}-{number}-{name.name}").write_bytes(one.content)
            if (number + 1) % 500 == 0:
                sys.stdout.write(f"{number + 1} inputs, {bad} answered wrongly\n")
            sys.stdout.flush()
        os.chdir("/")
    below = [f"{count} below {2**bits}" for bits, count in sorted(sizes.items())]
    sys.stdout.write(f"{given.inputs + given.large - given.first} inputs were damaged and read; {bad} were answered wrongly.\n")
    sys.stdout.write(f"Of them, {', '.join(below)} bytes.\n")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
