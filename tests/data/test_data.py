"""Laws of `sdezoo.data.dataset`: data get an encoding into a process's domain, and bad data are refused by name."""

import io
import math
import os
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import constraints

from sdezoo.data.bounds import Bounds, Outside
from sdezoo.data.dataset import Data, Kind, StoredRows, split
from sdezoo.data.encoding import Encoding
from sdezoo.data.reading import LARGEST, SHARE, check_size, read_bytes, reading
from sdezoo.data.validation import check, check_finite, find_rows
from sdezoo.errors import DataError
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo.training.preprocessing.refusals import Shift
from sdezoo.zoo.datasets import find_dataset

EMPTY = torch.empty(0)


def table(rows: list[list[float]], names: str = "", test: list[list[float]] | None = None) -> Data:
    train = torch.tensor(rows)
    held_out = torch.empty(0, train.shape[1]) if test is None else torch.tensor(test)
    return Data(train, held_out, "table", tuple(names.split()))


def images(values: Tensor | None = None) -> Data:
    train = torch.arange(32.0).reshape(4, 1, 2, 4) / 31 if values is None else values
    return Data(train, train[:0], "image")


finite = st.floats(-1e4, 1e4, width=32)


@pytest.mark.parametrize(
    ("support", "low", "high"),
    [
        (constraints.positive, 1.0, 2.0),
        (constraints.nonnegative, 0.0, 1.0),
        (constraints.independent(constraints.positive, 3), 1.0, 2.0),
        (constraints.real, -1.0, 1.0),
        (constraints.independent(constraints.real, 3), -1.0, 1.0),
        (constraints.unit_interval, 0.0, 1.0),
    ],
)
def test_images_go_where_the_support_admits_them(support: constraints.Constraint, low: float, high: float) -> None:
    data = images()
    for shift in (None, "auto"):
        x = fit_encoding(data, support, shift).encode(data.train)
        assert (x.min(), x.max()) == (low, high)


class Above(constraints.Constraint):
    """A third party's positive values: nothing that `fit_encoding` could know by name."""

    def check(self, value: Tensor) -> Tensor:
        return value > 0


def test_a_third_partys_constraint_is_found_out_by_asking() -> None:
    assert fit_encoding(images(), Above()).codecs[0].shift == 1
    with pytest.raises(DataError, match="zero or negative, in column 0"):
        fit_encoding(table([[0.0], [1.0]]), Above())


def test_tables_are_standardised_on_the_real_line_and_constant_columns_only_centred() -> None:
    data = table([[1.0, 5.0, 1e30], [2.0, 5.0, 2e30], [6.0, 5.0, 3e30]])
    x = fit_encoding(data, constraints.real).encode(data.train)
    torch.testing.assert_close(x.mean(0), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(0), torch.tensor([1.0, 0.0, 1.0]))


def test_positive_tables_stay_in_their_units() -> None:
    affine = fit_encoding(table([[0.5, 1.0], [2.0, 3.0]]), constraints.positive)
    assert affine.codecs[0].scale == 1
    assert affine.codecs[0].shift == 0


def test_auto_gives_zeros_half_of_the_smallest_positive_value() -> None:
    affine = fit_encoding(table([[0.0, 3.0], [4.0, 1.0], [6.0, 2.0]], "a b"), constraints.positive, "auto")
    assert affine.codecs[0].shift.tolist() == [2.0, 0.0]


def test_auto_looks_at_held_out_rows_too() -> None:
    data = table([[1.0], [2.0]], test=[[-1.0]])
    assert fit_encoding(data, constraints.positive, "auto").codecs[0].shift.tolist() == [2.0]


def test_auto_starts_a_column_of_one_value_at_one_and_bridges_a_near_tie() -> None:
    data = table([[-3.0, -1.0], [-3.0, -1.0 + 1e-6], [-3.0, 9.0], [-3.0, 9.0]])
    x = fit_encoding(data, constraints.positive, "auto").encode(data.train)
    assert (x[:, 0] == 1).all()
    assert x[:, 1].log().min() == pytest.approx(math.log(1e-6 / 2), abs=0.1)
    data = table([[-1.0], [-1.0 + 1e-6], [9.0]])
    assert fit_encoding(data, constraints.positive, "auto").encode(data.train).min() == pytest.approx(1e-6 / 2, rel=0.1)
    data = table([[-1.0], [-1.0 + 1e-6], [9.0], [9.0], [9.0]])
    assert fit_encoding(data, constraints.positive, "auto").encode(data.train).min() == pytest.approx(0.01, rel=1e-3)


@example([(0.0, 0.0), (0.0, 2**-149)])  # half of the smallest number is zero
@given(st.lists(st.tuples(finite, finite), min_size=2, max_size=8))
def test_auto_makes_any_table_positive_and_is_undone(rows: list[tuple[float, float]]) -> None:
    data = table([list(row) for row in rows])
    affine = fit_encoding(data, constraints.positive, "auto")
    x = affine.encode(data.train)
    assert (x > 0).all()
    torch.testing.assert_close(affine.decode(x), data.train, rtol=1e-6, atol=1e-2)
    untroubled = (data.train > 0).all(0)
    assert (affine.codecs[0].shift[untroubled] == 0).all()
    assert (affine.codecs[0].shift[~untroubled] > 0).all()


@pytest.mark.parametrize("support", [constraints.positive, constraints.real])
def test_a_number_or_none_is_taken_at_its_word(support: constraints.Constraint) -> None:
    data = table([[1.0, 2.0], [3.0, 4.0]])
    assert torch.equal(fit_encoding(data, support, "none").encode(data.train), data.train)
    assert torch.equal(fit_encoding(data, support, 0.5).encode(data.train), data.train + 0.5)


def test_a_refusal_counts_and_names_the_columns() -> None:
    names = "a b c d e f g h"
    data = table([[0.0] * 7 + [1.0], [-1.0] + [0.0] * 6 + [1.0]], names)
    with pytest.raises(DataError) as refusal:
        fit_encoding(data, constraints.positive)
    assert refusal.value.problem == (
        "14 values are zero or negative, in columns 'a' (2), 'b' (2), 'c' (2), 'd' (2), 'e' (2) and 2 more, down to -1, "
        "such as in training row 0 (counted from 0)."
    )
    assert "--shift auto" in refusal.value.remedy
    assert "another SDE" in refusal.value.remedy


def test_a_refused_row_is_named_by_its_line_wherever_it_went(tmp_path: Path) -> None:
    """Training or held out, before and after rows with missing values are left out: there are two lines before row 0."""
    for wrong in range(1, 12):
        rows = [f'"a\nb{i}",{-i if i == wrong else i + 1}' if i else "c," for i in range(12)]
        (tmp_path / "t.csv").write_text("\n".join(["# comment", "word,size", *rows]) + "\n")
        data = find_dataset(f"table:path={tmp_path / 't.csv'},holdout=0.3").load().select([1])
        for found in (data, data.where(lambda rows: ~rows.isnan().any(1))):
            row = find_rows(found, lambda rows: (rows < 0).any(1))
            assert row == (1, f"line {2 * wrong + 2} of '{tmp_path / 't.csv'}'")
        with pytest.raises(
            DataError, match=rf"1 value is zero or negative, in column 'size' \(1\), down to -{wrong}, in line {2 * wrong + 2} of"
        ):
            fit_encoding(found, constraints.positive)


def test_processes_that_take_zeros_are_named_where_only_zeros_are_in_the_way() -> None:
    for data, shift, named in ((table([[0.0], [1.0]]), None, True), (images(), "none", True), (table([[-1.0], [0.0]]), None, False)):
        with pytest.raises(DataError) as refusal:
            fit_encoding(data, constraints.positive, shift)
        assert ("an SDE that allows zeros, such as " in refusal.value.remedy) is named
        assert ("zero-inflated" in refusal.value.remedy) is named


@pytest.mark.parametrize(
    ("data", "support", "shift", "says"),
    [
        (table([[1.0], [-1.0]], "a"), constraints.positive, None, r"1 value is zero or negative, in column 'a' \(1\)"),
        (table([[1.0], [-1.0]], "a"), constraints.nonnegative, None, r"1 value is negative, in column 'a' \(1\)"),
        (table([[1.0], [2.0]], test=[[-1.0]]), constraints.positive, "none", r"1 value .* column 0 \(1\)"),
        (table([[1.0], [-1.0]]), constraints.positive, 0.5, r"after the shift by 0\.5.* Give --shift auto"),
        (table([[1e-30], [1.0]]), constraints.positive, -1.0, r"after the shift by -1\.0"),
        (images(), constraints.positive, "none", r"1 value is zero or negative\. Omit --shift"),
        (table([[1.0], [7.0]]), constraints.unit_interval, "auto", r"1 value is outside .* Rescale"),
        (table([[1.0], [7.0]]), constraints.greater_than(5.0), None, r"1 value is below .* give --shift auto"),
        (table([[0.5, 0.5], [1.0, 1.0]]), constraints.simplex, None, r"1 row is outside .*, the simplex.* Divide each row"),
        (table([[0.5, 0.5], [1.0, 1.0]]), constraints.simplex, "auto", r"1 row is outside the support of the SDE, the simplex"),
    ],
)
def test_data_that_the_process_cannot_live_on(data: Data, support: constraints.Constraint, shift: Shift, says: str) -> None:
    with pytest.raises(DataError, match=says):
        fit_encoding(data, support, shift)


def test_every_chunk_of_rows_is_checked() -> None:
    values = torch.ones(10_000, 2)
    values[9_999, 1] = -1
    with pytest.raises(DataError, match=r"column 1 \(1\)"):
        fit_encoding(Data(values, values[:0], "points"), constraints.positive)


def test_nan_and_infinity_come_before_everything_else() -> None:
    with pytest.raises(DataError, match=r"1 missing \(NaN\) and 1 infinite .* values, the first in row 1, column 'b'"):
        fit_encoding(table([[-1.0, 0.0], [2.0, math.nan], [math.inf, 1.0]], "a b"), constraints.positive)
    with pytest.raises(DataError, match=r"held-out data have 1 infinite .* value, the first in row 0, column 0 "):
        fit_encoding(table([[1.0], [2.0]], test=[[-math.inf]]), constraints.positive)
    pixels = images().train.clone()
    pixels[2, 0, 1, 3] = math.nan
    with pytest.raises(DataError, match=r"image 2, channel 0, pixel \(1, 3\)"):
        fit_encoding(images(pixels), constraints.real)
    with pytest.raises(DataError, match=r"position \(1,\)"):
        check_finite(torch.tensor([0.0, math.nan]))


@pytest.mark.parametrize(
    ("train", "kind", "says"),
    [
        (torch.ones(0, 2), "points", "too few training rows: 0"),
        (torch.ones(1, 2), "points", "too few training rows: 1"),
        (torch.ones(3), "points", r"shape \(3,\), which is not \(N, d\)"),
        (torch.ones(3, 2, 2), "table", r"shape \(3, 2, 2\)"),
        (torch.ones(3, 0), "points", r"shape \(3, 0\)"),
        (torch.ones(3, 8, 8), "image", r"which is not \(N, C, H, W\)"),
        (torch.full((3, 1, 2, 2), 255.0), "image", "Divide them by 255"),
        (torch.full((3, 1, 2, 2), -0.5), "image", r"Store \(x \+ 1\) / 2\."),
    ],
)
def test_data_of_the_wrong_shape_or_size(train: Tensor, kind: Kind, says: str) -> None:
    with pytest.raises(DataError, match=says):
        fit_encoding(Data(train, train[:0], kind), constraints.real)


def test_parts_names_and_labels_must_agree() -> None:
    two = torch.ones(2, 2)
    for data, says in [
        (Data(two, torch.ones(1, 3), "points"), "Held-out rows"),
        (Data(two, two, "table", ("a",)), "1 column names for 2 columns"),
        (Data(two, two, "points", train_labels=torch.zeros(3)), "2 training rows"),
        (Data(two, two, "points", test_labels=torch.zeros(2, 1)), "2 held-out rows"),
    ]:
        with pytest.raises(DataError, match=says):
            fit_encoding(data, constraints.real)


def test_values_outside_are_counted_and_measured_without_a_change() -> None:
    data = table([[0.0, 5.0], [1.0, 6.0]], test=[[2.0, 4.0]])
    low, high = data.bounds
    assert low.tolist() == [0.0, 4.0]
    assert high.tolist() == [2.0, 6.0]
    samples = torch.tensor([[2.0, 6.0], [2.5, 3.9], [-0.1, 5.0]])
    before = samples.clone()
    found = Bounds(low, high).outside(samples)
    assert (found.count, found.by) == (3, ", by up to 25 % of its width")
    assert found.farthest == pytest.approx(0.25)
    assert torch.equal(samples, before)
    assert Bounds(low, high).outside(samples[:1]) == Outside(0, 0.0)
    found = Bounds(*images().bounds).outside(torch.tensor([[[[0.0, 1.0, 1.25, -0.5]]]]))
    assert (found.count, found.farthest) == (2, 0.5)


def test_what_rounding_brings_back_is_not_outside() -> None:
    """By half a step of the images' own lattice; whole numbers are whole when they are counted."""
    low, high = torch.tensor(0.0), torch.tensor(1.0)
    pixels = torch.tensor([-0.031, 1.031, -0.032, 1.05])  # half a step is 0.03125
    assert Bounds(low, high, levels=16).outside(pixels).count == 2
    assert Bounds(low, high).outside(pixels).count == 4
    low, high = torch.zeros(2), torch.full((2,), 10.0)
    rows = torch.tensor([[10.4, 10.4], [-0.5, 0.0], [12.0, -0.1]])
    final = Encoding.affine(1.0, 0.0, ("int64", "float32")).decode(rows)
    found = Bounds(low, high).outside(final)
    assert (found.count, found.farthest) == (3, pytest.approx(0.2))


def test_a_constant_column_has_no_width_to_measure_in() -> None:
    found = Bounds(torch.tensor([3.0]), torch.tensor([3.0])).outside(torch.tensor([[3.0], [5.0]]))
    assert (found.count, found.farthest) == (1, 2.0)


def test_parts_add_up() -> None:
    assert Outside(2, 0.1) + Outside() + Outside(1, 0.3) == Outside(3, 0.3)


@given(st.integers(2, 60), st.floats(0, 1))
def test_a_split_keeps_every_row_once_and_in_order(rows: int, holdout: float) -> None:
    values, labels = torch.arange(rows)[:, None].float(), torch.arange(rows)
    first, second = (split(values, "points", holdout=holdout, labels=labels) for _ in range(2))
    assert torch.equal(first.train, second.train)
    assert len(first.test) == round(holdout * rows)
    assert torch.equal(torch.cat([first.train, first.test]).flatten().sort().values, values.flatten())
    for part, classes in ((first.train, first.train_labels), (first.test, first.test_labels)):
        assert classes is not None
        assert torch.equal(part.flatten().long(), classes)
        assert (classes.diff() > 0).all()


def test_what_goes_wrong_while_reading_is_one_sentence_and_a_remedy() -> None:
    with pytest.raises(DataError, match=r"There is no file or folder 'nowhere'\. Check the path\."), reading("f", "x"):
        open("nowhere").close()
    with pytest.raises(DataError, match=r"'f' cannot be read as a thing \(a b\)\. Check that"), reading("f", "a thing"):
        raise ValueError("a\n b.")
    with pytest.raises(DataError, match="EOFError"), reading("f", "a thing"):
        raise EOFError
    with pytest.raises(DataError, match="own words"), reading("f", "a thing"):
        raise DataError("own words", "")
    with pytest.raises(KeyError), reading("f", "a thing"):
        raise KeyError
    with pytest.raises(DataError, match="declares"):
        check_size("f", LARGEST)


class Listed(StoredRows):
    """Rows that a list holds, as a data set of a third party may keep them."""

    def __init__(self, values: Tensor) -> None:
        self.values, self.most = values, 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Tensor) -> Tensor:
        self.most = max(self.most, len(index))
        return self.values[index]


def test_stored_rows_are_all_looked_at_block_by_block() -> None:
    values = torch.linspace(0, 1, 3 * 2**21)[:, None]
    stored = Listed(values)
    data = Data(values[:100], values[:7] - 5, "points", stored=stored)
    check(data)
    assert data.rows == len(values)
    assert [bound.tolist() for bound in data.bounds] == [[-5.0], [1.0]]
    assert sum(map(len, data.blocks())) == len(values) + 7
    assert stored.most * 4 <= 2**24
    values[5_000_000] = math.nan
    with pytest.raises(DataError, match=r"training data have 1 missing \(NaN\) value, the first in row 5000000, column 0"):
        check(data)
    pixels = torch.zeros(5, 1, 2, 2)
    pixels[4] = 7
    with pytest.raises(DataError, match="Divide them by 255"):
        check(Data(pixels[:2], pixels[:0], "image", stored=Listed(pixels)))
    with pytest.raises(DataError, match="stay on the disk have no labels"):
        check(Data(pixels[:2], pixels[:0], "image", train_labels=torch.zeros(2), stored=Listed(pixels[:4])))


@pytest.mark.parametrize("label", [-1, 2**16, 10**12])
def test_a_label_is_the_number_of_a_class_that_a_network_can_be_told(label: int) -> None:
    two = torch.ones(2, 2)
    with pytest.raises(DataError, match=f"labels range from .*{label}"):
        check(Data(two, two, "points", train_labels=torch.tensor([0, label])))


def test_no_more_is_read_than_memory_has(monkeypatch: pytest.MonkeyPatch) -> None:
    free = 1000
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    check_size("f", free // (4 * SHARE))
    with pytest.raises(DataError, match="more memory than"):
        check_size("f", free // (4 * SHARE) + 1)


def test_memory_is_taken_as_bytes_come_not_as_they_are_promised() -> None:
    tracemalloc.start()
    with pytest.raises(EOFError):
        read_bytes(io.BytesIO(bytes(1000)), 2**30)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
    assert read_bytes(io.BytesIO(b"cdef"), 4, b"ab") == b"abcd"


def test_devices_and_pipes_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.npy")
    for path in (tmp_path / "pipe.npy", "/dev/zero"):
        with pytest.raises(DataError, match="a device or a pipe"), reading(path, "a thing"):
            raise AssertionError
