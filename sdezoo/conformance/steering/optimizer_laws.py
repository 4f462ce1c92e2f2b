"""Laws of optimizers, tried on a small network with an embedding, a hidden layer, a normalization and a layer that starts at zero.

An optimizer has to descend, to keep what it says that it keeps, and to go on from its saved state bit for bit. It draws no random number
but by the seed that it is given.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.configuration import configuration_laws
from sdezoo.learning.optimizer import Optimizer, flatten_state, is_weight, restore_state

_STEPS, _RATES = 300, (100.0, 10.0, 1.0, 0.1, 0.01, 1e-3)
_RATE, _FEW, _SHORT = 1e-3, 6, 100


class _Net(nn.Module):
    """Four inputs to three outputs; as most networks, it starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.norm, self.leave = nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        nn.init.zeros_(self.leave.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(torch.tanh(self.norm(self.enter(x))))


def _made(kind: type[nn.Module], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind()


class _Linear(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 3)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _rate(plugin: Optimizer) -> float:
    return plugin.learning_rate or _RATE


def _computed(plugin: Optimizer) -> list[Any]:
    """The weights after a few steps."""
    net = _made(_Net)
    _train(net, plugin.build(net, _rate(plugin), steps=_FEW, seed=3), range(_FEW), _rate(plugin))
    return [plugin.learning_rate, plugin.keeps, plugin.averaged, *(p.detach() for p in net.parameters())]


OPTIMIZER_LAWS: Suite[Optimizer] = Suite(configuration_laws(Optimizer, _computed))


def _train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range, lr: float) -> None:
    for k in steps:
        for group in optimizer.param_groups:
            group["lr"] = lr / (1 + k / 20)
        optimizer.zero_grad()
        x = _normal(16, 4, seed=k)
        found: Tensor = net(x)
        (found - x[:, :3].sin()).square().mean().backward()
        optimizer.step()


@OPTIMIZER_LAWS.law(first=True)
def contract(plugin: Optimizer) -> None:
    """It builds a torch optimizer of all parameters that are trained, at the learning rate that it is given; a step leaves them finite."""
    net = _made(_Net)
    found = plugin.build(net, _rate(plugin), steps=3, seed=1)
    if not isinstance(found, torch.optim.Optimizer):
        raise LawError(f"build returned a {type(found).__name__}.")
    held = {id(p) for group in found.param_groups for p in group["params"]}
    missing = [name for name, p in net.named_parameters() if id(p) not in held]
    if missing:
        raise LawError(f"The optimizer does not have the parameters {', '.join(missing)}.")
    if any(group["lr"] != _rate(plugin) for group in found.param_groups):
        raise LawError(f"The learning rate is {found.param_groups[0]['lr']}, not {_rate(plugin)}.")
    _train(net, found, range(3), _rate(plugin))
    broken = [name for name, p in net.named_parameters() if not p.isfinite().all()]
    if broken:
        raise LawError(f"After three steps the parameters {', '.join(broken)} are not finite.")


@OPTIMIZER_LAWS.law()
def gradients_stay(plugin: Optimizer) -> None:
    """A step changes no gradient: what is logged, clipped or accumulated after it is what the loss gave."""
    net = _made(_Net)
    optimizer = plugin.build(net, _rate(plugin), steps=4, seed=1)
    for k in range(3):
        net(_normal(4, 4, seed=k)).sum().backward()
        before = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
        optimizer.step()
        for name, gradient in before.items():
            after = net.get_parameter(name).grad
            if after is None or not torch.equal(after, gradient):
                raise LawError(f"Step {k + 1} changes the gradient of '{name}'.")


@OPTIMIZER_LAWS.law()
def descends_on_a_quadratic(plugin: Optimizer) -> None:
    """At a learning rate that is small enough, a linear layer comes near to the least of a quadratic that it can reach."""
    ratios = [_quadratic(plugin, _rate(plugin) * factor) for factor in _RATES]
    if not min(ratios) < 0.2:
        raise LawError(f"Of the loss remains {min(ratios):.2g} at best, at learning rates from {_rate(plugin) * _RATES[-1]:.2g} up.")


def _quadratic(plugin: Optimizer, lr: float) -> float:
    net = _made(_Linear)
    w: Tensor = net.weight.detach()
    if plugin.keeps == "signs":
        wanted = w.sign() * _normal(3, 4, seed=2).abs()
    elif plugin.keeps == "magnitudes":
        wanted = w.abs() * _normal(3, 4, seed=2).sign()
    else:
        wanted = _normal(3, 4, seed=2)
    x, optimizer = _normal(64, 4, seed=3), plugin.build(net, lr, steps=_STEPS)
    losses = []
    for k in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - k / _STEPS)
        optimizer.zero_grad()
        loss = (net(x) - x @ wanted.T - 0.3).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    last = sum(losses[-10:]) / 10
    return last / losses[0] if math.isfinite(last) else math.inf


def _claims_nothing(plugin: Optimizer) -> str | None:
    return None if plugin.keeps else "It says of nothing that it keeps it."


@OPTIMIZER_LAWS.law(excuses=_claims_nothing)
def keeps_what_it_says(plugin: Optimizer) -> None:
    """No step changes the sign, or the magnitude, of a weight that is not 0: whatever the gradients, bit for bit. Nor does an average."""
    net = _made(_Net)
    before = {name: p.detach().clone() for name, p in net.named_parameters() if is_weight(p) and p.any()}
    optimizer = plugin.build(net, _rate(plugin), steps=100)
    for k in range(100):
        net(_normal(4, 4, seed=k)).sum().backward()  # for optimizers that see what layers are given
        for i, p in enumerate(net.parameters()):
            p.grad = 3 * _normal(*p.shape, seed=1000 * i + k) + _normal(*p.shape, seed=i)
        optimizer.step()
    for name, start in before.items():
        end = net.get_parameter(name).detach()
        changed = start.sign() != end.sign() if plugin.keeps == "signs" else start.abs() != end.abs()
        if changed.any():
            at = tuple(changed.nonzero()[0].tolist())
            raise LawError(
                f"It says that it keeps {plugin.keeps}, and {int(changed.sum())} of {changed.numel()} changed: "
                f"{float(start[at]):.6g} became {float(end[at]):.6g}."
            )
        mean = (start + end) / 2
        if plugin.averaged and ((start.sign() != mean.sign()) if plugin.keeps == "signs" else (start.abs() != mean.abs())).any():
            raise LawError(f"It says that averaged weights are as good, and averages do not keep {plugin.keeps}.")


@OPTIMIZER_LAWS.law()
def every_parameter_descends(plugin: Optimizer) -> None:
    """Weights alone, and biases alone, descend to at most a half of the loss that they can take away."""
    for which in ("weight", "bias"):
        ratios: list[float] = []
        for factor in sorted(_RATES, key=lambda factor: abs(math.log(factor))):
            ratios.append(_alone(plugin, which, _rate(plugin) * factor))
            if ratios[-1] < 0.5:
                break
        if not min(ratios) < 0.5:
            raise LawError(f"If the {which} alone is off, {min(ratios):.2g} of the loss remains at best.")


def _alone(plugin: Optimizer, which: str, lr: float) -> float:
    """The share of the loss that remains if only one parameter of a linear layer is off."""
    net, other = _made(_Linear), _made(_Linear)
    with torch.no_grad():
        if which == "bias":
            other.bias += 0.7
        elif plugin.keeps == "magnitudes":
            other.weight *= _normal(3, 4, seed=2).sign()
        else:
            other.weight *= 0.2 + _normal(3, 4, seed=2).abs()
    x, optimizer = _normal(64, 4, seed=3), plugin.build(net, lr, steps=_STEPS)
    wanted, losses = other(x).detach(), []
    for k in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - k / _STEPS)
        optimizer.zero_grad()
        loss = (net(x) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    last = sum(losses[-10:]) / 10
    return last / losses[0] if math.isfinite(last) else math.inf


@OPTIMIZER_LAWS.law()
def steps_follow_the_rate(plugin: Optimizer) -> None:
    """At a learning rate of 0 nothing moves; at twice a small one, steps are about twice as large, or by noise more than once."""
    lr, moved = _rate(plugin) / 10, {}
    for factor in (0.0, 1.0, 2.0):
        net = _made(_Net)
        optimizer = plugin.build(net, lr, steps=8, seed=3)
        _train(net, optimizer, range(2), lr)
        before = [p.detach().clone() for p in net.parameters()]
        _train(net, optimizer, range(2, 3), lr * factor * (1 + 2 / 20))
        moved[factor] = math.sqrt(
            sum(float((p.detach() - b).double().square().sum()) for p, b in zip(net.parameters(), before, strict=True))
        )
    if not moved[0.0] <= 1e-4 * moved[1.0]:
        raise LawError(f"At a learning rate of 0 weights move by {moved[0.0]:.2g}, and by {moved[1.0]:.2g} at {lr:.2g}.")
    if not 1.1 < moved[2.0] / moved[1.0] < 2.6 and plugin.keeps != "magnitudes":
        raise LawError(f"At twice the learning rate a step is {moved[2.0] / moved[1.0]:.3g} times as large.")


@OPTIMIZER_LAWS.law()
def restored_bit_for_bit(plugin: Optimizer) -> None:
    """Restored from its saved state, it ends in the same weights, bit for bit, as if never interrupted."""
    lr, total = _rate(plugin), 24
    whole, halves = _made(_Net), _made(_Net)
    _train(whole, plugin.build(whole, lr, steps=total, seed=5), range(total), lr)
    first = plugin.build(halves, lr, steps=total, seed=5)
    _train(halves, first, range(total // 2), lr)
    kept = {key: value.detach().cpu().contiguous().clone() for key, value in flatten_state(first).items()}
    resumed = _made(_Net)
    resumed.load_state_dict(copy.deepcopy(halves.state_dict()))
    second = plugin.build(resumed, lr, steps=total, seed=5)
    restore_state(second, kept)
    _train(resumed, second, range(total // 2, total), lr)
    for name, wanted in whole.named_parameters():
        found = resumed.get_parameter(name)
        if not torch.equal(found, wanted):
            raise LawError(f"After a restart '{name}' differs by up to {float((found - wanted).abs().max()):.2g}.")


@OPTIMIZER_LAWS.law()
def seeded_noise_only(plugin: Optimizer) -> None:
    """Two runs of one seed give the same bits, another seed gives other noise, and torch's global generator is not drawn from."""
    lr, ends = _rate(plugin), []
    state = torch.random.get_rng_state()
    for _ in range(2):
        net = _made(_Net)
        _train(net, plugin.build(net, lr, steps=8, seed=3), range(8), lr)
        ends.append([p.detach() for p in net.parameters()])
        torch.rand(1)  # so that the second run would meet another state
    drawn = [torch.rand(1), torch.rand(1)]
    torch.random.set_rng_state(state)
    if any(not torch.equal(a, b) for a, b in zip(*ends, strict=True)):
        raise LawError("Two runs of one seed differ.")
    torch.rand(2)
    if not torch.equal(torch.cat([torch.rand(1), torch.rand(1)]), torch.cat(drawn)):
        raise LawError("It draws from torch's global generator.")
    torch.random.set_rng_state(state)
    one, other, before = _unforced(plugin, 3), _unforced(plugin, 4), _unforced(plugin, 3, 1)
    noisy = [place for place, p in enumerate(one) if p.unique().numel() > 1]
    for place in noisy:
        if torch.equal(one[place], other[place]):
            raise LawError("Its noise, which moves equal weights apart, is the same for another seed.")
        first, second = (p - p.mean() for p in (before[place], one[place] - before[place]))
        if float((first * second).sum() / (first.norm() * second.norm())) > _ALIKE:
            raise LawError("Its noise is the same in every step.")
        if any(one[place].shape == one[k].shape and torch.equal(one[place], one[k]) for k in noisy if k < place):
            raise LawError("Its noise is the same for two parameters of one shape.")


_ALIKE = 1 - 1e-3


def _unforced(plugin: Optimizer, seed: int, steps: int = 3) -> list[Tensor]:
    """Weights that are all equal, after steps without gradients: noise alone tells those of one parameter apart."""
    net = _made(_Net)
    for p in net.parameters():
        nn.init.constant_(p, 0.5)
    optimizer = plugin.build(net, _rate(plugin), steps=4, seed=seed)
    for k in range(steps):
        net(_normal(4, 4, seed=k)).sum().backward()
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    return [p.detach() for p in net.parameters()]


@OPTIMIZER_LAWS.law()
def idle_steps_grow_nothing(plugin: Optimizer) -> None:
    """Where no gradient asks for it, no parameter grows by a hundredth in a few steps: decay is towards 0."""
    net = _made(_Net)
    optimizer = plugin.build(net, _rate(plugin), steps=_FEW, seed=3)
    before = {name: float(p.detach().norm()) for name, p in net.named_parameters()}
    for k in range(_FEW):
        net(_normal(4, 4, seed=k)).sum().backward()
        for p in net.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for name, size in before.items():
        grown = float(net.get_parameter(name).detach().norm())
        if size and not grown <= 1.01 * size:
            raise LawError(f"Without gradients, '{name}' is {grown / size:.3g} times as large after {_FEW} steps.")


@OPTIMIZER_LAWS.law()
def what_is_not_a_number_shows(plugin: Optimizer) -> None:
    """Gradients that are not numbers give weights that are not, so that training stops in place of going on with something else."""
    net = _made(_Net)
    optimizer = plugin.build(net, _rate(plugin), steps=4)
    _train(net, optimizer, range(2), _rate(plugin))
    net(_normal(4, 4)).sum().backward()
    for p in net.parameters():
        p.grad = torch.full_like(p, torch.nan)
    optimizer.step()
    hidden = [name for name, p in net.named_parameters() if p.isfinite().all()]
    if hidden:
        raise LawError(f"After a gradient that is not a number, {', '.join(hidden)} are finite.")


def _inherits_nothing(plugin: Optimizer) -> str | None:
    return "It takes over nothing of an earlier run." if type(plugin).inherit is Optimizer.inherit else None


@OPTIMIZER_LAWS.law(excuses=_inherits_nothing)
def what_is_inherited_is_kept(plugin: Optimizer) -> None:
    """Trained on with other data, and with others again, it forgets less of the first data if it takes over what it is to keep."""
    kept, lost = (_forgotten(plugin, heir=heir) for heir in (True, False))
    for runs, (ours, usual) in enumerate(zip(kept, lost, strict=True), 1):
        if not ours < usual / 2:
            raise LawError(
                f"After {runs} more runs answers to the first data moved by {ours:.3g}, and by {usual:.3g} if nothing is taken over."
            )


class _Wide(nn.Linear):
    def __init__(self) -> None:
        super().__init__(8, 3)


def _forgotten(plugin: Optimizer, heir: bool) -> list[float]:
    """How far the answers to the first data move in each of two more runs, on data in other directions."""
    net, lr, first, moved = _made(_Wide), 10 * _rate(plugin), _inputs(0), []
    answers, left = torch.zeros(()), {}
    for k in range(3):
        optimizer, x = plugin.build(net, lr, steps=_SHORT, seed=k), _inputs(k)
        if heir and left:
            plugin.inherit(optimizer, left)
        for _ in range(_SHORT):
            optimizer.zero_grad()
            (net(x) - _normal(len(x), 3, seed=20 + k)).square().mean().backward()
            optimizer.step()
        left, now = {key: value.clone() for key, value in flatten_state(optimizer).items()}, net(first).detach()
        if k:
            moved.append(float((now - answers).norm()))
        else:
            answers = now
    return moved


def _inputs(k: int) -> Tensor:
    """Inputs in two of eight directions."""
    return _normal(64, 2, seed=10 + k) @ torch.linalg.qr(_normal(8, 8, seed=9)).Q[2 * k : 2 * k + 2]
