"""Shards: a large result on its way, as files that an interruption leaves whole.

Beside `samples.npz` lies the folder `samples.npz.parts`::

    manifest.json  000000.npy  000001.npy  …

A shard holds a fixed number of rows and is renamed into its place once it is on the disk, so that a file called `N.npy` is whole.
The manifest says what is being drawn. The same command finds it and draws what is missing; another one is refused.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.store.files import atomic_write, put_array

FORMAT = 1


@dataclass(frozen=True)
class Shards:
    """The parts of `total` rows of shape `event`, `size` rows in each but the last.

    Args:
        folder: where they lie. total, event, size: of what they hold.
    """

    folder: Path
    total: int
    event: tuple[int, ...]
    size: int

    @staticmethod
    def folder_of(out: Path) -> Path:
        """Where the parts of `out` lie."""
        return out.with_name(f"{out.name}.parts")

    @classmethod
    def reserve(
        cls, out: Path, identity: Mapping[str, Any], *, total: int, event: tuple[int, ...], size: int, overwrite: bool = False
    ) -> Shards:
        """The parts of `out`: those that are there, if they were begun with the same `identity`, else new ones of `size` rows.

        Args:
            identity: plain values that, with a row's index, all numbers in the row follow from. overwrite: others may be removed.

        Raises:
            RunError: for parts of something else (unless `overwrite`), something else in their place, or a disk that cannot be
                written to.
        """
        folder = cls.folder_of(out)
        known = _read(folder)
        if known is not None and known["identity"] == dict(identity):
            return cls(folder, total, event, known["size"])
        if known is not None and not overwrite:
            differs = [key for key in identity if known["identity"].get(key) != identity[key]]
            what = ", ".join(f"{key}={known['identity'].get(key)} and not {identity[key]}" for key in differs[:1])
            raise RunError(
                f"'{folder}' holds samples that another command began{f' ({what})' if what else ''}.",
                "Give that command again to go on, --overwrite to begin anew, or another --out.",
            )
        shards = cls(folder, total, event, size)
        if known is not None:
            shards.remove()
        manifest = {"format": FORMAT, "size": size, "total": total, "event": event, "identity": dict(identity)}
        with atomic_write(folder / "manifest.json", "Give --out another place.") as file:
            file.write(json.dumps(manifest, ensure_ascii=False, indent=1).encode())
        return shards

    @classmethod
    def found(cls, out: Path) -> Shards:
        """The parts of `out` that another process has claimed."""
        folder = cls.folder_of(out)
        known = _read(folder)
        if known is None:
            raise RunError(f"'{folder}' is not there.", "Give --out a place that all processes share.")
        return cls(folder, known["total"], tuple(known["event"]), known["size"])

    @property
    def count(self) -> int:
        """How many there are to be."""
        return -(-self.total // self.size)

    def bounds(self, k: int) -> tuple[int, int]:
        """The first row of shard `k`, and the one after its last."""
        return k * self.size, min((k + 1) * self.size, self.total)

    def missing(self) -> list[int]:
        """The shards that are not there. A damaged one is not there either."""
        return [k for k in range(self.count) if self._open(k) is None]

    def rows(self) -> int:
        """How many rows are there, as file names have it."""
        there = {file.name for file in self.folder.glob("*.npy")}
        return sum(last - first for k in range(self.count) if self._path(k).name in there for first, last in [self.bounds(k)])

    def put(self, k: int, parts: Iterable[Tensor]) -> None:
        """Write shard `k`: the rows of `parts`, float32 on the CPU, one part at a time in memory.

        Raises:
            RunError: where the disk cannot be written to; the other shards stay.
        """
        first, last = self.bounds(k)
        with atomic_write(self._path(k), self.remedy) as file:
            put_array(file, (last - first, *self.event), parts)

    def read(self) -> Iterator[Tensor]:
        """All rows, a shard at a time.

        Raises:
            RunError: where one is missing.
        """
        for k in range(self.count):
            values = self._open(k)
            if values is None:
                raise RunError(f"'{self._path(k)}' is not there or damaged.", "Give the same command to draw it again.")
            yield torch.from_numpy(np.array(values))

    def remove(self) -> None:
        """Remove them all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def remedy(self) -> str:
        """What to do where something stops their making."""
        return f"Make room: what is drawn stays in '{self.folder}', and the same command goes on from there."

    def _path(self, k: int) -> Path:
        return self.folder / f"{k:06d}.npy"

    def _open(self, k: int) -> np.ndarray | None:
        first, last = self.bounds(k)
        try:
            values = np.load(self._path(k), mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError):
            return None
        return values if values.dtype == np.float32 and values.shape == (last - first, *self.event) else None


def _read(folder: Path) -> dict[str, Any] | None:
    """The manifest in `folder`; None where nothing is there.

    Raises:
        RunError: for something else than parts.
    """
    if not os.path.lexists(folder) or (folder.is_dir() and not any(not entry.name.startswith(".") for entry in folder.iterdir())):
        return None
    try:
        known = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if known["format"] == FORMAT and known["size"] >= 1 and known["total"] >= 1 and known["event"] is not None:
            dict(known["identity"])
            return known
    except (OSError, ValueError, TypeError, KeyError):
        pass
    raise RunError(
        f"'{folder}' is in the way: it does not hold parts of samples that this version can go on from.",
        "Remove it, or give another --out.",
    )
