"""The bridge to torchsde: a reversed process as an SDE for its solvers.

With `u = t_0 − t` running forward, the reverse SDE of `sdezoo.process.sde` is
`dz = −f̃(z, t_0 − u) du + g(z, t_0 − u) dW`, with diagonal noise, or general noise for a `MatrixSDE`. In the sense of Stratonovich the
drift is `f − ½ Σ_k (∂G_k/∂z) G_k`, for diagonal noise `f − ½ g ∂g = f − ¼ ∇·(g gᵀ)`.

A solver requests from a Brownian motion its increment `W` over an interval of length `h` and, for order 1.5, for
`U = ∫ (W_u − W_a) du = h (½ W + H)`, where the space-time Lévy area `H ~ N(0, h/12)` is independent of `W` (Foster, Lyons &
Oberhauser, SIAM J. Numer. Anal. 58 (2020)). Three Brownian motions are available: `KeyedBrownian` draws fresh numbers at
every request, `PathBrownian` replays a stored path, and `brownian_interval` is torchsde's own.

`solve_path` integrates forward with gradients, by the reversible Heun method and its adjoint (Kidger et al., arXiv 2105.13493):
the backward pass reconstructs every state from the last one, up to rounding. Memory does not grow with the number of steps, and gradients
are those of the discretized equation. Time is counted in steps, which floating-point numbers hold exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torchsde
from torch import Tensor, nn

from sdezoo.errors import ParameterError
from sdezoo.process.noise import KeyedNoise, Noise, mix
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE, MatrixSDE

Method = Literal["euler", "milstein", "srk", "euler_heun", "heun", "midpoint", "log_ode", "reversible_heun"]
Score = Callable[[Tensor, Tensor], Tensor]
Brownian = Callable[..., Any]
"""Called as `(ta, tb, return_U, return_A)`; returns `W`, or a tuple of `W` with the requested `U` and `A`."""

ITO: tuple[Method, ...] = ("euler", "milstein", "srk")
"""The methods for Itô SDEs; the others are for Stratonovich SDEs."""


GENERAL: tuple[Method, ...] = ("euler", "euler_heun", "heun", "midpoint", "reversible_heun")
"""The methods for noise that is a matrix, or whose entries depend on others. torchsde's others need diagonal noise, each entry of which
depends on its own entry of the state alone, or Lévy areas, which `KeyedBrownian` does not draw."""

_WHOLE = 1e-6  # relative difference from a whole number of steps


def bridge_refuses(sde: Process, method: Method = "euler") -> str | None:
    """Why torchsde's `method` cannot integrate `sde`, as a phrase; None: it can. The noise must be diagonal, or that of a `MatrixSDE`."""
    if isinstance(sde, ForwardSDE) and not sde.entrywise_noise and method not in GENERAL:
        kind = "is a matrix" if isinstance(sde, MatrixSDE) else "of one entry depends on others"
        return f"needs method={', '.join(GENERAL[:-1])} or {GENERAL[-1]} for an SDE whose noise {kind}"
    if isinstance(sde, MatrixSDE):
        return None
    state = sde.state_shape((1, 3))
    if isinstance(sde, ForwardSDE) and sde.noise_shape(state) != state:
        return "needs an SDE with one Brownian motion for every entry of its state"
    return None


class ReverseEquation(nn.Module):
    """The reverse SDE from `origin` on, for torchsde. States are flattened to `(B, entries)`, as torchsde requires.

    Args:
        sde: the forward process.
        score: score of the marginals, `(z, t) -> (B, *state)`.
        shape: shape of the state, `(B, *state)`.
        origin: the time `t_0` at which `u = 0`.
        stratonovich: whether the drift is in Stratonovich form.
        remembers: how many of the latest drifts and diffusions to cache; the eight stages of `srk` evaluate each of theirs
            several times.
        start: state at which a single step starts, shaped like the state: the boundary rule then brings its stages back. None: it does not.
    """

    def __init__(
        self,
        sde: ForwardSDE,
        score: Score,
        shape: torch.Size,
        origin: float,
        *,
        stratonovich: bool = False,
        remembers: int = 1,
        start: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.sde, self.score, self.shape, self.origin, self.start = sde, score, shape, origin, start
        self.noise_type = "general" if isinstance(sde, MatrixSDE) else "diagonal"
        self.sde_type = "stratonovich" if stratonovich else "ito"
        self._known: dict[str, deque[tuple[float, Tensor, Tensor]]] = {name: deque(maxlen=remembers) for name in "fg"}
        self._clock: tuple[float, Tensor] | None = None

    def f(self, u: Tensor, y: Tensor) -> Tensor:
        """Drift at time `u` and flattened state `y`, `(B, entries)`."""
        return self._once("f", self._drift, u, y)

    def g(self, u: Tensor, y: Tensor) -> Tensor:
        """Diffusion at time `u` and flattened state `y`, `(B, entries)`; `(B, entries, m)` for a matrix."""
        return self._once("g", self._diffusion, u, y)

    def _once(self, name: str, fn: Callable[[Tensor, Tensor], Tensor], u: Tensor, y: Tensor) -> Tensor:
        # torchsde evaluates f and g at the start of every integration, and its solver evaluates them again.
        for at, where, value in self._known[name]:
            if where is y and at == float(u):
                return value
        value = fn(u, y)
        self._known[name].append((float(u), y, value))
        return value

    def _drift(self, u: Tensor, y: Tensor) -> Tensor:
        z, t = self._stage(y), self._time(u)
        drift = -self.sde.reverse_drift(z, t, self.score(z, t))
        if self.sde_type == "stratonovich":
            drift = drift - self.sde.stratonovich_correction(z, t)
        return drift.flatten(1)

    def _diffusion(self, u: Tensor, y: Tensor) -> Tensor:
        z = self._stage(y)
        if isinstance(self.sde, MatrixSDE):
            return self.sde.columns(z, self._time(u)).flatten(2).movedim(0, -1)
        return self.sde.diffusion(z, self._time(u)).to(z).expand_as(z).flatten(1)

    def _stage(self, y: Tensor) -> Tensor:
        z = y.reshape(self.shape)
        return z if self.start is None else self.sde.project(z, self.start)

    def _time(self, u: Tensor) -> Tensor:
        if self._clock is None or self._clock[0] != float(u):
            # Solvers evaluate their last stage at the end of an interval; no process has a score below lo.
            self._clock = float(u), (self.origin - u.double()).clamp_min(self.sde.t_span[0])
        return self._clock[1]


class KeyedBrownian:
    """Increments of a Brownian motion from a `Noise`, for solvers that request each interval once.

    The Lévy area between different components drops out of every method for diagonal noise; it is returned as 0.

    Args:
        noise: random numbers.
        like: a tensor of the shape, dtype and device of the increments, `(B, m)`; `(B, entries)` for diagonal noise.
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


class KeyedIntervals:
    """Increments of Brownian motions over intervals of length 1, the same at every request: keyed by seed, interval and row.

    Nothing is stored: the increment of interval `k` is drawn again by the backward pass.

    Args:
        seed: the seed.
        rows: index of each sample in the whole run, `B` of them.
        like: a tensor of the shape, dtype and device of the increments, `(B, m)`.
    """

    levy_area_approximation = "none"

    def __init__(self, seed: int, rows: Sequence[int], like: Tensor) -> None:
        self._seed, self._rows, self._like = seed, list(rows), like
        self.shape, self.dtype, self.device = tuple(like.shape), like.dtype, like.device

    def __call__(self, ta: Tensor | float, tb: Tensor | float, return_U: bool = False, return_A: bool = False) -> Tensor:  # noqa: N803
        return KeyedNoise(mix(self._seed, round(float(ta))), self._rows, ahead=1).normal(self._like)


class PathBrownian:
    """One Brownian path on `[0, span]`, stored over `n` equal intervals; a request may cover several adjacent intervals.

    Over the intervals `i` from `a` to `b`, each of length `h`, `W = Σ W_i` and `U = Σ h (½ W_i + H_i + W_{t_i} − W_a)`.

    Args:
        span: end of the path.
        increments: `W_i`, `(n, B, entries)`.
        areas: `H_i`, shaped like `increments`. None: the path is linear on each interval.
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


def brownian_interval(
    shape: tuple[int, int], span: float, seed: int, dtype: torch.dtype = torch.float64, cache: int | None = None
) -> Brownian:
    """torchsde's own Brownian motion on `[0, span]`, which caches intervals it was evaluated on.

    Args:
        shape: `(B, entries)`.
        span: end of the path.
        seed: seed of torchsde's generator.
        dtype: of the increments.
        cache: number of intervals to cache; None: all.
    """
    return torchsde.BrownianInterval(
        0.0, span, size=shape, dtype=dtype, entropy=seed, levy_area_approximation="space-time", cache_size=cache
    )


def intervals(brownian: Brownian, span: float, count: int) -> tuple[Tensor, Tensor]:
    """`W` and `H` of `brownian` over each of `count` equal intervals of `[0, span]`, each `(count, B, entries)`."""
    h = span / count
    asked = [brownian(k * h, (k + 1) * h, return_U=True) for k in range(count)]
    w, u = (torch.stack(part) for part in zip(*asked, strict=True))
    return w, u / h - w / 2


def integrate(equation: ReverseEquation, z: Tensor, span: float, method: Method, noise: Noise) -> Tensor:
    """Take one step of torchsde's `method`.

    Args:
        equation: the reverse SDE.
        z: state at `u = 0`, `(B, *state)`.
        span: step size in `u`.
        method: a method of torchsde.
        noise: random numbers.

    Returns:
        The state at `u = span`, shaped like `z`.
    """
    like = z.new_empty(equation.sde.noise_shape(z.shape)) if equation.noise_type == "general" else z
    return solve(equation, z, span, method, KeyedBrownian(noise, like.flatten(1)))


def solve(equation: nn.Module, z: Tensor, span: float, method: Method, brownian: Brownian | None, steps: int = 1) -> Tensor:
    """Take equal steps of torchsde's `method` over `u` in `[0, span]`.

    Args:
        equation: the SDE, with torchsde's `f` and `g`.
        z: state at `u = 0`, `(B, *state)`.
        span: end of the integration.
        method: a method of torchsde.
        brownian: the driving Brownian motion. None: torchsde's own.
        steps: number of steps.

    Returns:
        The state at `u = span`, shaped like `z`.
    """
    y = z.flatten(1)
    ends = torch.tensor([0.0, span], dtype=y.dtype, device=y.device)
    path = torchsde.sdeint(equation, y, ends, bm=brownian, method=method, dt=span / steps)  # pyright: ignore[reportArgumentType]
    assert isinstance(path, Tensor)
    return path[-1].reshape(z.shape)


class PathEquation(nn.Module):
    """An SDE in the sense of Stratonovich, for torchsde, with time counted in steps of length `h`: `dz = h f du + √h G ∘ dW`, `t = h u`.

    Args:
        rates: called as `(z, t)`, returns drift `(B, d)` and diffusion `(B, d, m)`.
        step: the length `h`.
    """

    noise_type, sde_type = "general", "stratonovich"

    def __init__(self, rates: nn.Module, step: float) -> None:
        super().__init__()
        self.rates, self.step = rates, step

    def f_and_g(self, u: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Drift and diffusion at step `u` and state `y`, `(B, d)` and `(B, d, m)`."""
        f, g = self.rates(y, u * self.step)
        return self.step * f, self.step**0.5 * g

    def f(self, u: Tensor, y: Tensor) -> Tensor:
        """Drift at step `u` and state `y`, `(B, d)`."""
        return self.f_and_g(u, y)[0]

    def g(self, u: Tensor, y: Tensor) -> Tensor:
        """Diffusion at step `u` and state `y`, `(B, d, m)`."""
        return self.f_and_g(u, y)[1]


def steps_between(times: Tensor, step: float) -> Tensor:
    """Number of steps up to each time, int64, `(T,)`, from 0.

    Args:
        times: increasing times, `(T,)`, float64.
        step: length of a step.

    Raises:
        ParameterError: if the steps do not meet every time; torchsde interpolates such times, with a warning only.
    """
    counts = times.diff() / step
    whole = counts.round()
    wrong = ((counts - whole).abs() > _WHOLE * counts.clamp_min(1)) | (whole < 1)
    if wrong.any():
        k = int(wrong.to(torch.uint8).argmax())
        raise ParameterError(
            f"Steps of {step:g} do not divide the time between observations {k} and {k + 1}, {float(times[k + 1] - times[k]):g}.",
            "Give a step of which every time between observations is a multiple, or --task paths, which takes any times.",
        )
    return torch.nn.functional.pad(whole.long().cumsum(0), (1, 0))


def solve_path(
    equation: PathEquation, z: Tensor, counts: Tensor, brownian: Brownian, *, adjoint: bool = True, through: Sequence[Tensor] = ()
) -> Tensor:
    """Integrate by the reversible Heun method, with gradients.

    Args:
        equation: the SDE.
        z: first state, `(B, d)`.
        counts: numbers of steps at which states are returned, from 0, `(T,)`, see `steps_between`.
        brownian: Brownian motion in units of steps, `(B, m)`.
        adjoint: whether gradients are those of the adjoint method, in memory that does not grow with the number of steps; else by
            back-propagation.
        through: tensors besides the weights of `equation` that its rates depend on, and that need gradients.

    Returns:
        States `(T, B, d)`.
    """
    ends = counts.to(z)
    options: dict[str, Any] = {"bm": brownian, "method": "reversible_heun", "dt": 1.0}
    if adjoint:
        options |= {"adjoint_method": "adjoint_reversible_heun", "adjoint_params": [*equation.parameters(), *through]}
        return torchsde.sdeint_adjoint(equation, z, ends, **options)  # pyright: ignore[reportReturnType]
    return torchsde.sdeint(equation, z, ends, **options)  # pyright: ignore[reportReturnType]
