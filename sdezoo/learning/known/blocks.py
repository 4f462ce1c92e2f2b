"""Best linear denoisers of wide tables, block by block.

A table of more than 64 columns is taken in blocks of 64: the tables of a block are 130 times as large as its matrix. What columns of
different blocks tell of each other is left to the network. Categories of more than 64 values, and columns beyond the 4096th, are in no
block: see `sdezoo.learning.known.categories`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sdezoo.learning.known.categories import Categories, fit_means, spread_of
from sdezoo.learning.known.corners import Corners, Piles
from sdezoo.learning.known.linear import WIDEST, LinearDenoiser, correlation_of
from sdezoo.learning.known.tabulated import at_level, between, noise_levels, times
from sdezoo.process.affine import AffineSDE

_MOST = 4096
"""The largest number of columns of all blocks."""


class BlockDenoiser(nn.Module):
    """Best linear denoisers of blocks of columns, around one network.

    Args:
        parts: the denoiser of each block.
        block: of each column the number of its block, int64 `(d,)`; −1: it is in none.
        sde: the noise process.
        std: standard deviation of the clean coordinates, broadcasts against `(d,)`.
        alone: `clean` of `Categories`; None: no column in no block has two values.
        means: likewise.

    Raises:
        ValueError: if `alone` or `means` have another shape.
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

    def __init__(
        self,
        parts: Sequence[LinearDenoiser],
        block: Tensor,
        sde: AffineSDE,
        std: Tensor,
        alone: Tensor | None = None,
        means: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)
        rest = (block < 0).nonzero().flatten()
        if alone is not None and len(alone) != len(rest):
            raise ValueError("no columns of two values side by side")
        self.alone = None if alone is None else Categories(alone, means, parts)
        levels, noise = noise_levels(sde, std, len(block), rest)
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
        if self.alone is None:
            rest, *learned = net(inputs)[:, self.order].split([own.shape[1], *sizes], 1)
            pairs = ((part.known(u, level), f) for part, u, f in zip(self._parts, seen, learned, strict=True))
            return torch.cat([rest, *(known + times(b, f) for (known, b), f in pairs)], 1)[:, self.places]
        k, share = between(self.levels, level)
        tables = (self.noise, *(part.noise for part in self._parts))
        tau, *others = (at_level(noise, k, share, inputs) for noise in tables)
        s, *scales = ((1 + t**2).sqrt() for t in (tau, *others))
        odds = self.alone.odds(s * own, tau, [scale * u for scale, u in zip(scales, seen, strict=True)], others, k, share)
        fed = torch.cat([self.alone(odds, own), *seen], 1)[:, self.places]
        rest, *learned = net(fed)[:, self.order].split([own.shape[1], *sizes], 1)
        found = [(s * self.alone(odds, own / s) - own) / tau + rest]
        for part, u, t, scale, m, f in zip(self._parts, seen, others, scales, self.alone.shifts(odds), learned, strict=True):
            known, b = part.known(u - m / scale, level)
            found.append(known + t / scale * m + times(b, f))
        return torch.cat(found, 1)[:, self.places]

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
        The denoiser, in blocks if there are more than 64 columns; None if rows are not vectors of two columns or more.
    """
    if z0.ndim != 2 or z0.shape[1] < 2:
        return None
    rows = (z0.double() - z0.double().mean(0)) / std.double()
    corners, piles = _found(rows)
    if rows.shape[1] <= WIDEST:
        return LinearDenoiser(sde, std, correlation_of(rows), corners, piles)
    block, std = _blocks(rows.shape[1], corners, piles), std.expand(rows.shape[1])
    places = [(block == k).nonzero().flatten() for k in range(int(block.max()) + 1)]
    alone, means = None if corners is None else corners[block < 0, :4], None
    if corners is None or alone is None or not (alone[:, 3] >= 0).any():
        alone = None
    elif places:
        inside = torch.cat(places)
        means = fit_means(rows[:, block < 0], rows[:, inside], alone, _plain(corners, piles)[inside])
    apart = _apart(alone, means, [len(at) for at in places])
    parts = [
        LinearDenoiser(sde, std, correlation_of(rows[:, at]), *_found(rows[:, at]), at, own) for at, own in zip(places, apart, strict=True)
    ]
    return BlockDenoiser(parts, block, sde, std, alone, means)


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
    if block.ndim != 1 or block.dtype != torch.int64 or len(block) <= WIDEST or int(block.min()) < -1 or int(block.max()) >= _MOST:
        raise ValueError("no blocks of columns")
    std, alone, means = std.expand(len(block)), tensors.get("alone.clean"), tensors.get("alone.means")
    places = [(block == k).nonzero().flatten() for k in range(int(block.max()) + 1)]
    parts, apart = [], _apart(alone, means, [len(at) for at in places])
    for k, (at, own) in enumerate(zip(places, apart, strict=True)):
        correlation, corners, piles = (tensors.get(f"parts.{k}.{name}") for name in ("clean_correlation", "corners.clean", "piles.clean"))
        if correlation is None or correlation.shape[:1] != (len(at),):
            raise ValueError("no blocks of columns")
        parts.append(LinearDenoiser(sde, std, correlation, corners, piles, at, own))
    return BlockDenoiser(parts, block, sde, std, alone, means)


def _apart(alone: Tensor | None, means: Tensor | None, sizes: Sequence[int]) -> list[Tensor | None]:
    """Of each block the covariance of the means beside categories."""
    if alone is None or means is None:
        return [None] * len(sizes)
    if means.shape != (len(alone), sum(sizes)):
        raise ValueError("no means beside categories")
    return [spread_of(part, alone) for part in means.cpu().split(list(sizes), 1)]


def _plain(corners: Tensor, piles: Tensor | None) -> Tensor:
    """Which columns have more than three values, and stand beside no mark."""
    plain = (corners[:, 3:5] < 0).all(1)
    if piles is not None:
        marks = piles[:, [0, 6]].long()
        plain[marks[marks >= 0]] = False
    return plain


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
        if count > WIDEST:
            continue
        room = next((k for k, size in enumerate(sizes) if size + count <= WIDEST), len(sizes))
        if room * WIDEST >= _MOST:
            continue
        sizes += [0] * (room == len(sizes))
        sizes[room] += count
        block[leader == first] = room
    return block
