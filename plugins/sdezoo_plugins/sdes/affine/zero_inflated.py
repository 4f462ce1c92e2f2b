"""Positive data with an atom at zero, such as rain, counts and spectra: a mark for each value says whether it is positive.

A distribution with an atom has no density from which a diffusion on the positive numbers could start, and `log 0` is not a state. Its
entries are `x = w 1[x > 0]`; if an entry is 0, nothing is known about `w`. The state holds logarithms and marks, concatenated along the
first dimension of the data::

    z_0 = (log(x/u)/s, +m)   where x > 0,        z_0 = (0, −m)   where x = 0
    x   = u e^{sζ}           where mark > 0,     x   = 0         elsewhere                    (ζ, mark) = z

Both are noised in the same way, `z_t = z_0 + √v ε`, `v = (σ_max/r)² (r^{2t} − 1)`. In the data that is geometric Brownian motion,
`dX = ½ s² g² X dt + s g X dW`, `g² = v'`, together with a Brownian motion of the mark. `u` is the geometric mean of the positive values
of a column, so that an entry that is 0 lies in the middle of the others. `s` is the deviation of their logarithms, or 1 for images. If
all positive values of a column are the same, `s = 0`, and each is exactly `u`. `m` is the root mean square of `ζ` for images. For tables
it is twice that, so that a mark is decided at more noise than a value.

Columns of a table that are 0 in exactly the same rows share a mark: no sample is 0 in some of them alone. Otherwise the network sees
values and marks of all entries at once, so that zeros co-occur as they do in the data. Samples are exactly 0 or positive, by
construction. The data have a joint distribution of zeros and values, and no density.

Noised marks for a mixed distribution: Chen, Zhang & Hinton, arXiv 2208.04202 (bits, rounded by their sign).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Self

import torch
from annotated_types import Gt
from torch import Tensor
from torch.distributions import constraints

from sdezoo.errors import ParameterError, SupportError, listed
from sdezoo.parameters import NonNegative, Positive
from sdezoo.process.affine import AffineSDE, Coefficients, leading_spread
from sdezoo.process.columns import ColumnFit
from sdezoo_plugins.sdes.shared.exploding import TERMINAL, WithMarks, exploding


class Marked(WithMarks):
    """`(ζ, mark)`, concatenated along the first dimension of an event, to `u e^{sζ}` if the mark is positive, else 0.

    Args:
        unit: `u`, one for each entry of the last dimension, or one for all.
        spread: `s`, one for each entry of the last dimension, or one for all.
        mark: `m`.
        groups: entries of the first dimension that share a mark, in disjoint groups.
    """

    codomain = constraints.nonnegative

    def __init__(self, unit: tuple[float, ...], spread: tuple[float, ...], mark: float, groups: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        self.unit, self.spread, self.mark = unit, spread, mark
        self.first = {i: group[0] for group in groups for i in group}
        self.shared = sum(len(group) - 1 for group in groups)

    def owners(self, entries: int) -> list[int]:
        """The entries whose marks are kept, one of each group."""
        return [i for i in range(entries) if self.first.get(i, i) == i]

    def marks(self, x: Tensor) -> Tensor:
        """The mark of each entry; `x` holds values and marks."""
        count = self.forward_shape(x.shape)[1]
        places = {i: k for k, i in enumerate(self.owners(count))}
        return x[:, [count + places[self.first.get(i, i)] for i in range(count)]]

    def _call(self, x: Tensor) -> Tensor:
        mark = self.marks(x)
        log = x[:, : mark.shape[1]]
        return torch.where(mark > 0, (x.new_tensor(self.spread) * log).exp() * x.new_tensor(self.unit), torch.zeros_like(log))

    def _inverse(self, y: Tensor) -> Tensor:
        there = y > 0
        spread = y.new_tensor(self.spread)
        log = torch.where(there, y / y.new_tensor(self.unit), torch.ones_like(y)).log()
        log = torch.where(spread > 0, log / torch.where(spread > 0, spread, 1.0), 0.0)
        return torch.cat([log, torch.where(there, self.mark, -self.mark).to(y)[:, self.owners(y.shape[1])]], 1)


@dataclass(frozen=True)
class ZeroInflated(AffineSDE):
    """Geometric Brownian motion for positive data with exact zeros: each value has a mark, noised too, that says whether it is positive."""

    papers: ClassVar[tuple[str, ...]] = ("chen2023analog",)

    sigma_max: Positive | None = None
    """Terminal standard deviation of the noise in coordinates; None: four times the data's leading principal standard deviation."""
    growth: Annotated[float, Gt(1)] = 50.0
    """`r`, the growth of the noise: its scale near `t = 0` is `sigma_max / r`."""
    mark: Positive | None = None
    """Size `m` of a mark; None: the root mean square of the `ζ` of positive values, for a table twice that."""
    unit: tuple[Positive, ...] | None = None
    """`u`, the divisor of the values, one number per column or one for all; None: the geometric means of the positive values."""
    spread: tuple[NonNegative, ...] | None = None
    """`s`, one number per column or one for all; None: the standard deviation of the logarithms of a column's positive values, 1 for
    images."""
    together: tuple[str, ...] | None = None
    """Groups of columns that share a mark, as numbers from 0, such as (0+2,1+3); (): none; None: columns of a table that are 0 in the same
    rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        columns = [column for group in self.together or () for column in group.split("+")]
        if not all(map(str.isdecimal, columns)) or any("+" not in group for group in self.together or ()):
            raise ParameterError(
                f"{self.title()}: together={self.together} are no groups of columns.", "Join their numbers, as in (0+2,1+3)."
            )
        if len({*map(int, columns)}) < len(columns):
            raise ParameterError(f"{self.title()}: a column is in two groups of together={self.together}.", "Give each column once.")

    @cached_property
    def groups(self) -> list[list[int]]:
        """The columns that share a mark."""
        return [sorted(map(int, group.split("+"))) for group in self.together or ()]

    @classmethod
    def column_fit(cls, column: Tensor) -> ColumnFit | None:
        if column.min() != 0:
            return None
        return ColumnFit(2, f"not negative, {float((column == 0).double().mean()):.1%} zeros", cls.title())

    def rounds_up(self, event: Sequence[int]) -> Tensor:
        return torch.ones(tuple(event), dtype=torch.bool)

    def adapted(self, x0: Tensor) -> Self:
        there = x0 > 0
        logs = torch.where(there, x0, torch.ones_like(x0)).double().log()
        unit, spread, mark = self.unit, self.spread, self.mark
        if unit is None:
            axes = 0 if x0.ndim == 2 else tuple(range(x0.ndim))
            unit = tuple((logs.sum(axes) / there.sum(axes).clamp_min(1)).exp().reshape(-1).tolist())
        if spread is None and x0.ndim == 2 and self.sigma_max is None:
            spread = tuple(_deviation(column[positive]) for column, positive in zip(logs.T, there.T, strict=True))
        if mark is None:
            s = logs.new_tensor(spread or (1.0,))
            away = torch.where(s > 0, (logs - logs.new_tensor(unit).log()) / torch.where(s > 0, s, 1.0), 0.0)
            size = float((away * there).square().sum() / there.sum().clamp_min(1)) ** 0.5
            mark = (2 * size if x0.ndim == 2 else size) or 1.0
        together = self.together if self.together is not None or x0.ndim != 2 else _together(there)
        measured = replace(self, unit=unit, spread=spread, mark=mark, together=together)
        if self.sigma_max is not None:
            return measured
        return replace(measured, sigma_max=TERMINAL * leading_spread(measured.encode(x0)))

    @property
    def coordinates(self) -> Marked:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Marked(self.unit or (1.0,), self.spread or (1.0,), self.mark or 1.0, self.groups)

    def findings(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(
            f"{listed([names[i] for i in group])} are 0 in the same rows, and so they are in samples ({self.title()}:together=() if not)"
            for group in self.groups
        )

    def known_entries(self, known: Tensor) -> Tensor:
        """The value of each known entry, and the mark of each of which an entry is known."""
        marks = known.clone()
        for group in self.groups:
            marks[:, group[0]] = known[:, group].any(1)
        return torch.cat([known, marks[:, self.coordinates.owners(known.shape[1])]], 1)

    def decode(self, z: Tensor) -> Tensor:
        x = super().decode(z)
        lost = int(((x == 0) & (self.coordinates.marks(z) > 0)).sum())
        if lost:
            raise SupportError(f"{self.title()}: {lost} positive values are too small for {z.dtype} once decoded.", "Decode in float64.")
        return x

    def coefficients(self, t: Tensor) -> Coefficients:
        return exploding(t, (self.sigma_max or TERMINAL) / self.growth, self.growth)


def _deviation(logs: Tensor) -> float:
    """Standard deviation of `logs` `(n,)`; exactly 0 if all are the same, or there are none."""
    return float(logs.std()) if len(logs.unique()) > 1 else 0.0


def _together(there: Tensor) -> tuple[str, ...]:
    """The groups of columns of `there`, `(N, d)`, that are false in the same rows."""
    columns: dict[bytes, list[int]] = {}
    for i, column in enumerate(there.T):
        if not column.all():
            columns.setdefault(column.cpu().numpy().tobytes(), []).append(i)
    return tuple("+".join(map(str, group)) for group in columns.values() if len(group) > 1)
