"""Laws of what a network sees of a process, and of what becomes of its output.

A network gets `network_input(z, t)` and `noise_conditioning(t)`, and `score_from_output` or `denoiser_from_output` completes its output.
With `C(r, z) = D · complete(r, z)` for a score, `D = g gᵀ`, and `C(r, z) = complete(r, z)` for a denoiser:

- the output reaches every direction that matters: `rank ∂C/∂r = rank D`, or the number of entries for a denoiser;
- the network can tell apart what needs another output: let `C(r, z)` be right for the data. If `z` moves along `v` so that the input does
  not change, `∂network_input/∂z · v = 0`, then the output `r` cannot change either, and has to stay right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import Case, busy, process_cases, wide_cases
from sdezoo.conformance.bank.far_states import far_states
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.evidence import close
from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.calculus_laws import no_score, no_sde, not_affine, single_rows
from sdezoo.conformance.laws.draw_laws import STARTS, Draws
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Conditional, Denoised, Process, Supervised
from sdezoo.process.sde import ForwardSDE

NETWORK_LAWS: Suite[Process] = Suite()

_TIMES = 65
_TINY = 1e-7
_STEP = 1e-5
_CLOSE = 1.4
"""Largest factor between `scale` and the size of the noise."""


@NETWORK_LAWS.property_law(lambda sde: process_cases(sde, rows=1, dtypes=(torch.float64,)), examples=10)
def noise_conditioning_tells_times_apart(case: Case) -> None:
    """`noise_conditioning` is strictly monotone in time: a network can tell any two times apart."""
    lo, hi = case.sde.t_span
    t = torch.linspace(lo, hi, _TIMES, dtype=torch.float64)
    found = case.sde.noise_conditioning(t[:, None]).reshape(_TIMES, -1)[:, 0]
    steps = found.diff()
    wrong = steps * (found[-1] - found[0]).sign() <= 0
    if wrong.any():
        k = int(wrong.double().argmax())
        values = ", ".join(f"{float(c):.6g}" for c in (found[0], found[k], found[k + 1], found[-1]))
        raise LawError(f"noise_conditioning is not monotone between t = {float(t[k]):.4g} and {float(t[k + 1]):.4g}: {values}.")


@NETWORK_LAWS.property_law(wide_cases, excuses=not_affine, examples=15)
def scale_is_the_deviation(case: Case) -> None:
    """`scale` is the standard deviation of the noise: its square is the variance of `coefficients`."""
    k = case.sde.coefficients(case.t[..., None])
    close("scale²", case.sde.scale(case.t) ** 2, k.variance[..., 0], rtol=1e-9)


def _other_scale(sde: Process) -> str | None:
    if not isinstance(sde, ForwardSDE):
        return no_sde(sde)
    return "It is affine: its scale is the deviation of its noise." if isinstance(sde, AffineSDE) else None


@NETWORK_LAWS.law(excuses=_other_scale)
def scale_is_the_size_of_the_noise(sde: Any) -> None:
    """Near the data `scale² E[m s²] = 1` for the score `s` of one point and its weight `m`; without a score, it grows as draws spread."""
    for kind in {sde, busy(sde)}:
        # Noise that fills the room between walls has no score.
        shares = (0.005, 0.02) if kind.reflecting_boundary else (0.02, 0.1)
        for start in STARTS[:2]:
            sizes = {float(t): _sizes(kind, Draws(kind, start, 0), t) for t in map(Draws(kind, start, 0).time, shares)}
            usual = 1.0 if isinstance(kind, Conditional) else next(iter(sizes.values()))[1] / next(iter(sizes.values()))[0]
            for t, (scale, least, most) in sizes.items():
                if least > 0 and not least / _CLOSE < scale * usual < most * _CLOSE:
                    said = f"scale is {scale:.3g}, and the noise is of the size {least:.3g}"
                    raise LawError(f"{said}.", f"{kind.spec}, t = {t:.3g}")


def _sizes(sde: Any, draws: Draws, t: Tensor) -> tuple[float, float, float]:
    """`scale`, and the least and the largest size of the noise of an entry; 0 for draws without noise."""
    z = draws.states(t)
    if isinstance(sde, Conditional):
        s = sde.score(z, draws.data(len(z)), t)
        squares = (sde.score_error_weighting(z, t) * s**2).flatten(1).mean(0)
        least, most = float(squares.max()) ** -0.5, float(squares[squares > 0].min()) ** -0.5
    else:
        least = most = float((z.flatten(1).quantile(0.84, 0) - z.flatten(1).quantile(0.16, 0)).max()) / 2
    return float(sde.scale(t)), least, most


def _learns_nothing(sde: Process) -> str | None:
    return None if isinstance(sde, ForwardSDE | Denoised) else "Neither its noise nor what its network learns is known."


def _completed(sde: Any, r: Tensor, z: Tensor, t: Tensor) -> Tensor:
    shaped = r.reshape(sde.network_input(z, t).shape)
    if isinstance(sde, Denoised):
        return sde.denoiser_from_output(shaped, z, t).reshape(-1)
    s = sde.score_from_output(shaped, z, t)
    return (sde.ggt(z, t, s) if isinstance(sde, ForwardSDE) else s).reshape(-1)


def _output_matrix(sde: Any, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """`A` and `b` of `C(r, z) = A r + b`, which is affine in `r`."""
    size = sde.network_input(z, t).numel()
    origin = _completed(sde, torch.zeros(size, dtype=z.dtype), z, t)
    return torch.stack([_completed(sde, unit, z, t) - origin for unit in torch.eye(size, dtype=z.dtype)], 1), origin


def _rank(matrix: Tensor) -> int:
    """Rank after scaling the rows to unit length, so that entries of different size count the same."""
    size = matrix.norm(dim=1, keepdim=True)
    return int(torch.linalg.matrix_rank(matrix / size.clamp_min(1e-12 * float(size.max().clamp_min(1e-300))), rtol=_TINY))


@NETWORK_LAWS.property_law(single_rows, excuses=_learns_nothing, examples=10)
def output_reaches_the_score(case: Case) -> None:
    """The network's output reaches every direction in which the noise drives the state, or every entry of a denoiser."""
    sde, z, t = case.sde, case.draw(), case.t.reshape(())
    matrix, origin = _output_matrix(sde, z, t)
    if isinstance(sde, Denoised):
        driven = z.numel()
        if sde.support.is_discrete:  # a value that no noise makes is clean
            driven -= int((origin == z.reshape(-1)).sum())
    else:
        units = torch.eye(z.numel(), dtype=z.dtype)
        driven = _rank(torch.stack([sde.ggt(z, t, unit.reshape(z.shape)).reshape(-1) for unit in units], 1))
    if _rank(matrix) != driven:
        raise LawError(f"The network's output reaches {_rank(matrix)} directions, and {driven} were expected.")


def _no_scale(sde: Process) -> str | None:
    if not isinstance(sde, Denoised) or type(sde).error_scale is Denoised.error_scale:
        return "It states no scale of the error of its denoiser."
    if type(sde).error_weighting is not Denoised.error_weighting:
        return "Its errors are weighed by the state too."
    return None


@NETWORK_LAWS.property_law(single_rows, excuses=_no_scale, examples=10)
def error_scale_is_that_of_the_output(case: Case) -> None:
    """A denoiser moves by `error_scale` if the network's output moves by 1: then errors over it are those of the output."""
    sde, z, t = case.sde, case.draw(), case.t.reshape(())
    matrix, _ = _output_matrix(sde, z, t)
    scale = sde.error_scale(t).double()
    close("The size of the denoiser's move", matrix.norm(dim=1), scale.expand(len(matrix)), rtol=1e-6)


def _no_score_of_it(sde: Process) -> str | None:
    if not isinstance(sde, Denoised) or type(sde).score_from_denoiser is Denoised.score_from_denoiser:
        return "No score follows from its denoiser."
    return None if isinstance(sde, Conditional) or sde.knows_density else "Its conditional score is not known."


@NETWORK_LAWS.property_law(single_rows, excuses=_no_score_of_it, examples=15)
def score_follows_from_the_denoiser(case: Case) -> None:
    """`score_from_denoiser` is the score of the marginals: for data at one point, which is the denoiser, that given the data."""
    sde, z, t = case.sde, case.draw(), case.t
    wanted = (Conditional.score if no_score(sde) else type(sde).score)(sde, z, case.x0, t)
    found = sde.score_from_denoiser(sde.encode(case.x0).to(z), z, t)
    close("The score of data at one point", found, wanted, rtol=1e-6, atol=1e-6 * float(1 + wanted.abs().max()))


def _unknown(sde: Process) -> str | None:
    return _learns_nothing(sde) or (None if isinstance(sde, Supervised) else "What its network learns is not known.")


@NETWORK_LAWS.property_law(single_rows, excuses=_unknown, examples=10)
def network_sees_enough(case: Case) -> None:
    """The network can tell apart any two states that need different outputs: data at one point, noised."""
    z, t, h = case.draw(), case.t.reshape(()), _STEP
    for u in (z, *far_states(case)):
        _sees(case, u, t, h)


def _sees(case: Case, z: Tensor, t: Tensor, h: float) -> None:
    sde = case.sde
    model, size = Atoms(sde, case.x0), z.numel()
    if not model.predict(z, t).isfinite().all():  # no density is left
        return

    def right(u: Tensor) -> Tensor:
        found = model.predict(u, t)
        return (sde.ggt(u, t, found) if isinstance(sde, ForwardSDE) and not isinstance(sde, Denoised) else found).reshape(-1)

    units = torch.eye(size, dtype=z.dtype).reshape(size, *z.shape)
    length = float(sde.scale(t)) * h
    inputs = torch.stack([(sde.network_input(z + length * e, t) - sde.network_input(z - length * e, t)).reshape(-1) / 2 for e in units], 1)
    _, spread, axes = torch.linalg.svd(inputs, full_matrices=True)
    unseen = axes[int((spread > _TINY * spread.max().clamp_min(1e-300)).sum()) :]
    if not len(unseen):
        return
    matrix, origin = _output_matrix(sde, z, t)
    output = torch.linalg.lstsq(matrix, (right(z) - origin)[:, None], driver="gelsd").solution[:, 0]
    for v in unseen.reshape(-1, *z.shape):
        ahead, behind = (right(z + sign * length * v) - _completed(sde, output, z + sign * length * v, t) for sign in (1, -1))
        needed = right(z + length * v) - right(z - length * v)
        close(
            "The change of the output that the network cannot make",
            ahead - behind,
            torch.zeros_like(ahead),
            rtol=0,
            atol=1e-3 * float(needed.abs().max()) + 1e-9 * float(1 + right(z).abs().max()),
        )
