"""Grids go from `hi` through `lo` to 0, strictly downward, for any number of steps."""

import pytest
import torch

from sdezoo.conformance.problems import gaussian
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.sampling.grid import grid, grid_refuses
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.analytic import AFFINE_SPECS, SAMPLER_SPECS
from tests.process.edges import Reflected

SPACINGS = ["auto", "uniform", "karras", "log-snr"]


@pytest.mark.parametrize("steps", [1, 2, 3, 20, 1000])
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("spec", AFFINE_SPECS)
def test_shape_ends_and_direction(spec, spacing, steps):
    sde = SDES.build(spec)
    times = grid(sde, steps, spacing)
    lo, hi = sde.times
    assert times.dtype == torch.float64
    assert times.shape == (steps + 1,)
    assert times[0] == hi
    assert times[-1] == 0
    assert steps == 1 or times[-2] == lo
    assert (times.diff() < 0).all()


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
    assert torch.equal(grid(Reflected(), 7, "auto"), grid(Reflected(), 7, "uniform"))
    assert grid_refuses("auto", Reflected()) is grid_refuses("uniform", Reflected()) is None
    for spacing in ("karras", "log-snr"):
        sampler = SAMPLERS.build(f"euler-maruyama:spacing={spacing}")
        with pytest.raises(CompositionError, match=f"with spacing={spacing} needs an affine SDE"):
            sampler.require(Reflected())


@pytest.mark.parametrize("sampler", SAMPLER_SPECS)
@pytest.mark.parametrize("steps", [0, -3])
def test_too_few_steps_are_refused(sampler, steps):
    with pytest.raises(ParameterError, match=f"{steps} steps"):
        SAMPLERS.build(sampler).sample(gaussian(SDES.build("gbm")), (2, 2), steps)
