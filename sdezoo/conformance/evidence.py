"""Evidence: compare numbers with what a law requires, and test identities on samples.

Every Monte-Carlo law is an identity `E[y] = 0` for vectors `y`, which are sampled independently, row by row. For bounded
`y` and thousands of rows, Hotelling's statistic `T² = n ȳᵀ S⁻¹ ȳ` has the distribution `k (n − 1)/(n − k) F(k, n − k)`,
so its p-value is uniform. Identities are tested on bounded functions of the state (bumps and waves), so heavy tails do
no harm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy import special
from torch import Tensor

from sdezoo.conformance.law import LawError
from sdezoo.process.noise import Noise

ROWS = 8192
"""Number of independent samples for each Monte-Carlo identity."""
_COLLINEAR = 0.1
_PAIRED = 6


def close(what: str, found: Tensor, expected: Tensor, *, rtol: float, atol: float = 0.0) -> None:
    """Check that two tensors agree, entry by entry, to `atol + rtol |expected|`.

    Args:
        what: What `found` is, for the message.
        found: Any shape that broadcasts with `expected`.
        expected: The right values.
        rtol: Relative tolerance.
        atol: Absolute tolerance.

    Raises:
        LawError: They differ. The message gives `what`, both values where they differ most, and the bound.
    """
    if found.shape != expected.shape:
        try:
            found, expected = torch.broadcast_tensors(found, expected)
        except RuntimeError:
            raise LawError(f"{what} has shape {tuple(found.shape)}, and {tuple(expected.shape)} was expected.") from None
    a, b = found.detach().double(), expected.detach().double()
    excess = (a - b).abs() - (atol + rtol * b.abs())
    excess = torch.where(torch.isfinite(a) & torch.isfinite(b), excess, torch.full_like(excess, math.inf))
    excess = torch.where(a == b, torch.full_like(excess, -1.0), excess)
    if excess.numel() and float(excess.max()) > 0:
        k = int(excess.argmax())
        bound = atol + rtol * abs(float(b.flatten()[k]))
        raise LawError(f"{what} is {float(a.flatten()[k]):.8g}, and {float(b.flatten()[k]):.8g} was expected (bound {bound:.1g}).")


def check_staircase(what: str, rates: Sequence[tuple[Tensor, Tensor]], size: float) -> None:
    """Check that numbers that respond to changes of 1e-5 also respond to changes of 1e-9, which float32 cannot resolve.

    Jumps of the process itself do not count: the rates are compared over several neighbouring points.

    Args:
        what: What the numbers are, for the message.
        rates: Rates of change over 1e-5 and over 1e-9, one pair for each of some neighbouring points.
        size: Largest absolute value of the numbers.

    Raises:
        LawError: Most of the small changes are lost.
    """
    coarse = torch.stack([a.detach().double().abs() for a, _ in rates]).amin(0)
    fine = torch.stack([b.detach().double().abs() for _, b in rates]).median(0).values
    lost = (fine < 0.01 * coarse) & (coarse > 1e-4 * (1 + size))
    if lost.any():
        k = int(lost.flatten().double().argmax())
        a, b = float(coarse.flatten()[k]), float(fine.flatten()[k])
        raise LawError(f"{what}: the rate of change is {a:.3g} over 1e-5 and {b:.3g} over 1e-9. Something passes through float32.")


def mean_is_zero(rows: Tensor) -> float:
    """p-value of `E[y] = 0`, by Hotelling's test.

    Columns without spread must be zero. Directions in which columns nearly cancel are left out: a few rows dominate
    there, so the mean is not normal.

    Args:
        rows: Independent samples of `y`, `(n, k)`.
    """
    y = rows.detach().double()
    if not torch.isfinite(y).all():
        return 0.0
    still = y.std(0) <= 1e-12 * y.abs().amax(0)
    if still.any() and float(y.mean(0)[still].abs().max()) > 1e-9:
        return 0.0
    y = y[:, ~still]
    n, k = y.shape
    if k == 0:
        return 1.0
    y = y / y.std(0)
    _, spread, axes = torch.linalg.svd((y - y.mean(0)) / math.sqrt(n - 1), full_matrices=False)
    free = spread > _COLLINEAR * spread[0]
    k = int(free.sum())
    t2 = n * float((((y.mean(0) @ axes[free].T) / spread[free]) ** 2).sum())
    return float(special.fdtrc(k, n - k, t2 * (n - k) / (k * (n - 1))))


def means_are_equal(left: Tensor, right: Tensor) -> float:
    """p-value of `E[a] = E[b]`.

    Args:
        left: Samples of `a`, `(n, k)`.
        right: Samples of `b`, `(n, k)`, independent of `left`.
    """
    return mean_is_zero(left - right)


class PValue(float):
    """A p-value and the case of the Monte-Carlo law that it belongs to."""

    at: str
    """The case."""
    why: Callable[[], str] | None
    """Takes nothing; returns a sentence on what was found, for a law that is broken. None: nothing to add."""

    def __new__(cls, value: float, at: str, why: Callable[[], str] | None = None) -> PValue:
        found = super().__new__(cls, value)
        found.at, found.why = at, why
        return found


def together(p_values: Sequence[float]) -> PValue:
    """Combine independent p-values into one by Fisher's method: uniform if each of them is. Its case is that of the smallest.

    A p-value of 1 is left out: nothing varied, and there was no test.
    """
    p_values = [p for p in p_values if p < 1] or [1.0]
    at, why = getattr(min(p_values), "at", ""), getattr(min(p_values), "why", None)
    if min(p_values) <= 0:
        return PValue(0.0, at, why)
    return PValue(float(special.chdtrc(2 * len(p_values), -2 * sum(math.log(p) for p in p_values))), at, why)


class Bumps:
    """Test functions `φ(z) = Π_i b((z_i − c_i)/w_i)`, `b(u) = cos⁴(πu/2)` on `|u| < 1` and 0 outside, one for each centre `c`.

    They have second derivatives and vanish near the boundary, so an identity of the interior holds for them under any
    boundary rule.

    Args:
        centres: `c`, `(k, n)`.
        widths: `w`, `(k, n)`.
    """

    def __init__(self, centres: Tensor, widths: Tensor) -> None:
        self.centres, self.widths = centres.double(), widths.double()

    @classmethod
    def fitted(cls, rows: Tensor, inside: Callable[[Tensor], Tensor], count: int = 8, seed: int = 0) -> Bumps:
        """Bumps centred at some of the rows and about as wide as the rows spread, narrowed until their boxes lie inside.

        Args:
            rows: Points to fit to, `(N, n)`.
            inside: Takes points `(q, n)`; returns whether they lie in the interior.
            count: Number of bumps.
            seed: Of the centres and widths.
        """
        generator = torch.Generator().manual_seed(seed)
        rows = rows.double()
        # So few rows fall into a bump in the tails that its mean is far from normal.
        shares = torch.tensor([0.16, 0.2, 0.8, 0.84], dtype=torch.float64)
        low, inner_low, inner_high, high = torch.quantile(rows[:4096], shares, 0)
        middle = (rows >= inner_low) & (rows <= inner_high)
        central = torch.argsort(middle.sum(1), descending=True)[: max(len(rows) // 8, count)]
        centres = rows[central[torch.randperm(len(central), generator=generator)[:count]]]
        factors = 1.0 + 2.0 * torch.rand(count, 1, generator=generator, dtype=torch.float64)
        widths = ((high - low) / 2).clamp_min(1e-12) * factors
        corners = 2 * torch.rand(64, rows.shape[1], generator=generator, dtype=torch.float64) - 1
        corners = torch.cat([corners.sign(), corners])
        for _ in range(12):
            fits = torch.stack([inside(c + w * corners).all() for c, w in zip(centres, widths, strict=True)])
            if fits.all():
                break
            widths = torch.where(fits[:, None], widths, 0.7 * widths)
        return cls(centres, widths)

    def factors(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`b`, `b'` and `b''` in every coordinate, `(B, k, n)` each, at states `z` `(B, n)`."""
        a, u = math.pi / 2, self._places(z)
        c, s = torch.cos(a * u), torch.sin(a * u)
        squared = torch.where(u.abs() < 1, c**2, 0.0)
        return (
            squared**2,
            -4 * a * squared * c * s / self.widths,
            4 * a**2 * squared * (3 * s**2 - squared) / self.widths**2,
        )

    def value(self, z: Tensor) -> Tensor:
        """`φ`, `(B, k)`, at states `z` `(B, n)`."""
        u = self._places(z)
        return torch.where(u.abs() < 1, torch.cos(math.pi / 2 * u) ** 2, 0.0).prod(-1) ** 2

    def _places(self, z: Tensor) -> Tensor:
        """`u`, `(B, k, n)`, at states `z` `(B, n)`."""
        return (z.double()[:, None] - self.centres) / self.widths

    def integrals(self, density: Callable[[Tensor], Tensor], noise: Noise) -> Tensor:
        """Samples whose means are `∫ φ p`, `(ROWS, k)`: `φ p` at points that are uniform in the box of each bump, times its volume.

        Args:
            density: Takes points `(q, n)`; returns `p` `(q,)`.
            noise: Of the points.
        """
        low, size, rows = self.centres - self.widths, (2 * self.widths).prod(1), []
        for k in range(len(self.centres)):
            u = low[k] + 2 * self.widths[k] * noise.uniform(low, (ROWS, low.shape[1]))
            rows.append(size[k] * self.value(u)[:, k] * density(u))
        return torch.stack(rows, 1)

    def derivatives(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """`∇φ` `(B, k, n)` and `∇²φ` `(B, k, n, n)`, at states `z` `(B, n)`."""
        b, first, second = self.factors(z)
        n = b.shape[-1]
        gradient = torch.stack([_replaced(b, {i: first}) for i in range(n)], -1)
        hessian = torch.stack(
            [torch.stack([_replaced(b, {i: second} if i == j else {i: first, j: first}) for j in range(n)], -1) for i in range(n)], -2
        )
        return gradient, hessian


def _replaced(b: Tensor, by: dict[int, Tensor]) -> Tensor:
    columns = [by.get(i, b)[..., i] for i in range(b.shape[-1])]
    return torch.stack(columns, -1).prod(-1)


def below(rows: Tensor, knots: Tensor) -> Tensor:
    """1 where a coordinate is at or below a knot, else 0.

    Args:
        rows: `(B, n)`.
        knots: `(q, n)`.

    Returns:
        float64 `(B, q n)`.
    """
    return (rows[:, None] <= knots).double().flatten(1)


def bounded_moments(rows: Tensor, centre: Tensor, width: Tensor) -> Tensor:
    """Bounded substitutes for mean, variance and correlation: `tanh u` and the products of its entries, `u = (z − c)/w`.

    Args:
        rows: `z`, `(B, n)`.
        centre: `c`, `(n,)`.
        width: `w`, `(n,)`.

    Returns:
        `(B, n + n (n + 1)/2)`.
    """
    u = torch.tanh((rows - centre) / width)
    n = u.shape[1]
    pairs = [u[:, i] * u[:, j] for i in range(n) for j in range(i, n)]
    return torch.cat([u, torch.stack(pairs, 1)], 1)


def paths_agree(coarse: Tensor, fine: Tensor, drawn: Tensor, pilot: Tensor) -> float:
    """p-value of the extrapolated paths having the moments and quantiles of `drawn`; `pilot` sets the units. All are rows."""
    ends, known = 2 * path_features(fine, pilot) - path_features(coarse, pilot), path_features(drawn, pilot)
    return means_are_equal(ends, known)


def path_features(rows: Tensor, pilot: Tensor, shares: Sequence[float] = (0.1, 0.3, 0.7, 0.9)) -> Tensor:
    """Bounded moments and indicators of the quantiles `shares` of `rows` `(B, n)`; `pilot` sets the units. float64 `(B, …)`."""
    low, centre, high, *knots = torch.quantile(pilot, torch.tensor([0.16, 0.5, 0.84, *shares], dtype=pilot.dtype), 0)
    width = ((high - low) / 2).clamp_min(1e-12)
    return torch.cat([bounded_moments(rows, centre, width), below(rows, torch.stack(knots))], 1)


def gap_in_nats(sample: Tensor, prior: Tensor, bins: int = 32) -> float:
    """Estimate `KL(sample ‖ prior)` in nats a coordinate from below: of each, and of functions that show how coordinates depend.

    With `u` in units of the prior's spread around its median these are `u_i ± u_j` and `‖u‖`. Taking a function can only lower the
    divergence, so each is divided by the number of coordinates that it depends on. Each is measured in bins of equal prior probability;
    return the largest. Chance alone adds about `(bins − 1)/N`.

    Args:
        sample: Rows of the sample, `(N, n)`.
        prior: Rows of the prior, `(N, n)`.
        bins: Number of bins.
    """
    low, centre, high = torch.quantile(prior.double(), torch.tensor([0.16, 0.5, 0.84], dtype=torch.float64), 0)
    width = ((high - low) / 2).clamp_min(1e-12)
    gaps = []
    for (rows, count), (drawn, _) in zip(*(_features((rows.double() - centre) / width) for rows in (sample, prior)), strict=True):
        edges = torch.quantile(drawn, torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1])
        p, q = (torch.bincount(torch.bucketize(x.contiguous(), edges), minlength=bins).double() / len(x) for x in (rows, drawn))
        gaps.append(float(torch.where(p > 0, p * (p / q).log(), 0.0).sum()) / count)
    return max(gaps)


def _features(u: Tensor) -> list[tuple[Tensor, int]]:
    """Functions of the coordinates, each with the number of coordinates that it depends on."""
    columns = list(u.T[:_PAIRED])
    pairs = [(a, b) for k, a in enumerate(columns) for b in columns[:k]]
    return [*((a, 1) for a in u.T), *((a + b, 2) for a, b in pairs), *((a - b, 2) for a, b in pairs), (u.norm(dim=1), u.shape[1])]
