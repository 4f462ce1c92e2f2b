"""The spread of each column of a model that was trained briefly, with a stand-in for the model."""

import numpy as np
import pytest
import torch

from sdezoo.runs import deep_check
from sdezoo.runs.deep_check import check_spreads, table
from sdezoo.zoo.registry import SDES


class Trained:
    """Gives back its rows, the columns stretched around their means by `factors`."""

    factors = 1.0

    def __init__(self, sde, steps):
        pass

    def fit(self, rows):
        self.rows = rows
        return self

    def sample(self, n):
        return self.rows.mean(0) + self.factors * (self.rows - self.rows.mean(0))


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, "holds"), (1.4, "holds"), (1.6, "broken"), (0.6, "broken")])
def test_a_narrow_column_that_is_too_wide_is_found(monkeypatch, factor, outcome):
    monkeypatch.setattr(deep_check, "DiffusionModel", Trained)
    monkeypatch.setattr(Trained, "factors", np.array([1.0, factor, 1.0])[:2])
    found = check_spreads("vp")
    assert found.outcome == outcome
    assert outcome == "holds" or f"{factor:g}" in found.reason


@pytest.mark.parametrize("name", ["vp", "gbm", "jacobi", "wright-fisher", "log-barrier"])
def test_the_table_has_two_scales_inside_the_support(name):
    sde = SDES.build(name)
    rows = table(sde)
    inside = sde.support.check(rows)
    assert bool(inside.all())
    spread = torch.quantile(rows, torch.tensor([0.16, 0.84], dtype=rows.dtype), 0).diff(dim=0)[0]
    assert float(spread.max() / spread.min()) > 10 or name == "wright-fisher"
