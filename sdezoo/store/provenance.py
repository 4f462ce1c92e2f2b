"""Provenance: record what a model was trained with, so that it can be verified and reproduced.

`env.json` records the versions of Python, sdezoo and torch, the distribution and version of every plugin, the fingerprint of the data, and
the git commit of the working directory. The `state.json` of each checkpoint repeats the essentials.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import PluginError
from sdezoo.store.commit import commit
from sdezoo.zoo.registry import REGISTRIES

_BLOCK = 2**24  # bytes hashed at a time


def versions() -> dict[str, str]:
    """Versions of Python, sdezoo and torch, by name."""
    return {"python": platform.python_version(), **{name: version(name) for name in ("sdezoo", "torch")}}


def providers(parts: Mapping[str, str]) -> dict[str, str]:
    """Look up which distributions or files provide plugins.

    Args:
        parts: spec strings by registry (`sdes`, `losses`, …).

    Returns:
        A mapping from `REGISTRY/NAME` to `DISTRIBUTION VERSION`, or to the path of the file given by `--plugin`. Specs that name no plugin,
        such as the path of data, are left out.
    """
    found = {}
    for kind, spec in parts.items():
        name = spec.partition(":")[0]
        for entry in REGISTRIES[kind].entries(name)[:1]:
            found[f"{kind}/{name}"] = _with_version(entry.provider)
    return found


def check_providers(recorded: Mapping[str, str]) -> None:
    """Check that every recorded plugin is installed.

    Args:
        recorded: output of `providers`, from the checkpoint.

    Raises:
        PluginError: if a plugin is missing, with its recorded distribution or file.
    """
    for key, provider in recorded.items():
        kind, _, name = key.partition("/")
        registry = REGISTRIES.get(kind)
        if registry is None or registry.entries(name):
            continue
        file = provider.endswith(".py")
        remedy = f"Give --plugin {provider}" if file else f"Install {provider}, if you trust who made it"
        raise PluginError(f"The model was trained with the {registry.kind} '{name}' of {provider}, which is not installed.", f"{remedy}.")


def fingerprint(data: Data, encoding: Encoding) -> str:
    """Compute a fingerprint of data and encoding.

    Args:
        data: hashed are all rows of all snapshots, labels and times, with dtypes and shapes, and the column names.
        encoding: hashed are the parameters of its codecs.

    Returns:
        A SHA-256 digest in hexadecimal.
    """
    digest = hashlib.sha256()
    for part in (data.train, data.test, data.train_labels, data.test_labels):
        _update(digest, part)
    if data.stored is not None:
        for block in data.training_blocks():
            digest.update(block.numpy().tobytes())
    for snapshot in data.later:
        digest.update(f"at {snapshot.time!r}".encode())
        _update(digest, snapshot.train)
        _update(digest, snapshot.test)
    for times in (data.times, data.test_times):
        if times is not None:
            _update(digest, times)
    digest.update(json.dumps([data.columns, *(codec.parameters() for codec in encoding.codecs)]).encode())
    return digest.hexdigest()


def environment(device: torch.device) -> dict[str, str | int | None]:
    """Describe the environment of a training run, for `env.json`.

    Args:
        device: device of the run.
    """
    return {
        **versions(),
        "platform": platform.platform(),
        "device": str(device),
        "threads": torch.get_num_threads(),
        "commit": _commit(),
    }


def _commit() -> str | None:
    try:
        return commit(Path.cwd())
    except OSError:  # the working folder has been removed
        return None


def _update(digest: hashlib._Hash, part: Tensor | None) -> None:
    if part is None:
        digest.update(b"none")
        return
    digest.update(f"{part.dtype} {tuple(part.shape)}".encode())
    for block in _blocks(part):
        digest.update(block.contiguous().cpu().numpy().tobytes())


def _blocks(values: Tensor) -> Iterator[Tensor]:
    if not values.numel():
        return iter(())
    row = values[0].numel() * values.element_size()
    return iter(values.split(max(1, _BLOCK // max(1, row))))


def _with_version(provider: str) -> str:
    try:
        return f"{provider} {version(provider)}"
    except (PackageNotFoundError, ValueError):
        return provider
