"""From the name of a file to its format."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from sdezoo.data.dataset import Kind
from sdezoo.data.formats import FileFormat
from sdezoo.errors import PluginError
from sdezoo.zoo.registry import FORMATS

F = TypeVar("F", bound=FileFormat)


def endings(contract: type[FileFormat], kind: Kind | None = None) -> tuple[str, ...]:
    """The endings of all installed formats.

    Args:
        contract: only of formats of this class, such as `sdezoo.data.formats.TableFormat`.
        kind: only of formats that this kind of data is written to.
    """
    return tuple(ending for form in _installed(contract) if kind is None or kind in form.kinds for ending in form.endings)


def find_format(path: str | Path, contract: type[F]) -> F | None:
    """The format of a file, by the longest ending that its name has; None where no installed format has such an ending.

    Args:
        path: of the file, which need not exist.
        contract: what the format is to be able to do, such as `sdezoo.data.formats.TableFormat`; others are passed over.

    Raises:
        PluginError: where two formats have the ending.
    """
    name = Path(path).name.lower()
    found = [(len(end), form) for form in _installed(contract) for end in form.endings if name.endswith(end) and name != end]
    longest = max((length for length, _ in found), default=0)
    claims = [form for length, form in found if length == longest]
    if len(claims) > 1:
        names = " and ".join(f"'{form.title()}'" for form in claims)
        raise PluginError(f"The ending of '{path}' is that of the file formats {names}.", "Uninstall one of them, or give another ending.")
    return claims[0]() if claims else None


def _installed(contract: type[F]) -> list[type[F]]:
    """All formats of a class that are not broken, by their names."""
    found = []
    for name in FORMATS.names():
        try:
            form = FORMATS.load(name)
        except PluginError:
            continue
        if issubclass(form, contract):
            found.append(form)
    return found
