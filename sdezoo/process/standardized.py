"""Coordinates with a center and a scale for each column: `x = φ(c + s z)`.

The process runs in `z` with one noise level for all entries. In the coordinates `u = φ⁻¹(x)`, entry `i` then has `s_i` times the noise::

    u_t − c = α (u_0 − c) + s m + s σ ε,      σ_i = s_i σ,      v_i = s_i² v

The noise of each column is proportional to its own spread, while time grids, noise conditioning and priors still use a single noise level
`σ/α`. If `c` and `s` are the mean and standard deviation of the columns, the state has mean 0 and standard deviation 1.

For `φ = exp`, `y = e^z = (x/e^c)^{1/s}`. A power of a geometric Brownian motion is again one, and `x` has `s` times the volatility of `y`.
The Hyvärinen scores differ by the change of variables, `y ∘ ∇_y log p = ∇_z log p − 1` and `x ∘ ∇_x log p = ∇_z log p / s − 1`.

A column with `s = 0` is constant: every state decodes to `φ(c)`, and the column has no density.

`φ` and its inverse are computed in float64: a column with mean 7 and deviation 1e-3 in `log x` would lose half of float32's digits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Size, Tensor
from torch.distributions import Transform
from torch.distributions.constraints import Constraint

from sdezoo.errors import ParameterError
from sdezoo.process.differentiation import kept


class Standardized(Transform):
    """The transform `z → φ(c + s z)`.

    Args:
        phi: `φ`.
        center: `c`, float64 `(d,)` or `(1,)`; broadcasts against the last dimension of the state.
        spread: `s`, float64 `(d,)` or `(1,)`, at least 0; 0 makes the entry constant.
    """

    def __init__(self, phi: Transform, center: Tensor, spread: Tensor) -> None:
        super().__init__()
        self.phi, self.center, self.spread = phi, center, spread

    @property
    def domain(self) -> Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        domain = self.phi.domain
        assert isinstance(domain, Constraint)
        return domain

    @property
    def codomain(self) -> Constraint:  # pyright: ignore[reportIncompatibleVariableOverride]
        codomain = self.phi.codomain
        assert isinstance(codomain, Constraint)
        return codomain

    @property
    def bijective(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.phi.bijective and bool((self.spread > 0).all())

    def forward_shape(self, shape: Size) -> Size:
        return self.phi.forward_shape(shape)

    def inverse_shape(self, shape: Size) -> Size:
        return self.phi.inverse_shape(shape)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """`log |det φ'| + Σ log s`, float64 on the device of `x`; for element-wise `φ` the terms of each entry."""
        u = self._inside(x)
        inner = self.spread.to(u.device).log().expand_as(u)
        inner = inner.sum(-1) if self.domain.event_dim else inner
        return self.phi.log_abs_det_jacobian(u, wide(y)).to(x.device) + inner.to(x.device)

    def _call(self, x: Tensor) -> Tensor:
        y = self.phi(self._inside(x))
        assert y is not None
        return y.to(x.device, x.dtype)

    def _inverse(self, y: Tensor) -> Tensor:
        u = self.phi.inv(wide(y))
        assert u is not None
        center, spread = self.center.to(u.device), self.spread.to(u.device)
        moving = spread > 0
        return torch.where(moving, (u - center) / torch.where(moving, spread, 1.0), 0.0).to(y.device, y.dtype)

    def _inside(self, z: Tensor) -> Tensor:
        z = wide(z)
        return self.center.to(z.device) + self.spread.to(z.device) * z


def standardized(phi: Transform, center: Sequence[float] | None, spread: Sequence[float] | None) -> Transform:
    """The transform `φ(c + s z)`, or `φ` itself if `center` and `spread` are None.

    Args:
        phi: `φ`.
        center: `c`, one number for each column or one for all. None: 0.
        spread: `s`, one number for each column or one for all. None: 1.
    """
    if center is None and spread is None:
        return phi
    return Standardized(phi, *(kept(tuple(v)) for v in (center or (0.0,), spread or (1.0,))))


def column_moments(
    u: Tensor, center: Sequence[float] | None = None, spread: Sequence[float] | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """`c` and `s` of a table: the given values, or the mean and standard deviation of each column. A constant column has deviation 0.

    Args:
        u: the rows in the coordinates `φ⁻¹(x)`, `(N, d)`.
        center: `c`; None: the means.
        spread: `s`; None: the standard deviations.

    Raises:
        ParameterError: if the number of given values is neither one nor the number of columns.
    """
    columns = u.shape[1]
    for name, given in {"center": center, "spread": spread}.items():
        if given and len(given) not in (1, columns):
            raise ParameterError(
                f"{name} has {len(given)} numbers for {columns} columns.", f"Give {name} one number for each column, or one for all."
            )
    u = wide(u)
    low, high = u.aminmax(dim=0)
    constant = low == high
    means, deviations = torch.where(constant, low, u.mean(0)), torch.where(constant, 0.0, u.std(0, correction=min(1, len(u) - 1)))
    return tuple(center or means.tolist()), tuple(spread or deviations.tolist())


def by_column(x: Tensor) -> Tensor:
    """The rows of a table, `(N, d)`, as they are; other data as one column of all their values.

    Args:
        x: data, `(N, *event)`.
    """
    return x if x.ndim == 2 else x.reshape(-1, 1)


def unstandardized(phi: Transform) -> Transform:
    """`φ` of standardized coordinates `φ(c + s z)`; other coordinates unchanged."""
    return phi.phi if isinstance(phi, Standardized) else phi


def wide(values: Tensor) -> Tensor:
    """`values` in float64, moved to the CPU if their device has no float64."""
    return (values.cpu() if values.device.type == "mps" else values).double()
