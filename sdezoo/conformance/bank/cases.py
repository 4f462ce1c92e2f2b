"""Cases: the plugins, data, times and dtypes that laws are tried on.

Hypothesis generates them, simplest first: the plugin as it is, one row, one entry, a time in the middle, data at the
centre of the support. If `torch.distributions.transform_to` knows the support, the data are the image of a few standard
normal numbers; otherwise they come from the prior of the process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any, TypeVar, get_type_hints

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import constraints, transform_to

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.bank.other_values import choices, others, settings
from sdezoo.conformance.law import LawError
from sdezoo.errors import SdezooError
from sdezoo.parameters import Plugin
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Process, Shape
from sdezoo.zoo.registry import SDES, Registry
from sdezoo.zoo.spec import parse

Q = TypeVar("Q", bound=Plugin)

FLAT = 0.4
"""A start at which rows of two dimensions are tried."""
_ENTRIES = {-0.6: 2, FLAT: 4}
"""Largest size of a state of several entries to try at a start; a law that needs quadrature can take 2."""
_DRAWN = 256


@cache
def variants(plugin: Q) -> list[Q]:
    """`plugin`, followed by copies with one hyper-parameter changed: scaled, set if it was open, or another choice."""
    found = [plugin]
    for key, value in plugin.parameters().items():
        for other in others(type(plugin), key, value):
            try:
                found.append(replace(plugin, **{key: other}))  # pyright: ignore[reportArgumentType]
            except SdezooError:  # out of range
                continue
            if isinstance(value, int) and not isinstance(value, bool):  # one more, or else one less
                break
    return found


@cache
def unusual(plugin: Q, usual: frozenset[str], works: Callable[[Q], bool] = lambda _: True, on: float = 0.5) -> Q:
    """`plugin` with every hyper-parameter changed, so that features that its defaults switch off are tried too.

    Args:
        plugin: The plugin.
        usual: Names of the hyper-parameters to leave as they are.
        works: Takes a plugin; returns whether it fits the data of its laws, which may be too few or too small for a value.
        on: What a number becomes that is 0.
    """
    values = plugin.parameters().items()
    return _changed(plugin, {key: others(type(plugin), key, value, on) for key, value in values if key not in usual}, works)


@cache
def busy(plugin: Q, scaled: bool = True) -> Q:
    """`plugin` with another choice of each kind, numbers `scaled` unequally, and every open hyper-parameter set to a number of its own."""
    hints, candidates = get_type_hints(type(plugin)), {}
    for k, (key, value) in enumerate(plugin.parameters().items()):
        if choices(hints[key]):
            candidates[key] = others(type(plugin), key, value)
        elif isinstance(value, float) and scaled:
            candidates[key] = [factor * value for factor in (1.25 + 0.1 * k, 0.8, 0.5)]
    return filled(_changed(plugin, candidates))


@cache
def filled(plugin: Q, opened: bool = True) -> Q:
    """`plugin` with numbers for zeros and, if `opened`, every open hyper-parameter set, each to a different number."""
    hints, values = get_type_hints(type(plugin)), list(plugin.parameters().items())
    zeros = {key: (0.5,) for key, value in values if isinstance(value, float) and not value}
    given = {key: settings(hints[key], 0.8 - 0.13 * k, 2.0 + k) for k, (key, value) in enumerate(values) if value is None and opened}
    return _changed(plugin, {**zeros, **given})


def equivalent(plugin: Any, registry: Registry[Any]) -> tuple[Any, Process | None] | None:
    """The plugin that `same_as` names, with all parameters that both have, and the process on which they are the same; None: any.

    Args:
        plugin: The plugin. If a parameter that only it has is not at its default, nothing is the same.
        registry: Where the other is registered.

    Raises:
        LawError: It refuses the process on which it says that it is the same.
    """
    spec, _, on = (vars(type(plugin)).get("same_as") or "").partition(" on ")
    if not spec:
        return None
    other, values, stated = registry.build(spec), plugin.parameters(), parse(spec)[1]
    usual = {field.name: field.default for field in fields(plugin)}
    if any(value != usual[key] for key, value in values.items() if key not in other.parameters()):
        return None
    shared = {key: value for key, value in values.items() if key in other.parameters() and key not in stated}
    process = SDES.build(on) if on else None
    if process is not None and (reason := plugin.refuses(process)):
        raise LawError(f"It says that it is {spec} on {on}, but it {reason}.")
    return replace(other, **shared), process


def _changed(plugin: Q, candidates: dict[str, Sequence[Any]], works: Callable[[Q], bool] = lambda _: True) -> Q:
    """`plugin` with each hyper-parameter set to the first candidate that is valid, and works, together with those already set."""
    for key, found in candidates.items():
        for other in found:
            try:
                changed = replace(plugin, **{key: other})  # pyright: ignore[reportArgumentType]
                if works(changed):
                    plugin = changed
                    break
            except SdezooError:
                continue
    return plugin


def fitting_variants(sde: Any, event: Shape) -> list[Any]:
    """The `variants` of a process that take data of a given shape: lists hold one number, or one for each column of a table.

    Args:
        sde: The process.
        event: Shape of the data, without the batch.
    """
    return [variant for variant in variants(sde) if variant is sde or _takes(variant, event, sde)]


@cache
def _takes(variant: Any, event: Shape, sde: Any) -> bool:
    lists = {key: value for key, value in variant.parameters().items() if isinstance(value, tuple)}
    by_column = any(len(value) > 1 and value != sde.parameters()[key] for key, value in lists.items())
    if by_column and len(event) > 1:  # rows of more dimensions are no table: they have no columns
        return False
    if variant.row_shape is not None and variant.row_shape != event:
        return False
    if variant.support.event_dim > sde.support.event_dim:
        return event in events(variant)
    return all(len(value) == 1 for value in lists.values()) or (_has_prior(variant, event) and _has_input(variant, event))


def _has_input(sde: Any, event: Shape) -> bool:
    """Whether the network input of a variant with lists has one entry for each of the state, or as without the lists."""
    optional = {field.name for field in fields(sde) if field.default is None}
    without = replace(sde, **{key: None for key, value in sde.parameters().items() if isinstance(value, tuple) and key in optional})
    try:
        return sde.network_input_shape(event) == without.network_input_shape(event)
    except Exception:  # a process may raise anything on rows of another length
        return False


@cache
def smallest_event(sde: Process) -> Shape:
    """The smallest event shape to try: one entry, or for a support on whole rows three entries, or as many as its prior has."""
    return events(sde)[0]


@cache
def events(sde: Process) -> list[Shape]:
    """Event shapes to try, smallest first. A support on whole rows may accept rows of a single length only."""
    if sde.row_shape is not None:
        return [sde.row_shape]
    if not sde.support.event_dim:
        return [(1,), (1, 1), (2,), (2, 3)]
    return [event for event in ((3,), (2,), (4,), (2, 3), (2, 2)) if _has_prior(sde, event)] or [(3,)]


def event_at(sde: Process, start: float) -> Shape:
    """The event to try at a start: the smallest, and at some starts one of two entries, which shows how they depend.

    Args:
        sde: The process.
        start: Position of the data, in the normal numbers of `typical`.
    """
    most = _ENTRIES.get(start, 0)
    tried = [(1, 2), *events(sde)] if start == FLAT and sde.row_shape is None and not sde.support.event_dim else events(sde)
    fits = (event for event in tried if torch.Size(event).numel() > 1 and torch.Size(sde.state_shape((1, *event))[1:]).numel() <= most)
    return next(fits, smallest_event(sde))


@cache
def _has_prior(sde: Any, event: Shape) -> bool:
    like = torch.zeros(2, *event, dtype=torch.float64)
    try:
        x = sde.decode(sde.prior(tuple(like.shape), keyed(2), like))
    except Exception:  # a process may raise anything on rows of another length
        return False
    return x.shape == like.shape and bool(sde.support.check(x).all())


def typical(sde: Process, normals: Tensor) -> Tensor:
    """Map standard normal numbers to data in the support of a process, 0 to its centre.

    For an affine process with bijective `φ` this is `φ(z)`, for counts the whole number nearest to `8 eᶻ`.
    If `transform_to` does not know the support, the data are samples of the prior instead, of other discrete values but bits its quantiles.

    Args:
        sde: The process.
        normals: `(B, *event)`.

    Returns:
        Data `(B, *event)`.
    """
    if isinstance(sde, AffineSDE) and sde.coordinates.bijective:
        return sde.decode(normals[tuple(slice(n) for n in sde.state_shape(normals.shape))])
    if sde.support.is_discrete and sde.support.check(counts := (8 * normals.exp()).round()).all():
        return counts
    if sde.support is constraints.boolean:
        return (normals > 0).to(normals)
    if sde.support.is_discrete and not sde.support.event_dim:  # values of the prior, by their rank
        drawn = sde.decode(sde.prior((_DRAWN, *normals.shape[1:]), keyed(_DRAWN), normals)).flatten().sort().values
        return drawn[(torch.special.ndtr(normals.double()) * len(drawn)).long().clamp(max=len(drawn) - 1)].to(normals)
    try:
        to_support = transform_to(sde.support)
    except NotImplementedError:
        return sde.decode(sde.prior(normals.shape, keyed(len(normals), first=int(1000 * normals.double().sum())), normals))
    size = tuple(to_support.inverse_shape(normals.shape))
    image = to_support(normals[tuple(slice(n) for n in size)])
    assert image is not None
    return image


def inside(sde: Any, z: Tensor) -> Tensor:
    """Which states decode into the support, bool `(B,)`.

    Args:
        sde: The process.
        z: States, `(B, *state)`.
    """
    try:
        found = sde.support.check(sde.decode_unchecked(z))
    except SdezooError:
        found = sde.support.check(z)
    return found.reshape(len(z), -1).all(1)


@dataclass(frozen=True)
class Case:
    """A process, data and times: the case of most laws of processes."""

    sde: Any
    """The process."""
    normals: Tensor
    """The normal numbers that `typical` maps to the data, `(B, *event)`."""
    t: Tensor
    """Times, float64: 0-dim, or a column `(B, 1, …, 1)`."""
    seed: int = 0
    """Of the noise."""

    @property
    def x0(self) -> Tensor:
        """The data, `(B, *event)`."""
        return self._data.clone()

    def draw(self) -> Tensor:
        """Sample `z_t | x_0`."""
        return self._drawn.clone()

    @cached_property
    def _data(self) -> Tensor:  # several laws are tried on the same case
        return typical(self.sde, self.normals)

    @cached_property
    def _drawn(self) -> Tensor:
        return self.sde.perturb(self.x0, self.t, keyed(len(self.normals), self.seed))

    @property
    def column(self) -> Tensor:
        """The times as a column `(B, 1, …, 1)`."""
        count = len(self.normals)
        ones = (1,) * (len(self.sde.state_shape(self.normals.shape)) - 1)
        return self.t.reshape(-1).expand(count).reshape(count, *ones)

    @property
    def row(self) -> Case:
        """The case of the first row alone."""
        return Case(self.sde, self.normals[:1], self.t, self.seed)

    def __str__(self) -> str:
        x0 = [round(x, 6) for x in self.x0.flatten().tolist()]
        dtype = str(self.normals.dtype).removeprefix("torch.")
        t = [round(u, 6) for u in self.t.flatten().tolist()] if self.t.ndim else round(float(self.t), 6)
        return f"{self.sde.spec}, x0 = {x0} {tuple(self.x0.shape)} {dtype}, t = {t}, seed {self.seed}"


@st.composite
def process_cases(
    draw: st.DrawFn,
    sde: Process,
    *,
    rows: int = 3,
    shapes: Sequence[Shape] | None = None,
    dtypes: Sequence[torch.dtype] = (torch.float64, torch.float32),
    ends: tuple[float, float] = (0.0, 1.0),
    reach: float = 2.5,
) -> Case:
    """Hypothesis strategy for cases of a process.

    Args:
        sde: The process; its variants are tried too.
        rows: Largest number of rows.
        shapes: Event shapes to choose from; None: those of `events`.
        dtypes: Dtypes of the data to choose from.
        ends: First and last time, as fractions of `t_span`.
        reach: Largest absolute value of the normal numbers behind the data.
    """
    event = draw(st.sampled_from(list((not sde.row_shape and shapes) or events(sde))))
    chosen: Any = draw(st.sampled_from(fitting_variants(sde, event)))
    count = draw(st.integers(1, rows))
    size = count * int(torch.Size(event).numel())
    numbers = draw(st.lists(st.floats(-reach, reach, width=32).map(lambda x: round(x, 2)), min_size=size, max_size=size))
    dtype = draw(st.sampled_from(list(dtypes)))
    normals = torch.tensor(numbers, dtype=torch.float64).reshape(count, *event).to(dtype)
    low, high = ends
    share = st.sampled_from([(low + high) / 2, low, high]) | st.floats(low, high)
    lo, hi = chosen.t_span
    columns = draw(st.booleans())
    shares = draw(st.lists(share, min_size=count, max_size=count)) if columns else [draw(share)]
    t = torch.tensor([lo + (hi - lo) * u for u in shares], dtype=torch.float64)
    ones = (1,) * (len(chosen.state_shape((count, *event))) - 1)
    return Case(chosen, normals, t.reshape(count, *ones) if columns else t[0], draw(st.integers(0, 3)))


def each_variant(sde: Any) -> list[Case]:
    """One case of each of the `variants`, also `filled`, in float64: rows of two entries if it takes them. A search may leave some out."""
    found, every = [], variants(sde)
    kinds: list[Any] = [*every, busy(sde), *(filled(one) for one in every if _chosen(one, sde))]
    for variant in dict.fromkeys(kinds):
        event = next((event for event in events(sde)[::-1] if len(event) == 1 and _takes(variant, event, sde)), None)
        if event is not None:
            normals = torch.linspace(-0.7, 0.9, 2 * event[0], dtype=torch.float64).reshape(2, *event)
            found.append(Case(variant, normals, torch.tensor(sum(variant.t_span) / 2, dtype=torch.float64)))
    return found


def _chosen(one: Plugin, other: Plugin) -> bool:
    """Whether two plugins differ in a choice."""
    return any(isinstance(value, str) and value != other.parameters()[key] for key, value in one.parameters().items())


def wide_cases(sde: Process) -> st.SearchStrategy[Case]:
    """Cases of a process in float64."""
    return process_cases(sde, dtypes=(torch.float64,))
