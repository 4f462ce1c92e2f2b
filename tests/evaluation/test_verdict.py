"""Two sentences that follow from the figures."""

import pytest

from sdezoo.evaluation.suite import TWO_SAMPLE, Measured
from sdezoo.evaluation.verdict import verdict


def told(value: float, interval: tuple[float, float], floor: float | None = 0.5, **options) -> str:
    return verdict([Measured("rows", TWO_SAMPLE, value, interval, "bootstrap", floor, 0.5)], options.pop("rows", 500), **options)


@pytest.mark.parametrize(
    ("interval", "floor", "differs"),
    [((0.45, 0.55), 0.5, False), ((0.6, 0.7), 0.5, True), ((0.6, 0.7), 0.62, False), ((0.51, 0.6), None, True)],
    ids=["equal", "apart", "no farther than real rows", "apart by chance's accuracy"],
)
def test_samples_differ_if_the_interval_is_above_what_real_rows_reach(interval, floor, differs) -> None:
    assert told(sum(interval) / 2, interval, floor, copies=[]).startswith("A classifier tells samples") is differs


def test_columns_are_judged_at_the_level_of_all_together() -> None:
    columns = [("a", 0.004), ("b", 0.5), ("c", 0.9)]
    assert "no column of numbers differs" in told(0.5, (0.45, 0.55), columns=columns, copies=[])
    assert "these columns differ: a (p 1e-03)" in told(0.5, (0.45, 0.55), columns=[("a", 0.001), *columns[1:]], copies=[])


def test_copies_are_told_and_few_rows_too() -> None:
    assert told(0.5, (0.4, 0.6), copies=["exact copies"]).endswith("by exact copies: do not call them private.")
    assert told(0.5, (0.4, 0.6), copies=[]).endswith("No figure shows that they repeat training rows.")
    assert "where 20 rows show large differences only" in told(0.5, (0.4, 0.6), rows=20)
    assert "large differences" not in told(0.5, (0.4, 0.6), rows=200)
