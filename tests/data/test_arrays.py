"""Laws of `sdezoo.data.arrays`: NumPy's files cost what they hold, and rows on the disk are those that would be in memory."""

import io
import os
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.data import reading as limits
from sdezoo.data.arrays import MappedRows, is_npz, read_npy, read_npz
from sdezoo.data.validation import check
from sdezoo.errors import DataError
from sdezoo.runs.frames import read_rows
from sdezoo_plugins.datasets import array as plugin
from sdezoo_plugins.datasets.array import Array

RNG = np.random.default_rng(0)


def packed(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def promised(shape: tuple[int, ...], dtype: str = "<f4") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def peak_of_a_refusal(path: Path, says: str = ".") -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=says):
            Array(str(path)).load()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def rows_of(path: Path) -> MappedRows:
    return MappedRows(path, torch.from_numpy, torch.empty(0, dtype=torch.int64))


class TestHonesty:
    def test_a_member_that_declares_what_deflate_could_hold_and_does_not_costs_what_it_holds(self, tmp_path: Path) -> None:
        """Directory and header agree on 100 MB, and random bytes that a thousandth of that takes follow."""
        values = 25_000_000
        head = promised((values, 1))
        body = RNG.bytes(110_000)
        with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("x.npy", head + body)
        content = bytearray((tmp_path / "a.npz").read_bytes())
        for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
            at = content.index(signature) + offset
            content[at : at + 4] = struct.pack("<I", len(head) + 4 * values)
        (tmp_path / "a.npz").write_bytes(content)
        assert peak_of_a_refusal(tmp_path / "a.npz", "cannot be read") < 4 * len(content) + 2**20

    def test_a_bomb_costs_what_it_holds_and_is_refused_where_memory_has_less(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1_000_000, 10), np.float32))
        assert (tmp_path / "a.npz").stat().st_size < 100_000
        assert len(Array(str(tmp_path / "a.npz"), holdout=0).load().train) == 1_000_000
        monkeypatch.setattr(limits, "LARGEST", 30_000_000)
        assert peak_of_a_refusal(tmp_path / "a.npz", "declares 10000000 values") < 2**20

    @pytest.mark.parametrize("shape", [(10**12,), (10**12, 2), (2**62, 4), (2**70, 1), (-1, -5)])
    def test_a_header_that_claims_too_much(self, tmp_path: Path, shape: tuple[int, ...]) -> None:
        (tmp_path / "a.npy").write_bytes(promised(shape) + bytes(100))
        assert peak_of_a_refusal(tmp_path / "a.npy", "declares an array") < 2**20

    def test_a_directory_of_many_members_is_not_unfolded(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            for i in range(20_000):
                archive.writestr(zipfile.ZipInfo(str(i)), b"")
        assert peak_of_a_refusal(tmp_path / "a.npz", "declares a zip directory") < 2**20

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_compressions_without_a_bound_are_refused(self, tmp_path: Path, method: int) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
            archive.writestr("x.npy", packed(np.zeros((1000, 1000))))
        assert peak_of_a_refusal(tmp_path / "a.npz", "a compression method that NumPy never writes") < 2**20

    def test_the_header_and_the_directory_agree_to_the_byte(self, tmp_path: Path) -> None:
        for extra in (b"\0", b""):
            with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
                archive.writestr("x.npy", packed(np.zeros((3, 2)))[: None if extra else -1] + extra)
            peak_of_a_refusal(tmp_path / "a.npz", "declares an array")

    def test_a_name_that_is_not_there(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", x=np.zeros(2))
        assert is_npz(tmp_path / "a.npz")
        with pytest.raises(DataError, match="'y'"):
            read_npz(tmp_path / "a.npz", lambda names: ["y"])

    def test_pickles_and_structures_are_not_read(self, tmp_path: Path) -> None:
        for array in (np.array([{}, {}]), np.zeros(2, "f4,f4"), np.array(["a"]), np.zeros(2, "M8[s]")):
            np.save(tmp_path / "a.npy", array)
            with pytest.raises(DataError, match="not numbers"):
                read_npy(tmp_path / "a.npy")

    def test_a_crc_that_does_not_hold(self, tmp_path: Path) -> None:
        content = packed(np.ones((50, 2)))
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            archive.writestr("x.npy", content)
        damaged = (tmp_path / "a.npz").read_bytes().replace(struct.pack("<I", zlib.crc32(content)), b"abcd")
        (tmp_path / "a.npz").write_bytes(damaged)
        peak_of_a_refusal(tmp_path / "a.npz", "CRC")


class TestMapped:
    """Files are taken for large from 100 bytes on."""

    @pytest.fixture(autouse=True)
    def _everything_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plugin, "IN_MEMORY", 100)

    @pytest.mark.parametrize("dtype", ["<f4", ">f8", "f2", "i8"])
    def test_training_and_held_out_rows_are_those_of_the_file(self, tmp_path: Path, dtype: str) -> None:
        rows = (np.arange(600).reshape(200, 3) / (1 if dtype == "i8" else 8)).astype(dtype)
        np.save(tmp_path / "a.npy", rows)
        data = Array(str(tmp_path / "a.npy"), holdout=0.25).load()
        check(data)
        assert data.stored is not None
        train = data.stored[torch.arange(len(data.stored))]
        assert 30 < len(data.test) <= 50
        assert torch.equal(torch.cat([train, data.test]).sort(0).values, torch.from_numpy(rows.astype(np.float32)))
        assert (train.diff(dim=0) > 0).all()
        assert {*data.train[:, 0].tolist()} <= {*train[:, 0].tolist()}
        assert len(data.train) > 50
        assert data.kind == "points"
        again = Array(str(tmp_path / "a.npy"), holdout=0.25).load()
        assert torch.equal(again.train, data.train)
        assert torch.equal(again.test, data.test)

    @pytest.mark.parametrize("limit", [100, 2**30])
    def test_booleans_are_0_and_1_as_for_the_estimator(self, tmp_path: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(plugin, "IN_MEMORY", limit)
        for rows in (RNG.random((60, 3)) < 0.5, RNG.random((60, 1, 4, 5)) < 0.5):
            np.save(tmp_path / "a.npy", rows)
            data = Array(str(tmp_path / "a.npy"), holdout=0).load()
            check(data)
            assert (data.stored is None) == (limit > 100)
            assert torch.equal(data.stored[torch.arange(60)] if data.stored else data.train, read_rows(rows).values)

    @pytest.mark.parametrize("shape", [(20, 4, 5), (20, 4, 5, 3), (20, 3, 4, 5)])
    def test_images_are_as_they_are_in_memory(self, tmp_path: Path, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
        for array in (RNG.integers(0, 256, shape, dtype=np.uint8), RNG.random(shape)):
            np.save(tmp_path / "a.npy", array)
            data = Array(str(tmp_path / "a.npy"), holdout=0).load()
            check(data)
            assert data.stored is not None
            monkeypatch.setattr(plugin, "IN_MEMORY", 2**30)
            whole = Array(str(tmp_path / "a.npy"), holdout=0).load()
            monkeypatch.setattr(plugin, "IN_MEMORY", 100)
            assert torch.equal(data.stored[torch.arange(20)], whole.train)
            assert (data.kind, data.levels, data.event) == (whole.kind, whole.levels, whole.event)
            assert len(data.test) == 0

    def test_no_more_is_held_in_memory_than_its_parts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        np.save(tmp_path / "a.npy", np.zeros((5000, 4), np.float32))
        monkeypatch.setattr(plugin, "PART", 1600)
        data = Array(str(tmp_path / "a.npy"), holdout=0.5).load()
        assert 80 < len(data.train) <= 100
        assert 80 < len(data.test) <= 100
        assert data.rows == 5000 - len(data.test)

    def test_nan_is_found_wherever_it_is(self, tmp_path: Path) -> None:
        rows = np.zeros((1000, 4), np.float32)
        rows[777, 2] = np.nan
        np.save(tmp_path / "a.npy", rows)
        with pytest.raises(DataError, match=r"row 777, column 2"):
            check(Array(str(tmp_path / "a.npy"), holdout=0).load())

    @pytest.mark.parametrize(
        ("array", "says"),
        [
            (np.asfortranarray(np.zeros((200, 3))), "Fortran order.*ascontiguousarray"),
            (np.zeros((500, 1, 1, 1, 1)), "neither points"),
            (np.zeros((20, 4, 5), np.int32), "no known range"),
            (np.zeros((20, 5, 6, 7), np.float32), "no axis of 1, 3 or 4"),
        ],
    )
    def test_what_cannot_be_read_row_by_row(self, tmp_path: Path, array: np.ndarray, says: str) -> None:
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(DataError, match=says):
            Array(str(tmp_path / "a.npy")).load()

    def test_a_file_that_changes_or_goes_is_noticed_before_it_is_touched(self, tmp_path: Path) -> None:
        path = tmp_path / "a.npy"
        np.save(path, np.zeros((200, 3)))
        rows = rows_of(path)
        os.truncate(path, 1000)  # to read beyond would end the process
        with pytest.raises(DataError, match="changed while it was being read"):
            rows[torch.tensor([199])]
        path.unlink()
        with pytest.raises(DataError, match="There is no file"):
            rows[torch.tensor([0])]
