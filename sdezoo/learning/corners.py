"""Columns of two values, alone or as the corners of a category: their part of a denoiser.

A bit, a mark of a missing value or the corners of a category are far from normal. What a noised row says about the columns `y` of a group
is, in a normal model with mean `μ`, covariance `P` of the error and correlation `R`, a Gaussian factor: the quotient of `N(μ, P)` and
`N(0, R)` on the plane of the corners (as in expectation propagation, Minka, UAI 2001). Multiplied with the shares `p_k` of the corners
`c_k` it gives their probabilities, and the mean that takes the place of `μ`::

    E = Σ_k π_k c_k,      π_k ∝ p_k exp(c_kᵀ P⁺ μ − c_kᵀ (P⁺ − R⁺) c_k / 2)

For groups that are independent of each other this is exact. A network that has yet to learn at which noise a rare category is decided takes
it too seldom; behind this denoiser it need not learn it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

_NEVER = -1e30


class Corners(nn.Module):
    """The posterior means of columns of two values.

    Args:
        clean: of each column the two values, the share of the larger, and the number of its group, `(d, 4)`; −1 for other columns. In a
            group of several columns exactly one has its larger value. A column that is a group by itself is a bit.
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

    def __init__(self, clean: Tensor, correlation: Tensor, errors: Tensor, noise: Tensor) -> None:
        super().__init__()
        d = len(correlation)
        groups = _groups(clean) if clean.shape == (d, 4) and bool(clean.isfinite().all()) else []
        if not groups:
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
        return torch.stack([low, high, ups.double().mean(0), number], 1).float()

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
        low, high, _, group = self.clean.to(mean).unbind(-1)
        factor = s / tau
        odds = (high - low) * factor * times(evidence, factor * mean) + factor**2 * offset
        odds = odds + self.log_odds.to(mean)
        beside = torch.cat([odds, torch.zeros_like(odds[:, :1]), torch.full_like(odds[:, :1], _NEVER)], -1)
        chances = beside[:, self.places].softmax(-1).flatten(1)[:, self.inverse]
        return torch.where(group >= 0, low + (high - low) * chances - mean, 0.0)


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
