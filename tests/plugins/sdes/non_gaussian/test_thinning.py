"""Thinned counts: what is kept, what is missing, and the way back with an exact denoiser."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from sdezoo.conformance.bank.problems import Atoms
from sdezoo.errors import DataError
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import DenoiserModel, ScoreModel
from sdezoo.process.noise import Noise
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import LOSSES, NETWORKS, SAMPLERS, SDES
from tests.analytic import at

COUNT = 3000
MEAN, VARIANCE = 6.0, 42.0
SHAPE = MEAN**2 / (VARIANCE - MEAN)
"""Of the negative binomial with this mean and variance."""
SDE = SDES.build(f"thinning:mean=({MEAN:g}),variance=({VARIANCE:g})")
SAMPLER = SAMPLERS.build("posterior")


def negative_binomial(rows: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.negative_binomial(SHAPE, SHAPE / (SHAPE + MEAN), (rows, 1)).astype(float))


class Untrained(DenoiserModel):
    """The denoiser of a network whose output is 0."""

    def __init__(self, sde):
        self.sde = sde

    def denoise(self, z, t):
        return self.sde.denoiser_from_output(torch.zeros_like(z), z, t)


def test_adapts_to_the_most_likely_negative_binomial():
    """Of counts with a heavy tail, whose own variance is that of a law with more zeros."""
    bulk = negative_binomial(2000)
    x = torch.cat([bulk, 20 * bulk[:20]])
    sde = SDES.build("thinning").adapted(x)
    mean = float(x.mean())

    def likelihood(variance: float) -> float:
        return float(stats.nbinom(mean**2 / (variance - mean), mean / variance).logpmf(x.numpy()).sum())

    (found,) = sde.variance
    assert likelihood(found) > max(likelihood(found * 0.99), likelihood(found * 1.01))
    assert SDES.build("thinning").adapted(torch.full((9, 1), 5.0)).variance == (1e-3,)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_first_denoiser_is_that_of_a_negative_binomial(t):
    """`Σ_n n p(n) p(z | n)/Σ_n p(n) p(z | n)`, summed over all counts."""
    n, z = torch.arange(4000, dtype=torch.float64)[:, None], torch.arange(12, dtype=torch.float64)[:, None]
    prior = torch.from_numpy(stats.nbinom(SHAPE, SHAPE / (SHAPE + MEAN)).logpmf(n.numpy()))
    joint = prior + torch.stack([SDE.log_prob(k.expand_as(n), n, at(t))[:, 0] for k in z], 1)
    share = torch.softmax(joint, 0)
    torch.testing.assert_close(Untrained(SDE).denoise(z, at(t)), (share * n).sum(0)[:, None], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [2, 10])
def test_a_negative_binomial_comes_back_in_any_number_of_steps(steps):
    """Cells of about equal probability, by the χ² test."""
    x = SAMPLER.sample(Untrained(SDE), (COUNT, 1), steps, seed=1, like=torch.empty((), dtype=torch.float64))[:, 0].numpy()
    law = stats.nbinom(SHAPE, SHAPE / (SHAPE + MEAN))
    edges = np.unique(law.ppf(np.linspace(0, 1, 16)[1:-1]))
    expected = np.diff(np.concatenate([[0.0], law.cdf(edges), [1.0]])) * COUNT
    assert stats.chisquare(np.bincount(np.searchsorted(edges, x), minlength=len(expected)), expected).pvalue > 0.01


def test_counts_on_a_few_points_come_back():
    points = torch.tensor([[0.0], [2.0], [3.0], [9.0]], dtype=torch.float64)
    weights = torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64)
    x = SAMPLER.sample(Atoms(SDES.build("thinning"), points, weights), (COUNT // 2, 1), 60, seed=1, like=weights)[:, 0]
    found = torch.stack([(x == k).sum() for k in points])
    assert int(found.sum()) >= COUNT // 2 - 3  # the state may end between two points
    assert stats.chisquare(found.numpy(), (weights * found.sum()).numpy()).pvalue > 0.01


def test_the_weight_is_the_inverse_variance_of_what_is_missing():
    x0, t = negative_binomial(200_000), at(0.5)
    z = SDE.perturb(x0, t, Noise.seeded(1))
    error = (x0 - Untrained(SDE).denoise(z, t)) * SDE.error_weighting(z, t).sqrt()
    for k in (0.0, 2.0, 5.0):
        rows = error[z == k]
        assert float(rows.square().mean()) == pytest.approx(1, abs=5 * float(rows.square().std()) / len(rows) ** 0.5)


def test_a_state_never_shrinks_on_the_way_back_and_stays_whole():
    net = NETWORKS.build("mlp:width=16,depth=1").module((2,))
    x0 = torch.cat([negative_binomial(500), negative_binomial(500, 1)], 1).float()
    model = ScoreModel.for_data(SDE.adapted(x0), net, x0)
    assert LOSSES.build("dsm")(model, Batch(x0), at(0.3).expand(500, 1), Noise.seeded(0)).isfinite().all()
    seen = [torch.zeros(300, 2)]
    SAMPLER.sample(model, (300, 2), 8, callback=lambda k, z, t: seen.append(z))
    for earlier, later in zip(seen[1:], seen, strict=False):
        assert (earlier >= later).all()
        assert (earlier == earlier.round()).all()


def test_whole_numbers_are_written_and_others_refused(tmp_path: Path):
    table = tmp_path / "visits.csv"
    rows = torch.cat([negative_binomial(80), negative_binomial(80, 1)], 1).long().tolist()
    table.write_text("visits,stays\n" + "".join(f"{a},{b}\n" for a, b in rows))
    config = TrainingConfig.build({"data": str(table), "sde": "thinning", "steps": 5, "out": str(tmp_path / "run"), "device": "cpu"})
    trained = restore(train(config).run)
    x = SAMPLER.sample(trained.model, (50, 2), 5)
    assert (x >= 0).all()
    assert (x == x.round()).all()
    table.write_text("visits\n" + "".join(f"{k / 2}\n" for k in range(30)))
    with pytest.raises(DataError, match="outside the support of the SDE, the whole numbers from 0 on"):
        train(TrainingConfig.build({"data": str(table), "sde": "thinning", "out": str(tmp_path / "other"), "device": "cpu"}))
