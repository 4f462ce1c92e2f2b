"""Find the format plugin for a file name."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from sdezoo.data.dataset import Kind
from sdezoo.data.formats import FileFormat
from sdezoo.errors import PluginError
from sdezoo.zoo.registry import FORMATS

F = TypeVar("F", bound=FileFormat)


def endings(contract: type[FileFormat], kind: Kind | None = None) -> tuple[str, ...]:
    """File-name endings of all installed formats.

    Args:
        contract: consider only formats of this class, such as `sdezoo.data.formats.TableFormat`.
        kind: consider only formats that can store this kind of data.
    """
    return tuple(ending for form in _installed(contract) if kind is None or kind in form.kinds for ending in form.endings)


def find_format(path: str | Path, contract: type[F]) -> F | None:
    """Find the format of a file by the longest matching ending.

    Args:
        path: path of the file, which need not exist.
        contract: consider only formats of this class, such as `sdezoo.data.formats.TableFormat`.

    Returns:
        The format, or None if no installed format matches.

    Raises:
        PluginError: if two formats claim the ending.
    """
    name = Path(path).name.lower()
    found = [(len(end), form) for form in _installed(contract) for end in form.endings if name.endswith(end) and name != end]
    longest = max((length for length, _ in found), default=0)
    claims = [form for length, form in found if length == longest]
    if len(claims) > 1:
        names = " and ".join(f"'{form.title()}'" for form in claims)
        raise PluginError(
            f"The ending of '{path}' is claimed by the file formats {names}.", "Uninstall one of them, or use another ending."
        )
    return claims[0]() if claims else None


def _installed(contract: type[F]) -> list[type[F]]:
    """All formats of this class that are not broken, sorted by name."""
    found = []
    for name in FORMATS.names():
        try:
            form = FORMATS.load(name)
        except PluginError:
            continue
        if issubclass(form, contract):
            found.append(form)
    return found
