"""From a spec string or a path to a dataset plugin."""

from __future__ import annotations

import os
from pathlib import Path

from sdezoo.data.dataset import Dataset
from sdezoo.errors import PluginError
from sdezoo.zoo.registry import DATASETS


def find_dataset(text: str) -> Dataset:
    """The dataset that a spec string or a path names.

    Raises:
        PluginError: where no plugin reads that kind of file, or there is no dataset of that name.
        DataError: from the plugin, where the path cannot be read.
    """
    path = Path(text)
    if names_a_dataset(text) or not (os.path.exists(path) or path.suffix or "/" in text):
        return DATASETS.build(text)
    endings = []
    for name in DATASETS.names():
        try:
            cls = DATASETS.load(name)
        except PluginError:
            continue
        if cls.reads(path):
            return cls(path=text)
        endings += filter(None, cls.endings())
    raise PluginError(
        f"No dataset plugin reads '{text}'.",
        f"Give a folder of images, a name ({', '.join(DATASETS.names())}), or a file: {', '.join(endings)}.",
    )


def names_a_dataset(text: str) -> bool:
    """Whether `text` is a spec string of a registered dataset."""
    return text.partition(":")[0] in DATASETS.names()
