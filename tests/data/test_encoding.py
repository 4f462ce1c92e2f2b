"""Laws of `sdezoo.data.encoding`: every codec is undone, wherever it stands, and final rows are what a user may have."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from sdezoo.data import encoding as module
from sdezoo.data.codecs.codec import AffineCodec, Codec
from sdezoo.data.column_types import typed_columns
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError, RunError

finite = st.floats(-1e4, 1e4, width=32)
scales = st.floats(1e-3, 1e3).flatmap(lambda s: st.sampled_from([s, -s]))


class Plain(Codec):
    """What the codecs below share: columns alone are recorded."""

    def log_det(self, raw: Tensor) -> Tensor | None:
        return None

    def parameters(self) -> dict[str, Any]:
        return {"columns": self.columns}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        return cls(tuple(values["columns"]))  # pyright: ignore[reportCallIssue]


@dataclass(frozen=True)
class Mark(Plain):
    """A value that may be missing (NaN): the value, or 0, and a mark beside it."""

    columns: tuple[int, ...]
    kind: ClassVar[str] = "mark"
    width: ClassVar[int] = 2

    def encode(self, raw: Tensor) -> Tensor:
        return torch.cat([raw.nan_to_num(0), raw.isnan().double()], -1)

    def decode(self, x: Tensor) -> Tensor:
        return torch.where(x[..., 1:] > 0.5, math.nan, x[..., :1])


@dataclass(frozen=True)
class Five(Plain):
    """A column that is 5 in every row."""

    columns: tuple[int, ...]
    kind: ClassVar[str] = "five"
    width: ClassVar[int] = 0

    def encode(self, raw: Tensor) -> Tensor:
        return raw[..., :0]

    def decode(self, x: Tensor) -> Tensor:
        return torch.full((len(x), 1), 5.0, dtype=torch.float64)


@dataclass(frozen=True)
class Since(Plain):
    """Whole numbers by their distance from 2⁶², which float64 does not hold to the digit."""

    columns: tuple[int, ...]
    kind: ClassVar[str] = "since"
    dtype: ClassVar[torch.dtype] = torch.int64

    def encode(self, raw: Tensor) -> Tensor:
        return (raw - 2**62).double()

    def decode(self, x: Tensor) -> Tensor:
        return x.round().long() + 2**62


@dataclass(frozen=True)
class Log(Plain):
    columns: tuple[int, ...]
    kind: ClassVar[str] = "log"

    def encode(self, raw: Tensor) -> Tensor:
        return raw.log_()

    def decode(self, x: Tensor) -> Tensor:
        return x.exp_()

    def log_det(self, raw: Tensor) -> Tensor:
        return -raw.log().sum(-1)


TYPES: tuple[type[Codec], ...] = (Mark, Five, Since, Log)


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    for codec in TYPES:
        monkeypatch.setitem(module.CODECS, codec.kind, codec)


def again(encoding: Encoding) -> Encoding:
    """As a run folder gives it back."""
    return Encoding.from_json(json.loads(json.dumps(encoding.to_json())))


@given(st.lists(st.tuples(scales, st.floats(-1e4, 1e4), finite), min_size=1, max_size=5))
def test_decoding_undoes_an_affine_map_to_the_rounding_of_float32(columns: list[tuple[float, float, float]]) -> None:
    scale, shift, raw = torch.tensor(columns, dtype=torch.float64).unbind(1)
    encoding = Encoding.affine(scale, shift)
    x = encoding.encode(raw[None].float())
    assert x.dtype == torch.float32
    tolerance = 2**-23 * (x.double().abs() / scale.abs() + raw.abs()) + 1e-40
    assert ((encoding.decode(x) - raw).abs() <= tolerance).all()


@given(st.lists(st.tuples(scales, st.floats(-1e4, 1e4), finite), min_size=1, max_size=5))
def test_one_affine_codec_is_the_formula_in_float64_to_the_bit(columns: list[tuple[float, float, float]]) -> None:
    scale, shift, raw = np.array(columns).T
    encoding = Encoding.affine(torch.tensor(scale), torch.tensor(shift))
    x = encoding.encode(torch.tensor(raw[None], dtype=torch.float32))
    assert np.array_equal(x.numpy()[0], (np.float32(raw).astype(np.float64) * scale + shift).astype(np.float32))
    assert np.array_equal(encoding.decode(x).numpy()[0], ((x.numpy()[0].astype(np.float64) - shift) / scale).astype(np.float32))


@given(st.lists(st.tuples(scales, st.floats(-1e300, 1e300)), min_size=1, max_size=3))
def test_json_gives_back_the_very_same_affine_codec(columns: list[tuple[float, float]]) -> None:
    scale, shift = torch.tensor(columns, dtype=torch.float64).unbind(1)
    for encoding in (Encoding.affine(scale, shift), Encoding.affine(scale[0], shift[0], ("int64", "float64"))):
        [codec], [other] = again(encoding).codecs, encoding.codecs
        assert isinstance(codec, AffineCodec)
        assert isinstance(other, AffineCodec)
        assert torch.equal(codec.scale, other.scale)
        assert torch.equal(codec.shift, other.shift)
        assert again(encoding).types == encoding.types


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"codecs": [{"codec": "affine", "scale": 1, "shift": 0}]},
        {"codecs": [{"codec": "affine", "scale": 1}], "types": []},
        {"codecs": [{"codec": "affine", "scale": "a", "shift": 0}], "types": []},
        {"codecs": [{"codec": "affine", "scale": [1, [2]], "shift": 0}], "types": []},
        {"codecs": [{"codec": "unheard-of"}], "types": []},
        {"codecs": ["affine"], "types": []},
        {"codecs": [], "types": ["object"]},
        {"codecs": [], "types": [3]},
        {"codecs": [], "types": ["no such type"]},
    ],
)
def test_a_damaged_record_is_refused(record: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="damaged"):
        Encoding.from_json(record)


@pytest.mark.parametrize(("scale", "shift"), [(0.0, 0.0), (math.nan, 0.0), (1.0, math.inf)])
def test_a_map_without_inverse_is_refused(scale: float, shift: float) -> None:
    with pytest.raises(DataError, match="finite"):
        Encoding.affine(scale, shift)


@pytest.mark.parametrize("rows", [torch.ones(3, 2, dtype=torch.float64), [torch.ones(3, dtype=torch.float64) for _ in range(2)]])
def test_an_encoding_leaves_its_argument_alone(rows: Tensor | list[Tensor]) -> None:
    encoding = Encoding((Log((1,)), AffineCodec(torch.tensor(2.0), torch.tensor(3.0))))
    encoding.encode(rows)
    encoding.log_det(rows)
    assert all((column == 1).all() for column in rows)
    if isinstance(rows, Tensor):
        encoding.decode(rows)
        assert (rows == 1).all()


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0), (2, 0, 1)])
def test_codecs_stand_in_any_column_and_make_any_number_of_them(order: tuple[int, ...]) -> None:
    """A value with a mark, a constant and a plain column, in every order, and an affine map of all that they become."""
    values = [torch.tensor([1.5, math.nan, -2.0]), torch.tensor([5.0, 5.0, 5.0]), torch.tensor([0.25, 7.0, 9.0])]
    raw = torch.stack([values[i] for i in order], 1)
    marked, constant = order.index(0), order.index(1)
    first = Mark((marked,))
    second = Five((constant + (constant > marked),))
    scale, shift = torch.tensor([2.0, -4.0, 0.5]), torch.tensor([1.0, 2.0, 3.0])
    encoding = again(Encoding((first, second, AffineCodec(scale, shift))))
    x = encoding.encode(raw)
    assert x.shape == (3, 3)
    assert encoding.encoded_event((3,)) == tuple(x.shape[1:])
    assert torch.equal(encoding.encode(list(raw.unbind(1))), x)
    assert torch.equal(encoding.decode(x).nan_to_num(-1e9), raw.nan_to_num(-1e9))
    assert encoding.log_det(raw) is None


def test_a_row_of_constants_alone_comes_back() -> None:
    encoding = Encoding((Five((1,)),))
    raw = torch.tensor([[1.0, 5.0], [2.0, 5.0]])
    x = encoding.encode(raw)
    assert encoding.encoded_event((2,)) == (1,)
    assert torch.equal(x, raw[:, :1])
    assert torch.equal(encoding.decode(x), raw)


def test_codecs_of_columns_take_the_columns_of_paths() -> None:
    raw = torch.rand(4, 6, 2) + 1
    encoding = Encoding((Log((1,)),))
    x = encoding.encode(raw)
    assert torch.equal(x[..., 0], raw[..., 0])
    torch.testing.assert_close(x[..., 1], raw[..., 1].log())
    torch.testing.assert_close(encoding.decode(x), raw)


def test_whole_numbers_that_float64_does_not_hold_are_exact_as_columns() -> None:
    numbers = torch.tensor([2**62 + 1, 2**62 - 3, 2**62 + 2**20 + 7])
    encoding = again(Encoding((Since((0,)),), ("int64", "float64")))
    x = encoding.encode([numbers, torch.tensor([0.5, 1.5, 2.5])])
    assert x.dtype == torch.float32
    found, others = encoding.decode_columns(x)
    assert found.dtype == torch.int64
    assert torch.equal(found, numbers)
    assert others.tolist() == [0.5, 1.5, 2.5]


@given(st.lists(st.tuples(st.floats(0.125, 100), st.floats(0.125, 100)), min_size=1, max_size=4))
def test_log_det_is_that_of_the_jacobian(rows: list[tuple[float, float]]) -> None:
    """Three codecs one after the other, `2 ln x + 1` and `ln(3 y + 1)`: by automatic differentiation, row by row."""
    raw = torch.tensor(rows, dtype=torch.float64)
    encoding = Encoding((Log((0,)), AffineCodec(torch.tensor([2.0, 3.0]), torch.tensor([1.0, 1.0])), Log((1,))))
    found = encoding.log_det(raw)
    assert found is not None
    for row, value in zip(raw, found, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda x: torch.stack([2 * x[0].log() + 1, (3 * x[1] + 1).log()]), row)
        assert isinstance(jacobian, Tensor)
        assert float(value) == pytest.approx(float(jacobian.det().abs().log()))


def test_an_encoding_of_other_rows_is_told() -> None:
    assert Encoding.affine(torch.ones(3), torch.ones(3)).encoded_event((3,)) == (3,)
    assert Encoding.affine(1.0, 0.0).encoded_event((1, 8, 8)) == (1, 8, 8)
    assert Encoding((Mark((1,)),)).encoded_event((4, 2)) == (4, 3)
    assert Encoding((Mark((1,)),)).encoded_event((10**12, 10**12)) == (10**12, 10**12 + 1), "no row of that size is made"
    for encoding in (Encoding.affine(torch.ones(2), torch.ones(2)), Encoding.affine(1.0, 0.0, ("int64",)), Encoding((Log((5,)),))):
        with pytest.raises(DataError, match="damaged"):
            encoding.encoded_event((3,))


def test_final_rows_have_whole_numbers_where_the_data_had() -> None:
    encoding = Encoding.affine(2.0, 0.0, ("int64", "float64", "uint8"))
    raw = torch.tensor([[0.4, 0.25, 300.6], [-0.6, 1e-3, -3.5], [2.5e9, 1e30, 4.0]])
    final = encoding.decode(encoding.encode(raw))
    assert final.tolist() == [[0.0, 0.25, 301.0], [-1.0, pytest.approx(1e-3), -4.0], [2.5e9, pytest.approx(1e30), 4.0]]
    assert torch.equal(encoding.decode(encoding.encode(final)), final), "final rows stay as they are"
    columns = typed_columns(final, encoding.types, "abc")
    assert [column.dtype.name for column in columns] == ["int64", "float32", "int64"]
    assert [torch.from_numpy(column).float().tolist() for column in columns] == final.T.tolist(), "the same numbers"
    with pytest.raises(RunError, match="integer column 'c'"):
        typed_columns(1e20 * final, ("float64", "float64", "int8"), "abc")


def test_blocks_of_rows_are_encoded_as_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoding = Encoding.affine(2.0, 1.0, ("int64", "float64"))
    rows = torch.arange(14.0).reshape(7, 2)
    whole, columns = encoding.encode(rows), encoding.encode_exactly(list(rows.unbind(1)))
    monkeypatch.setattr(module, "_ROWS", 3)
    assert torch.equal(encoding.encode(rows), whole)
    assert torch.equal(encoding.encode_exactly(list(rows.unbind(1))), columns)
    assert encoding.encode(rows[:0]).shape == (0, 2)
