"""Derivatives by automatic differentiation of functions of one flattened row, for the laws that hold point by point."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sdezoo.process.differentiation import along


def jacobian(fn: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """`∂fn/∂y`, backward; forward where that is not finite, as next to a `where` that avoids a root of 0.

    Args:
        fn: takes `(n,)`, returns any shape.
        y: the point, `(n,)`.

    Returns:
        The shape of `fn(y)`, and `n` behind.
    """
    with torch.enable_grad():
        at = y.clone().requires_grad_()
        found = fn(at) + 0 * at.sum()
        rows = [torch.autograd.grad(one, at, retain_graph=True, materialize_grads=True)[0] for one in found.reshape(-1)]
    slopes = torch.stack(rows).reshape(*found.shape, len(y))
    return slopes if slopes.isfinite().all() else forward_jacobian(fn, y)


def forward_jacobian(fn: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """`∂fn/∂y`, forward; it may be differentiated again. Arguments and result are those of `jacobian`."""
    return torch.stack([along(fn, y, unit)[1] for unit in torch.eye(len(y), dtype=y.dtype)], -1)


def derivatives(fn: Callable[[Tensor, Tensor], Tensor], y: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """`∂fn/∂y`, `∂fn/∂t` and `∂²fn/∂y²`, backward twice, which takes a quarter of the time of forward over backward.

    Args:
        fn: takes a point `(n,)` and a time, returns a number.
        y: the point, `(n,)`.
        t: the time, 0-dim.

    Returns:
        `(n,)`, 0-dim and `(n, n)`.
    """
    with torch.enable_grad():
        at = (y.clone().requires_grad_(), t.clone().requires_grad_())
        slope, change = torch.autograd.grad(fn(*at), at, create_graph=True, materialize_grads=True)
        rows = [torch.autograd.grad(one, at[0], retain_graph=True, materialize_grads=True)[0] for one in (slope + 0 * at[0]).unbind()]
    return slope.detach(), change.detach(), torch.stack(rows)


def difference(fn: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """The Jacobian of `fn` at `y` by differences of fourth order: torch's own second derivative of `logaddexp`, for one, may be NaN.

    Args:
        fn: takes `(n,)`, returns `(m,)`.
        y: the point, `(n,)`.

    Returns:
        `(m, n)`.
    """
    h = 1e-3 * y.abs().clamp(1e-2, 1.0)

    def rate(unit: Tensor) -> Tensor:
        near, far = ((fn(y + k * h * unit) - fn(y - k * h * unit)) / (2 * k * (h * unit).sum()) for k in (1, 2))
        return (4 * near - far) / 3

    return torch.stack([rate(unit) for unit in torch.eye(len(y), dtype=y.dtype)], 1)


def second_divergence(fn: Callable[[Tensor], Tensor], y: Tensor) -> Tensor:
    """`Σ_ij ∂_i ∂_j fn_ij`, backward twice; forward twice where that is not finite, as next to a `where` that avoids a root of 0.

    Args:
        fn: takes `(n,)`, returns `(n, n)`.
        y: the point, `(n,)`.

    Returns:
        A number, 0-dim.
    """
    with torch.enable_grad():
        at = y.clone().requires_grad_()
        found, units = fn(at) + 0 * at.sum(), torch.eye(len(y), dtype=y.dtype)
        grads = partial(torch.autograd.grad, retain_graph=True, materialize_grads=True)
        sums = [sum(grads(one, at, create_graph=True)[0] @ unit for one, unit in zip(row, units, strict=True)) for row in found]
        total = torch.stack([grads(one + 0 * at.sum(), at)[0] @ unit for one, unit in zip(sums, units, strict=True)]).sum()
    return total if total.isfinite() else torch.einsum("ijij->", forward_jacobian(lambda u: forward_jacobian(fn, u), y))
