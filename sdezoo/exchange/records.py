"""What a run folder records, made ready for a page. A folder may come from somebody else, so that nothing in it is believed.

Records that are missing, damaged or of another form are left out: a page shows what is there.
"""

from __future__ import annotations

import csv
import inspect
import io
import json
import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from sdezoo.errors import SdezooError, printable
from sdezoo.evaluation.table import number
from sdezoo.store.files import opened, read_small
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import SDES, TASKS, Registry, with_parts

_RECORD, _PICTURE, _TABLE = 2**21, 2**23, 2**16  # most bytes read of a record, a picture, and the beginning of a table
_PIXELS = 2**24
_ROWS, _COLUMNS, _LONGEST = 12, 40, 400
_IMAGES = {"PNG": "image/png"}
_LONG_NUMBER = re.compile(r"\b\d+\.\d{4,}(?:e[-+]?\d+)?\b")

Span = tuple[bool, str]
"""Whether a piece of text is a formula, and the text."""


@dataclass(frozen=True)
class Row:
    """One measure of an evaluation, as text.

    Args:
        name: of the measure.
        value: of the samples.
        interval: 95 % confidence interval; empty without one.
        floor: value of real rows; empty without one.
        best: value for equal distributions.
    """

    name: str
    value: str
    interval: str
    floor: str
    best: str


def json_object(path: Path) -> dict[str, Any]:
    """Read a file of JSON; what is no object, damaged or too large counts as empty.

    Args:
        path: the file.
    """
    try:
        found = json.loads(read_small(path, _RECORD).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def measures(evaluation: dict[str, Any]) -> list[tuple[str, list[Row]]]:
    """The tables of an evaluation, by heading.

    Args:
        evaluation: contents of `evaluation.json`.
    """
    rows = [(_text(line.get("group")), _row(line)) for line in _lines(evaluation, "measures")]
    return [(group, [row for _, row in members]) for group, members in groupby(rows, key=lambda pair: pair[0])]


def tails(evaluation: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    """The tail indices of columns: name, that of the data and its interval, that of samples and its interval.

    Args:
        evaluation: contents of `evaluation.json`.
    """
    found = []
    for line in _lines(evaluation, "tails"):
        if isinstance(line.get("data"), dict) and isinstance(line.get("samples"), dict):
            parts = [line[key] for key in ("data", "samples")]
            found.append((_text(line.get("name")), *(text for part in parts for text in (_figure(part.get("index")), _between(part)))))
    return found


def column_tests(evaluation: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What is known of single columns: name, measure, figure.

    Args:
        evaluation: contents of `evaluation.json`.
    """
    found = []
    for key, words in (("columns", "ks"), ("shares", "apart")):
        for line in _lines(evaluation, key):
            p = f", p {_figure(line.get('p'))}" if "p" in line else ""
            what = "Kolmogorov–Smirnov" if words == "ks" else "total variation"
            found.append((_text(line.get("name")), what, f"{_figure(line.get(words))}{p}"))
    return found[:_COLUMNS]


def notes(evaluation: dict[str, Any]) -> list[str]:
    """The notes of an evaluation.

    Args:
        evaluation: contents of `evaluation.json`.
    """
    found = evaluation.get("notes")
    return [_text(note, 2 * _LONGEST) for note in found if isinstance(note, str)] if isinstance(found, list) else []


def processes(spec: str | None, task: str | None = None) -> list[tuple[str, list[list[Span]]]]:
    """A process and those of its parts: spec string, its numbers to four digits, and what its author states, formulas marked.

    Args:
        spec: spec string of the process; None or empty: it is not known, or learned.
        task: spec string of the task, which stands in for a process that is learned.
    """
    try:
        found = [(SDES, part) for _, part in with_parts(SDES, spec)] if spec else [(TASKS, task)] if task else []
    except SdezooError:
        return []
    return [(_text(_LONG_NUMBER.sub(_brief, part)), _stated(registry, part.partition(":")[0])) for registry, part in found]


def _brief(found: re.Match[str]) -> str:
    return f"{float(found[0]):.4g}"


def _stated(registry: Registry[Any], name: str) -> list[list[Span]]:
    try:
        cls = registry.load(name)
    except SdezooError as error:
        return [[(False, error.problem)]]
    text = inspect.getdoc(inspect.getmodule(cls)) or inspect.getdoc(cls) or ""
    first, *others = text.split("\n\n")
    shown = [first, *[part for part in others if "::" not in part][:1]]
    # An indented paragraph is a formula.
    return [[(True, " ".join(part.split()))] if part[0].isspace() else spans(" ".join(part.split())) for part in shown if part]


def spans(text: str) -> list[Span]:
    """Split text at its backticks.

    Args:
        text: a paragraph, formulas between backticks.
    """
    return [(k % 2 == 1, part) for k, part in enumerate(text.split("`")) if part]


def changed(config: dict[str, Any], environment: dict[str, Any]) -> tuple[list[tuple[str, str, str]], list[tuple[str, str, str]]]:
    """The settings that differ from the defaults: name, value, default; those that the user gave, and those that were chosen.

    Args:
        config: contents of `config.yaml`.
        environment: contents of `env.json`; without the names of the settings given, all count as given.
    """
    fields, asked = TrainingConfig.model_fields, environment.get("settings given")
    differ = [
        (_text(name), _text(value), _default(fields[name].default) if name in fields else "unknown")
        for name, value in config.items()
        if name not in fields or value != fields[name].default
    ]
    chosen = [row for row in differ if isinstance(asked, str) and row[0] not in asked.split(", ")]
    return [row for row in differ if row not in chosen], chosen


def commands(run: Path, config: dict[str, Any], evaluation: dict[str, Any]) -> list[str]:
    """The commands that make such a run and its evaluation, for a shell.

    Args:
        run: the run folder.
        config: contents of `config.yaml`.
        evaluation: contents of `evaluation.json`; empty: none.
    """
    parts = ["sdezoo", "train"]
    for name, value in config.items():
        field = TrainingConfig.model_fields.get(name)
        if field is None or value is None or value == field.default:
            continue
        option = f"--{name.replace('_', '-')}"
        parts += [option] if value is True else [option, str(value)]
    found = [shlex.join(parts)]
    if evaluation:
        asked = {"sampler": "--sampler", "steps": "--steps", "samples": "--samples", "asked": "-n", "seed": "--seed"}
        options = [word for key, option in asked.items() if key in evaluation for word in (option, str(evaluation[key]))]
        found.append(shlex.join(["sdezoo", "evaluate", str(run), *options]))
    return [printable(command) for command in found]


def sample_table(run: Path) -> tuple[str, list[str], list[list[str]]] | None:
    """The first rows of the newest samples as text: name of the file, heading, rows, numbers to five digits; None if there are none.

    Args:
        run: the run folder.
    """
    for path in _newest(run, ".csv"):
        try:
            with opened(path) as file:
                text = file.read(_TABLE).decode("utf-8-sig", "replace")
            lines = list(csv.reader(io.StringIO(text)))[: _ROWS + 1]
        except (OSError, csv.Error):
            continue
        if len(lines) > 1:
            head, *rows = [[_text(_cell(cell), 60) for cell in line[:_COLUMNS]] for line in lines]
            return path.name, head, rows
    return None


def _cell(text: str) -> str:
    return f"{float(text):.5g}" if _LONG_NUMBER.fullmatch(text.removeprefix("-")) else text


def sample_picture(run: Path) -> tuple[str, bytes] | None:
    """The newest picture of samples: name of the file and the picture; None if there is none.

    Args:
        run: the run folder.
    """
    return next(((path.name, found) for path in _newest(run, ".png") if (found := picture(path))), None)


def evaluation_picture(run: Path) -> bytes | None:
    """The picture of an evaluation; None if there is none.

    Args:
        run: the run folder.
    """
    return picture(run / "evaluation" / "evaluation.png")


def picture(path: Path) -> bytes | None:
    """Read a picture; None if it is none, or too large.

    Args:
        path: the file, a PNG.
    """
    try:
        content = read_small(path, _PICTURE)
        with Image.open(io.BytesIO(content), formats=list(_IMAGES)) as image:
            if image.width * image.height > _PIXELS:
                return None
            image.verify()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return content


def figure(value: object) -> str:
    """A number as text; empty for anything else.

    Args:
        value: what a record holds.
    """
    return _figure(value)


def _lines(evaluation: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The objects of a list of a record."""
    found = evaluation.get(key)
    return [line for line in found if isinstance(line, dict)] if isinstance(found, list) else []


def _newest(run: Path, ending: str) -> list[Path]:
    """The files of samples with this ending, the newest first."""
    folder = run / "samples"
    try:
        files = [path for path in folder.iterdir() if path.suffix == ending and not path.name.startswith(".") and not path.is_symlink()]
        return sorted(files, key=lambda path: path.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _row(line: dict[str, Any]) -> Row:
    interval = line.get("interval")
    ends = [_figure(end) for end in interval] if isinstance(interval, list) else []
    return Row(
        _text(line.get("name")), _figure(line.get("value")), " … ".join(ends[:2]), _figure(line.get("floor")), _figure(line.get("best"))
    )


def _between(tail: dict[str, Any]) -> str:
    return f"{_figure(tail.get('low')) or '…'} … {_figure(tail.get('high')) or '∞'}"


def _figure(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        return ""
    return number(float(value)) if abs(value) < 1e15 else f"{float(value):.3g}"


def _default(value: object) -> str:
    return "automatic" if value is None else _text(value)


def _text(value: object, longest: int = _LONGEST) -> str:
    shown = printable("" if value is None else str(value))
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def listed(values: Sequence[object]) -> str:
    """Values of a record as one line.

    Args:
        values: the values.
    """
    return _text(", ".join(map(str, values)))
