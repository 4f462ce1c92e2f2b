"""The bridge to torchsde: a reversed process as an equation that its solvers integrate.

With `u = t_0 − t` running forward, the reverse SDE of `sdezoo.process.sde` is
`dz = −f̃(z, t_0 − u) du + g(z, t_0 − u) dW`, diagonal noise. In the sense of Stratonovich the drift is
`f − ½ g ∂g = f − ¼ ∇·(g gᵀ)`.

A solver asks a Brownian motion for its increment `W` over an interval of length `h` and, for order 1.5, for
`U = ∫ (W_u − W_a) du = h (½ W + H)`, where the space-time Lévy area `H ~ N(0, h/12)` is independent of `W` (Foster, Lyons &
Oberhauser, SIAM J. Numer. Anal. 58 (2020)). Three of them: fresh numbers at every request (`KeyedBrownian`), a path that
was drawn before (`PathBrownian`), and torchsde's own (`brownian_interval`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Literal

import torch
import torchsde
from torch import Tensor, nn

from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE

Method = Literal["euler", "milstein", "srk", "euler_heun", "heun", "midpoint", "log_ode", "reversible_heun"]
Score = Callable[[Tensor, Tensor], Tensor]
Brownian = Callable[..., Any]
"""`(ta, tb, return_U, return_A)` to what was asked for: `W`, or a tuple of it with `U` and `A`."""

ITO: tuple[Method, ...] = ("euler", "milstein", "srk")
"""The methods that torchsde integrates in the sense of Itô; the others integrate Stratonovich's."""


def bridge_refuses(sde: Process) -> str | None:
    """Why torchsde does not integrate `sde`: only noise that it calls diagonal crosses the bridge."""
    state = sde.state_shape((1, 3))
    if isinstance(sde, ForwardSDE) and sde.noise_shape(state) != state:
        return "needs an SDE with one Brownian motion for every entry of its state"
    return None


class ReverseEquation(nn.Module):
    """The reverse SDE from `origin` on, for torchsde; states are flattened to `(B, entries)`, as torchsde wants them.

    Args:
        sde: the forward process, with diagonal noise.
        score: of the marginals, `(z, t) -> (B, …)`.
        shape: of the state.
        origin: the time `t_0` at which `u = 0`.
        stratonovich: whether the drift is that of the Stratonovich form.
        remembers: how many of the last drifts, and of the last diffusions, are kept; the eight stages of `srk` ask for
        each of theirs several times.
    """

    noise_type = "diagonal"

    def __init__(
        self, sde: ForwardSDE, score: Score, shape: torch.Size, origin: float, *, stratonovich: bool = False, remembers: int = 1
    ) -> None:
        super().__init__()
        self.sde, self.score, self.shape, self.origin = sde, score, shape, origin
        self.sde_type = "stratonovich" if stratonovich else "ito"
        self._known: dict[str, deque[tuple[float, Tensor, Tensor]]] = {name: deque(maxlen=remembers) for name in "fg"}
        self._clock: tuple[float, Tensor] | None = None

    def f(self, u: Tensor, y: Tensor) -> Tensor:
        """Drift at `u`."""
        return self._once("f", self._drift, u, y)

    def g(self, u: Tensor, y: Tensor) -> Tensor:
        """Diffusion at `u`."""
        return self._once("g", self._diffusion, u, y)

    def _once(self, name: str, fn: Callable[[Tensor, Tensor], Tensor], u: Tensor, y: Tensor) -> Tensor:
        # torchsde tries f and g at the start of every integration, and its solver asks for the same again.
        for at, where, value in self._known[name]:
            if where is y and at == float(u):
                return value
        value = fn(u, y)
        self._known[name].append((float(u), y, value))
        return value

    def _drift(self, u: Tensor, y: Tensor) -> Tensor:
        z, t = y.reshape(self.shape), self._time(u)
        drift = -self.sde.reverse_drift(z, t, self.score(z, t))
        if self.sde_type == "stratonovich":
            drift = drift - self.sde.divergence(z, t) / 4
        return drift.flatten(1)

    def _diffusion(self, u: Tensor, y: Tensor) -> Tensor:
        z = y.reshape(self.shape)
        return self.sde.diffusion(z, self._time(u)).to(z).expand_as(z).flatten(1)

    def _time(self, u: Tensor) -> Tensor:
        if self._clock is None or self._clock[0] != float(u):
            # Solvers evaluate their last stage at the end of an interval; below lo no process offers a score.
            self._clock = float(u), (self.origin - u.double()).clamp_min(self.sde.t_span[0])
        return self._clock[1]


class KeyedBrownian:
    """Increments of a Brownian motion from a `Noise`, for solvers that ask once for each interval.

    The area between two different motions drops out of every method for diagonal noise; it is given as 0.
    """

    levy_area_approximation = "foster"

    def __init__(self, noise: Noise, like: Tensor) -> None:
        self._noise, self._like = noise, like
        self.shape, self.dtype, self.device = tuple(like.shape), like.dtype, like.device

    def __call__(self, ta: Tensor, tb: Tensor, return_U: bool = False, return_A: bool = False):  # noqa: ANN204, N803
        h = (tb - ta).to(self._like)
        w = self._noise.normal(self._like) * h.sqrt()
        answer = [w]
        if return_U:
            answer.append(h * (w / 2 + self._noise.normal(self._like) * (h / 12).sqrt()))
        if return_A:
            answer.append(torch.zeros(*self.shape, self.shape[-1], dtype=self.dtype, device=self.device))
        return answer[0] if len(answer) == 1 else tuple(answer)


class PathBrownian:
    """One Brownian path on `[0, span]`, known over `n` equal intervals; it answers for every union of neighbouring ones.

    Over the intervals `i` from `a` to `b`, each of length `h`, `W = Σ W_i` and `U = Σ h (½ W_i + H_i + W_{t_i} − W_a)`.

    Args:
        span: where the path ends. increments: `W_i`, `(n, B, entries)`. areas: `H_i`; None: the path is straight in between.
    """

    levy_area_approximation = "space-time"

    def __init__(self, span: float, increments: Tensor, areas: Tensor | None = None) -> None:
        self.shape, self.dtype, self.device = tuple(increments.shape[1:]), increments.dtype, increments.device
        self._h = span / len(increments)
        start = torch.zeros_like(increments[:1])
        self._w = torch.cat([start, increments.cumsum(0)])
        within = increments / 2 if areas is None else increments / 2 + areas
        self._integral = torch.cat([start, self._h * (self._w[:-1] + within).cumsum(0)])

    def __call__(self, ta: Tensor | float, tb: Tensor | float, return_U: bool = False):  # noqa: ANN204, N803
        a, b = round(float(ta) / self._h), round(float(tb) / self._h)
        w = self._w[b] - self._w[a]
        return (w, self._integral[b] - self._integral[a] - (b - a) * self._h * self._w[a]) if return_U else w


def brownian_interval(shape: tuple[int, int], span: float, seed: int) -> Brownian:
    """torchsde's own Brownian motion on `[0, span]`, float64 of `shape` `(B, entries)`, which keeps every interval it was asked for."""
    return torchsde.BrownianInterval(
        0.0, span, size=shape, dtype=torch.float64, entropy=seed, levy_area_approximation="space-time", cache_size=None
    )


def intervals(brownian: Brownian, span: float, count: int) -> tuple[Tensor, Tensor]:
    """`W` and `H` over each of `count` equal intervals of `[0, span]`, `(count, B, entries)`."""
    h = span / count
    asked = [brownian(k * h, (k + 1) * h, return_U=True) for k in range(count)]
    w, u = (torch.stack(part) for part in zip(*asked, strict=True))
    return w, u / h - w / 2


def integrate(equation: ReverseEquation, z: Tensor, span: float, method: Method, noise: Noise) -> Tensor:
    """One step of torchsde's `method` over `u` in `[0, span]`, from the state `z`."""
    return solve(equation, z, span, method, KeyedBrownian(noise, z.flatten(1)))


def solve(equation: nn.Module, z: Tensor, span: float, method: Method, brownian: Brownian | None, steps: int = 1) -> Tensor:
    """`steps` equal steps of torchsde's `method` over `u` in `[0, span]` from `z`, driven by `brownian`; None: torchsde's own."""
    y = z.flatten(1)
    ends = torch.tensor([0.0, span], dtype=y.dtype, device=y.device)
    path = torchsde.sdeint(equation, y, ends, bm=brownian, method=method, dt=span / steps)  # pyright: ignore[reportArgumentType]
    assert isinstance(path, Tensor)
    return path[-1].reshape(z.shape)
