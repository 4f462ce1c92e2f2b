"""Metropolis noising: Brownian motion in any set that a membership test describes, convex or not, connected or not.

Fishman et al., arXiv 2307.05439, algorithms 1 and 2. Forward, with steps of variance `γ`, and backward with the score `s`::

    x' = x + √γ ε            x' = x + γ s + √γ ε            accepted if x' is inside, else x stays

A step is one proposal and one test. Proposals are symmetric, so the uniform distribution is exactly invariant for every `γ`. As `γ → 0`
this is Brownian motion reflected at the boundary, whose transition is unknown. A sample of `z_t` is simulated by `STEPS` steps of equal
variance. The location of the boundary is never needed. The set may have several components: a step as long as a gap can cross it.

In units of the set's width `w` the noise is geometric, `v(t) = σ_min² (r^{2t} − 1)` with `r = σ_max/σ_min`, 0 at `t = 0`. The prior is
uniform. The influence of the data on `z_1` decays like `e^{−λσ_max²/2}`, with the first eigenvalue `λ` of the set in units of `1/w²`:
`π²` for an interval, 13.6 for a disc, 10 for the annulus of inner radius 0.3.

=========== ===================================================== ================= =========================================
`set`       the points `x` with                                   parameters        uniform sampling
=========== ===================================================== ================= =========================================
`box`       `low ≤ x_i ≤ high`, every entry by itself             `low`, `high`     direct
`ball`      `‖x‖ ≤ radius`                                        `radius`          direct
`annulus`   `inner ≤ ‖x‖ ≤ radius`                                `radius`, `inner` direct
`polytope`  `a_k · x ≤ b_k`                                       `faces`           the first of 256 candidates in a box
your own    those that `inside` accepts, see `MetropolisWalk`                       the first of 256 candidates in a box
=========== ===================================================== ================= =========================================

`x` is a vector, the last axis of the data. The exception is `box`, which takes data of any shape and accepts each entry by itself.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

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
"""Number of candidates for a sample of the prior, and how many are generated at once."""
ROUNDED = 2
"""Number of candidates if only rounding can put one outside."""

_OF = {"low": ("box",), "high": ("box",), "radius": ("ball", "annulus"), "inner": ("annulus",), "faces": ("polytope",)}


class Inside(Constraint):
    """The vectors that a membership test accepts.

    Args:
        walk: the process whose `inside` is the test.
    """

    event_dim = 1

    def __init__(self, walk: "MetropolisWalk") -> None:
        self._walk = walk

    def check(self, value: Tensor) -> Tensor:
        return self._walk.inside(value)

    def __repr__(self) -> str:
        return self._walk.words


@dataclass(frozen=True)
class MetropolisWalk(ConfinedBrownian):
    """Metropolis noising in your own set: a subclass defines `inside` and `bounds`, and nothing else."""

    @abstractmethod
    def inside(self, x: Tensor) -> Tensor:
        """Whether each vector is in the set.

        Args:
            x: vectors `(…, d)`, anywhere in space.

        Returns:
            bool, `(…)`.
        """

    @property
    @abstractmethod
    def bounds(self) -> tuple[float | Sequence[float], float | Sequence[float]]:
        """Lower and upper bound of a box around the set, each one number or one per entry, `d` of them."""

    @property
    def words(self) -> str:
        """A description of the set, for messages."""
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
        """Whether each proposal is accepted.

        Args:
            proposal: proposed states, `(…, d)`.

        Returns:
            bool, `(…, 1)`; for the box `(…, d)`, one test per entry.
        """
        support = self.support
        inside = support.check(proposal)
        return inside.reshape(*inside.shape, *(1,) * support.event_dim)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        """The Metropolis rule. NaN is passed on, so that it is noticed."""
        return torch.where(self.accepts(proposal) | proposal.isnan(), proposal, z)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        """The state relative to the centre of the bounds, in units of half their width."""
        low, high = (torch.as_tensor(bound, dtype=z.dtype, device=z.device) for bound in self.bounds)
        return (2 * z - low - high) / (high - low)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        size = (self.scale(t) / math.sqrt(STEPS)).to(x0)
        z = x0
        for _ in range(STEPS):
            z = self.project(z + size * noise.normal(x0), z)
        return z

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Uniform samples: the first of 256 candidates in the bounds that is inside.

        If the set fills the fraction `a` of its bounds, all candidates miss it with probability `(1 − a)^256`.

        Raises:
            ParameterError: if a row has no candidate inside.
        """
        low, high = (torch.as_tensor(bound, dtype=like.dtype, device=like.device) for bound in self.bounds)
        return self.first_inside(lambda many: low + (high - low) * noise.uniform(like, many), shape, CANDIDATES)

    def first_inside(self, draw: Callable[[Shape], Tensor], shape: Sequence[int], candidates: int) -> Tensor:
        """The first candidate of each row that is inside; all candidates are generated, so that no row depends on others.

        Args:
            draw: generates candidates of a given shape, `(B, k, *event)`.
            shape: shape of the result, `(B, *event)`.
            candidates: number of candidates per row.

        Returns:
            The accepted candidates, `(B, *event)`.

        Raises:
            ParameterError: if a row has no candidate inside.
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
                f"{self.title()}: none of {candidates} points sampled in its bounds is in the set.",
                "Give narrower bounds, or override `prior` to sample the uniform distribution.",
            )
        return z


@dataclass(frozen=True)
class Metropolis(MetropolisWalk):
    """Metropolis noising in a box, ball, annulus or polytope, or your own set; samples cannot leave it."""

    papers: ClassVar[tuple[str, ...]] = ("fishman2023metropolis",)

    set: Literal["box", "ball", "annulus", "polytope"] = "box"
    """The set."""
    low: float | None = None
    """Lower bound of the box; None: 0."""
    high: float | None = None
    """Upper bound of the box; None: 1."""
    radius: Positive | None = None
    """Radius of the ball, outer radius of the annulus; None: 1."""
    inner: Positive | None = None
    """Inner radius of the annulus; None: 0.3 of the outer radius."""
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
        """The bounds of the box, or the radii."""
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
                f"The faces of the polytope have {faces.shape[1] - 1} numbers besides b, but the data have {x.shape[-1]} columns.",
                "Give each face one number per column, then b.",
            )
        return (x @ faces[:, :-1].T <= faces[:, -1]).all(-1)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Uniform samples. In a ball or annulus: a random direction, and a radius whose `d`-th power is uniform."""
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
            f"metropolis: faces={faces or 'none'} are not half-spaces.",
            "Give one row of numbers per half-space, all of the same length, b last: faces='-1 0 0; 0 -1 0; 1 1 1'.",
        )
    _box_around(faces, rows)
    return rows


@cache
def _box_around(faces: str, rows: tuple[tuple[float, ...], ...] | None = None) -> tuple[list[float], list[float]]:
    """The smallest box around the polytope, by linear programs."""
    rows = rows or _half_spaces(faces)
    a, b = [row[:-1] for row in rows], [row[-1] for row in rows]
    ends: tuple[list[float], list[float]] = ([], [])
    for i in range(len(a[0])):
        for side, sign in zip(ends, (1, -1), strict=True):
            found = linprog([sign * (i == j) for j in range(len(a[0]))], A_ub=a, b_ub=b, bounds=(None, None))
            if not found.success:
                raise ParameterError(f"metropolis: the polytope {faces} is empty or unbounded.", "Give faces that close it on every side.")
            side.append(sign * float(found.fun))
    if not all(low < high for low, high in zip(*ends, strict=True)):
        raise ParameterError(f"metropolis: the polytope {faces} is flat.", "Give one with an interior.")
    return ends
