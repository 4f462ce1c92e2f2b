"""Cases: the plugins, data, times and dtypes that laws are tried on.

Hypothesis draws them, simplest first: the plugin as it is, one row, one entry, a time in the middle, data at the
centre of their support. Data of every support that `torch.distributions.transform_to` knows are the image of a few
standard normal numbers; for others, of the process's own prior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import transform_to

from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.errors import SdezooError
from sdezoo.parameters import Plugin
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Process, Shape

Q = TypeVar("Q", bound=Plugin)

_FACTORS = (1.25, 0.5, 2.0)
_OPEN = (0.8, 0.5)


@cache
def variants(plugin: Q) -> list[Q]:
    """`plugin`, and a few like it with one hyper-parameter changed: scaled, given where it was open, or chosen differently."""
    found = [plugin]
    for key, value in plugin.parameters().items():
        for other in _others(type(plugin), key, value):
            try:
                found.append(replace(plugin, **{key: other}))  # pyright: ignore[reportArgumentType]
            except SdezooError:  # out of its range
                continue
    return found


@cache
def unusual(plugin: Q, usual: frozenset[str]) -> Q:
    """`plugin` with every hyper-parameter changed, but for those that are `usual`: what its defaults switch off is tried too."""
    values = plugin.parameters().items()
    return _changed(plugin, {key: _others(type(plugin), key, value) for key, value in values if key not in usual})


@cache
def busy(plugin: Q) -> Q:
    """`plugin` with every number that is left open given, each a different one."""
    values = plugin.parameters().items()
    return _changed(plugin, {key: (0.8 - 0.13 * k, 2.0 + k) for k, (key, value) in enumerate(values) if value is None})


def _changed(plugin: Q, candidates: dict[str, Sequence[Any]]) -> Q:
    """`plugin` with each hyper-parameter set to the first of its candidates that is allowed beside those set before."""
    for key, others in candidates.items():
        for other in others:
            try:
                plugin = replace(plugin, **{key: other})  # pyright: ignore[reportArgumentType]
                break
            except SdezooError:
                continue
    return plugin


def _others(cls: type[Plugin], key: str, value: Any) -> Sequence[Any]:
    hint = get_type_hints(cls)[key]
    choices = [choice for kind in (hint, *get_args(hint)) if get_origin(kind) is Literal for choice in get_args(kind)]
    if choices:
        return [choice for choice in choices if choice != value]
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1]
    if isinstance(value, float):
        return [factor * value for factor in _FACTORS] if value else [0.5]
    return _OPEN if value is None else []


@cache
def smallest_event(sde: Process) -> Shape:
    """The smallest event to try: one entry; where the support judges whole rows, three, or as many as its prior has."""
    return events(sde)[0]


@cache
def events(sde: Process) -> list[Shape]:
    """Event shapes to try, smallest first. A support that judges whole rows may be that of rows of one length alone."""
    if not sde.support.event_dim:
        return [(1,), (1, 1), (2,), (2, 3)]
    return [event for event in ((3,), (2,), (4,), (2, 3), (2, 2)) if _has_prior(sde, event)] or [(3,)]


def _has_prior(sde: Process, event: Shape) -> bool:
    like = torch.zeros(2, *event, dtype=torch.float64)
    try:
        x = sde.decode(sde.prior(tuple(like.shape), keyed(2), like))
    except Exception:  # whatever a process raises on rows that are not its own
        return False
    return x.shape == like.shape and bool(sde.support.check(x).all())


def typical(sde: Process, normals: Tensor) -> Tensor:
    """Data `(B, *event)` in the support of `sde`, the image of standard normal numbers of that shape, `0` at its centre.

    Affine processes whose `φ` is bijective: `φ(z)`. Supports that `transform_to` does not know: draws of the prior.
    """
    if isinstance(sde, AffineSDE) and sde.coordinates.bijective:
        state = sde.state_shape(normals.shape)
        return sde.decode(normals[tuple(slice(n) for n in state)])
    try:
        to_support = transform_to(sde.support)
    except NotImplementedError:
        return sde.decode(sde.prior(normals.shape, keyed(len(normals), first=int(1000 * normals.double().sum())), normals))
    size = tuple(to_support.inverse_shape(normals.shape))
    image = to_support(normals[tuple(slice(n) for n in size)])
    assert image is not None
    return image


@dataclass(frozen=True)
class Case:
    """A process, data, and times: what most laws of processes are tried on."""

    sde: Any
    normals: Tensor
    """What the data are the image of, `(B, *event)`."""
    t: Tensor
    """0-dim float64, or a column `(B, 1, …, 1)`."""
    seed: int = 0

    @property
    def x0(self) -> Tensor:
        """The data."""
        return typical(self.sde, self.normals)

    def draw(self) -> Tensor:
        """A draw of `z_t | x_0`."""
        return self.sde.perturb(self.x0, self.t, keyed(len(self.normals), self.seed))

    @property
    def column(self) -> Tensor:
        """The times as a column, one a row."""
        count = len(self.normals)
        ones = (1,) * (len(self.sde.state_shape(self.normals.shape)) - 1)
        return self.t.reshape(-1).expand(count).reshape(count, *ones)

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
    """Cases of `sde`: up to `rows` rows, event shapes among `shapes`, times between the shares `ends` of `t_span`, data within `reach`."""
    chosen: Any = draw(st.sampled_from(variants(sde)))
    event = draw(st.sampled_from(list(shapes or events(sde))))
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
