"""Shards of samples that somebody else, a disk or another command has changed: drawn again, or refused in two sentences; never used."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.errors import RunError
from sdezoo.store.shards import Shards

ROWS = torch.arange(40, dtype=torch.float32).reshape(20, 2)
SAME = {"identity": {"seed": 0}, "total": 20, "event": (2,)}


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A result of which all shards are there."""
    shards = Shards.reserve(tmp_path / "out.npy", **SAME, size=8)
    for k in range(shards.count):
        first, last = shards.bounds(k)
        shards.put(k, [ROWS[first : first + 3], ROWS[first + 3 : last]])
    return tmp_path / "out.npy"


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((8, 2), np.float32))
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", npy())
    return buffer.getvalue()


def test_all_rows_come_back(out: Path) -> None:
    shards = Shards.found(out, **SAME)
    assert shards.missing() == []
    assert torch.equal(torch.cat(list(shards.read())), ROWS)


def test_more_samples_than_the_disk_holds_are_refused_before_any_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"10{15} samples take .* GiB free at"):
        Shards.reserve(tmp_path / "new" / "a.csv", {}, total=10**15, event=(3,), size=8)
    assert not list(tmp_path.iterdir())
    for name in (".", "..", "/"):
        assert Shards.folder_of(Path(name)).name.endswith(".parts")


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-1]),
        lambda file: file.write_bytes(file.read_bytes() + b"x"),
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(npy()),
        lambda file: file.write_bytes(zipped()),
        lambda file: file.write_bytes(bytes(file.stat().st_size)),
        lambda file: file.write_bytes((file.parent / "000000.shard").read_bytes()),
        lambda file: (file.unlink(), file.mkdir()),
        lambda file: (file.unlink(), os.mkfifo(file)),
        lambda file: (file.unlink(), file.symlink_to("000000.shard")),
        lambda file: (file.unlink(), file.symlink_to("/dev/zero")),
        lambda file: (file.unlink(), file.symlink_to(file)),
    ],
)
def test_what_was_not_written_is_missing(out: Path, change: Callable[[Path], object]) -> None:
    change(Shards.folder_of(out) / "000001.shard")
    shards = Shards.found(out, **SAME)
    assert shards.missing() == [1]
    assert Shards.complete(out, **SAME) is None
    with pytest.raises(RunError, match=r"000001\.shard' is missing or damaged"):
        list(shards.read())


@pytest.mark.parametrize("at", range(0, 8 * 2 * 4 + 32, 7))
def test_every_flipped_bit_is_found(out: Path, at: int) -> None:
    file = Shards.folder_of(out) / "000000.shard"
    content = bytearray(file.read_bytes())
    content[at] ^= 1 << at % 8
    file.write_bytes(content)
    assert Shards.found(out, **SAME).missing() == [0]


def test_shards_of_other_samples_are_missing(out: Path) -> None:
    shards = Shards.reserve(out.with_name("other.npy"), {"seed": 1}, total=20, event=(2,), size=8)
    for file in Shards.folder_of(out).glob("*.shard"):
        (shards.folder / file.name).write_bytes(file.read_bytes())
    assert shards.missing() == [0, 1, 2]


@pytest.mark.parametrize("value", [None, 0, -1, 1.5, True, "8", [], {}, 10**30, [8], float("nan")])
@pytest.mark.parametrize("name", ["format", "size", "total", "event", "identity"])
def test_a_changed_manifest_is_refused(out: Path, name: str, value: object) -> None:
    file = Shards.folder_of(out) / "manifest.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), name: value}))
    with pytest.raises(RunError, match=r"does not hold shards|another command began"):
        Shards.reserve(out, **SAME, size=8)
    with pytest.raises(RunError, match="does not hold"):
        Shards.found(out, **SAME)
    assert Shards.complete(out, **SAME) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"[" * 10**6, b"\xff", b" " * (2**20 + 1), b'{"format": 2}', b"1" * 10_000])
def test_a_manifest_of_other_contents_is_refused(out: Path, content: bytes) -> None:
    (Shards.folder_of(out) / "manifest.json").write_bytes(content)
    with pytest.raises(RunError, match="does not hold shards"):
        Shards.reserve(out, **SAME, size=8, overwrite=True)


def test_a_manifest_that_is_a_pipe_is_refused(out: Path) -> None:
    file = Shards.folder_of(out) / "manifest.json"
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(RunError, match="does not hold shards"):
        Shards.reserve(out, **SAME, size=8)


def test_rows_are_read_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever size of a shard the manifest claims."""
    monkeypatch.setattr("sdezoo.store.shards._BLOCK", 3 * 8)
    shards = Shards.reserve(tmp_path / "out.npy", **SAME, size=10**9)
    shards.put(0, [ROWS])
    chunks = list(shards.read())
    assert [len(chunk) for chunk in chunks] == [3] * 6 + [2]
    assert torch.equal(torch.cat(chunks), ROWS)
