"""Laws of bridges: the state between two ends, the target, time in the user's unit, and the other direction.

Given the states at the knots `a < b` around `t`, with `u = (t − a)/(b − a)`, all are exact::

    z_t = (1 − u) z_a + u z_b + ς √((b − a) u (1 − u)) ε,      target = (z_a − z_t)/(t − a),      D = z + c F
"""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from sdezoo.conformance.bank.cases import Case, process_cases, typical
from sdezoo.conformance.bank.noise_doubles import Still, keyed
from sdezoo.conformance.evidence import close
from sdezoo.conformance.law import LawError, Suite
from sdezoo.errors import ParameterError
from sdezoo.process.bridge import Bridge
from sdezoo.process.process import Process

BRIDGE_LAWS: Suite[Process] = Suite()

_SNAPSHOTS = (-1.0, 0.5, 1.0, 3.0)
_TOLERANCE = 0.1


def _no_bridge(sde: Process) -> str | None:
    return None if isinstance(sde, Bridge) else "It is no bridge."


def _bridges(sde: Any) -> list[Bridge]:
    """The bridge with two ends and along snapshots, in both directions."""
    kinds = [sde, *([along] if (along := _along(sde)) else [])]
    return [one for kind in kinds for one in (kind, kind.reversed())]


def _along(sde: Any) -> Bridge | None:
    """The bridge along snapshots; None if its times were given."""
    try:
        return sde.along(_SNAPSHOTS)
    except ParameterError:
        return None


def _cases(sde: Any) -> st.SearchStrategy[tuple[Case, Bridge]]:
    # `process_cases` tries variants of the parameters; each is tried along its knots.
    return process_cases(sde, dtypes=(torch.float64,), ends=(0.02, 0.999)).flatmap(
        lambda case: st.sampled_from(_bridges(case.sde)).map(lambda bridge: (case, bridge))
    )


def _ends(bridge: Bridge, case: Case) -> tuple[Tensor, Tensor]:
    x = [typical(bridge, case.normals + shift) for shift in (0.0, 0.7)]
    first, last = (bridge.encode(each, keyed(len(each))) for each in x)
    return first, last


@BRIDGE_LAWS.property_law(_cases, excuses=_no_bridge, examples=40)
def states_between_are_those_of_the_bridge(case_and_bridge: tuple[Case, Bridge]) -> None:
    """Between two knots the state has the mean and variance of a Brownian bridge; at a knot it is the state there."""
    case, bridge = case_and_bridge
    z0, z1 = _ends(bridge, case)
    knots, t = torch.tensor(bridge.knots, dtype=torch.float64), case.t
    above = torch.searchsorted(knots, t.contiguous()).clamp(1, len(knots) - 1)
    a, b = knots[above - 1], knots[above]
    for name, found, expected in zip(("below", "above"), bridge.span(t), (a, b), strict=True):
        close(f"The knot {name} t", found, expected, rtol=0, atol=1e-12)
    u = (t - a) / (b - a)
    for eps in (0.0, 1.0, -2.0):
        expected = (1 - u) * z0 + u * z1 + bridge.rate * ((b - a) * u * (1 - u)).sqrt() * eps
        close(f"The state between two knots at ε = {eps:g}", bridge.between(z0, z1, t, Still(eps)), expected, rtol=1e-7, atol=1e-9)
    for knot, end in ((knots[above].max(), z1),):
        close("The state at the knot above", bridge.between(z0, z1, knot.reshape(()), Still(1.0)), end, rtol=1e-7, atol=1e-9)
    close("The noise scale of a span", torch.tensor(bridge.noise_scale(float(a.min()), float(b.max()))), _root(bridge, a, b), rtol=1e-6)


def _root(bridge: Bridge, a: Tensor, b: Tensor) -> Tensor:
    return torch.tensor(bridge.rate * float(b.max() - a.min()) ** 0.5)


@BRIDGE_LAWS.property_law(_cases, excuses=_no_bridge, examples=30)
def target_points_to_the_knot_below(case_and_bridge: tuple[Case, Bridge]) -> None:
    """The target is the drift that reaches the state at the knot below, and `error_scale` of the size of what is left to it."""
    case, bridge = case_and_bridge
    z0, z1 = _ends(bridge, case)
    t = case.t
    a, _ = bridge.span(t)
    z = bridge.between(z0, z1, t, keyed(len(z0), case.seed))
    close("The state that the target reaches", z + (t - a) * bridge.target(z, z0, t), z0, rtol=1e-7, atol=1e-8)
    size = ((bridge.span(t)[1] - a).sqrt() * bridge.rate).expand_as(z)
    if not bool((bridge.error_scale(t) > 0).all()) or bool((bridge.error_scale(t) > 10 * (size + bridge.distance)).any()):
        raise LawError(f"error_scale is {float(bridge.error_scale(t).max()):.3g}, and the ends are {bridge.distance:.3g} apart.")


@BRIDGE_LAWS.property_law(_cases, excuses=_no_bridge, examples=20)
def the_other_direction_is_the_same_bridge(case_and_bridge: tuple[Case, Bridge]) -> None:
    """`reversed` runs through the same states backward: knots, times and states mirrored, by the same noise; twice, it is the bridge."""
    case, bridge = case_and_bridge
    other, t = bridge.reversed(), case.t
    if other.reversed() != bridge or other.forward == bridge.forward:
        raise LawError(f"Reversed twice it is {other.reversed().full_spec}, and once {other.full_spec}.")
    knots = torch.tensor(bridge.knots, dtype=torch.float64)
    close("The knots of the other direction", torch.tensor(other.knots, dtype=torch.float64), 1 - knots.flip(0), rtol=0, atol=1e-12)
    close("The rate of the other direction", torch.tensor(other.rate), torch.tensor(bridge.rate), rtol=1e-9)
    z0, z1 = _ends(bridge, case)
    there, back = bridge.between(z0, z1, t, Still(0.7)), other.between(z1, z0, 1 - t, Still(0.7))
    close("A state of the other direction", back, there, rtol=1e-6, atol=1e-8)
    close("The user's time in the other direction", other.user_time(1 - t), bridge.user_time(t), rtol=1e-9, atol=1e-12)


@BRIDGE_LAWS.law(excuses=_no_bridge)
def times_of_snapshots_are_kept(sde: Any) -> None:
    """Along snapshots the knots are their times, in both units, and the noise grows as the root of the time between them."""
    for bridge in _bridges(sde):
        times = bridge.user_time(torch.tensor(bridge.knots, dtype=torch.float64))
        close(
            "The process time of the user's time of a knot", bridge.own_time(times), torch.tensor(bridge.knots).double(), rtol=0, atol=1e-9
        )
    along = _along(sde)
    if along is None:
        return
    for bridge in (along, along.reversed()):
        times = bridge.user_time(torch.tensor(bridge.knots, dtype=torch.float64)).sort().values
        close("The times of the snapshots", times, torch.tensor(_SNAPSHOTS, dtype=torch.float64), rtol=1e-9, atol=1e-9)
    twice = sde.along(tuple(2 * time for time in _SNAPSHOTS))
    if twice.rate != along.rate:  # the noise may also be that of the whole time
        close("The rate along times twice as far apart", torch.tensor(twice.rate), torch.tensor(2**0.5 * along.rate), rtol=1e-6)


@BRIDGE_LAWS.law(excuses=_no_bridge)
def distance_is_that_of_the_ends(sde: Any) -> None:
    """Fitted to data, `distance` is the root mean square difference of independent rows, to a tenth."""
    normals = torch.linspace(-1.5, 1.6, 60, dtype=torch.float64).reshape(30, 2) + torch.tensor([0.0, 1.5])  # columns differ
    x0 = typical(sde, normals)
    adapted = sde.adapted(x0)
    if adapted == sde:
        return
    z = adapted.encode(x0, keyed(len(x0)))
    expected = float((z[:, None] - z[None]).square().mean().sqrt())
    if not abs(adapted.distance / expected - 1) < _TOLERANCE:
        raise LawError(f"distance is {adapted.distance:.4g}, and independent rows are {expected:.4g} apart.", adapted.spec)
