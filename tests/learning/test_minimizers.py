"""The minimizer of each loss is the true score, on models that are linear in their features."""

import math

import pytest
import torch
from torch import nn

from sdezoo.learning.loss import Batch
from sdezoo.learning.model import ScoreModel
from sdezoo.process.noise import Noise
from sdezoo.zoo.registry import LOSSES, SDES
from tests.analytic import AFFINE_SPECS

COUNT = 20_000
MEAN, DEVIATION = 0.3, 0.4
SPECS = ["dsm:weighting=paper", "dsm:weighting=uniform", "dsm", "sliced-sm", "mult-dsm", "nonneg-sm"]
CASES = [(loss, sde) for loss in SPECS for sde in AFFINE_SPECS if LOSSES.build(loss).refuses(SDES.build(sde)) is None]


class Line(nn.Module):
    """`s(z) = slope z + offset`, the family in which the score of a normal law lies."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x, level):
        return self.line[0] * x + self.line[1]


def minimizer(loss, sde, t):
    """Slope and offset that minimize the loss over normal coordinates; it is quadratic in them, so one Newton step is exact."""
    model = ScoreModel(sde, Line(), "score")
    z0 = MEAN + DEVIATION * torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    time = torch.full((COUNT, 1), t, dtype=torch.float64)
    line = model.net.line
    value = loss(model, Batch(sde.decode(z0)), time, Noise.seeded(1)).mean()
    (gradient,) = torch.autograd.grad(value, line, create_graph=True)
    hessian = torch.stack([torch.autograd.grad(g, line, retain_graph=True)[0] for g in gradient])
    return -torch.linalg.solve(hessian, gradient).detach()


@pytest.mark.parametrize("t", [0.15, 0.6])
@pytest.mark.parametrize(("loss", "sde"), CASES)
def test_minimizer_is_the_score_of_the_noised_data(loss, sde, t):
    """`s(z) = −(z − α μ − m)/V`, `V = α² s² + v`, up to an error of order `√(V/v)/√n` in units of `1/√V`."""
    sde = SDES.build(sde)
    k = sde.coefficients(torch.tensor(t, dtype=torch.float64))
    mean, variance = float(k.alpha * MEAN + k.shift), float(k.alpha**2 * DEVIATION**2 + k.variance)
    slope, offset = minimizer(LOSSES.build(loss), sde, t).tolist()
    tolerance = 4.5 * math.sqrt(variance / float(k.variance) / COUNT) * 1.5
    assert slope * variance == pytest.approx(-1, abs=tolerance)
    assert (slope * mean + offset) * math.sqrt(variance) == pytest.approx(0, abs=tolerance)


def test_hyvarinens_loss_recovers_a_log_normal_without_noise():
    sde = SDES.build("gbm")
    slope, offset = minimizer(LOSSES.build("nonneg-sm:levels=data"), sde, sde.t_span[0]).tolist()
    assert -offset / slope == pytest.approx(MEAN, abs=4.5 * DEVIATION / math.sqrt(COUNT))
    assert math.sqrt(-1 / slope) == pytest.approx(DEVIATION, rel=4.5 / math.sqrt(2 * COUNT))


def test_hyvarinens_loss_is_his_formula():
    """`Σ_i [2 x_i s_i + x_i² ∂_i s_i + ½ x_i² s_i²]` of the score in `x`, by autograd."""
    sde = SDES.build("gbm")
    model = ScoreModel(sde, Line(), "score")
    model.net.line.data = torch.tensor([-2.0, 0.7], dtype=torch.float64)
    x = torch.tensor([[0.5, 2.0], [1.3, 0.1]], dtype=torch.float64).requires_grad_()
    t = torch.full((2, 1), sde.t_span[0], dtype=torch.float64)
    s = model.ambient().score(x, t)
    (slope,) = torch.autograd.grad(s.sum(), x)
    expected = (2 * x * s + x**2 * slope + x**2 * s**2 / 2).sum(1)
    value = LOSSES.build("nonneg-sm:levels=data")(model, Batch(x.detach()), t, Noise.seeded(0))
    torch.testing.assert_close(value, expected, rtol=1e-10, atol=1e-10)
