"""Where rows become a batch: both ends of a bridge, and labels that the network is told."""

import torch
from torch import Tensor

from sdezoo.training.batches import BatchMaker

CLEAN, END = torch.arange(10.0)[:, None], 100 + torch.arange(20.0)[:, None]
ROWS = torch.tensor([7, 0, 3])


def clean(rows: Tensor) -> Tensor:
    return CLEAN[rows]


def end(rows: Tensor) -> Tensor:
    return END[rows]


def test_rows_are_coupled_with_the_other_end() -> None:
    """Row `i` of `x1` is the end that row `i` of `x0` was coupled with; by default the one of the same number."""
    batch = BatchMaker(clean, end).make(ROWS)
    assert batch.x1 is not None
    assert torch.equal(batch.x1 - batch.x0, torch.full((3, 1), 100.0))
    batch = BatchMaker(clean, end).make(ROWS, ends=torch.tensor([19, 19, 2]))
    assert torch.equal(batch.x0, CLEAN[ROWS])
    assert batch.x1 is not None
    assert batch.x1.flatten().tolist() == [119, 119, 102]


def test_there_is_no_other_end_but_of_a_bridge() -> None:
    batch = BatchMaker(clean).make(ROWS)
    assert batch.x1 is None
    assert batch.condition is None


def test_labels_are_left_out_where_they_are_dropped_or_unknown() -> None:
    maker = BatchMaker(clean, labels=torch.tensor([0, 1, 2, 3, 4, 0, 1, 2, 3, 4]), unlabelled=3)
    known = maker.make(torch.arange(5)).condition
    assert known is not None
    assert known.tolist() == [0, 1, 2, 3, 3]
    dropped = maker.make(torch.arange(5), dropped=torch.tensor([True, False, False, False, False])).condition
    assert dropped is not None
    assert dropped.tolist() == [3, 1, 2, 3, 3]
