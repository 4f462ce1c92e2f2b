"""Bounded processes: the heat kernel of a box, Metropolis' rule in any set, and score matching where there are walls."""

import math
from dataclasses import dataclass

import pytest
import torch
from scipy import stats

from sdezoo import LOSSES, SAMPLERS, SDES, DiffusionModel, Model, Noise
from sdezoo.conformance import sde_laws
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.data.dataset import Data
from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.loss import Batch
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo_plugins.sdes.boundary.log_barrier import LogBarrier
from sdezoo_plugins.sdes.boundary.metropolis import Metropolis, MetropolisWalk
from sdezoo_plugins.sdes.boundary.reflected import SWITCH, Reflected, by_eigenfunctions, by_images

WIDE = torch.empty((), dtype=torch.float64)
TRIANGLE = "-1 0 0; 0 -1 0; 1 1 1"


@dataclass(frozen=True)
class Crescent(MetropolisWalk):
    """A disc without a smaller one: given by its membership test alone, not convex."""

    def inside(self, x):
        return (x.norm(dim=-1) <= 1) & ((x - x.new_tensor([0.5, 0.0])).norm(dim=-1) > 0.6)

    @property
    def bounds(self):
        return (-1.0, -1.0), (1.0, 1.0)


BALL, ANNULUS, POLYTOPE = Metropolis(set="ball", radius=2), Metropolis(set="annulus"), Metropolis(set="polytope", faces=TRIANGLE)
SETS = [Reflected(low=-0.3, high=0.7), Metropolis(low=0.1, high=0.7), BALL, ANNULUS, POLYTOPE, Crescent()]
each_set = pytest.mark.parametrize("sde", SETS, ids=lambda sde: sde.words if isinstance(sde, MetropolisWalk) else sde.spec)


def at(t):
    return torch.tensor(t, dtype=torch.float64)


def time_of(sde, heat):
    """The time at which the heat time `v/2` is `heat`."""
    return at(math.log1p(2 * heat / sde.sigma_min**2) / (2 * math.log(sde.sigma_max / sde.sigma_min)))


# --- the heat kernel -------------------------------------------------------------------------------------------------

U, Y = torch.cartesian_prod(*[torch.linspace(0, 1, 41, dtype=torch.float64)] * 2).T


@pytest.mark.parametrize("heat", [0.01, 0.02, 0.05, 0.1, 0.25])
def test_images_and_eigenfunctions_agree_over_their_overlap(heat):
    (p, _), (q, _) = by_images(U, Y, at(heat), 3), by_eigenfunctions(U, Y, at(heat), 20)
    assert float((p.exp() - q.exp()).abs().max() / p.exp().max()) < 2e-15


def test_at_the_switch_the_terms_that_are_kept_are_enough():
    for p, q in zip(by_images(U, Y, at(SWITCH)), by_eigenfunctions(U, Y, at(SWITCH)), strict=True):
        assert torch.allclose(p, q, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("t", [1e-3, 0.2, 0.5, 0.55, 0.6, 1.0])
def test_the_score_is_finite_and_has_no_normal_part_at_the_walls(t):
    sde = Reflected(low=-1, high=3)
    assert torch.isfinite(sde.score((4 * U - 1).float(), (4 * Y - 1).float(), at(t))).all()
    score = sde.scale(at(t)) * sde.score(4 * U - 1, 4 * Y - 1, at(t))
    assert torch.isfinite(score).all()
    assert float(score[(U == 0) | (U == 1)].abs().max()) < 1e-6


@pytest.mark.parametrize("sde", [Reflected(), Metropolis()], ids=["reflected", "metropolis"])
@pytest.mark.parametrize("heat", [0.02, 0.1, 0.3])
def test_cosines_fade_as_the_heat_equation_says(sde, heat):
    cosine = torch.cos(math.pi * sde.perturb(torch.full((100_000, 1), 0.2, dtype=torch.float64), time_of(sde, heat), Noise.seeded(7)))
    expected = math.exp(-(math.pi**2) * heat) * math.cos(0.2 * math.pi)
    assert abs(float(cosine.mean()) - expected) < 4.5 * float(cosine.std()) / math.sqrt(len(cosine))


def test_the_fold_is_even_about_both_walls_and_exact_inside():
    sde = Reflected(low=0.1, high=0.7)
    z = torch.tensor([0.1, 0.3, 0.7, 0.05, 0.8, 1.35, -1.15, 1e6], dtype=torch.float64)
    folded = sde.project(z, z)
    assert torch.equal(folded[:3], z[:3])
    assert torch.allclose(folded[3:7], torch.tensor([0.15, 0.6, 0.15, 0.05 + 0.1], dtype=torch.float64))
    assert 0.1 <= float(folded[7]) <= 0.7


# --- what every set keeps ----------------------------------------------------------------------------------------------


def uniforms(sde, x):
    """Two functions of vectors `x` that are uniform where `x` is, each `(B,)`."""
    if isinstance(sde, Crescent):
        return []
    if sde is POLYTOPE:
        return [x.sum(1) ** 2, x[:, 0] / x.sum(1)]
    if sde in (BALL, ANNULUS):
        low, high = (0.0, 2.0) if sde is BALL else (0.3, 1.0)
        return [(x.norm(dim=1) ** 2 - low**2) / (high**2 - low**2), torch.atan2(x[:, 1], x[:, 0]) / (2 * math.pi) + 0.5]
    return list(((x - sde.low) / (sde.high - sde.low)).T)


@each_set
def test_the_uniform_law_is_invariant(sde):
    """At level 0.01 for all the functions and times of a set together."""
    start = sde.prior((20_000, 2), Noise.seeded(4, 1), WIDE)
    ends = [sde.perturb(start, at(t), Noise.seeded(4, 2)) for t in (0.5, 1.0)]
    found = [stats.kstest(u.numpy(), "uniform").pvalue for x in (start, *ends) for u in uniforms(sde, x)]
    if isinstance(sde, Crescent):
        found = [stats.ks_2samp(start[:, i].numpy(), x[:, i].numpy()).pvalue for x in ends for i in (0, 1)]
    assert min(found) > 0.01 / len(found)


class Gusts(Model):
    """A score that blows out of any set."""

    def __init__(self, sde):
        self.sde = sde

    def score(self, z, t):
        return 30 * torch.sin(9 * z) + 5 * z / self.sde.scale(t).to(z)


@each_set
def test_of_a_million_states_none_is_outside_at_any_number_of_steps(sde):
    states = 0

    def watch(k, z, t):
        nonlocal states
        inside = sde.support.check(z)
        assert inside.all()
        states += inside.numel()

    rows = 700 if sde.support.event_dim else 350
    for steps in (1, 2, 3, 5, 10, 30, 100, 300, 1000):
        SAMPLERS.build("euler-maruyama").sample(Gusts(sde), (rows, 2), steps, seed=steps, callback=watch)
    assert states > 1_000_000


class Borrowed(Model):
    """The exact score of one process, for another that has the same limit."""

    def __init__(self, sde, exact):
        self.sde, self.exact = sde, exact

    def score(self, z, t):
        return self.exact.score(z, t)


@pytest.mark.parametrize(("sde", "bound"), [(Reflected(), 0.012), (Metropolis(), 0.013)], ids=["reflected", "metropolis"])
def test_two_points_are_recovered_in_300_steps(sde, bound):
    a = torch.tensor([0.1, 0.6], dtype=torch.float64)
    exact = Atoms(Reflected(sde.sigma_min, sde.sigma_max), a[:, None])
    x = SAMPLERS.build("euler-maruyama").sample(Borrowed(sde, exact), (4000, 1), 300, seed=0, like=WIDE)
    assert float((x[:, 0].sort().values - a.repeat_interleave(2000)).abs().mean()) < bound


@pytest.mark.parametrize("sde", [ANNULUS, POLYTOPE, Crescent()], ids=["annulus", "polytope", "crescent"])
@pytest.mark.parametrize("law", ["contract", "rows-are-independent", "keyed-noise-only", "support"])
def test_sets_obey_the_laws(sde, law):
    next(bound for bound in sde_laws(sde) if bound.__name__ == law)()


def test_what_is_not_a_number_shows():
    z = torch.tensor([[0.5, 0.5]])
    assert BALL.project(torch.tensor([[math.nan, 0.1]]), z).isnan().any()
    assert torch.equal(BALL.project(torch.tensor([[math.inf, 0.1]]), z), z)


# --- parameters and refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("reflected:low=2", "low=2 is not below high=1"),
        ("reflected:sigma_min=7", "sigma_min=7 is not below"),
        ("metropolis:sigma_min=7", "sigma_min=7 is not below"),
        ("metropolis:set=ball,low=1", "set=ball has no low.*set=box"),
        ("metropolis:set=annulus,inner=2", "leave no room"),
        ("metropolis:set=polytope", "faces=none are not half-spaces"),
        ("metropolis:set=polytope,faces=1 x 2", "are not half-spaces"),
        ("metropolis:set=polytope,faces=1 0 1; 0 1 1", "is empty or unbounded"),
        ("metropolis:set=polytope,faces=1 1; -1 -1", "is flat"),
        ("log-barrier:sigma_min=7", "sigma_min=7 is not below"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(spec, message):
    with pytest.raises(ParameterError, match=message):
        SDES.build(spec)


def test_a_polytope_is_rebuilt_from_its_spec_and_knows_its_box():
    again = SDES.build(f"metropolis:set=polytope,faces={TRIANGLE}")
    assert SDES.build(again.spec) == again
    assert again.bounds == ([0.0, 0.0], [1.0, 1.0])


def test_data_of_another_dimension_and_sets_lost_in_their_bounds_are_refused():
    with pytest.raises(DataError, match=r"2 numbers besides b, but the data have 3 columns"):
        POLYTOPE.inside(torch.zeros(1, 3))

    @dataclass(frozen=True)
    class Speck(Crescent):
        """A point in a large box."""

        def inside(self, x):
            return x.norm(dim=-1) < 1e-6

    with pytest.raises(ParameterError, match="none of 256 points sampled in its bounds is in the set"):
        Speck().prior((3, 2), Noise.seeded(0), WIDE)


def test_data_are_placed_as_they_are_or_refused():
    images = torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    images[0] = 0.0
    affine = fit_encoding(Data(images, images, "image"), Reflected().support)
    assert (affine.codecs[0].scale, affine.codecs[0].shift) == (1, 0)
    points = torch.tensor([[0.5, 0.5], [0.0, 0.1], [3.0, 0.0]])
    with pytest.raises(DataError, match=r"2 rows are outside the support of the SDE, the annulus of radii 0.3 and 1"):
        fit_encoding(Data(points[:2], points[2:], "points"), ANNULUS.support)
    with pytest.raises(CompositionError, match=r"needs an affine SDE"):
        SAMPLERS.build("ddim").sample(Gusts(Reflected()), (2, 1), 2)


# --- learning -----------------------------------------------------------------------------------------------------------


class Tilted(Model):
    """`s + θ f` with the exact score `s` and a field `f` that flows out of every wall."""

    def __init__(self, exact, theta):
        self.sde, self.exact, self.theta = exact.sde, exact, theta

    def score(self, z, t, condition=None):
        return self.exact.score(z, t) + self.theta * (z - 0.5)

    predict = score


def slope(loss, heat):
    """The mean of `d loss / dθ` at the exact score, in standard errors."""
    sde = Reflected()
    exact = Atoms(sde, torch.tensor([[0.1], [0.6]], dtype=torch.float64))
    x0 = exact.clean(20_000, Noise.seeded(1)).double()
    theta = torch.zeros(len(x0), 1, dtype=torch.float64, requires_grad=True)
    value = LOSSES.build(loss)(Tilted(exact, theta), Batch(x0), time_of(sde, heat).expand(len(x0), 1), Noise.seeded(2))
    (found,) = torch.autograd.grad(value.sum(), theta)
    return float(found.mean() / found.std() * math.sqrt(len(found)))


@pytest.mark.parametrize("heat", [0.005, 0.03, 0.2])
def test_with_walls_the_score_minimizes_confined_score_matching(heat):
    assert abs(slope("dsm", heat)) < 4
    assert abs(slope("confined-sm", heat)) < 4


def test_without_the_boundary_term_it_does_not():
    assert abs(slope("sliced-sm", 0.2)) > 50


def test_training_and_sampling_stay_inside():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, 1, 4, 4, generator=generator)
    ring = Metropolis(set="annulus").prior((64, 2), Noise.seeded(0), torch.empty(()))
    for sde, data, loss, net in [
        ("reflected", images, "dsm", "unet:width=8"),
        ("metropolis", images, "confined-sm", "unet:width=8"),
        ("metropolis:set=annulus", ring, "confined-sm", "mlp:width=16,depth=1"),
    ]:
        model = DiffusionModel(sde=sde, loss=loss, net=net, steps=2, batch_size=8).fit(data.numpy())
        x = torch.as_tensor(model.sample(5))
        assert SDES.build(sde).support.check(x).all()


# --- the log-barrier ------------------------------------------------------------------------------------------------------


def test_the_log_barrier_moves_by_itos_formula_and_keeps_the_uniform_law():
    sde = LogBarrier()
    x = torch.linspace(0.01, 0.99, 33, dtype=torch.float64).requires_grad_()
    metric = 1 / x**2 + 1 / (1 - x) ** 2
    (half,) = torch.autograd.grad((0.5 / metric).sum(), x)
    x = x.detach()
    rate, first, second = sde.rate(at(0.7), x), 1 / (x * (1 - x)), (2 * x - 1) / (x * (1 - x)) ** 2
    z = torch.logit(x)[:, None]
    assert torch.allclose(sde.drift(z, at(0.7))[:, 0], (first * half + second / (2 * metric.detach())) * rate)
    assert torch.allclose(sde.diffusion(z, at(0.7))[:, 0], first * (rate / metric.detach()).sqrt())
    start = sde.decode(sde.prior((20_000, 1), Noise.seeded(1), WIDE))
    middle, end = (sde.decode(sde.perturb(start, at(t), Noise.seeded(2))) for t in (0.7, 1.0))
    for rows in (start, middle):
        assert stats.kstest(rows[:, 0].numpy(), "uniform").pvalue > 0.01
    assert stats.kstest(end[:, 0].numpy(), "uniform").statistic < 0.025  # the step's own bias, 0.010, and sampling error


def test_the_log_barrier_stays_off_its_walls_and_takes_no_data_there():
    sde = LogBarrier()
    for steps in (1, 2, 5, 30, 300):
        x = SAMPLERS.build("euler-maruyama").sample(Gusts(sde), (500, 2), steps)
        assert ((x > 0) & (x < 1)).all()
    far = torch.tensor([[16.0, -16.0, 46.0, 1e6]])
    assert sde.project(far, far)[0, :3].tolist() == [14.0, -14.0, -14.0]
    with pytest.raises(DataError, match="1 value is outside the support"):
        fit_encoding(Data(torch.tensor([[0.0], [0.5]]), torch.tensor([[0.5]]), "points"), sde.support)
