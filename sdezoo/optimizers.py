"""Optimizers as classes: `from sdezoo.optimizers import EGDAdam`.

Every plugin of the entry-point group `sdezoo.optimizers` is here under the name of its class, whoever provides it, and so is one from a
file that was loaded. It is imported when it is asked for.
"""

from __future__ import annotations

from typing import Any

from sdezoo.zoo.classes import class_names, find_class
from sdezoo.zoo.registry import OPTIMIZERS


def __getattr__(name: str) -> type[Any]:
    return find_class(OPTIMIZERS, __name__, name)


def __dir__() -> list[str]:
    return class_names(OPTIMIZERS)
