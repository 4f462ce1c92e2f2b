"""Conditions on columns: how they are read, refused and met."""

import datetime
import math
from pathlib import Path

import pytest
import torch

from sdezoo.data.codecs.relations import DifferenceCodec
from sdezoo.data.column_types import TimeType
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError, ParameterError, SdezooError
from sdezoo.generation.conditions import Condition, Values, conditions, parse
from sdezoo.generation.given import Given
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, generate
from sdezoo.process.affine import AffineSDE
from sdezoo.runs.estimator import DiffusionModel
from sdezoo.runs.train import train
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import SDES

SMALL = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = str(tmp_path_factory.mktemp("wine") / "run")
    return restore(train(TrainingConfig.build({**SMALL, "data": "wine", "sde": "gbm", "out": out})).run)


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("a=1", 1, 1),
        ("a=1.0..1.2", 1, 1.2),
        ("a=..2", -math.inf, 2),
        ("a=-3e1..", -30, math.inf),
    ],
)
def test_values_and_intervals_are_read(text: str, low: float, high: float) -> None:
    assert parse(text, ["a"]) == Condition("a", low, high)


def test_the_longest_name_that_fits_is_taken() -> None:
    assert parse("a=b=2", ["a", "a=b"]) == Condition("a=b", 2, 2)
    assert conditions({"a": 1, "b": (None, 2)}, ["a", "b"]) == [Condition("a", 1, 1), Condition("b", -math.inf, 2)]


@pytest.mark.parametrize(
    "given",
    [["a"], ["c=1"], ["a="], ["a=.."], ["a=x"], ["a=1..y"], ["a=2..1"], ["a=nan"], ["a=inf"], ["a=1", "a=2"], {"c": 1}, {"a": (1, 2, 3)}],
)
def test_other_texts_are_refused(given: list[str] | Values) -> None:
    with pytest.raises(SdezooError) as told:
        conditions(given, ["a", "b"])
    assert isinstance(told.value, ParameterError | DataError)


UTC = datetime.UTC


@pytest.mark.parametrize(
    ("arrow", "value", "low"),
    [
        ("timestamp[us, tz=Europe/Berlin]", "2021-01-01", 1609455600),
        ("timestamp[us, tz=Europe/Berlin]", "2021-01-01T00:00:00Z", 1609459200),
        ("timestamp[us, tz=Europe/Berlin]", datetime.datetime(2021, 1, 1), 1609455600),
        ("timestamp[us, tz=Europe/Berlin]", datetime.datetime(2021, 1, 1, tzinfo=UTC), 1609459200),
        ("duration[us]", "3000000", 3),
        ("duration[us]", datetime.timedelta(seconds=3), 3),
        ("time64[us]", "10:30", 37800),
        ("time64[us]", datetime.time(10, 30), 37800),
    ],
)
def test_times_are_those_of_the_column(arrow: str, value: object, low: float) -> None:
    kind = TimeType(arrow, 0, 10**6)
    assert conditions({"a": value}, ["a"], [kind]) == [Condition("a", low, low)]  # type: ignore[dict-item]
    with pytest.raises(ParameterError, match="not a date or time") as raised:
        conditions({"a": "soon"}, ["a"], [kind])
    shown = raised.value.remedy.removeprefix("Give one such as ").removesuffix(", or LOW..HIGH.")
    assert conditions({"a": shown}, ["a"], [kind])[0].low == 0


def test_an_interval_selects_among_the_models_samples(trained: Trained) -> None:
    sampler = choose_sampler(trained, None)
    free = generate(trained, sampler, 40, steps=5).x
    column = trained.state.columns[0]
    all_of_them = generate(trained, sampler, 40, steps=5, given=Given.of([f"{column}=..1e9"], trained)).x
    torch.testing.assert_close(all_of_them, free, rtol=1e-4, atol=0)
    middle = float(free[:, 0].median())
    drawn = generate(trained, sampler, 40, steps=5, given=Given.of([f"{column}={middle}.."], trained)).x
    assert (drawn[:, 0] >= middle).all()
    accepted = free[:, 0] >= middle
    torch.testing.assert_close(drawn[accepted], free[accepted], rtol=1e-4, atol=0)


def test_values_are_met_exactly_and_a_sample_depends_on_its_index_alone(trained: Trained) -> None:
    first, second = trained.state.columns[:2]
    given = Given.of({first: 13.25, second: (1.5, None)}, trained)
    sampler = choose_sampler(trained, None)
    x = generate(trained, sampler, 12, steps=6, given=given).x
    assert (x[:, 0] == 13.25).all()
    assert (x[:, 1] >= 1.5).all()
    assert (x > 0).all()
    draw = Draw(trained, sampler, SampleIndices.parse("7,2-3"), 6, given=given)
    torch.testing.assert_close(draw.together().x, x[[7, 2, 3]], rtol=1e-3, atol=0)
    assert len(draw.conditional.effective) == 3


@pytest.mark.parametrize(
    ("value", "problem"),
    [("-3", "the first is -3 in column"), ("1e30", "outside the support of the model"), ("5e7..6e7", "Rows of the model")],
)
def test_what_the_model_never_draws_is_refused(trained: Trained, value: str, problem: str) -> None:
    given = Given.of([f"{trained.state.columns[0]}={value}"], trained)
    with pytest.raises(DataError, match=problem):
        generate(trained, choose_sampler(trained, None), 2, steps=3, given=given)


def test_a_difference_is_known_if_both_columns_are() -> None:
    encoding = Encoding((DifferenceCodec((0, 2), (1, 0)),))
    given = torch.tensor([[True, False, False], [False, False, True], [True, True, True]])
    # The columns 0 and 2, in the order column 2 <= column 0, stand before the rest.
    assert encoding.known(given).tolist() == [[False, False, False], [False, True, False], [True, True, True]]


def test_the_estimator_takes_conditions(tmp_path: Path) -> None:
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)).numpy()
    model = DiffusionModel(**SMALL, sampling_steps=4).fit(x)
    drawn = model.sample(5, given={"x0": 0.5, "x1": (0.0, None)})
    assert (drawn[:, 0] == 0.5).all()
    assert (drawn[:, 1] >= 0).all()


@pytest.mark.parametrize("spec", ["product:gbm[0;2],zero-inflated[1;3]", "zero-inflated", "walls", "lift:transform=stick-breaking", "gbm"])
def test_known_entries_of_a_state_are_those_that_other_columns_do_not_move(spec: str) -> None:
    sde = SDES.build(spec)
    assert isinstance(sde, AffineSDE)
    rows = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25]], dtype=torch.float64)
    for known in ([False, True, False, True], [True, False, False, False], [True] * 4):
        mask = torch.tensor(known)
        others = torch.where(mask, rows[:1], rows)
        z = sde.encode(others)
        fixed = sde.known_entries(mask.expand(3, -1))
        assert fixed.shape == z.shape
        assert (z == z[:1])[fixed].all()
        assert bool(fixed[0].all()) == bool(mask.all())
