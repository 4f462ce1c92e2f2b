"""Laws of guides, tried around exact models with two classes: normal ones in the coordinates of affine processes.

A guide has to leave the model alone at weight 0, to treat each row by itself, and to keep samples in the support.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.problems import Multiplicative
from sdezoo.conformance.evidence import close
from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.configuration import configuration_laws
from sdezoo.data.encoding import Encoding
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import KeyedNoise
from sdezoo.sampling.guide import Guide, Reference
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import defaults, fitting_parts, preferred
from sdezoo.zoo.registry import SAMPLERS, SDES

_EVENT, _STEPS, _SPREAD, _APART = (2,), 8, 0.5, 1.0
_WIDE = torch.empty((), dtype=torch.float64)
_ROWS = 60
_MANY, _MORE, _SURE = 128, 1024, 4.0
_SLIGHT, _AWAY = 1e-3, 0.5
_SHIFTED = 4.0, 40.0
"""Volatility and drift of a process that moves data far, `m = 32 t` against `v = 16 t`: a guide that forgets the shift misses them."""


class _Classes(Model[AffineSDE]):
    """Two classes, normal in the coordinates; without labels their mixture. Its prior is that of the process, `away` deviations off."""

    def __init__(self, sde: AffineSDE, labels: Tensor | None = None, away: float = 0.0) -> None:
        self.sde, self.labels, self.away = sde, labels, away

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        k = self.sde.at(t, z)
        variance = k.alpha**2 * _SPREAD**2 + k.variance
        means = [k.alpha * mean + k.shift for mean in (-_APART, _APART)]
        slopes = [-(z - mean) / variance for mean in means]
        if self.labels is None:
            share = torch.sigmoid(sum_rows((slopes[1] + slopes[0]) * (means[1] - means[0]) / 2))
        else:
            share = self.labels.to(z).reshape(-1, 1)
        return torch.lerp(slopes[0], slopes[1], share.expand_as(z))

    def prior(self, shape: Sequence[int], noise: KeyedNoise, like: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        last = torch.tensor(self.sde.t_span[1], dtype=torch.float64)
        return self.sde.prior(shape, noise, like) + self.away * self.sde.scale(last).to(like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        last = torch.tensor(self.sde.t_span[1], dtype=torch.float64)
        return self.sde.prior_log_prob(z - self.away * self.sde.scale(last).to(z))

    def condition_on(self, condition: Tensor) -> Model[AffineSDE]:
        return _Classes(self.sde, condition, self.away)


def sum_rows(x: Tensor) -> Tensor:
    """Sum the entries of each row, `(B, d)` to `(B, 1)`."""
    return x.sum(1, keepdim=True)


def _data(sde: AffineSDE, label: int | None) -> Tensor:
    """Rows unlike what the model generates, so that a guide has something to do."""
    z = torch.randn(_ROWS, *_EVENT, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 0.3
    means = torch.arange(_ROWS).remainder(2) * 2.0 - 1
    z = z + means[:, None] + 0.4
    return sde.decode(z if label is None else z[label::2])


@cache
def _processes(guide: Guide) -> list[AffineSDE]:
    """An affine process that fits for each kind of coordinates, and one that shifts them."""
    found = {}
    for _, sde in defaults(SDES):
        plain = isinstance(sde, AffineSDE) and sde.row_shape is None and sde.state_shape((1, *_EVENT)) == (1, *_EVENT)
        if plain and not sde.support.event_dim and guide.refuses(sde) is None:
            found.setdefault(type(sde.coordinates).__name__, sde)
    shifted = Multiplicative(*_SHIFTED)
    return [*found.values(), *[shifted] * (guide.refuses(shifted) is None)]


def _sampler(sde: AffineSDE) -> Sampler:
    return SAMPLERS.build(preferred(fitting_parts(sde, SAMPLERS), "samplers"))


def _no_process(guide: Guide) -> str | None:
    return None if _processes(guide) else "No affine process fits."


def _around(
    guide: Guide, sde: AffineSDE, indices: Sequence[int], kept: dict[Any, Any] | None = None, away: float = 0.0, labelled: bool = True
) -> Model[Any]:
    labels = _labels(indices) if labelled else None

    def inner(given: Tensor | None, _indices: Sequence[int]) -> Model[AffineSDE]:
        model = _Classes(sde, away=away)
        return model if given is None or guide.conditions else model.condition_on(given)

    reference = Reference(
        inner, _sampler(sde), _STEPS, _EVENT, seed=3, rows=lambda label: _data(sde, label), labels=labels, like=_WIDE, kept=kept,
        observed=_observed(sde), indices=indices, encoding=_UNITS, features=_features,
    )  # fmt: skip
    return guide.around(inner(labels, indices), reference)


def fits_laws(guide: Guide) -> bool:
    """Whether a guide takes the few rows of two columns that these laws have.

    Args:
        guide: The guide.
    """
    try:
        for sde in _processes(guide):
            _around(guide, sde, [0, 1])
    except ParameterError:
        return False
    return True


def _computed(guide: Guide) -> list[Any]:
    """Scores of guided models."""
    found: list[Any] = []
    for sde in _processes(guide):
        model = _around(guide, sde, range(5))
        found += [model.score(_states(sde, 5), t) for t in _times(sde)]
    return found


GUIDE_LAWS: Suite[Guide] = Suite(configuration_laws(Guide, _computed))


_SCALE, _SHIFT = 0.4, 1.5
_UNITS = Encoding.affine(_SCALE, _SHIFT)
"""What is observed is in other units: `x = 0.4 raw + 1.5`."""


def _observed(sde: AffineSDE) -> dict[str, Tensor]:
    """One entry of four samples in turn, in the user's units: as entries that are known, `x`, the first of two samples and the second of
    two, and as a linear map, `y = A x`, the first of all."""
    x = (_data(sde, None)[:4] - _SHIFT) / _SCALE
    y = x[:, :1].clone()
    x[:2, 1] = x[2:, 0] = torch.nan
    return {"x": x, "y": y, "A": torch.eye(_EVENT[0], dtype=torch.float64)[:1]}


def _labels(rows: Sequence[int]) -> Tensor:
    return torch.tensor([row % 2 for row in rows])


def _features(z: Tensor, t: Tensor) -> Tensor:
    """What a network might see in a state: the entries, bent differently at each time."""
    return torch.cat([z, torch.tanh((1 + t) * z)], 1)


def _each_process(check: Callable[[Guide, AffineSDE], None]) -> Callable[[Guide], None]:
    def law(guide: Guide) -> None:
        for sde in _processes(guide):
            check(guide, sde)

    law.__name__, law.__doc__ = getattr(check, "__name__", ""), check.__doc__
    return law


def _states(sde: AffineSDE, rows: int) -> Tensor:
    z = sde.encode(_data(sde, None))[:rows]
    return z + 0.3 * torch.randn(z.shape, generator=torch.Generator().manual_seed(11), dtype=z.dtype)


def _times(sde: AffineSDE) -> list[Tensor]:
    lo, hi = sde.t_span
    return [torch.tensor(lo + (hi - lo) * share, dtype=torch.float64) for share in (0.02, 0.4, 1.0)]


@GUIDE_LAWS.law(first=True, excuses=_no_process)
@_each_process
def contract(guide: Guide, sde: AffineSDE) -> None:
    """Around a model is a model of the same process, whose score and denoiser are finite, of the shape and dtype of the state."""
    model = _around(guide, sde, range(5))
    if model.sde is not sde:
        raise LawError("The process of the guided model is another object.", sde.spec)
    for t in _times(sde):
        z = _states(sde, 5)
        before = z.clone()
        for name, found in (("score", model.score(z, t)), ("denoise", model.denoise(z, t))):
            if not torch.equal(z, before):
                raise LawError(f"{name} changes the state that it is given.", sde.spec)
            if found.shape != z.shape or found.dtype != z.dtype or not found.isfinite().all():
                raise LawError(f"{name} returned {tuple(found.shape)} {found.dtype}, or numbers that are not finite.", sde.spec)
        close("The score at a column of times", model.score(z, t.expand(5, 1)), model.score(z, t), rtol=1e-9, atol=1e-12)
        if not guide.conditions:
            free = _around(guide, sde, range(5), labelled=False).score(z, t)
            if free.shape != z.shape or not free.isfinite().all():
                raise LawError("Without labels its score has another shape, or is not finite.", sde.spec)


@GUIDE_LAWS.law(excuses=_no_process)
@_each_process
def denoiser_is_that_of_the_score(guide: Guide, sde: AffineSDE) -> None:
    """Score and denoiser are guided alike: they satisfy Tweedie's formula."""
    model = _around(guide, sde, range(5))
    for t in _times(sde):
        z = _states(sde, 5)
        wanted = sde.denoised(z, t, model.score(z, t))
        close("The denoiser", model.denoise(z, t), wanted, rtol=1e-8, atol=1e-9 * float(1 + wanted.abs().max()))


def _weightless(guide: Guide) -> str | None:
    return _no_process(guide) or (None if "weight" in guide.parameters() else "It has no weight.")


@GUIDE_LAWS.law(excuses=_weightless)
@_each_process
def weight_zero_is_the_identity(guide: Guide, sde: AffineSDE) -> None:
    """At weight 0 the guided model is the model inside: score, denoiser and prior, bit for bit. A small weight changes little."""
    labels = _labels(range(5))
    free, slight = (_around(_weighing(guide, share), sde, range(5), away=_AWAY) for share in (0, _SLIGHT))
    model = _Classes(sde, None if guide.conditions else labels, _AWAY)
    shape, start = (5, *_EVENT), KeyedNoise(0, range(5))
    moved = float((slight.prior(shape, start, _WIDE) - model.prior(shape, KeyedNoise(0, range(5)), _WIDE)).abs().max())
    if moved > 100 * _SLIGHT * float(model.sde.scale(torch.tensor(sde.t_span[1], dtype=torch.float64))):
        raise LawError(
            f"At {_SLIGHT:g} times the weight samples do not start from the prior of the model inside: {moved:.2g} away.", sde.spec
        )
    for t in _times(sde):
        z = _states(sde, 5)
        pairs = {"score": (free.score(z, t), model.score(z, t)), "denoise": (free.denoise(z, t), model.denoise(z, t))}
        pairs["prior"] = (free.prior(z.shape, KeyedNoise(0, range(5)), z), model.prior(z.shape, KeyedNoise(0, range(5)), z))
        for name, (found, wanted) in pairs.items():
            if not torch.equal(found, wanted):
                raise LawError(f"{name} differs by up to {float((found - wanted).abs().max()):.2g}.", f"{sde.spec}, t = {float(t):.3g}")
        whole, small = (float((one.score(z, t) - free.score(z, t)).abs().max()) for one in (_around(guide, sde, range(5)), slight))
        if small > 100 * _SLIGHT * whole:
            raise LawError(
                f"The score moves by {whole:.2g}, and by {small:.2g} at {_SLIGHT:g} times the weight.", f"{sde.spec}, t = {float(t):.3g}"
            )
    if not isinstance(free, _Classes):
        raise LawError("At weight 0 it puts a model around the one inside, whose density and network samplers then do not see.", sde.spec)


@GUIDE_LAWS.law(excuses=_no_process)
@_each_process
def start_has_its_density(guide: Guide, sde: AffineSDE) -> None:
    """Where samples start from the prior of the model inside, the density of their start is that of this prior, or refused."""
    model, inside = _around(guide, sde, range(5), away=_AWAY), _Classes(sde, away=_AWAY)
    start, wanted = (one.prior((5, *_EVENT), KeyedNoise(0, range(5)), _WIDE) for one in (model, inside))
    if not torch.equal(start, wanted):
        return
    try:
        density, found = inside.prior_log_prob(start), model.prior_log_prob(start)
    except CompositionError:
        return
    close("The density of the start", found.double(), density.double(), rtol=1e-9, atol=1e-9)


@GUIDE_LAWS.law(excuses=_no_process)
@_each_process
def rows_are_independent(guide: Guide, sde: AffineSDE) -> None:
    """A sample depends on (seed, row) alone: not on its batch, nor on what was drawn before."""
    sampler, rows, kept = _sampler(sde), [4, 17, 2, 9, 30], {}
    together = sampler.sample(_around(guide, sde, rows), (5, *_EVENT), _STEPS, 3, rows=rows, like=_WIDE)
    for place in (3, 1):
        row = [rows[place]]
        alone = sampler.sample(_around(guide, sde, row, kept), (1, *_EVENT), _STEPS, 3, rows=row, like=_WIDE)
        close(f"Row {row[0]} alone", alone[0], together[place], rtol=1e-9, atol=1e-12)


@GUIDE_LAWS.law(excuses=_no_process)
@_each_process
def support_is_kept(guide: Guide, sde: AffineSDE) -> None:
    """Samples are finite and lie in the support of the data, by a sampler that keeps it."""
    rows = list(range(16))
    x = _sampler(sde).sample(_around(guide, sde, rows), (16, *_EVENT), _STEPS, 3, rows=rows, like=_WIDE)
    outside = int((~(sde.support.check(x) & x.isfinite())).sum())
    if outside:
        raise LawError(f"{outside} of {x.numel()} values are not finite, or outside the support.", sde.spec)


def _steers_nothing(guide: Guide) -> str | None:
    if guide.observes:
        return _no_process(guide)
    if guide.conditions or guide.needs_rows:
        return _weightless(guide)
    return "It steers neither to a class, nor to rows, nor to an observation."


@GUIDE_LAWS.law(excuses=_steers_nothing)
@_each_process
def leads_where_it_steers(guide: Guide, sde: AffineSDE) -> None:
    """Guided samples are nearer to a class, the training rows, or what was observed of each, than unguided ones of the same seed."""
    labels, guided = _labels(range(_MANY)), _drawn(sde, _around(guide, sde, range(_MANY)))
    if guide.observes:
        row = torch.arange(_MANY)
        turn = row % 4
        entry = turn // 2 if "x" in guide.observes else 0 * turn
        wanted = sde.encode(_data(sde, None)[:4])[turn, entry]
        near, far = ((z[row, entry] - wanted).abs() for z in (guided, _drawn(sde, _Classes(sde, labels))))
        gain = far - near  # an observation with noise is not met exactly
        if not float(gain.mean()) > _SURE * float(gain.std()) / gain.numel() ** 0.5:
            means = [float(each.mean()) for each in (near, far)]
            raise LawError(f"The observed entry is off by {means[0]:.3g} on average if guided, and by {means[1]:.3g} if not.", sde.spec)
        return
    if guide.conditions:
        gain = (2 * labels[:, None] - 1) * (guided - _drawn(sde, _around(_weighing(guide, 0), sde, range(_MANY))))
        if not float(gain.mean()) > _SURE * float(gain.std()) / gain.numel() ** 0.5:
            raise LawError(f"Guided to a class, samples are moved by {float(gain.mean()):.3g} towards it.", sde.spec)
    if guide.needs_rows:
        gains, errors = _gains(guide, sde, _MANY)
        if not (gains > _SURE * errors).all():  # too few samples to tell
            gains, errors = _gains(guide, sde, _MORE)
        if not (gains.sum() > 0 and (gains > -_SURE * errors).all()):
            found = " and ".join(f"{gain:.3g} ± {error:.1g}" for gain, error in zip(gains.tolist(), errors.tolist(), strict=True))
            raise LawError(f"Guided to the rows of their class, samples of the two classes gain {found} of energy distance.", sde.spec)


def _drawn(sde: AffineSDE, model: Model[Any], count: int = _MANY) -> Tensor:
    """Samples, in coordinates."""
    return sde.encode(_sampler(sde).sample(model, (count, *_EVENT), _STEPS, 3, rows=range(count), like=_WIDE))


def _weighing(guide: Guide, share: float) -> Guide:
    values: dict[str, Any] = guide.parameters()
    return type(guide)(**{**values, "weight": share * values["weight"]})


def _gains(guide: Guide, sde: AffineSDE, count: int) -> tuple[Tensor, Tensor]:
    """How far the energy distance to the rows of each class falls if samples are guided, and its standard error, `(2,)` each."""
    labels, gains = _labels(range(count)), []
    guided, free = (_drawn(sde, _around(one, sde, range(count)), count) for one in (guide, _weighing(guide, 0)))
    for label in (0, 1):
        rows = sde.encode(_data(sde, label))
        near, far = (2 * torch.cdist(z, rows).mean(1) - torch.cdist(z, z).mean(1) for z in (guided[labels == label], free[labels == label]))
        gains.append(far - near)
    return torch.stack([gain.mean() for gain in gains]), torch.stack([gain.std() / len(gain) ** 0.5 for gain in gains])
