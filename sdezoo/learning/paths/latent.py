"""SDEs of a hidden state, learned from paths that show it in part and with errors.

In standardized coordinates of the data, `u = (z − c) / s` with `z = x` or `z = log x`, the model is::

    v_0 ~ N(m, L Lᵀ),      dv = ρ (N_f(v, t) − v) dt + √(2ρ) σ(v, t) ∘ dW,      u_k = C v(t_k) + b + r ∘ e_k

in the sense of Stratonovich, with diagonal `σ`, and independent normal errors `e_k`. `ρ` is the rate at which an Ornstein–Uhlenbeck process
with the quadratic variation and the deviation of the data returns, as for `sdezoo.learning.paths.observed`. At first `N_f` is
small and `σ = 1`, so that `v` is nearly that process with variance 1.

Given a path, the hidden state is guessed by an SDE of the same noise, whose first state and drift see the path by a recurrent network that
reads it backward in time (Li, Wong, Chen & Duvenaud, arXiv 2001.01328, sections 5 and 9.9)::

    v_0 ~ N(m', L' L'ᵀ),      dv = (ρ (N_f − v) + √2 ρ σ w) dt + √(2ρ) σ ∘ dW,      w = N_w(v, what the network has read)

and by Girsanov's theorem, with `KL_0` the divergence of the normal distribution of `v_0`::

    log p(u_0, …, u_T) ≥ E[Σ_k log N(u_k; C v(t_k) + b, r²) − ½ ρ ∫ |w|² dt] − KL_0

which is equal where the guess is the distribution of the hidden state given the path. At first `w = 0`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, constraints, kl_divergence
from torch.distributions.constraints import Constraint

from sdezoo.errors import CompositionError
from sdezoo.learning.paths.simulated import Constant, Layers, SimulatedModel, SteppingProcess, heun, positive
from sdezoo.process.noise import Noise
from sdezoo.process.torchsde_bridge import Brownian, PathEquation, solve_path

_FIRST_ERROR = math.log(math.exp(0.5) - 1)  # softplus is ½ there: errors of half a standard deviation, at first
_BUFFERS = ("center", "spread", "rate", "horizon")


class HiddenSDE(nn.Module):
    """Drift and diffusion of the hidden state in the sense of Stratonovich, in units of `ρ`; and its first distribution.

    Args:
        size: number of hidden variables `m`.
        width: width of the hidden layers.
        depth: number of hidden layers.
        linear: whether `N_f` is a linear function in place of a network.
        constant: whether `σ` is constant in place of a network.
        autonomous: whether both do not depend on time.
    """

    def __init__(self, size: int, *, width: int, depth: int, linear: bool, constant: bool, autonomous: bool) -> None:
        super().__init__()
        self.size, self.autonomous = size, autonomous
        inputs = size + (not autonomous)
        # With a gain of 0, hidden variables would act on each other only in second order at first.
        self.drift = Layers(inputs, 0 if linear else width, depth, size, gain=1.0)
        self.diffusion = Constant(size) if constant else Layers(inputs, width, depth, size)
        self.mean, self.factor = nn.Parameter(torch.zeros(size)), nn.Parameter(torch.zeros(size, size))

    @property
    def first(self) -> MultivariateNormal:
        """The distribution of `v_0`."""
        return MultivariateNormal(self.mean, scale_tril=_triangle(self.factor))

    def forward(self, v: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """`N_f − v`, and `σ`.

        Args:
            v: hidden states, `(…, m)`.
            share: time over that of the last observation, 0-dim or `(…, 1)`.

        Returns:
            Both `(…, m)`.
        """
        u = v if self.autonomous else torch.cat([v, share.to(v).expand(*v.shape[:-1], 1)], -1)
        u = u.to(self.mean.dtype)
        return self.drift(u).to(v) - v, positive(self.diffusion(u)).to(v)


class Reader(nn.Module):
    """What is known of the hidden state from a path: a recurrent network that reads it backward in time.

    Args:
        columns: number of columns `d` of the paths.
        size: number of hidden variables `m`.
        hidden: size of the state of the recurrent network.
    """

    def __init__(self, columns: int, size: int, hidden: int) -> None:
        super().__init__()
        self.size, self.outputs = size, hidden + columns
        self.cell = nn.GRU(columns + 1, hidden, batch_first=True)
        self.start = Layers(self.outputs, 0, 0, size + size * size)

    def forward(self, u: Tensor, gaps: Tensor) -> Tensor:
        """What is known at each observation of it and of all later ones, `(B, T, hidden + d)`.

        Args:
            u: paths of order 1, `(B, T, d)`.
            gaps: time from each observation to the next over the usual one, 0 for the last, `(T,)`.
        """
        dtype = next(self.parameters()).dtype
        seen = torch.cat([u, gaps.to(u)[:, None].expand(*u.shape[:2], 1)], -1).to(dtype)
        return torch.cat([self.cell(seen.flip(1))[0].flip(1), u.to(dtype)], -1)

    def first(self, known: Tensor) -> MultivariateNormal:
        """The distribution of `v_0` given the path; `known` is that at the first observation, `(B, hidden + d)`."""
        out = self.start(known)
        mean, factor = out[..., : self.size], out[..., self.size :]
        return MultivariateNormal(mean, scale_tril=_triangle(factor.reshape(*out.shape[:-1], self.size, self.size)))


class Push(nn.Module):
    """What is added to the drift of the hidden state, to meet the observations: `w`.

    Args:
        size: number of hidden variables `m`.
        known: number of outputs of the reader.
        width: width of the hidden layers.
        depth: number of hidden layers.
    """

    def __init__(self, size: int, known: int, *, width: int, depth: int) -> None:
        super().__init__()
        self.curved, self.straight = Layers(size + known + 1, width, depth, size), Layers(size + known + 1, 0, 0, size)

    def forward(self, v: Tensor, known: Tensor, left: Tensor) -> Tensor:
        """`w`, `(B, m)`.

        Args:
            v: hidden states, `(B, m)`.
            known: what is known at the next observation, `(B, hidden + d)`.
            left: the time until then over that between both observations, 0-dim.
        """
        seen = torch.cat([v.to(known), known, left.to(known).expand(len(v), 1)], -1)
        return (self.curved(seen) + self.straight(seen)).to(v)


class LatentModel(SimulatedModel["HiddenProcess"]):
    """A model of paths by an SDE of a hidden state. Samples start at draws of its first distribution.

    Args:
        columns: number of columns `d` of the paths.
        sde: drift and diffusion.
        reader: what reads a path, for training alone.
        push: what pushes hidden states to the observations, for training alone.
        times: times of observation of a sample, `(T,)`, float64.
        positive: whether the coordinates are `log x`.
        substeps: steps between two observations.
    """

    markov: ClassVar[bool] = False

    net: HiddenSDE
    center: Tensor
    spread: Tensor
    rate: Tensor
    horizon: Tensor

    def __init__(
        self, columns: int, sde: HiddenSDE, reader: Reader, push: Push, times: Tensor, *, positive: bool, substeps: int = 1
    ) -> None:
        nn.Module.__init__(self)
        self.columns, self.positive, self.substeps = columns, positive, substeps
        self.net, self.reader, self.push = sde, reader, push
        self.readout = nn.Linear(sde.size, columns)
        nn.init.eye_(self.readout.weight)
        nn.init.zeros_(self.readout.bias)
        self.errors = nn.Parameter(torch.full((columns,), _FIRST_ERROR))
        self.register_buffer("times", times.double())
        zeros, one = torch.zeros(columns, dtype=torch.float64), torch.ones((), dtype=torch.float64)
        for name, value in zip(_BUFFERS, (zeros, zeros + 1, one, one), strict=True):
            self.register_buffer(name, value.clone())

    @property
    def sde(self) -> HiddenProcess:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The learned SDE with errors of observation, as an object that shares the networks."""
        return HiddenProcess(self)

    def fit_units(self, z: Tensor, times: Tensor) -> None:
        """Set the units from paths.

        Args:
            z: coordinates of the paths, `(N, T, d)`, float64.
            times: their times from 0 on, `(T,)`, float64.
        """
        spread = z.flatten(0, 1).std(0)
        variation = z.diff(dim=1).square().sum((0, 1)) / (times[-1] * len(z))
        found = (z.flatten(0, 1).mean(0), spread, (variation / spread.square()).mean() / 2, times[-1])
        for name, value in zip(_BUFFERS, found, strict=True):
            getattr(self, name).copy_(value)

    def coordinates(self, x: Tensor) -> Tensor:
        return x.log() if self.positive else x

    def states_at(self, x: Tensor, noise: Noise) -> Tensor:
        return self.prior(x.shape, noise, x)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Hidden states at the first observation, and its errors: `(B, m + d)`."""
        e = noise.normal(like, (shape[0], self.net.size + self.columns))
        first, m = self.net.first, self.net.size
        return torch.cat([first.mean.to(e) + e[:, :m] @ first.scale_tril.to(e).mT, e[:, m:]], -1)

    def observed(self, v: Tensor) -> Normal:
        """The distribution of standardized observations given hidden states `(…, m)`."""
        return Normal(self.readout(v.to(self.errors.dtype)), nn.functional.softplus(self.errors))

    def evidence(self, z: Tensor, counts: Tensor, e: Tensor, brownian: Brownian, *, adjoint: bool = True) -> Tensor:
        """A lower bound of `log p` of standardized paths, by one draw of hidden states for each; `(B,)`, with gradients.

        Args:
            z: coordinates of the paths, `(B, T, d)`, float64.
            counts: numbers of solver steps up to each observation, `(T,)`, see `steps_between`.
            e: standard normal numbers for `v_0`, `(B, m)`.
            brownian: Brownian motion in units of steps, `(B, m)`.
            adjoint: see `solve_path`.
        """
        u = (z - self.center) / self.spread
        gaps = torch.nn.functional.pad(counts.diff() / counts.diff().double().mean(), (0, 1))
        known = self.reader(u, gaps)
        first = self.reader.first(known[:, 0])
        v = (first.mean + (first.scale_tril @ e.to(first.mean).unsqueeze(-1)).squeeze(-1)).to(z)
        rates = _Guessed(self, known, counts)
        start = torch.cat([v, torch.zeros_like(v[:, :1])], -1)
        step = float(self.horizon) / int(counts[-1])
        path = solve_path(PathEquation(rates, step), start, counts, brownian, adjoint=adjoint, through=[known]).transpose(0, 1)
        fits = self.observed(path[..., :-1]).log_prob(u.to(self.errors.dtype)).sum((1, 2))
        return fits - path[:, -1, -1] - kl_divergence(first, self.net.first)


class _Guessed(nn.Module):
    """Drift and diffusion of the guessed hidden state, and of the integral of `½ ρ |w|²`, for `PathEquation`."""

    def __init__(self, model: LatentModel, known: Tensor, counts: Tensor) -> None:
        super().__init__()
        self.sde, self.push = model.net, model.push
        self.rate, self.horizon = float(model.rate), float(model.horizon)
        self.known, self.counts = known, counts.tolist()

    def forward(self, y: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        v, share = y[:, :-1], t / self.horizon
        at = round(float(share) * self.counts[-1])
        after = min(bisect_right(self.counts, at), len(self.counts) - 1)
        span = self.counts[after] - self.counts[after - 1]
        drift, sigma = self.sde(v, share)
        w = self.push(v, self.known[:, after], torch.tensor((self.counts[after] - at) / span))
        cost = self.rate / 2 * w.square().sum(1, keepdim=True)
        rates = torch.cat([self.rate * (drift + math.sqrt(2) * sigma * w), cost], -1)
        noise = torch.diag_embed(math.sqrt(2 * self.rate) * sigma)
        return rates, nn.functional.pad(noise, (0, 0, 0, 1))


@dataclass(frozen=True, eq=False)
class HiddenProcess(SteppingProcess):
    """A hidden state and the errors of its observation, forward in time: a state is `(v, e)`, `(B, m + d)`, and `e` is drawn anew."""

    name: ClassVar[str] = "hidden"
    in_words: ClassVar[str] = "an SDE of a hidden state"

    model: LatentModel

    @property
    def support(self) -> Constraint:
        return constraints.positive if self.model.positive else constraints.real

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        """Not defined.

        Raises:
            CompositionError: always.
        """
        raise CompositionError("An observation does not tell the hidden state of this model.", "Draw new paths.")

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Not defined; errors as for `encode`."""
        return self.encode(x0, noise)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.model.prior(shape, noise, like)

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.decode_unchecked(z))

    def decode_unchecked(self, z: Tensor) -> Tensor:
        model, m = self.model, self.model.net.size
        seen = model.observed(z[..., :m])
        coordinates = model.center.to(z) + model.spread.to(z) * (seen.mean + seen.stddev * z[..., m:].to(seen.mean)).to(z)
        return coordinates.exp() if model.positive else coordinates

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """One step of Heun's method, and new errors."""
        model, m = self.model, self.model.net.size
        v, e, dt = z[..., :m], noise.normal(z), t - s
        dw = e[..., :m] * (2 * model.rate * dt).sqrt().to(z)
        end = heun(model.net, lambda g: g * dw, v, s / model.horizon, t / model.horizon, (model.rate * dt).to(z))
        return torch.cat([end, e[..., m:]], -1)


def _triangle(entries: Tensor) -> Tensor:
    """A lower triangular matrix with a positive diagonal, the unit for entries of 0."""
    return entries.tril(-1) + torch.diag_embed(positive(entries.diagonal(dim1=-2, dim2=-1)))
