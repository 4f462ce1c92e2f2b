"""Guides as classes: `from sdezoo.guides import IPM`.

Every plugin of the entry-point group `sdezoo.guides` is here under the name of its class, whoever provides it, and so is one from a file
that was loaded. It is imported when it is asked for.
"""

from __future__ import annotations

from typing import Any

from sdezoo.zoo.classes import class_names, find_class
from sdezoo.zoo.registry import GUIDES


def __getattr__(name: str) -> type[Any]:
    return find_class(GUIDES, __name__, name)


def __dir__() -> list[str]:
    return class_names(GUIDES)
