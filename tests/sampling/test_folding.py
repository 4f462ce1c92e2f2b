"""Folded steps: the same states as the formulas give, with fewer operations, and for whatever is linear."""

import gc
import weakref
from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.problems import Mixture
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.output import OUTPUTS
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.noise import Noise
from sdezoo.sampling import folding
from sdezoo.sampling.folding import FOLDS, Linear, NotLinearError, fold
from sdezoo.sampling.guidance import Guided
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import fitting
from sdezoo.zoo.registry import SAMPLERS, SDES

LINEAR = (
    *("ancestral", "dale-langevin", "ddim", "ddim:eta=0.5", "deis", "deis:polynomial=rho", "dpmpp-2m", "dpmpp-2m-sde", "dpmpp-3m"),
    *("euler-maruyama", "heun", "pc", "rectified-sde", "unipc", "unipc:order=3,prediction=noise"),
)
NOT_LINEAR = ("multiplicative", "pf-ode", "torchsde")
STEPS = 12


class Net(nn.Module):
    """A network of a state, a level and perhaps a class, for two columns."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(4, 16), nn.Linear(16, 2)
        self.calls, self.classes = 0, 3

    def forward(self, x, level, condition=None):
        self.calls += 1
        label = torch.zeros_like(level) if condition is None else condition.to(x) + 1
        return self.last(torch.tanh(self.first(torch.cat([x, level[:, None], label[:, None]], 1))))


def model(sde="gbm:sigma=0.8", output="edm", dtype=torch.float64):
    torch.manual_seed(0)
    moments = torch.tensor([0.3, -0.1]).to(dtype), torch.tensor([0.7, 1.4]).to(dtype)
    return ScoreModel(SDES.build(sde), Net().to(dtype), output, moments=moments)


def start(sampler, of, rows=5, dtype=torch.float64):
    return of.prior((rows, 2), keyed(rows), torch.empty((), dtype=dtype))


def as_written(sampler, of, z, times, noise):
    states, memory = [], None
    for t, s in pairwise(times.unbind()):
        z, memory = sampler.step(of, z, t, s, noise, memory)
        states.append(z)
    return states


def assert_folds(sampler, of, rows=5):
    """Every state is that of the steps as they are written."""
    z, times = start(sampler, of, rows), sampler.grid(of, STEPS)
    folded = fold(sampler, of, times, z)
    assert folded is not None
    with torch.no_grad():
        for state, expected in zip(folded.run(z, keyed(rows)), as_written(sampler, of, z, times, keyed(rows)), strict=True):
            torch.testing.assert_close(state, expected, rtol=1e-9, atol=1e-9)


def test_every_affine_sampler_is_here():
    known = {spec.split(":")[0] for spec in (*LINEAR, *NOT_LINEAR)}
    assert known == set(fitting(SDES.build("gbm"), SAMPLERS))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("spec", LINEAR)
def test_folded_steps_are_those_as_written(spec, output):
    assert_folds(SAMPLERS.build(spec), model(output=output))


@pytest.mark.parametrize("sde", ["gbm", "vp", "ve", "subvp"])
@pytest.mark.parametrize("spec", ["unipc", "dpmpp-2m-sde", "heun"])
def test_whatever_the_process(sde, spec):
    assert_folds(SAMPLERS.build(spec), model("gbm:sigma=0.3,sigma_end=2" if sde == "gbm" else sde))


@pytest.mark.parametrize("spec", LINEAR)
def test_an_exact_score_is_one_call(spec):
    """A model that is no network is evaluated as a whole."""
    assert_folds(SAMPLERS.build(spec), Mixture(SDES.build("gbm:sigma=0.8"), torch.tensor([[0.5, 0.1], [-0.4, 0.3]]), 0.2))


@pytest.mark.parametrize("spec", ["dpmpp-2m", "ancestral"])
def test_guidance_folds(spec):
    labels = torch.tensor([0, 1, 2, 1, 0])
    assert_folds(SAMPLERS.build(spec), Guided(model(), labels, 2.5))
    assert_folds(SAMPLERS.build(spec), model().condition_on(labels))


@pytest.mark.parametrize("spec", NOT_LINEAR)
def test_what_is_not_linear_runs_as_written(spec):
    sampler, of = SAMPLERS.build(spec), model(dtype=torch.float32)
    view = sampler.view(of)
    noise = keyed(5)
    z = view.prior((5, 2), noise, torch.empty(()))
    assert fold(sampler, view, sampler.grid(view, 400), z) is None
    with torch.no_grad():
        last = as_written(sampler, view, z, sampler.grid(view, 400), noise)[-1]
    torch.testing.assert_close(sampler.sample(of, (5, 2), 400), view.sde.decode(last), rtol=0, atol=0)


@dataclass(frozen=True)
class Columns(AffineSDE):
    """A process with a rate for each column."""

    def coefficients(self, t):
        rate = torch.tensor([0.5, 2.0], dtype=torch.float64)
        return Coefficients((-rate * t).exp(), 0.1 * rate * t, 1 - (-2 * rate * t).exp() + t**2)

    def noise_conditioning(self, t):
        return t


@pytest.mark.parametrize("spec", ["ancestral", "ddim", "euler-maruyama"])
def test_coefficients_may_differ_between_columns(spec):
    sampler = SAMPLERS.build(f"{spec}{',' if ':' in spec else ':'}spacing=uniform")
    of = ScoreModel(Columns(), Net().double(), "edm", moments=(torch.tensor([0.3, -0.1]).double(), torch.tensor([0.7, 1.4]).double()))
    assert_folds(sampler, of)


def test_one_network_call_an_evaluation():
    for spec in LINEAR:
        sampler, of = SAMPLERS.build(spec), model(dtype=torch.float32)
        sampler.sample(of, (3, 2), STEPS)
        assert of.net.calls == sampler.evaluations(STEPS)


def test_registers_do_not_grow_with_the_steps():
    """What is alive at once, for 100 steps and for 200."""
    for spec in LINEAR:
        sampler, of = SAMPLERS.build(spec), model()
        alive = [max(_alive(fold(sampler, of, sampler.grid(of, steps), start(sampler, of)))) for steps in (100, 200)]
        assert alive[0] == alive[1] <= 16, spec


def _alive(folded):
    held = {0}
    for step in folded.steps:
        for operation in step:
            held.add(operation.register)
            yield len(held)
            held -= set(operation.freed)


def test_sums_do_not_grow_with_the_steps():
    for spec in LINEAR:
        sampler, of = SAMPLERS.build(spec), model()
        folded = fold(sampler, of, sampler.grid(of, 100), start(sampler, of))
        terms = [max(len(o.argument.registers) for o in step if o.argument) for step in folded.steps]
        assert max(terms[:50]) == max(terms[50:-1]) <= 10, spec


def test_a_fold_is_kept_until_a_number_in_it_changes():
    sampler, of = SAMPLERS.build("dpmpp-2m"), model()
    times, z = sampler.grid(of, STEPS), start(sampler, of)
    first = FOLDS.get(sampler, of, times, z)
    assert FOLDS.get(sampler, of, times, z[:2]) is first
    assert FOLDS.get(SAMPLERS.build("dpmpp-2m:spacing=uniform"), of, times, z) is not first
    of.mean += 0.1
    second = FOLDS.get(sampler, of, times, z)
    assert second is not first
    assert FOLDS.get(sampler, model(), times, z) is not second
    assert FOLDS.get(sampler, of, times, z.float()) is not second


def test_guidance_of_another_scale_is_another_model():
    labels = torch.zeros(5, dtype=torch.long)
    guided, sampler = Guided(model(), labels, 2.0), SAMPLERS.build("dpmpp-2m")
    times, z = sampler.grid(guided, STEPS), start(sampler, guided)
    first = FOLDS.get(sampler, guided, times, z)
    assert FOLDS.get(sampler, guided, times, z) is first
    guided.scale = 3.0
    assert FOLDS.get(sampler, guided, times, z) is not first


@dataclass(frozen=True)
class Steps(Sampler[AffineSDE]):
    """A sampler whose step is `how`."""

    how: object = None

    def step(self, model, z, t, s, noise, memory):
        return self.how(model, z, t, noise), None


@pytest.mark.parametrize(
    "how",
    [
        lambda model, z, t, noise: z.clamp(-1, 1),
        lambda model, z, t, noise: z * model.denoise(z, t),
        lambda model, z, t, noise: torch.tanh(z),
        lambda model, z, t, noise: z if z.abs().max() > 1 else -z,
        lambda model, z, t, noise: 1 / z,
        lambda model, z, t, noise: z + noise.uniform(z),
        lambda model, z, t, noise: z + noise.draw(torch.poisson, z.exp()),
        lambda model, z, t, noise: t / z,
        lambda model, z, t, noise: z[:, :1] + z,
    ],
)
def test_other_operations_do_not_fold(how):
    of = model()
    times = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    assert fold(Steps(how), of, times, torch.ones(4, 2, dtype=torch.float64)) is None


def test_a_mistake_in_a_step_is_shown_as_it_is():
    with pytest.raises(ZeroDivisionError):
        Steps(lambda model, z, t, noise: z * (1 / 0)).sample(model(dtype=torch.float32), (2, 2), 3)


def test_sums_of_known_and_unknown():
    """Against the same operations on a tensor; scalars, tensors of one number, and of one for each column, on either side."""
    value = torch.tensor([[0.3, -2.0]], dtype=torch.float64)
    for known in (0.7, torch.tensor(-1.3, dtype=torch.float64), torch.tensor([0.2, 3.0], dtype=torch.float64)):
        for operation in (
            lambda u, c: u + c,
            lambda u, c: c + u,
            lambda u, c: u - c,
            lambda u, c: c - u,
            lambda u, c: u * c,
            lambda u, c: c * u,
            lambda u, c: u / c,
            lambda u, c: -u + c * (u - c),
            lambda u, c: torch.add(u, c) + torch.sub(c, u) * 2,
        ):
            expression = operation(Linear({0: 1.0}, 0.0, value.shape), known)
            torch.testing.assert_close(expression.terms[0] * value + expression.constant, operation(value, known))
    with pytest.raises(NotLinearError):
        Linear({0: 1.0}, 0.0, value.shape).exp()


def test_a_fold_takes_every_batch():
    sampler, of = SAMPLERS.build("dpmpp-2m-sde"), model(dtype=torch.float32)
    whole = sampler.sample(of, (7, 2), STEPS)
    parts = torch.cat([sampler.sample(of, (rows, 2), STEPS, first=first) for first, rows in ((0, 1), (1, 2), (3, 4))])
    torch.testing.assert_close(whole, parts, rtol=1e-5, atol=1e-6)


def test_noise_is_drawn_in_the_order_of_the_steps():
    """One request for each that a step makes, before the next call of the network."""
    requests = []

    class Listening(Noise):
        def __init__(self):
            pass

        def normal(self, like, shape=None):
            requests.append(tuple(shape))
            return torch.zeros(tuple(shape)).to(like)

    sampler, of = SAMPLERS.build("ancestral"), model()
    z = torch.zeros(3, 2, dtype=torch.float64)
    for _ in fold(sampler, of, sampler.grid(of, 4), z).run(z, Listening()):
        pass
    assert requests == [(3, 2)] * 3


class Operations(TorchDispatchMode):
    """Names what torch is asked for, but for what a network does."""

    def __init__(self):
        super().__init__()
        self.seen, self.inside = [], False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not self.inside:
            self.seen.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("spec", ["dpmpp-2m", "heun", "unipc", "ddim"])
def test_a_step_is_calls_and_sums(spec, output):
    """No value is asked of the device, nothing is copied to it, and no coefficient is computed."""
    sampler, of = SAMPLERS.build(spec), model(output=output)
    z = start(sampler, of)
    folded = fold(sampler, of, sampler.grid(of, STEPS), z)
    watched = Operations()

    def inside(now):
        watched.inside = now

    of.net.register_forward_pre_hook(lambda *_: inside(True))
    of.net.register_forward_hook(lambda *_: inside(False))
    with torch.no_grad(), watched:
        for _ in folded.run(z, keyed(5)):
            pass
    seen = [name for name in watched.seen if name != "expand"]  # a view computes nothing
    assert set(seen) <= {"mul", "add", "add_", "addcmul", "addcmul_", "new_full", "empty"}
    assert len(seen) <= STEPS * {"heun": 12, "unipc": 17}.get(spec, 8)


@pytest.mark.parametrize("spec", LINEAR)
def test_steps_that_are_not_kept_are_the_same(spec, monkeypatch):
    """Written a few at a time, where coefficients are many numbers."""
    sampler, of = SAMPLERS.build(spec), model()
    times, z = sampler.grid(of, 100), start(sampler, of)
    kept = fold(sampler, of, times, z)
    monkeypatch.setattr(folding, "_KEPT_NUMBERS", 10)
    anew = fold(sampler, of, times, z)
    assert kept._steps
    assert anew._steps is None
    with torch.no_grad():
        for a, b in zip(kept.run(z, keyed(5)), anew.run(z, keyed(5)), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert max(_alive(anew)) == max(_alive(kept))


def test_a_fold_keeps_no_model_alive():
    sampler, of = SAMPLERS.build("dpmpp-2m"), model()
    FOLDS.get(sampler, of, sampler.grid(of, STEPS), start(sampler, of))
    exact = Mixture(SDES.build("vp"), torch.zeros(1, 2), 0.2)
    FOLDS.get(sampler, exact, sampler.grid(exact, STEPS), start(sampler, exact))
    gone = weakref.ref(of), weakref.ref(exact)
    del of, exact
    gc.collect()
    assert [ref() for ref in gone] == [None, None]


def test_memory_that_cannot_be_looked_into_runs_as_written():
    @dataclass(frozen=True)
    class Hidden(Steps):
        def step(self, model, z, t, s, noise, memory):
            return z + model.denoise(z, t), {"last": z}

    assert fold(Hidden(), model(), torch.tensor([1.0, 0.5, 0.0]).double(), torch.ones(4, 2).double()) is None
