"""Beta diffusion: its marginals, the divergence that it learns by, and the way back with an exact denoiser."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from sdezoo.learning.model import DenoiserModel, ScoreModel
from sdezoo.process.noise import Noise
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import NETWORKS, SAMPLERS, SDES
from tests.analytic import at

ETA = 400.0
POINTS, WEIGHTS = (torch.tensor(row, dtype=torch.float64) for row in ((0.1, 0.3, 0.7, 0.95), (0.4, 0.3, 0.2, 0.1)))
MEAN = float(WEIGHTS @ POINTS)
SDE = SDES.build(f"beta:concentration={ETA:g},mean=({MEAN}),variance=({float(WEIGHTS @ (POINTS - MEAN) ** 2)})")
SAMPLER = SAMPLERS.build("posterior")


def wide(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("t", [0.2, 0.5, 0.7])
def test_the_noised_state_has_its_beta_distribution(t):
    z = SDE.perturb(wide(0.3).expand(4000, 1), at(t), Noise.seeded(2))[:, 0].numpy()
    mean = 0.3 / (1 + np.exp(23 * t - 10))
    assert stats.kstest(z, stats.beta(ETA * mean, ETA * (1 - mean)).cdf).pvalue > 0.01


@pytest.mark.parametrize(("z", "guess", "clean", "t"), [(0.2, 0.3, 0.5, 0.5), (0.01, 0.45, 0.4, 0.7), (0.31, 0.3, 0.31, 0.3)])
def test_the_divergence_is_the_integral(z, guess, clean, t):
    """`∫ p log(p/q)`, of the step from `t` to `0.9 t` and of the state at `t`, for values moved inside by 0.0001."""
    later, earlier = (1 / (1 + np.exp(23 * u - 10)) for u in (t, 0.9 * t))

    def kl(gain, lost):
        p, q = (stats.beta(ETA * gain * x, ETA * (1 - lost * x)) for x in (1e-4 + (1 - 2e-4) * k for k in (guess, clean)))
        points = sorted({0.0, *p.ppf([1e-9, 1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1 - 1e-6]), 1.0})
        parts = [integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), a, b)[0] for a, b in pairwise(points)]
        return sum(parts)

    found = SDE.step_divergence(wide(z), wide(guess), wide(clean), at(t), at(0.9 * t))
    assert float(found) == pytest.approx(0.99 * kl(earlier - later, earlier) + 0.01 * kl(later, later), rel=1e-5)


@pytest.mark.parametrize("spec", ["beta", "thinning"])
def test_the_divergence_is_smallest_at_the_mean(spec):
    sde, unit = SDES.build(spec), 1.0 if spec == "beta" else 20.0
    x0, weights = unit * wide(0.1, 0.35, 0.8)[:, None], wide(0.5, 0.2, 0.3)[:, None]
    guess = (weights * x0).sum().expand(3, 1).clone().requires_grad_()
    found = sde.step_divergence(torch.zeros(3, 1, dtype=torch.float64), guess, x0, at(0.5), at(0.45))
    assert (found >= 0).all()
    (slope,) = torch.autograd.grad((weights * found).sum(), guess)
    assert abs(float(slope.sum())) < 1e-9 * float(slope.abs().sum())


class OfPoints(DenoiserModel):
    """The denoiser of data at a few points, by Bayes."""

    sde = SDE

    def denoise(self, z, t):
        mean = SDE.kept(t) * POINTS
        density = torch.distributions.Beta(ETA * mean, ETA * (1 - mean)).log_prob(z)
        return (torch.softmax(density + WEIGHTS.log(), 1) * POINTS).sum(1, keepdim=True)


def test_a_few_points_come_back():
    x = SAMPLER.sample(OfPoints(), (1500, 1), 80, seed=1, like=POINTS)
    near = (x - POINTS).abs().argmin(1)
    assert float((x[:, 0] - POINTS[near]).abs().median()) < 1e-3
    assert stats.chisquare(np.bincount(near, minlength=4), WEIGHTS.numpy() * len(x)).pvalue > 0.01


def test_no_state_shrinks_on_the_way_back():
    x0 = torch.rand(500, 2, generator=torch.Generator().manual_seed(0))
    model = ScoreModel.for_data(SDE.adapted(x0), NETWORKS.build("mlp:width=16,depth=1").module((2,)), x0)
    seen = []
    SAMPLER.sample(model, (300, 2), 8, callback=lambda k, z, t: seen.append(z))
    for earlier, later in zip(seen[1:-1], seen, strict=False):
        assert (earlier >= later).all()
    assert all(((z > 0) & (z < 1)).all() for z in seen)


def test_shares_with_zeros_and_ones_are_learned(tmp_path: Path):
    rng = np.random.default_rng(0)
    rows = np.stack([rng.beta(0.5, 2, 120), (rng.random(120) < 0.7).astype(float)], 1)
    rows[:10, 0] = 0.0
    table = tmp_path / "shares.csv"
    table.write_text("share,full\n" + "".join(f"{a:.4f},{b:.4f}\n" for a, b in rows))
    config = {"data": str(table), "sde": "beta", "loss": "step-kl", "steps": 20, "out": str(tmp_path / "run"), "device": "cpu"}
    trained = restore(train(TrainingConfig.build(config)).run)
    x = SAMPLER.sample(trained.model, (200, 2), 10)
    assert ((x > 0) & (x < 1)).all()
