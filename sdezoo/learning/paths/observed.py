"""SDEs learned from observed paths: their coefficients are networks.

In coordinates `z` of the data, `z = x` or `z = log x` for positive data, the SDE is::

    dz = f(z, t) dt + G(z, t) dW,      f = m + s ρ N_f(u, t),      G = R L(N_G(u, t)),      u = (z − c) / s

`c` and `s` are mean and standard deviation of the columns, and `m` is their mean rate of change. `R` is the Cholesky factor of the average
rate of quadratic variation, `R Rᵀ = Σ Δz Δzᵀ / Σ Δt`, and `L` is lower triangular with a positive diagonal, so that `G Gᵀ` may be any
positive matrix. `ρ = d⁻¹ Σ_i (R Rᵀ)_ii / 2 s_i²` is the rate at which an Ornstein–Uhlenbeck process of that noise and that deviation
returns. All networks start at 0: `f = m`, and `G = R`.

Over a time `h`, the transition is approximated by a normal distribution, of which two are known here::

    euler:          z + f h,   G Gᵀ h                                                               (Maruyama 1955)
    local-linear:   z + ∫ e^{Ju} f du,   ∫ e^{Ju} G Gᵀ e^{Jᵀu} du,   J = ∂f/∂z,   u from 0 to h     (Ozaki, Statistica Sinica 2 (1992))

The second is exact if the drift is linear and the noise additive. Here the integrals are Taylor series over `h/4`, doubled twice: relative
errors of `(‖J‖ h/4)⁵/120`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.learning.paths.simulated import Constant, Layers, SimulatedModel, SteppingProcess, heun, positive
from sdezoo.process.differentiation import along
from sdezoo.process.noise import Noise
from sdezoo.process.process import Shape
from sdezoo.process.sde import MatrixSDE

Scheme = Literal["euler", "local-linear", "heun"]
"""How a step is taken: the two normal transitions, or Heun's method for an SDE in the sense of Stratonovich."""

_DOUBLINGS, _TERMS, _STEPS = 2, 5, 40
_BUFFERS = ("center", "spread", "trend", "root", "horizon")


class PathCoefficients(nn.Module):
    """Drift and diffusion of an SDE, as networks with the units of the data.

    Args:
        columns: number of columns `d`.
        width: width of the hidden layers.
        depth: number of hidden layers.
        linear: whether the drift is a linear function in place of a network.
        constant: whether the diffusion is a constant matrix in place of a network.
        autonomous: whether drift and diffusion do not depend on time.
        positive: whether the coordinates are `log x`.
        scheme: how a step is taken; `heun`: drift and diffusion are those of the Stratonovich form.
    """

    center: Tensor
    spread: Tensor
    trend: Tensor
    root: Tensor
    horizon: Tensor

    def __init__(
        self, columns: int, *, width: int, depth: int, linear: bool, constant: bool, autonomous: bool, positive: bool, scheme: Scheme
    ) -> None:
        super().__init__()
        self.columns, self.autonomous, self.positive, self.scheme = columns, autonomous, positive, scheme
        inputs, entries = columns + (not autonomous), columns * (columns + 1) // 2
        self.drift = Layers(inputs, 0 if linear else width, depth, columns)
        self.diffusion = Constant(entries) if constant else Layers(inputs, width, depth, entries)
        unit, one = torch.eye(columns, dtype=torch.float64), torch.ones((), dtype=torch.float64)
        for name, value in zip(_BUFFERS, (0 * unit[0], 1 + 0 * unit[0], 0 * unit[0], unit, one), strict=True):
            self.register_buffer(name, value.clone())

    def fit_units(self, z: Tensor, times: Tensor) -> None:
        """Set the units from paths.

        Args:
            z: coordinates of the paths, `(N, T, d)`, float64.
            times: their times from 0 on, `(T,)` or `(N, T)`, float64.
        """
        steps = z.diff(dim=1).flatten(0, 1)
        elapsed = times.diff(dim=-1).expand(z.shape[0], -1).sum()
        everything = z.flatten(0, 1)
        root = torch.linalg.cholesky(steps.T @ steps / elapsed)
        found = (everything.mean(0), everything.std(0), steps.sum(0) / elapsed, root, times.max())
        for name, value in zip(_BUFFERS, found, strict=True):
            getattr(self, name).copy_(value)

    def forward(self, z: Tensor, t: Tensor, h: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Drift and diffusion; or, given a time `h`, the normal transition over it.

        Args:
            z: coordinates, `(…, d)`.
            t: time, 0-dim or `(…, 1)`.
            h: a positive time, 0-dim or `(…, 1)`; None: none.

        Returns:
            `f`, `(…, d)`, and `G`, `(…, d, d)`, lower triangular; or the mean of the change of `z` over `h`, and the Cholesky factor of
            its covariance, shaped alike.
        """
        return self.rates(z, t) if h is None else self._transition(z, t, h.to(z))

    def rates(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Drift `(…, d)` and diffusion `(…, d, d)`; arguments as for `forward`."""
        return self.drift_at(z, t), self.diffusion_at(z, t)

    def drift_at(self, z: Tensor, t: Tensor) -> Tensor:
        """Drift `(…, d)`; arguments as for `forward`."""
        rate = (self.root.square().sum(1) / self.spread.square()).mean() / 2
        return self.trend.to(z) + (self.spread * rate).to(z) * self.drift(self._inputs(z, t)).to(z)

    def diffusion_at(self, z: Tensor, t: Tensor) -> Tensor:
        """Diffusion `(…, d, d)`; arguments as for `forward`."""
        out = self.diffusion(self._inputs(z, t))
        size = self.columns
        lower = out.new_zeros(*out.shape[:-1], size, size)
        rows, columns = torch.tril_indices(size, size, -1, device=out.device)
        diagonal = positive(out[..., :size])
        lower[..., rows, columns] = out[..., size:]
        lower = lower + torch.diag_embed(diagonal)
        return (self.root.to(z) @ lower.to(z)).expand(*z.shape[:-1], size, size)

    def _inputs(self, z: Tensor, t: Tensor) -> Tensor:
        u = (z - self.center.to(z)) / self.spread.to(z)
        if not self.autonomous:
            u = torch.cat([u, (t.to(z) / self.horizon.to(z)).expand(*z.shape[:-1], 1)], -1)
        return u.to(next(self.parameters()).dtype)

    def _transition(self, z: Tensor, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        g = self.diffusion_at(z, t)
        if self.scheme == "euler":
            return self.drift_at(z, t) * h, g * h.sqrt().unsqueeze(-1)
        units = torch.eye(self.columns, dtype=z.dtype, device=z.device)
        found = [along(lambda q: self.drift_at(q, t), z, unit.expand_as(z).contiguous()) for unit in units]
        product = torch.mul if self.columns == 1 else torch.matmul  # a product of many small matrices costs much more
        j, h = torch.stack([slope for _, slope in found], -1), (h / 2**_DOUBLINGS).unsqueeze(-1)
        flow, term = units.expand_as(j), units.expand_as(j)
        shift = step = h * found[0][0].unsqueeze(-1)
        covariance = part = h * product(g, g.mT)
        for k in range(1, _TERMS):
            turned = product(j, part)
            term, step, part = h / k * product(j, term), h / (k + 1) * product(j, step), h / (k + 1) * (turned + turned.mT)
            flow, shift, covariance = flow + term, shift + step, covariance + part
        for k in range(_DOUBLINGS):
            shift, covariance = shift + product(flow, shift), covariance + product(product(flow, covariance), flow.mT)
            flow = product(flow, flow) if k + 1 < _DOUBLINGS else flow
        return shift.squeeze(-1), torch.where(h > 0, _factor(covariance), 0.0)


class LearnedSDE(MatrixSDE, SteppingProcess):
    """An SDE with learned coefficients. Abstract: `learned`. Time is that of the observations, from the first one on, in its unit."""

    in_words = "an SDE that was fitted to observed paths"

    @property
    @abstractmethod
    def learned(self) -> PathCoefficients:
        """The coefficients, float64."""

    @property
    def support(self) -> Constraint:
        return constraints.positive if self.learned.positive else constraints.real

    @property
    def row_shape(self) -> Shape:
        return (self.learned.columns,)

    @property
    def forgets_data(self) -> bool:
        return False

    @property
    def homogeneous(self) -> bool:
        return self.learned.autonomous

    @property
    def forward_scheme(self) -> str:
        return {
            "euler": "Euler–Maruyama, weak order 1, strong order ½",
            "local-linear": "local linearization, exact for a linear drift with additive noise",
            "heun": "Heun's method in the sense of Stratonovich, strong order ½",
        }[self.learned.scheme]

    def encode(self, x: Tensor, noise: Noise | None = None) -> Tensor:
        """The coordinates of data: `log x` if they are positive, else `x`. `noise` is unused."""
        return x.log() if self.learned.positive else x

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(self.decode_unchecked(z))

    def decode_unchecked(self, z: Tensor) -> Tensor:
        return z.exp() if self.learned.positive else z

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        f = self._placed(z).drift_at(z, t)
        return f + self.stratonovich_correction(z, t) if self.learned.scheme == "heun" else f

    def diffuse(self, z: Tensor, t: Tensor, dw: Tensor) -> Tensor:
        return (self._placed(z).diffusion_at(z, t) @ dw.to(z).unsqueeze(-1)).squeeze(-1)

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        return tuple(shape)

    def columns(self, z: Tensor, t: Tensor) -> Tensor:
        return self._placed(z).diffusion_at(z, t).movedim(-1, 0)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Sample `z_t | x_0` by 40 Euler–Maruyama steps, exact only as the step goes to 0."""
        z, dt = self.encode(x0), t / _STEPS
        for k in range(_STEPS):
            z = self.forward_step(z, k * dt, dt, noise)
        return z

    @property
    def knows_transition(self) -> bool:
        return False

    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """One step of the scheme with which the coefficients were fitted; `forward_step` is one of Euler–Maruyama.

        Args:
            z: coordinates at `s`, `(B, d)`.
            s: the earlier time, 0-dim or `(B, 1)`.
            t: the later time, shaped alike.
            noise: random numbers.
        """
        e, dt = noise.normal(z), t - s
        if self.learned.scheme != "heun":
            shift, factor = (part.to(z) for part in self._placed(z)(z, s, dt))
            return z + shift + (factor @ e.unsqueeze(-1)).squeeze(-1)
        dw = (e * dt.sqrt().to(z)).unsqueeze(-1)
        return heun(self._placed(z).rates, lambda g: (g @ dw).squeeze(-1), z, s, t, dt).to(z)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """A normal distribution with mean and deviations of all observations."""
        return self.learned.center.to(like) + self.learned.spread.to(like) * noise.normal(like, shape)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        mean, deviation = self.learned.center.cpu(), self.learned.spread.cpu()
        return torch.distributions.Normal(mean, deviation).log_prob(z.cpu().double()).sum(-1)

    def _placed(self, z: Tensor) -> PathCoefficients:
        net = self.learned
        # Inside a derivative, `Module.to` puts wrapped tensors into the weights even if they stay where they are.
        return net if net.center.device == z.device else net.to(z.device)


@dataclass(frozen=True, eq=False)
class _Inside(LearnedSDE):
    """The SDE of a model that is in memory."""

    name: ClassVar[str] = "learned"

    coefficients: nn.Module

    @property
    def learned(self) -> PathCoefficients:
        assert isinstance(self.coefficients, PathCoefficients)
        return self.coefficients


class PathModel(SimulatedModel[LearnedSDE]):
    """An SDE that was learned from paths; samples are paths, simulated from first observations of the data.

    Args:
        net: drift and diffusion.
        times: times of observation of a sample, `(T,)`, float64.
        starts: first observations, in the user's units, `(n, d)`.
        substeps: steps between two observations.
        critic: what is trained beside the SDE; None: nothing.
    """

    markov: ClassVar[bool] = True

    net: PathCoefficients
    starts: Tensor

    def __init__(self, net: PathCoefficients, times: Tensor, starts: Tensor, substeps: int = 1, critic: nn.Module | None = None) -> None:
        nn.Module.__init__(self)
        self.net, self.substeps, self.critic = net, substeps, critic
        self.register_buffer("times", times.double())
        self.register_buffer("starts", starts)

    @property
    def sde(self) -> LearnedSDE:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The learned SDE, as an object that shares the networks."""
        return _Inside(self.net)

    def coordinates(self, x: Tensor) -> Tensor:
        return self.sde.encode(x)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Coordinates of first observations of the data, drawn with replacement: `(B, d)` for paths of `shape` `(B, T, d)`."""
        chosen = (noise.uniform(like, (shape[0], 1)).double() * len(self.starts)).long().clamp_max(len(self.starts) - 1)
        return self.sde.encode(self.starts[chosen.flatten().to(self.starts.device)].to(like), noise)


def _factor(covariance: Tensor) -> Tensor:
    """The Cholesky factor; NaN where there is none."""
    if covariance.shape[-1] == 1:
        return covariance.sqrt()
    factor, failed = torch.linalg.cholesky_ex(covariance)
    return torch.where((failed > 0)[..., None, None], torch.nan, factor)
