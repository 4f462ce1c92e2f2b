"""Laws of the data that a process takes and gives back: the columns for which it offers itself, and states far out.

Along a ray from the origin states differ more and more. Where two states near the origin decode to different data, so must two far out, or
`decode` refuses: else values that overflow, or round to the end of the support, come back as if they were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import fitting_variants, smallest_event, typical
from sdezoo.conformance.law import LawError, Suite
from sdezoo.errors import SdezooError, SupportError
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process, Shape
from sdezoo.zoo.registry import SDES
from sdezoo.zoo.spec import parse

DATA_LAWS: Suite[Process] = Suite()

_VALUES = 240
_RAYS = 64
_NEAR, _FAR = (0.5, 1.0), (1e3, 2e3)


def _offers_itself(sde: Process) -> str | None:
    own = type(sde)
    silent = all(getattr(own, name).__func__ is getattr(Process, name).__func__ for name in ("column_fit", "shares_fit"))
    return "It offers itself for no columns." if silent else None


@DATA_LAWS.law(excuses=_offers_itself)
def columns_that_fit_are_taken(sde: Any) -> None:
    """The process that `column_fit`, or `shares_fit`, names takes the column: its values are in the support, and come back."""
    for title, column in _columns():
        _taken(sde, type(sde).column_fit(column), column[:, None], title)
    for title, rows in _shares():
        _taken(sde, type(sde).shares_fit(rows), rows, title)


def _columns() -> Iterator[tuple[str, Tensor]]:
    """Columns of all kinds, float64 `(N,)`, with what they are."""
    noise, like = Noise.seeded(11), torch.zeros(_VALUES, dtype=torch.float64)
    normal, share = noise.normal(like), noise.uniform(like)
    some = torch.arange(_VALUES) % 10
    yield "real numbers", normal
    yield "positive numbers", normal.exp()
    yield "positive numbers and zeros", torch.where(some == 0, 0.0, normal.exp())
    yield "negative numbers and zeros", torch.where(some == 0, 0.0, -normal.exp())
    yield "real numbers, a tenth of them zero", torch.where(some == 0, 0.0, normal)
    yield "counts", (4 * normal.exp()).round()
    yield "whole numbers of both signs", (3 * normal).round()
    yield "numbers between 0 and 1", 0.01 + 0.98 * share
    yield "numbers from 0 to 1, with both", torch.where(some < 2, some.double(), share)
    yield "numbers of which many lie at both ends", normal.clamp(-1, 1)
    yield "bits", (share < 0.4).double()


def _shares() -> Iterator[tuple[str, Tensor]]:
    noise = Noise.seeded(12)
    parts = noise.normal(torch.zeros(_VALUES, 3, dtype=torch.float64)).exp()
    yield "positive shares", parts / parts.sum(1, keepdim=True)
    holed = torch.where(torch.arange(_VALUES * 3).reshape(_VALUES, 3) % 7 == 0, 0.0, parts)
    yield "shares, some of them zero", holed / holed.sum(1, keepdim=True)


def _taken(sde: Any, fit: Any, x: Tensor, title: str) -> None:
    if fit is None:
        return
    named = SDES.build(fit.spec) if SDES.entries(parse(fit.spec)[0]) else sde
    inside = named.support.check(x.float())  # float32, as in training
    if not inside.all():
        raise LawError(f"It offers '{fit.spec}' for {title}; {int((~inside).sum())} of {inside.numel()} are outside of its support.")
    _comes_back(named, x, f"It offers '{fit.spec}' for {title}, and")


def _comes_back(sde: Any, x: Tensor, where: str) -> None:
    """Check that a process adapts to data, takes them, and gives them back."""
    try:
        adapted = sde.adapted(x)
        z = adapted.encode(x, Noise.seeded(13))
        if not z.isfinite().all():
            raise LawError(f"{where} encodes them as numbers that are not finite.")
        back = adapted.decode(z)
    except SdezooError as error:
        raise LawError(f"{where} refuses them: {error.problem}") from None
    if not torch.allclose(back, x, rtol=1e-6, atol=1e-8):
        raise LawError(f"{where} `decode(encode(x))` differs from them by {float((back - x).abs().max()):.3g}.")


def _one_column(sde: Process) -> str | None:
    if sde.support.event_dim or (sde.row_shape and torch.Size(sde.row_shape).numel() < len(_WIDTHS)):
        return "Its support is one of whole rows, or a row has fewer columns."
    return None if type(sde).adapted is not Process.adapted else "It adapts to no data."


def _own_columns(sde: Process) -> str | None:
    return "Its columns are not alike: rows have a fixed shape." if sde.row_shape else _one_column(sde)


@DATA_LAWS.law(excuses=_own_columns)
def columns_are_adapted_alike(sde: Any) -> None:
    """Columns in another order give what is measured of each in that order, and the same for what is measured of all."""
    event = (len(_WIDTHS),)
    normals = Noise.seeded(16).normal(torch.zeros(_VALUES, *event, dtype=torch.float64))
    x0 = typical(sde, normals * torch.tensor(_WIDTHS).double())
    order = [1, 2, 0]
    found, turned = sde.adapted(x0), sde.adapted(x0[..., order])
    for key, value in found.parameters().items():
        other = turned.parameters()[key]
        by_column = isinstance(value, tuple) and len(value) == event[-1]
        expected = tuple(value[k] for k in order) if by_column else value
        if not _equal(expected, other):
            raise LawError(f"{key} is {expected} if columns are put in another order afterwards, and {other} if before.")


@DATA_LAWS.law(excuses=_one_column)
def constant_columns_are_taken(sde: Any) -> None:
    """A process adapts to data of which a column is constant, and gives that column back."""
    event = sde.row_shape or (len(_WIDTHS),)
    normals = Noise.seeded(17).normal(torch.zeros(_VALUES, *event, dtype=torch.float64))
    normals[..., 0] = 0.4
    _comes_back(sde, typical(sde, normals), "Of data of which a column is constant, it")


_WIDTHS = (0.6, 1.0, 0.3)
"""Of the columns of data to adapt to."""


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are equal, to rounding. Texts are not compared: numbers in them may be rounded differently."""
    if isinstance(one, str):
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return one == other


def _decodes_rows(sde: Process) -> str | None:
    if sde.support.event_dim or sde.support.is_discrete:
        return "Its support is one of whole rows, or discrete."
    return None


@DATA_LAWS.law(excuses=_decodes_rows)
def far_states_keep_apart(sde: Any) -> None:
    """Far out `decode` refuses, or keeps states apart as it does nearer; only an end of the support may take a whole stretch of states."""
    event = smallest_event(sde)
    for kind in fitting_variants(sde, event):
        like = torch.zeros(_RAYS, *event, dtype=torch.float64)
        z = kind.prior(tuple(like.shape), Noise.seeded(14), like).double()
        first, second, far, farther = (_decoded(kind, share * z, event) for share in (*_NEAR, *_FAR))
        lost = (first != second) & (far == farther)
        if not lost.any():
            continue
        data = torch.where(lost, far, first)
        middle = _decoded(kind, (kind.encode(data, Noise.seeded(15)).double() + _FAR[0] * z) / 2, event)
        lost &= ~(_at_an_end(kind, far) & (middle == far))
        if lost.any():
            what = f"States {_FAR[0]:g} and {_FAR[1]:g} times as far out as one of the prior both decode to {float(far[lost][0]):.6g}."
            raise LawError(what, kind.spec)


def _at_an_end(sde: Any, x: Tensor) -> Tensor:
    ends = [getattr(sde.support, name, torch.nan) for name in ("lower_bound", "upper_bound")]
    return (x == torch.as_tensor(ends[0]).to(x)) | (x == torch.as_tensor(ends[1]).to(x))


def _decoded(sde: Any, z: Tensor, event: Shape) -> Tensor:
    """The data of each row, `(B, *event)`; NaN for rows that are refused, which equals nothing."""
    rows = []
    for row in z:
        try:
            rows.append(sde.decode(row[None]))
        except SupportError:
            rows.append(torch.full((1, *event), torch.nan, dtype=z.dtype))
    return torch.cat(rows)
