"""Columns of three values, such as marks of two walls: their part of a denoiser.

As for the columns of two values (`sdezoo.learning.corners`), what a noised row says of a column is an observation `ŷ = μ (1 + q)` with
variance `q = P/(1 − P)`. With the shares `p_k` of the values `c_k` it gives their probabilities, and the mean that takes the place of `μ`::

    E = Σ_k π_k c_k,      π_k ∝ p_k exp(−(ŷ − c_k)²/2q)

A value beside such a mark, a constant `s` on the walls and `N(m, v)` between them, is gated: the ratio of `N(ŷ; m, v + q)` and
`N(ŷ; s, q)` multiplies the odds of the mark in the middle, and its probability is that of the value.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_VALUES, _RARE = 3, 12
"""Values of a column; a value is gated if so many rows are in the middle and on the walls."""


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

    def __init__(self, clean: Tensor, errors: Tensor, noise: Tensor) -> None:
        super().__init__()
        d = noise.shape[1]
        formed = clean.ndim == 2 and clean.shape[1] == 10 and len(clean) > 0 and bool(clean.isfinite().all())
        if not formed or not _valid(clean.double().cpu(), d):
            raise ValueError("no columns of three values")
        self.register_buffer("clean", clean)
        error = errors.diagonal(dim1=-2, dim2=-1)
        self.register_buffer("precision", (noise**2 * (1 - error) / error).float(), persistent=False)

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
        for i, column in enumerate(rows.T):
            values = column[:4096].unique()
            if len(values) > _VALUES or len(values := column.unique()) != _VALUES:
                continue
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
        q = (tau**2 / torch.lerp(self.precision[k - 1], self.precision[k], share[..., None]).to(mean)).expand_as(mean)
        seen, clean = mean * (1 + q), self.clean.to(mean)
        at, values = clean[:, 0].long(), clean[:, 1:4]
        shares = torch.stack([clean[:, 4], 1 - clean[:, 4] - clean[:, 5], clean[:, 5]], 1)
        odds = shares.log() - (seen[:, at, None] - values) ** 2 / (2 * q[:, at, None])
        gated = clean[:, 6] >= 0
        beside, (spike, centre, wide) = clean[gated, 6].long(), clean[gated, 7:].unbind(1)
        y, r = seen[:, beside], q[:, beside]
        ratio = (y - spike) ** 2 / (2 * r) - (y - centre) ** 2 / (2 * (wide + r)) - torch.log1p(wide / r) / 2
        odds[:, gated, 1] += ratio
        chances = odds.softmax(-1)
        there = chances[:, gated, 1]
        value = there * (centre + wide / (wide + r) * (y - centre)) + (1 - there) * spike
        found = torch.zeros_like(mean).index_copy(1, at, (chances * values).sum(-1) - mean[:, at])
        return found.index_copy(1, beside, value - mean[:, beside])


def _valid(clean: Tensor, columns: int) -> bool:
    at, beside = clean[:, 0], clean[:, 6]
    beside = beside[beside >= 0]
    used = torch.cat([at, beside]).long()
    places = bool((used >= 0).all() and (used < columns).all()) and len(used.unique()) == len(used)
    shares = bool((clean[:, 4:6] > 0).all() and (clean[:, 4:6].sum(1) < 1).all())
    return places and shares and bool((clean[:, 1:4].diff(dim=1) > 0).all() and (clean[:, 9] > 0).all())
