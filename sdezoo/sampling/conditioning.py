"""Samples of a model given the exact values of some entries, by a twisted particle filter.

With `u = (z − m)/α` and `ρ = σ/α`, an affine process adds noise, `u_t = z_0 + ρ ε`. One step of the reverse process, from `t` to `s`, takes
`z_0` given `u_t` to be `N(D, C)` with `D = E[z_0 | u_t]`, and noises it to `s`::

    u_s = g u_t + a z_0 + √p ε,      g = ρ_s²/ρ_t²,   a = 1 − g,   p = ρ_s² (1 − g)

The entries `O` of `z_0` are given, `z_O = y`. Both steps and twisting functions `ψ_t(u) = N(y; D_O(u), C_OO + η I)` condition on that
(Wu et al., arXiv 2306.17775, *twisted diffusion sampler*). The normal step conditioned on `y` is drawn exactly, by Matheron's rule, and the
weight of a particle is the ratio of `ψ_s` to what step `t` predicted of `y` at `u_s`::

    w = ψ_s(u_s) / N(y; D̂_O, Ĉ_OO + η I),      D̂ = D + M (u_s − g u_t − a D),   Ĉ = C − a M C,   M = a C (a² C + p I)⁻¹

If the coordinates are normal and the score exact, `w` is constant, with any number of steps and any entries given. Otherwise the weights
correct the approximation. As the number of particles and of steps grows, samples follow `p(z_0 | z_O = y)` of the model. Values are given
to the precision `√η = 2 ρ_lo`, twice the noise below which the model is not evaluated: rows that the network has not seen lie off its data
by about as much.

`C = ρ² ∂D` (Tweedie) amplifies errors of the network where `ρ` is large; there the covariance `Σ` of samples is used::

    C = (1 − b) ρ² ∂D + b (Σ⁻¹ + ρ⁻² I)⁻¹,      b = ρ²/(ρ² + τ²)

`τ²` is a tenth of the average variance of an entry. `∂D` is averaged over a few particles of each row. Every row has its own particles,
drawn from its own key; they are resampled if their effective number falls below half (systematic resampling).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sdezoo.errors import CompositionError, RunError
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import KeyedNoise, mix
from sdezoo.process.requirement import as_affine
from sdezoo.sampling.grid import grid
from sdezoo.sampling.sampler import Callback

PARTICLES = 64
"""Default number of particles of a sample."""
WIDEST = 256
"""Largest number of entries of a state."""
_PROBES = 4
"""Particles over which `∂D` is averaged."""
_LOCAL = 0.1
"""`τ²` in units of the average variance of an entry."""
_PRECISION = 4.0
"""`η` in units of `ρ_lo²`."""
_FLOOR = 1e-6
"""Smallest eigenvalue of `C` in units of `ρ²`."""
_PRIOR = 0x5052494F52


class Drawn(NamedTuple):
    """Samples given some entries.

    Args:
        x: data, `(B, *event)`.
        found: whether a particle was accepted, bool `(B,)`; other rows of `x` are not to be used.
        effective: smallest effective number of particles in any step, float64 `(B,)`.
    """

    x: Tensor
    found: Tensor
    effective: Tensor


@dataclass(frozen=True, eq=False)
class ParticleFilter:
    """The twisted particle filter for one model, see `sdezoo.sampling.conditioning`.

    Args:
        sde: the process of the model.
        covariance: `Σ`, covariance of the clean coordinates, float64 `(d, d)`.
        particles: number of particles of a sample.

    Raises:
        CompositionError: if the process is not affine, or its state has more than `WIDEST` entries.
    """

    sde: AffineSDE
    covariance: Tensor
    particles: int = PARTICLES

    def __post_init__(self) -> None:
        as_affine(self.sde, "Sampling given values")
        if len(self.covariance) > WIDEST:
            raise CompositionError(
                f"Rows with {len(self.covariance)} coordinates are too wide for the particle filter, which takes {WIDEST}.",
                "Use sdezoo.sampling.guidance.Inpainting, which is approximate.",
            )

    @classmethod
    def measured(cls, sde: AffineSDE, x: Tensor, particles: int = PARTICLES) -> ParticleFilter:
        """Build the filter, with `Σ` measured.

        Args:
            sde: the process of the model.
            x: unconditional samples of the model, `(N, *event)`.
            particles: number of particles of a sample.
        """
        as_affine(sde, "Sampling given values")
        z = sde.encode(x).flatten(1).cpu().double()
        return cls(sde, torch.cov(z.T).reshape(z.shape[1], z.shape[1]), particles)

    def sample(
        self,
        model: Callable[[Sequence[int]], Model[AffineSDE]],
        known: Tensor,
        mask: Tensor,
        steps: int,
        seed: int,
        rows: Sequence[int],
        *,
        accept: Callable[[Tensor], Tensor] | None = None,
        like: Tensor | None = None,
        callback: Callback | None = None,
    ) -> Drawn:
        """Draw one sample for each row.

        Args:
            model: maps indices of samples to the model for a batch of them. Every index occurs several times, once for each particle.
            known: data, `(B, *event)`; any value in the support where nothing is known.
            mask: which entries of the clean state are given, bool `(B, *state)`, see `AffineSDE.known_entries`.
            steps: number of steps.
            seed: the seed; sample `i` depends on (seed, rows[i], known[i], mask[i]) alone.
            rows: index of each sample, `B` of them.
            accept: whether to accept data `(N, *event)`, bool `(N,)`: a sample is drawn among accepted particles. None: all.
            like: gives dtype and device of the network; None: float32 on the CPU.
            callback: called after every step with the number of steps done, a state of each row and its time.

        Raises:
            SupportError: if a state cannot be decoded.
        """
        like = torch.empty(()) if like is None else like
        with torch.no_grad():
            return self._sample(model, known, mask, grid(self.sde, steps, "auto"), seed, rows, accept, like, callback)

    def _sample(
        self,
        model: Callable[[Sequence[int]], Model[AffineSDE]],
        known: Tensor,
        mask: Tensor,
        times: Tensor,
        seed: int,
        rows: Sequence[int],
        accept: Callable[[Tensor], Tensor] | None,
        like: Tensor,
        callback: Callback | None,
    ) -> Drawn:
        count, event, state = self.particles, known.shape[1:], mask.shape[1:]
        noise = KeyedNoise(seed, rows)
        own = KeyedNoise(mix(seed, _PRIOR), [row * count + k for row in rows for k in range(count)])
        given = mask.flatten(1).cpu()
        y = torch.where(given, self.sde.encode(known.cpu().double()).flatten(1), 0.0)
        wide = torch.empty((), dtype=torch.float64)
        shape = (len(rows), count, given.shape[1])

        def normal() -> Tensor:
            return noise.normal(wide, (shape[0], count * shape[2])).reshape(shape)

        few = min(_PROBES, count)
        whole, part = (model([row for row in rows for _ in range(n)]) for n in (count, few))

        def denoise(one: Model[AffineSDE], u: Tensor, t: Tensor) -> Tensor:
            k = self.sde.at(t, like)
            return one.denoise(k.alpha * u.reshape(-1, *state).to(like) + k.shift, t)

        k = self.sde.exact(times[0])
        z = whole.prior((len(rows) * count, *event), own, like).cpu().double()
        u = ((z - k.shift) / k.alpha).reshape(shape)
        eta = _PRECISION * float(self.sde.exact(times[-2]).ratio) ** 2
        logs = torch.zeros(shape[:2], dtype=torch.float64)
        predicted = torch.zeros_like(logs)
        effective = torch.full(shape[:1], float(count), dtype=torch.float64)
        for done, (t, s) in enumerate(pairwise(times.unbind()), start=1):
            square = float(self.sde.exact(t).ratio) ** 2
            d = denoise(whole, u, t).cpu().double().reshape(shape)
            probes = _chosen(u, logs, few, noise)
            c, root = self._covariance(_jacobian(lambda v, t=t: denoise(part, v, t), probes), square)
            seen = _block(c, given, eta)
            logs = logs + _log_normal(_where(given, y[:, None] - d), seen) - predicted
            effective = torch.minimum(effective, _effective(logs))
            u, d, logs = _resampled(u, d, logs, noise)
            clean = d + normal() @ root.mT
            missed = _where(given, y[:, None] - clean - math.sqrt(eta) * normal())
            clean = clean + missed @ torch.linalg.solve(seen, torch.where(given[:, :, None], c, 0.0))
            if s > 0:
                small = float(self.sde.exact(s).ratio) ** 2
                g = small / square
                a, p = 1 - g, small * (1 - g)
                new = g * u + a * clean + math.sqrt(p) * normal()
                gain = a * torch.linalg.solve(a * a * c + p * torch.eye(shape[2], dtype=torch.float64), c)
                ahead = d + (new - g * u - a * d) @ gain
                predicted = _log_normal(_where(given, y[:, None] - ahead), _block(c - a * c @ gain, given, eta))
                u = new
            else:
                u = torch.where(given[:, None], y[:, None], clean)
            if callback:
                callback(done, u[:, 0].reshape(-1, *state).to(like), s)
        accepted = torch.ones(shape[:2], dtype=torch.bool)
        if accept is not None:
            accepted = accept(self.sde.decode(u.reshape(-1, *state).to(like))).cpu().reshape(shape[:2])
        logs = torch.where(accepted, logs, -torch.inf)
        found = accepted.any(1)
        picked = _chosen(u, torch.where(found[:, None], logs, 0.0), 1, noise)[:, 0]
        return Drawn(self.sde.decode(picked.reshape(-1, *state).to(like)), found, effective)

    def _covariance(self, jacobian: Tensor, square: float) -> tuple[Tensor, Tensor]:
        """`C` and its square root, `(B, d, d)` each, from `∂D` and `ρ²`."""
        if not (self.covariance.isfinite().all() and jacobian.isfinite().all()):
            raise RunError("The model gives values that are not finite.", "Train longer, or choose another checkpoint.")
        values, vectors = torch.linalg.eigh(self.covariance)
        values = values.clamp_min(0)
        overall = (vectors * (values * square / (values + square))) @ vectors.T
        share = square / (square + _LOCAL * float(values.mean()))
        c = (1 - share) * square * (jacobian + jacobian.mT) / 2 + share * overall
        values, vectors = torch.linalg.eigh(c)
        values = values.clamp_min(_FLOOR * square)
        return (vectors * values[:, None]) @ vectors.mT, vectors * values.sqrt()[:, None]


def _jacobian(fn: Callable[[Tensor], Tensor], u: Tensor) -> Tensor:
    """`∂ fn` averaged over the particles of each row: `u` `(B, R, d)` to `(B, d, d)`. A backward pass for each entry."""
    # Inference tensors cannot be differentiated; clones made outside inference mode can.
    with torch.inference_mode(False):
        out, pull, *_ = torch.func.vjp(lambda v: fn(v).reshape(u.shape), u.clone())
        columns = []
        for entry in range(u.shape[2]):
            unit = torch.zeros_like(out)
            unit[..., entry] = 1
            columns.append(pull(unit)[0].cpu().double().mean(1))
        return torch.stack(columns, 1)


def _where(given: Tensor, away: Tensor) -> Tensor:
    """`away` `(B, K, d)`, 0 where nothing is given."""
    return torch.where(given[:, None], away, 0.0)


def _block(c: Tensor, given: Tensor, eta: float) -> Tensor:
    """`C_OO + η I`, and the identity for other entries."""
    eye = torch.eye(c.shape[-1], dtype=c.dtype)
    return torch.where(given[:, :, None] & given[:, None], (c + c.mT) / 2 + eta * eye, eye)


def _log_normal(away: Tensor, covariance: Tensor) -> Tensor:
    """`log N(away; 0, covariance)` up to a constant: `(B, K, d)` and `(B, d, d)` to `(B, K)`."""
    lower = torch.linalg.cholesky(covariance)
    scaled = torch.linalg.solve_triangular(lower, away.mT, upper=False)
    return -(scaled**2).sum(1) / 2 - lower.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)


def _effective(logs: Tensor) -> Tensor:
    """Effective number of particles `(Σ w)² / Σ w²`, `(B,)`."""
    return 1 / torch.softmax(logs, 1).square().sum(1)


def _places(logs: Tensor, count: int, noise: KeyedNoise) -> Tensor:
    """Systematic draw of `count` particles by their weights, `(B, count)`."""
    sums = torch.softmax(logs, 1).cumsum(1)
    at = (torch.arange(count, dtype=torch.float64) + noise.uniform(logs, (len(logs), 1))) / count
    return torch.searchsorted(sums, at * sums[:, -1:], right=True).clamp_max(logs.shape[1] - 1)


def _chosen(u: Tensor, logs: Tensor, count: int, noise: KeyedNoise) -> Tensor:
    return u.gather(1, _places(logs, count, noise)[..., None].expand(-1, -1, u.shape[2]))


def _resampled(u: Tensor, d: Tensor, logs: Tensor, noise: KeyedNoise) -> tuple[Tensor, Tensor, Tensor]:
    """Resample the rows with fewer than half of the particles effective."""
    poor = (_effective(logs) < logs.shape[1] / 2)[:, None]
    places = torch.where(poor, _places(logs, logs.shape[1], noise), torch.arange(logs.shape[1]))[..., None].expand_as(u)
    return u.gather(1, places), d.gather(1, places), torch.where(poor, 0.0, logs)
