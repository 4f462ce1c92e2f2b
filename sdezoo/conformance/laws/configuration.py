"""The law of configuration, for every kind of plugin."""

from __future__ import annotations

import dataclasses
from typing import Any

from hypothesis import strategies as st

from sdezoo.conformance.bank.cases import variants
from sdezoo.conformance.law import LawError, Suite
from sdezoo.zoo.spec import parse

CONFIGURATION_LAWS: Suite[Any] = Suite()


@CONFIGURATION_LAWS.property_law(lambda plugin: st.sampled_from(variants(plugin)))
def config_round_trip(plugin: Any) -> None:
    """The spec string of the plugin builds an equal object, and the object is frozen and hashable."""
    values = parse(plugin.full_spec)[1]
    twin = type(plugin)(**{key: None if value == "none" else value for key, value in values.items()})
    if twin != plugin or hash(twin) != hash(plugin):
        raise LawError(f"{plugin.full_spec} builds {twin!r}, which is not equal.")
    for field in dataclasses.fields(plugin):
        try:
            setattr(plugin, field.name, getattr(plugin, field.name))
        except dataclasses.FrozenInstanceError:
            continue
        raise LawError(f"{field.name} can be assigned: the class is not frozen.")
