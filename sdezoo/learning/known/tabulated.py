"""Tables over noise levels, and products with the matrices in them.

What the known part of a denoiser takes from the noise is tabulated once, at the levels of `noise_levels`. At any other level it is
interpolated: `between` says where the level lies, and `at_level` reads a table there.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from sdezoo.process.affine import AffineSDE

_LEVELS = 32
_BLOCK, _COLUMNS = 64, 16


def noise_levels(sde: AffineSDE, std: Tensor, columns: int, among: Tensor | None) -> tuple[Tensor, Tensor]:
    """The levels at which tables are made, increasing, and `T` there, float64 `(K,)` and `(K, d)`.

    Args:
        sde: the noise process.
        std: standard deviation of the clean coordinates, broadcasts against their columns.
        columns: the number of columns of the process.
        among: indices of `d` columns among them; None: all.
    """
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


def at_level(table: Tensor, k: Tensor, share: Tensor, like: Tensor) -> Tensor:
    """Interpolate a table.

    Args:
        table: its entries at all levels, `(K, ...)`.
        k: the next of the levels, from `between`, `(B,)` or `(1,)`.
        share: the share of the way to it, likewise.
        like: a tensor of the dtype and on the device of the result.

    Returns:
        `(B, ...)` or `(1, ...)`.
    """
    return torch.lerp(table[k - 1], table[k], share[(..., *[None] * (table.ndim - 1))]).to(like)


def times(matrices: Tensor, rows: Tensor) -> Tensor:
    """Multiply each row by its matrix.

    How a matrix product rounds depends on its shape. So one matrix for all rows is multiplied by blocks of 64 rows, and the number of
    columns is filled up to a multiple of 16: a row then rounds alike in every batch.

    Args:
        matrices: `(B, k, d)`, or `(1, k, d)` for all rows.
        rows: `(B, d)`.
    """
    if len(matrices) > 1:
        return (matrices @ rows.unsqueeze(-1)).squeeze(-1)
    if torch.compiler.is_compiling():  # the number of rows may be free
        return rows @ matrices[0].T
    (count, columns), made = rows.shape, matrices.shape[1]
    more = -columns % _COLUMNS
    blocks = pad(rows, (0, more, 0, -count % _BLOCK)).view(-1, _BLOCK, columns + more)
    wide = pad(matrices.mT, (0, -made % _COLUMNS, 0, more)).expand(len(blocks), -1, -1)
    return torch.bmm(blocks, wide).flatten(0, 1)[:count, :made]
