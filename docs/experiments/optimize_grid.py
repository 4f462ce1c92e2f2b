"""Find the two numbers of `spacing=optimized`.

    python docs/experiments/optimize_grid.py

They are `κ` and `ω` of `sdezoo.sampling.grid`, fitted for ten calls of `unipc:order=3,prediction=noise` on exact problems: mixtures of
normal laws in the plane of the coordinates, with noise levels that go from 0.8 to 0.01 and to 0.025 (`gbm:sigma=0.8`), and from 4 to
0.007 (a volatility set from the data). None of them is a problem of the tests. What is minimized is the mean over problems of
`ln RMS`, the root mean square distance of where ten calls end to where 80 end, from 6000 draws of the exact `p(z_1)`.

Everything is seeded; it takes a minute on one core.
"""

import math
from typing import NamedTuple

import torch
from scipy.optimize import minimize
from torch import Tensor

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Mixture, Multiplicative
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.sampling.grid import FIRST, KNEE, grid, optimized
from sdezoo.zoo.registry import SAMPLERS

RANGES = [(0.01, 0.8), (0.025, 0.8), (0.007, 4.0)]
"""Lowest and highest noise level, in units of the spread of the centres."""
LAWS = [(1, 8, 0.15), (2, 8, 0.15), (3, 5, 0.2), (4, 8, 0.15), (5, 8, 0.15), (6, 12, 0.15), (7, 8, 0.15), (8, 6, 0.2)]
"""Seed and number of the centres, standard normal, and standard deviation of the components."""
SAMPLER = SAMPLERS.build("unipc:order=3,prediction=noise")


class Problem(NamedTuple):
    """A model, draws of the exact `p(z_1)`, and where 80 calls take them."""

    model: Mixture
    start: Tensor
    end: Tensor


def problem(lowest: float, highest: float, seed: int, number: int, deviation: float) -> Problem:
    """Constant volatility between two noise levels: to a flow, every affine process with these is the same."""
    sde = Multiplicative(sigma=highest, mu=highest**2 / 2, lo=(lowest / highest) ** 2)
    generator = torch.Generator().manual_seed(seed)
    model = Mixture(sde, torch.randn(number, 2, generator=generator), deviation)
    clean = model.clean(6000, seed=seed)
    start = clean + highest * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    return Problem(model, start, run(model, start, grid(sde, 80, "karras")))


def run(model: Mixture, start: Tensor, times: Tensor) -> Tensor:
    return drive(SAMPLER, model, start, times, keyed(len(start)))


def loss(numbers: tuple[float, float], bank: list[Problem]) -> float:
    """Mean of `ln RMS`, for `ln κ` and `ω`."""
    knee, first = math.exp(numbers[0]), numbers[1]
    if not 0.1 < first < 2:
        return math.inf
    errors = [(run(model, start, optimized(model.sde, 10, knee, first)) - end).square().mean().sqrt() for model, start, end in bank]
    mean = float(torch.stack(errors).log().mean())
    print(f"kappa {knee:6.2f}   omega {first:.3f}   RMS {math.exp(mean):.6f}")
    return mean


def main() -> None:
    torch.set_num_threads(1)
    bank = [problem(*ends, *law) for ends in RANGES for law in LAWS]
    found = minimize(loss, (3.0, 0.7), args=(bank,), method="Nelder-Mead", options={"xatol": 0.02, "fatol": 1e-3})
    print(f"kappa = {math.exp(found.x[0]):.1f}, omega = {found.x[1]:.2f}; shipped: {KNEE}, {FIRST}")


if __name__ == "__main__":
    main()
