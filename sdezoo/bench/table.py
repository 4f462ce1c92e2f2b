"""Tables of measurements, as text and JSON, and a description of the machine."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

Row = Mapping[str, Any]
"""Values by column."""

_LIBRARIES = ("sdezoo", "torch", "torchsde", "diffusers", "azula")


@dataclass(frozen=True)
class Table:
    """A table of measurements."""

    title: str
    """The quantity and the setting of the measurement."""
    formats: Mapping[str, str]
    """Format of the numbers by column, in display order. Headings show underscores as spaces."""
    rows: Sequence[Row]
    """The rows. A row lacks a column that does not apply; its `note` says why."""

    def record(self) -> dict[str, Any]:
        """Convert the table to values that JSON can hold."""
        return {"title": self.title, "rows": [dict(row) for row in self.rows]}

    def text(self) -> str:
        """Format the table as aligned text."""
        columns = [key for key in self.formats if any(row.get(key) is not None for row in self.rows)]
        heads = [key.replace("_", " ") for key in columns]
        cells = [heads, *([_cell(row.get(key), self.formats[key]) for key in columns] for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = ["  ".join(self._aligned(*part) for part in zip(columns, line, widths, strict=True)).rstrip() for line in cells]
        return "\n".join([self.title, *(f"  {line}" for line in lines), ""])

    def _aligned(self, column: str, cell: str, width: int) -> str:
        return cell.rjust(width) if self.formats[column] else cell.ljust(width)


def machine() -> dict[str, Any]:
    """Describe the machine: processor, threads, device, and versions of the libraries, None if not installed."""
    return {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": "cpu",
        "processor": platform.processor() or platform.machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cell(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)
