"""With an exact score and enough steps, every sampler recovers the data on every process it fits."""

import pytest
import torch

from sdezoo.conformance.bank.problems import eight, gaussian
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.analytic import AFFINE_SPECS, SAMPLER_SPECS, SIGMAS, assert_moments, sliced_w1

ENOUGH = {
    "multiplicative": (250, 0.06),
    "dale-langevin": (150, 0.1),
    "euler-maruyama": (80, 0.08),
    "pc": (80, 0.08),
    "torchsde": (80, 0.08),
}
"""Steps, and the declared bias in standard deviations; 30 steps and 0.03 for the exponential integrators and Heun's method."""
SLOW_VOLATILITY = ("gbm:sigma=0.8", "gbm:sigma=0.8,mu=0.1")
PAIRS = [
    (sampler, sde)
    for sampler in SAMPLER_SPECS
    for sde in AFFINE_SPECS
    if SAMPLERS.build(sampler).refuses(SDES.build(sde)) is None and (sampler != "multiplicative" or sde in SLOW_VOLATILITY)
]


@pytest.mark.parametrize(("sampler", "sde"), [*PAIRS, *(("ddim:eta=1", sde) for sde in AFFINE_SPECS)])
def test_normal_coordinates_are_recovered(sampler, sde):
    """`multiplicative` needs thousands of steps where the volatility grows; it is tried at constant volatility."""
    model = gaussian(SDES.build(sde))
    steps, bias = ENOUGH.get(sampler, (30, 0.03))
    if sampler in ("ancestral", "ddim:eta=1", "rectified-sde"):
        steps, bias = 60, 0.05
    x = SAMPLERS.build(sampler).sample(model, (1000, 2), steps, seed=11)
    assert_moments(model.sde.encode(x), model.means[0], model.deviations[0], bias)


@pytest.mark.parametrize("spec", AFFINE_SPECS)
@pytest.mark.parametrize("sampler", ["dpmpp-2m", *(pytest.param(name, marks=pytest.mark.slow) for name in ("heun", "ddim:eta=1"))])
def test_mixtures_are_recovered(sampler, spec):
    """Sliced W1 to data, against that of data to other data (the sampling floor)."""
    model = eight(SDES.build(spec))
    z = model.sde.encode(SAMPLERS.build(sampler).sample(model, (2000, 2), 100 if "eta" in sampler else 40, seed=5)).double()
    data = model.clean(2000, seed=0)
    floor = [sliced_w1(model.clean(2000, seed=k), data) for k in range(1, 41)]
    mean, spread = torch.tensor(floor).mean(), torch.tensor(floor).std()
    assert sliced_w1(z, data) < mean + SIGMAS * spread + 0.005
