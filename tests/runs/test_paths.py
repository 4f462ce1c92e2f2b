"""Forward paths: exact distributions where the answer is known, seeds, files, and what is refused."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.stats import norm
from typer.testing import CliRunner

from sdezoo import CompositionError, DataError, ParameterError, RunError, paths
from sdezoo.sdes import GBM
from sdezoo_cli.commands import application

SIGMA, MU = 0.2, 0.05
MARKET = f"gbm:sigma={SIGMA},mu={MU}"


def standard_errors(values, expected):
    """The distance of a mean from its expectation, in standard errors."""
    return abs(float(values.mean()) - expected) / (float(values.std()) / math.sqrt(len(values)))


def black_scholes(spot, strike, rate, sigma, horizon):
    d = (math.log(spot / strike) + (rate + sigma**2 / 2) * horizon) / (sigma * math.sqrt(horizon))
    return spot * norm.cdf(d) - strike * math.exp(-rate * horizon) * norm.cdf(d - sigma * math.sqrt(horizon))


@pytest.mark.parametrize("horizon", [0.5, 2.0])
@pytest.mark.parametrize("strike", [90.0, 110.0])
def test_a_european_call_costs_what_black_and_scholes_say(horizon, strike):
    made = paths(MARKET, 100, steps=3, n=20_000, horizon=horizon)
    payoff = math.exp(-MU * horizon) * (made.x[:, -1, 0] - strike).clamp_min(0)
    assert made.exact
    assert standard_errors(payoff, black_scholes(100, strike, MU, SIGMA, horizon)) < 3


def test_log_returns_are_independent_and_normal():
    made = paths(MARKET, 100, steps=4, n=20_000, horizon=1.0, seed=1)
    returns = made.x[:, :, 0].log().diff(dim=1)
    for step in returns.unbind(1):
        assert standard_errors(step, (MU - SIGMA**2 / 2) / 4) < 4
        assert standard_errors((step - step.mean()) ** 2, SIGMA**2 / 4) < 4
    correlation = np.corrcoef(returns.numpy().T)[np.triu_indices(4, 1)]
    assert np.abs(correlation).max() < 4.5 / math.sqrt(len(returns))


def test_discounted_prices_are_a_martingale():
    """Given the past, the expected growth of a discounted price is 1, also among the paths that rose."""
    made = paths(MARKET, 100, steps=4, n=20_000, horizon=1.0, seed=2)
    discounted = made.x[:, :, 0] * torch.exp(-MU * made.times)
    for k in range(4):
        growth = discounted[:, k + 1] / discounted[:, k]
        for chosen in (slice(None), discounted[:, k] >= discounted[:, 0]):
            assert standard_errors(growth[chosen], 1.0) < 4


def test_mean_reversion_has_the_exact_moments():
    """`ln X` of the exponential Ornstein–Uhlenbeck process, over several times its memory and beyond 1."""
    made = paths("exp-ou:kappa=2,mean=0.5,sigma=0.3", 2.0, steps=6, n=20_000, horizon=3.0)
    for t, column in zip(made.times[1:].tolist(), made.x[:, 1:, 0].log().unbind(1), strict=True):
        decay = math.exp(-2 * t)
        assert standard_errors(column, 0.5 + (math.log(2) - 0.5) * decay) < 4
        assert standard_errors((column - column.mean()) ** 2, 0.09 * (1 - decay**2)) < 4


def test_a_square_root_diffusion_is_exact_in_large_steps():
    made = paths("cir:kappa=2,theta=0.04,sigma=0.3,start=1,unit=(1)", 0.09, steps=2, n=4000, horizon=1.5)
    last, decay = made.x[:, -1, 0], math.exp(-3.0)
    variance = 0.09 * 0.3**2 / 2 * (decay - decay**2) + 0.04 * 0.3**2 / 4 * (1 - decay) ** 2
    assert made.exact
    assert standard_errors(last, 0.04 + 0.05 * decay) < 4
    assert standard_errors((last - last.mean()) ** 2, variance) < 4
    assert (made.x > 0).all()


def test_prices_stay_positive_at_any_volatility():
    assert (paths("gbm:sigma=5,mu=0", 1.0, steps=50, n=500, horizon=2.0).x > 0).all()


def test_a_path_depends_on_its_seed_and_index_alone():
    many, few = paths(MARKET, 100, steps=5, n=100, seed=3), paths(MARKET, 100, steps=5, n=7, seed=3)
    assert torch.equal(many.x[:7], few.x)
    assert torch.equal(torch.cat([many._simulated(range(40, 60)), many._simulated([3])]), many.x[[*range(40, 60), 3]])
    assert not torch.equal(few.x, paths(MARKET, 100, steps=5, n=7, seed=4).x)
    assert (few.x[:, 0] == 100).all()


def test_columns_have_starts_of_their_own():
    made = paths(GBM(0.2, mu=0.0), [1.0, 50.0], steps=2, n=3)
    assert made.x.shape == (3, 3, 2)
    assert made.x[:, 0].unique(dim=0).tolist() == [[1.0, 50.0]]


def test_without_an_exact_transition_steps_are_counted_and_named():
    made = paths("reflected:sigma_max=1", 0.5, steps=4, n=50, substeps=5)
    assert not made.exact
    assert made.scheme.startswith("steps of 0.05 (Euler–Maruyama, weak order 1")
    assert ((made.x >= 0) & (made.x <= 1)).all()


@pytest.mark.parametrize(
    ("sde", "x0", "options", "error", "words"),
    [
        ("gbm", 100, {}, ParameterError, "leaves sigma"),
        (MARKET, -1.0, {}, DataError, "x0=-1 does not lie in the support"),
        (MARKET, float("nan"), {}, DataError, "finite"),
        (MARKET, [], {}, DataError, "finite"),
        (MARKET, 100, {"steps": 0}, ParameterError, "steps=0 is too small"),
        (MARKET, 100, {"n": -2}, ParameterError, "n=-2 is too small"),
        (MARKET, 100, {"substeps": 4}, ParameterError, "exact"),
        (MARKET, 100, {"horizon": 0.0}, ParameterError, "horizon=0"),
        (MARKET, 100, {"horizon": math.inf}, ParameterError, "horizon=inf"),
        ("gbm:sigma=0.2,sigma_end=0.4", 100, {"horizon": 2.0}, CompositionError, "end at t = 1"),
        ("student-t", 1.0, {}, CompositionError, "no drift and diffusion"),
    ],
)
def test_what_has_no_paths_is_refused(sde, x0, options, error, words):
    with pytest.raises(error, match=words):
        paths(sde, x0, **options)


def test_the_command_writes_the_paths_and_their_plot(tmp_path):
    out, plot = tmp_path / "paths.npz", tmp_path / "paths.png"
    command = ["paths", MARKET, "--x0", "100", "--steps", "6", "-n", "20", "--out", str(out), "--plot", str(plot), "--seed", "5"]
    said = CliRunner().invoke(application(), [*command, "--json"], catch_exceptions=False)
    expected = paths(MARKET, 100, steps=6, n=20, seed=5)
    with np.load(out) as found:
        assert found["x"].shape == (20, 7, 1)
        np.testing.assert_array_equal(found["x"], expected.x.float().numpy())
        np.testing.assert_array_equal(found["times"], expected.times.numpy())
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert json.loads(said.stdout)["scheme"] == "exact transitions"
    with pytest.raises(RunError, match="exists"):
        CliRunner().invoke(application(), command, catch_exceptions=False)


def test_the_command_refuses_before_it_writes(tmp_path):
    out = tmp_path / "paths.npz"
    for x0, plot, words in (("1;2", "p.png", "not a list of numbers"), ("1", "p.jpg", r"ends with \.png")):
        command = ["paths", MARKET, "--x0", x0, "--out", str(out), "--plot", str(tmp_path / plot)]
        with pytest.raises(ParameterError, match=words):
            CliRunner().invoke(application(), command, catch_exceptions=False)
    assert not list(tmp_path.iterdir())
