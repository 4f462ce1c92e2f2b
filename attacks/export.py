"""Attack `sdezoo export`: names that are code, links in the way, a place that is taken, kills, and a disk that is full.

    python -P attacks/export.py --kills 40

Nothing of a run becomes code: the script that is written is the same for every run, and names are data beside it. An export is whole or not
there, and nothing outside its folder changes. Needs onnx, onnxscript and onnxruntime.
"""

import argparse
import csv
import io
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from attacks.kill import forked
from attacks.memory import hashes
from sdezoo.errors import RunError
from sdezoo.exchange import graphs
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

NAMES = [
    '"""',
    '"""\nopen("pwned", "w")\n"""',
    "'); open('pwned', 'w') #",
    "{open('pwned', 'w')}",
    "%s\\",
    "new\nline\r",
    "ü\u202e\x1b[31m",
    "/../x",
    "=1",
]
NAMES += ["__import__('os').abort()", "z", "t", "rows", "label", "series", "a" * 5000]


def evil(place: Path) -> Path:
    """A run on a table whose names, categories and classes are code."""
    text, rng = io.StringIO(), np.random.default_rng(0)
    table = csv.writer(text)
    table.writerow([*NAMES, "kind", "class"])
    table.writerows([f"{a:.3f}" for a in rng.lognormal(size=len(NAMES))] + [NAMES[k % 3], NAMES[k % 4]] for k in range(120))
    (place / "rows.csv").write_text(text.getvalue(), encoding="utf-8", newline="")
    settings = {"data": f"table:path={place / 'rows.csv'},label_column=class", "condition": "labels", "net": "mlp:width=8,depth=1"}
    return train(
        TrainingConfig.build({**settings, "steps": 1, "batch_size": 4, "device": "cpu", "out": str(place / "run")}), notify=lambda _: None
    ).run


def names(run: Path, place: Path) -> str | None:
    """The script is the same as for any other run, runs nothing of the names, and gives them back."""
    out = place / "named"
    graphs.export_onnx(run, out, n=3, steps=2)
    if (out / "sample.py").read_bytes() != Path(graphs.__file__).with_name("sampling_script.txt").read_bytes():
        return "the script depends on the run"
    if any(name.encode() in (out / each).read_bytes() for name in NAMES if len(name) > 6 for each in ("denoiser.onnx", "decoder.onnx")):
        return "a graph holds names of columns"
    if str(Path.cwd()).encode() in b"".join((out / each).read_bytes() for each in ("denoiser.onnx", "decoder.onnx")):
        return "a graph names folders of this machine"
    done = subprocess.run([sys.executable, str(out / "sample.py"), "3"], cwd=place, capture_output=True, check=False)
    if done.returncode or (place / "pwned").exists():
        return f"the script ended with {done.returncode}: {done.stderr.decode()[-300:]}"
    head = next(csv.reader(io.StringIO(done.stdout.decode(), newline="")))
    if head[: len(NAMES)] != NAMES:
        return f"names changed: {head}"
    wrong = subprocess.run([sys.executable, str(out / "sample.py"), "3", "-", "none"], cwd=place, capture_output=True, check=False)
    return "the terminal gets control characters" if b"\x1b" in wrong.stderr or b"Traceback" in wrong.stderr else None


def taken(run: Path, place: Path) -> str | None:
    """Links and files in the way: they are replaced or refused, and what they lead to stays."""
    outside = place / "outside"
    for name in ("empty", "full"):
        (outside / name).mkdir(parents=True)
    (outside / "full" / "mine").write_text("precious")
    before = hashes(outside)
    links = {"to-empty": "empty", "to-full": "full", "to-nothing": "missing", "to-file": "full/mine"}
    for name, to in links.items():
        for link in (name, f".{name}.partial", f".{name}.removed"):
            (place / link).symlink_to(outside / to)
    (place / "file").write_text("mine")
    for name in (*links, "file", "file/below", "\0", "a" * 300, "outside/full"):
        try:
            graphs.export_onnx(run, place / name, n=2, steps=2)
        except RunError:
            continue
        if (place / name).is_symlink():
            return f"{name} is written through a link"
    if hashes(outside) != before or (place / "file").read_text() != "mine" or (outside / "missing").exists():
        return "something outside has changed"
    return None


def killed(run: Path, place: Path, kills: int) -> str | None:
    """Kills at every call that writes, and at random ones: the folder is whole or not there, and the next export ends alike."""
    cache: dict[bytes, bytes] = {}
    trace, calls = graphs.graph, ("write_bytes", "rename", "mkdir")

    def graph(module: torch.nn.Module, inputs: dict[str, torch.Tensor], part: graphs.Part) -> bytes:
        key = part.words.encode()
        cache[key] = cache.get(key) or trace(module, inputs, part)
        return cache[key]

    graphs.graph = graph
    graphs.export_onnx(run, place / "whole", n=2, steps=2)
    wanted = {path.name: path.read_bytes() for path in (place / "whole").iterdir()}
    dice = random.Random(0)
    for number in range(kills):
        after, out = dice.randrange(12), place / f"killed-{number}"

        def act(after: int = after, out: Path = out) -> None:
            left = after

            def counted(real: Callable[..., object]) -> Callable[..., object]:
                def call(*given: object, **named: object) -> object:
                    nonlocal left
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)
                    left -= 1
                    return real(*given, **named)

                return call

            for name in calls:
                setattr(Path, name, counted(getattr(Path, name)))
            os.fsync = counted(os.fsync)
            graphs.export_onnx(run, out, n=2, steps=2)

        ended = os.waitpid(forked(act), 0)[1]
        if not os.WIFSIGNALED(ended) and ended:
            return f"kill {number} was answered by an error"
        if out.exists() and {path.name: path.read_bytes() for path in out.iterdir()} != wanted:
            return f"kill {number} left half an export"
        if not out.exists():
            graphs.export_onnx(run, out, n=2, steps=2)
        if {path.name: path.read_bytes() for path in out.iterdir()} != wanted or list(place.glob(f".{out.name}*")):
            return f"after kill {number} the export differs, or something is left"
    return None


def full(run: Path, place: Path) -> str | None:
    """Files may have so many bytes and no more, as on a full disk."""

    def act() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for most in (0, 1000, 30_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
            try:
                graphs.export_onnx(run, place / "no-room", n=2, steps=2)
            except RunError as error:
                said = error.problem
            else:
                said = "no error"
            assert "cannot be written" in said, said
            assert not list(place.glob("*no-room*")), "something is left"
            assert not list(place.glob(".no-room*")), "something is left"

    return "a full disk was answered wrongly" if os.waitpid(forked(act), 0)[1] else None


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=40)
    kills, bad = parser.parse_args().kills, 0
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = evil(place)
        os.chdir(place)
        try:
            graphs.export_onnx(run, place / "first", n=2, steps=2)
        except RunError as error:
            sys.stdout.write(f"Nothing was tried: {error}\n")
            return 0
        before = hashes(run)
        tries = {"names": names, "links": taken, "kills": lambda run, place: killed(run, place, kills), "full disk": full}
        for what, attack in tries.items():
            (place / what).mkdir()
            succeeded = attack(run, place / what)
            sys.stdout.write(f"{what}: {succeeded or 'fails'}\n")
            bad += succeeded is not None
        if hashes(run) != before:
            sys.stdout.write("the run has changed\n")
            bad += 1
        os.chdir("/")
    return bad != 0


if __name__ == "__main__":
    sys.exit(main())
