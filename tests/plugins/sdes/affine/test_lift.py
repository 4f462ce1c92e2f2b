"""The lift: its equation, densities and edges by hand, and `gbm` as one of them."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Normal

from sdezoo import SAMPLERS, SDES
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Mixture, gaussian
from sdezoo.conformance.law import LawError
from sdezoo.conformance.laws.contract_laws import CONTRACT_LAWS
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError, SdezooError, SupportError
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.sampling.likelihood import log_likelihood
from sdezoo.store.checkpoint import State
from sdezoo.store.restoring import Trained
from sdezoo.zoo.composition import support_in_words
from tests.analytic import at, coordinates

WIDE = torch.empty((), dtype=torch.float64)
LIFTS = ["sigmoid", "softplus", "tanh", "sigmoid,low=-1,high=3", "tanh,low=2,high=2.5", "softplus,low=-4", "exp,low=1"]


class Exact(Mixture):
    """A problem that knows the density of its prior, also where the state has another shape than the data."""

    def prior(self, shape, noise, like):
        return super().prior(self.sde.state_shape(shape), noise, like)

    def prior_log_prob(self, z):
        return self.log_density(z, at(self.sde.t_span[1]))


def matched(start, end):
    """`gbm` with these volatilities, and the lift of `ve` with `σ_min = σ/√(2 ln r)`, `σ_max = r σ_min`."""
    r = end / start
    low = start / math.sqrt(2 * math.log(r))
    return SDES.build(f"gbm:sigma={start},sigma_end={end}"), SDES.build(f"lift:base=(ve:sigma_min={low!r},sigma_max={r * low!r})")


@dataclass(frozen=True)
class Brownian(AffineSDE):
    """`dX = σ dW`."""

    sigma: float = 0.8

    def coefficients(self, t):
        return Coefficients(torch.ones_like(t), torch.zeros_like(t), self.sigma**2 * t)


@pytest.fixture
def brownian():
    SDES.add(Brownian, "a test")
    yield SDES.build("gbm:sigma=0.8"), SDES.build("lift:base=(brownian:sigma=0.8)")
    SDES.remove("brownian")


@pytest.mark.parametrize("sampler", ["euler-maruyama", "ancestral", "dale-langevin", "dpmpp-2m", "heun", "pc"])
@pytest.mark.parametrize("which", ["growing", "constant"])
def test_gbm_is_the_lift_of_ve_by_exp_path_by_path(which, sampler, request):
    """`ve` has the schedules of `gbm` but the constant one, which is Brownian motion."""
    gbm, lift = matched(0.1, 2.0) if which == "growing" else request.getfixturevalue("brownian")
    x0, t = coordinates(50, 3).exp(), torch.linspace(*gbm.t_span, 50, dtype=torch.float64)[:, None]
    assert lift.multiplicative
    torch.testing.assert_close(lift.perturb(x0, t, keyed(50)), gbm.perturb(x0, t, keyed(50)), rtol=1e-10, atol=1e-10)
    paths = []
    for sde in (gbm, lift):
        states = []
        x = SAMPLERS.build(sampler).sample(
            gaussian(sde), (20, 2), 30, seed=3, like=WIDE, callback=lambda _k, z, _t, states=states: states.append(z.exp())
        )
        paths.append(torch.stack([*states, x]))
    torch.testing.assert_close(paths[1], paths[0], rtol=1e-10, atol=1e-10)


def by_hand(transform, x, low, high):
    """`φ'` and `φ''` as functions of `x`, and `log φ'`."""
    width = high - low
    return {
        "exp": lambda: (x - low, x - low),
        "softplus": lambda: (-torch.expm1(low - x), -torch.expm1(low - x) * (low - x).exp()),
        "sigmoid": lambda: ((x - low) * (high - x) / width, (x - low) * (high - x) * (low + high - 2 * x) / width**2),
        "tanh": lambda: (2 * (x - low) * (high - x) / width, 4 * (x - low) * (high - x) * (low + high - 2 * x) / width**2),
    }[transform]()


def ends(sde):
    inside = {"exp": (0.0, math.inf), "softplus": (0.0, math.inf), "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}[sde.transform]
    return tuple(own if given is None else given for own, given in zip(inside, (sde.low, sde.high), strict=True))


@pytest.mark.parametrize("transform", ["exp", *LIFTS])
@pytest.mark.parametrize("base", ["ve", "vp"])
def test_the_ambient_equation_is_itos_by_hand(transform, base):
    sde, inner = SDES.build(f"lift:base={base},transform={transform}"), SDES.build(base)
    z, t = 2 * coordinates(40, 3), at(0.4)
    x = sde.decode(z)
    first, second = by_hand(sde.transform, x, *ends(sde))
    f, g = inner.equation(z, t)
    torch.testing.assert_close(sde.ambient().drift(x, t), first * f + second * g**2 / 2, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(sde.ambient().diffusion(x, t), first * g, rtol=1e-9, atol=1e-12)


def simplex_density(x, law):
    """Of three shares, `x_1 = 1/(1 + 2e^{−z_1})` and `x_2 = (1 − x_1)/(1 + e^{−z_2})`, with respect to the first two."""
    z1, z2 = (2 * x[:, 0] / (1 - x[:, 0])).log(), (x[:, 1] / x[:, 2]).log()
    return law(torch.stack([z1, z2], 1)) - (x[:, 0] * (1 - x[:, 0])).log() - (x[:, 1] * x[:, 2] / (1 - x[:, 0])).log()


def problem(spec):
    """Normal coordinates, data from them, and their log-density by hand, of the data and of the data noised to `lo`."""
    model = Exact(SDES.build(spec), torch.tensor([[0.4, -0.3]]), torch.tensor([[0.8, 0.5]]))
    sde, k = model.sde, model.sde.exact(at(model.sde.t_span[0]))

    def density(x, noised):
        def law(z):
            if noised:
                return model.log_density(k.alpha * z + k.shift, at(sde.t_span[0])) + 2 * k.alpha.log()
            return Normal(model.means, model.deviations).log_prob(z).sum(1)

        if sde.transform == "stick-breaking":
            return simplex_density(x, law)
        low, high = ends(sde)
        odds = ((x - low) / (high - x)).log()
        z = {"exp": (x - low).log(), "softplus": (x - low).expm1().log(), "sigmoid": odds, "tanh": odds / 2}[sde.transform]
        return law(z) - by_hand(sde.transform, x, low, high)[0].log().sum(1)

    return model, sde.decode(model.clean(16, seed=1)), density


@pytest.mark.parametrize("transform", ["exp", *LIFTS, "stick-breaking"])
def test_likelihood_has_its_jacobian(transform):
    model, x, density = problem(f"lift:transform={transform}")
    torch.testing.assert_close(log_likelihood(model, x, steps=128), density(x, noised=False), rtol=0, atol=1e-5)
    event = tuple(x.shape[1:])
    state = State(0, model.sde.spec, "mlp", "edm", event, "table", (), None, (0.0, 1.0), {}, 0, 0.0)
    trained = Trained(model, state, Encoding.affine(torch.tensor(2.0), torch.tensor(0.25)))  # pyright: ignore[reportArgumentType]
    raw = trained.encoding.decode(x)
    wanted = density(trained.encoding.encode(raw).double(), noised=True) + len(x[0]) * math.log(2)
    torch.testing.assert_close(trained.log_prob(raw, steps=128), wanted, rtol=0, atol=1e-5)


def test_softplus_is_exact_far_out():
    """`ln(1 + e^z)`: `e^z` far below 0, `z` far above, and `z + e^{−z}` in between, where torch's own stops at 20."""
    sde = SDES.build("lift:transform=softplus")
    z = torch.tensor([[-700.0, -50.0, -20.5, 0.0, 20.5, 30.0, 700.0]], dtype=torch.float64)
    x = sde.decode(z)
    wanted = [math.log1p(math.exp(u)) if u < 20 else u + math.log1p(math.exp(-u)) for u in z[0].tolist()]
    torch.testing.assert_close(x[0], torch.tensor(wanted, dtype=torch.float64), rtol=1e-15, atol=0)
    torch.testing.assert_close(sde.encode(x), z, rtol=1e-14, atol=1e-15)
    slopes = [-math.log1p(math.exp(-u)) if u > -20 else u - math.log1p(math.exp(u)) for u in z[0].tolist()]
    torch.testing.assert_close(
        sde.coordinates.log_abs_det_jacobian(z, x)[0], torch.tensor(slopes, dtype=torch.float64), rtol=1e-14, atol=1e-300
    )
    narrow = torch.tensor([[-80.0, -20.0, 20.0, 88.0]])
    torch.testing.assert_close(sde.encode(sde.decode(narrow)), narrow, rtol=1e-6, atol=0)


def test_stick_breaking_keeps_small_shares():
    """Equal shares at the origin; a share of `e^{−40}` in float32 comes back, and so does what is left behind one of `1 − e^{−40}`."""
    sde = SDES.build("lift:transform=stick-breaking")
    assert sde.state_shape((5, 4)) == (5, 3)
    torch.testing.assert_close(sde.decode(torch.zeros(1, 3)), torch.full((1, 4), 0.25))
    z = torch.tensor([[-40.0, 0.5, 1.0], [40.0, -1.0, 2.0], [0.1, 40.0, 3.0]])
    x = sde.decode(z)
    assert (x > 0).all()
    torch.testing.assert_close(sde.encode(x), z, rtol=1e-5, atol=1e-5)
    shares = SAMPLERS.build("dpmpp-2m").sample(problem("lift:transform=stick-breaking")[0], (500, 3), 20)
    assert sde.support.check(shares).all()
    assert not sde.support.check(torch.tensor([[0.0, 0.5, 0.5], [0.5, 0.6, -0.1], [0.5, 0.2, 0.2]])).any()


@pytest.mark.parametrize(
    ("transform", "z"), [("sigmoid", 18.0), ("tanh", 10.0), ("sigmoid,low=-1,high=3", 20.0), ("stick-breaking", -120.0)]
)
def test_what_rounds_to_the_boundary_is_refused(transform, z):
    sde = SDES.build(f"lift:transform={transform}")
    with pytest.raises(SupportError, match="too far out for torch"):
        sde.decode(torch.full((1, 2), z))
    assert sde.support.check(sde.decode(torch.full((1, 2), z, dtype=torch.float64))).all()


@pytest.mark.parametrize("transform", ["sigmoid", "tanh", "stick-breaking", "sigmoid,base=vp"])
def test_refusing_what_rounds_to_the_boundary_is_lawful(transform):
    [support] = (law for law in CONTRACT_LAWS.bind(SDES.build(f"lift:transform={transform}")) if law.__name__ == "support")
    support()


def test_refusing_everything_is_not():
    class Refusing(type(SDES.build("lift"))):
        def decode(self, z):
            raise SupportError("It is too far out.", "Give another.")

    [support] = (law for law in CONTRACT_LAWS.bind(Refusing()) if law.__name__ == "support")
    with pytest.raises(LawError, match="too far out"):
        support()


def test_the_boundary_has_no_coordinates():
    box = SDES.build("lift:transform=sigmoid,low=-1,high=3")
    assert box.support.check(torch.tensor([-1.0, -0.999, 2.999, 3.0])).tolist() == [False, True, True, False]
    assert support_in_words(box.support) == "the open interval (-1, 3)"
    assert support_in_words(SDES.build("lift").support) == "the positive numbers"
    with pytest.raises(DataError, match="1 value of the data is missing or outside the support"):
        log_likelihood(gaussian(box), torch.tensor([[0.5, 3.0]], dtype=torch.float64))


def test_a_base_with_parameters_is_written_and_read():
    sde = SDES.build("lift:base=(ve:sigma_max=2,sigma_min=0.1),transform=tanh,low=0")
    assert sde == type(sde)(base="ve:sigma_max=2,sigma_min=0.1", transform="tanh", low=0.0)
    assert SDES.build(sde.spec) == SDES.build(sde.full_spec) == sde
    assert sde.process == SDES.build("ve:sigma_max=2,sigma_min=0.1")
    assert SDES.build("lift:base=ve:sigma_max=2,low=0").process == SDES.build("ve:sigma_max=2")


def test_the_base_adapts_to_the_coordinates():
    z = coordinates(100, 3)
    sde = SDES.build("lift:transform=sigmoid").adapted(torch.sigmoid(z))
    assert sde.center == pytest.approx(z.mean(0).tolist())
    assert sde.spread == pytest.approx(z.std(0).tolist())
    assert sde.process.sigma_max == pytest.approx(SDES.build("ve").adapted((z - z.mean(0)) / z.std(0)).sigma_max)
    images = SDES.build("lift:transform=sigmoid").adapted(torch.sigmoid(z).reshape(-1, 1, 1, 3))
    assert images.spread is None
    assert images.process.sigma_max == pytest.approx(SDES.build("ve").adapted(z).sigma_max)
    assert sde.adapted(torch.sigmoid(2 * z)) == SDES.build(sde.spec) == sde


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ("transform=logit", r"transform=logit is not allowed .* Set transform to one of exp, softplus, sigmoid, tanh, stick-breaking\."),
        ("high=2", r"exp has no upper end. Leave high out, or choose sigmoid or tanh\."),
        ("transform=sigmoid,low=1", r"low=1 is not below high=1. Choose low below high\."),
        ("transform=stick-breaking,low=0", r"the simplex has no low and high. Leave them out\."),
        ("base=gbm", r"gbm is not an affine process on the real line. Choose another base, such as ve\."),
        ("base=lift", r"lift is not an affine process"),
        ("base=vee", r"There is no SDE 'vee'. Did you mean 've'\?"),
    ],
)
def test_what_cannot_be_lifted_is_refused(values, reason):
    with pytest.raises(SdezooError, match=reason):
        SDES.build(f"lift:{values}")


LAWS = SDE_LAWS.bind(SDES.build("lift:transform=stick-breaking,base=vp"))


@pytest.mark.parametrize("law", LAWS, ids=[law.__name__ for law in LAWS])
def test_the_lift_to_the_simplex_obeys_the_laws(law):
    law()
