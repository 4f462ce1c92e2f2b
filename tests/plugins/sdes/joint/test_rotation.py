"""Rotation: norms never change, the direction is Brownian motion on the sphere, latents are uniform directions with the data's norms."""

import math

import pytest
import torch

from sdezoo import SAMPLERS, DataError, KeyedNoise, Model, Noise, ParameterError, ScoreModel, paths
from sdezoo.learning.loss import Batch
from sdezoo_plugins.losses.sliced_sm import SlicedSM
from sdezoo_plugins.sdes.joint.rotation import Rotation

PLANES = tuple(
    tuple(tuple(float((i == a) * (j == b) - (i == b) * (j == a)) for j in range(3)) for i in range(3)) for a, b in ((0, 1), (0, 2), (1, 2))
)
T = torch.tensor(0.3, dtype=torch.float64)


def heavy(count, d, seed=0):
    """Correlated Cauchy rows, float64."""
    g = torch.Generator().manual_seed(seed)
    normal = torch.randn(count, d, generator=g, dtype=torch.float64).cumsum(1)
    return normal / torch.randn(count, 1, generator=g, dtype=torch.float64).abs()


@pytest.mark.parametrize("d", [2, 3, 16])
def test_norms_are_kept_to_rounding(d):
    x0, sde = heavy(200, d), Rotation()
    r = x0.norm(dim=1)
    for z in (
        sde.perturb(x0, T, Noise.seeded(1)),
        sde.forward_step(x0, T, T, Noise.seeded(2)),
        sde.transition(x0, T, 2 * T, Noise.seeded(3)),
    ):
        torch.testing.assert_close(z.norm(dim=1) / r, torch.ones_like(r), rtol=0, atol=1e-12)
        assert (z - x0).abs().max() > 0.1


def test_norms_are_kept_by_paths_and_by_samplers():
    made = paths(Rotation(radii=(1.0, 2.0)), [3.0, -4.0, 12.0], steps=20, n=20)
    torch.testing.assert_close(made.x.norm(dim=2), torch.full((20, 21), 13.0, dtype=torch.float64), rtol=0, atol=1e-11)

    class Pulls(Model):
        def __init__(self, sde):
            self.sde = sde

        def score(self, z, t):
            return torch.tensor([1.0, -1.0, 0.5], dtype=z.dtype) - z

    sde = Rotation(radii=(2.0, 3.0, 7.0))
    for spec in ("euler-maruyama", "heun", "torchsde:method=midpoint"):
        ends = SAMPLERS.build(spec).sample(Pulls(sde), (30, 3), 12, like=T)
        start = sde.prior((30, 3), KeyedNoise(0, range(30)), T)
        torch.testing.assert_close(ends.norm(dim=1), start.norm(dim=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_the_mean_of_the_direction_decays_at_the_stated_rate(d):
    """`E X_t = e^{−λβ} x_0`, and the second harmonic `E (cos² − 1/d)` decays as `e^{−σ² d β}`."""
    u = torch.ones(20_000, d, dtype=torch.float64) / math.sqrt(d)
    sde = Rotation(decay=3.0)
    cos = (sde.perturb(u, T, Noise.seeded(4)) * u).sum(1)
    beta = float(T) ** 2
    decay, second = math.exp(-3.0 * beta), math.exp(-6.0 / (d - 1) * d * beta)
    assert abs(float(cos.mean()) - decay) < 4 * float(cos.std()) / math.sqrt(len(u))
    squares = cos**2
    assert abs(float(squares.mean()) - (1 / d + (1 - 1 / d) * second)) < 4 * float(squares.std()) / math.sqrt(len(u))


def test_given_matrices_of_all_planes_are_the_default():
    """Three planes of three columns: the same noise, drift and divergence as without matrices."""
    default, given = Rotation(), Rotation(skew=PLANES)
    z, s = heavy(6, 3), torch.sin(heavy(6, 3, 1))
    for name, arguments in (("drift", ()), ("divergence", ()), ("stratonovich_correction", ()), ("ggt", (s,))):
        torch.testing.assert_close(getattr(given, name)(z, T, *arguments), getattr(default, name)(z, T, *arguments))


def test_latents_have_the_norms_of_the_data():
    x0 = heavy(4000, 3)
    sde = Rotation().adapted(x0)
    z = sde.prior((20_000, 3), Noise.seeded(5), x0)
    levels = torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.997], dtype=torch.float64)
    found, expected = (torch.quantile(rows.norm(dim=1).log(), levels) for rows in (z, x0))
    assert ((found - expected).abs() < torch.tensor([0.08] * 5 + [0.2, 0.4])).all()
    assert z.norm(dim=1).max() <= x0.norm(dim=1).max() * (1 + 1e-6)
    mean = (z / z.norm(dim=1, keepdim=True)).mean(0)
    assert mean.abs().max() < 4.5 / math.sqrt(3 * len(z))


def test_sliced_score_matching_is_least_at_the_score_in_the_directions_of_the_noise():
    """For `log p = k·x/|x|` on the sphere (von Mises and Fisher), the loss of `c` times the score is least at `c = 1`."""

    class Scaled(ScoreModel):
        def __init__(self, sde, factor):
            torch.nn.Module.__init__(self)
            self.sde, self.factor = sde, factor

        def score(self, z, t, condition=None):
            r = z.norm(dim=1, keepdim=True)
            u = z / r
            k = torch.tensor([2.0, 0.0, 0.0], dtype=z.dtype)
            return self.factor * (k - u * (u @ k)[:, None]) / r + z  # what is radial does not count

    class Still(Rotation):
        """The data themselves in place of noised ones."""

        def perturb(self, x0, t, noise):
            return x0

    g = torch.Generator().manual_seed(6)
    w = 1 + torch.log1p(torch.rand(40_000, generator=g, dtype=torch.float64) * math.expm1(-4.0)) / 2  # `cos` of the angle, density ∝ e^{2w}
    angle = 2 * math.pi * torch.rand(len(w), generator=g, dtype=torch.float64)
    side = (1 - w**2).clamp_min(0).sqrt()
    rows = torch.stack([w, side * angle.cos(), side * angle.sin()], 1)
    rows = rows * (1 + torch.rand(len(w), 1, generator=g, dtype=torch.float64) * 5)
    t = torch.full((len(w), 1), 0.5, dtype=torch.float64)
    losses = {}
    for factor in (0.8, 1.0, 1.2):
        loss = SlicedSM()(Scaled(Still(), factor), Batch(rows), t, Noise.seeded(7))
        losses[factor] = loss.detach()
    for other in (0.8, 1.2):
        gap = losses[other] - losses[1.0]
        assert float(gap.mean()) > 3 * float(gap.std()) / math.sqrt(len(gap))


@pytest.mark.parametrize(
    ("skew", "words"),
    [
        (((0.0, 1.0), (1.0, 0.0)), "is not allowed"),
        ((((0.0, 1.0), (1.0, 0.0)),), r"matrix 1 of skew is not skew-symmetric: its entries \(1, 2\) and \(2, 1\) are 1 and 1"),
        ((((0.0, 1.0), (-1.0, 0.5)),), "not skew-symmetric"),
        ((((0.0, 1.0, 0.0), (-1.0, 0.0)),), "square"),
        (PLANES[:1], "in 1 of the 2 directions"),
        ((), "square"),
    ],
)
def test_matrices_that_do_not_rotate_are_refused(skew, words):
    with pytest.raises(ParameterError, match=words):
        Rotation(skew=skew)


def test_matrices_are_read_from_a_spec_string():
    from sdezoo.zoo.spec import parse

    _, values = parse("rotation:decay=3,skew=(((0,1),(-1,0)))")
    built = Rotation(**values)
    assert built.skew == (((0.0, 1.0), (-1.0, 0.0)),)
    _, values = parse(built.full_spec)
    assert Rotation(**{key: None if value == "none" else value for key, value in values.items()}) == built


def test_rows_of_one_column_have_no_direction():
    with pytest.raises(DataError, match="no direction"):
        Rotation().adapted(torch.ones(5, 1))


def test_a_row_of_zeros_stays():
    zero = torch.zeros(2, 3, dtype=torch.float64)
    for sde in (Rotation(), Rotation(skew=PLANES)):
        assert not sde.perturb(zero, T, Noise.seeded(8)).any()
        assert sde.score_from_output(sde.network_input(zero, T), zero, T).isfinite().all()
