"""One-token mutants of plugin files, and which of them the laws let live.

    python -m tests.conformance.mutation [--each N] [--seed S] [FILE ...]

Without files, all built-in processes, losses and samplers are mutated. Each mutant is checked in a process of its own, which has
compiled the changed file in place of the plugin's module. The first broken law kills it.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

PLUGINS = Path(__file__).parents[2] / "plugins" / "sdezoo_plugins"
KINDS = ("sdes", "losses", "samplers")
DROPPED = ("sqrt", "log", "exp", "expm1", "neg", "abs", "square", "sign")
SWAPPED = {"cos": "sin", "sin": "cos", "minimum": "maximum", "maximum": "minimum", "cumsum": "cumprod"}
UNTOUCHED = {"annotation", "returns", "decorator_list", "bases", "keywords", "type_params", "defaults", "kw_defaults", "msg"}
IN_WORDS = {"__repr__", "column_fit", "shares_fit", "default_output", "__post_init__"}
OTHER = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
BY_NAME = {
    "lift": ["lift:transform=softplus", "lift:transform=sigmoid", "lift:transform=stick-breaking", "lift:transform=exp,low=-1"],
    "metropolis": ["metropolis:set=ball", "metropolis:set=annulus"],
    "ddim": ["ddim:eta=1"],
    "torchsde": [f"torchsde:method={method}" for method in ("milstein", "euler_heun", "midpoint", "heun", "srk")],
}
"""Choices that the laws do not try by themselves; a mutant that lives is checked with each."""
IN_PLACE = {"product": ["product:gbm[2;0],vp[1]", "product:reflected[0],vp[1]"]}
"""What is checked for a plugin that cannot be built by its name alone."""
FLIPPED = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq}

Mutant = tuple[str, ast.Module]
"""What was changed, and the module with the change."""


def mutants(source: str) -> list[Mutant]:
    """All one-token mutants of a module: a sign, an operator, a factor 2, a dropped term, another power, a swapped argument."""
    tree = ast.parse(source)
    found = []
    for place, node in enumerate(_walk(tree)):
        for kind in _changes(node):
            changed = copy.deepcopy(tree)
            before = ast.unparse(node)
            target = next(other for other, _ in zip(_walk(changed), range(place, -1, -1), strict=False) if _ == 0)
            after = _apply(target, kind)
            text = f"line {node.lineno}: {before} → {ast.unparse(after)}"
            _replace(changed, target, after)
            found.append((text, ast.fix_missing_locations(changed)))
    return found


def _walk(tree: ast.AST) -> Iterator[ast.expr]:
    """The expressions that compute something: not annotations, defaults, decorators, messages and shapes."""
    for name, value in ast.iter_fields(tree):
        if name in UNTOUCHED:
            continue
        if isinstance(tree, ast.AnnAssign) and isinstance(tree.target, ast.Name) and name == "value" and tree.col_offset == 4:
            continue  # the default of a field
        if isinstance(tree, ast.Subscript) and name == "slice":
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.Raise | ast.Assert | ast.JoinedStr) or not isinstance(child, ast.AST):
                continue
            if isinstance(child, ast.FunctionDef) and child.name in IN_WORDS:
                continue
            if isinstance(child, ast.expr):
                yield child
            yield from _walk(child)


def _changes(node: ast.expr) -> list[str]:
    kinds: list[str] = []
    match node:
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div()):
            kinds = ["other", "first"]
        case ast.BinOp(op=ast.Pow()):
            kinds = ["first"]
        case ast.UnaryOp(op=ast.USub()):
            kinds = ["operand"]
        case ast.Constant(value=float() | int() as value) if value and not isinstance(value, bool):
            kinds = ["double"]
        case ast.Compare(ops=[op]) if type(op) in FLIPPED:
            kinds = ["flip"]
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in DROPPED:
            kinds = ["drop"]
        case ast.Call(func=ast.Attribute(attr=attr)) if attr in SWAPPED:
            kinds = ["function"]
        case ast.Call(args=[ast.Name(id=a), ast.Name(id=b), *_]) if a != b and "model" not in {a, b}:
            kinds = ["swap"]
    return kinds


def _apply(node: ast.expr, kind: str) -> ast.expr:
    new = copy.deepcopy(node)
    match kind, new:
        case "other", ast.BinOp(op=op):
            new.op = OTHER[type(op)]()
        case "first", ast.BinOp(left=left):
            new = left
        case "operand", ast.UnaryOp(operand=operand):
            new = operand
        case "double", ast.Constant(value=float() | int() as value):
            new.value = 2 * value
        case "flip", ast.Compare(ops=[op]):
            new.ops = [FLIPPED[type(op)]()]
        case "drop", ast.Call(func=ast.Attribute(value=value), args=args):
            new = args[0] if args else value
        case "function", ast.Call(func=ast.Attribute(attr=attr) as func):
            func.attr = SWAPPED[attr]
        case "swap", ast.Call(args=[a, b, *rest]):
            new.args = [b, a, *rest]
    return new


def _replace(tree: ast.AST, old: ast.expr, new: ast.expr) -> None:
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
            elif isinstance(value, list):
                value[:] = [new if item is old else item for item in value]


def plugins_of(file: Path) -> list[tuple[str, str]]:
    """The plugins that a file defines, or for a module that others share, those that use it: pairs of kind and name."""
    from sdezoo.zoo.registry import REGISTRIES

    module = _module(file)
    entries = [(kind, entry) for kind in KINDS for name in REGISTRIES[kind].names() for entry in REGISTRIES[kind].entries(name)]
    own = [(kind, entry.name) for kind, entry in entries if entry.module == module]
    beside = sorted((PLUGINS / file.relative_to(PLUGINS).parts[0]).rglob("[a-z]*.py"))
    users = [other for other in beside if f"from {module} import" in other.read_text(encoding="utf-8")]
    return own or list(dict.fromkeys(pair for user in users for pair in plugins_of(user)))


def _module(file: Path) -> str:
    return ".".join(file.with_suffix("").relative_to(PLUGINS.parent).parts)


def killer(file: Path, tree: ast.Module) -> str | None:
    """The law that a mutant breaks; None if it lives. It is checked in a child process."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            found = _check(file, tree)
        except BaseException as error:
            found = f"({type(error).__name__})"
        os.write(writing, found.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        found = answers.read()
    os.waitpid(child, 0)
    return found or None


def _check(file: Path, tree: ast.Module) -> str:
    from sdezoo.conformance.report import verdicts

    name = _module(file)
    module = types.ModuleType(name)
    module.__file__ = str(file)
    sys.modules[name] = module
    exec(compile(tree, str(file), "exec"), vars(module))
    plugins = plugins_of(file)
    built = [(kind, spec) for kind, name in plugins for spec in IN_PLACE.get(name, [name])]
    for kind, plugin in built + [(kind, spec) for kind, name in plugins for spec in BY_NAME.get(name, [])]:
        for verdict in verdicts(kind, plugin):
            if verdict.outcome == "broken":
                return f"{plugin} {verdict.law}"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=6, help="largest number of mutants of a file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("files", nargs="*", type=Path, default=[])
    options = parser.parse_args()

    import sdezoo.conformance.report  # noqa: F401  (children share what is imported before they are forked)

    files = [f.resolve() for f in options.files] or [f for kind in KINDS for f in sorted((PLUGINS / kind).rglob("[a-z]*.py"))]
    tried = killed = 0
    for file in files:
        found = mutants(file.read_text(encoding="utf-8"))
        random.Random(f"{file.stem} {options.seed}").shuffle(found)
        for text, tree in found[: options.each]:
            began = time.perf_counter()
            by = killer(file, tree)
            tried, killed = tried + 1, killed + bool(by)
            sys.stdout.write(f"{'killed' if by else 'LIVES '} {file.stem} {text}   {by or ''} {time.perf_counter() - began:.0f}s\n")
            sys.stdout.flush()
    sys.stdout.write(f"{killed} of {tried} killed\n")


if __name__ == "__main__":
    main()
