"""Categories of many values: their part of a denoiser, without a matrix of their columns.

A category of `K` values has `K` columns. Alone, the mean of its corners `c_k` with shares `p_k` given its noised columns `ŷ` is::

    E = Σ_k π_k c_k,      π_k ∝ p_k exp(−|ŷ − c_k|²/2τ²)

Other columns `x` have the mean `M_k` beside the value `k`, and the covariance `W` around it, as in linear discriminant analysis. Noised,
they say of it `N(x̂; M_k, W + T²)`, a factor of `π_k`. What the category says of them is a shift of their mean, around which they have the
best linear denoiser of `W`::

    E[x | x̂, ŷ] = m + W (W + T²)⁻¹ (x̂ − m),      m = Σ_k π_k M_k

For one category and normal columns this is exact. Of several, the means add up, and what another says of `x` is taken as known from its own
columns. `M_k` is the mean of the rows, shrunk by the ratio of variances between and within the values (random effects), so that a value of
few rows is near the mean of all. Only columns that are neither bits nor beside a mark have such means. The network sees `E` in
place of `ŷ`: what it tells of other columns is then linear in its input, and not hidden in the noise of hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sdezoo.learning.known.corners import groups_of
from sdezoo.learning.known.linear import LinearDenoiser
from sdezoo.learning.known.tabulated import at_level, times

_NEVER, _NOTHING, _SURE = -1e30, 1e-30, 3
"""The last: by how many standard deviations the ratio of variances between and within values must be above 1 for means to differ."""


class Categories(nn.Module):
    """The posterior means of columns of two values that are in no block, and what categories among them say of columns in blocks.

    Args:
        clean: as of `Corners`, `(n, 4)`, of the columns in no block; those of a category stand side by side.
        means: `M_k` of the columns of all blocks, one after the other, `(n, d)`, 0 where `k` is no category; None: all are 0.
        parts: the denoisers of the blocks.

    Raises:
        ValueError: if `clean` or `means` are not of such a form.
    """

    clean: Tensor
    means: Tensor
    log_odds: Tensor
    """`log p_k`, of a bit `log p/(1 − p)`, `(n,)`."""
    offsets: Tensor
    """`−M_kᵀ (W + T²)⁻¹ M_k / 2` at each level, `(levels, n)`."""

    def __init__(self, clean: Tensor, means: Tensor | None, parts: Sequence[LinearDenoiser]) -> None:
        super().__init__()
        groups = groups_of(clean) if clean.ndim == 2 and clean.shape[1] == 4 and bool(clean.isfinite().all()) else []
        self.spans = [(group[0], group[-1] + 1) for group in groups if len(group) > 1]
        if not groups or any(len({*clean[start:stop, 3].tolist()} - {-1.0}) > 1 for start, stop in self.spans):
            raise ValueError("no columns of two values side by side")
        self.register_buffer("clean", clean)
        self.widths: list[int] = []
        """Numbers of columns: of no category, of a category, and so on."""
        share, end = clean[:, 2].double().cpu(), 0
        log_odds = share.logit()
        for start, stop in self.spans:
            self.widths += [start - end, stop - start]
            log_odds[start:stop], end = share[start:stop].log(), stop
        self.widths.append(len(clean) - end)
        self.register_buffer("log_odds", torch.where(clean[:, 3].cpu() >= 0, log_odds, _NEVER).float(), persistent=False)
        self.sizes = [len(part.clean_correlation) for part in parts]
        """Numbers of columns of the blocks."""
        if means is not None and not (means.shape == (len(clean), sum(self.sizes)) and bool(means.isfinite().all())):
            raise ValueError("no means beside categories")
        self.register_buffer("means", means)
        if means is not None:
            offsets = torch.zeros(())
            for i, (part, m) in enumerate(zip(parts, means.double().cpu().split(self.sizes, 1), strict=True)):
                gain, scaled = _gain(part, (m != 0).any(0))
                offsets = offsets - ((m @ gain) * m).sum(-1) / 2
                self.register_buffer(f"gain_{i}", scaled.float(), persistent=False)
            self.register_buffer("offsets", offsets.float(), persistent=False)

    def odds(self, own: Tensor, tau: Tensor, seen: Sequence[Tensor], others: Sequence[Tensor], k: Tensor, share: Tensor) -> Tensor:
        """`log π_k` of each column but for a constant of its category, of a bit `log π/(1 − π)`.

        Args:
            own: `ŷ`, `(B, n)`.
            tau: `τ`, broadcasts against it.
            seen: `x̂` of each block, `(B, d_i)`.
            others: `T` of each block, broadcasts against it.
            k: the next of the tabulated levels, `(B,)` or `(1,)`.
            share: the share of the way to it.
        """
        low, high, _, _ = self.clean.to(own).unbind(-1)
        found = (high - low) * (own - (low + high) / 2) / tau**2 + self.log_odds.to(own)
        if self.means is None:
            return found
        chances = self._chances(found)
        found = found + at_level(self.offsets, k, share, own)
        for i, (x, t, m) in enumerate(zip(seen, others, self.means.to(own).split(self.sizes, 1), strict=True)):
            table = self.get_buffer(f"gain_{i}")
            gain, scale = at_level(table, k, share, own), (1 + t**2).sqrt() / t
            away = scale * times(gain, scale * (x - times(m.T[None], chances)))
            found = found + times(m[None], away)
            for start, stop in self.spans:  # of itself, a category knows nothing yet
                mine = m[start:stop]
                back = scale * times(gain, scale * times(mine.T[None], chances[:, start:stop]))
                found = torch.cat([found[:, :start], found[:, start:stop] + times(mine[None], back), found[:, stop:]], 1)
        return found

    def shifts(self, odds: Tensor) -> list[Tensor]:
        """`m` of each block, `(B, d_i)`.

        Args:
            odds: see `odds`.
        """
        chances = self._chances(odds)
        if self.means is None:
            return [torch.zeros((), dtype=odds.dtype, device=odds.device)] * len(self.sizes)
        return [times(m.T[None], chances) for m in self.means.to(odds).split(self.sizes, 1)]

    def forward(self, odds: Tensor, others: Tensor) -> Tensor:
        """`E`.

        Args:
            odds: see `odds`.
            others: what stands in columns of more than two values, `(B, n)`.
        """
        low, high, _, group = self.clean.to(odds).unbind(-1)
        return torch.where(group >= 0, low + (high - low) * self._chances(odds), others)

    def _chances(self, odds: Tensor) -> Tensor:
        """`π_k` of each column."""
        return torch.cat([part.softmax(1) if i % 2 else part.sigmoid() for i, part in enumerate(odds.split(self.widths, 1))], 1)


def fit_means(rows: Tensor, inside: Tensor, clean: Tensor, plain: Tensor) -> Tensor | None:
    """Fit the means of columns beside the values of categories.

    Args:
        rows: standardized columns in no block, `(N, n)`, float64.
        inside: those in blocks, one block after the other, `(N, d)`.
        clean: as of `Categories`.
        plain: which of the columns in blocks have such means, bool `(d,)`.

    Returns:
        `M_k`, float32 `(n, d)`; None if the values of no category differ in the mean of a column.
    """
    left, found = torch.where(plain, inside, 0.0), torch.zeros(rows.shape[1], inside.shape[1], dtype=torch.float64)
    for at in (group for group in groups_of(clean) if len(group) > 1):
        value = rows[:, at].argmax(1)
        counts = torch.bincount(value, minlength=len(at)).double()[:, None]
        means = torch.zeros(len(at), left.shape[1], dtype=torch.float64).index_add(0, value, left) / counts
        within = ((left - means[value]) ** 2).sum(0) / max(len(rows) - len(at), 1)
        between = (counts * means**2).sum(0) / (len(at) - 1)
        # Of the variance between values, what the rows within them do not explain.
        sure = 1 + _SURE * (2 / (len(at) - 1) + 2 / max(len(rows) - len(at), 1)) ** 0.5
        own = (between - within) * (len(at) - 1) / (len(rows) - (counts**2).sum() / len(rows)) * (between > sure * within)
        means = means * counts * own / (counts * own + within).clamp_min(_NOTHING)
        found[at] = means - (counts * means).sum(0) / len(rows)
        left = left - found[at][value]
    return found.float() if (found != 0).any() else None


def spread_of(means: Tensor, clean: Tensor) -> Tensor:
    """The covariance of the means of columns, `Σ_k p_k M_k M_kᵀ`, float64 `(d, d)`.

    Args:
        means: `M_k`, `(n, d)`.
        clean: as of `Categories`.
    """
    wide = means.double()
    return wide.T @ (clean[:, 2:3].double() * wide)


def _gain(part: LinearDenoiser, plain: Tensor) -> tuple[Tensor, Tensor]:
    """`(W + T²)⁻¹` of some columns of a block at each level, 0 for others, and the same times `τ/√(1 + τ²)` on both sides."""
    tau = part.noise.double().cpu()
    at = plain.nonzero().flatten()
    gain = torch.zeros(len(tau), len(plain), len(plain), dtype=torch.float64)
    gain[:, at[:, None], at] = torch.linalg.inv(part.within[at[:, None], at] + torch.diag_embed(tau[:, at] ** 2))
    scale = tau / (1 + tau**2).sqrt()
    return gain, gain * scale[:, :, None] * scale[:, None]
