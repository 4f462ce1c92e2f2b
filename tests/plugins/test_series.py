"""Windows of series: which steps they hold, what is kept apart, and what is refused."""

import re
from datetime import date, timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import constraints

from sdezoo.data.codecs.growth import GrowthCodec
from sdezoo.data.column_types import or_numbers
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError, SdezooError
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo.zoo.registry import DATASETS


def table(folder: Path, columns: dict[str, list]) -> Path:
    path = folder / "x.csv"
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def load(path: Path, **options: object) -> Data:
    words = "".join(f",{key}={value}" for key, value in options.items())
    return DATASETS.build(f"series:path={path}{words}").load()


def growth(encoding: Encoding, start: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
    return encoding.codecs[0].encode(torch.cat([start, rest], 1))


def weekdays(n: int) -> list[date]:
    days = (date(2020, 1, 1) + timedelta(k) for k in range(2 * n))
    return [day for day in days if day.weekday() < 5][:n]


def test_windows_are_stretches_and_no_step_is_in_both_parts(tmp_path: Path) -> None:
    n, window = 200, 8
    data = load(table(tmp_path, {"day": weekdays(n), "x": [float(k) - 50 for k in range(n)]}), window=window, stride=3)
    assert data.kind == "series"
    assert data.form == "real"
    assert data.columns == ("x",)
    assert data.overlap == 3
    steps = [set(rows.flatten().tolist()) for rows in (data.train, data.test)]
    assert torch.equal(data.train[:, 1:] - data.train[:, :-1], torch.ones(len(data.train), window - 1, 1))
    assert torch.equal(data.train[1:, 0] - data.train[:-1, 0], torch.full((len(data.train) - 1, 1), 3.0))
    assert max(steps[0]) + window < min(steps[1]), "one window lies between"
    assert max(steps[1]) > n - 50 - 4


def test_samples_of_levels_are_whole_where_the_data_are_and_have_their_decimals(tmp_path: Path) -> None:
    columns = {
        "n": [k * k % 17 for k in range(200)],
        "x": [f"{k * 7 % 90 / 10:.1f}" for k in range(200)],
        "far": [3 * 10**7 + 10**5 * k + 1 for k in range(200)],
    }
    data = load(table(tmp_path, columns), window=8, columns="(n,x,far)")
    assert data.form == "real"
    encoding = fit_encoding(data, constraints.real)
    x = encoding.encode(data.train)
    assert torch.equal(encoding.decode(x)[..., :2], data.train[..., :2])
    rows = encoding.decode(x + 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).double()
    assert not torch.equal(rows[..., :2], data.train[..., :2].double())
    assert torch.equal(rows[..., 0], rows[..., 0].round())
    torch.testing.assert_close(rows[..., 1], (rows[..., 1] * 10).round() / 10, rtol=0, atol=1e-5)
    assert [str(kind) for kind in or_numbers(encoding.types, 3)] == ["int64", "float64", "float32"], "float32 does not hold the last"
    assert load(table(tmp_path, {"x": [1 + k % 9 for k in range(200)]}), window=8).types == (), "ratios are not whole"


def test_levels_far_from_zero_keep_their_ratios_and_no_decimals_of_the_levels(tmp_path: Path) -> None:
    """Tables count such numbers from their middle; ratios have other decimals than `150000.25`."""
    levels = [150_000 + 0.25 * (k % 7) for k in range(200)]
    data = load(table(tmp_path, {"x": [f"{level:.2f}" for level in levels], "n": [20_000_000 + k % 5 for k in range(200)]}), window=8)
    ratios = torch.tensor([levels[3 + k] / levels[3] for k in range(8)])
    torch.testing.assert_close(data.train[3, :, 0].double(), ratios.double(), rtol=1e-7, atol=0)
    assert data.style is not None
    assert not data.style.decimals
    with pytest.raises(DataError, match=r"column 'x' lies between .* too close together for float32"):
        load(tmp_path / "x.csv", window=8, form="real")


def test_prices_start_at_one_and_come_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    prices = 100 * np.exp(np.cumsum(0.02 * rng.standard_normal((300, 2)), 0))
    data = load(table(tmp_path, {"a": prices[:, 0].tolist(), "b": prices[:, 1].tolist()}), window=16, holdout=0.2)
    assert data.form == "growth"
    assert (data.train[:, 0] == 1).all()
    torch.testing.assert_close(data.train[5].double(), torch.tensor(prices[5:21] / prices[5]), rtol=1e-6, atol=0)
    for stepwise in (True, False):
        encoding = Encoding((GrowthCodec(stepwise),))
        x = encoding.encode(data.train)
        assert x.shape[1:] == encoding.encoded_event(data.event) == (15, 2)
        torch.testing.assert_close(encoding.decode(x), data.train, rtol=1e-6, atol=0)
        again = Encoding.from_json(encoding.to_json())
        assert torch.equal(again.encode(data.train), x)
        raw = data.train[:1].double()
        slope = torch.func.jacrev(partial(growth, again, raw[:, :1]))(raw[:, 1:])
        expected = torch.linalg.slogdet(slope.reshape(30, 30))[1]
        torch.testing.assert_close(encoding.log_det(data.train[:1]), expected[None], rtol=1e-6, atol=1e-9)


def test_windows_cross_neither_gaps_nor_missing_values_nor_series(tmp_path: Path) -> None:
    n = 60
    times = [float(k) + (30 if k >= 20 else 0) for k in range(n)] * 2
    values = [*map(float, range(1, n + 1)), *(1000.0 + k for k in range(n))]
    path = table(tmp_path, {"name": ["a"] * n + ["b"] * n, "t": times, "x": [*values[:40], "", *values[41:]]})
    data = load(path, window=5, key="name", columns="(x,)", longest_gap=1.5, time="t", holdout=0, form="level")
    raw = load(path, window=5, key="name", columns="(x,)", longest_gap=1.5, time="t", holdout=0, form="real").train[:, :, 0]
    assert torch.equal(raw[:, 1:] - raw[:, :-1], torch.ones(len(raw), 4))
    assert not any(torch.isin(torch.tensor(pair), row).all() for row in raw for pair in ((20.0, 21.0), (40.0, 42.0), (60.0, 1000.0)))
    assert len(raw) == (20 - 4) + (20 - 4) + (19 - 4) + (20 - 4) + (40 - 4)
    assert data.form == "level"
    assert any("3 gaps" in note for note in data.notes)
    assert any("1 of 120 rows" in note for note in data.notes)
    bridged = load(path, window=5, key="name", time="t", holdout=0, form="real").train[:, :, 0]
    assert any({40.0, 42.0} <= set(row.tolist()) for row in bridged), "two steps in time are no gap by default"
    untimed = load(path, window=5, key="name", columns="(x,)", holdout=0, form="real").train[:, :, 0]
    assert not any({40.0, 42.0} <= set(row.tolist()) for row in untimed)
    assert len(untimed) == (40 - 4) + (19 - 4) + (60 - 4)


def test_as_much_is_held_out_as_a_window_takes(tmp_path: Path) -> None:
    """Of 100 rows a tenth has no window of 16; one, and 16 rows before it that training does not see, take 32."""
    path = table(tmp_path, {"x": [0.5 + k % 7 for k in range(100)]})
    assert [len(part) for part in (load(path, window=16).train, load(path, window=16).test)] == [53, 1]
    assert len(load(path, window=4).test) == len(load(path, window=4, holdout=0.1).test) == 3
    with pytest.raises(DataError, match="held-out part"):
        load(path, window=30)


def test_whole_numbers_that_count_time_are_no_channel(tmp_path: Path) -> None:
    """Seconds since 1970, and the number of the row, beside prices; a column of cumulative counts, or the only one, is learned."""
    prices = [0.5 + k % 7 for k in range(100)]
    seconds = [1_600_000_000 + 86400 * (k + 2 * (k // 5)) for k in range(100)]
    cumulated = [k * (k + 1) // 2 + 1 for k in range(100)]
    path = table(tmp_path, {"index": list(range(100)), "at": seconds, "price": prices, "cases": cumulated})
    data = load(path, window=4, time="at")
    assert data.columns == ("price", "cases")
    assert "'index' left out: whole numbers that count the rows." in data.notes
    path = table(tmp_path, {"at": seconds, "price": prices})
    data = load(path, window=4)
    assert data.columns == ("price",)
    assert "The column 'at' increases in every row, mostly in equal steps, so it is taken for time." in data.notes
    assert load(path, window=4, columns="(at,price)").columns == ("at", "price")
    assert load(table(tmp_path, {"index": list(range(1, 101))}), window=4).columns == ("index",)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"x": range(1, 30)}, {"window": 64}, r"window of 64 steps is longer than the longest series without a gap, which has 29"),
        ({"x": range(1, 100)}, {"window": 1}, "no series"),
        ({"x": range(1, 100)}, {"window": 16, "holdout": 0.1}, "held-out part .* has 0 windows"),
        ({"x": range(1, 100)}, {"columns": "(y,)"}, "no column 'y'"),
        ({"x": range(1, 100)}, {"key": "y"}, "no column 'y', given as key"),
        ({"x": [1 + k * k % 97 for k in range(99)], "one": [5] * 99}, {"window": 4}, r"'one' is constant.* columns=\(x\)"),
        ({"x": ["a", "b"] * 50}, {}, "no column of numbers"),
        ({"x": range(-50, 50)}, {"form": "growth"}, "zero or negative"),
        ({"t": [*range(50), *range(50)], "x": range(1, 101)}, {"time": "t"}, "do not increase: that of row 50"),
        ({"t": [k**3 for k in range(100)], "x": range(1, 101)}, {"time": "t"}, "irregular"),
        ({"step": range(100), "x": range(1, 101)}, {}, "'step' has a name that tables of samples use"),
        ({"x": [1.0] * 50 + ["inf"] + [1.0] * 49}, {}, "infinite"),
        ({"x": range(1, 101)}, {"form": "log"}, "form"),
        ({"x": range(1, 101)}, {"embargo": -1, "window": 4}, "negative"),
    ],
)
def test_what_is_no_series_is_refused(tmp_path: Path, columns: dict, options: dict, message: str) -> None:
    path = table(tmp_path, {name: list(values) for name, values in columns.items()})
    with pytest.raises(SdezooError, match=message) as refusal:
        load(path, **options)
    if advised := re.search(r"Give (holdout=[\d.]+)", refusal.value.remedy):
        assert len(load(path, **{**options, **dict([advised[1].split("=")])}).test)


def test_a_damaged_codec_is_refused() -> None:
    record = Encoding((GrowthCodec(True),)).to_json()
    record["codecs"][0]["stepwise"] = "yes"
    with pytest.raises(DataError, match="damaged"):
        Encoding.from_json(record)
