"""Laws of processes that hold point by point: they compare derivatives, not samples.

The state is flattened to `R^n` and the noise to `R^m`, so that the diffusion is a matrix `G(z, t)` with `D = G Gᵀ`.
Everything that a process derives or writes in closed form is compared with what automatic differentiation of `drift`,
`diffuse`, `noise_shape` and `log_prob` gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import Case, each_variant, events, process_cases, smallest_event, typical, wide_cases
from sdezoo.conformance.bank.derivatives import derivatives, difference, forward_jacobian, jacobian, second_divergence
from sdezoo.conformance.bank.far_states import far_states
from sdezoo.conformance.bank.noise_doubles import Still, keyed
from sdezoo.conformance.evidence import close
from sdezoo.conformance.law import LawError, Suite, Unstated
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Conditional, Process, Supervised
from sdezoo.process.sde import ForwardSDE, MatrixSDE

CALCULUS_LAWS: Suite[Process] = Suite()

_WIDE = (torch.float64,)
_FASTEST, _ROUNDED = 1e6, 1e-11  # rounding is left where data are forgotten, and all derivatives of the density vanish


def single_rows(sde: Process) -> Any:
    """Cases with a single float64 row, of one to three entries; two also in a column, which a sum over the last dimension misses."""
    flat = [event for event in events(sde) if len(event) == 1][:2] + ([] if sde.support.event_dim else [(2, 1), (3,)])
    return process_cases(sde, rows=1, dtypes=_WIDE, shapes=flat, ends=(0.02, 1.0), reach=2.0)


def no_sde(sde: Process) -> str | None:
    """Excuse of a process without drift and diffusion; None for any other."""
    return None if isinstance(sde, ForwardSDE) else "It has no drift and diffusion."


def not_affine(sde: Process) -> str | None:
    """Excuse of a process that is not affine; None for any other."""
    return None if isinstance(sde, AffineSDE) else "It is not affine."


def no_density(sde: Process) -> str | None:
    """Excuse of a process without a transition density; None for any other."""
    return None if isinstance(sde, Supervised) and sde.knows_density else "It offers no transition density."


def no_score(sde: Process) -> str | None:
    """Excuse of a process whose conditional score is unknown; None for any other."""
    return None if isinstance(sde, Conditional) else "Its conditional score is not known."


@dataclass(frozen=True)
class Flat:
    """A process at one time, as differentiable functions of one flattened row `y` `(n,)`."""

    sde: Any
    """The process."""
    shape: tuple[int, ...]
    """Shape of the state, a batch of one row included."""
    t: Tensor
    """The time, 0-dim."""

    def drift(self, y: Tensor) -> Tensor:
        """`f`, `(n,)`."""
        return self.sde.drift(y.reshape(self.shape), self.t).reshape(-1)

    def diffusion(self, y: Tensor) -> Tensor:
        """`G`, `(n, m)`: column `j` is the effect of one unit of the `j`-th Brownian motion."""
        z = y.reshape(self.shape)
        noise = self.sde.noise_shape(self.shape)
        units = torch.eye(int(torch.Size(noise).numel()), dtype=y.dtype).reshape(-1, *noise)
        return torch.stack([self.sde.diffuse(z, self.t, unit).to(z).expand(self.shape).reshape(-1) for unit in units], 1)

    def square(self, y: Tensor) -> Tensor:
        """`D = G Gᵀ`, `(n, n)`."""
        g = self.diffusion(y)
        return g @ g.T


@dataclass(frozen=True, eq=False)
class Point:
    """A process at one state and time. What several laws need is computed once."""

    flat: Flat
    """The process at this time."""
    z: Tensor
    """The state, `(1, *state)`."""

    @property
    def y(self) -> Tensor:
        """The state, flattened."""
        return self.z.reshape(-1)

    @cached_property
    def drift(self) -> Tensor:
        """`f`, `(n,)`."""
        return self.flat.drift(self.y)

    @cached_property
    def diffusion(self) -> Tensor:
        """`G`, `(n, m)`."""
        return self.flat.diffusion(self.y)

    @cached_property
    def square(self) -> Tensor:
        """`D = G Gᵀ`, `(n, n)`."""
        return self.diffusion @ self.diffusion.T

    @cached_property
    def slopes(self) -> Tensor:
        """`∂_k G_ij`, `(n, m, n)`."""
        return jacobian(self.flat.diffusion, self.y)

    @cached_property
    def square_slopes(self) -> Tensor:
        """`∂_k D_ij`, `(n, n, n)`."""
        half = torch.einsum("imk,jm->ijk", self.slopes, self.diffusion)
        return half + half.transpose(0, 1)

    @property
    def divergence(self) -> Tensor:
        """`Σ_j ∂_j D_ij`, `(n,)`."""
        return torch.einsum("ijj->i", self.square_slopes)


@lru_cache(maxsize=256)
def _point(case: Case) -> Point:
    z = case.draw()
    return Point(Flat(case.sde, tuple(z.shape), case.t.reshape(())), z)


@CALCULUS_LAWS.property_law(single_rows, excuses=lambda sde: no_score(sde) or no_density(sde))
def score_is_gradient(case: Case) -> None:
    """The conditional score is the gradient of the log-density in every direction that the noise drives, also far out."""
    t = case.t
    sde: Any = case.sde
    if type(sde).log_prob_and_score is not Conditional.log_prob_and_score:
        z = case.draw()
        density, score = sde.log_prob_and_score(z, case.x0, t)
        close("The log-density from log_prob_and_score", density, sde.log_prob(z, case.x0, t), rtol=1e-6, atol=1e-6)
        expected = sde.score(z, case.x0, t)
        close("The score from log_prob_and_score", score, expected, rtol=1e-6, atol=1e-7 * float(1 + expected.abs().max()))
    for z in (case.draw(), *far_states(case, 3.0, 10.0)):
        found, expected = sde.score(z, case.x0, t), Conditional.score(sde, z, case.x0, t)
        if not expected.isfinite().all():  # no density is left
            continue
        if isinstance(case.sde, MatrixSDE) or (isinstance(case.sde, ForwardSDE) and (sde.diffusion(z, t) * torch.ones_like(z) == 0).any()):
            found, expected = sde.ggt(z, t, found), sde.ggt(z, t, expected)
        close("The score", found, expected, rtol=1e-6, atol=1e-7 * float(1 + expected.abs().max()))


@CALCULUS_LAWS.property_law(single_rows, excuses=lambda sde: no_sde(sde) or no_density(sde))
def fokker_planck(case: Case) -> None:
    """The density solves `∂_t p = −∇·(f p) + ½ Σ_ij ∂_i ∂_j (D_ij p)`."""
    at = _point(case)
    flat, z, y, t, x0 = at.flat, at.z, at.y, at.flat.t, case.x0

    def log_density(y: Tensor, t: Tensor) -> Tensor:
        return case.sde.log_prob(y.reshape(z.shape), x0, t).sum()

    slope, change, curvature = derivatives(log_density, y, t)
    second = second_divergence(flat.square, y)
    if slope.isfinite().all() and not curvature.isfinite().all():
        curvature = difference(lambda u: derivatives(log_density, u, t)[0], y)
    if not (slope.isfinite().all() and curvature.isfinite().all()):
        raise LawError("log_prob has no finite second derivative here, neither by torch's differentiation nor by differences of the first.")
    terms = torch.stack(
        [
            -torch.trace(jacobian(flat.drift, y)),
            -at.drift @ slope,
            second / 2,
            at.divergence @ slope,
            (at.square * curvature).sum() / 2,
            slope @ at.square @ slope / 2,
        ]
    )
    size, rounded = float(terms.abs().sum() + change.abs()), _ROUNDED * float(1 + at.square.abs().sum())
    close("∂_t log p", change, terms.sum(), rtol=1e-5, atol=1e-5 * size + rounded)


@CALCULUS_LAWS.property_law(single_rows, excuses=no_sde)
def noise_is_linear(case: Case) -> None:
    """`diffuse` is linear in the increment, so that it is the product with a matrix, and 0 for none."""
    at = _point(case)
    z, t, shape = at.z, at.flat.t, case.sde.noise_shape(at.flat.shape)
    one, other = (torch.sin(torch.arange(1.0, torch.Size(shape).numel() + 1, dtype=z.dtype) + k).reshape(shape) for k in (0, 2))
    a, b = case.sde.diffuse(z, t, one), case.sde.diffuse(z, t, other)
    for factor in (-1.0, 0.5):
        size = float(1 + a.abs().max() + b.abs().max())
        close("The noise of a sum", case.sde.diffuse(z, t, factor * one + other), factor * a + b, rtol=1e-9, atol=1e-12 * size)


def _not_entrywise(sde: Process) -> str | None:
    if isinstance(sde, ForwardSDE) and not sde.entrywise_noise:
        return "It says that the noise of an entry depends on other entries."
    return no_sde(sde)


@CALCULUS_LAWS.property_law(single_rows, excuses=_not_entrywise)
def noise_of_an_entry_is_its_own(case: Case) -> None:
    """Unless `entrywise_noise` denies it, `g_i` depends on the state through `z_i` alone, as Milstein's method requires."""
    at = _point(case)
    if case.sde.entrywise_noise:  # a variant may deny it
        others, size = at.slopes * (1 - torch.eye(len(at.y), dtype=at.y.dtype))[:, None], float(1 + at.diffusion.abs().max())
        close("The slope of an entry's noise in another entry", others, torch.zeros(()), rtol=0, atol=1e-9 * size)


@CALCULUS_LAWS.property_law(single_rows, excuses=no_sde)
def stratonovich_correction_turns_the_columns(case: Case) -> None:
    """`stratonovich_correction` is `½ Σ_k (∂G_k/∂z) G_k` over the columns of the noise; not asked of a process with shared noise."""
    at = _point(case)
    if not isinstance(case.sde, MatrixSDE) and tuple(case.sde.noise_shape(at.flat.shape)) != at.flat.shape:
        return
    expected = torch.einsum("ikj,jk->i", at.slopes, at.diffusion) / 2
    found = case.sde.stratonovich_correction(at.z, at.flat.t).reshape(-1)
    close("The correction", found, expected, rtol=1e-6, atol=1e-9 * float(1 + at.square.abs().max()))


@CALCULUS_LAWS.property_law(single_rows, excuses=no_sde)
def divergence_is_that_of_ggt(case: Case) -> None:
    """`divergence` is `Σ_j ∂_j D_ij` of the full matrix `D = g gᵀ`."""
    at = _point(case)
    found = case.sde.divergence(at.z, at.flat.t).reshape(-1)
    close("The divergence", found, at.divergence, rtol=1e-6, atol=1e-9 * float(1 + at.square.abs().max()))


@CALCULUS_LAWS.property_law(single_rows, excuses=no_sde)
def ggt_is_the_product(case: Case) -> None:
    """`ggt(z, t, s)` is the matrix product `g gᵀ s`, also for shared and partial noise."""
    at = _point(case)
    s = torch.cos(torch.arange(1.0, at.y.numel() + 1, dtype=at.y.dtype))
    close("g gᵀ s", case.sde.ggt(at.z, at.flat.t, s.reshape(at.z.shape)).reshape(-1), at.square @ s, rtol=1e-9, atol=1e-12)


def _changes_in_time(sde: Process) -> str | None:
    return None if isinstance(sde, ForwardSDE) and sde.homogeneous else "It does not say that its coefficients are constant."


@CALCULUS_LAWS.property_law(single_rows, excuses=_changes_in_time)
def homogeneous_in_time(case: Case) -> None:
    """Drift and diffusion of a process that says so are the same at every time, also beyond 1."""
    at = _point(case)
    if not case.sde.homogeneous:  # a variant may not be
        return
    y, t, f, g = at.y, at.flat.t, at.drift, at.diffusion
    for later in (3 * t, t + 2):
        other = Flat(case.sde, at.flat.shape, later)
        close(f"The drift at t = {float(later):.3g}", other.drift(y), f, rtol=1e-6, atol=1e-7 * float(1 + f.abs().max()))
        close(f"The diffusion at t = {float(later):.3g}", other.diffusion(y), g, rtol=1e-6, atol=1e-7 * float(1 + g.abs().max()))


@CALCULUS_LAWS.property_law(single_rows, excuses=no_sde)
def reverse_drift_is_andersons(case: Case) -> None:
    """`reverse_drift` is `f − half (∇·(g gᵀ) + g gᵀ s)`, including the divergence of state-dependent noise."""
    at = _point(case)
    s = torch.cos(torch.arange(1.0, at.y.numel() + 1, dtype=at.y.dtype))
    for half in (1.0, 0.5):
        expected = at.drift - half * (at.divergence + at.square @ s)
        found = case.sde.reverse_drift(at.z, at.flat.t, s.reshape(at.z.shape), half).reshape(-1)
        close(f"The reverse drift at half = {half:g}", found, expected, rtol=1e-6, atol=1e-8 * float(1 + expected.abs().max()))


@CALCULUS_LAWS.property_law(lambda sde: process_cases(sde, rows=2, dtypes=_WIDE), excuses=not_affine)
def coefficients_start_at_the_data(case: Case) -> None:
    """`α(0) = 1`, `m(0) = 0`, `v(0) = 0`; for `t > 0` the noise grows: `v > 0`, and `σ/α` increases with `t`; no rate is infinite."""
    zero = torch.zeros((), dtype=torch.float64)
    for name, found, expected in zip(("α(0)", "m(0)", "v(0)"), case.sde.coefficients(zero), (1.0, 0.0, 0.0), strict=True):
        close(name, found, torch.full_like(found, expected, dtype=torch.float64), rtol=0, atol=1e-12)
    lo, hi = case.sde.t_span
    t = torch.linspace(lo, hi, 101, dtype=torch.float64)
    k = case.sde.coefficients(t[:, None])  # a column: the shift may differ from entry to entry
    if not (k.variance > 0).all():
        raise LawError(f"v(t) is {float(k.variance.min()):g} at t = {float(t[k.variance.argmin()]):g}; it must be positive.")
    steps = k.ratio[:, 0].diff()
    if not (steps > 0).all():
        raise LawError(f"σ/α does not increase from t = {float(t[steps.argmin()]):g} to {float(t[steps.argmin() + 1]):g}.")
    rate = float(case.sde.rates(t[-1:, None])[0].abs().max()) * (hi - lo)
    if not rate < _FASTEST:
        raise LawError(f"At the last time the state shrinks at the rate {rate:.3g}, and no step is short enough. End `t_span` earlier.")


@CALCULUS_LAWS.property_law(wide_cases, excuses=not_affine)
def draws_have_the_coefficients(case: Case) -> None:
    """A sample is `α z_0 + m + σ ε`, and the density is that of `N(α z_0 + m, v)`."""
    sde, x0, t = case.sde, case.x0, case.t
    k, z0 = sde.coefficients(t), sde.encode(x0)
    for eps in (0.0, 1.0, -2.0):
        expected = k.alpha * z0 + k.shift + k.variance.sqrt() * eps
        z = sde.perturb(x0, t, Still(eps))
        close(f"The sample at ε = {eps:g}", z, expected, rtol=1e-9, atol=1e-10)
        normal = torch.distributions.Normal(k.alpha * z0 + k.shift, k.variance.sqrt().expand_as(z0), validate_args=False)
        close("log_prob", sde.log_prob(expected, x0, t), normal.log_prob(expected), rtol=1e-7, atol=1e-7)
        close("score", sde.score(expected, x0, t), -eps / k.variance.sqrt() * torch.ones_like(z0), rtol=1e-6, atol=1e-6)


@CALCULUS_LAWS.property_law(lambda sde: process_cases(sde, dtypes=_WIDE, ends=(0.02, 0.98)), excuses=not_affine)
def moments_solve_the_sde(case: Case) -> None:
    """The mean and variance obey drift and diffusion: `(α z_0 + m)' = f`, `v' = 2 r v + g²`, where `f = r z + c`."""
    sde, t, z0 = case.sde, case.t, case.sde.encode(case.x0)

    def moments(u: Tensor) -> tuple[Tensor, Tensor]:
        k = sde.coefficients(u)
        return k.alpha * z0 + k.shift, k.variance * torch.ones_like(z0)

    h = 1e-5
    (m1, v1), (m0, v0), (mean, variance) = moments(t + h), moments(t - h), moments(t)
    f, slope = sde.drift(mean, t), (sde.drift(mean + 0.5, t) - sde.drift(mean - 0.5, t)) / 1.0
    close("The drift at the mean", f, (m1 - m0) / (2 * h), rtol=1e-5, atol=1e-6)
    g = sde.diffusion(mean, t) * torch.ones_like(mean)
    close("2 r v + g²", 2 * slope * variance + g**2, (v1 - v0) / (2 * h), rtol=1e-5, atol=1e-6)


@CALCULUS_LAWS.property_law(lambda sde: process_cases(sde, dtypes=_WIDE, ends=(0.05, 1.0)), excuses=not_affine)
def posterior_is_bayes(case: Case) -> None:
    """`posterior` is Bayes' rule: `p(z_s | z_t, z_0) ∝ p(z_s | z_0) p(z_t | z_s)`, Chapman–Kolmogorov for Gaussian transitions."""
    sde, t, z0, z = case.sde, case.t, case.sde.encode(case.x0), case.draw()
    for share in (0.0, 0.5, 0.99):
        s = sde.t_span[0] + share * (t - sde.t_span[0])
        p, q = sde.coefficients(t), sde.coefficients(s)
        alpha = p.alpha / q.alpha
        shift, variance = p.shift - alpha * q.shift, p.variance - alpha**2 * q.variance
        precision = 1 / q.variance + alpha**2 / variance
        mean = ((q.alpha * z0 + q.shift) / q.variance + alpha * (z - shift) / variance) / precision
        found, spread = sde.posterior(z, z0, t, s)
        close("The posterior's mean", found, mean, rtol=1e-6, atol=1e-7)
        close("The posterior's variance", spread, 1 / precision, rtol=1e-6)


def _not_element_wise(sde: Process) -> str | None:
    if not isinstance(sde, AffineSDE):
        return "It is not affine."
    event = smallest_event(sde)
    same = sde.state_shape((1, *event)) == (1, *event)
    return None if same and sde.element_wise else "Its coordinates are not element-wise."


def _decoded(sde: Any, z: Tensor) -> Tensor:
    return sde.decode_unchecked(z) if isinstance(sde, AffineSDE) else sde.decode(z)


def _ito(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`x = φ(z)`, `t`, and the drift and diffusion of `x`, by Itô's formula from those of the state."""
    at = _point(case)
    z, y, t = at.z, at.y, at.flat.t

    def phi(u: Tensor) -> Tensor:
        return _decoded(case.sde, u.reshape(z.shape)).reshape(-1)

    first = jacobian(phi, y)
    second = forward_jacobian(lambda u: forward_jacobian(phi, u), y)
    drift = first @ at.drift + 0.5 * torch.einsum("ijk,jk->i", second, at.square)
    diffusion = first.diagonal() * (case.sde.diffusion(z, t) * torch.ones_like(z)).reshape(-1)
    return phi(y).reshape(z.shape), t, drift.reshape(z.shape), diffusion.reshape(z.shape)


@CALCULUS_LAWS.property_law(single_rows, excuses=_not_element_wise)
def ambient_is_ito(case: Case) -> None:
    """The ambient equation follows from Itô's formula: `f_x = φ' f_z + ½ φ'' g_z²`, `g_x = φ' g_z`."""
    if not case.sde.element_wise:  # a variant may not be
        return
    x, t, f, g = _ito(case)
    ambient = case.sde.ambient()
    close("The ambient drift", ambient.drift(x, t), f, rtol=1e-6, atol=1e-9 * float(1 + f.abs().max()))
    close("The ambient diffusion", ambient.diffusion(x, t) * torch.ones_like(x), g, rtol=1e-6, atol=1e-12)


def _states_nothing(sde: Process) -> str | None:
    if not isinstance(sde, ForwardSDE):
        return no_sde(sde)
    if isinstance(sde, MatrixSDE):
        return "Its noise is a matrix."
    event = events(sde)[-1]
    x0 = typical(sde, torch.zeros(1, *event, dtype=torch.float64))
    if sde.equation(x0, torch.tensor(sde.t_span[1], dtype=torch.float64)) is None:
        return Unstated("It states no equation.")
    z = sde.encode(x0, keyed(1))
    if z.shape != x0.shape:
        return "Its coordinates are not element-wise."
    moved = z + 0.1 * torch.eye(z.numel(), dtype=z.dtype)[:1].reshape(z.shape)
    changed = (_decoded(sde, moved) != _decoded(sde, z)).sum()
    return None if int(changed) == 1 else "Its coordinates are not element-wise."


@CALCULUS_LAWS.property_law(single_rows, excuses=_states_nothing, also=lambda sde: [case.row for case in each_variant(sde)])
def stated_equation(case: Case) -> None:
    """Drift and diffusion solve the Itô equation in the data that `equation` states."""
    if not_affine(case.sde) is None and not case.sde.element_wise:  # a variant may not be
        return
    x, t, f, g = _ito(case)
    drift, diffusion = case.sde.equation(x, t)
    close("The stated drift", drift * torch.ones_like(x), f, rtol=1e-6, atol=1e-9 * float(1 + f.abs().max()))
    close("The stated diffusion", diffusion * torch.ones_like(x), g, rtol=1e-6, atol=1e-12)
