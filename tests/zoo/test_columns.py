"""`--sde auto`: each column gets the process that its values ask for; what users say of columns is obeyed or refused by name."""

import csv
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.data.column_types import NumberType, TimeType
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError, ParameterError, SdezooError
from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.impute import impute
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.column_notation import ordered, setting, summed
from sdezoo.zoo.column_options import ColumnOptions
from sdezoo.zoo.columns import choose_process
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.registry import SDES

N = 600


def columns() -> dict[str, np.ndarray]:
    """One column of each kind."""
    r = np.random.default_rng(0)
    share = r.beta(0.6, 0.6, N)
    soil = r.dirichlet([4, 3, 2], N) * 100
    low = r.normal(10, 3, N)
    return {
        "price": np.exp(r.normal(3, 1, N)),
        "rain": np.where(r.random(N) < 0.6, 0, np.exp(r.normal(0, 1, N))),
        "visits": r.poisson(2, N),
        "cloud": np.where(share < 0.1, 0, np.where(share > 0.9, 1, share)),
        "member": (r.random(N) < 0.3).astype(int),
        "humidity": r.beta(8, 3, N),
        "score": np.clip(np.round(r.normal(60, 30, N)), 0, 100),
        "temperature": r.normal(5, 10, N),
        "year": r.integers(2015, 2024, N),
        "rate": np.full(N, 7.4606),
        "low": low,
        "high": low + np.exp(r.normal(0, 0.5, N)),
        "sand": soil[:, 0],
        "silt": soil[:, 1],
        "clay": 100 - soil[:, 0] - soil[:, 1],
        "depth": -np.exp(r.normal(3, 0.5, N)),
        "debt": np.minimum(0, np.round(r.normal(1, 2, N), 2)),
    }


FITS = {
    "price": "gbm",
    "rain": "zero-inflated",
    "visits": "zero-inflated",
    "cloud": "walls",
    "member": "walls",
    "humidity": "lift:transform=sigmoid",
    "score": "walls:low=0.0,high=100.0",
    "temperature": "vp",
    "year": "gbm",
    "rate": None,
}


def written(path: Path, table: dict[str, np.ndarray]) -> str:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(table)
        out.writerows(zip(*table.values(), strict=True))
    return str(path)


def data_of(table: dict[str, np.ndarray]) -> Data:
    rows = torch.tensor(np.stack(list(table.values()), 1), dtype=torch.float32)
    return Data(rows, rows[:0], "table", tuple(table))


def config(tmp_path: Path, **values: object) -> TrainingConfig:
    small = {"net": "mlp:width=32,depth=1", "steps": 30, "batch_size": 64, "device": "cpu", "out": str(tmp_path / "run")}
    return TrainingConfig.build({**small, **values})


@pytest.mark.parametrize("name", [name for name, spec in FITS.items() if spec])
def test_a_column_alone_gets_its_process(name: str) -> None:
    data = data_of({name: columns()[name]})
    assert choose_process(data, Encoding(()), ColumnOptions()).spec == FITS[name]


def test_the_whole_table(tmp_path: Path) -> None:
    """Every kind of column side by side, all defaults but the steps: what is written has what each column can have, and no more."""
    table = columns()
    path = written(tmp_path / "t.csv", table)
    options = "low<=high,sand+silt+clay=100,member=drop"
    result = train(config(tmp_path, data=path, column=options))
    reasons = " ".join(result.reasons)
    assert "'rate': constant, restored exactly" in reasons
    assert "zero-inflated for 'rain', 'visits', 'debt': not negative, 58.5% zeros" in reasons
    assert "stick-breaking for 'sand', 'silt', 'clay'" in reasons
    trained = restore(result.run)
    made = generate(trained, choose_sampler(trained, None), 400)
    assert list(trained.state.columns) == [name for name in table if name != "member"]
    x = dict(zip(trained.state.columns, made.x.double().numpy().T, strict=True))
    assert (x["rate"] == np.float32(7.4606)).all()
    assert (x["price"] > 0).all()
    assert (x["year"] > 0).all()
    assert (x["rain"] >= 0).all()
    assert 0.2 < (x["rain"] == 0).mean() < 0.9
    for whole in ("visits", "year"):
        assert (x[whole] == x[whole].round()).all()
    for name, end in (("cloud", 1), ("humidity", 1), ("score", 100)):
        assert ((x[name] >= 0) & (x[name] <= end)).all()
    assert {0, 1} <= set(x["cloud"])
    assert (x["low"] <= x["high"]).all()
    assert "'depth', 'debt' with the opposite sign: no value is positive" in reasons
    assert (x["depth"] < 0).all()
    assert (x["debt"] <= 0).all()
    assert 0.2 < (x["debt"] == 0).mean() < 0.95
    assert not np.signbit(x["debt"][x["debt"] == 0]).any()
    np.testing.assert_allclose(x["sand"] + x["silt"] + x["clay"], 100, rtol=1e-6)
    assert min(x["sand"].min(), x["silt"].min(), x["clay"].min()) > 0
    again = TrainingConfig.read(result.run / "config.yaml")
    assert again["sde"].startswith("product:")
    assert "depth=negative,debt=negative" in again["column"]
    assert train(TrainingConfig.build(again | {"steps": 31}), resume=True).steps == 31


def test_what_is_judged_is_what_is_written(tmp_path: Path) -> None:
    """The run and its own written samples get the same figures, to the last digit, columns left out or not."""
    table = {name: columns()[name] for name in ("price", "visits", "member", "temperature", "rate")}
    result = train(config(tmp_path, data=written(tmp_path / "t.csv", table), column="member=drop"))
    found = evaluate(result.run, steps=3)
    from sdezoo.generation.export import write

    trained = restore(result.run)
    made = generate(trained, choose_sampler(trained, None), found.facts.get("samples", 540), steps=3)
    write(made.x, tmp_path / "x.csv", kind="table", columns=tuple(trained.state.columns), types=trained.encoding.types)
    other = evaluate(result.run, samples=tmp_path / "x.csv")
    assert {m.name: m.value for m in other.measured} == {m.name: m.value for m in found.measured}


def test_one_process_for_all_columns_is_no_product() -> None:
    table = columns()
    assert choose_process(data_of({name: table[name] for name in ("price", "year")}), Encoding(()), ColumnOptions()).spec == "gbm"


def test_names_that_a_spec_cannot_hold_are_given_as_numbers() -> None:
    table = {"a;b[c": columns()["price"], "temperature": columns()["temperature"]}
    assert choose_process(data_of(table), Encoding(()), ColumnOptions()).spec == "product:gbm[0],vp[temperature]"


def test_what_holds_in_every_row_is_offered() -> None:
    found = " ".join(choose_process(data_of(columns()), Encoding(()), ColumnOptions()).reasons)
    assert "--column 'low<=high'" in found
    assert "--column 'sand+silt+clay=100'" in found
    assert found.count("--column") == 2


def test_orders_that_are_offered_can_be_kept_together() -> None:
    """A chain is offered whole, whatever the order of the columns, and no column in two; times are compared with times."""
    r = torch.Generator().manual_seed(0)
    open_, close = torch.rand(2, 200, generator=r) + 1
    start = torch.randint(10**6, (200,), generator=r).double()
    table = {"high": torch.maximum(open_, close) + 0.1, "open": open_, "low": torch.minimum(open_, close) - 0.1, "close": close}
    data = data_of({**table, "end": start + torch.randint(1, 999, (200,), generator=r), "start": start, "n": start / 1e9})
    day = TimeType("timestamp[s]", 0)
    data = replace(data, types=(*[NumberType("float64")] * 4, day, day, NumberType("float64")))
    reasons = [one for one in choose_process(data, Encoding((), data.types), ColumnOptions()).reasons if "--column" in one]
    assert [one.partition("--column ")[2] for one in reasons] == ["'low<=open<=high'", "'start<=end'"]
    options = ColumnOptions.parse("low<=open<=high,start<=end")
    assert options.chains == (("low", "open", "high"), ("start", "end"))


def test_sums_of_columns_are_named_with_what_to_do() -> None:
    """Of two columns, signed ones too, or of three neighbours; a column that is next to nothing is no part of a sum."""
    r = torch.Generator().manual_seed(0)
    before, amount = torch.rand(200, generator=r) * 900, torch.randn(200, generator=r)
    quarters = {f"q{k}": torch.rand(200, generator=r) for k in range(1, 5)}
    table = {"amount": amount, "x": torch.randn(200, generator=r), "after": before + amount, "before": before, **quarters}
    table |= {"year": sum(quarters.values()), "dust": torch.rand(200, generator=r) * 1e-9}
    (found,) = [choose_process(data_of(table), Encoding(()), ColumnOptions()).reasons]
    assert [reason for reason in found if "in every row" in reason] == [
        "in every row amount+before=after: keep it with --column 'amount+before=after'",
        "in every row q1+q2+q3+q4=year: keep it with --column 'q1+q2+q3+q4=year'",
    ]
    kept = ColumnOptions.parse("amount+before=after,q1+q2+q3+q4=year")
    choice = choose_process(data_of(table), Encoding(kept.codecs(data_of(table))), kept)
    assert "no process for after: the sum of 'amount', 'before'" in choice.reasons
    assert not any("--column" in reason or "constant" in reason for reason in choice.reasons)
    with pytest.raises(DataError, match="'after' is a sum of others"):
        choose_process(data_of(table), Encoding(()), ColumnOptions.parse("amount+before=after,after=gbm"))
    one = {**table, "after": (before + amount).index_fill(0, torch.tensor([7]), 1.0)}
    assert not any("=after" in reason for reason in choose_process(data_of(one), Encoding(()), ColumnOptions()).reasons)
    assert choose_process(data_of(one), Encoding(()), ColumnOptions.parse("year=drop")).spec


def test_a_sum_of_columns_is_kept(tmp_path: Path) -> None:
    """To the last cent, and of whole numbers, in every row that is written; of missing cells too."""
    random = np.random.default_rng(0)
    net, tax = random.lognormal(3, 1, 300).round(2), random.lognormal(1, 1, 300).round(2)
    men, women = random.poisson(3, 300) + 10**9, random.poisson(2, 300)
    cents = [f"{a:.2f},{b:.2f},{a + b:.2f},{m},{w},{m + w}" for a, b, m, w in zip(net, tax, men, women, strict=True)]
    (tmp_path / "t.csv").write_text("\n".join(["net,tax,gross,men,women,all", *cents]))
    column = "tax+net=gross,men+women=all"
    result = train(config(tmp_path, data=str(tmp_path / "t.csv"), column=column))
    assert column in TrainingConfig.read(result.run / "config.yaml")["column"]
    sample(result.run, tmp_path / "s.csv", n=500, steps=5)
    head, *rows = (line.split(",") for line in (tmp_path / "s.csv").read_text().splitlines())
    assert head == ["net", "tax", "gross", "men", "women", "all"]
    assert len({row[2] for row in rows}) > 100
    for row in rows:
        a, b, c, m, w, n = map(Decimal, row)
        assert a + b == c
        assert m + w == n
    (tmp_path / "holes.csv").write_text("net,tax,gross,men,women,all\n10.50,,,1000000002,3,\n")
    impute(result.run, tmp_path / "holes.csv", tmp_path / "filled.csv")
    (row,) = (line.split(",") for line in (tmp_path / "filled.csv").read_text().splitlines()[1:])
    assert (row[0], *row[3:]) == ("10.50", "1000000002", "3", "1000000005")
    assert Decimal(row[0]) + Decimal(row[1]) == Decimal(row[2])


@pytest.mark.parametrize(
    ("column", "problem", "remedy"),
    [
        ("a+b=d", "'a' and 'b' do not sum to 'd' in 199 rows, such as line 2 of", "Omit 'a\\+b=d', or correct"),
        ("a+b=none", "no column 'none'", "a"),
        ("a+b=c,a<=c", "names 'a' twice", "one sum"),
        ("fine+a=e", "'fine' are finer than those of 'e'", "Omit 'fine\\+a=e'"),
        ("x+y=vp", "no column 'vp'", "Put the name into quotation marks: --column '\"x\\+y\"=vp'"),
        ("a+b=", "is not of a form that is known", "A\\+B=C"),
    ],
)
def test_a_sum_that_cannot_be_kept(column: str, problem: str, remedy: str, tmp_path: Path) -> None:
    r = np.random.default_rng(0)
    a, b, fine = r.poisson(9, 200), r.poisson(4, 200), r.integers(0, 3, 200) / 2
    table = {"a": a, "b": b, "c": a + b, "d": np.where(np.arange(200) == 7, a + b, a + b + 1), "fine": fine}
    table |= {"e": (fine + a).round(), "x+y": r.normal(size=200)}
    rows = [",".join(map(str, row)) for row in zip(*table.values(), strict=True)]
    (tmp_path / "t.csv").write_text("\n".join([",".join(table), *rows]))
    with pytest.raises(SdezooError) as caught:
        train(config(tmp_path, data=str(tmp_path / "t.csv"), column=column))
    assert re.search(problem, caught.value.problem)
    assert re.search(remedy, caught.value.remedy)


def test_distances_from_a_floor_are_no_shares() -> None:
    """Wages from 7.25 to 8.2 end nowhere: that they are less than 1 above the least of them is chance."""
    r = torch.Generator().manual_seed(0)
    wage = 7.25 + (torch.rand(400, generator=r) ** 2 * 0.95).round(decimals=2)
    wage[:60], data = 7.25, data_of({"wage": wage, "x": torch.randn(400, generator=r)})
    options = ColumnOptions.parse("wage=floor")
    choice = choose_process(data, Encoding(options.codecs(data)), options)
    assert "walls" not in choice.spec
    assert "zero-inflated" in choice.spec
    share = data_of({"wage": wage - 7.25, "x": torch.randn(400, generator=r)})
    assert "walls" in choose_process(share, Encoding(()), ColumnOptions()).spec


def test_equal_columns_are_offered_as_an_order_once() -> None:
    low = columns()["low"]
    assert [
        reason for reason in choose_process(data_of({"a": low, "b, c": low}), Encoding(()), ColumnOptions()).reasons if "--" in reason
    ] == ['in every row a<="b, c": keep it with --column \'a<="b, c"\'']


ODD_NAMES = (
    "a,b",
    "a=b",
    "a<=b",
    'a "b"',
    '"q"',
    " lead",
    "size (cm)",
    "x(",
    "y]",
    "drop",
    "a+b",
    "é ü",
    "a\nb",
    "it's",
    '"',
    'a,"b,c"',
    "+",
)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_any_name_of_a_column_can_be_written(name: str) -> None:
    for spec in ("gbm:sigma=1,mu=2", "vp"):
        assert ColumnOptions.parse(f"{setting(name, spec)},z=drop") == ColumnOptions({name: spec}, ("z",))
    for other in set(ODD_NAMES) - {name}:
        options = ColumnOptions(chains=((name, "k"),), groups=(((other, "l"), 1.0),))
        assert options.others == f"{ordered((name, 'k'))},{summed((other, 'l'), '1.0')}"
        assert ColumnOptions.parse(options.others) == options


def test_the_user_is_obeyed() -> None:
    table = {name: columns()[name] for name in ("price", "year")}
    options = ColumnOptions.parse("price=(lift:transform=softplus,low=-1)")
    assert choose_process(data_of(table), Encoding(()), options).spec == "product:(lift:transform=softplus,low=-1)[price],gbm[year]"


@pytest.mark.parametrize(
    ("text", "error", "problem", "remedy"),
    [
        ("rian=drop", DataError, "no column 'rian'", "'rain'"),
        ("temperature=gbm", DataError, r"'gbm' refuses \d+ of 600 values of the column 'temperature'", "temperature=vp"),
        ("rate=(lift:transform=sigmoid,low=0,high=1)", DataError, "refuses the one value of the column 'rate'", "Leave out rate="),
        ("high<=low", DataError, "'high' is above 'low' in 600 rows", "Omit"),
        ("sand+silt=100", DataError, "sums to", "Correct"),
        ("low+temperature=1", DataError, "negative values", "Correct"),
        ("visits+year=100", DataError, "The group visits\\+year sums to", "Correct"),
        ("rain", ParameterError, "column=rain is not", "COLUMN=PROCESS"),
        ("rain=gbm,rain=vp", ParameterError, "names 'rain' twice", "once"),
        ("low<=high,high<=price", ParameterError, "names 'high' twice", "one chain"),
        (",".join(f"{name}=drop" for name in columns()), DataError, "Every column is left out", "Keep"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path: Path, text: str, error: type, problem: str, remedy: str) -> None:
    data = find_dataset(written(tmp_path / "t.csv", columns())).load()
    with pytest.raises(error, match=problem) as raised:
        train(config(tmp_path, column=text), data=data)
    assert remedy in raised.value.remedy
    assert not (tmp_path / "run").exists()


def test_columns_and_a_process_for_all_contradict_each_other(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="--column"):
        train(config(tmp_path, sde="gbm", column="price=gbm"), data=data_of(columns()))


def test_a_table_of_constants_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Every column of the table is constant"):
        train(config(tmp_path), data=data_of({"a": np.full(30, 1.0), "b": np.full(30, 2.0)}))


def test_a_run_whose_columns_were_given_processes_is_resumed(tmp_path: Path) -> None:
    """From its own settings, and from the options that it was started with."""
    data = data_of({name: columns()[name] for name in ("price", "year", "low", "high", "member")})
    options = "price=(lift:transform=softplus,low=-1),low<=high,member=drop"
    train(config(tmp_path, column=options), data=data)
    own = TrainingConfig.read(tmp_path / "run" / "config.yaml")
    assert ColumnOptions.parse(own["column"]).processes == {}
    assert train(TrainingConfig.build(own | {"steps": 31}), data=data, resume=True).steps == 31
    assert train(config(tmp_path, column=options, steps=32), data=data, resume=True).steps == 32


@pytest.mark.parametrize("text", ["typo=drop", "typo<=high", "low+typo=1"])
def test_unknown_columns_are_refused_whatever_the_process(tmp_path: Path, text: str) -> None:
    with pytest.raises(DataError, match="no column 'typo'"):
        train(config(tmp_path, sde="vp", column=text), data=data_of(columns()))
    assert not (tmp_path / "run").exists()


def test_numbers_that_are_names_are_not_mixed_up_with_places() -> None:
    """Columns whose names a spec string does not hold are given by number, and another column may be called by that number."""
    names = ("3", "a,b", "1", "01", "(c", "x")
    rows = torch.stack([torch.randn(200), torch.rand(200)] * 3, 1)
    sde = SDES.build(choose_process(Data(rows, rows[:0], "table", names), Encoding(()), ColumnOptions()).spec)
    assert {part.partition("[")[2] for part in sde.for_columns(names, range(6)).parts} == {"0;2;4]", "1;3;5]"}
