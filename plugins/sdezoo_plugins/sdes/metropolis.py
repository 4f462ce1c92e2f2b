"""Metropolis noising: Brownian motion in any set that a membership test describes, convex or not, connected or not.

Fishman et al., arXiv 2307.05439, algorithms 1 and 2. Forward, with steps of variance `γ`, and backward with the score `s`::

    x' = x + √γ ε            x' = x + γ s + √γ ε            accepted where x' is inside, else x stays

A step is one proposal and one test. Proposals are symmetric, so that the uniform law is invariant exactly, for every `γ`. As `γ → 0`
this is Brownian motion reflected at the boundary, of which no transition is known; a draw of `z_t` is simulated by `STEPS` steps of
equal variance. Nothing knows where the boundary is. Steps that are as long as a gap is wide cross it, and the set may have parts.

In units of the set's width `w` the noise is geometric, `v(t) = σ_min² (r^{2t} − 1)` with `r = σ_max/σ_min`, 0 at `t = 0`. The prior is
uniform; what is left of the data in `z_1` fades like `e^{−λσ_max²/2}`, with the first eigenvalue `λ` of the set in units of `1/w²`: `π²`
for an interval, 13.6 for a disc, 10 for the annulus of inner radius 0.3.

=========== ===================================================== ================= =========================================
`set`       the points `x` with                                   parameters        drawn uniformly
=========== ===================================================== ================= =========================================
`box`       `low ≤ x_i ≤ high`, every entry by itself             `low`, `high`     directly
`ball`      `‖x‖ ≤ radius`                                        `radius`          directly
`annulus`   `inner ≤ ‖x‖ ≤ radius`                                `radius`, `inner` directly
`polytope`  `a_k · x ≤ b_k`                                       `faces`           the first of 256 candidates in a box
your own    what `inside` says, see `MetropolisWalk`                                the first of 256 candidates in a box
=========== ===================================================== ================= =========================================

`x` is a vector, the last axis of the data, but for `box`, which takes data of any shape and accepts each entry by itself.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from scipy.optimize import linprog
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.errors import DataError, ParameterError
from sdezoo.parameters import Positive
from sdezoo.process.confined import ConfinedBrownian
from sdezoo.process.noise import Noise
from sdezoo.process.process import Shape

STEPS = 100
CANDIDATES, TOGETHER = 256, 16
"""Candidates for a draw of the prior, and how many are drawn at once."""
ROUNDED = 2
"""Candidates where only rounding can put one outside."""

_OF = {"low": ("box",), "high": ("box",), "radius": ("ball", "annulus"), "inner": ("annulus",), "faces": ("polytope",)}


class Inside(Constraint):
    """The vectors that a membership test lets in."""

    event_dim = 1

    def __init__(self, walk: "MetropolisWalk") -> None:
        self._walk = walk

    def check(self, value: Tensor) -> Tensor:
        return self._walk.inside(value)

    def __repr__(self) -> str:
        return self._walk.words


@dataclass(frozen=True)
class MetropolisWalk(ConfinedBrownian):
    """Metropolis noising in a set of your own: a subclass says `inside` and `bounds`, and nothing else."""

    @abstractmethod
    def inside(self, x: Tensor) -> Tensor:
        """Whether each of the vectors `x` `(…, d)` is in the set, `(…)`; one test, of any points whatsoever."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float | Sequence[float], float | Sequence[float]]:
        """A lower and an upper bound of the set, a number or one for each of the `d` entries: a box that holds it."""

    @property
    def words(self) -> str:
        """The set in words, for messages."""
        return f"the set of '{self.title()}'"

    @property
    def support(self) -> Constraint:
        return Inside(self)

    @property
    def width(self) -> float:
        """`w`, the longest side of the bounds."""
        low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in self.bounds)
        return float((high - low).max())

    def accepts(self, proposal: Tensor) -> Tensor:
        """Whether a proposal is inside, `(…, 1)`; of the box, whether each of its entries is."""
        support = self.support
        inside = support.check(proposal)
        return inside.reshape(*inside.shape, *(1,) * support.event_dim)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """Metropolis' rule. What is not a number is passed on, so that it shows."""
        return torch.where(self.accepts(proposal) | proposal.isnan(), proposal, z)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """The state in units of half the bounds, from their middle."""
        low, high = (torch.as_tensor(bound, dtype=z.dtype, device=z.device) for bound in self.bounds)
        return (2 * z - low - high) / (high - low)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        size = (self.scale(t) / math.sqrt(STEPS)).to(x0)
        z = x0
        for _ in range(STEPS):
            z = self.project(z + size * noise.normal(x0), z)
        return z

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Uniform: the first of 256 candidates in the bounds that is inside.

        A set that fills the share `a` of its bounds has none with the chance `(1 − a)^256`.

        Raises:
            ParameterError: for a row without any.
        """
        low, high = (torch.as_tensor(bound, dtype=like.dtype, device=like.device) for bound in self.bounds)
        return self.first_inside(lambda many: low + (high - low) * noise.uniform(like, many), shape, CANDIDATES)

    def first_inside(self, draw: Callable[[Shape], Tensor], shape: Sequence[int], candidates: int) -> Tensor:
        """The first of so many candidates, several from each `draw`, that is inside; all are drawn, so that no row depends on others.

        Raises:
            ParameterError: where none is.
        """
        together = min(candidates, TOGETHER)
        z = torch.full((), math.nan)
        for _ in range(candidates // together):
            many = draw((shape[0], together, *shape[1:]))
            inside = self.accepts(many)
            first = torch.take_along_dim(many, inside.int().argmax(1, keepdim=True), 1)[:, 0]
            z = torch.where(z.isnan() & inside.any(1), first, z.to(many))
        if z.isnan().any():
            raise ParameterError(
                f"{self.title()}: of {candidates} points drawn in its bounds none is in the set.",
                "Give narrower bounds, or override `prior` with a draw of the uniform law.",
            )
        return z


@dataclass(frozen=True)
class Metropolis(MetropolisWalk):
    """Metropolis noising in a box, ball, annulus or polytope, or a set of your own; samples cannot leave it."""

    set: Literal["box", "ball", "annulus", "polytope"] = "box"
    """The set."""
    low: float | None = None
    """Lower wall of the box; None: 0."""
    high: float | None = None
    """Upper wall of the box; None: 1."""
    radius: Positive | None = None
    """Radius of the ball, outer radius of the annulus; None: 1."""
    inner: Positive | None = None
    """Inner radius of the annulus; None: 0.3 of the outer one."""
    faces: str | None = None
    """The polytope as half-spaces `a · x ≤ b`, each `a_1 … a_d b`, separated by semicolons: `-1 0 0; 0 -1 0; 1 1 1` is a triangle."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for key, sets in _OF.items():
            if getattr(self, key) is not None and self.set not in sets:
                raise ParameterError(f"{self.title()}: set={self.set} has no {key}.", f"Leave it out, or give set={' or set='.join(sets)}.")
        if self.set == "polytope":
            _half_spaces(self.faces or "")
        low, high = self._ends
        if not low < high:
            names = "low and high" if self.set == "box" else "inner and radius"
            raise ParameterError(f"{self.title()}: {names}, {low:g} and {high:g}, leave no room.", "Give the first below the second.")

    @property
    def _ends(self) -> tuple[float, float]:
        """The walls of the box, or the radii."""
        if self.set == "box":
            return 0.0 if self.low is None else self.low, 1.0 if self.high is None else self.high
        outer = 1.0 if self.radius is None else self.radius
        return (0.3 * outer if self.inner is None else self.inner) if self.set == "annulus" else 0.0, outer

    @property
    def words(self) -> str:
        low, high = self._ends
        return {
            "box": f"the box [{low:g}, {high:g}]",
            "ball": f"the ball of radius {high:g}",
            "annulus": f"the annulus of radii {low:g} and {high:g}",
            "polytope": f"the polytope {self.faces}",
        }[self.set]

    @property
    def support(self) -> Constraint:
        return constraints.interval(*self._ends) if self.set == "box" else super().support

    @property
    def bounds(self) -> tuple[float | Sequence[float], float | Sequence[float]]:
        if self.set == "polytope":
            return _box_around(self.faces or "")
        low, high = self._ends
        return (low, high) if self.set == "box" else (-high, high)

    def inside(self, x: Tensor) -> Tensor:
        low, high = self._ends
        if self.set == "box":
            return ((low <= x) & (x <= high)).all(-1)
        if self.set != "polytope":
            distance = x.norm(dim=-1)
            return (low <= distance) & (distance <= high)
        faces = torch.tensor(_half_spaces(self.faces or ""), dtype=x.dtype, device=x.device)
        if x.shape[-1] != faces.shape[1] - 1:
            raise DataError(
                f"The faces of the polytope have {faces.shape[1] - 1} numbers beside b, and the data {x.shape[-1]} columns.",
                "Give each face one number for every column, and b.",
            )
        return (x @ faces[:, :-1].T <= faces[:, -1]).all(-1)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Uniform. In a ball or annulus: a random direction, and a radius of which the `d`-th power is uniform."""
        low, high = self._ends
        d = shape[-1]

        def draw(many: Shape) -> Tensor:
            if self.set == "box":
                return low + (high - low) * noise.uniform(like, many)
            share = noise.uniform(like, (*many[:-1], 1))
            direction = torch.nn.functional.normalize(noise.normal(like, many), dim=-1)
            return direction * high * ((low / high) ** d * (1 - share) + share) ** (1 / d)

        return super().prior(shape, noise, like) if self.set == "polytope" else self.first_inside(draw, shape, ROUNDED)


@cache
def _half_spaces(faces: str) -> tuple[tuple[float, ...], ...]:
    """The rows `(a_1, …, a_d, b)` of a polytope."""
    try:
        rows = tuple(tuple(map(float, row.split())) for row in faces.split(";") if row.strip())
    except ValueError:
        rows = ()
    if not rows or len({len(row) for row in rows}) > 1 or len(rows[0]) < 2:
        raise ParameterError(
            f"metropolis: faces={faces or 'none'} are no half-spaces.",
            "Give one row of numbers for each, all of the same length, b last: faces='-1 0 0; 0 -1 0; 1 1 1'.",
        )
    _box_around(faces, rows)
    return rows


@cache
def _box_around(faces: str, rows: tuple[tuple[float, ...], ...] | None = None) -> tuple[list[float], list[float]]:
    """The smallest box that holds the polytope, by linear programs."""
    rows = rows or _half_spaces(faces)
    a, b = [row[:-1] for row in rows], [row[-1] for row in rows]
    ends: tuple[list[float], list[float]] = ([], [])
    for i in range(len(a[0])):
        for side, sign in zip(ends, (1, -1), strict=True):
            found = linprog([sign * (i == j) for j in range(len(a[0]))], A_ub=a, b_ub=b, bounds=(None, None))
            if not found.success:
                raise ParameterError(
                    f"metropolis: the polytope {faces} is empty or not bounded.", "Give faces that close it on every side."
                )
            side.append(sign * float(found.fun))
    if not all(low < high for low, high in zip(*ends, strict=True)):
        raise ParameterError(f"metropolis: the polytope {faces} is flat.", "Give one that has an inside.")
    return ends
