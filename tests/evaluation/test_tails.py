"""The tail report: Hill's index and its interval, what is compared, and the warning of noise that is too light."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from sdezoo.evaluation import suite
from sdezoo.evaluation.comparison import Parts, columns
from sdezoo.evaluation.measures.tails import ROWS, Contrast, Tail, contrasts, hill
from sdezoo.runs.evaluate import _out_of_reach
from sdezoo.zoo.registry import SDES

REPEATS = 200
# Of 200 right intervals of level 0.95, fewer than 180 or more than 198 hold the truth in 1 of 300 runs each.
HELD = range(180, 199)


def coverage(law, index, n):
    rng = np.random.default_rng(0)
    tails = [hill(law(rng, n)) for _ in range(REPEATS)]
    return sum(tail.low <= index <= tail.high for tail in tails)


@pytest.mark.parametrize("index", [1.5, 2.5])
@pytest.mark.parametrize("n", [100, 1000, 20_000])
def test_intervals_hold_the_index_of_pareto_as_often_as_they_say(index, n):
    assert coverage(lambda rng, n: rng.pareto(index, n) + 1, index, n) in HELD


@pytest.mark.parametrize("nu", [1.5, 2.5])
def test_and_that_of_student(nu):
    assert coverage(lambda rng, n: np.abs(rng.standard_t(nu, n)), nu, 4000) in HELD


LATTICES = {
    "rare events": lambda rng, n: rng.poisson(0.2, n),
    "Poisson 1": lambda rng, n: rng.poisson(1, n),
    "Poisson 10": lambda rng, n: rng.poisson(10, n),
    "geometric": lambda rng, n: rng.geometric(0.5, n),
    "geometric, long": lambda rng, n: rng.geometric(0.1, n),
    "rounded normal": lambda rng, n: np.abs(np.round(2 * rng.standard_normal(n)) / 2),
    "rounded Pareto": lambda rng, n: np.round(rng.pareto(2.5, n) + 1),
    "marks of 1 to 5": lambda rng, n: rng.integers(1, 6, n),
}


@pytest.mark.parametrize("n", [100, 1000])
@pytest.mark.parametrize("law", LATTICES.values(), ids=LATTICES)
def test_equal_distributions_on_a_lattice_are_rarely_apart(law, n):
    """Two right intervals of level 0.95 for one truth do not meet in 0.6 % of pairs; of 300 pairs 9 or more in 1 of 10 000 runs."""
    rng = np.random.default_rng(0)
    pairs = [(hill(law(rng, n)), hill(law(rng, n))) for _ in range(300)]
    assert sum(a.high < b.low or b.high < a.low for a, b in pairs if np.isfinite([a.index, b.index]).all()) < 9
    assert not all(np.isinf(a.index) for a, _ in pairs)


def test_rounding_keeps_the_index_of_pareto():
    assert coverage(lambda rng, n: np.round(rng.pareto(1.5, n) + 1, 1), 1.5, 1000) in HELD
    assert coverage(lambda rng, n: np.round(rng.pareto(1.5, n) + 1), 1.5, 1000) in HELD


@pytest.mark.parametrize("law", ["uniform", "normal", "exponential", "poisson"])
def test_light_tails_are_not_heavy(law):
    """A test of level 0.025 calls 17 or more of 300 heavy in 1 of 1000 runs."""
    rng = np.random.default_rng(0)
    draw = {
        "uniform": rng.random,
        "normal": lambda n: np.abs(rng.standard_normal(n)),
        "exponential": lambda n: rng.exponential(size=n),
        "poisson": lambda n: rng.poisson(2.0, n),
    }[law]
    assert sum(hill(draw(1000)).heavy for _ in range(300)) < 17


def test_heavy_tails_are_heavy():
    """With `γ = 1/a` and `k = 63`, `γ̂` is above twice its deviation but for one of 50, a = 1.5."""
    rng = np.random.default_rng(0)
    assert sum(hill(rng.pareto(1.5, 1000) + 1).heavy for _ in range(200)) > 180
    assert not hill(np.round(rng.exponential(size=1000))).heavy


def test_no_light_tail_is_heavier():
    light, lighter = Tail(6.0, 5.0, 7.5, heavy=False), Tail(20.0, 15.0, 26.0, heavy=False)
    assert not light.heavier(lighter)
    assert Tail(6.0, 5.0, 7.5).heavier(lighter)


def test_the_index_is_hills():
    """With `n = 4` all but the least value count: `1/â = mean(ln(8), ln(4), ln(2)) = 2 ln 2`."""
    tail = hill([1.0, 8.0, 2.0, 4.0])
    assert tail.index == pytest.approx(1 / (2 * math.log(2)))
    assert (tail.low, tail.high) == pytest.approx(tail.index * stats.chi2.ppf([0.025, 0.975], 6) / 6)


def test_no_tail_and_no_end_of_it():
    assert hill(np.zeros(100)) is None
    assert hill([0.0, 0.0, 1.0]) is None
    assert hill(np.ones(100)).index == math.inf
    assert hill([0.0] * 98 + [1.0, math.e]).index == pytest.approx(1)


def test_intervals_that_do_not_meet_are_apart():
    heavy, light = Tail(1.5, 1.2, 1.9), Tail(3.0, 2.4, 3.8)
    assert heavy.heavier(light)
    assert not light.heavier(heavy)
    assert not heavy.heavier(Tail(2.0, 1.8, 2.4))


def rows(n=2000, seed=0):
    """A heavy column far from 0 with both signs, a light one, a constant one."""
    rng = np.random.default_rng(seed)
    return np.stack([7 + rng.standard_t(1.5, n), 1e6 * rng.standard_normal(n), np.full(n, 3.0)], 1)


def test_the_heaviest_column_in_its_own_unit_makes_the_tail_of_rows():
    found = {c.name: c for c in contrasts("abc", rows(seed=0), rows(seed=1), rows(seed=2))}
    assert found["a"].data.low < 1.5 < found["a"].data.high
    assert found[ROWS].data.low < 1.5 < found[ROWS].data.high
    assert found["b"].data.low > 3
    assert found["c"].data.index == math.inf
    assert not any(c.data.heavier(c.samples) or c.samples.heavier(c.data) for c in found.values())


def test_zeros_are_no_tail_of_their_own():
    rain = np.where(np.arange(2000) % 3 > 0, 0.0, np.random.default_rng(0).pareto(1.5, 2000) + 1)[:, None]
    (whole, column) = contrasts("a", rain, rain, rain)
    assert whole.data == column.data
    assert column.data.low < 1.5 < column.data.high
    assert contrasts("a", 0 * rain, rain, rain) == []


def test_the_report_names_columns_that_are_lighter(monkeypatch):
    monkeypatch.setattr(suite, "c2st", lambda *a, seed: np.zeros(4))
    data = [torch.from_numpy(rows(400, seed)).float() for seed in range(3)]
    light = data[1].clone()
    light[:, 0] = 7 + torch.randn(400, generator=torch.Generator().manual_seed(0))
    quiet = {"names": "abc", "seed": 0, "progress": lambda *_: None}
    found = columns(Parts(light, data[0], data[2], data[2]), "t", **quiet)
    assert any(note.startswith("Columns whose tails are lighter than the data's, by index: a (") for note in found.notes)
    measured = {m.name: m for m in found.measured}[f"tail index, {ROWS}"]
    assert measured.error == "exact"
    assert measured.best < 1.9 < measured.interval[0]
    tails = {tail["name"]: tail for tail in found.facts["tails"]}
    assert tails["c"]["data"]["index"] is None
    heavy = columns(Parts(data[0], light, data[2], data[2]), "t", **quiet)
    assert any("heavier" in note for note in heavy.notes)
    same = columns(Parts(data[1], data[0], data[2], data[2]), "t", **quiet)
    assert not any("tails" in note for note in same.notes)


HEAVY, LIGHT = Tail(1.5, 1.2, 1.9), Tail(4.0, 3.0, 5.0)


@pytest.mark.parametrize(
    ("data", "samples", "tail", "warns"),
    [
        (HEAVY, LIGHT, math.inf, "a tail that decays faster than any power"),
        (HEAVY, LIGHT, 3.0, "tail index 3.00"),
        (HEAVY, LIGHT, 1.5, None),  # the noise would do: it was not learnt
        (HEAVY, HEAVY, math.inf, None),  # nothing is missed
        (LIGHT, HEAVY, math.inf, None),
    ],
)
def test_a_warning_where_the_noise_is_too_light(data, samples, tail, warns):
    sde = SimpleNamespace(tail=tail, title=lambda: "mine")
    found = _out_of_reach([Contrast("a", data, samples, data)], sde)
    assert len(found) == (warns is not None)
    if warns:
        assert found[0].startswith("Warning: the tail index of the data is 1.50 (a), that of samples 4.00.")
        assert f"The noise of 'mine' has {warns}" in found[0]
        assert "student-t" in found[0]


def test_noise_on_the_real_line_is_not_advised_for_positive_data():
    sde = SimpleNamespace(tail=math.inf, title=lambda: "mine")
    (found,) = _out_of_reach([Contrast("a", HEAVY, LIGHT, HEAVY, positive=True)], sde)
    assert "student-t" not in found
    assert "for non-negative data: log-laplace" in found


def test_no_warning_for_light_tails():
    sde = SimpleNamespace(tail=math.inf, title=lambda: "mine")
    assert _out_of_reach([Contrast("a", Tail(1.5, 1.2, 1.9, heavy=False), LIGHT, HEAVY)], sde) == []


def test_the_sign_of_columns_is_known():
    found = {c.name: c for c in contrasts("abc", rows(seed=0), rows(seed=1), np.abs(rows(seed=2)) * [1, 1, -1])}
    assert [found[name].positive for name in (ROWS, "a", "b", "c")] == [True, True, True, False]


def test_processes_say_how_heavy_their_noise_is():
    assert SDES.build("vp").tail == SDES.build("gbm").tail == math.inf
    assert SDES.build("student-t:nu=3").tail == 3
