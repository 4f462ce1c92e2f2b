"""Orders of the rows: each is what it says, and the path of its increments has the covariance of its epoched Brownian motion."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from sdezoo.errors import ParameterError
from sdezoo.training.batches import BatchSampler, Order
from sdezoo.training.config import TrainingConfig

ROWS, SEEDS = 24, 1500
ORDERS = get_args(Order)


def epochs(order: Order, seed: int, count: int = 2, batch: int = 8) -> Tensor:
    sampler = BatchSampler(ROWS, batch, seed, order)
    return torch.cat([sampler.rows(step) for step in range(count * ROWS // batch)]).reshape(count, ROWS)


def test_each_order_is_what_it_says() -> None:
    rows = torch.arange(ROWS)
    for order in ORDERS:
        found = epochs(order, 0, 4)
        permuted = [torch.equal(epoch.sort().values, rows) for epoch in found]
        assert all(permuted) == any(permuted) == (order != "with-replacement")
    assert all(torch.equal(epochs("single-shuffle", 0, 4)[k], epochs("single-shuffle", 0)[0]) for k in range(4))
    first, second, third, fourth = epochs("flip-flop", 0, 4)
    assert torch.equal(second, first.flip(0))
    assert torch.equal(fourth, third.flip(0))
    assert not torch.equal(first, third)


@pytest.mark.parametrize("order", ORDERS)
def test_any_step_is_known_without_those_before_it(order: Order) -> None:
    """Across the border of an epoch too, with batches that do not divide it."""
    forward, alone = BatchSampler(ROWS, 7, 1, order), [BatchSampler(ROWS, 7, 1, order) for _ in range(12)]
    assert all(torch.equal(forward.rows(step), alone[step].rows(step)) for step in range(12))


@pytest.mark.parametrize("order", ORDERS)
def test_the_path_has_the_covariance_of_its_epoched_brownian_motion(order: Order) -> None:
    """Of increments with mean 0 and variance 1/n, over 1500 seeds: within five standard errors of the limit, and of its O(1/n)."""
    increments = torch.randn(ROWS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    increments = (increments - increments.mean()) / (increments - increments.mean()).norm()
    paths = torch.stack([increments[epochs(order, seed)].cumsum(1) for seed in range(SEEDS)])
    at = torch.tensor([ROWS // 4, ROWS // 2, 3 * ROWS // 4]) - 1
    first, second = paths[:, 0, at], paths[:, 1, at]
    s, t = torch.meshgrid((at + 1) / ROWS, (at + 1) / ROWS, indexing="ij")
    least = torch.minimum(s, t)
    bridge = 0 if order == "with-replacement" else s * t
    across = {"reshuffle": s * t, "single-shuffle": least, "flip-flop": (s + t - 1).clamp_min(0), "with-replacement": 0 * s}[order]
    error = 5 / math.sqrt(SEEDS) * 0.5 + 1 / ROWS * 0.3
    assert float((first.T @ first / SEEDS - (least - bridge)).abs().max()) < error
    assert float((first.T @ second / SEEDS - (across - bridge)).abs().max()) < error


def test_on_a_quadratic_orders_that_make_up_leave_less_noise() -> None:
    """Mean of squared errors of `w ← w − u (w − a_i)`, `u = (1 + t)^{−½}` in epochs `t`, after 60 epochs, over 40 seeds."""
    noise = torch.Generator().manual_seed(2)
    a = torch.randn(ROWS, generator=noise, dtype=torch.float64)
    a = a - a.mean()

    def error(order: Order) -> float:
        rows = torch.stack([epochs(order, seed, 60).flatten() for seed in range(40)])
        w = torch.zeros(40, dtype=torch.float64)
        for k in range(rows.shape[1]):
            w = w - 0.05 * (1 + k / ROWS) ** -0.5 * (w - a[rows[:, k]])
        return float(w.square().mean())

    errors = {order: error(order) for order in ORDERS}
    assert errors["with-replacement"] > 5 * errors["single-shuffle"]
    assert errors["with-replacement"] > 5 * errors["reshuffle"]
    assert errors["with-replacement"] > 5 * errors["flip-flop"]


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ParameterError, match="order=sorted is not allowed"):
        TrainingConfig.build({"order": "sorted"})
