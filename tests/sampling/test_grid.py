"""Grids go from `hi` through `lo` to 0, strictly downward, for any number of steps."""

import math
from itertools import product

import pytest
import torch

from sdezoo.conformance.bank.problems import Multiplicative, gaussian
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.sampling.grid import FIRST, KNEE, check_grid, grid, grid_refuses
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.analytic import AFFINE_SPECS, SAMPLER_SPECS
from tests.process.edges import BetweenWalls

SPACINGS = ["auto", "uniform", "karras", "log-snr", "optimized", "u-grid"]


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_shape_ends_and_direction(spec):
    sde = SDES.build(spec)
    lo, hi = sde.t_span
    for spacing, steps in product(SPACINGS, (1, 2, 3, 20, 1000)):
        times = grid(sde, steps, spacing)
        assert times.dtype == torch.float64
        assert times.shape == (steps + 1,)
        assert times[0] == hi
        assert times[-1] == 0
        assert steps == 1 or times[-2] == lo
        assert (times.diff() < 0).all()
        check_grid(times, sde)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_spacings_are_even_in_what_they_say(spec):
    sde = SDES.build(spec)
    for spacing, even in {"uniform": lambda t: t, "log-snr": lambda t: level(t).log(), "karras": lambda t: level(t) ** (1 / 7)}.items():

        def level(t):
            return sde.coefficients(t).ratio

        gaps = even(grid(sde, 50, spacing)[:-1]).diff()
        torch.testing.assert_close(gaps, gaps.mean().expand_as(gaps), rtol=1e-6, atol=1e-10)
    assert torch.equal(grid(sde, 50, "auto"), grid(sde, 50, "karras"))


def test_processes_without_levels_have_uniform_grids_alone():
    assert torch.equal(grid(BetweenWalls(), 7, "auto"), grid(BetweenWalls(), 7, "uniform"))
    assert grid_refuses("auto", BetweenWalls()) is grid_refuses("uniform", BetweenWalls()) is None
    for spacing in ("karras", "log-snr", "optimized", "u-grid"):
        sampler = SAMPLERS.build(f"euler-maruyama:spacing={spacing}")
        with pytest.raises(CompositionError, match=f"with spacing={spacing} needs a process with a noise level"):
            sampler.require(BetweenWalls())


def test_too_few_steps_are_refused():
    for sampler, steps in product(SAMPLER_SPECS, (0, -3)):
        with pytest.raises(ParameterError, match=f"{steps} steps"):
            SAMPLERS.build(sampler).sample(gaussian(SDES.build("gbm")), (2, 2), steps)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_the_optimized_grid_steps_by_a_share_of_the_spread(spec):
    """Small steps are proportional to `√(r² + (κ r_min)²)`, and the first is shorter by `ω`."""
    sde = SDES.build(spec)
    levels = sde.coefficients(grid(sde, 4000, "optimized")[:-1]).ratio
    middle = (levels[1:] + levels[:-1]) / 2
    share = -levels.diff() / (middle**2 + (KNEE * levels[-1]) ** 2).sqrt()
    torch.testing.assert_close(share[1:], share[1:].mean().expand_as(share[1:]), rtol=1e-4, atol=0)
    assert float(share[0] / share[1]) == pytest.approx(FIRST, rel=1e-3)


@pytest.mark.parametrize("steps", [5, 9, 19])
def test_the_u_grid_is_the_published_one(steps):
    """`N = steps + 1` calls: `τ_1 = δ`, `τ_{j+1} = (1 + h) τ_j` to ½, `h = (1/2δ)^{2/(N−2)} − 1`, and its mirror image."""
    count = steps + 1
    delta = 1 / max(30, count)
    half = [delta * (0.5 / delta) ** (2 * j / (count - 2)) for j in range(count // 2)]
    expected = torch.tensor(half + [1 - tau for tau in reversed(half[:-1])], dtype=torch.float64)
    lowest, highest = delta / (1 - delta), (1 - delta) / delta
    sde = Multiplicative(sigma=highest, mu=0.0, lo=(lowest / highest) ** 2)
    levels = sde.coefficients(grid(sde, steps, "u-grid")[:-1]).ratio
    torch.testing.assert_close(1 / (1 + levels), expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_the_u_grid_steps_by_a_share_of_the_distance_to_either_end(spec):
    sde = SDES.build(spec)
    tau = 1 / (1 + sde.coefficients(grid(sde, 4000, "u-grid")[:-1]).ratio)
    middle = (tau[1:] + tau[:-1]) / 2
    share = tau.diff() / torch.minimum(middle, 1 - middle)
    torch.testing.assert_close(share, share.mean().expand_as(share), rtol=2e-3, atol=0)


def stochastic_flow_grid(count, c0=2.0, c1=2.0):
    """A published grid of a straight flow, in the times of `vp`: with these numbers it starts halfway to the data."""
    first, f = count**-c0, c1 * math.log(count) / count
    beta = torch.tensor([f * min(1.0, first * (1 + f) ** i) for i in range(1, count + 1)], dtype=torch.float64)
    kept = torch.cumprod(1 - beta, 0)
    return SDES.build("vp").time_at(((1 - kept).sqrt() / kept.sqrt()).flip(0)).unique().flip(0)  # `vp` ends before it does


def test_a_grid_that_starts_below_the_prior_is_refused():
    sde = SDES.build("vp")
    times = torch.cat([stochastic_flow_grid(100), torch.zeros(1)]).double()
    assert 0.4 < 1 / (1 + sde.coefficients(times[0]).ratio) < 0.6
    with pytest.raises(ParameterError, match=r"starts at t = 0\.\d+, below the prior.* Start at t = 1"):
        check_grid(times, sde)


@pytest.mark.parametrize(
    ("times", "reason"),
    [
        ([1.0, 0.5, 0.001, 0.0], None),
        ([1.0, 0.0], None),
        ([1.0, 0.001 * (1 + 1e-9), 0.0], None),
        ([0.9, 0.5, 0.001, 0.0], r"starts at t = 0\.9, below the prior"),
        ([0.9, 0.0], r"starts at t = 0\.9, below the prior"),
        ([1.1, 0.5, 0.001, 0.0], r"starts at t = 1\.1, beyond the prior"),
        ([1.0, 0.5, 0.001], r"does not reach the data: it ends with 0\.5, 0\.001"),
        ([1.0, 0.001, 0.0005], r"does not reach the data: it ends with 0\.001, 0\.0005"),
        ([1.0, 0.001], r"does not reach the data: it ends with 1, 0\.001"),
        ([1.0, 0.5, 0.0], r"does not reach the data: it ends with 0\.5, 0"),
        ([1.0, 0.5, 0.0005, 0.0], r"needs the score at t = 0\.0005"),
        ([1.0, 0.5, 0.5, 0.001, 0.0], "does not decrease"),
        ([1.0, 0.001, 0.5, 0.0], "does not decrease"),
        ([1.0, math.nan, 0.001, 0.0], "float64 vector"),
        ([math.inf, 0.001, 0.0], "float64 vector"),
        ([1.0], "float64 vector"),
        ([], "float64 vector"),
        ([[1.0, 0.5], [0.001, 0.0]], "float64 vector"),
    ],
)
def test_grids_are_held_to_their_ends(times, reason):
    """Those of `gbm:sigma=0.8`, from 1 to 0.001."""
    sde, grid_ = SDES.build("gbm:sigma=0.8"), torch.tensor(times, dtype=torch.float64)
    if reason is None:
        check_grid(grid_, sde)
    else:
        with pytest.raises(ParameterError, match=reason):
            check_grid(grid_, sde)


def test_grids_are_float64():
    with pytest.raises(ParameterError, match="float32"):
        check_grid(torch.tensor([1.0, 0.001, 0.0]), SDES.build("gbm:sigma=0.8"))
