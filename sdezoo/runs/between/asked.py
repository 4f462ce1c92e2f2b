"""What is asked of an evaluation between data, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sdezoo.evaluation.sizes import Sizes
from sdezoo.evaluation.suite import Measured
from sdezoo.plots import Figure
from sdezoo.store.restoring import Trained


@dataclass(frozen=True)
class Asked:
    """What is asked of an evaluation.

    Args:
        n: largest number of rows of each kind.
        steps: sampler steps, in each span; of paths, between two observations; None: the usual number.
        seed: random seed.
        sampler: spec string of the sampler; None: the preferred one.
        device: device of the models.
    """

    n: int
    steps: int | None
    seed: int
    sampler: str | None
    device: torch.device


@dataclass(frozen=True, eq=False)
class Found:
    """The result.

    Args:
        source: where the samples come from, in words.
        sizes: numbers of rows compared.
        measured: lines of the table.
        notes: notes below it.
        facts: further entries of the record.
        verdict: the answer.
        picture: the picture.
    """

    source: str
    sizes: Sizes
    measured: list[Measured]
    notes: list[str]
    facts: dict[str, Any]
    verdict: str
    picture: Figure


def count_outside_range(x: Tensor, trained: Trained) -> tuple[dict[str, int], str]:
    """Count values outside the range of the data and the support of the process.

    Args:
        x: rows `(n, *event)`, float32, in the user's units.
        trained: the model.

    Returns:
        The counts as JSON values, and a sentence that gives them.
    """
    sde, outside = trained.model.sde, trained.state.bounds.outside(x)
    counts = {"values": x.numel(), "outside_range": outside.count}
    counts["outside_support"] = int((~sde.support.check(trained.encoding.encode(x))).sum())
    words = f"Of {x.numel()} values {outside.count} lie outside the range of the data{outside.by}, {counts['outside_support']} outside the "
    return counts, words + f"support of '{sde.title()}'."
