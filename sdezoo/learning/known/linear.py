"""The best linear denoiser: what a network need not learn of columns that are correlated.

An affine process adds noise of scale `τ_j(t)`, in standard deviations of column `j`, to the standardized clean coordinates `y`. With their
correlation matrix `R` and `T = diag(τ)`, the best linear denoiser and the covariance of its error are::

    E[y | ŷ] = R (R + T²)⁻¹ ŷ,      P = R − R (R + T²)⁻¹ R

Output `edm` (Karras et al., arXiv 2206.00364, table 1) takes `R = I`. A network `F` behind `LinearDenoiser` learns the rest, in units in
which, for normal data, its target has unit variance in every direction and is uncorrelated with its input, at every time::

    F_edm(u) = A u + B F(u),      B = S T⁻¹ P^{½},    A = S T⁻¹ (R (R + T²)⁻¹ − S⁻²) S,    S = (I + T²)^{½}

A fresh network gives 0, so training starts at the score of a normal distribution with the moments of the data. Where columns nearly
determine each other, `F` learns narrow directions as well as wide ones. Its input is not made uncorrelated: what most columns agree in,
such as groups of rows, would then be one direction of many.

Columns of two or three values and categories are not normal. In the place of their part of the best linear denoiser, `μ`, stands the mean
`E` of `sdezoo.learning.known.corners`::

    F_edm(u) = A u + S T⁻¹ (E − μ) + B F(u)

A part of `R` may be known otherwise: `A` is then that of the rest of it, and `B` as before.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sdezoo.learning.known.corners import Corners, Piles
from sdezoo.learning.known.tabulated import at_level, between, noise_levels, times
from sdezoo.process.affine import AffineSDE

WIDEST = 64
"""The largest number of columns."""
_ENOUGH, _FEWEST, _RARE, _LEAST = 50, 8, 12, 1e-3
"""A number of rows for each column from which a correlation matrix needs no shrinkage; the least rows that tell of any; of a column of two
values the least rows of each for a correlation; and the least variance of a direction when a part of `R` is known otherwise."""
_SHRINKAGES = torch.cat([torch.zeros(1), torch.logspace(-5, -0.05, 60)]).double()


class LinearDenoiser(nn.Module):
    """The best linear denoiser of an affine process, around a network.

    Args:
        sde: the noise process.
        std: standard deviation of the clean coordinates, broadcasts against `(d,)`.
        correlation: `R`, positive definite, `(d, d)`, `d` at most 64.
        corners: `clean` of `Corners`, in units of `std`; None: there are no columns of two values.
        piles: `clean` of `Piles`, likewise; None: there are no columns of three values.
        among: indices of the `d` columns among those of the process; None: they are all.
        apart: the part of `R` that is known otherwise, `(d, d)`; None: nothing.

    Raises:
        ValueError: if `correlation`, `corners` or `piles` have another shape.
    """

    clean_correlation: Tensor
    """`R`."""
    levels: Tensor
    """Noise conditioning of the process at the tabulated times, increasing, `(K,)`."""
    tables: Tensor
    """`A` and `B` at these levels, `(K, 2, d, d)`, between which they are interpolated."""
    noise: Tensor
    """`T` at these levels, `(K, d)`."""

    def __init__(
        self,
        sde: AffineSDE,
        std: Tensor,
        correlation: Tensor,
        corners: Tensor | None = None,
        piles: Tensor | None = None,
        among: Tensor | None = None,
        apart: Tensor | None = None,
    ) -> None:
        super().__init__()
        if correlation.ndim != 2 or not len(correlation) == correlation.shape[1] <= WIDEST:
            raise ValueError(f"no correlation matrix of at most {WIDEST} columns")
        levels, noise = noise_levels(sde, std, len(correlation), among)
        r = correlation.double().cpu()
        self.within = r if apart is None else _positive(r - apart.double().cpu())
        """`R` without the part that is known otherwise, float64."""
        tables, errors = _tables(self.within, noise)
        if apart is not None:
            tables[:, 1] = _tables(r, noise)[0][:, 1]
        self.register_buffer("clean_correlation", correlation)
        self.register_buffer("levels", levels.float(), persistent=False)
        self.register_buffer("noise", noise.float(), persistent=False)
        self.register_buffer("tables", tables.float(), persistent=False)
        self.corners = None if corners is None else Corners(corners, self.within, errors, noise)
        self.piles = None if piles is None else Piles(piles, errors, noise)

    def forward(self, net: Callable[[Tensor], Tensor], inputs: Tensor, level: Tensor | float) -> Tensor:
        """`A u + B F(u)`.

        Args:
            net: `F`, `(B, d)` to `(B, d)`.
            inputs: `u`, `(B, d)`.
            level: noise conditioning, `(B,)` or one for all.
        """
        known, b = self.known(inputs, level)
        return known + times(b, net(inputs))

    @property
    def decides(self) -> bool:
        """Whether there are columns of two or three values."""
        return self.corners is not None or self.piles is not None

    def known(self, inputs: Tensor, level: Tensor | float) -> tuple[Tensor, Tensor]:
        """What the network need not learn, and `B`, `(B, d, d)` or `(1, d, d)`.

        Args:
            inputs: as for `forward`.
            level: likewise.
        """
        k, share = between(self.levels, level)
        a, b = at_level(self.tables, k, share, inputs).unbind(1)
        known = times(a, inputs)
        if self.decides:
            tau = at_level(self.noise, k, share, inputs)
            s = (1 + tau**2).sqrt()
            mean = inputs / s + tau / s * known
            if self.corners is not None:
                known = known + s / tau * self.corners(mean, k, share, s, tau)
            if self.piles is not None:
                known = known + s / tau * self.piles(mean, k, share, tau)
        return known, b


def correlation_of(rows: Tensor) -> Tensor:
    """The correlation matrix of rows, shrunk if there are few; that of independent columns if there are fewer than eight.

    Args:
        rows: standardized rows `(N, d)`, float64.
    """
    one = torch.eye(rows.shape[1], dtype=rows.dtype)
    if len(rows) < _FEWEST:
        return one.float()
    covariance = rows.T @ rows / (len(rows) - 1)
    if len(rows) < _ENOUGH * rows.shape[1]:
        covariance = _shrunk(rows, covariance)
    # A direction without any width keeps a millionth: what the network learns there is its own.
    return ((covariance + 1e-6 * one) / (1 + 1e-6)).float()


def _shrunk(rows: Tensor, covariance: Tensor) -> Tensor:
    """`G = (1 − a) S + a I`, with the `a` at which rows are likeliest, each given all others.

    Without a row `x`, `G` is `G − b x xᵀ` but for its scale, `b = (1 − a) N/(N − 1)²`, as the mean moves too. So with `q = xᵀ G⁻¹ x` its
    negative log-likelihood is half of `log |G| + log(1 − b q) + q/(1 − b q)` (Hoffbeck and Landgrebe, IEEE Trans. PAMI 18, 1996).
    Directions in which rows do not differ are left out, unless they do so because they are few: `N` rows differ in `N − 1` directions. A
    column of two values, one of them in fewer than 12 rows, is taken as uncorrelated: one such row decides the rest.
    """
    low, high = rows == rows.amin(0), rows == rows.amax(0)
    rare = (low | high).all(0) & (torch.minimum(low.sum(0), high.sum(0)) < _RARE)
    covariance = torch.where(rare[:, None] | rare, torch.diag(covariance.diagonal()), covariance)
    if rare.all():
        return covariance
    widths, directions = torch.linalg.eigh(covariance[~rare][:, ~rare])
    kept = widths > 1e-8 * widths[-1]
    squares, losses = (rows[:, ~rare] @ directions[:, kept]) ** 2, []
    unseen = len(widths) - int(kept.sum()) if int(kept.sum()) == len(rows) - 1 else 0
    for a in _SHRINKAGES[unseen > 0 :].to(rows.device):
        inner = torch.lerp(widths[kept], torch.ones_like(widths[kept]), a)
        q = (squares / inner).sum(1)
        rest = 1 - (1 - a) * len(rows) / (len(rows) - 1) ** 2 * q
        whole = inner.log().sum() + (unseen * a.log() if unseen else 0.0)
        losses.append(whole + (rest.log() + q / rest).mean() if (rest > 0).all() else q.new_tensor(torch.inf))
    least = float(_SHRINKAGES[unseen > 0 :][int(torch.stack(losses).argmin())])
    return torch.lerp(covariance, torch.eye(len(covariance)).to(covariance), least)


def _tables(r: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    found, errors = [], []
    for tau in noise:
        s = (1 + tau**2).sqrt()
        gain = torch.linalg.solve(r + torch.diag(tau**2), r).T  # R (R + T²)⁻¹
        error = gain * tau**2  # P = R (R + T²)⁻¹ T²
        a = (s / tau)[:, None] * (gain - torch.diag(s**-2)) * s
        b = (s / tau)[:, None] * _root(error)
        found.append(torch.stack([a, b]))
        errors.append((error + error.T) / 2)
    return torch.stack(found), torch.stack(errors)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return vectors * values.clamp_min(1e-12).sqrt() @ vectors.T


def _positive(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((matrix + matrix.T) / 2)
    return vectors * values.clamp_min(_LEAST) @ vectors.T
