"""Critically damped Langevin: its law by matrix exponentials, its reversal, and symmetric splitting exact where it must be."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.linalg import expm

from sdezoo.conformance.bank.noise_doubles import Impulse
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.learning.model import Model, ScoreModel
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.zoo.registry import LOSSES, SAMPLERS, SDES
from tests.analytic import SIGMAS, at

SPECS = ["cld", "cld:beta=2,friction=0.5,start=1", "cld:beta=6,friction=2,start=0.3"]
specs = pytest.mark.parametrize("spec", SPECS)


def law(sde, t, variance=0.0):
    """Factors of the mean and the covariance of an entry's `(x, v)` given `x_0`, from `dz = A z dt + G dW` by matrix exponentials."""
    mass = sde.friction**2 / 4
    a = sde.beta * np.array([[0, 1 / mass], [-1, -sde.friction / mass]])
    rest = np.diag([1, mass])
    np.testing.assert_allclose(a @ rest + rest @ a.T, -np.diag([0, 2 * sde.friction * sde.beta]), atol=1e-12)  # Lyapunov's equation
    p = expm(a * t)
    return p[:, 0], rest + p @ (np.diag([variance, sde.start * mass]) - rest) @ p.T


class Normal(Model):
    """The score in the velocity of data `N(mean, variance)`."""

    def __init__(self, sde, mean, variance):
        self.sde, self.mean, self.variance = sde, mean, variance

    def score(self, z, t):
        factors, covariance = law(self.sde, float(t), self.variance)
        away = z - torch.from_numpy(factors * self.mean).to(z)[:, None]
        s = -torch.einsum("ij,bjk->bik", torch.from_numpy(np.linalg.inv(covariance)).to(z), away)
        return s * s.new_tensor([0.0, 1.0])[:, None]


def moments(sampler, model, steps, lo):
    """Mean and covariance of `(x, v)` at `lo`, which are known from those at the last time: each step is affine in state and noise."""
    mean, covariance = law(model.sde, 1.0, model.variance)
    times = torch.linspace(1, lo, steps + 1, dtype=torch.float64)
    numbers = 4 * steps
    starts = torch.cat([torch.zeros(numbers + 1, 2), torch.eye(2)]).double().unsqueeze(-1)
    ends = drive(sampler, model, starts, times, Impulse())[..., 0].numpy()
    origin = ends[numbers]
    to_noise, to_start = (ends[:numbers] - origin).T, (ends[numbers + 1 :] - origin).T
    return origin + to_start @ (mean * model.mean), to_noise @ to_noise.T + to_start @ covariance @ to_start.T


@specs
@pytest.mark.parametrize("t", [1e-3, 0.1, 1.0])
def test_the_transition_is_that_of_the_matrix_exponential(spec, t):
    sde = SDES.build(spec)
    factors, covariance = law(sde, t)
    z = torch.tensor([[0.7, -0.2], [0.71, 0.1]], dtype=torch.float64).unsqueeze(-1)
    x0 = torch.tensor([[0.7], [0.6]], dtype=torch.float64)
    exact = stats.multivariate_normal([0, 0], covariance)
    away = z[..., 0].numpy() - factors * x0.numpy()
    torch.testing.assert_close(sde.log_prob(z, x0, at(t))[:, 0], torch.from_numpy(exact.logpdf(away)), rtol=1e-7, atol=1e-7)
    velocity = torch.from_numpy(-(away @ np.linalg.inv(covariance))[:, 1])
    torch.testing.assert_close(sde.score(z, x0, at(t))[:, 1, 0], velocity, rtol=1e-6, atol=1e-6)
    assert not sde.score(z, x0, at(t))[:, 0].any()
    deviation = math.sqrt(np.linalg.det(covariance) / covariance[0, 0])
    assert sde.scale(at(t)).item() == pytest.approx(deviation, rel=1e-6)


@pytest.mark.parametrize("t", [1e-12, 1e-9, 1e-6])
def test_nothing_is_lost_near_the_data(t):
    """`Var x ≈ γ b² + 4 b³/3`, `Var(v | x, x_0) ≈ M b`, where differences of exponentials have no digits left."""
    sde = SDES.build("cld:start=1e-20")
    b = 8 * t
    z = sde.perturb(torch.zeros(20_000, 1, dtype=torch.float64), at(t), Noise.seeded(0))
    error = SIGMAS / math.sqrt(2 * 20_000)
    assert (z[:, 0].std() / math.sqrt(4 * b**3 / 3)).item() == pytest.approx(1, rel=error + 1e-4)
    assert sde.scale(at(t)).item() == pytest.approx(math.sqrt(b / 4), rel=1e-4)


@pytest.mark.parametrize("t", [0.05, 0.3])
def test_draws_are_those_of_the_equation(t):
    sde, x0 = SDES.build("cld"), torch.full((2000, 1), 0.8, dtype=torch.float64)
    simulated = ForwardSDE.perturb(sde, x0, at(t), Noise.seeded(0))
    drawn = sde.perturb(x0, at(t), Noise.seeded(1))
    for part in (0, 1):
        assert stats.ks_2samp(simulated[:, part, 0], drawn[:, part, 0]).pvalue > 0.01


@specs
@pytest.mark.parametrize("t", [0.01, 0.4])
def test_a_network_that_answers_nothing_is_right_on_normal_data(spec, t):
    sde = SDES.build(spec)
    model = ScoreModel(sde, lambda_net())
    z = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(model.score(z, at(t)), Normal(sde, 0.0, 1.0).score(z, at(t)), rtol=1e-6, atol=1e-8)


def lambda_net():
    class Nothing(torch.nn.Module):
        def forward(self, x, level):
            return 0 * x

    return Nothing()


@specs
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_splitting_is_exact_where_data_rest(spec, steps):
    """Data and velocity distributed as `π`: the push vanishes, and the rest is the flow of an Ornstein–Uhlenbeck process."""
    sde = SDES.build(spec)

    class Rest(Model):
        mean, variance = 0.0, 1.0

        def score(self, z, t):
            return sde.stationary_score(z, t)

    model = Rest()
    model.sde = type(sde)(sde.beta, sde.friction, 1.0)
    mean, covariance = moments(SAMPLERS.build("sscs"), model, steps, 0.2)
    np.testing.assert_allclose(mean, 0, atol=1e-12)
    np.testing.assert_allclose(covariance, np.diag([1, sde.friction**2 / 4]), atol=1e-12)


@specs
def test_splitting_is_of_order_2(spec):
    sde, lo = SDES.build(spec), 0.1
    model = Normal(sde, 0.6, 0.3)
    factors, expected = law(sde, lo, model.variance)
    errors = []
    for steps in (160, 640):
        mean, covariance = moments(SAMPLERS.build("sscs"), model, steps, lo)
        errors.append(np.linalg.norm(np.append(mean - factors * model.mean, covariance - expected)))
    assert math.log(errors[0] / errors[1], 4) > 1.9


@pytest.mark.parametrize(("sampler", "steps"), [("sscs", 20), ("sscs", 150), ("euler-maruyama", 300)])
def test_two_points_are_found_again(sampler, steps):
    """W1 to data at ±1 beyond that of an equally large sample of them."""
    points, count = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), 2000
    x = SAMPLERS.build(sampler).sample(Atoms(SDES.build("cld"), points), (count, 1), steps, like=points)
    assert (x - x.sign()).abs().mean().item() <= 0.012
    assert (x > 0).double().mean().item() == pytest.approx(0.5, abs=SIGMAS * 0.5 / math.sqrt(count))


def test_what_fits():
    cld, vp = SDES.build("cld"), SDES.build("vp")
    assert LOSSES.build("hsm").refuses(cld) is None
    assert LOSSES.build("hsm").refuses(vp) == "needs an SDE whose noise drives auxiliary variables, such as a velocity"
    assert SAMPLERS.build("sscs").refuses(cld) is None
    assert SAMPLERS.build("sscs").refuses(vp) == "needs an SDE whose reversal from its stationary distribution is known exactly"
    assert cld.network_input_shape((3, 8, 8)) == (6, 8, 8)
    assert vp.network_input_shape((3, 8, 8)) == (3, 8, 8)
