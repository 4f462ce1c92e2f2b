"""`sdezoo check --deep`: a short training run on a table of two very different scales, and the spread of each column of its samples.

This is a law of the composition, of process, loss, network and sampler, and not of the process alone: each may be right, and the narrow
column may still come out too wide. It takes about half a minute.
"""

from __future__ import annotations

import time

import numpy as np
import torch

from sdezoo.conformance.bank.cases import events, typical
from sdezoo.conformance.law import Verdict
from sdezoo.errors import SdezooError
from sdezoo.process.process import Process
from sdezoo.runs.estimator import DiffusionModel
from sdezoo.zoo.registry import SDES

NAME = "columns-keep-their-spread"
STATEMENT = "A model trained briefly on columns whose spreads differ by a factor of 100 gives each column its spread, to a factor of 1.5."

_ROWS = 600
_STEPS = 800
_NARROW = 0.01
_FACTOR = 1.5


def check_spreads(spec: str) -> Verdict:
    """Train briefly on two very different scales, and compare the spread of each column.

    Args:
        spec: spec string of the process.

    Returns:
        The verdict; `excused` if the process takes no tables, or lists columns by name.
    """
    began = time.perf_counter()

    def verdict(outcome: str, reason: str = "", case: str = "") -> Verdict:
        return Verdict(NAME, STATEMENT, outcome, reason, case, time.perf_counter() - began)

    sde = SDES.build(spec)
    if sde.row_shape is not None and len(sde.row_shape) != 1:
        return verdict("excused", "It takes no tables.")
    rows = table(sde).numpy()
    try:
        model = DiffusionModel(sde=spec, steps=_STEPS).fit(rows)
        samples = np.asarray(model.sample(_ROWS))
    except SdezooError as error:
        return verdict("broken", f"{error.problem} {error.remedy}")
    ratios = _spread(samples) / _spread(rows)
    worst = int(np.abs(np.log(ratios)).argmax())
    if not abs(np.log(ratios[worst])) < np.log(_FACTOR):
        found = ", ".join(f"{ratio:.3g}" for ratio in ratios)
        case = f"{sde.full_spec}, {_ROWS} rows, spreads {', '.join(f'{s:.3g}' for s in _spread(rows))}, {_STEPS} steps"
        return verdict("broken", f"The spreads of the columns are {found} times those of the data.", case)
    return verdict("holds")


def table(sde: Process) -> torch.Tensor:
    """Rows in the support of a process, `(600, d)`, whose coordinates have the standard deviations 1 and 0.01 in turn.

    Args:
        sde: the process.
    """
    columns = next(event[0] for event in [*events(sde)[::-1], (2,)] if len(event) == 1)
    normals = torch.randn(_ROWS, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return typical(sde, normals * torch.tensor([1.0, _NARROW] * columns, dtype=torch.float64)[:columns] + 0.3)


def _spread(rows: np.ndarray) -> np.ndarray:
    low, high = np.quantile(rows, [0.16, 0.84], axis=0)
    return np.maximum((high - low) / 2, 1e-300)
