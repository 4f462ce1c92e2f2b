"""What is outside a support is counted by values, or by rows where the support judges rows."""

import torch
from torch.distributions import constraints

from sdezoo.process.columns import count_outside


def test_values_are_counted_one_by_one():
    x = torch.tensor([[1.0, -1.0], [torch.inf, torch.nan]])
    assert count_outside(constraints.positive, x) == 3
    assert count_outside(constraints.real, x) == 2


def test_a_support_of_rows_counts_rows_also_where_rows_and_columns_are_as_many():
    x = torch.tensor([[0.5, 0.5], [0.9, 0.9]])
    assert count_outside(constraints.simplex, x) == 1
    assert count_outside(constraints.simplex, torch.tensor([[0.2, 0.3, 0.5]])) == 0
    assert count_outside(constraints.independent(constraints.real, 1), torch.tensor([[torch.nan, 1.0], [2.0, 3.0]])) == 1
