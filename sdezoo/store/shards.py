"""Shards: store a large result in parts while it is computed, so that an interrupted command can resume.

The shards of `samples.npz` are in the folder `samples.npz.parts` beside it::

    manifest.json  000000.npy  000001.npy  …

A shard holds a fixed number of rows. It is written atomically, so an interruption never leaves a partial `N.npy`. The manifest identifies
the samples. The same command resumes and draws the missing shards; a different command is rejected.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.store.files import atomic_write, discard, is_link, put_array, remove

FORMAT = 1


@dataclass(frozen=True)
class Shards:
    """The shards of a result.

    Args:
        folder: the folder of the shards.
        total: number of rows in all shards.
        event: shape of a row.
        size: rows in each shard but the last.
    """

    folder: Path
    total: int
    event: tuple[int, ...]
    size: int

    @staticmethod
    def folder_of(out: Path) -> Path:
        """Path of the folder with the shards of a result.

        Args:
            out: the result file.
        """
        return out.with_name(f"{out.name}.parts")

    @classmethod
    def reserve(
        cls, out: Path, identity: Mapping[str, Any], *, total: int, event: tuple[int, ...], size: int, overwrite: bool = False
    ) -> Shards:
        """Open the existing shards of `out` if they have the same `identity`, else begin new ones.

        Args:
            out: the result file.
            identity: JSON values that, together with its index, determine every row.
            total: number of rows in all shards.
            event: shape of a row.
            size: rows in a shard, if new shards are begun.
            overwrite: whether shards with another identity may be removed.

        Raises:
            RunError: if there are shards with another identity (unless `overwrite`), if the folder holds anything else, or if it cannot be
                written to.
        """
        folder = cls.folder_of(out)
        discard(folder.with_name(f".{folder.name}.removed"))
        known = _read(folder)
        if known is not None and known["identity"] == dict(identity):
            return cls(folder, total, event, known["size"])
        if known is not None and not overwrite:
            differs = [key for key in identity if known["identity"].get(key) != identity[key]]
            what = ", ".join(f"{key}={known['identity'].get(key)} and not {identity[key]}" for key in differs[:1])
            raise RunError(
                f"'{folder}' holds samples that another command began{f' ({what})' if what else ''}.",
                "Repeat that command to resume it, give --overwrite to start over, or give another --out.",
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
        """Open shards that another process has reserved.

        Args:
            out: the result file.

        Raises:
            RunError: if there are none, or the folder holds anything else.
        """
        folder = cls.folder_of(out)
        known = _read(folder)
        if known is None:
            raise RunError(f"'{folder}' does not exist.", "Give an --out that all processes share.")
        return cls(folder, known["total"], tuple(known["event"]), known["size"])

    @classmethod
    def complete(cls, out: Path, identity: Mapping[str, Any], event: tuple[int, ...]) -> Shards | None:
        """Open the shards of `out` if they have the same `identity` and none is missing; else None. Writes nothing.

        Args:
            out: the result file.
            identity: as for `reserve`.
            event: shape of a row.
        """
        folder = cls.folder_of(out)
        try:
            known = _read(folder)
        except RunError:
            return None
        if known is None or known["identity"] != dict(identity):
            return None
        shards = cls(folder, known["total"], event, known["size"])
        return None if shards.missing() else shards

    @property
    def count(self) -> int:
        """Number of shards, written or not."""
        return -(-self.total // self.size)

    def bounds(self, k: int) -> tuple[int, int]:
        """Row range of a shard, as first row and one past the last row.

        Args:
            k: index of the shard.
        """
        return k * self.size, min((k + 1) * self.size, self.total)

    def missing(self) -> list[int]:
        """Indices of the shards that are missing or damaged."""
        return [k for k in range(self.count) if self._open(k) is None]

    def rows(self) -> int:
        """Number of rows in existing shards, by file name; contents are not checked."""
        there = {file.name for file in self.folder.glob("*.npy")}
        return sum(last - first for k in range(self.count) if self._path(k).name in there for first, last in [self.bounds(k)])

    def put(self, k: int, parts: Iterable[Tensor]) -> None:
        """Write a shard.

        Args:
            k: index of the shard.
            parts: consecutive chunks of its rows `(n_i, *event)`, float32 on the CPU, held in memory one at a time.

        Raises:
            RunError: if the shard cannot be written; other shards are kept.
        """
        first, last = self.bounds(k)
        with atomic_write(self._path(k), self.remedy) as file:
            put_array(file, (last - first, *self.event), parts)

    def read(self) -> Iterator[Tensor]:
        """Iterate over all rows, one shard `(n_k, *event)`, float32, at a time.

        Raises:
            RunError: if a shard is missing or damaged.
        """
        for k in range(self.count):
            values = self._open(k)
            if values is None:
                raise RunError(f"'{self._path(k)}' is missing or damaged.", "Repeat the command to draw it again.")
            yield torch.from_numpy(np.array(values))

    def remove(self) -> None:
        """Remove all shards and their folder, which disappears at once."""
        with suppress(OSError):
            remove(self.folder)

    @property
    def remedy(self) -> str:
        """What the user can do if writing fails."""
        return f"Make room, then repeat the command: samples drawn so far stay in '{self.folder}', and sampling resumes from them."

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
    """Read the manifest in `folder`; None if the folder does not exist or is empty.

    Raises:
        RunError: if it holds anything other than shards.
    """
    if is_link(folder):
        raise RunError(f"'{folder}' is a link.", "Remove it, or give another --out.")
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
        f"'{folder}' exists, but does not hold shards that this version can resume from.",
        "Remove it, or give another --out.",
    )
