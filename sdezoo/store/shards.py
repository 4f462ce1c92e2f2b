"""Shards: store a large result in parts while it is computed, so that an interrupted command can resume.

The shards of `samples.npz` are in the folder `samples.npz.parts` beside it::

    manifest.json  000000.shard  000001.shard  …

A shard holds a fixed number of rows: their float32 in little-endian order, then a SHA-256 digest of these bytes, of the manifest's identity
and of the index of the shard. It is written atomically, so an interruption never leaves a partial `N.shard`. One that is damaged, or of
other samples, counts as missing.

The manifest identifies the samples. The same command resumes and draws the missing shards; a different command is rejected. Nothing in the
folder is trusted: a file has exactly the size that the command expects, and is read as numbers only.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.store.files import atomic_write, discard, is_link, opened, read_small, remove

FORMAT = 2
_FLOAT = np.dtype("<f4")
_DIGEST = hashlib.sha256().digest_size
_BLOCK = 2**24  # bytes read at a time
_MANIFEST = 2**20  # most bytes of a manifest
_MOST = 2**62  # numbers in a manifest
_SHOWN = 200  # characters of an entry in a message


@dataclass(frozen=True)
class Shards:
    """The shards of a result.

    Args:
        folder: the folder of the shards.
        total: number of rows in all shards.
        event: shape of a row.
        size: rows in each shard but the last.
        identity: JSON values that, together with its index, determine every row.
    """

    folder: Path
    total: int
    event: tuple[int, ...]
    size: int
    identity: Mapping[str, Any]

    @staticmethod
    def folder_of(out: Path) -> Path:
        """Path of the folder with the shards of a result.

        Args:
            out: the result file.
        """
        out = out if out.name else out.resolve()
        return out.with_name(f"{out.name}.parts") if out.name else out / ".parts"

    @classmethod
    def clear(cls, out: Path) -> None:
        """Remove what is left of shards of which a killed command has removed the folder.

        Args:
            out: the result file.
        """
        folder = cls.folder_of(out)
        discard(folder.with_name(f".{folder.name}.removed"))

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
                written to, or has no room.
        """
        folder = cls.folder_of(out)
        known = _read(folder)
        if known is not None and known._holds(identity, total, event):
            return known
        if known is not None and not overwrite:
            differs = [key for key in identity if known.identity.get(key) != identity[key]]
            what = ", ".join(f"{key}={str(known.identity.get(key))[:_SHOWN]} and not {identity[key]}" for key in differs[:1])
            raise RunError(
                f"'{folder}' holds samples that another command began{f' ({what})' if what else ''}.",
                "Repeat that command to resume it, give --overwrite to start over, or give another --out.",
            )
        shards = cls(folder, total, event, size, dict(identity))
        if known is not None:
            shards.remove()
        place = next(place for place in folder.absolute().parents if place.exists())
        if (needed := 4 * total * math.prod(event)) > (free := shutil.disk_usage(place).free):
            raise RunError(
                f"{total} samples take {needed / 2**30:.1f} GiB, more than the {free / 2**30:.1f} GiB free at '{place}'.",
                "Take fewer, or give --out another place.",
            )
        manifest = {"format": FORMAT, "size": size, "total": total, "event": event, "identity": dict(identity)}
        with atomic_write(folder / "manifest.json", "Give --out another place.") as file:
            file.write(json.dumps(manifest, ensure_ascii=False, indent=1).encode())
        return shards

    @classmethod
    def found(cls, out: Path, identity: Mapping[str, Any], *, total: int, event: tuple[int, ...]) -> Shards:
        """Open shards that another process has reserved.

        Args:
            out: the result file.
            identity: as for `reserve`.
            total: as for `reserve`.
            event: as for `reserve`.

        Raises:
            RunError: if there are none, or the folder holds anything else.
        """
        folder = cls.folder_of(out)
        known = _read(folder)
        if known is None or not known._holds(identity, total, event):
            raise RunError(f"'{folder}' does not hold these samples.", "Give an --out that all processes share.")
        return known

    @classmethod
    def complete(cls, out: Path, identity: Mapping[str, Any], *, total: int, event: tuple[int, ...]) -> Shards | None:
        """Open the shards of `out` if they have the same `identity` and none is missing; else None. Writes nothing.

        Args:
            out: the result file.
            identity: as for `reserve`.
            total: as for `reserve`.
            event: as for `reserve`.
        """
        try:
            known = _read(cls.folder_of(out))
        except RunError:
            return None
        return known if known is not None and known._holds(identity, total, event) and not known.missing() else None

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
        """Indices of the shards that are missing or damaged; reads all of them."""
        return [k for k in range(self.count) if not self._is_intact(k)]

    def rows(self) -> int:
        """Number of rows in existing shards, by file name; contents are not checked."""
        there = {file.name for file in self.folder.glob("*.shard")}
        return sum(last - first for k in range(self.count) if self._path(k).name in there for first, last in [self.bounds(k)])

    def put(self, k: int, parts: Iterable[Tensor]) -> None:
        """Write a shard.

        Args:
            k: index of the shard.
            parts: consecutive chunks of its rows `(n_i, *event)`, float32 on the CPU, held in memory one at a time.

        Raises:
            RunError: if the shard cannot be written; other shards are kept.
        """
        digest = self._digest(k)
        with atomic_write(self._path(k), self.remedy) as file:
            put_rows(file, digest, parts)

    def read(self) -> Iterator[Tensor]:
        """Iterate over all rows in chunks `(n_i, *event)`, float32, of at most 16 MiB (or one row).

        Raises:
            RunError: if a shard is missing or damaged.
        """
        for k in range(self.count):
            try:
                yield from self._chunks(k)
            except (OSError, EOFError):
                raise RunError(f"'{self._path(k)}' is missing or damaged.", "Repeat the command to draw it again.") from None

    def remove(self) -> None:
        """Remove all shards and their folder, which disappears at once."""
        with suppress(OSError):
            remove(self.folder)

    @property
    def remedy(self) -> str:
        """What the user can do if writing fails."""
        return f"Make room, then repeat the command: samples drawn so far stay in '{self.folder}', and sampling resumes from them."

    def _path(self, k: int) -> Path:
        return self.folder / f"{k:06d}.shard"

    def _holds(self, identity: Mapping[str, Any], total: int, event: tuple[int, ...]) -> bool:
        return (self.identity, self.total, self.event) == (dict(identity), total, event)

    def _digest(self, k: int) -> hashlib._Hash:
        return hashlib.sha256(json.dumps([dict(self.identity), k], sort_keys=True).encode())

    def _is_intact(self, k: int) -> bool:
        try:
            return all(True for _ in self._chunks(k))
        except (OSError, EOFError):
            return False

    def _chunks(self, k: int) -> Iterator[Tensor]:
        """The rows of a shard; `EOFError` at the end if they differ from what was written."""
        first, last = self.bounds(k)
        row = _FLOAT.itemsize * math.prod(self.event)
        if is_link(self._path(k)):
            raise EOFError
        with opened(self._path(k)) as file:
            if os.fstat(file.fileno()).st_size != (last - first) * row + _DIGEST:
                raise EOFError
            digest, left, most = self._digest(k), last - first, max(1, _BLOCK // row)
            while left:
                content = _exactly(file, min(left, most) * row)
                digest.update(content)
                left -= min(left, most)
                values = np.frombuffer(content, _FLOAT).astype(np.float32, copy=False)
                yield torch.from_numpy(values.reshape(-1, *self.event))
            if _exactly(file, _DIGEST) != digest.digest():
                raise EOFError


def put_rows(file: BinaryIO, digest: hashlib._Hash, parts: Iterable[Tensor]) -> None:
    """Write rows and their digest.

    Args:
        file: the output.
        digest: a hash, which is updated by the rows.
        parts: consecutive chunks of rows, float32 on the CPU.
    """
    for part in parts:
        values = part.contiguous().numpy().astype(_FLOAT, copy=False).data
        digest.update(values)
        file.write(values)
    file.write(digest.digest())


def _exactly(file: BinaryIO, size: int) -> bytearray:
    content = bytearray(file.read(size))
    if len(content) < size:
        raise EOFError
    return content


def _read(folder: Path) -> Shards | None:
    """Read the manifest in `folder`; None if the folder does not exist or is empty.

    Raises:
        RunError: if it holds anything other than shards.
    """
    if is_link(folder):
        raise RunError(f"'{folder}' is a link.", "Remove it, or give another --out.")
    if not os.path.lexists(folder) or (folder.is_dir() and not any(not entry.name.startswith(".") for entry in folder.iterdir())):
        return None
    try:
        known = json.loads(read_small(folder / "manifest.json", _MANIFEST).decode())
        numbers, identity = [known["total"], known["size"], *known["event"]], known["identity"]
        if known["format"] == FORMAT and isinstance(identity, dict) and all(type(n) is int and 1 <= n < _MOST for n in numbers):
            return Shards(folder, known["total"], tuple(known["event"]), known["size"], identity)
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        pass
    raise RunError(
        f"'{folder}' exists, but does not hold shards that this version can resume from.",
        "Remove it, or give another --out.",
    )
