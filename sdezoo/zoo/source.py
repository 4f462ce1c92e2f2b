"""Read the docstring of a class from its source, without importing its module."""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import resolve_name
from pathlib import Path


def read_summary(module: str, attribute: str) -> str:
    """Read the first line of a class's docstring from its source. An imported class is followed to the module that defines it.

    What it says by `same_as` follows the line, as ` [= SPEC]`.

    Args:
        module: dotted name of the module.
        attribute: name of the class.

    Returns:
        The line; empty if the class is created at run time.

    Raises:
        ImportError: if the module, or a module that it imports, is not installed.
        SyntaxError: if the file does not parse.
        LookupError: if the module does not define the name.
    """
    node, _ = _find_class(module, attribute)
    return (ast.get_docstring(node) or "").partition("\n")[0] + _same(node) if node else ""


def read_papers(module: str, attribute: str) -> tuple[tuple[str, ...], Path | None]:
    """Read what a class states as `papers` from its source. An imported class is followed to the module that defines it.

    Args:
        module: dotted name of the module.
        attribute: name of the class.

    Returns:
        The texts, and the file that defines the class; nothing and None if the class is created at run time.

    Raises:
        ImportError: if the module, or a module that it imports, is not installed.
        SyntaxError: if the file does not parse.
        LookupError: if the module does not define the name.
    """
    node, file = _find_class(module, attribute)
    for part in node.body if node else []:
        match part:
            case ast.AnnAssign(target=ast.Name(id="papers"), value=ast.Tuple(elts=parts)):
                return tuple(p.value for p in parts if isinstance(p, ast.Constant) and isinstance(p.value, str)), file
            case _:
                continue
    return (), file


def _find_class(module: str, attribute: str) -> tuple[ast.ClassDef | None, Path | None]:
    """The definition of a class and its file; None if it is created at run time."""
    spec = _find(module)
    if spec is None:
        raise ModuleNotFoundError(f"no module {module}")
    if spec.origin is None or not spec.origin.endswith(".py"):
        return None, None
    file = Path(spec.origin)
    text = file.read_text(encoding="utf-8")
    # The outline alone may parse where the file does not.
    tree = (_compiled(file, spec.cached) and _outline(text, attribute)) or ast.parse(text)
    package = module if spec.submodule_search_locations is not None else module.rpartition(".")[0]
    found: tuple[ast.ClassDef | None, Path | None] | None = None
    for node in tree.body:
        match node:
            case ast.Import(names=names):
                for alias in names:
                    _require(alias.name)
            case ast.ImportFrom(module=source, names=names, level=level):
                origin = resolve_name("." * level + (source or ""), package) if level else source or ""
                _require(origin)
                for alias in names:
                    if attribute == (alias.asname or alias.name):
                        found = _find_class(origin, alias.name)
            case ast.ClassDef(name=name) if name == attribute:
                found = node, file
    if found is None and not _bound_somewhere(tree, attribute):
        raise LookupError(f"{module} defines no {attribute}")
    return found or (None, None)


def _compiled(file: Path, cached: str | None) -> bool:
    """Whether Python has compiled the file as it is, so that it parses."""
    try:
        with Path(cached or "").open("rb") as code:
            head, stat = code.read(16), file.stat()
    except OSError:
        return False
    flags, time, size = (int.from_bytes(head[k : k + 4], "little") for k in (4, 8, 12))
    return head[:4] == importlib.util.MAGIC_NUMBER and flags == 0 and (time, size) == (int(stat.st_mtime) % 2**32, stat.st_size % 2**32)


def _outline(text: str, attribute: str) -> ast.Module | None:
    """What stands before the first definition of a file, and a class up to its first method; None if that leaves out what is looked for.

    Most of the time of `ast.parse` goes into nodes that nobody looks at.
    """
    first, head = re.search(r"^(?:@|class |def |async )", text, re.MULTILINE), re.search(rf"^class {attribute}\b", text, re.MULTILINE)
    if first is None or head is None or re.search(r"^(?:from|import|if|try) ?", text[first.start() :], re.MULTILINE):
        return None
    body = text[head.start() :].partition("\n\n\n")[0]
    method = re.search(r"^    (?:@|def |async )", body, re.MULTILINE)
    body, rest = (body[: method.start()], body[method.start() :]) if method else (body, "")
    if "same_as" in rest or "papers" in rest:
        return None
    try:
        return ast.parse(text[: first.start()] + body)
    except SyntaxError:
        return None


def _same(node: ast.ClassDef) -> str:
    """` [= SPEC]` if the class says by `same_as` that it computes the same as another plugin."""
    for part in node.body:
        match part:
            case ast.AnnAssign(target=ast.Name(id="same_as"), value=ast.Constant(value=str() as spec)):
                return f" [= {spec}]"
            case _:
                continue
    return ""


def _bound_somewhere(tree: ast.Module, name: str) -> bool:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=bound, ctx=ast.Store()) | ast.ClassDef(name=bound) | ast.FunctionDef(name=bound) if bound == name:
                return True
            case ast.alias(name=bound, asname=renamed) if bound == "*" or (renamed or bound) == name:
                return True
            case _:
                continue
    return False


def _find(module: str) -> ModuleSpec | None:
    # importlib.util.find_spec would import the parent packages.
    path = None
    spec = None
    parts = module.split(".")
    for k in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: k + 1]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations
    return spec


@cache
def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _require(module: str) -> None:
    if not _installed(module.partition(".")[0]):
        raise ModuleNotFoundError(f"no module named {module}")
