"""What the commands print. Text from files, such as a column's name, cannot control the terminal.

Characters that a terminal obeys or hides, and those that its encoding lacks, are shown as Python writes them, `\\x1b` for the escape
character. Every command prints through this module; only progress bars, which rich draws, and the help do not. `escape_unknown` is for
them.
"""

from __future__ import annotations

import io
import json
import sys
from typing import Any, TextIO

from sdezoo.errors import is_plain, printable


def escape_unknown() -> None:
    """Let all output, that of libraries too, show characters that the terminal's encoding lacks as `say` does."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(text: str, *, error: bool = False) -> None:
    """Print text, and flush.

    Args:
        text: the text, complete with line breaks.
        error: whether to print to standard error.
    """
    stream = sys.stderr if error else sys.stdout
    stream.write(_encodable(printable(text), stream))
    stream.flush()


def _encodable(text: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def say_json(value: Any, *, allow_nan: bool = True) -> None:
    """Print a value as one line of JSON.

    Args:
        value: a JSON value. Hidden characters are written as `\\uXXXX`, which JSON reads as themselves.
        allow_nan: whether numbers may be NaN or infinite, which strict JSON has no word for.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=allow_nan)
    if _encodable(text, sys.stdout) != text:
        text = json.dumps(value, allow_nan=allow_nan)
    sys.stdout.write("".join(c if is_plain(c) else _escaped(c) for c in text) + "\n")
    sys.stdout.flush()


def to_terminal(*, error: bool = False) -> bool:
    """Whether what `say` prints is read in a terminal."""
    return (sys.stderr if error else sys.stdout).isatty()


def _escaped(c: str) -> str:
    return json.dumps(c)[1:-1] if ord(c) > 0x7F else f"\\u{ord(c):04x}"
