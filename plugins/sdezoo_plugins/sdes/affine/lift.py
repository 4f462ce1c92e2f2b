"""The lift: an affine process on the real line, mapped to the support of the data by a bijection `x = φ(z)`.

In coordinates the process stays the same, `dz = f dt + g dW` and `z_t = α z_0 + m + √v ε`. By Itô's formula (Øksendal,
*Stochastic Differential Equations*, theorem 4.1.2) the data solve, for element-wise `φ`::

    dX = [φ'(z) f(z, t) + ½ φ''(z) g²] dt + φ'(z) g dW,      z = φ⁻¹(X)

and densities, the prior's included, change by `log p_X(x) = log p_Z(z) − log |det φ'(z)|`. These are the nonlinear diffusions of
Kim et al., arXiv 2205.13699, section 3, with a fixed map instead of a learned one. A state cannot leave the support.

================ ============================ =============== ==================================================
`transform`      `φ(z)`                       support         with `low`, `high`
================ ============================ =============== ==================================================
`exp`            `e^z`                        `x > 0`         `low + e^z`
`softplus`       `ln(1 + e^z)`                `x > 0`         `low + ln(1 + e^z)`: `x ≈ low + z` for large `z`
`sigmoid`        `1/(1 + e^{−z})`             `0 < x < 1`     `low + (high − low)/(1 + e^{−z})`
`tanh`           `tanh z`                     `−1 < x < 1`    the same box from `(1 + tanh z)/2`
`stick-breaking` `d − 1` numbers to `d`       the simplex     none
================ ============================ =============== ==================================================

Stick-breaking takes the share `1/(1 + e^{−u_k})` of what is left, `u_k = z_k − ln(d − k)`, so that `z = 0` is the centre. It is not
element-wise, and its equation in `x` does not have one Brownian motion per entry. Its density is that of all entries but the last.

Supports are open. Data on the boundary have no coordinates and are rejected. Decoded values that would round to the boundary are an
error.

Columns of a table move in `z_i = (φ⁻¹(x_i) − c_i)/s_i`, with mean `c_i` and deviation `s_i` of the column, `x = φ(c + s z)`. The base
process sees columns of unit spread, and its noise is `s_i` times as large in `φ⁻¹(x_i)`. A column with `s_i = 0` is constant, and stays
constant.

With `α = 1`, `m = 0`, `v = σ_min² (r^{2t} − 1)` of `ve` and `φ = exp` this is `gbm` with `sigma = σ_min √(2 ln r)` and
`sigma_end = r sigma`, to rounding, path by path.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator
from torch import Tensor
from torch.distributions import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    SigmoidTransform,
    SoftplusTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
)
from torch.distributions.constraints import Constraint, positive
from torch.distributions.transforms import identity_transform
from torch.nn.functional import logsigmoid, pad

from sdezoo.errors import ParameterError
from sdezoo.parameters import NonNegative
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.columns import ColumnFit
from sdezoo.process.standardized import column_moments, standardized, wide
from sdezoo.zoo.registry import SDES


def _written(spec: Any) -> Any:
    """A spec string as written inside another: in parentheses if it has commas."""
    if isinstance(spec, tuple):
        spec = ",".join(spec)
    return f"({spec})" if isinstance(spec, str) and "," in spec and not spec.startswith("(") else spec


class Between(Constraint):
    """The open interval from `low` to `high`.

    Args:
        low: lower end.
        high: upper end, which may be infinite.
    """

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    def check(self, value: Tensor) -> Tensor:
        return (self.low < value) & (value < self.high)

    def __repr__(self) -> str:
        return f"the numbers above {self.low:g}" if self.high == math.inf else f"the open interval ({self.low:g}, {self.high:g})"


class InnerSimplex(Constraint):
    """Rows of positive numbers that sum to 1, to within a millionth."""

    event_dim = 1

    def check(self, value: Tensor) -> Tensor:
        return (value > 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)

    def __repr__(self) -> str:
        return "the simplex without its boundary"


class Softplus(SoftplusTransform):
    """`ln(1 + e^z)` and its slope, exact to rounding everywhere; torch's own returns `z` from 20 on, off by `2e-9`."""

    def _call(self, x: Tensor) -> Tensor:
        return torch.logaddexp(x, torch.zeros_like(x))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return logsigmoid(x)


class StickBreaking(StickBreakingTransform):
    """Stick-breaking without torch's clamps: `1 − share` is computed as a sigmoid, and the rest as a sum of the parts that follow."""

    def _call(self, x: Tensor) -> Tensor:
        u = x - self._offset(x)
        return pad(torch.sigmoid(u), [0, 1], value=1) * pad(torch.sigmoid(-u).cumprod(-1), [1, 0], value=1)

    def _inverse(self, y: Tensor) -> Tensor:
        rest = y.flip(-1).cumsum(-1).flip(-1)[..., 1:]
        first = y[..., :-1].log() - rest.log()
        return first + self._offset(first)

    def _offset(self, x: Tensor) -> Tensor:
        return torch.arange(x.shape[-1], 0, -1, dtype=x.dtype, device=x.device).log()


TRANSFORMS: dict[str, tuple[type[Transform], float, float]] = {
    "exp": (ExpTransform, 0.0, math.inf),
    "softplus": (Softplus, 0.0, math.inf),
    "sigmoid": (SigmoidTransform, 0.0, 1.0),
    "tanh": (TanhTransform, -1.0, 1.0),
    "stick-breaking": (StickBreaking, 0.0, 1.0),
}
"""Each transform with the ends of its range."""


@dataclass(frozen=True)
class Lift(AffineSDE):
    """Any affine process on the real line, lifted by x = φ(z): exp, softplus, sigmoid, tanh, any box, stick-breaking."""

    papers: ClassVar[tuple[str, ...]] = ("kim2022maximum",)

    base: Annotated[str, BeforeValidator(_written)] = "ve"
    """Spec string of an affine process on the real line; in parentheses if it has commas: `base=(ve:sigma_max=4,sigma_min=0.1)`."""
    transform: Literal["exp", "softplus", "sigmoid", "tanh", "stick-breaking"] = "exp"
    """The map `φ`."""
    low: float | None = None
    """Lower end of the data; None: that of the transform."""
    high: float | None = None
    """Upper end of the data, for `sigmoid` and `tanh`; None: that of the transform."""
    center: tuple[float, ...] | None = None
    """`c`, one number per column of coordinates or one for all; None: the means of a table's columns, else 0."""
    spread: tuple[NonNegative, ...] | None = None
    """`s`, one number per column of coordinates or one for all; None: the standard deviations of a table's columns, else 1."""

    @classmethod
    def column_fit(cls, column: Tensor) -> ColumnFit | None:
        if not (column.min() > 0 and 0.9 < column.max() < 1):
            return None
        return ColumnFit(3, "between 0 and 1", f"{cls.title()}:transform=sigmoid")

    @classmethod
    def shares_fit(cls, rows: Tensor) -> ColumnFit | None:
        return ColumnFit(2, "positive shares", f"{cls.title()}:transform=stick-breaking") if rows.min() > 0 else None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self._whole_rows and (self.low, self.high) != (None, None):
            raise ParameterError(f"{self.title()}: the simplex has no low and high.", "Leave them out.")
        if self.high is not None and TRANSFORMS[self.transform][2] == math.inf:
            raise ParameterError(f"{self.title()}: {self.transform} has no upper end.", "Leave high out, or choose sigmoid or tanh.")
        low, high = self._ends
        self.check_rising(low=low, high=high)
        if not isinstance(self.process, AffineSDE) or self.process.coordinates != identity_transform:
            raise ParameterError(
                f"{self.title()}: {self.base} is not an affine process on the real line.", "Choose another base, such as ve."
            )

    @cached_property
    def process(self) -> AffineSDE:
        """The process in coordinates."""
        return SDES.build(self.base[1:-1] if self.base.startswith("(") else self.base)

    @property
    def coordinates(self) -> Transform:
        return standardized(self._phi, self.center, self.spread)

    @property
    def _phi(self) -> Transform:
        phi, first, last = TRANSFORMS[self.transform]
        low, high = self._ends
        if (low, high) == (first, last):
            return phi()
        scale = 1.0 if high == math.inf else (high - low) / (last - first)
        return ComposeTransform([phi(), AffineTransform(low - scale * first, scale)])

    @property
    def support(self) -> Constraint:
        if self._whole_rows:
            return InnerSimplex()
        return positive if self._ends == (0.0, math.inf) else Between(*self._ends)

    @property
    def t_span(self) -> tuple[float, float]:
        return self.process.t_span

    def adapted(self, x0: Tensor) -> Self:
        measured = self
        if x0.ndim == 2:
            u = self._phi.inv(wide(x0))
            assert u is not None
            center, spread = column_moments(u, self.center, self.spread)
            measured = replace(self, center=center, spread=spread)
        return replace(measured, base=self.process.adapted(measured.encode(x0)).full_spec)

    @property
    def homogeneous(self) -> bool:
        return self.process.homogeneous

    def coefficients(self, t: Tensor) -> Coefficients:
        return self.process.coefficients(t)

    @property
    def _ends(self) -> tuple[float, float]:
        _, first, last = TRANSFORMS[self.transform]
        return first if self.low is None else self.low, last if self.high is None else self.high

    @property
    def _whole_rows(self) -> bool:
        return TRANSFORMS[self.transform][0]().codomain.event_dim > 0
