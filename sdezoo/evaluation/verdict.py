"""The answer of an evaluation in two sentences: whether samples can be told from real rows, and whether they repeat training rows.

The first is the two-sample test: samples count as different if the interval of a random forest's accuracy lies above the accuracy that
real rows reach, or if a column is rejected at the 1 % level of all columns together (Bonferroni). The second is that of the privacy
figures, see `sdezoo.evaluation.privacy`.
"""

from __future__ import annotations

from collections.abc import Sequence

from sdezoo.errors import shortened
from sdezoo.evaluation.suite import SIGNIFICANT, TWO_SAMPLE, Measured
from sdezoo.evaluation.table import number

_CHANCE = 0.5
_FEW = 100


def verdict(
    measured: Sequence[Measured], rows: int, columns: Sequence[tuple[str, float]] = (), copies: Sequence[str] | None = None, real: str = ""
) -> str:
    """Say in two sentences what an evaluation has found.

    Args:
        measured: the measures.
        rows: number of rows of each kind that are compared.
        columns: name and p-value of the test of each column.
        copies: figures by which samples repeat training rows; None: not judged.
        real: what real rows are called, such as `held-out rows`.
    """
    return f"{difference(measured, rows, columns, real or 'held-out rows')} {_copies(copies)}"


def difference(measured: Sequence[Measured], rows: int, columns: Sequence[tuple[str, float]], real: str) -> str:
    """Say in a sentence whether samples can be told from real rows; arguments as for `verdict`."""
    apart = [f"{name} (p {p:.0e})" for name, p in sorted(columns, key=lambda pair: pair[1]) if p < SIGNIFICANT / len(columns)]
    named = shortened(apart)
    test = next((line for line in measured if line.name == TWO_SAMPLE), None)
    if test is None or test.interval is None:
        return f"These columns differ from {real}: {named}." if named else f"No column of numbers differs from {real}."
    floor = _CHANCE if test.floor is None else test.floor
    figures = f"right in {number(test.value)} of cases, and in {number(floor)} of real rows; 0.5 is chance"
    if test.interval[0] > max(floor, _CHANCE):
        return f"A classifier tells samples from {real} ({figures})" + (f"; these columns differ: {named}." if named else ".")
    few = f", where {rows} rows show large differences only" if rows < _FEW else ""
    if named:
        return f"A classifier tells no rows from samples ({figures}), but these columns differ: {named}{few}."
    return f"A classifier cannot tell samples from {real} ({figures}){', and no column of numbers differs' if columns else ''}{few}."


def _copies(copies: Sequence[str] | None) -> str:
    if copies is None:
        return "Whether samples repeat training rows is judged by the distances below."
    if copies:
        return f"They repeat training rows, by {', '.join(copies)}: do not call them private."
    return "No figure shows that they repeat training rows."
