"""Exponentiated gradient descent: signs, mirror descent, where it converges, what it resumes from, what weights become."""

import math
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from scipy import optimize, stats
from torch import nn

from sdezoo import DATASETS, LOSSES, NETWORKS, OPTIMIZERS, SDES, Noise, ScoreModel
from sdezoo.errors import ParameterError
from sdezoo.learning.loss import Batch
from sdezoo.learning.optimizer import flatten_state, restore_state
from sdezoo_plugins.optimizers.exponentiated import AlongAdam, AlongMean

WIDE = torch.float64
KINDS = [AlongMean, AlongAdam]
each_kind = pytest.mark.parametrize("kind", KINDS)


def parameter(values, dtype=WIDE):
    return nn.Parameter(torch.as_tensor(values, dtype=dtype).clone())


def normal(*shape, seed=0, dtype=WIDE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def descend(optimizer, w, gradients):
    """`w` after each step along given gradients."""
    path = []
    for gradient in gradients:
        w.grad = gradient.to(w)
        optimizer.step()
        path.append(w.detach().clone())
    return torch.stack(path)


@settings(max_examples=10)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 99),
    dtype=st.sampled_from([torch.float32, WIDE]),
    lr=st.sampled_from([1e-3, 0.1, 10.0]),
    scale=st.sampled_from([1e-15, 1e-3, 1.0, 1e15]),
    drift=st.sampled_from([0.0, 0.0, 1.0]),
)
def test_no_weight_changes_sign(kind, seed, dtype, lr, scale, drift):
    """Whatever the gradients, from weights of all sizes and from zero; none vanishes, none overflows."""
    start = normal(4, 6, seed=seed) * 10.0 ** (6 * normal(4, 6, seed=seed + 1))
    start[:, 0] = 0
    w = parameter(start, dtype)
    gradients = scale * (normal(2000, 4, 6, seed=seed + 2) + drift * normal(4, 6, seed=seed + 3))
    path = descend(kind([w], lr), w, gradients)
    assert torch.equal(path.sign(), path[0].sign().expand_as(path))
    assert path.isfinite().all()
    assert (path != 0).all()
    given = start.to(dtype)
    assert torch.equal(path[0].sign()[given != 0], given.sign()[given != 0])
    size = torch.cat([given[None], path]).abs().double()
    assert float((size[1:] / size[:-1])[1:].log().abs().max()) <= 1 + 1e-5


def test_weights_descend_in_the_mirror():
    """∇ψ(w') = ∇ψ(w) − ηg, and w' is the least of η⟨g, v⟩ + D(v, w), for D the divergence of Σ |v| log |v| − |v|."""
    eta, w, g = 0.07, normal(3, 5), normal(3, 5, seed=1)
    moved = parameter(w)
    descend(AlongMean([moved], eta, momentum=0.0), moved, [g])
    torch.testing.assert_close(moved.sign() * moved.abs().log(), w.sign() * w.abs().log() - eta * g)

    def objective(v):
        divergence = v.abs() * (v / w).log() - v.abs() + w.abs()
        return eta * (g * v).sum() + divergence.sum()

    slope = torch.autograd.functional.jacobian(objective, moved.detach())
    assert float(slope.abs().max()) < 1e-12
    least = float(objective(moved.detach()))
    assert all(least < float(objective(moved.detach() * (1 + h * normal(3, 5, seed=2)))) for h in (-1e-3, 1e-3))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p: AlongMean(p, 0.03, momentum=0.8), lambda p: torch.optim.SGD(p, 0.03, momentum=0.8, dampening=0.8)),
        (lambda p: AlongAdam(p, 0.03, betas=(0.8, 0.95)), lambda p: torch.optim.Adam(p, 0.03, betas=(0.8, 0.95))),
    ],
    ids=["egd", "egd-adam"],
)
def test_the_direction_is_that_of_the_additive_optimizer(ours, theirs):
    """A bias moves as under torch's SGD or Adam, and log |w| by as much, in the direction of the sign of w."""
    gradients = normal(50, 2, 3)
    w, flat, bias = parameter(normal(2, 3, seed=1)), parameter(normal(6, seed=2)), parameter(normal(6, seed=2))
    path = descend(ours([w]), w, gradients)
    additive = descend(theirs([bias]), bias, gradients.flatten(1))
    torch.testing.assert_close(descend(ours([flat]), flat, gradients.flatten(1)), additive)
    start = normal(2, 3, seed=1)
    moved = (additive - normal(6, seed=2)).reshape(path.shape)
    torch.testing.assert_close(path.abs().log(), start.abs().log() + start.sign() * moved)


@each_kind
@pytest.mark.parametrize("inside", [True, False])
def test_a_quadratic_is_minimized_within_the_orthant(kind, inside):
    """½ ‖A w − b‖²: the optimum where it has the signs of the start, else the constrained one, some weights dying out."""
    a, signs = normal(12, 6), torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0, 1.0], dtype=WIDE)
    b = a @ (signs * (0.5 + torch.rand(6, generator=torch.Generator().manual_seed(1), dtype=WIDE))) if inside else normal(12, seed=3)
    optimum = signs * torch.from_numpy(optimize.nnls((a * signs).numpy(), b.numpy())[0])
    assert bool((optimum != 0).all()) == inside
    w = parameter(0.3 * signs[None])
    steps, rate = 3000, {AlongMean: 0.02, AlongAdam: 0.1}[kind]
    optimizer = kind([w], rate)
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - k / steps)
        w.grad = (a.T @ (a @ w[0] - b))[None].detach()
        optimizer.step()
    assert float((w[0] - optimum).abs().max()) < 1e-3


def test_small_steps_follow_the_flow():
    """dw/dt = −|w| (w − a) is the logistic equation; the error falls with the step, at order 1."""
    a, start, end = 1.5, 0.1, 2.0
    exact = a / (1 + (a / start - 1) * math.exp(-a * end))
    errors = []
    for steps in (200, 400):
        w = parameter([[start]])
        optimizer = AlongMean([w], end / steps, momentum=0.0)
        for _ in range(steps):
            w.grad = (w - a).detach()
            optimizer.step()
        errors.append(abs(float(w) - exact))
    assert errors[0] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)


def test_decay_is_exponential_and_spares_biases():
    w, b = parameter(normal(2, 3)), parameter(normal(3))
    optimizer = AlongAdam([w, b], 0.1, weight_decay=0.02)
    for _ in range(10):
        w.grad, b.grad = torch.zeros_like(w), torch.zeros_like(b)
        optimizer.step()
    torch.testing.assert_close(w.detach(), normal(2, 3) * math.exp(-10 * 0.1 * 0.02))
    assert torch.equal(b.detach(), normal(3))


@each_kind
def test_weights_at_zero_are_given_a_sign_once(kind):
    """By the additive step; those without a gradient stay, and so do parameters that have none."""
    w, unused, gradient = parameter(torch.zeros(2, 3)), parameter(normal(2, 2)), normal(2, 3)
    gradient[0, 0] = 0
    additive = parameter(torch.zeros(6))
    descend(kind([additive], 0.01), additive, [gradient.flatten()])
    optimizer = kind([w, unused], 0.01)
    descend(optimizer, w, [gradient])
    assert torch.equal(w.flatten(), additive)
    path = descend(optimizer, w, -gradient * torch.ones(300, 1, 1))
    assert torch.equal(path[-1].sign(), -gradient.sign())
    assert (path[-1, gradient != 0].abs() < additive.reshape(2, 3)[gradient != 0].abs()).all()
    assert torch.equal(unused.detach(), normal(2, 2))


@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_a_restored_state_goes_on_bit_for_bit_with_memory_in_another_order(name):
    """A convolution whose memory is not contiguous, a normalisation, and a layer that starts at zero."""
    rule = OPTIMIZERS.build(name)
    lr = rule.learning_rate or 1e-3

    def network():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            enter, leave = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 1, 2)
        enter.weight.data = enter.weight.data.contiguous(memory_format=torch.channels_last)
        nn.init.zeros_(leave.weight)
        return nn.Sequential(enter, nn.GroupNorm(2, 4), nn.SiLU(), leave)

    def train(net, optimizer, steps):
        for k in steps:
            optimizer.param_groups[0]["lr"] = lr / (1 + k)
            optimizer.zero_grad()
            x = normal(5, 2, 4, 4, seed=k, dtype=torch.float32)
            (net(x) - x.mean()).square().mean().backward()
            optimizer.step()

    whole, halves = network(), network()
    train(whole, rule.build(whole, lr, steps=40, seed=1), range(40))
    first = rule.build(halves, lr, steps=40, seed=1)
    train(halves, first, range(20))
    kept = load(save({key: value.detach().contiguous() for key, value in flatten_state(first).items()}))
    resumed = network()
    resumed.load_state_dict(halves.state_dict())
    second = rule.build(resumed, lr, steps=40, seed=1)
    restore_state(second, kept)
    train(resumed, second, range(20, 40))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(whole.parameters(), halves.parameters(), strict=True))


@cache
def score_network(name, steps=400):
    """A small score network of the wines before and after training: pairs of its weights, and its first and last losses."""
    x = DATASETS.build("wine").load().train
    sde = SDES.build("gbm").adapted(x)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=64,depth=2").module((13,)), x)
    model.linear = None  # beyond it, the network has little left to learn
    loss = LOSSES.build("mult-dsm")
    before = [p.detach().clone() for p in model.parameters()]
    rule = OPTIMIZERS.build(name)
    lr = rule.learning_rate or 1e-3
    optimizer = rule.build(model, lr, steps=steps)
    losses = []
    for k in range(steps):
        optimizer.param_groups[0]["lr"] = lr * min(1, (k + 1) / 50) * (1 - k / steps)
        noise = Noise.seeded(0, k)
        t = sde.time_at(model.std.mean() * (1.2 * noise.normal(torch.empty((), dtype=WIDE), (len(x), 1))).exp()).float()
        optimizer.zero_grad()
        mean = loss(model, Batch(x), t, noise).mean() / 13
        mean.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(mean.detach()))
    pairs = [(b, p.detach()) for b, p in zip(before, model.parameters(), strict=True) if p.ndim >= 2]
    return pairs, np.mean(losses[:20]), np.mean(losses[-100:])


def distance_from_normal(values):
    """The Kolmogorov–Smirnov distance to the fitted normal law, whose standard error is below ½/√n."""
    values = values.flatten().double().numpy()
    return stats.kstest((values - values.mean()) / values.std(), "norm").statistic


@pytest.mark.parametrize("name", ["egd", "egd-adam"])
def test_a_network_learns_and_keeps_its_signs(name):
    pairs, first, last = score_network(name)
    assert last < 0.95 * first
    assert all(((before * after) >= 0).all() for before, after in pairs)
    assert all((after != 0).all() for _, after in pairs)


def test_trained_weights_are_log_normal():
    """In every layer log |w| is far nearer to a normal law than w, though no weight began log-normal. With AdamW it is the reverse."""
    for name, closer in (("egd-adam", True), ("adamw", False)):
        for _, after in score_network(name)[0]:
            plain, logarithm = distance_from_normal(after), distance_from_normal(after.abs().log())
            error = math.hypot(0.5, 0.5) / math.sqrt(after.numel())
            assert (plain - logarithm > 3 * error) if closer else (logarithm > plain), (name, after.shape, plain, logarithm)


def test_what_is_not_finite_is_not_hidden():
    w = parameter(normal(2, 2))
    assert descend(AlongAdam([w], 0.1), w, [torch.full((2, 2), math.nan)]).isnan().all()


@each_kind
def test_a_closure_is_evaluated(kind):
    w = parameter(normal(2, 2))

    def closure():
        w.grad = None
        loss = w.square().sum()
        loss.backward()
        return float(loss)

    optimizer = kind([w], 0.01)
    losses = [optimizer.step(closure) for _ in range(3)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(float(normal(2, 2).square().sum()))


@pytest.mark.parametrize("wrong", [{"lr": 0.0}, {"lr": math.nan}, {"weight_decay": -1.0}, {"momentum": 1.0}, {"betas": (0.9, 1.0)}])
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(ParameterError, match="is not allowed"):
        (AlongAdam if "betas" in wrong else AlongMean)([parameter(normal(2, 2))], **{"lr": 0.1, **wrong})
