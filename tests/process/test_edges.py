"""The edges of the contract work without a word about them in the core."""

import math

import pytest
import torch
from torch import nn

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.errors import CompositionError
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import DenoiserModel, Model, ScoreModel
from sdezoo.learning.output import OUTPUTS
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional
from sdezoo.zoo.composition import defaults, fitting
from sdezoo.zoo.registry import LOSSES, SAMPLERS
from sdezoo_plugins.samplers.general.euler_maruyama import EulerMaruyama
from sdezoo_plugins.samplers.general.heun import Heun
from sdezoo_plugins.samplers.general.pc import PC
from tests.analytic import SIGMAS, assert_moments, at
from tests.process.edges import BetweenWalls, Kinetic, Stable, StableFlow

EDGES = [BetweenWalls(), Kinetic(), Stable()]
edges = pytest.mark.parametrize("sde", EDGES, ids=[type(sde).__name__ for sde in EDGES])
LEARNT = [(sde, loss) for sde in EDGES for _, loss in defaults(LOSSES) if loss.refuses(sde) is None]
SAMPLED = [(sde, sampler) for sde in EDGES for _, sampler in [*defaults(SAMPLERS), ("", StableFlow())] if sampler.refuses(sde) is None]


class Net(nn.Module):
    """Two layers on whatever is observed and the level."""

    def __init__(self, seen: int, size: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(seen + 1, 8), nn.Tanh(), nn.Linear(8, size))

    def forward(self, x, level):
        assert x.ndim == 2
        assert level.shape == (len(x),)
        return self.layers(torch.cat([x, level[:, None]], 1))


def fresh(sde, size=3, output=None) -> ScoreModel:
    (seen,) = sde.network_input_shape((size,))
    return ScoreModel(sde, Net(seen, seen), output)


def per_row(sde, count, size):
    """Times as training gives them: they broadcast against the state."""
    shape = (count,) + (1,) * (len(sde.state_shape((count, size))) - 1)
    return torch.linspace(*sde.t_span, count, dtype=torch.float64).reshape(shape)


def named(pairs):
    return [f"{type(sde).__name__}-{part.title()}" for sde, part in pairs]


def test_every_edge_has_something_that_fits():
    assert fitting(BetweenWalls(), LOSSES) == ["confined-sm", "dsm"]
    assert {"confined-sm", "dsm", "sliced-sm"} <= set(fitting(Kinetic(), LOSSES))
    assert fitting(Stable(), LOSSES) == ["dsm"]
    assert {"euler-maruyama", "heun", "pc"} <= set(fitting(Kinetic(), SAMPLERS))
    assert "torchsde" not in fitting(Kinetic(), SAMPLERS)
    assert fitting(Stable(), SAMPLERS) == ["flow"]
    assert StableFlow().refuses(Kinetic()) == f"needs the process {Stable.title()}"


@pytest.mark.parametrize(("sde", "loss"), LEARNT, ids=named(LEARNT))
@pytest.mark.parametrize("output", ["epsilon", "score"])
@pytest.mark.parametrize("count", [3, 6])
def test_it_trains(sde, loss, output, count):
    if OUTPUTS[output].refuses(sde):
        with pytest.raises(CompositionError, match="needs a process that has a score"):
            fresh(sde, output=output)
        return
    model = fresh(sde, output=output)
    x0 = torch.rand(count, 3, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(2):
        value = loss(model, Batch(x0), per_row(sde, count, 3), keyed(count))
        assert value.shape == (count,)
        assert torch.isfinite(value).all()
        optimizer.zero_grad()
        value.mean().backward()
        optimizer.step()
    assert all((p != q).any() for p, q in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize(("sde", "sampler"), SAMPLED, ids=named(SAMPLED))
def test_it_samples(sde, sampler):
    x = sampler.sample(fresh(sde), (5, 3), 2)
    assert x.shape == (5, 3)
    assert x.dtype == torch.float32
    assert sde.support.check(x).all()


@edges
def test_a_column_of_times_means_the_same_as_each_time_alone(sde):
    model, x0, t = fresh(sde), torch.rand(4, 3), per_row(sde, 4, 3)
    z = sde.perturb(x0, t, keyed(4))
    whole, target = model.predict(z, t), sde.target(z, x0, t)
    assert whole.shape == target.shape == z.shape
    for i in range(4):
        row, time = slice(i, i + 1), t[i].reshape(())
        torch.testing.assert_close(sde.perturb(x0[row], time, keyed(1, first=i)).float(), z[row], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sde.target(z[row], x0[row], time).float(), target[row], rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(model.predict(z[row], time).float(), whole[row], rtol=1e-4, atol=1e-4)


@edges
def test_time_zero_is_the_data_exactly(sde):
    x0 = torch.rand(4, 3)
    assert torch.equal(sde.decode(sde.perturb(x0, at(0.0), keyed(4))), x0)


@pytest.mark.parametrize("sde", [BetweenWalls(), Kinetic()], ids=["BetweenWalls", "Kinetic"])
def test_transition_is_that_of_the_sde(sde):
    """The closed form against the simulation that every SDE has by default (bias of 200 steps: 2 %)."""
    x0 = torch.full((10_000, 1), 0.8)
    simulated = super(type(sde), sde).perturb(x0, at(0.1), Noise.seeded(0))
    drawn = sde.perturb(x0, at(0.1), Noise.seeded(1)).double()
    assert_moments(simulated, drawn.mean(0), drawn.std(0), bias=0.02 + SIGMAS / 100)


def test_reflected_score_is_that_of_the_images():
    sde = BetweenWalls()
    z = torch.tensor([[0.0, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(Conditional.score(sde, z, 0 * z + 0.3, at(0.2)), torch.zeros_like(z))  # no flux through the walls
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    assert torch.trapezoid(sde.log_prob(grid, 0 * grid + 0.3, at(0.2)).exp().flatten(), grid.flatten()).item() == pytest.approx(1, abs=1e-6)


class Cosine(Model):
    """Reflected data with density `1 + a cos πx`, which decays as `a e^{−π² σ² t/2}`."""

    amplitude = 0.9

    def __init__(self, sde):
        self.sde = sde

    def score(self, z, t):
        a = self.amplitude * torch.exp(-0.5 * (math.pi * self.sde.sigma) ** 2 * t)
        return -math.pi * a * torch.sin(math.pi * z) / (1 + a * torch.cos(math.pi * z))


@pytest.mark.parametrize(("sampler", "steps"), [(EulerMaruyama(), 200), (Heun(), 50), (PC(), 100)], ids=["euler-maruyama", "heun", "pc"])
@pytest.mark.parametrize("amplitude", [0.9, 0.0], ids=["cosine", "uniform"])
def test_reflected_reversal_recovers_the_data(sampler, steps, amplitude):
    model = Cosine(BetweenWalls())
    model.amplitude = amplitude
    x = sampler.sample(model, (4000, 1), steps)
    assert ((x >= 0) & (x <= 1)).all()
    assert torch.cos(math.pi * x).mean().item() == pytest.approx(amplitude / 2, abs=SIGMAS * math.sqrt(0.5 / 4000) + 0.01)
    assert torch.cos(2 * math.pi * x).mean().item() == pytest.approx(0, abs=SIGMAS * math.sqrt(0.5 / 4000) + 0.01)


class KineticGaussian(Model):
    """Normal data under `Kinetic`; `whole`: the score of position and velocity, else of the velocity alone, as a network learns it."""

    def __init__(self, sde, mean, deviation, *, whole):
        self.sde, self.mean, self.deviation, self.whole = sde, mean, deviation, whole

    def score(self, z, t):
        a, c, xx, xv, vv = self.sde.law(t, self.deviation**2)
        dx, dv, det = z[:, 0] - a * self.mean, z[:, 1] - c * self.mean, xx * vv - xv**2
        whole = torch.stack([(xv * dv - vv * dx) / det, (xv * dx - xx * dv) / det], 1)
        return whole if self.whole else self.sde.score_from_output(whole.flatten(1, 2), z, t)


@pytest.mark.parametrize(("sampler", "steps"), [(EulerMaruyama(), 400), (Heun(), 60), (PC(), 300)], ids=["euler-maruyama", "heun", "pc"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole-score", "velocity-score"])
def test_kinetic_reversal_recovers_the_data(sampler, steps, whole):
    model = KineticGaussian(Kinetic(), 0.6, 0.5, whole=whole)
    assert_moments(sampler.sample(model, (4000, 1), steps), torch.tensor(0.6), torch.tensor(0.5), bias=0.04)


class StableLaw(DenoiserModel):
    """Data that are `width` times a stable variable stay stable: `τ^α = (a width)^α + σ^α`, and `S = −x/(α τ^α)`: `D = (x + α σ^α S)/a`."""

    def __init__(self, sde, width):
        self.sde, self.width = sde, width

    def denoise(self, z, t):
        noise = self.sde.sigma(t) ** self.sde.alpha
        power = (self.sde.signal(t) * self.width) ** self.sde.alpha + noise
        return z * (1 - noise / power) / self.sde.signal(t)


def test_stable_flow_recovers_the_data():
    sde, width, count = Stable(), 0.3, 20_000
    x = StableFlow().sample(StableLaw(sde, width), (count, 1), 200)
    data = width * sde.stable(torch.empty(()), (count, 1), Noise.seeded(7))
    for level in (0.25, 0.5, 0.75):
        a, b = x.abs().quantile(level), data.abs().quantile(level)
        assert a.item() == pytest.approx(b.item(), rel=0.06)
