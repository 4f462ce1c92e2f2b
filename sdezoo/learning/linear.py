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
`E` of `sdezoo.learning.corners`::

    F_edm(u) = A u + S T⁻¹ (E − μ) + B F(u)

A table of more than 64 columns is taken in blocks of 64: the tables of a block are 130 times as large as its matrix. What columns of
different blocks tell of each other is left to the network. Categories of more than 64 values, and columns beyond the 4096th, are in no block: they
are taken as uncorrelated with the others, and have their own exact means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sdezoo.learning.corners import Alone, Corners, Piles, times
from sdezoo.process.affine import AffineSDE

_LEVELS = 32
_WIDEST, _MOST, _ENOUGH, _RARE = 64, 4096, 50, 12
"""The largest number of columns of a block, and of all blocks; a number of rows for each column from which a correlation matrix needs no
shrinkage; and of a column of two values the least rows of each for a correlation."""
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
    ) -> None:
        super().__init__()
        if correlation.ndim != 2 or not len(correlation) == correlation.shape[1] <= _WIDEST:
            raise ValueError(f"no correlation matrix of at most {_WIDEST} columns")
        levels, noise = _noise(sde, std, len(correlation), among)
        r = correlation.double().cpu()
        tables, errors = _tables(r, noise)
        self.register_buffer("clean_correlation", correlation)
        self.register_buffer("levels", levels.float(), persistent=False)
        self.register_buffer("noise", noise.float(), persistent=False)
        self.register_buffer("tables", tables.float(), persistent=False)
        self.corners = None if corners is None else Corners(corners, r, errors, noise)
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
        a, b = torch.lerp(self.tables[k - 1], self.tables[k], share[..., None, None, None]).to(inputs).unbind(1)
        known = times(a, inputs)
        if self.decides:
            tau = torch.lerp(self.noise[k - 1], self.noise[k], share[..., None]).to(inputs)
            s = (1 + tau**2).sqrt()
            mean = inputs / s + tau / s * known
            if self.corners is not None:
                known = known + s / tau * self.corners(mean, k, share, s, tau)
            if self.piles is not None:
                known = known + s / tau * self.piles(mean, k, share, tau)
        return known, b


class BlockDenoiser(nn.Module):
    """Best linear denoisers of blocks of columns, around one network.

    Args:
        parts: the denoiser of each block.
        block: of each column the number of its block, int64 `(d,)`; −1: it is in none.
        sde: the noise process.
        std: standard deviation of the clean coordinates, broadcasts against `(d,)`.
        alone: `clean` of `Alone`, of the columns in no block; None: none of them has two values.

    Raises:
        ValueError: if `alone` has another shape.
    """

    block: Tensor
    order: Tensor
    """The columns, block after block, those in none first."""
    places: Tensor
    """Where each column stands in this order."""
    levels: Tensor
    """As of `LinearDenoiser`."""
    noise: Tensor
    """`T` at these levels, of the columns in no block."""

    def __init__(self, parts: Sequence[LinearDenoiser], block: Tensor, sde: AffineSDE, std: Tensor, alone: Tensor | None = None) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        rest = (block < 0).nonzero().flatten()
        if alone is not None and len(alone) != len(rest):
            raise ValueError("no columns of two values side by side")
        self.alone = None if alone is None else Alone(alone)
        levels, noise = _noise(sde, std, len(block), rest)
        self.register_buffer("levels", levels.float(), persistent=False)
        self.register_buffer("noise", noise.float(), persistent=False)
        self.register_buffer("block", block)
        self.register_buffer("order", block.argsort(stable=True), persistent=False)
        self.register_buffer("places", self.order.argsort(), persistent=False)

    @property
    def decides(self) -> bool:
        """Whether there are columns of two or three values."""
        return self.alone is not None or any(part.decides for part in self._parts)

    def forward(self, net: Callable[[Tensor], Tensor], inputs: Tensor, level: Tensor | float) -> Tensor:
        """`A u + B F(u)`, with blocks in `A` and `B`.

        Args:
            net: `F`, `(B, d)` to `(B, d)`.
            inputs: `u`, `(B, d)`.
            level: noise conditioning, `(B,)` or one for all.
        """
        sizes = [len(part.clean_correlation) for part in self._parts]
        own, *seen = inputs[:, self.order].split([inputs.shape[1] - sum(sizes), *sizes], 1)
        known, fed = torch.zeros_like(own), inputs
        if self.alone is not None:
            k, share = between(self.levels, level)
            tau = torch.lerp(self.noise[k - 1], self.noise[k], share[..., None]).to(inputs)
            s = (1 + tau**2).sqrt()
            mean = self.alone(s * own, tau)
            known = (s * mean - own) / tau
            fed = torch.cat([torch.where(self.alone.clean[:, 3] < 0, own, mean), *seen], 1)[:, self.places]
        rest, *learned = net(fed)[:, self.order].split([own.shape[1], *sizes], 1)
        pairs = ((part.known(u, level), f) for part, u, f in zip(self._parts, seen, learned, strict=True))
        return torch.cat([known + rest, *(known + times(b, f) for (known, b), f in pairs)], 1)[:, self.places]

    @property
    def _parts(self) -> list[LinearDenoiser]:
        return cast("list[LinearDenoiser]", list(self.parts))


def fit_denoiser(sde: AffineSDE, z0: Tensor, std: Tensor) -> LinearDenoiser | BlockDenoiser | None:
    """Fit the best linear denoiser of clean coordinates.

    Args:
        sde: the noise process.
        z0: clean coordinates, `(N, *event)`.
        std: their standard deviation.

    Returns:
        The denoiser, in blocks if there are more than 64 columns; None if rows are not vectors, or are fewer than columns of a block.
    """
    if z0.ndim != 2 or z0.shape[1] < 2 or len(z0) < min(_WIDEST, z0.shape[1]):
        return None
    rows = (z0.double() - z0.double().mean(0)) / std.double()
    corners, piles = _found(rows)
    if rows.shape[1] <= _WIDEST:
        return LinearDenoiser(sde, std, _correlation(rows), corners, piles)
    block, std = _blocks(rows.shape[1], corners, piles), std.expand(rows.shape[1])
    places = [(block == k).nonzero().flatten() for k in range(int(block.max()) + 1)]
    parts = [LinearDenoiser(sde, std, _correlation(rows[:, at]), *_found(rows[:, at]), at) for at in places]
    alone = None if corners is None else corners[block < 0, :4]
    return BlockDenoiser(parts, block, sde, std, alone if alone is not None and (alone[:, 3] >= 0).any() else None)


def restored_denoiser(sde: AffineSDE, std: Tensor, tensors: Mapping[str, Tensor]) -> LinearDenoiser | BlockDenoiser | None:
    """Rebuild a denoiser.

    Args:
        sde: the noise process.
        std: standard deviation of the clean coordinates.
        tensors: its buffers by name; none: there is no denoiser.

    Raises:
        KeyError: if a buffer is missing.
        RuntimeError: if they are of another number of columns than `std`.
        ValueError: if they have other shapes.
    """
    if not tensors:
        return None
    if (block := tensors.get("block")) is None:
        return LinearDenoiser(sde, std, tensors["clean_correlation"], tensors.get("corners.clean"), tensors.get("piles.clean"))
    if block.ndim != 1 or block.dtype != torch.int64 or not _WIDEST < len(block) or int(block.min()) < -1 or int(block.max()) >= _MOST:
        raise ValueError("no blocks of columns")
    parts, std = [], std.expand(len(block))
    for k in range(int(block.max()) + 1):
        correlation, corners, piles = (tensors.get(f"parts.{k}.{name}") for name in ("clean_correlation", "corners.clean", "piles.clean"))
        if correlation is None or correlation.shape[:1] != (int((block == k).sum()),):
            raise ValueError("no blocks of columns")
        parts.append(LinearDenoiser(sde, std, correlation, corners, piles, (block == k).nonzero().flatten()))
    return BlockDenoiser(parts, block, sde, std, tensors.get("alone.clean"))


def between(levels: Tensor, level: Tensor | float) -> tuple[Tensor, Tensor]:
    """Find a level among tabulated ones.

    Args:
        levels: those that are tabulated, increasing.
        level: the level, `(B,)` or one for all.

    Returns:
        The next of them, and the share of the way to it, `(B,)` or `(1,)` each.
    """
    # A number is filled in on the device; a tensor made of it would be copied there.
    at = level.to(levels).reshape(-1) if isinstance(level, Tensor) else levels.new_full((1,), level)
    k = torch.searchsorted(levels, at).clamp(1, len(levels) - 1)
    low, high = levels[k - 1], levels[k]
    return k, ((at - low) / (high - low)).clamp(0, 1)


def _noise(sde: AffineSDE, std: Tensor, columns: int, among: Tensor | None) -> tuple[Tensor, Tensor]:
    """The levels at which tables are made, increasing, and `T` there, float64."""
    lo, hi = sde.t_span
    # Equal steps of the logarithm near 0, of the time elsewhere.
    t = torch.cat([torch.logspace(0, -4, _LEVELS, dtype=torch.float64), torch.linspace(0, 1, _LEVELS, dtype=torch.float64)]).unique()
    t = lo + (hi - lo) * t
    levels = torch.stack([sde.noise_conditioning(s) for s in t])
    ratio = torch.stack([sde.exact(s).ratio.reshape(-1) for s in t])
    noise = (ratio / std.double().cpu()).expand(-1, columns if among is None else -1)
    noise = noise if among is None else noise[:, among.cpu()]
    order = levels.argsort()
    return levels[order], noise[order]


def _correlation(rows: Tensor) -> Tensor:
    covariance, one = rows.T @ rows / (len(rows) - 1), torch.eye(rows.shape[1])
    if len(rows) < _ENOUGH * rows.shape[1]:
        covariance = _shrunk(rows, covariance)
    # A direction without any width keeps a millionth: what the network learns there is its own.
    return ((covariance + 1e-6 * one) / (1 + 1e-6)).float()


def _found(rows: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The columns of two and of three values."""
    corners = Corners.find(rows)
    return corners, Piles.find(rows, None if corners is None else (corners[:, 3:5] >= 0).any(1))


def _blocks(columns: int, clean: Tensor | None, piles: Tensor | None) -> Tensor:
    """The block of each column: the next that has room. The corners of a category stay together, and so do a mark and its values.

    A category of more than 64 values is in none, nor is what comes after 4096 columns.
    """
    leader = torch.arange(columns)
    if clean is not None:
        for group in clean[:, 3].unique().tolist():
            if group >= 0:
                leader[clean[:, 3] == group] = int((clean[:, 3] == group).nonzero()[0])
        if clean.shape[1] > 4:  # it tells of gated values too
            gated = clean[:, 4] >= 0
            leader[gated] = leader[clean[gated, 4].long()]
    for at, beside in [] if piles is None else piles[:, [0, 6]].long().tolist():
        leader[beside if beside >= 0 else at] = at
    block, sizes = torch.full((columns,), -1), []
    for first in leader.unique().tolist():
        count = int((leader == first).sum())
        if count > _WIDEST:
            continue
        room = next((k for k, size in enumerate(sizes) if size + count <= _WIDEST), len(sizes))
        if room * _WIDEST >= _MOST:
            continue
        sizes += [0] * (room == len(sizes))
        sizes[room] += count
        block[leader == first] = room
    return block


def _shrunk(rows: Tensor, covariance: Tensor) -> Tensor:
    """`G = (1 − a) S + a I`, with the `a` at which rows are likeliest, each given all others.

    Without a row `x`, `G` is `G − b x xᵀ` but for its scale, `b = (1 − a)/(N − 1)`. So with `q = xᵀ G⁻¹ x` its negative log-likelihood is
    half of `log |G| + log(1 − b q) + q/(1 − b q)` (Hoffbeck and Landgrebe, IEEE Trans. PAMI 18, 1996). Directions in which rows do not
    differ are left out. A column of two values, one of them in fewer than 12 rows, is taken as uncorrelated: one such row decides the rest.
    """
    low, high = rows == rows.amin(0), rows == rows.amax(0)
    rare = (low | high).all(0) & (torch.minimum(low.sum(0), high.sum(0)) < _RARE)
    covariance = torch.where(rare[:, None] | rare, torch.diag(covariance.diagonal()), covariance)
    if rare.all():
        return covariance
    widths, directions = torch.linalg.eigh(covariance[~rare][:, ~rare])
    kept = widths > 1e-8 * widths[-1]
    squares, losses = (rows[:, ~rare] @ directions[:, kept]) ** 2, []
    for a in _SHRINKAGES.to(rows.device):
        inner = torch.lerp(widths[kept], torch.ones_like(widths[kept]), a)
        q = (squares / inner).sum(1)
        rest = 1 - (1 - a) / (len(rows) - 1) * q
        losses.append(inner.log().sum() + (rest.log() + q / rest).mean() if (rest > 0).all() else q.new_tensor(torch.inf))
    least = float(_SHRINKAGES[int(torch.stack(losses).argmin())])
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
