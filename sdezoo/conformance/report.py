"""Reports: every law of a kind tried on a plugin of that kind, by name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sdezoo.conformance.bank.cases import unusual
from sdezoo.conformance.law import Suite, Verdict
from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.errors import PluginError
from sdezoo.zoo.registry import REGISTRIES
from sdezoo.zoo.spec import parse, suggestion

SUITES: dict[str, Suite[Any]] = {"sdes": SDE_LAWS, "losses": LOSS_LAWS, "samplers": SAMPLER_LAWS}
"""The laws, by the kind of plugin that obeys them."""


def kinds(spec: str) -> list[str]:
    """The kinds under which the plugin of a spec string is registered, among those that have laws.

    Raises:
        PluginError: where there is none. ParameterError: for a malformed spec string.
    """
    name = parse(spec)[0]
    found = [kind for kind, registry in REGISTRIES.items() if registry.entries(name)]
    if not found:
        known = [other for kind in SUITES for other in REGISTRIES[kind].names()]
        raise PluginError(f"There is no plugin '{name}'.", suggestion(name, known))
    lawful = [kind for kind in found if kind in SUITES]
    if not lawful:
        raise PluginError(
            f"'{name}' is a {REGISTRIES[found[0]].kind}, and there are no laws for those.", "Check an SDE, a loss or a sampler."
        )
    return lawful


def verdicts(kind: str, spec: str) -> Iterator[Verdict]:
    """Try every law on the plugin that `spec` describes, one after the other, and on one whose own hyper-parameters all differ.

    A plugin that cannot be loaded has broken the first law, its contract.

    Raises:
        ParameterError: where the hyper-parameters of the spec string are not right.
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
    if suite is SDE_LAWS:  # they draw other hyper-parameters themselves
        yield from suite.verdicts(plugin)
        return
    twin = unusual(plugin, frozenset(getattr(registry.contract(), "__dataclass_fields__", ())))
    yield from suite.verdicts(plugin, *([twin] if twin != plugin else []))
