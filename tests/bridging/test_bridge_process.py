"""Bridges: exact at both ends, consistent between them, and at the Schrödinger bridge of Gaussians, whose coupling is known."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.distributions import constraints

from sdezoo import SAMPLERS, SDES, Model
from sdezoo.bridging.snapshot_starts import AtKnot
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import KeyedNoise, Noise

ROWS = 100_000
SIGMA = 1.0
FIXED = (math.sqrt(4 + SIGMA**4) - SIGMA**2) / 2
"""Covariance of the coupling of the Schrödinger bridge between unit Gaussians."""


def built(spec: str) -> Bridge:
    sde = SDES.build(spec)
    assert isinstance(sde, Bridge)
    return sde


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class LeastSquares(Model[Bridge]):
    """The best linear `D(z, t)` for pairs of Gaussians, which is the exact one, from their moments."""

    def __init__(self, sde: Bridge, z0: Tensor, z1: Tensor) -> None:
        self.sde = sde
        self.moments = z0.var(), (z0 * z1).mean() - z0.mean() * z1.mean(), z1.var()

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        at_start, both, at_end = self.moments
        a, b = self.sde.span(t)
        u = (t - a) / (b - a)
        spread = (1 - u) ** 2 * at_start + 2 * u * (1 - u) * both + u**2 * at_end + self.sde.rate**2 * (b - a) * u * (1 - u)
        return ((1 - u) * at_start + u * both) / spread * z

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        raise NotImplementedError


def carried(model: Model[Bridge], rows: Tensor, steps: int = 40, seed: int = 0, sampler: str = "bridge") -> Tensor:
    start = AtKnot(rows, 1.0, 0.0)
    return SAMPLERS.build(sampler).sample(model, rows.shape, steps, seed, start=start, like=rows)


@pytest.mark.parametrize("spec", ["bridge:sigma=0.7", "bridge:sigma=2,times=(0,1,3)", "geometric-bridge:center=(0.5),spread=(2)"])
def test_exact_at_both_ends(spec: str) -> None:
    sde = built(spec)
    z0, z1, noise = normal(1, 50, 3), normal(2, 50, 3), Noise.seeded(3)
    for a, b in pairwise(sde.knots):
        assert torch.equal(sde.between(z0, z1, torch.tensor(b, dtype=torch.float64), noise), z1)
        near = a + 1e-12 * (b - a)
        torch.testing.assert_close(sde.between(z0, z1, torch.tensor(near, dtype=torch.float64), noise), z0, atol=1e-4, rtol=0)


def test_bridge_consistency_given_both_ends() -> None:
    """Drawn at one time and then, toward the lower end, at an earlier one, the state has the distribution of one draw."""
    sde, times = built("bridge:sigma=1.3,times=(0,2,3)"), (1.5 / 3, 0.4 / 3)
    z0, z1 = torch.full((ROWS, 1), -1.0).double(), torch.full((ROWS, 1), 2.0).double()
    late, early = (torch.tensor(t, dtype=torch.float64) for t in times)
    z = sde.between(z0, z1, late, KeyedNoise(1, range(ROWS)))

    class Known(Model[Bridge]):
        def __init__(self) -> None:
            self.sde = sde

        def denoise(self, z: Tensor, t: Tensor) -> Tensor:
            return z0

        def score(self, z: Tensor, t: Tensor) -> Tensor:
            raise NotImplementedError

    twice, _ = SAMPLERS.build("bridge").step(Known(), z, late, early, KeyedNoise(2, range(ROWS)), None)
    u = 0.4 / 2
    mean, variance = (1 - u) * -1 + u * 2, 1.3**2 * 2 * u * (1 - u)
    joint = mean * 0 + 1.3**2 * 2 * u * (1 - 1.5 / 2)
    assert abs(float(twice.mean()) - mean) < 4 * math.sqrt(variance / ROWS)
    assert abs(float(twice.var()) / variance - 1) < 4 * math.sqrt(2 / ROWS)
    found = float(((z - z.mean()) * (twice - twice.mean())).mean())
    assert abs(found - joint) < 4 * math.sqrt(2) * variance / math.sqrt(ROWS)


def test_targets_of_both_directions() -> None:
    """`(z_b − z_a) − ς √(u/(1 − u)) ε` forward and `−(z_b − z_a) − ς √((1 − u)/u) ε` backward, as published."""
    sde, u = built("bridge:sigma=0.8"), torch.tensor(0.3, dtype=torch.float64)
    z0, z1, eps = normal(1, 20, 2), normal(2, 20, 2), normal(3, 20, 2)
    z = (1 - u) * z0 + u * z1 + 0.8 * (u * (1 - u)).sqrt() * eps
    torch.testing.assert_close(sde.target(z, z0, u), -(z1 - z0) - 0.8 * ((1 - u) / u).sqrt() * eps)
    torch.testing.assert_close(sde.reversed().target(z, z1, 1 - u), (z1 - z0) - 0.8 * (u / (1 - u)).sqrt() * eps)


def test_reversing_twice_and_times_of_the_user() -> None:
    sde = built("bridge:times=(0,1,4)")
    assert sde.reversed().reversed() == sde
    assert sde.reversed().knots == pytest.approx((0, 0.75, 1))
    times = torch.tensor([0.0, 1.0, 2.5, 4.0], dtype=torch.float64)
    for each in (sde, sde.reversed()):
        torch.testing.assert_close(each.user_time(each.own_time(times)), times)
    assert sde.noise_scale(0.25, 1.0) == pytest.approx(math.sqrt(3))
    with pytest.raises(ParameterError, match=r"times=\(0, 2, 1\) do not increase"):
        SDES.build("bridge:times=(0,2,1)")


def test_the_projection_keeps_the_ends() -> None:
    """Carried by the exact drift of any coupling, rows of one end get the distribution of the other (a Markovian projection)."""
    z1 = normal(1, ROWS, 1) * 1.5
    z0 = 0.3 * z1 + 0.8 * normal(2, ROWS, 1)
    out = carried(LeastSquares(built("bridge:sigma=1"), z0, z1), z1)
    assert abs(float(out.std() / z0.std()) - 1) < 0.01


@pytest.mark.parametrize("sampler", ["bridge", "bridge:order=1"])
def test_the_sampler_converges_at_its_order(sampler: str) -> None:
    z0, z1 = normal(1, ROWS, 1), normal(2, ROWS, 1)
    z0, z1 = (z0 - z0.mean()) / z0.std(), (z1 - z1.mean()) / z1.std()
    model = LeastSquares(built("bridge:sigma=1"), z0, z1)
    errors = [abs(float(carried(model, z1, steps, sampler=sampler).var()) - 1) for steps in (8, 16)]
    if sampler == "bridge":
        assert errors[0] / errors[1] > 2.5
        assert errors[1] < 0.012
    else:
        assert 1.6 < errors[0] / errors[1] < 2.6
        assert errors[1] > 0.03


def test_alternating_fits_converge_to_the_schroedinger_bridge() -> None:
    """The covariances of the coupling are 0.546, 0.611, 0.617, 0.618: those of exact Markovian fits of the independent coupling."""
    x = normal(1, ROWS, 2)
    x = torch.linalg.qr(x - x.mean(0)).Q * math.sqrt(ROWS - 1)  # unit variances and no covariance, exactly
    first, last = x[:, :1], x[:, 1:]
    sde, pairs, found = built("bridge:sigma=1"), (first, last), []
    for number in range(4):
        if number % 2 == 0:
            pairs = carried(LeastSquares(sde, *pairs), last, seed=number), last
        else:
            pairs = first, carried(LeastSquares(sde.reversed(), *reversed(pairs)), first, seed=number)
        found.append(float(torch.cov(torch.cat(pairs, 1).T)[0, 1]))
    assert found == pytest.approx([0.546, 0.611, 0.617, 0.618], abs=0.012)
    assert found[-1] == pytest.approx(FIXED, rel=0.02)


def test_every_step_of_a_geometric_bridge_is_positive() -> None:
    sde = built("geometric-bridge:sigma=3").adapted(torch.tensor([[0.01], [5.0], [100.0]]))
    assert sde.support is constraints.positive
    x0, x1, noise = normal(1, 500, 1).exp() * 1e-3, normal(2, 500, 1).exp() * 1e3, Noise.seeded(0)
    z0, z1 = sde.encode(x0, noise), sde.encode(x1, noise)
    for t in torch.linspace(1e-6, 1, 50, dtype=torch.float64):
        assert (sde.decode(sde.between(z0, z1, t, noise)) > 0).all()
    torch.testing.assert_close(sde.decode(z1), x1)
    middle = sde.decode(sde.between(z0, z1, torch.tensor(0.5, dtype=torch.float64), noise))
    assert float((middle / (x0 * x1).sqrt()).log().mean()) == pytest.approx(0, abs=0.6)


def test_a_bridge_has_no_score_and_starts_at_a_snapshot() -> None:
    sde, rows = built("bridge"), normal(1, 4, 1)
    with pytest.raises(CompositionError, match="starts from rows of a snapshot"):
        sde.start_from(rows, torch.tensor(0.5, dtype=torch.float64), Noise.seeded(0))
    assert all(part.refuses(sde) for name in ("heun", "euler-maruyama") for part in [SAMPLERS.build(name)])
