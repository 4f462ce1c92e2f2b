"""Laws of what a process measures of data: nothing depends on what else was given, nor on where in the coordinates the data lie.

In coordinates the state of an affine process starts as the data and is noised to the level `σ/α`. If data are twice as wide there, the
last level is about twice as high, or the same; and it is about the same wherever their centre lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import events, typical
from sdezoo.conformance.evidence import close
from sdezoo.conformance.law import LawError, Suite
from sdezoo.errors import SdezooError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process, Shape

ADAPTING_LAWS: Suite[Process] = Suite()

_ROWS = 240
_CENTRE, _WIDTHS = 0.5, (0.6, 1.0)
_ALIKE = 0.01
"""Of two ways to measure the same, such as a variance of all entries or of each column; 240 rows may be off by a quarter of it."""


def _adapts_to_nothing(sde: Process) -> str | None:
    return "It adapts to no data." if type(sde).adapted is Process.adapted else None


def _normals(event: Shape) -> Tensor:
    """Normal numbers whose first and last entries differ in width, `(N, *event)`."""
    normals = Noise.seeded(18).normal(torch.zeros(_ROWS, *event, dtype=torch.float64))
    return normals * torch.linspace(*_WIDTHS, torch.Size(event).numel(), dtype=torch.float64).reshape(event)


def _data(sde: Process) -> Iterator[Tensor]:
    """Rows of one dimension, off the centre, and of two."""
    for event in [next((e for e in events(sde) if len(e) == 1 and e[0] > 1), events(sde)[0]), *[(2, 3)] * ((2, 3) in events(sde))]:
        yield typical(sde, _CENTRE + 0.5 * _normals(event))


@ADAPTING_LAWS.law(excuses=_adapts_to_nothing)
def what_is_given_changes_nothing_else(sde: Any) -> None:
    """If something of what it would measure is given, it measures the rest as if it were not."""
    for x0 in _data(sde):
        whole = sde.adapted(x0)
        measured = {key for key, value in whole.parameters().items() if value != sde.parameters()[key]}
        for key in sorted(measured):
            try:
                again = replace(whole, **{key: sde.parameters()[key]}).adapted(x0)
            except SdezooError:  # it does not go without, beside the others
                continue
            for name in sorted(measured):
                found, wanted = again.parameters()[name], whole.parameters()[name]
                if _numbers(found) is None or _numbers(wanted) is None:  # it stays open
                    continue
                try:
                    close(name, _numbers(found), _numbers(wanted), rtol=_ALIKE, atol=1e-9)  # pyright: ignore[reportArgumentType]
                except LawError as error:
                    given = ", ".join(sorted(measured - {key}))
                    raise LawError(f"With what it measures of data given for {given}: {error.what}", sde.spec) from None


def _numbers(value: Any) -> Tensor | None:
    if isinstance(value, float) or (isinstance(value, tuple) and all(isinstance(part, float) for part in value)):
        return torch.tensor(value, dtype=torch.float64)
    return None


def _no_level(sde: Process) -> str | None:
    if not isinstance(sde, AffineSDE):
        return "It is not affine."
    if not (sde.coordinates.bijective and sde.element_wise) or sde.row_shape is not None:
        return "Its coordinates are not those of single entries."
    return _adapts_to_nothing(sde)


@ADAPTING_LAWS.law(excuses=_no_level)
def noise_follows_the_spread_in_coordinates(sde: Any) -> None:
    """The last noise level goes with the spread of data in its coordinates, or is the same for all, wherever they lie; within 1.5."""
    for event in (2,), (2, 3):
        near, far, wide = (_relative(sde, event, *place) for place in ((0.0, 1.0), (_AWAY, 1.0), (0.0, _WIDER)))
        if not 1 / _CLOSE < far / near < _CLOSE:
            raise LawError(
                f"For data that lie elsewhere in its coordinates, the last noise level is {far / near:.3g} times as high.", sde.spec
            )
        if not any(1 / _CLOSE < grown * wide / near < _CLOSE for grown in (1.0, _WIDER)):
            raise LawError(
                f"For data {_WIDER:g} times as wide in its coordinates, the last noise level is {_WIDER * wide / near:.3g} times as high.",
                sde.spec,
            )


_AWAY, _WIDER, _CLOSE = 2.0, 3.0, 1.5
"""Where data lie, how wide they are, and a factor: some processes measure centre and spread in other coordinates."""


def _relative(sde: Any, event: Shape, centre: float, width: float) -> float:
    """The last noise level, over the spread of data in the coordinates that the process adapts to."""
    x0 = typical(sde, centre + width * 0.5 * _normals(event))
    whole = sde.adapted(x0)
    level = whole.noise_level(torch.tensor(whole.t_span[1], dtype=torch.float64))
    return float(level) / float(whole.encode(x0).flatten(1).var(0).sum().sqrt())
