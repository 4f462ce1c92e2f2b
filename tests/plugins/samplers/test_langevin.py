"""Mirrored Langevin: its step, what it settles in with and without Metropolis, and what it refuses.

Means are compared in units of their standard errors over independent chains, which counts every chain at its effective size.
"""

import math

import pytest
import torch
from scipy.special import digamma
from torch.distributions import Gamma, HalfNormal, LogNormal, Weibull

from sdezoo.errors import DataError, ParameterError, SdezooError, SupportError
from sdezoo.process.noise import KeyedNoise
from sdezoo.sampling.langevin import MirroredLangevin
from tests.analytic import SIGMAS

WIDE = torch.float64
GAMMA = Gamma(torch.tensor(3.0, dtype=WIDE), torch.tensor(1.0, dtype=WIDE))


def summed(law, constant=0.0):
    return lambda x: law.log_prob(x).sum(1) + constant


def ones(chains, entries=1):
    return torch.ones(chains, entries, dtype=WIDE)


def off(values, exact):
    """How many standard errors the mean of `values` `(draws, B, d)` is off in each entry, and that standard error."""
    means = values.mean(0)
    error = means.std(0) / math.sqrt(len(means))
    return (means.mean(0) - exact) / error, error


def assert_mean(values, exact):
    assert float(off(values, exact)[0].abs().max()) < SIGMAS


def test_a_step_multiplies():
    """x ∘ exp(ε (1 + h) + √(2ε) ξ), h = 2 − x for Gamma(3)."""
    x = torch.tensor([[0.5, 1.0], [2.0, 7.0], [0.01, 3.0]], dtype=WIDE)
    xi = KeyedNoise(5, range(7, 10)).normal(x)
    for step in (0.3, 0.01):
        drawn = MirroredLangevin(step=step, burn_in=1).sample(summed(GAMMA), x, seed=5, first=7)
        torch.testing.assert_close(drawn.draws[0], x * torch.exp(step * (1 + 2 - x) + math.sqrt(2 * step) * xi))
        assert torch.equal(drawn.accepted, torch.ones(3, dtype=WIDE))


@pytest.mark.parametrize("step", [0.02, 0.3])
def test_what_an_unadjusted_chain_settles_in_is_known_for_a_log_normal_law(step):
    """Variance s²/(1 − ε/2s²) of log x, from chains that are at rest after `burn_in`."""
    mean, s, chains = 0.7, 0.6, 20_000
    law = LogNormal(torch.tensor(mean, dtype=WIDE), torch.tensor(s, dtype=WIDE))
    burn_in = math.ceil(-math.log(1e-4) / -math.log(abs(1 - step / s**2)))
    z = MirroredLangevin(step=step, burn_in=burn_in).sample(summed(law), ones(chains)).draws[0].log()
    settled = s**2 / (1 - step / (2 * s**2))
    assert abs(float(z.mean()) - mean) < SIGMAS * math.sqrt(settled / chains)
    assert abs(float(z.var()) / settled - 1) < SIGMAS * math.sqrt(2 / chains)
    if step > 0.1:
        assert settled / s**2 - 1 > 10 * SIGMAS * math.sqrt(2 / chains)


def test_the_bias_falls_with_the_step():
    """Gamma(3): the mean is right at every step. That of log x is not, and half the step leaves at most half of the error."""
    biases, errors = [], []
    for step in (0.4, 0.2, 0.1):
        chain = MirroredLangevin(step=step, burn_in=round(8 / step), thin=round(1 / step))
        draws = chain.sample(summed(GAMMA), ones(4000), draws=16).draws
        assert_mean(draws, 3)
        away, error = off(draws.log(), digamma(3.0))
        assert float(away) < -2 * SIGMAS
        biases.append(float(away * error))
        errors.append(float(error))
    for coarse, fine, error in zip(biases, biases[1:], errors, strict=False):
        assert fine > coarse / 2 - SIGMAS * error


def wide(number):
    return torch.tensor(number, dtype=WIDE)


LAWS = {
    "gamma": (GAMMA, 0.5, digamma(3.0)),
    "gamma, mass at zero": (Gamma(wide(0.4), wide(2.0)), 0.5, digamma(0.4) - math.log(2.0)),
    "log-normal": (LogNormal(wide(0.3), wide(0.6)), 0.4, 0.3),
    "weibull": (Weibull(wide(1.5), wide(2.0)), 0.25, math.log(1.5) + digamma(1.0) / 2),
    "half-normal": (HalfNormal(wide(2.0)), 0.2, math.log(2.0) + (digamma(0.5) + math.log(2)) / 2),
}
"""A law, a step that is too large for it, and its mean of log x."""


@pytest.mark.parametrize("name", LAWS)
def test_with_metropolis_moments_are_exact(name):
    """At a step at which the unadjusted chain is visibly wrong; constants do not count."""
    law, step, mean_log = LAWS[name]
    wrong = {}
    for metropolis in (True, False):
        chain = MirroredLangevin(step=step, burn_in=80, thin=5, metropolis=metropolis)
        draws, accepted = chain.sample(summed(law, 17.0), ones(1500, 2), draws=10)
        moments = (draws, law.mean), ((draws - law.mean) ** 2, law.variance), (draws.log(), mean_log)
        wrong[metropolis] = max(float(off(*moment)[0].abs().max()) for moment in moments)
        assert bool((accepted < 1).any()) == metropolis
    assert wrong[True] < SIGMAS < wrong[False]


def test_with_metropolis_a_density_may_end():
    """Uniform on (0, 2): steps beyond are rejected, and without Metropolis they are refused."""

    def log_prob(x):
        return torch.where(x < 2, 0 * x, -math.inf).sum(1)

    draws = MirroredLangevin(step=0.3, burn_in=50, thin=5, metropolis=True).sample(log_prob, ones(1500), draws=10).draws
    assert float(draws.max()) < 2
    assert_mean(draws, 1)
    assert_mean((draws - 1) ** 2, 1 / 3)
    with pytest.raises(SupportError, match=r"chains at step \d+ of 50"):
        MirroredLangevin(step=0.3, burn_in=50).sample(log_prob, ones(1500))
    with pytest.raises(SupportError, match="in 1 of 2 chains at the start"):
        MirroredLangevin(step=0.3, metropolis=True).sample(log_prob, torch.tensor([[1.0], [3.0]]))


@pytest.mark.parametrize("metropolis", [False, True])
def test_a_chain_depends_on_its_own_row_alone(metropolis):
    chain = MirroredLangevin(step=0.1, burn_in=20, metropolis=metropolis)
    start = torch.rand(8, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.1

    def log_prob(x):
        return (2 * x.log() - x).flatten(1).sum(1)

    together = chain.sample(log_prob, start, draws=3, seed=4)
    assert together.draws.shape == (3, 8, 2, 3)
    assert together.draws.dtype == torch.float32
    alone = chain.sample(log_prob, start[3:5], draws=3, seed=4, first=3)
    torch.testing.assert_close(alone.draws, together.draws[:, 3:5])
    assert not torch.allclose(chain.sample(log_prob, start, seed=5).draws[0], together.draws[0])


def test_which_draws_are_kept():
    start, done = ones(3), []
    every = MirroredLangevin(step=0.1, burn_in=4).sample(summed(GAMMA), start, draws=7, callback=done.append).draws
    assert done == list(range(1, 11))
    some = MirroredLangevin(step=0.1, burn_in=4, thin=3).sample(summed(GAMMA), start, draws=3).draws
    assert torch.equal(some, every[[0, 3, 6]])


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode])
def test_the_draws_are_the_same_in_every_grad_mode(outer):
    chain, start = MirroredLangevin(step=0.1, burn_in=5, metropolis=True), ones(4)
    expected = chain.sample(summed(GAMMA), start).draws
    with outer():
        assert torch.equal(chain.sample(summed(GAMMA), start + 0).draws, expected)
    assert not expected.requires_grad


@pytest.mark.parametrize("law", [Gamma(torch.tensor(0.01), torch.tensor(1.0)), LogNormal(torch.tensor(-85.0), torch.tensor(10.0))])
def test_draws_are_positive_or_there_are_none(law):
    """Laws that float32 cannot hold: log x reaches below −87. What leaves its numbers is rejected, or stops the chains."""
    start = torch.full((200, 1), 1e-35)
    draws = MirroredLangevin(step=50.0, burn_in=200, metropolis=True).sample(summed(law), start, draws=5).draws
    assert bool((draws > 0).all())
    assert float(draws.min()) < 1e-37
    with pytest.raises(SupportError, match="Take smaller steps than step=50,"):
        MirroredLangevin(step=50.0).sample(summed(law), start)


def test_what_cannot_be_sampled_is_refused():
    chain = MirroredLangevin(step=0.1, burn_in=2)
    target = summed(GAMMA)
    for start in (
        torch.tensor([[1.0], [0.0]]),
        torch.tensor([[math.nan]]),
        torch.tensor([[math.inf]]),
        torch.ones(0, 2),
        torch.tensor(1.0),
    ):
        with pytest.raises(DataError):
            chain.sample(target, start)
    for wrong in (GAMMA.log_prob, lambda x: target(x).sum(), lambda x: target(x).detach()):
        with pytest.raises(ParameterError, match="one number a row"):
            chain.sample(wrong, ones(3))
    for metropolis in (False, True):
        for wrong in (lambda x: (x - 2).sqrt().sum(1), lambda x: target(x) + math.inf, lambda x: (x - x).sqrt().sum(1)):
            with pytest.raises(SupportError, match="not finite in 3 of 3 chains at the start"):
                MirroredLangevin(step=0.1, metropolis=metropolis).sample(wrong, ones(3))
    with pytest.raises(ParameterError, match="draws=0"):
        chain.sample(target, ones(3), draws=0)
    with pytest.raises(SdezooError):
        MirroredLangevin(step=0.0)
