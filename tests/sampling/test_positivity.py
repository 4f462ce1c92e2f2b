"""A million states, and none that is not positive: the coordinates cannot leave the support, whatever the step."""

import pytest
import torch

from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import SupportError
from sdezoo.process.columns import count_outside
from sdezoo.sampling.start import AtRows
from sdezoo.zoo.composition import fitting
from sdezoo.zoo.registry import SAMPLERS, SDES

GBM = SDES.build("gbm:sigma=0.8")
SAFE = [name for name in fitting(GBM, SAMPLERS) if SAMPLERS.build(name).preserves_support]
FREE = [name for name in fitting(GBM, SAMPLERS) if not SAMPLERS.build(name).preserves_support]
STEPS = (1, 2, 3, 10, 100, 300)
SHAPE = (640, 2)


@pytest.mark.parametrize("name", SAFE)
def test_a_million_states_are_positive(name):
    sampler, seen = SAMPLERS.build(name), 0  # at `σ√T` from 20 on, `exp` itself over- and underflows in float32
    for dtype, sigma in ((torch.float32, 10.0), (torch.float64, 0.8)):
        model = gaussian(SDES.build(f"gbm:sigma={sigma}"))

        def check(k, z, t, model=model, dtype=dtype):
            nonlocal seen
            assert z.dtype == dtype
            assert count_outside(model.sde.support, model.sde.decode(z)) == 0
            seen += z.numel()

        for steps in STEPS:
            x = sampler.sample(model, SHAPE, steps, seed=steps, like=torch.empty((), dtype=dtype), callback=check)
            assert (x > 0).all()
    assert seen > 1_000_000


@pytest.mark.parametrize("name", FREE)
def test_a_sampler_that_says_it_may_leave_does_and_stops_there(name):
    model = gaussian(GBM)
    with pytest.raises(SupportError, match="left the support of the data"):
        SAMPLERS.build(name).sample(model, (2000, 2), 5)


@pytest.mark.parametrize("name", SAFE)
def test_what_a_dtype_cannot_hold_is_an_error_not_an_edge_value(name):
    """At `σ√T = 40` in float32 `exp` overflows; nothing is clamped, and the message says what to do."""
    model = gaussian(SDES.build("gbm:sigma=40"))
    start = torch.full((500, 2), 90.0).double().exp()
    sampler = SAMPLERS.build(name)
    with pytest.raises(SupportError, match=r"too far out for torch\.float32"):
        model.sde.decode(model.sde.encode(start).float())
    assert sampler.sample(model, (4, 2), 20, start=AtRows(start[:4]), like=torch.empty((), dtype=torch.float64)).gt(0).all()
