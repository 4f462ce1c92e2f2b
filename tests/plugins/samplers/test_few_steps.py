"""20 evaluations of `dpmpp-2m` do as well as 1000 of the paper's sampler: the 2-D log-normal mixture, exact score.

Both start from the same draws of the exact `p(x_1)` (common random numbers). Their distance is sliced W1 in `log x` to the quantiles of ten
times as many data, drawn apart from the start, so that neither sampler is favoured.
"""

import math

import pytest
import torch

from sdezoo.conformance.bank.problems import eight
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.analytic import sliced_w1


def study(count, draws, many):
    """Distance of `dpmpp-2m` at 20 steps and of `dale-langevin` at `many`, one row a draw: `(draws, 2)`."""
    model = eight(SDES.build("gbm:sigma=0.8"))
    rows = []
    for draw in range(draws):
        data = model.clean(10 * count, seed=1000 + draw)
        rows.append(
            [
                sliced_w1(SAMPLERS.build(sampler).sample(model, (count, 2), steps, seed=draw).log().double(), data)
                for sampler, steps in (("dpmpp-2m", 20), ("dale-langevin", many))
            ]
        )
    return torch.tensor(rows)


def within_two_standard_errors(distances):
    excess = distances[:, 0] - distances[:, 1]
    return float(excess.mean()) <= 2 * float(excess.std()) / math.sqrt(len(excess))


def test_twenty_steps_are_worth_a_hundred():
    """The same study, smaller: the discretization error of 100 Euler steps already shows."""
    distances = study(20_000, 3, 100)
    assert within_two_standard_errors(distances), distances


@pytest.mark.slow
def test_twenty_steps_are_worth_a_thousand():
    distances = study(20_000, 8, 1000)
    print(f"sliced W1, mean of 8 draws: dpmpp-2m at 20 {distances[:, 0].mean():.4f}, dale-langevin at 1000 {distances[:, 1].mean():.4f}")  # noqa: T201
    assert within_two_standard_errors(distances), distances
