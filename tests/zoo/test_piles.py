"""Columns whose rows pile up at an end that is not 0: the end comes back exactly, as often as in the data, and nothing lies beyond."""

from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError
from sdezoo.process.columns import piles_up
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.column_options import ColumnOptions
from sdezoo.zoo.column_roles import find_roles
from sdezoo.zoo.columns import choose_process
from sdezoo.zoo.datasets import find_dataset
from sdezoo_plugins.datasets import array

N = 1000


def table(*names: str) -> pandas.DataFrame:
    """The columns of these names, or all."""
    r = np.random.default_rng(0)

    def at(end: float, values: np.ndarray, share: float) -> np.ndarray:
        return np.where(r.random(N) < share, end, values)

    columns = {
        "wage": at(7.25, np.round(7.25 + r.lognormal(1, 0.8, N), 2), 0.12),
        "limit": np.maximum(0.05, r.lognormal(-2, 1, N)),
        "deductible": at(-500, -500 - r.lognormal(5, 1, N), 0.2),
        "dial": np.maximum(-20, r.normal(0, 15, N)),
        "price": np.minimum(50_000, r.lognormal(10.3, 0.6, N)),
        "rain": at(0, r.lognormal(0, 1, N), 0.5),
        "debt": at(0, -r.lognormal(0, 1, N), 0.3),
        "income": r.lognormal(0, 1, N),
        "age": r.integers(18, 90, N),
        "grade": r.choice([1, 2, 3], N, p=[0.8, 0.1, 0.1]),
        "share": at(0.05, r.uniform(0.05, 0.97, N), 0.12),
    }
    return pandas.DataFrame({name: columns[name] for name in names or columns})


ENDS = {"wage": 7.25, "limit": np.float32(0.05), "deductible": -500, "dial": -20}


def read(tmp_path: Path, frame: pandas.DataFrame) -> Data:
    frame.to_csv(tmp_path / "t.csv", index=False)
    return find_dataset(str(tmp_path / "t.csv")).load()


def test_a_column_is_counted_from_a_pile_unless_its_process_ends_there(tmp_path: Path) -> None:
    data = read(tmp_path, table())
    options, reasons = find_roles(data, ColumnOptions())
    assert (options.floors, options.ceilings, options.negative) == (("wage", "limit", "dial"), ("deductible",), ("debt",))
    share = (table().deductible == -500).mean()
    assert f"'deductible' counted down from its greatest value, -500, in {share:.1%} of rows: no sample will be above" in reasons
    assert ColumnOptions.parse(options.others) == options
    spec = choose_process(data, Encoding(options.codecs(data)), options).spec
    assert "zero-inflated[wage;limit;deductible;dial;rain;debt]" in spec
    assert "(walls:low=0.05,high=1.0)[share]" in spec
    kept, _ = find_roles(data, ColumnOptions.parse("wage=gbm,dial=ceiling,limit=category"))
    assert (kept.floors, kept.ceilings) == ((), ("dial", "deductible"))


@pytest.mark.parametrize(
    ("pile", "others", "piled"),
    [(30, 1, True), (29, 1, False), (30, 10, True), (30, 11, False), (300, 70, True), (300, 78, False), (9, 1, False)],
)
def test_a_pile_is_frequent_and_stands_out(pile: int, others: int, *, piled: bool) -> None:
    """3 % of 1000 rows; three times as many as the next values have; more than ten values; ten rows in all."""
    rest = torch.arange(1.0, 1 + (1000 - pile) // others + 1).repeat_interleave(others) if pile > 9 else torch.arange(1.0, 92.0)
    column = torch.cat([torch.zeros(pile), rest])[:1000]
    assert piles_up(column[torch.randperm(len(column), generator=torch.Generator().manual_seed(0))]) is piled


@pytest.mark.parametrize(("others", "piled"), [((100, 200), True), ((100, 200, 300), False), ((2,), False), ((3,), True)])
def test_a_favourite_among_several_is_no_pile(others: tuple[float, ...], *, piled: bool) -> None:
    """Nor is one as frequent as the fifth value after it; two others farther off may be a pile at the other end and a default."""
    often = torch.tensor([0, *others]).repeat_interleave(50)
    assert piles_up(torch.cat([often, torch.arange(1, 802) / 2.5])) is piled


@pytest.mark.parametrize(("least", "floors"), [(7.25, ("1",)), (7.0, ())])
def test_rows_on_the_disk_count_too(least: float, floors: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(array, "IN_MEMORY", 1000)
    monkeypatch.setattr(array, "PART", 1600)
    r = np.random.default_rng(0)
    rows = r.normal(size=(5000, 2))
    rows[:, 1] = np.where(r.random(5000) < 0.2, 7.25, 7.25 + np.exp(rows[:, 1]))
    rows[4321, 1] = least
    np.save(tmp_path / "a.npy", rows)
    data = find_dataset(f"array:path={tmp_path}/a.npy,holdout=0").load()
    assert data.stored is not None
    assert least == 7.25 or data.train[:, 1].min() == 7.25
    assert find_roles(data, ColumnOptions())[0].floors == floors


def test_an_end_is_exactly_zero_and_comes_back(tmp_path: Path) -> None:
    data = read(tmp_path, table(*ENDS))
    options, _ = find_roles(data, ColumnOptions())
    encoding = Encoding.from_json(Encoding(options.codecs(data), data.types).to_json())
    rows = torch.cat([data.train, data.test])
    found = encoding.encode(rows)
    assert torch.equal(found == 0, rows == torch.tensor(list(ENDS.values())))
    assert (found >= 0).all()
    assert torch.equal(encoding.decode(encoding.encode_exactly(rows)), rows)
    assert torch.equal(encoding.decode(torch.zeros(1, 4)), torch.tensor([list(ENDS.values())], dtype=torch.float32))


def test_samples_pile_up_as_the_data_do(tmp_path: Path) -> None:
    """Also with missing values, and beside what is given in the user's units."""
    frame = table(*ENDS)
    frame.loc[::5, "limit"] = np.nan
    read(tmp_path, frame)
    settings = {"net": "mlp:width=32,depth=1", "steps": 200, "batch_size": 128, "device": "cpu", "out": str(tmp_path / "run")}
    result = train(TrainingConfig.build({**settings, "data": str(tmp_path / "t.csv")}))
    assert "column: wage=floor,limit=floor,dial=floor,deductible=ceiling" in (result.run / "config.yaml").read_text()
    n = 2000
    sample(result.run, tmp_path / "x.csv", n=n)
    made = pandas.read_csv(tmp_path / "x.csv")
    for name, end in ENDS.items():
        known, drawn = (each[name].to_numpy(np.float32) for each in (frame, made))
        known, drawn = known[~np.isnan(known)], drawn[~np.isnan(drawn)]
        p = (known == end).mean()
        assert abs((drawn == end).mean() - p) < 4 * (p * (1 - p) * (1 / len(drawn) + 1 / len(known))) ** 0.5, name
        assert (drawn <= end if name == "deductible" else drawn >= end).all(), name
    sample(result.run, tmp_path / "g.csv", n=200, steps=20, given=["wage=..9", "deductible=-500"])
    given = pandas.read_csv(tmp_path / "g.csv")
    assert (given.deductible == -500).all()
    assert set(given.wage.between(7.25, 9)) == {True}
    assert {True, False} == set(given.wage == 7.25)
    with pytest.raises(DataError, match="the first is 5 in column 'wage'"):
        sample(result.run, tmp_path / "h.csv", n=2, given=["wage=5"])


def test_only_numbers_have_an_end(tmp_path: Path) -> None:
    data = read(tmp_path, pandas.DataFrame({"x": [1.5, 2.5], "word": ["a", "b"]}))
    with pytest.raises(DataError, match="'word' does not hold numbers, so it has no ceiling"):
        ColumnOptions.parse("word=ceiling").codecs(data)
