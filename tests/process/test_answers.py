"""What every process answers: its noise level, its output, its prior's density, the volume of its decoding, its denoiser."""

from dataclasses import replace

import pytest
import torch

from sdezoo.errors import CompositionError
from sdezoo.process.noise import Noise
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SDES

WIDE = torch.float64
EVERY = sorted(name for name, _ in defaults(SDES))


@pytest.mark.parametrize("name", EVERY)
def test_a_noise_level_rises_and_time_at_inverts_it(name):
    sde = SDES.build(name)
    t = torch.linspace(*sde.t_span, 50, dtype=WIDE)
    level = sde.noise_level(t)
    if level is None:
        with pytest.raises(CompositionError, match=f"'{name}' has no noise level"):
            sde.time_at(t)
        return
    assert bool((level.diff() > 0).all())
    torch.testing.assert_close(sde.time_at(level), t, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_a_prior_with_a_density_is_drawn_from_it(name):
    """`E 1[z in A]/p(z)` is the volume of `A`, here the box between the quartiles of two entries."""
    sde = SDES.build(name)
    like = torch.empty((), dtype=WIDE)
    z = sde.prior((20_000, 2), Noise.seeded(3), like)[:, :2]
    try:
        p = sde.prior_log_prob(z).exp()  # entries are independent
    except CompositionError:
        return
    low, high = z.quantile(torch.tensor([0.25, 0.75], dtype=WIDE), dim=0)
    inside = ((z > low) & (z < high)).all(1) / p
    volume = float((high - low).prod())
    assert abs(float(inside.mean()) - volume) < 5 * float(inside.std()) / 20_000**0.5


def test_the_volume_of_a_decoding_with_units_is_theirs():
    sde = replace(SDES.build("cir"), unit=(2.0, 50.0))
    x = torch.tensor([[1.0, 30.0], [4.0, 70.0]], dtype=WIDE)
    torch.testing.assert_close(sde.log_abs_det(sde.encode(x), x), torch.full((2,), 100.0, dtype=WIDE).log())


def test_no_volume_where_the_state_holds_more_than_the_data():
    sde = SDES.build("cld")
    with pytest.raises(CompositionError, match="holds more than the data"):
        sde.log_abs_det(torch.zeros(3, 2, 1), torch.zeros(3, 1))
