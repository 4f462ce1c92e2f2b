"""Find the dataset plugin for a spec string or a path."""

from __future__ import annotations

import os
from pathlib import Path

from sdezoo.data.dataset import Dataset
from sdezoo.data.opening.dialect import instead
from sdezoo.errors import ParameterError, PluginError
from sdezoo.zoo.registry import DATASETS


def find_dataset(text: str) -> Dataset:
    """Find the dataset that `text` names.

    Args:
        text: a spec string, such as `digits`, or the path of a file or folder.

    Raises:
        PluginError: if no plugin reads this kind of file, or no dataset has this name.
        DataError: from the plugin, if the path cannot be read.
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
    as_table = f" If it is a table as text, give {instead(path)[5:]}" if path.is_file() else ""
    raise PluginError(
        f"No dataset plugin reads '{text}'.",
        f"Give a folder of images, a name ({', '.join(DATASETS.names())}), or a file that ends in one of {', '.join(endings)}.{as_table}",
    )


def with_parameter(text: str, key: str, value: object) -> str:
    """Add a parameter to a dataset.

    Args:
        text: see `find_dataset`.
        key: name of the parameter.
        value: its value.

    Returns:
        The spec string of the dataset with this parameter.

    Raises:
        PluginError: as for `find_dataset`.
        ParameterError: if the dataset has no such parameter.
    """
    dataset = find_dataset(text)
    values = dataset.parameters()
    if key not in values:
        raise ParameterError(f"The dataset '{dataset.title()}' has no parameter {key}.", "Leave it out, or give a table, such as a .csv.")
    return type(dataset)(**{**values, key: value}).spec


def names_a_dataset(text: str) -> bool:
    """Whether `text` is a spec string of a registered dataset."""
    return text.partition(":")[0] in DATASETS.names()
