"""Columns of two or three values, alone or as the corners of a category: their part of a denoiser.

A bit, a mark of a missing value or the corners of a category are far from normal. What a noised row says about the columns `y` of a group
is, in a normal model with mean `μ`, covariance `P` of the error and correlation `R`, a Gaussian factor: the quotient of `N(μ, P)` and
`N(0, R)` on the plane of the corners (as in expectation propagation, Minka, UAI 2001). Multiplied with the shares `p_k` of the corners
`c_k` it gives their probabilities, and the mean that takes the place of `μ`::

    E = Σ_k π_k c_k,      π_k ∝ p_k exp(c_kᵀ P⁺ μ − c_kᵀ (P⁺ − R⁺) c_k / 2)

For groups that are independent of each other this is exact. A network that has yet to learn at which noise a rare category is decided takes
it too seldom; behind this denoiser it need not learn it.

A value beside a mark, such as the logarithm of a count that may be 0, or a number that may be missing, is *gated*: at one value of the
bit it is a constant `s`, and else `N(m, v)`. Far from normal too, it would have the spread of both together. What the row says of it is
the quotient of the normal laws `N(μ, P)` and `N(0, 1)`, an observation `ŷ` with variance `q`. The ratio of `N(ŷ; m, v + q)` and
`N(ŷ; s, q)` multiplies the odds of the bit, and its probability `π` is that of the value::

    E = π (m + v (ŷ − m)/(v + q)) + (1 − π) s,      ŷ = μ (1 + q),      q = P/(1 − P)

A column of three values `c_k`, such as a mark of two walls, is observed alone. The value beside such a mark is gated by the middle one::

    E = Σ_k π_k c_k,      π_k ∝ p_k exp(−(ŷ − c_k)²/2q)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sdezoo.learning.known.tabulated import at_level, times

_NEVER, _THREE = -1e30, 3
_FIRST = 1024
"""Rows that rule out most of what does not hold in all."""
_RARE = 12
"""A value is gated if so many rows are on each side of its mark."""


class Corners(nn.Module):
    """The posterior means of columns of two values.

    Args:
        clean: of each column the two values, the share of the larger, and the number of its group, `(d, 4)`; −1 for other columns. In a
            group of several columns exactly one has its larger value. A column that is a group by itself is a bit. If there are gated
            columns, `(d, 9)`: of each the number of its bit, 1 if it varies at the larger value of the bit, else 0, then `s`, `m` and `v`.
            The number of a column that is not gated is −1.
        correlation: `R`, float64 `(d, d)`.
        errors: `P` at each level, float64 `(K, d, d)`.
        noise: `τ` at each level, float64 `(K, d)`.

    Raises:
        ValueError: if `clean` is not of such a form.
    """

    clean: Tensor
    evidence: Tensor
    """`P⁺ T²/(1 + T²)` of the groups, a factor on each side, `(K, d, d)`."""
    offsets: Tensor
    """`−c_kᵀ (P⁺ − R⁺) c_k / 2`, of a bit the difference of its two values, times `τ²/(1 + τ²)`, `(K, d)`."""
    places: Tensor
    """The columns of each group, one below the other, filled up, `(most, groups)`."""
    inverse: Tensor
    """Where each column is among them, row after row, `(d,)`."""
    log_odds: Tensor
    """`log p_k`, of a bit `log p/(1 − p)`, `(d,)`."""
    gated: Tensor
    """The gated columns."""
    precision: Tensor
    """`τ²/q` of the gated columns, `(K, gated)`."""

    def __init__(self, clean: Tensor, correlation: Tensor, errors: Tensor, noise: Tensor) -> None:
        super().__init__()
        d = len(correlation)
        groups = groups_of(clean) if clean.shape in ((d, 4), (d, 9)) and bool(clean.isfinite().all()) else []
        gated = (clean[:, 4] >= 0).nonzero().flatten().cpu() if clean.shape == (d, 9) else torch.empty(0, dtype=torch.int64)
        bits_of = clean[gated, 4].long().cpu() if len(gated) else gated
        single = {group[0] for group in groups if len(group) == 1}
        if not groups or not {*bits_of.tolist()} <= single or (len(gated) and float(clean[gated, 8].min()) <= 0):
            raise ValueError("no columns of two values")
        self.register_buffer("clean", clean)
        scale = noise / (1 + noise**2).sqrt()
        evidence, offsets = torch.zeros_like(errors), torch.zeros_like(noise)
        low, high = clean[:, 0].double().cpu(), clean[:, 1].double().cpu()
        for group in groups:
            block = (slice(None), torch.tensor(group)[:, None], torch.tensor(group))
            corners = low[group] + torch.diag(high[group] - low[group])  # (corners, columns)
            plane = torch.linalg.qr((corners[1:] - corners[0]).T).Q if len(group) > 1 else torch.ones(1, 1, dtype=torch.float64)
            inner = [plane @ torch.linalg.inv(plane.T @ part @ plane) @ plane.T for part in (correlation[block[1:]], errors[block])]
            gain = inner[1] - inner[0]
            square = ((corners @ gain) * corners).sum(-1)
            if len(group) == 1:
                square = square - low[group] ** 2 * gain[..., 0]
            evidence[block] = inner[1] * scale[:, group, None] * scale[:, None, group]
            offsets[:, group] = -square / 2 * scale[:, group] ** 2
        self.register_buffer("evidence", evidence.float(), persistent=False)
        self.register_buffer("offsets", offsets.float(), persistent=False)
        most = max(2, *map(len, groups))
        # Beside the columns stand a corner without evidence, for bits, and one that never is.
        places = [[*group, *([d] if len(group) == 1 else [])] for group in groups]
        self.register_buffer("places", torch.tensor([[*each, *[d + 1] * (most - len(each))] for each in places]).T, persistent=False)
        inverse, bits = torch.zeros(d, dtype=torch.int64), torch.zeros(d, dtype=torch.bool)
        for g, group in enumerate(groups):
            inverse[group] = torch.arange(len(group)) * len(groups) + g
            bits[group] = len(group) == 1
        self.register_buffer("inverse", inverse, persistent=False)
        self.register_buffer("gated", gated, persistent=False)
        self.register_buffer("precision", _precision(errors, noise)[:, gated], persistent=False)
        share = clean[:, 2].double().cpu()
        self.register_buffer("log_odds", torch.where(bits, share.logit(), share.log()).float(), persistent=False)

    @staticmethod
    def find(rows: Tensor) -> Tensor | None:
        """Find the columns of two values, and those of which exactly one has its larger value in each row.

        Args:
            rows: standardized rows `(N, d)`, float64. Columns that never change may stand among those of a category.

        Returns:
            `clean`, float32; None if there are no such columns.
        """
        low, high = rows.amin(0), rows.amax(0)
        still = low == high
        ups = (rows == high) & ~still
        two = (ups | (rows == low)).all(0) & ~still
        if not two.any():
            return None
        number, group, start = torch.full((rows.shape[1],), -1.0, dtype=torch.float64), 0.0, 0
        while start < rows.shape[1]:
            stop = start + 1
            if two[start]:
                sums = ups[:_FIRST, start:].long().cumsum(1)
                # A category that no row has is a column that never changes.
                whole = ((sums == 1).all(0) & (two | still)[start:].long().cumprod(0).bool()).nonzero().flatten() + start + 1
                stop = next((end for end in whole.tolist() if bool((ups[:, start:end].sum(1) == 1).all())), stop)
                number[start:stop] = torch.where(two[start:stop], group, number[start:stop])
                group += 1
            start = stop
        clean = torch.stack([low, high, ups.double().mean(0), number], 1)
        gates = _gates(rows, ups, clean)
        return (clean if gates is None else torch.cat([clean, gates], 1)).float()

    def forward(self, mean: Tensor, k: Tensor, share: Tensor, s: Tensor, tau: Tensor) -> Tensor:
        """`E − μ`, 0 for other columns.

        Args:
            mean: `μ`, `(B, d)`.
            k: the next of the tabulated levels, `(B,)` or `(1,)`.
            share: the share of the way to it.
            s: `√(1 + τ²)` at that level, broadcasts against `(B, d)`.
            tau: `τ`, likewise.
        """
        evidence = at_level(self.evidence, k, share, mean)
        offset = at_level(self.offsets, k, share, mean)
        low, high, _, group = self.clean[:, :4].to(mean).unbind(-1)
        factor = s / tau
        odds = (high - low) * factor * times(evidence, factor * mean) + factor**2 * offset
        odds = odds + self.log_odds.to(mean)
        if len(self.gated):
            return self._with_gates(mean, k, share, tau, odds)
        return torch.where(group >= 0, self._means(odds) - mean, 0.0)

    def _means(self, odds: Tensor) -> Tensor:
        """`E` of the columns of two values, from the odds of their larger values."""
        low, high = self.clean[:, :2].to(odds).unbind(-1)
        beside = torch.cat([odds, torch.zeros_like(odds[:, :1]), torch.full_like(odds[:, :1], _NEVER)], -1)
        # Over the first dimension, since torch is 25 times slower over a short last one.
        chances = beside.T[self.places].softmax(0).flatten(0, 1)[self.inverse].T
        return low + (high - low) * chances

    def _with_gates(self, mean: Tensor, k: Tensor, share: Tensor, tau: Tensor, odds: Tensor) -> Tensor:
        """`E − μ` where columns are gated."""
        number, side, spike, centre, wide = self.clean[self.gated, 4:].to(mean).unbind(-1)
        at, sign = number.long(), 2 * side - 1
        q = tau.expand_as(mean)[:, self.gated] ** 2 / at_level(self.precision, k, share, mean)
        seen = mean[:, self.gated] * (1 + q)
        odds = odds.index_add(1, at, sign * _gate_odds(seen, q, spike, centre, wide))
        value = _gated_mean((sign * odds[:, at]).sigmoid(), seen, q, spike, centre, wide)
        found = torch.where(self.clean[:, 3] >= 0, self._means(odds), mean)
        return found.index_copy(1, self.gated, value) - mean


class Piles(nn.Module):
    """The posterior means of columns of three values.

    Args:
        clean: for each such column its number, the three values, increasing, the shares of the least and of the greatest, and the number of
            the column beside it, −1 if there is none, then `s`, `m` and `v`, `(n, 10)`.
        errors: `P` at each level, float64 `(K, d, d)`.
        noise: `τ` at each level, float64 `(K, d)`.

    Raises:
        ValueError: if `clean` is not of such a form.
    """

    clean: Tensor
    precision: Tensor
    """`τ²/q` of the columns at each level, `(K, d)`."""
    at: Tensor
    """The columns."""
    gating: Tensor
    """Which of them have a value beside them."""
    beside: Tensor
    """The columns of these values."""

    def __init__(self, clean: Tensor, errors: Tensor, noise: Tensor) -> None:
        super().__init__()
        d = noise.shape[1]
        formed = clean.ndim == 2 and clean.shape[1] == 10 and len(clean) > 0 and bool(clean.isfinite().all())
        if not formed or not _valid(clean.double().cpu(), d):
            raise ValueError("no columns of three values")
        self.register_buffer("clean", clean)
        gating = (clean[:, 6] >= 0).nonzero().flatten()
        for name, places in {"at": clean[:, 0].long(), "gating": gating, "beside": clean[gating, 6].long()}.items():
            self.register_buffer(name, places, persistent=False)
        self.register_buffer("precision", _precision(errors, noise), persistent=False)

    @staticmethod
    def find(rows: Tensor, taken: Tensor | None = None) -> Tensor | None:
        """Find the columns of three values, and those that vary in the rows of the middle one alone.

        Args:
            rows: standardized rows `(N, d)`, float64.
            taken: columns that are not to be gated, bool `(d,)`; None: none.

        Returns:
            `clean`, float32; None if there are no such columns.
        """
        found, free = [], torch.ones(rows.shape[1], dtype=torch.bool) if taken is None else ~taken
        few = [i for i, column in enumerate(rows.T) if len(column[:_FIRST].unique()) <= _THREE and len(column.unique()) == _THREE]
        free[few] = False  # a column of three values is no value beside another
        for i in few:
            column, values = rows[:, i], rows[:, i].unique()
            inside = column == values[1]
            gate = [-1.0, 0.0, 0.0, 1.0]
            if min(int(inside.sum()), int((~inside).sum())) >= _RARE:
                away, there = rows[~inside], rows[inside]
                still = (away == away[0]).all(0) & (there.amin(0) < there.amax(0)) & free
                if still.any():
                    j = int(still.nonzero()[0])
                    free[j] = False
                    gate = [float(j), float(away[0, j]), float(there[:, j].mean()), float(there[:, j].var())]
            shares = [float((column == value).double().mean()) for value in (values[0], values[2])]
            found.append([float(i), *values.tolist(), *shares, *gate])
        return torch.tensor(found) if found else None

    def forward(self, mean: Tensor, k: Tensor, share: Tensor, tau: Tensor) -> Tensor:
        """`E − μ`, 0 for other columns.

        Args:
            mean: `μ`, `(B, d)`.
            k: the next of the tabulated levels, `(B,)` or `(1,)`.
            share: the share of the way to it.
            tau: `τ` at that level, broadcasts against `(B, d)`.
        """
        q = (tau**2 / at_level(self.precision, k, share, mean)).expand_as(mean)
        seen, (values, shares, gates) = mean * (1 + q), self.clean.to(mean)[:, 1:].split([3, 2, 4], 1)
        low, high = shares.log().unbind(1)
        logs = torch.stack([low, torch.log1p(-shares.sum(1)), high], 1)
        low, middle, high = (logs - (seen[:, self.at, None] - values) ** 2 / (2 * q[:, self.at, None])).unbind(-1)
        spike, centre, wide = gates[self.gating, 1:].unbind(1)
        y, r = seen[:, self.beside], q[:, self.beside]
        middle = middle.index_add(1, self.gating, _gate_odds(y, r, spike, centre, wide))
        chances = torch.stack([low, middle, high]).softmax(0)
        value = _gated_mean(chances[1][:, self.gating], y, r, spike, centre, wide)
        found = torch.zeros_like(mean).index_copy(1, self.at, (chances * values.T[:, None]).sum(0) - mean[:, self.at])
        return found.index_copy(1, self.beside, value - mean[:, self.beside])


def _precision(errors: Tensor, noise: Tensor) -> Tensor:
    """`τ²/q` of all columns at each level, `(K, d)`."""
    error = errors.diagonal(dim1=-2, dim2=-1)
    return (noise**2 * (1 - error) / error).float()


def _gate_odds(y: Tensor, q: Tensor, spike: Tensor, centre: Tensor, wide: Tensor) -> Tensor:
    """The logarithm of `N(ŷ; m, v + q)/N(ŷ; s, q)`: what a gated value says of its mark."""
    return (y - spike) ** 2 / (2 * q) - (y - centre) ** 2 / (2 * (wide + q)) - torch.log1p(wide / q) / 2


def _gated_mean(there: Tensor, y: Tensor, q: Tensor, spike: Tensor, centre: Tensor, wide: Tensor) -> Tensor:
    """`E` of a gated value, of which `there` is the probability `π` that it varies."""
    return there * (centre + wide / (wide + q) * (y - centre)) + (1 - there) * spike


def groups_of(clean: Tensor) -> list[list[int]]:
    """The columns of each group.

    Args:
        clean: see `Corners`.
    """
    numbers = [int(number) for number in clean[:, 3].tolist()]
    return [[i for i, each in enumerate(numbers) if each == group] for group in sorted({*numbers} - {-1})]


def _gates(rows: Tensor, ups: Tensor, clean: Tensor) -> Tensor | None:
    """Of each column its bit, the side at which it varies, the constant, and mean and variance elsewhere, `(d, 5)`; None: there are none.

    Of several bits at one value of which a column is constant, it is the one at which most rows are.
    """
    found, most = torch.full((len(clean), 5), -1.0, dtype=torch.float64), torch.zeros(len(clean))
    for (bit,) in (group for group in groups_of(clean) if len(group) == 1):
        for side in (1, 0):
            there = ups[:, bit] == bool(side)
            count = int((~there).sum())
            if min(len(rows) - count, count) < _RARE:
                continue
            first = rows[:_FIRST][~there[:_FIRST]]
            at = ((clean[:, 3] < 0) & (most < count) & (first == first[:1]).all(0)).nonzero().flatten()
            if not len(at):
                continue
            values, constant = rows[:, at][there], rows[:, at][~there]
            still = (constant == constant[0]).all(0) & (values.amin(0) < values.amax(0))
            gate = torch.full_like(values[0], bit), torch.full_like(values[0], side), constant[0], values.mean(0), values.var(0)
            found[at[still]], most[at[still]] = torch.stack(gate, 1)[still], float(count)
    return found if (found[:, 0] >= 0).any() else None


def _valid(clean: Tensor, columns: int) -> bool:
    at, beside = clean[:, 0], clean[:, 6]
    beside = beside[beside >= 0]
    used = torch.cat([at, beside]).long()
    places = bool((used >= 0).all() and (used < columns).all()) and len(used.unique()) == len(used)
    shares = bool((clean[:, 4:6] > 0).all() and (clean[:, 4:6].sum(1) < 1).all())
    return places and shares and bool((clean[:, 1:4].diff(dim=1) > 0).all() and (clean[:, 9] > 0).all())
