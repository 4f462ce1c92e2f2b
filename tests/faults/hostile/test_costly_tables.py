"""Small files of tables that say much: long texts that many rows have, sheets and directories larger than they are. Each costs its size."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from openpyxl import Workbook
from pyarrow import parquet

from sdezoo.data.dataset import Data
from sdezoo.data.filling import Filling, fill_parquet
from sdezoo.data.opening import words
from sdezoo.data.opening.pages import TextPages, text_pages
from sdezoo.data.opening.table import _one_by_one, read_table
from sdezoo.data.opening.words import Vocabulary
from sdezoo.errors import DataError
from sdezoo.zoo.datasets import find_dataset
from tests.faults.hostile.hunting import attempt

ROWS, LONG = 400, "a" * 10**6
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
HEAD = '<row r="1"><c r="A1" t="inlineStr"><is><t>a</t></is></c><c r="B1" t="s"><v>0</v></c></row>'
SHARED = "application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"


def load(path: Path) -> Data:
    return find_dataset(str(path)).load()


def sheet(path: Path, rows: str, before: str = "") -> Path:
    """A sheet with the columns a and b, and the shared texts b, a long one, and q."""
    buffer, book = io.BytesIO(), Workbook()
    book.worksheets[0].append([1])
    book.save(buffer)
    parts = {
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{MAIN}">{before}<sheetData>{HEAD}{rows}</sheetData></worksheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">' + "".join(f"<si><t>{text}</t></si>" for text in ("b", LONG, "q")) + "</sst>",
    }
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in {*source.namelist()} - parts.keys():
            content = source.read(name)
            if name == "[Content_Types].xml":
                shared = f'<Override PartName="/xl/sharedStrings.xml" ContentType="{SHARED}"/></Types>'.encode()
                content = content.replace(b"</Types>", shared)
            archive.writestr(name, content)
        for name, text in parts.items():
            archive.writestr(name, text)
    return path


def rows(count: int, text: str = "{n}", kind: str = "") -> str:
    cells = (f'<c r="A{k}"><v>{k % 7 + 0.5}</v></c><c r="B{k}"{kind}><v>{text.format(n=k % 5)}</v></c>' for k in range(2, count + 2))
    return "".join(f'<row r="{k}">{each}</row>' for k, each in enumerate(cells, 2))


def held(found: object) -> int:
    return 4 * (found.train.numel() + found.test.numel()) if isinstance(found, Data) else 0


def count(path: Path) -> int:
    data = load(path)
    return len(data.train) + len(data.test)


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is imported to read tables is there before memory and time are counted."""
    folder = tmp_path_factory.mktemp("warm")
    (folder / "a.csv").write_text("a,b\n" + "x,2020-01-01\ny,2020-01-02\n" * 9)
    parquet.write_table(pa.table({"a": ["x", "y"], "b": [1.5, 2.5]}), folder / "a.parquet")
    for path in (
        folder / "a.csv",
        folder / "a.parquet",
        sheet(folder / "a.xlsx", rows(9)),
        saved(folder / "a", pa.table({"a": [1, 2]}), {}),
    ):
        load(path)


def cheap(path: Path) -> None:
    honest = sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file())
    attempt(lambda: load(path), path.parent, honest, held)


@pytest.mark.parametrize("missing", [False, True])
def test_texts_of_many_parts_have_the_order_of_all(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"_SORTED": 16, "_SAMPLED": 4}.items():
        monkeypatch.setattr(words, name, value)
    dice = np.random.default_rng(0)
    few, many = ([f"{'äbc'[k % 3]}{k}" for k in dice.integers(0, most, 300)] for most in (9, 10**6))
    parts = [[*many[:100], "a"], [*many[50:200], *few[:20]], few, [], ["b"], many[100:]]
    parts = [[None if missing and dice.random() < 0.2 else text for text in part] for part in parts]
    column = pa.chunked_array([pa.array(part, pa.string()) for part in parts])
    codes = np.empty(len(column), np.float32)
    found = words.ranked(column, codes)
    known = sorted({text for part in parts for text in part if text is not None})
    assert list(found) == known
    assert [None if np.isnan(code) else known[int(code)] for code in codes] == column.to_pylist()


class TestSheets:
    def test_rows_cost_their_cells(self, tmp_path: Path) -> None:
        cheap(sheet(tmp_path / "a.xlsx", rows(ROWS)))

    def test_a_shared_text_is_held_once(self, tmp_path: Path) -> None:
        path = sheet(tmp_path / "a.xlsx", rows(ROWS, "1", ' t="s"'))
        cheap(path)
        kind = load(path).types[1]
        assert kind.record() == {"type": "category", "values": [LONG], "form": "string"}

    def test_a_row_far_below_is_found(self, tmp_path: Path) -> None:
        path = sheet(tmp_path / "a.xlsx", rows(10) + '<row r="100000"><c r="A100000"><v>1</v></c></row>')
        cheap(path)
        assert count(path) == 11

    def test_a_row_beyond_the_last_is_refused(self, tmp_path: Path) -> None:
        path = sheet(tmp_path / "a.xlsx", rows(10) + '<row r="99999999999"><c r="A99999999999"><v>1</v></c></row>')
        with pytest.raises(DataError, match="beyond number 1048576"):
            load(path)

    def test_a_cell_far_to_the_right_is_refused_at_once(self, tmp_path: Path) -> None:
        far = "".join(f'<row r="{k}"><c r="XFD{k}"><v>1</v></c></row>' for k in range(2, ROWS))
        path = sheet(tmp_path / "a.xlsx", far)
        cheap(path)
        with pytest.raises(DataError, match="2 column names for row 0"):
            load(path)

    def test_its_own_word_on_its_size_is_not_taken(self, tmp_path: Path) -> None:
        assert count(sheet(tmp_path / "a.xlsx", rows(30), '<dimension ref="A1:B3"/>')) == 30

    def test_texts_of_numbers_are_numbers(self, tmp_path: Path) -> None:
        book = Workbook()
        for row in [["a", "b", "c"], *([f"1,{k:03}.5", ["$1", "($2)"][k % 2], ["?", "3"][k % 3 > 0]] for k in range(30))]:
            book.worksheets[0].append(row)
        book.save(tmp_path / "a.xlsx")
        data = load(tmp_path / "a.xlsx")
        whole = np.concatenate([data.train.numpy(), data.test.numpy()])
        assert [kind.kind for kind in data.types] == ["number"] * 3
        assert sorted({*whole[:, 1]}) == [-2, 1]
        assert np.isnan(whole[:, 2]).sum() == 10

    @pytest.mark.parametrize(("texts", "row"), [(["1", "2", "3", "x"], 3), (["2020-01-01", "2020-01-01", "2020-01-02", "soon"], 3)])
    def test_a_text_among_others_is_named_with_its_row(self, tmp_path: Path, texts: list[str], row: int) -> None:
        book = Workbook()
        for each in ["a", *texts]:
            book.worksheets[0].append([each, 1])
        book.save(tmp_path / "a.xlsx")
        with pytest.raises(DataError, match=f"'{texts[-1]}' in row {row} "):
            load(tmp_path / "a.xlsx")


def long_dates() -> pa.DictionaryArray:
    """A date, and a long text in all other rows."""
    return pa.DictionaryArray.from_arrays(pa.array([0] + [1] * ROWS, pa.int32()), pa.array(["2020-01-01", LONG]))


def saved(folder: Path, table: pa.Table, features: dict[str, object]) -> Path:
    folder.mkdir()
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    with pa.OSFile(str(folder / "data.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    return folder


class TestTexts:
    def test_of_a_dictionary_are_no_dates_one_by_one(self, tmp_path: Path) -> None:
        parquet.write_table(pa.table({"a": long_dates(), "b": np.arange(ROWS + 1) / 2}), tmp_path / "a.parquet", compression="zstd")
        cheap(tmp_path / "a.parquet")
        cheap(saved(tmp_path / "folder", pa.table({"a": long_dates(), "b": np.arange(ROWS + 1) / 2}), {}))

    def test_of_classes_are_held_once(self, tmp_path: Path) -> None:
        table = pa.table({"a": np.arange(ROWS) % 2, "b": np.arange(ROWS) / 2})
        folder = saved(tmp_path / "folder", table, {"a": {"_type": "ClassLabel", "names": ["b", LONG]}})
        cheap(folder)
        assert load(folder).types[0].record() == {"type": "category", "values": [LONG, "b"], "form": "string"}

    def test_that_an_index_does_not_find_are_refused(self, tmp_path: Path) -> None:
        folder = saved(tmp_path / "folder", pa.table({"a": ["x", "y"] * 9, "b": np.arange(18) / 2}), {})
        content = (folder / "data.arrow").read_bytes()
        ends = np.arange(19, dtype="<i4").tobytes()
        (folder / "data.arrow").write_bytes(content.replace(ends, ends[:-4] + b"\xff\xff\xff\x7f"))
        assert (folder / "data.arrow").read_bytes() != content
        with pytest.raises(DataError, match="cannot be read"):
            load(folder)

    @pytest.mark.parametrize("write", [parquet.write_table, None])
    def test_that_all_differ_become_no_objects(self, tmp_path: Path, write: Callable[[pa.Table, Path], None] | None) -> None:
        texts, path = [f"u{k * 7919 % 80_021}" for k in range(80_000)], tmp_path / ("a.parquet" if write else "a.csv")
        if write:
            write(pa.table({"a": texts, "b": np.arange(80_000) % 7 / 2}), path)
        else:
            path.write_text("a,b\n" + "".join(f"{text},{k % 7 / 2}\n" for k, text in enumerate(texts)))
        attempt(lambda: load(path), tmp_path, 0, held)
        data = load(path)
        values = data.types[0].values  # pyright: ignore[reportAttributeAccessIssue]
        assert isinstance(values, Vocabulary)
        assert list(values) == sorted(texts)
        at = {text: k for k, text in enumerate(sorted(texts))}
        whole = {*data.train[:, 0].tolist(), *data.test[:, 0].tolist()}
        assert whole == {float(k) for k in at.values()}

    def test_to_fill_are_refused_if_memory_has_no_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sdezoo.data.reading.LARGEST", 2**23)
        texts = pa.array(["b", LONG] * 9)
        parquet.write_table(pa.table({"a": texts, "b": [None, 1.5] * 9}), tmp_path / "a.parquet")
        filling = {"b": Filling(np.array([True, False] * 9), [pa.array([2.5] * 18)])}
        with pytest.raises(DataError, match="more than"):
            fill_parquet(tmp_path / "a.parquet", io.BytesIO(), filling, 1)


def test_a_directory_of_many_columns_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({f"c{k}": [1.5, 2.5] for k in range(1000)})
    parquet.write_table(table, tmp_path / "a.parquet", write_statistics=False, store_schema=False)
    monkeypatch.setattr("sdezoo.data.opening.table._SLACK", 2**21)
    with pytest.raises(DataError, match="1000 columns, more than"):
        load(tmp_path / "a.parquet")
    monkeypatch.setattr("sdezoo.data.opening.table._SLACK", 0)
    with pytest.raises(DataError, match="a directory of"):
        load(tmp_path / "a.parquet")


class TestPages:
    @pytest.mark.parametrize("codec", ["none", "snappy", "gzip", "zstd"])
    @pytest.mark.parametrize("version", ["1.0", "2.0"])
    def test_say_how_long_texts_are(self, tmp_path: Path, codec: str, version: str) -> None:
        """Exactly: of texts one after the other their bytes and lengths, of a dictionary the longest."""
        texts, path = [f"{k:05}" + "ü" * (k % 9) for k in range(4000)], tmp_path / "a.parquet"
        layout: dict[str, Any] = {"compression": codec, "data_page_version": version, "data_page_size": 4096, "row_group_size": 1500}
        parquet.write_table(pa.table({"b": [1.5] * 4000, "a": texts}), path, use_dictionary=False, **layout)
        found = of(path)
        held = sum(len(text.encode()) + 4 for text in texts)
        assert held <= found.plain < 1.02 * held  # and which are missing
        assert (found.longest, found.understood) == (0, True)
        assert 4096 < found.largest < 2 * 4096 + 64 * 1024
        parquet.write_table(pa.table({"b": [1.5] * 4000, "a": texts}), path, dictionary_pagesize_limit=2**20, **layout)
        assert (of(path).plain, of(path).longest) == (0, 5 + 2 * 8)

    def test_of_long_texts_are_not_read_one_by_one(self, tmp_path: Path) -> None:
        """After a dictionary of short texts, a page may hold long ones: those of many rows are held once."""
        path, long = tmp_path / "a.parquet", ["a" * 10**5] * 300
        parquet.write_table(
            pa.table({"a": [*map(str, range(2000)), *long], "b": np.arange(2300) % 7 / 2}),
            path,
            compression="zstd",
            dictionary_pagesize_limit=4096,
            write_batch_size=10,
        )
        assert path.stat().st_size < 2**17
        assert of(path).plain > 2**24
        assert pa.types.is_dictionary(read_table(path)["a"].type)
        assert _one_by_one(path, ["a"]) == set()
        parquet.write_table(pa.table({"a": [f"{k:012}" for k in range(2000)]}), path, use_dictionary=False)
        assert _one_by_one(path, ["a"]) == {"a"}

    def test_that_are_too_large_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "a.parquet"
        parquet.write_table(pa.table({"a": ["a" * 10**5] * 40, "b": np.arange(40) / 2}), path, compression="zstd", use_dictionary=False)
        monkeypatch.setattr("sdezoo.data.opening.table._SLACK", 2**20)
        with pytest.raises(DataError, match=r"Column 'a' of .* has a page of 4000\d+ bytes"):
            load(path)


def of(path: Path) -> TextPages:
    with parquet.ParquetFile(path) as file, path.open("rb") as content:
        return text_pages(content, file.metadata, file.schema_arrow.names.index("a"), 2**24)
