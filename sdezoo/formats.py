"""File formats as classes: `from sdezoo.formats import Parquet`.

Every plugin of the entry-point group `sdezoo.formats` is here under the name of its class, whoever provides it, and so is one from a file
that was loaded. It is imported when it is asked for.
"""

from __future__ import annotations

from typing import Any

from sdezoo.zoo.classes import class_names, find_class
from sdezoo.zoo.registry import FORMATS


def __getattr__(name: str) -> type[Any]:
    return find_class(FORMATS, __name__, name)


def __dir__() -> list[str]:
    return class_names(FORMATS)
