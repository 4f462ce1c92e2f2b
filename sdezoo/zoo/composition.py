"""Compatibility of plugins, checked before any data are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from textwrap import wrap
from typing import Any

from torch.distributions import constraints
from torch.distributions.constraints import Constraint

from sdezoo.errors import CompositionError, PluginError, SdezooError
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.network import Network
from sdezoo.learning.output import OUTPUTS
from sdezoo.parameters import Plugin, required
from sdezoo.process.process import Process
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.registry import LOSSES, NETWORKS, SAMPLERS, SDES, Registry

_SUPPORTS = {
    constraints.real: "the real line",
    constraints.real_vector: "rows of real numbers",
    constraints.positive: "the positive numbers",
    constraints.nonnegative_integer: "the whole numbers from 0 on",
    constraints.nonnegative: "the non-negative numbers",
    constraints.unit_interval: "the unit interval",
    constraints.simplex: "the simplex",
}


def support_in_words(support: Constraint) -> str:
    """Describe a support in words, such as `the positive numbers`."""
    return _SUPPORTS.get(support, repr(support))


def check_fit(sde: Process, part: ScoreLoss | Sampler) -> None:
    """Reject a loss or sampler that does not work with `sde`.

    Args:
        sde: the process.
        part: the loss or sampler.

    Raises:
        CompositionError: with the reason, the losses or samplers that fit `sde`, and the processes that fit `part`.
    """
    reason = part.refuses(sde)
    if reason is None:
        return
    registry = LOSSES if isinstance(part, ScoreLoss) else SAMPLERS
    others = [name for name, other in defaults(SDES) if part.refuses(other) is None]
    raise CompositionError(
        f"{registry.kind} '{part.title()}' {reason}; '{sde.title()}' lives on {support_in_words(sde.support)}.",
        f"Fits '{sde.title()}': {_listed(fitting(sde, registry))}.   Fits '{part.title()}': --sde {_listed(others)}.",
    )


def check_output(sde: Process, output: str) -> None:
    """Reject an output parameterization that is unknown or does not work with `sde`.

    Args:
        sde: the process.
        output: name of the parameterization, such as `epsilon`.

    Raises:
        CompositionError: with the reason and the outputs that fit.
    """
    reason = OUTPUTS[output].refuses(sde) if output in OUTPUTS else "is unknown"
    if reason:
        fits = [name for name, o in OUTPUTS.items() if o.refuses(sde) is None]
        raise CompositionError(f"output '{output}' {reason}.", f"Fits '{sde.title()}': {_listed(fits)}.")


def check_network(network: Network, shape: tuple[int, ...]) -> None:
    """Reject a network that does not work with data of this shape.

    Args:
        network: the network.
        shape: event shape of the encoded data, without the batch dimension.

    Raises:
        CompositionError: with the reason, and the networks that fit, or another shape for the data.
    """
    reason = network.refuses(shape)
    if reason:
        raise CompositionError(f"network '{network.title()}' {reason}.", _other_network(shape))


def preferred_network(shape: tuple[int, ...]) -> str:
    """Spec string of the network to use if the user names none.

    Args:
        shape: event shape of the encoded data, without the batch dimension.

    Raises:
        CompositionError: if none works with data of this shape.
    """
    fits = [(name, other) for name, other in defaults(NETWORKS) if other.refuses(shape) is None]
    if not fits:
        raise CompositionError(f"There are no networks for data of shape {shape}.", _other_network(shape))
    return preferred(fits, "networks")


def _other_network(shape: tuple[int, ...]) -> str:
    for form in (shape, (prod(shape),)):
        if fits := [name for name, other in defaults(NETWORKS) if other.refuses(form) is None]:
            return f"Fits: {_listed(fits)}." if form == shape else f"Give them as points (N, {prod(shape)}), which {_listed(fits)} takes."
    return "Install a network that fits."


def fitting(sde: Process, registry: Registry) -> list[str]:
    """Names of the losses or samplers that work with `sde` at their default hyper-parameters."""
    return [name for name, _ in fitting_parts(sde, registry)]


def fitting_parts(sde: Process, registry: Registry) -> list[tuple[str, Any]]:
    """Like `fitting`, as pairs of name and loss or sampler."""
    return [(name, part) for name, part in defaults(registry) if part.refuses(sde) is None]


def defaults(registry: Registry) -> list[tuple[str, Any]]:
    """All plugins without required hyper-parameters, as pairs of name and object; broken ones are omitted."""
    built = []
    for name in registry.names():
        try:
            cls = registry.load(name)
            if not required(cls):
                built.append((name, cls()))
        except SdezooError:
            continue
    return built


def preferred(parts: Sequence[tuple[str, Plugin]], what: str, kind: str | None = None) -> str:
    """Spec string of the plugin to use if the user names none: the one with the highest `preference`, the first among equals.

    Args:
        parts: the plugins that fit, as pairs of name and object.
        what: what they are, for the message, such as `losses for 'vp'`.
        kind: kind of the data, such as `table`; None: not known yet.

    Raises:
        CompositionError: if `parts` is empty.
    """
    if not parts:
        raise CompositionError(f"There are no {what}.", "Install a plugin that fits.")

    def rank(part: Plugin) -> int:
        stated = vars(type(part))  # not inherited: a base class stated it for itself
        kinds = stated.get("preferred_for", ())
        return stated.get("preference", 0) if not kinds or kind in kinds else 0

    name, best = max(parts, key=lambda named: rank(named[1]))
    given = vars(type(best)).get("preferred_with") if rank(best) else None
    return f"{name}:{given}" if given else name


def usual_sampler(sde: Process, kind: str, *, decides: bool) -> Sampler[Any]:
    """Build the sampler that is used if the user names none: that of the process itself, else the preferred one that fits.

    Args:
        sde: the process.
        kind: kind of the data, such as `table`.
        decides: whether the model knows columns of two values, `Model.decides`: then the sampler's variant for these, `Sampler.deciding`.

    Raises:
        CompositionError: if none fits.
    """
    chosen = sde.own_sampler() or preferred(fitting_parts(sde, SAMPLERS), f"samplers for '{sde.title()}'", kind)
    sampler: Sampler[Any] = SAMPLERS.build(chosen)
    return sampler.deciding() if decides else sampler


def broken(registry: Registry) -> dict[str, str]:
    """Broken plugins and why they are broken; loads every plugin."""
    reasons = {}
    for name in registry.names():
        try:
            registry.load(name)
        except PluginError as error:
            reasons[name] = error.problem
    return reasons


def table() -> str:
    """Markdown table of what works with what: a row per loss and sampler, a column per SDE."""
    sdes = defaults(SDES)
    rows = [["", *(f"`{name}`" for name, _ in sdes)], ["---", *(":-:" for _ in sdes)]]
    for registry in (LOSSES, SAMPLERS):
        for name, part in defaults(registry):
            same = vars(type(part)).get("same_as")
            rows.append(
                [
                    f"{registry.kind} `{name}`" + (f" (= `{same}`)" if same else ""),
                    *("✓" if part.refuses(sde) is None else "" for _, sde in sdes),
                ]
            )
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def in_lines(width: int) -> str:
    """What works with what, for a terminal: the losses and the samplers of each SDE.

    Args:
        width: characters of a line.
    """
    lines = []
    for name, sde in defaults(SDES):
        lines.append(name)
        for registry, head in ((LOSSES, "losses"), (SAMPLERS, "samplers")):
            fit = [other for other, part in defaults(registry) if part.refuses(sde) is None]
            lines += wrap(_listed(fit), width, initial_indent=f"  {head:<9} ", subsequent_indent=" " * 12, break_on_hyphens=False)
    return "\n".join(lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no installed plugin"
