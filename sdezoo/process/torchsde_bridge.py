"""The bridge to torchsde: a reversed process as an equation that its solvers integrate.

With `u = t_0 − t` running forward, the reverse SDE of `sdezoo.process.sde` is
`dz = −f̃(z, t_0 − u) du + g(z, t_0 − u) dW`, diagonal noise. In the sense of Stratonovich the drift is
`f − ½ g ∂g = f − ¼ ∇·(g gᵀ)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torchsde
from torch import Tensor, nn

from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE

Method = Literal["euler", "milstein", "srk", "euler_heun", "heun", "midpoint", "log_ode", "reversible_heun"]
Score = Callable[[Tensor, Tensor], Tensor]

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
    """

    noise_type = "diagonal"

    def __init__(self, sde: ForwardSDE, score: Score, shape: torch.Size, origin: float, *, stratonovich: bool = False) -> None:
        super().__init__()
        self.sde, self.score, self.shape, self.origin = sde, score, shape, origin
        self.sde_type = "stratonovich" if stratonovich else "ito"
        self._known: dict[str, tuple[float, Tensor, Tensor]] = {}
        self._clock: tuple[float, Tensor] | None = None

    def f(self, u: Tensor, y: Tensor) -> Tensor:
        """Drift at `u`."""
        return self._once("f", self._drift, u, y)

    def g(self, u: Tensor, y: Tensor) -> Tensor:
        """Diffusion at `u`."""
        return self._once("g", self._diffusion, u, y)

    def _once(self, name: str, fn: Callable[[Tensor, Tensor], Tensor], u: Tensor, y: Tensor) -> Tensor:
        # torchsde tries f and g at the start of every integration, and its solver asks for the same again.
        known = self._known.get(name)
        if known is None or known[0] != float(u) or known[1] is not y:
            known = self._known[name] = float(u), y, fn(u, y)
        return known[2]

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
            self._clock = float(u), (self.origin - u.double()).clamp_min(self.sde.times[0])
        return self._clock[1]


class KeyedBrownian:
    """Increments of a Brownian motion from a `Noise`, for solvers that ask once for each interval.

    For `h = b − a`: `W ~ N(0, h)`, and its space-time Lévy area enters as `U = h (½ W + H)`, `H ~ N(0, h/12)`. The
    area between two different motions drops out of every method for diagonal noise; it is given as 0.
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


def integrate(equation: ReverseEquation, z: Tensor, span: float, method: Method, noise: Noise) -> Tensor:
    """One step of torchsde's `method` over `u` in `[0, span]`, from the state `z`."""
    y = z.flatten(1)
    ends = torch.tensor([0.0, span], dtype=y.dtype, device=y.device)
    path = torchsde.sdeint(equation, y, ends, bm=KeyedBrownian(noise, y), method=method, dt=span)  # pyright: ignore[reportArgumentType]
    assert isinstance(path, Tensor)
    return path[-1].reshape(z.shape)
