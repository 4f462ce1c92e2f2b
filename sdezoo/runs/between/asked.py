"""What is asked of an evaluation between data, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from sdezoo.evaluation.sizes import Sizes
from sdezoo.evaluation.suite import Measured
from sdezoo.plots import Figure


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
