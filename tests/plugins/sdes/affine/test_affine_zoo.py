"""What is particular to each affine process of the zoo: its closed forms, beside the laws that all of them obey."""

import dataclasses
import math
import re
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from scipy.stats import kstest, lognorm

from sdezoo import SAMPLERS, SDES
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Atoms, gaussian
from sdezoo.errors import DataError, ParameterError
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.noise import Noise
from sdezoo.sampling.grid import check_grid, grid, stochastic
from tests.analytic import at, coordinates

WIDE = torch.empty((), dtype=torch.float64)
LEVEL, MANY = 0.01, 20_000

# Cosine


def test_the_cosine_schedule_is_the_published_one():
    sde, t = SDES.build("cosine"), torch.linspace(0, 1, 101, dtype=torch.float64)
    f = torch.cos((0.995 * t + 0.008) / 1.008 * math.pi / 2) ** 2
    k = sde.coefficients(t)
    torch.testing.assert_close(k.alpha**2, f / f[0], rtol=1e-12, atol=0)
    torch.testing.assert_close(k.alpha, (1 - k.variance).sqrt(), rtol=1e-10, atol=0)


def test_the_cosine_variance_loses_no_digits_near_the_data():
    """`v = t h (t h + 2 tan h_0) + O(t³)`."""
    sde, t = SDES.build("cosine"), torch.tensor([1e-9, 1e-7], dtype=torch.float64)
    h, start = math.pi / 2 * 0.995 / 1.008, math.pi / 2 * 0.008 / 1.008
    torch.testing.assert_close(
        sde.coefficients(t).variance, t * h * (t * h * (1 - math.tan(start) ** 2) + 2 * math.tan(start)), rtol=1e-10, atol=0
    )


# EDM


def test_equal_steps_in_time_are_the_published_noise_levels():
    sde, n = SDES.build("edm"), 18
    i = torch.arange(n, dtype=torch.float64)
    levels = (80 ** (1 / 7) + i / (n - 1) * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    for spacing in ("uniform", "karras"):
        torch.testing.assert_close(sde.exact(grid(sde, n, spacing)[:-1]).sigma, levels, rtol=1e-7, atol=0)
    with pytest.raises(ParameterError, match="sigma_min=90 is not below sigma_max=80"):
        SDES.build("edm:sigma_min=90")


# Rectified flow


def test_ddim_is_eulers_method_on_the_velocity():
    """`x ← x + (s − t) E[ε − x_0 | x]`, and the velocity is that of the probability flow."""
    model, z = gaussian(SDES.build("rectified-flow")), coordinates(9, 2)
    for t, s in torch.tensor([[0.99, 0.7], [0.5, 0.01], [0.01, 0.0]], dtype=torch.float64):
        denoised = model.denoise(z, t)
        velocity = (z - (1 - t) * denoised) / t - denoised
        step, _ = SAMPLERS.build("ddim").step(model, z, t, s, keyed(9), None)
        torch.testing.assert_close(step, z + (s - t) * velocity, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(model.sde.reverse_drift(z, t, model.score(z, t), half=0.5), velocity, rtol=1e-9, atol=1e-9)


def test_the_u_grid_of_rectified_flow_is_the_published_one():
    steps, delta = 19, 0.05
    half = [delta * (0.5 / delta) ** (2 * j / (steps - 1)) for j in range((steps + 1) // 2)]
    published = torch.tensor(half + [1 - tau for tau in reversed(half[:-1])], dtype=torch.float64)
    times = grid(SDES.build("rectified-flow:delta=0.05"), steps, "u-grid")[:-1]
    torch.testing.assert_close(1 - times, published, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("spec", ["rectified-flow", "vp", "gbm:sigma=0.8,mu=0.1", "edm"])
def test_the_stochastic_step_is_ddpm(spec):
    """In `(z − m)/S`, with `ᾱ = R²`: Ho et al., arXiv 2006.11239, eq. 7 and 11."""
    model, z = gaussian(SDES.build(spec)), coordinates(9, 2)
    sde, sampler = model.sde, SAMPLERS.build("rectified-sde")
    for t, s in ((sde.t_span[1], 0.5), (0.5, 0.499), (0.3, sde.t_span[0]), (sde.t_span[0], 0.0)):
        p, q = sde.at(at(t), z), sde.at(at(s), z)
        size, end_size = (p.alpha**2 + p.variance).sqrt(), (q.alpha**2 + q.variance).sqrt()
        bar, bar_end = (p.alpha / size) ** 2, (q.alpha / end_size) ** 2
        step_alpha, x = bar / bar_end, (z - p.shift) / size
        predicted = -(1 - bar).sqrt() * size * model.score(z, at(t))  # ε_θ
        mean = (x - (1 - step_alpha) / (1 - bar).sqrt() * predicted) / step_alpha.sqrt()
        deviation = ((1 - bar_end) / (1 - bar) * (1 - step_alpha)).sqrt()
        expected = q.shift + end_size * (mean + deviation * keyed(9).normal(z))
        torch.testing.assert_close(sampler.step(model, z, at(t), at(s), keyed(9), None)[0], expected, rtol=1e-8, atol=1e-10)
        ancestral, _ = SAMPLERS.build("ancestral").step(model, z, at(t), at(s), keyed(9), None)
        torch.testing.assert_close(expected, ancestral, rtol=1e-7, atol=1e-9)


def published(count, c0, c1):
    """The signal's share `τ` of the stochastic grid, rising."""
    f = c1 * math.log(count) / count
    beta = [count**-c0, *(f * min(1.0, count**-c0 * (1 + f) ** i) for i in range(2, count + 1))]
    kept = torch.cumprod(1 - torch.tensor(beta, dtype=torch.float64), 0)
    return (kept.sqrt() / (kept.sqrt() + (1 - kept).sqrt())).flip(0)


@dataclass(frozen=True)
class Geometric(AffineSDE):
    """Noise levels from `low` to `high`, their logarithm linear in time."""

    low: float
    high: float

    @property
    def t_span(self):
        return 0.1, 1.0

    def coefficients(self, t):
        return Coefficients(torch.ones_like(t), torch.zeros_like(t), self.high**2 * (self.high / self.low) ** ((t - 1) / 0.45))


@pytest.mark.parametrize("count", [13, 20, 100, 1000])
def test_the_stochastic_grid_is_the_published_one(count):
    """On a process that begins and ends where it does."""
    tau = published(count, 2.0, 5.0)
    sde = Geometric(low=float(1 / tau[-1] - 1), high=float(1 / tau[0] - 1))
    times = stochastic(sde, count, 2.0, 5.0)
    check_grid(times, sde)
    torch.testing.assert_close(1 / (1 + sde.exact(times[:-1]).ratio), tau, rtol=1e-6, atol=0)


@pytest.mark.parametrize("spec", ["rectified-flow", "vp", "gbm"])
def test_on_others_the_stochastic_grid_is_cut_or_goes_on(spec):
    sde = SDES.build(spec)
    for count in (13, 20, 400):
        times = stochastic(sde, count, 2.0, 5.0)
        check_grid(times, sde)
        assert len(times) == count + 1
        index = torch.arange(count, 0, -1, dtype=torch.float64)
        levels, tau = sde.exact(times[:-1]).ratio, published(count, 2.0, 5.0)
        inside = levels > 1 / tau[-1] - 1
        passed = np.interp(levels[inside].log().numpy(), (1 / tau - 1).log().flip(0).numpy(), index.flip(0).numpy())
        assert np.diff(passed) == pytest.approx(np.diff(passed).mean(), rel=1e-4)


@pytest.mark.parametrize(
    ("spec", "steps", "reason"),
    [
        ("rectified-sde:constants=(2,2)", 100, r"starts at a noise level of 1\.05, where the state is not noise yet.*Take a larger c_1"),
        ("rectified-sde:constants=(2,5)", 12, r"c_1 ln N/N = 1\.04, which is not between 0 and 1. Take more steps"),
        ("rectified-sde:constants=(2,5)", 1, "not between 0 and 1"),
    ],
)
def test_stochastic_grids_that_do_not_start_in_noise_are_refused(spec, steps, reason):
    with pytest.raises(ParameterError, match=reason):
        SAMPLERS.build(spec).sample(gaussian(SDES.build("rectified-flow")), (2, 2), steps)


@pytest.mark.parametrize("sampler", ["ddim:spacing=u-grid", "rectified-sde:spacing=u-grid", "rectified-sde:constants=(2,5)"])
def test_samples_of_eight_points_hit_them(sampler):
    """Twenty steps: before the last, which denoises, hardly any state is within 0.005 of the data, after it all are."""
    points = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    model, seen = Atoms(SDES.build("rectified-flow:delta=0.02"), points), []
    x = SAMPLERS.build(sampler).sample(model, (2000, 3), 20, callback=lambda _k, z, _t: seen.append(z))

    def hits(states):
        return float((torch.cdist(states, points).amin(1) < 0.005).double().mean())

    assert hits(seen[-2]) < 0.1
    assert hits(x) > 0.995
    assert torch.cdist(x, points).argmin(1).bincount(minlength=8).min() > 2000 / 8 * 0.6


# Exponential Ornstein–Uhlenbeck


@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0])
def test_the_log_normal_law_is_stationary(t):
    """By Kolmogorov and Smirnov's test, from stationary data at any time, from a point after long, and for the prior."""
    sde = SDES.build("exp-ou:mean=0.7,sigma=0.4")
    law = lognorm(0.4, scale=math.exp(0.7))
    prior = sde.decode(sde.prior((MANY, 1), Noise.seeded(0), WIDE))
    noised = sde.decode(sde.perturb(prior, at(t), Noise.seeded(1)))
    fast = dataclasses.replace(sde, kappa=12.0)
    late = fast.decode(fast.perturb(torch.full((MANY, 1), 3.0, dtype=torch.float64), at(1.0), Noise.seeded(2)))
    for x in (prior, noised, late):
        assert kstest(x[:, 0].numpy(), law.cdf).pvalue > LEVEL


def test_the_prior_of_adapted_data_has_their_moments_at_every_time():
    """No prior gap in two moments of each column, or of all entries of images: with `z_0 ~ (θ, s²)`, `α θ + m = θ` and `α² s² + v = s²`."""
    table = (2.0 + 0.3 * coordinates(400, 3)).exp()
    sde = SDES.build("exp-ou").adapted(table)
    z0, k = sde.encode(table), sde.exact(torch.linspace(0, 1, 9, dtype=torch.float64)[:, None])
    torch.testing.assert_close(k.alpha * z0.mean(0) + k.shift, torch.zeros(9, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(k.alpha**2 * z0.var(0) + k.variance, torch.ones(9, 3, dtype=torch.float64), rtol=1e-12, atol=0)
    x0 = table.reshape(400, 1, 1, 3)
    sde = SDES.build("exp-ou").adapted(x0)
    z0, k = x0.log(), sde.exact(torch.linspace(0, 1, 9, dtype=torch.float64))
    torch.testing.assert_close(k.alpha * z0.mean() + k.shift, z0.mean().expand(9), rtol=1e-12, atol=0)
    torch.testing.assert_close(k.alpha**2 * z0.var() + k.variance, z0.var().expand(9), rtol=1e-12, atol=0)
    assert SDES.build("exp-ou:mean=1").adapted(x0).parameters() == {**sde.parameters(), "mean": 1.0}
    with pytest.raises(DataError, match="All values of the data are the same"):
        SDES.build("exp-ou").adapted(torch.ones(4, 2))


def test_every_name_is_described():
    for name in ("cosine", "edm", "exp-ou", "lift", "rectified-flow"):
        summary, broken = SDES.summary(name)
        assert broken is None
        assert re.match(r"[A-Z].*\.$", summary)
