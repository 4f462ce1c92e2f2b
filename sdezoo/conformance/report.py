"""Reports: try every law of a kind on a plugin that is given by its spec string."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from sdezoo.conformance.bank.cases import unusual
from sdezoo.conformance.law import Suite, Verdict
from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.conformance.steering.architecture_laws import ARCHITECTURE_LAWS
from sdezoo.conformance.steering.guide_laws import GUIDE_LAWS, fits_laws
from sdezoo.conformance.steering.optimizer_laws import OPTIMIZER_LAWS
from sdezoo.errors import PluginError
from sdezoo.zoo.registry import REGISTRIES
from sdezoo.zoo.spec import parse, suggestion

SUITES: dict[str, Suite[Any]] = {
    "sdes": SDE_LAWS,
    "losses": LOSS_LAWS,
    "samplers": SAMPLER_LAWS,
    "guides": GUIDE_LAWS,
    "optimizers": OPTIMIZER_LAWS,
    "networks": ARCHITECTURE_LAWS,
}
"""The laws, by kind of plugin."""


def kinds(spec: str) -> list[str]:
    """The kinds with laws under which a plugin is registered; of several, those that have the hyper-parameters.

    Args:
        spec: Its spec string.

    Raises:
        PluginError: No plugin has this name, or none of its kinds has laws.
        ParameterError: The spec string is malformed.
    """
    name, given = parse(spec)
    found = [kind for kind, registry in REGISTRIES.items() if registry.entries(name)]
    if not found:
        known = [other for kind in SUITES for other in REGISTRIES[kind].names()]
        raise PluginError(f"There is no plugin '{name}'.", suggestion(name, known))
    lawful = [kind for kind in found if kind in SUITES]
    if not lawful:
        raise PluginError(
            f"'{name}' is a {REGISTRIES[found[0]].kind}, and there are no laws for those.",
            "Check an SDE, a loss, a sampler, a guide, an optimizer or a network.",
        )
    if len(lawful) == 1 or not given:
        return lawful
    fitting = [kind for kind in lawful if given.keys() <= {one.name for one in fields(REGISTRIES[kind].load(name))}]
    return fitting or lawful


def verdicts(kind: str, spec: str) -> Iterator[Verdict]:
    """Try every law on a plugin, and on a twin whose own hyper-parameters are all changed.

    A plugin that cannot be loaded breaks the first law, its contract.

    Args:
        kind: Kind of the plugin, a key of `SUITES`.
        spec: Its spec string.

    Yields:
        The outcome of each law, in order.

    Raises:
        ParameterError: A hyper-parameter of the spec string is invalid.
    """
    registry, suite = REGISTRIES[kind], SUITES[kind]
    try:
        registry.load(parse(spec)[0])
    except PluginError as error:
        for law in suite.laws:
            outcome, reason = ("broken", f"{error.problem} {error.remedy}") if law.first else ("untried", "It cannot be loaded.")
            yield Verdict(law.name, law.statement, outcome, reason)
        return
    plugin = registry.build(spec)
    if suite is SDE_LAWS:  # these laws vary the hyper-parameters themselves
        yield from suite.verdicts(plugin)
        return
    usual = frozenset(getattr(registry.contract(), "__dataclass_fields__", ()))
    on = 0.01 if suite is OPTIMIZER_LAWS else 0.5  # a penalty of ½ would keep weights from what the loss wants
    twin = unusual(plugin, usual, fits_laws, on) if suite is GUIDE_LAWS else unusual(plugin, usual, on=on)
    yield from suite.verdicts(plugin, *([twin] if twin != plugin else []))
