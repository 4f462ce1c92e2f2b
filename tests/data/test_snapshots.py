"""Snapshots and paths: one encoding, one range and one fingerprint for all of their rows, and a sentence where they do not fit."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from sdezoo.data.conversion import from_numbers
from sdezoo.data.dataset import Data, Snapshot
from sdezoo.data.encoding import Encoding
from sdezoo.data.snapshots import joined
from sdezoo.data.validation import check
from sdezoo.errors import DataError
from sdezoo.runs import evaluate as evaluation
from sdezoo.runs import likelihood
from sdezoo.runs.train import train
from sdezoo.store.provenance import fingerprint
from sdezoo.training.config import TrainingConfig
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo.zoo.datasets import find_dataset
from sdezoo.zoo.registry import DATASETS

IDENTITY = Encoding.affine(1.0, 0.0)


def rows(n: int, *event: int, seed: int = 0) -> Tensor:
    return torch.rand(n, *event, generator=torch.Generator().manual_seed(seed))


def snapshots(*later: tuple[float, Tensor]) -> Data:
    first = rows(6, 2)
    return Data(first[:4], first[4:], "points", later=tuple(Snapshot(time, at[:-1], at[-1:]) for time, at in later))


def paths(values: Tensor, times: list[float] | None = None) -> Data:
    known = torch.arange(float(values.shape[1])) if times is None else torch.tensor(times)
    return Data(values, values[:0], "paths", times=known.double())


def test_ends_are_on_a_lattice_if_both_are_on_the_same() -> None:
    images = rows(4, 1, 4, 4)
    for levels, other, both in (
        (255, 255, 255),
        (255, 65535, 65535),
        (1, 255, 255),
        (16, 255, 4080),
        (255, None, None),
        (None, None, None),
    ):
        ends = (Data(images, images[:0], "image", levels=each) for each in (levels, other))
        assert joined(*ends).levels == both


def test_the_ends_of_a_bridge_may_be_tables_that_are_written_otherwise(tmp_path: Path) -> None:
    """Other decimals, steps, offsets, categories and order of columns: a column has the type that holds the values of both."""
    ends = {
        "a": {"price": [k / 4 for k in range(12)], "id": [2_000_000_000 + 3 * k for k in range(12)], "kind": ["u", "v"] * 6,
              "day": [f"2024-01-{k:02d}" for k in range(1, 13)]},
        "b": {"day": [f"2025-01-{k:02d}" for k in range(1, 25, 2)], "kind": ["w", "u"] * 6, "price": list(range(5, 17)),
              "id": [2_000_000_001 + k for k in range(12)]},
    }  # fmt: skip
    for name, columns in ends.items():
        lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True))]
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    both = joined(*(find_dataset(str(tmp_path / f"{name}.csv")).load() for name in ends))
    assert both.columns == tuple(ends["a"])
    for at, columns in zip(both.snapshots, ends.values(), strict=True):
        found = from_numbers(torch.cat([at.train, at.test]), both.columns, both.types).to_pydict()
        for name, values in columns.items():
            assert sorted(map(str, found[name])) == sorted(str(float(value)) if name == "price" else str(value) for value in values)
    (tmp_path / "b.csv").write_text("price,id,kind,day\n" + "x,1,u,2024-01-01\ny,2,v,2024-01-02\n" * 3)
    with pytest.raises(DataError, match=r"differ in the column 'price': number \(float64\) and category"):
        joined(*(find_dataset(str(tmp_path / f"{name}.csv")).load() for name in ends))


def own_times(times: list[list[float]]) -> Data:
    known = torch.tensor(times).double()
    return Data(rows(3, 2, 1), rows(0, 2, 1), "paths", times=known, test_times=known[:0])


def test_each_path_may_have_times_of_its_own(tmp_path: Path) -> None:
    """They stay with their path where some are held out or left out, and they count in the fingerprint."""
    x = torch.arange(40.0).reshape(10, 2, 2)
    np.savez(tmp_path / "paths.npz", x=x.numpy(), times=np.stack([np.arange(10.0), np.arange(10.0) + 1 + np.arange(10.0)], 1))
    data = find_dataset(f"array:path={tmp_path / 'paths.npz'},holdout=0.3").load()
    check(data)
    assert data.times is not None
    assert data.test_times is not None
    assert len(data.test) == 3
    for part, times in ((data.train, data.times), (data.test, data.test_times)):
        assert torch.equal(times[:, 0], part[:, 0, 0].double() / 4)
    kept = data.where(lambda some: some[:, 0, 0] > 16)
    assert torch.equal(kept.times[:, 0], kept.train[:, 0, 0].double() / 4)  # pyright: ignore[reportOptionalSubscript]
    assert fingerprint(data, IDENTITY) != fingerprint(replace(data, test_times=data.test_times + 1), IDENTITY)


def test_one_snapshot_is_at_time_zero() -> None:
    [only] = snapshots().snapshots
    assert only.time == 0
    assert torch.equal(only.train, snapshots().train)


def test_one_encoding_and_one_range_for_all_snapshots() -> None:
    data = snapshots((0.5, rows(5, 2, seed=1) + 10), (2.0, rows(3, 2, seed=2) - 10))
    check(data)
    x = torch.cat([fit_encoding(data, constraints.real).encode(at.train) for at in data.snapshots])
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(x.std(0), torch.ones(2))
    everything = torch.cat([part for at in data.snapshots for part in (at.train, at.test)])
    low, high = data.bounds
    assert torch.equal(low, everything.amin(0))
    assert torch.equal(high, everything.amax(0))
    with pytest.raises(DataError, match=r"6 values are zero or negative, in columns 0 \(3\), 1 \(3\), down to -?\d"):
        fit_encoding(data, constraints.positive)
    encoding = fit_encoding(data, constraints.positive, "auto")
    assert (torch.cat([encoding.encode(part) for at in data.snapshots for part in (at.train, at.test)]) > 0).all()


def test_paths_are_standardised_by_column_over_rows_and_times() -> None:
    values = rows(5, 7, 2) * torch.tensor([1.0, 100.0]) - 3
    data = paths(values)
    check(data)
    encoding = fit_encoding(data, constraints.real)
    x = encoding.encode(values).flatten(0, 1)
    torch.testing.assert_close(x.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(x.std(0), torch.ones(2))
    torch.testing.assert_close(encoding.decode(encoding.encode(values)), values)
    assert [bound.shape for bound in data.bounds] == [(2,), (2,)]
    with pytest.raises(DataError, match=r"zero or negative, in column 0 \(35\)\."):
        fit_encoding(data, constraints.positive)
    assert (fit_encoding(data, constraints.positive, "auto").encode(values) > 0).all()


def test_the_fingerprint_sees_every_snapshot_and_every_time() -> None:
    at = rows(4, 2, seed=1)
    changed = at.clone()
    changed[3, 1] += 2**-20
    some = [
        snapshots(),
        snapshots((1.0, at)),
        snapshots((2.0, at)),
        snapshots((1.0, changed)),
        snapshots((1.0, at.flip(0))),
        snapshots((1.0, at), (2.0, at)),
        paths(rows(3, 4, 2)),
        paths(rows(3, 4, 2), [0, 1, 2, 4]),
        Data(rows(3, 4, 2), rows(3, 4, 2)[:0], "paths"),
    ]
    assert len({fingerprint(data, IDENTITY) for data in some}) == len(some)


def test_the_fingerprint_of_one_snapshot_is_what_it_has_always_been() -> None:
    """A run goes on with the data it began with, also one of an earlier version."""
    data = Data(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[5.0, 6.0]]), "table", ("a", "b"), torch.tensor([0, 1]))
    encoding = Encoding.affine(torch.tensor([1.0, 0.5]), 0.0)
    assert fingerprint(data, encoding) == "0033d1477b4400c79dbf08ef6d996e47df3ed92ac3bb52f0e1030f0ba35c1e6e"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (snapshots((1.0, rows(4, 3))), r"Training rows at time 1 have shape \(3,\), training rows \(2,\)\."),
        (snapshots((1.0, rows(2, 2))), "too few training rows at time 1: 1"),
        (snapshots((1.0, torch.full((4, 2), math.nan))), r"The training \(time 1\) data have 6 missing"),
        (snapshots((1.0, rows(4, 2, 1))), r"The training \(time 1\) data have shape \(3, 2, 1\)"),
        (snapshots((1.0, rows(4, 2)), (1.0, rows(4, 2))), r"at times 0, 1, 1, of which number 2 .* is not later.* in order of"),
        (snapshots((0.0, rows(4, 2))), "of which number 1"),
        (snapshots((-1.0, rows(4, 2))), "of which number 1"),
        (snapshots((math.nan, rows(4, 2))), "of which number 1"),
        (paths(rows(3, 4, 2), [0, 1, 1, 2]), r"times of observation do not increase: number 2 .*, 1, is not later.*Sort"),
        (paths(rows(3, 4, 2), [0, 1, 2, math.inf]), "number 3"),
        (paths(rows(3, 4, 2), [0, 1, 2]), r"4 observations, and times of shape \(3,\)"),
        (paths(rows(3, 4, 2, 1), [0, 1, 2, 3]), r"which is not \(N, T, d\) for kind 'paths'"),
        (Data(rows(3, 4, 2), rows(0, 4, 2), "paths"), "no times of observation"),
        (Data(rows(3, 2), rows(0, 2), "points", times=torch.arange(2.0)), "'points' cannot have times of observation"),
        (own_times([[0, 1], [0, 2], [1, 1]]), r"times of observation of path 2 do not increase: number 1 .*, 1, is not later"),
        (own_times([[0, 1], [0, 2]]), r"2 observations, and times of shape \(2, 2\)\. .* or \(3, 2\) if each path has its own"),
        (replace(own_times([[0, 1], [0, 2], [0, 3]]), test_times=None), "held-out paths do not both have times"),
        (paths(torch.tensor([[[0.0], [math.nan]], [[1.0], [2.0]]])), "the first in path 0, observation 1, column 0"),
    ],
)
def test_what_does_not_fit_is_told(data: Data, says: str) -> None:
    with pytest.raises(DataError, match=says) as refusal:
        fit_encoding(data, constraints.real)
    assert refusal.value.problem.endswith(".")
    assert refusal.value.remedy.endswith(".")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (paths(rows(9, 4, 2)), r"Score learning takes rows of one time, and these data are paths\. Store the rows of one time, x\[:, k\]"),
        (snapshots((1.0, rows(4, 2)), (3.0, rows(4, 2))), r"these data are 3 snapshots\. .* --sde bridge\."),
    ],
)
def test_a_score_is_learned_from_rows_of_one_time(tmp_path: Path, data: Data, says: str) -> None:
    config = TrainingConfig.build({"sde": "vp", "net": "mlp:width=8", "steps": 2, "batch_size": 2, "out": str(tmp_path / "run")})
    with pytest.raises(DataError, match=says):
        train(config, data=data)
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_the_remedy_for_paths_can_be_followed(tmp_path: Path) -> None:
    """The rows of one time, stored as the message says, train; against the paths themselves no run is measured."""
    x = rows(60, 4, 2).numpy()
    np.savez(tmp_path / "paths.npz", x=x, times=np.arange(4))
    np.savez(tmp_path / "points.npz", x=x[:, 2])
    settings = {"sde": "vp", "net": "mlp:width=8,depth=1", "steps": 2, "batch_size": 8}
    with pytest.raises(DataError, match="these data are paths"):
        train(TrainingConfig.build({**settings, "data": f"{tmp_path}/paths.npz", "out": f"{tmp_path}/none"}))
    run = train(TrainingConfig.build({**settings, "data": f"{tmp_path}/points.npz", "out": f"{tmp_path}/run"})).run
    (tmp_path / "points.npz").write_bytes((tmp_path / "paths.npz").read_bytes())
    for measure in (evaluation.evaluate, likelihood.likelihood):
        with pytest.raises(DataError, match="are not those that the run was trained on"):
            measure(run)


def test_a_folder_has_a_file_for_each_snapshot(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    for name, rows in (("day10.npy", x[40:]), ("day2.5.npy", x[:20]), ("day4.npy", x[20:40])):
        np.save(tmp_path / name, rows)
    data = DATASETS.build(f"snapshots:path={tmp_path},holdout=0").load()
    assert [at.time for at in data.snapshots] == [0, 1.5, 7.5]
    for at, rows in zip(data.snapshots, (x[:20], x[20:40], x[40:]), strict=True):
        assert {tuple(row) for row in at.train.tolist()} == {tuple(row) for row in rows.tolist()}
    np.save(tmp_path / "last.npy", x)
    with pytest.raises(DataError, match=r"'.*last.npy' does not have one number"):
        DATASETS.build(f"snapshots:path={tmp_path}").load()
    (tmp_path / "last.npy").rename(tmp_path / "day4.0.npy")
    with pytest.raises(DataError, match="have the same time"):
        DATASETS.build(f"snapshots:path={tmp_path}").load()
    np.save(tmp_path / "day4.0.npy", x[:, :1])
    (tmp_path / "day4.0.npy").rename(tmp_path / "day5.npy")
    with pytest.raises(DataError, match="have 1 columns, and those in"):
        DATASETS.build(f"snapshots:path={tmp_path}").load()
