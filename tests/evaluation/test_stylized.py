"""Stylized facts of laws whose facts are known."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from sdezoo.evaluation.measures.stylized import Fact, returns, stylized_facts
from sdezoo.evaluation.table import number

N, L = 800, 40


def facts(r: np.ndarray, **options: int) -> dict[str, Fact]:
    return {
        fact.name.split(" of ")[0] if "tail" in fact.name else fact.name.partition(",")[0]: fact for fact in stylized_facts(r, **options)
    }


def holds(fact: Fact, value: float) -> None:
    assert fact.low <= fact.value <= fact.high
    assert fact.low - (fact.high - fact.low) / 2 <= value <= fact.high + (fact.high - fact.low) / 2, "within about 4 errors"


def test_tail_exponent_of_a_pareto_law() -> None:
    rng = np.random.default_rng(0)
    found = facts(rng.choice([-1, 1], (N, L)) * (1 + rng.pareto(3, (N, L))))
    holds(found["tail exponent"], 3)
    for name in ("autocorrelation of returns", "autocorrelation of |returns|", "leverage"):
        assert found[name].high - found[name].low < 0.05
        holds(found[name], 0)


def test_autocorrelation_of_an_autoregression() -> None:
    rng = np.random.default_rng(1)
    r = rng.standard_normal((N, L))
    for k in range(1, L):
        r[:, k] = 0.4 * r[:, k - 1] + np.sqrt(1 - 0.16) * r[:, k]
    holds(facts(r)["autocorrelation of returns"], 0.4)


def test_clusters_of_volatility_and_leverage() -> None:
    rng = np.random.default_rng(2)
    scale = rng.choice([1.0, 3.0], (N, 1))
    clustered = facts(scale * rng.standard_normal((N, L)))["autocorrelation of |returns|"]
    holds(clustered, (2 / np.pi) / (5 - 4 * 2 / np.pi))  # Var(s) E|ε|² / (E s² − E²s E²|ε|), with s of mean 2 and variance 1
    e = rng.standard_normal((N, L))
    fallen = e.copy()
    fallen[:, 1:] *= np.where(e[:, :-1] < 0, 2, 1)
    assert facts(fallen)["leverage"].high < 0
    assert facts(-fallen)["leverage"].low > 0


def test_intervals_of_overlapping_windows_are_as_wide_as_of_what_they_are_cut_from() -> None:
    r = np.random.default_rng(3).standard_normal(N * L // 4)
    whole = facts(r.reshape(-1, L))["autocorrelation of returns"]
    cut = facts(sliding_window_view(r, L)[::2].copy(), overlap=L // 2)["autocorrelation of returns"]
    ratio = (cut.high - cut.low) / (whole.high - whole.low)
    assert 0.7 < ratio < 1.3
    assert cut.high - cut.low == pytest.approx(2 * 1.96 / np.sqrt(len(r)), rel=0.3)


def test_the_tail_of_returns_whose_largest_is_in_many_windows_is_open_above() -> None:
    r = np.random.default_rng(1).standard_normal(60)
    r[[20, 40]] = 9
    tail = facts(sliding_window_view(r, 15).copy(), overlap=15)["tail exponent"]
    assert 0 < tail.low < tail.value < tail.high == np.inf
    assert number(tail.high) == "∞"
    assert number(np.nan) == "–"


def test_returns_and_what_has_none() -> None:
    windows = np.exp(np.cumsum(np.full((2, 5, 1), 0.1), 1))
    np.testing.assert_allclose(returns(windows, relative=True), 0.1)
    np.testing.assert_allclose(returns(np.log(windows), relative=False), 0.1)
    assert all(np.isnan(fact.value) for fact in stylized_facts(np.zeros((4, 6))))
