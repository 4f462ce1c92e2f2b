"""Columns of two values, alone or as the corners of a category: their part of a denoiser.

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
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_NEVER = -1e30
_RARE = 12
"""A value is gated if so many rows are on each side of its bit."""


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
    """The columns of each group, filled up, `(groups, most)`."""
    inverse: Tensor
    """Where each column is among them, `(d,)`."""
    log_odds: Tensor
    """`log p_k`, of a bit `log p/(1 − p)`, `(d,)`."""
    gated: Tensor
    """The gated columns."""
    precision: Tensor
    """`τ²/q` of the gated columns, `(K, gated)`."""

    def __init__(self, clean: Tensor, correlation: Tensor, errors: Tensor, noise: Tensor) -> None:
        super().__init__()
        d = len(correlation)
        groups = _groups(clean) if clean.shape in ((d, 4), (d, 9)) and bool(clean.isfinite().all()) else []
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
        self.register_buffer("places", torch.tensor([[*each, *[d + 1] * (most - len(each))] for each in places]), persistent=False)
        inverse, bits = torch.zeros(d, dtype=torch.int64), torch.zeros(d, dtype=torch.bool)
        for g, group in enumerate(groups):
            inverse[group] = torch.arange(len(group)) + g * most
            bits[group] = len(group) == 1
        self.register_buffer("inverse", inverse, persistent=False)
        error = errors.diagonal(dim1=-2, dim2=-1)[:, gated]
        self.register_buffer("gated", gated, persistent=False)
        self.register_buffer("precision", (noise[:, gated] ** 2 * (1 - error) / error).float(), persistent=False)
        share = clean[:, 2].double().cpu()
        self.register_buffer("log_odds", torch.where(bits, share.logit(), share.log()).float(), persistent=False)

    @staticmethod
    def find(rows: Tensor) -> Tensor | None:
        """Find the columns of two values, and those of which exactly one has its larger value in each row.

        Args:
            rows: standardized rows `(N, d)`, float64.

        Returns:
            `clean`, float32; None if there are no such columns.
        """
        low, high = rows.amin(0), rows.amax(0)
        ups = rows == high
        two = (ups | (rows == low)).all(0) & (low < high)
        if not two.any():
            return None
        number, group, start = torch.full((rows.shape[1],), -1.0, dtype=torch.float64), 0.0, 0
        while start < rows.shape[1]:
            stop = start + 1
            if two[start]:
                sums = ups[:, start:].long().cumsum(1)
                whole = ((sums == 1).all(0) & two[start:].long().cumprod(0).bool()).nonzero()
                stop = start + (int(whole[0]) + 1 if len(whole) else 1)
                number[start:stop] = group
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
        evidence = torch.lerp(self.evidence[k - 1], self.evidence[k], share[..., None, None]).to(mean)
        offset = torch.lerp(self.offsets[k - 1], self.offsets[k], share[..., None]).to(mean)
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
        chances = beside[:, self.places].softmax(-1).flatten(1)[:, self.inverse]
        return low + (high - low) * chances

    def _with_gates(self, mean: Tensor, k: Tensor, share: Tensor, tau: Tensor, odds: Tensor) -> Tensor:
        """`E − μ` where columns are gated."""
        number, side, spike, centre, wide = self.clean[self.gated, 4:].to(mean).unbind(-1)
        at, sign = number.long(), 2 * side - 1
        q = tau.expand_as(mean)[:, self.gated] ** 2 / torch.lerp(self.precision[k - 1], self.precision[k], share[..., None]).to(mean)
        seen = mean[:, self.gated] * (1 + q)
        ratio = (seen - spike) ** 2 / (2 * q) - (seen - centre) ** 2 / (2 * (wide + q)) - torch.log1p(wide / q) / 2
        odds = odds.index_add(1, at, sign * ratio)
        there = (sign * odds[:, at]).sigmoid()
        value = there * (centre + wide / (wide + q) * (seen - centre)) + (1 - there) * spike
        found = torch.where(self.clean[:, 3] >= 0, self._means(odds), mean)
        return found.index_copy(1, self.gated, value) - mean


def times(matrices: Tensor, rows: Tensor) -> Tensor:
    """Multiply each row by its matrix.

    Args:
        matrices: `(B, d, d)`, or `(1, d, d)` for all rows.
        rows: `(B, d)`.
    """
    if len(matrices) == 1:  # as sums of products: how a matrix product rounds depends on the number of rows
        return (rows.unsqueeze(-2) * matrices).sum(-1)
    return (matrices @ rows.unsqueeze(-1)).squeeze(-1)


def _groups(clean: Tensor) -> list[list[int]]:
    """The columns of each group."""
    numbers = [int(number) for number in clean[:, 3].tolist()]
    return [[i for i, each in enumerate(numbers) if each == group] for group in sorted({*numbers} - {-1})]


def _gates(rows: Tensor, ups: Tensor, clean: Tensor) -> Tensor | None:
    """Of each column its bit, the side at which it varies, the constant, and mean and variance elsewhere, `(d, 5)`; None: there are none.

    Of several bits at one value of which a column is constant, it is the one at which most rows are.
    """
    found, most = torch.full((len(clean), 5), -1.0, dtype=torch.float64), torch.zeros(len(clean))
    for (bit,) in (group for group in _groups(clean) if len(group) == 1):
        for side in (1, 0):
            there = ups[:, bit] == bool(side)
            if min(int(there.sum()), int((~there).sum())) < _RARE:
                continue
            values, constant = rows[there], rows[~there]
            still = (constant == constant[0]).all(0) & (values.amin(0) < values.amax(0)) & (clean[:, 3] < 0) & (most < len(constant))
            gate = torch.full_like(values[0], bit), torch.full_like(values[0], side), constant[0], values.mean(0), values.var(0)
            found = torch.where(still[:, None], torch.stack(gate, 1), found)
            most = torch.where(still, len(constant), most)
    return found if (found[:, 0] >= 0).any() else None
