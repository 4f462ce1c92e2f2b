"""A step of gradient descent in infinitely deep and wide residual networks, by stochastic differential equations, beside wide networks.

    python docs/experiments/depth_limit.py

The network has `L` layers of width `n`, weights `W_l` and readout `v` with standard normal entries, and one input of class 1::

    h_{l+1} = h_l + W_l φ(h_l)/√(nL),      f = v·h_L/n,      φ = tanh,      h_0 standard normal

One step of gradient descent on `½ (f − 1)²`, with learning rate `η n` for the `W_l`, changes features `h⁰` into `h¹`. For `n → ∞`, then
`L → ∞`, neurons are independent copies of solutions of a forward, a backward and a forward equation (after neural feature dynamics: Yao,
Wu & Gao, arXiv 2512.21075; derived here)::

    dh⁰ = dM⁰,                               d⟨Mʲ, Mᵏ⟩ = q_jk dt,      q_jk = E φ(hʲ) φ(hᵏ)
    dg  = φ'(h⁰) √(E g²) dB̄,                 g = n ∂f/∂h⁰, backward from g_1 = v
    dh¹ = dM¹ + (η q_01 + r C) g dt,         r = E φ'(h⁰) φ'(h¹),      C = ∫₀ᵗ (η q_01 + r C) ds

The expectations are over neurons, so the coefficients of each process are those of its population, here its batch. The term `r C` comes
from the weights being used twice: `h¹` depends on `Wᵀ` through `g`, and `W` multiplies it. If gradients are taken to be independent of
the weights, it is missing.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo import ForwardSDE, Noise

STEPS, NEURONS = 200, 40_000
SHARES = (0.25, 0.5, 0.75, 1.0)
WIDE = torch.empty((), dtype=torch.float64)


def mean(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).mean()


def slope(h: Tensor) -> Tensor:
    """φ'."""
    return 1 - h.tanh().square()


class Population(ForwardSDE):
    """A process of neurons, `(B,)` of them."""

    def prior(self, shape, noise, like):
        return noise.normal(like, shape)

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.zeros_like(z)


@dataclass(frozen=True)
class Features(Population):
    """`h⁰`: `dh = √(E φ(h)²) dB`."""

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return mean(z.tanh(), z.tanh()).sqrt()


@dataclass(frozen=True)
class Gradients(Population):
    """`g`, by the time back from the readout: `dg = φ'(h⁰) √(E g²) dB̄`."""

    path: Tensor
    """`h⁰`, `(STEPS + 1, B)`."""

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return slope(self.path[STEPS - 1 - round(float(t) * STEPS)]) * mean(z, z).sqrt()


@dataclass(frozen=True)
class Trained(Population):
    """`h¹` given `h⁰` and `g`: the martingale part is `q_01/q_00 dh⁰` and noise of its own."""

    path: Tensor
    gradients: Tensor
    """`g`, `(STEPS + 1, B)`."""
    strengths: list[Tensor]
    """The factors of `g` so far, to which each call of `drift` adds its own."""
    rate: float
    reused: bool
    """Whether weights are used twice."""

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        step = round(float(t) * STEPS)
        h, after = self.path[step : step + 2]
        strength = self.rate * mean(h.tanh(), z.tanh())
        if self.reused:
            strength = strength + mean(slope(h), slope(z)) * sum(self.strengths, WIDE.new_zeros(())) / STEPS
        self.strengths.append(strength)
        shared = mean(h.tanh(), z.tanh()) / mean(h.tanh(), h.tanh())
        return shared * (after - h) * STEPS + strength * self.gradients[step + 1]

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        h = self.path[round(float(t) * STEPS)]
        own = mean(z.tanh(), z.tanh()) - mean(h.tanh(), z.tanh()) ** 2 / mean(h.tanh(), h.tanh())
        return own.clamp_min(0).sqrt()


def simulated(sde: ForwardSDE, z: Tensor, noise: Noise) -> Tensor:
    """A path, `(STEPS + 1, B)`."""
    path, dt = [z], torch.tensor(1 / STEPS, dtype=torch.float64)
    for step in range(STEPS):
        path.append(sde.forward_step(path[-1], step * dt, dt, noise))
    return torch.stack(path)


def summary(h: Tensor, trained: Tensor, gradients: Tensor) -> list[float]:
    """`E (h¹ − h⁰)²` at each share of the depth, then the output `f` after the step: `E v h¹`, less `E v h⁰`, whose limit is 0."""
    places = [round(share * (len(h) - 1)) for share in SHARES]
    moved = [(trained[k] - h[k]).square().mean() for k in places]
    return [float(x) for x in (*moved, mean(gradients[-1], trained[-1] - h[-1]))]


def limit(rate: float, reused: bool, seed: int) -> list[float]:
    noise = Noise.seeded(seed)
    start = noise.normal(WIDE, (NEURONS,))
    h = simulated(Features(), start, noise)
    gradients = simulated(Gradients(h), noise.normal(WIDE, (NEURONS,)), noise).flip(0)
    return summary(h, simulated(Trained(h, gradients, [], rate, reused), start, noise), gradients)


def network(rate: float, width: int, depth: int, seed: int) -> list[float]:
    draw = torch.Generator().manual_seed(seed)
    h, v = [torch.randn(width, generator=draw)], torch.randn(width, generator=draw)
    weights = [torch.randn(width, width, generator=draw) / math.sqrt(width * depth) for _ in range(depth)]
    for w in weights:
        h.append(h[-1] + w @ h[-1].tanh())
    g = [v]
    for w, x in zip(reversed(weights), reversed(h[:-1]), strict=True):
        g.append(g[-1] + slope(x) * (w.T @ g[-1]))
    g.reverse()
    error = float(v @ h[-1]) / width - 1
    trained = [h[0]]
    for layer, w in enumerate(weights):
        now = trained[-1].tanh()
        trained.append(trained[-1] + w @ now - rate * error / depth * g[layer + 1] * mean(h[layer].tanh(), now))
    return summary(torch.stack(h), torch.stack(trained), torch.stack(g))


def told(name: str, found: list[list[float]]) -> None:
    values = torch.tensor(found)
    errors = values.std(0) / math.sqrt(len(found))
    print(name + ": " + ", ".join(f"{m:.4f} ± {e:.4f}" for m, e in zip(values.mean(0).tolist(), errors.tolist(), strict=True)), flush=True)


def main(rate: float = 1.0) -> None:
    print(f"E (h1 − h0)² at depths {SHARES}, output after the step; mean and standard error")
    for reused in (True, False):
        told("limit" if reused else "limit without r C", [limit(rate, reused, seed) for seed in range(4)])
    for depth in (4, 16, 64):
        told(f"networks of width 512, {depth} layers", [network(rate, 512, depth, seed) for seed in range(16)])


if __name__ == "__main__":
    main()
