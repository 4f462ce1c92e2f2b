"""What messages and docs name exists: extras, commands, options, make's targets, and symbols."""

import ast
import dataclasses
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import sdezoo
from sdezoo.errors import PluginError
from sdezoo.zoo.registry import REGISTRIES, load_file
from sdezoo_cli.commands import application

HOUSE = Path(__file__).parents[1]
SOURCES = [file for root in ("sdezoo", "plugins", "cli") for file in sorted((HOUSE / root).rglob("*.py"))]
DOCS = [HOUSE / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")] + sorted((HOUSE / "docs").rglob("*.md"))
EXTRAS = set(tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"])
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (HOUSE / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
COMMANDS = {
    name: {option for parameter in command.params for option in parameter.opts} | {"--help", "--debug"}
    for name, command in typer.main.get_command(application()).commands.items()  # pyright: ignore[reportAttributeAccessIssue]
}
GROUPS = {registry.group for registry in REGISTRIES.values()}
OTHERS = ("accelerate launch", "torchrun", "sha256sum", "pip ", "docs/")
"""Programs with options of their own."""


def literals(tree: ast.AST) -> Iterator[str]:
    """Every text of a module, an f-string as one with … for its values."""
    match tree:
        case ast.JoinedStr(values=parts):
            yield "".join(part.value if isinstance(part, ast.Constant) else "…" for part in parts)
        case ast.Constant(value=str(text)):
            yield text
        case _:
            for child in ast.iter_child_nodes(tree):
                yield from literals(child)


def code(text: str) -> list[str]:
    """Lines of code in a text: of fenced blocks, and spans between backticks."""
    blocks = re.findall(r"^ *```[^\n]*\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^ *```[^\n]*\n.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", rest)]
    return [line.partition(" #")[0].strip() for block in blocks for line in block.splitlines()] + spans


TEXTS = {str(file.relative_to(HOUSE)): [*literals(ast.parse(file.read_text(encoding="utf-8")))] for file in SOURCES}
TEXTS |= {str(file.relative_to(HOUSE)): [file.read_text(encoding="utf-8")] for file in DOCS}


def unknown_extras(text: str) -> set[str]:
    listed = {extra for extras in re.findall(r"sdezoo\[([\w, -]+)\]", text) for extra in re.split(r",\s*", extras)}
    return (listed | set(re.findall(r"extra `([\w-]+)`", text))) - EXTRAS


def unknown_commands(text: str) -> set[str]:
    lines = code(text) + re.findall(r"(?:Example:|[a-z]:  ) ?(sdezoo [a-z].*)", text)
    called = {name for line in lines for name in re.findall(r"^(?:\$ )?sdezoo ([a-z][\w-]*)", line)}
    called |= set(re.findall(r"(?:-m sdezoo_cli|--no.python sdezoo) ([a-z][\w-]*)", text))
    return called - set(COMMANDS)


def unknown_options(text: str) -> set[str]:
    """Of the command that a line of code calls; elsewhere, of none of the commands."""
    unknown = set()
    for line in code(text):
        call = re.search(r"(?:^|\$ |sdezoo_cli )(?:sdezoo )?([a-z][\w-]*)", line) if "sdezoo" in line else None
        if call and call[1] in COMMANDS and not any(other in line for other in OTHERS):
            unknown |= set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line)) - COMMANDS[call[1]]
    anywhere = set().union(*COMMANDS.values())
    for line in text.splitlines() if " " in text else ():
        if not any(other in line for other in OTHERS):
            unknown |= set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line)) - anywhere
    return unknown


def unknown_targets(text: str) -> set[str]:
    return {target for line in code(text) for target in re.findall(r"^(?:\$ )?make ([a-z][\w-]*)$", line)} - TARGETS


def unknown_symbols(text: str) -> set[str]:
    named = set(re.findall(r"(?<![\w./-])(sdezoo(?:_plugins|_cli)?(?:\.[A-Za-z_]\w*)+)(?!\w|\.py)", text))
    for module, names in re.findall(r"from (sdezoo[\w.]*) import (\([^)]*\)|[\w, ]+)", text):
        named |= {f"{module}.{name.split(' as ')[0].strip()}" for name in names.strip("()").split(",") if name.strip()}
    return {name for name in named - GROUPS if not resolves(name)}


def resolves(dotted: str) -> bool:
    """Whether it can be imported, or is an attribute or a field of what can."""
    parts = dotted.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            if isinstance(found, type) and dataclasses.is_dataclass(found) and part in {field.name for field in dataclasses.fields(found)}:
                return part == parts[-1]
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


CHECKS = [unknown_extras, unknown_commands, unknown_options, unknown_targets, unknown_symbols]


@pytest.mark.parametrize("unknown", CHECKS, ids=lambda check: check.__name__)
def test_what_is_named_exists(unknown) -> None:
    found = {file: named for file, texts in TEXTS.items() if (named := set().union(*map(unknown, texts)))}
    assert not found


@pytest.mark.parametrize(
    ("unknown", "text", "named"),
    [
        (unknown_extras, 'Install it: pip install "sdezoo[tensorbord]".', "tensorbord"),
        (unknown_extras, "needs the extra `torch-board`", "torch-board"),
        (unknown_commands, "Give the folder that `sdezoo trian` wrote.", "trian"),
        (unknown_commands, "```sh\n$ sdezoo trian --sde gbm\n```", "trian"),
        (unknown_commands, "Draw.  Example: sdezoo smaple runs/demo", "smaple"),
        (unknown_options, "Omit --probs or --likelihood.", "--probs"),
        (unknown_options, "Give it to `sdezoo sample RUN --record FILE`", "--record"),
        (unknown_options, "```console\n$ sdezoo list --sde gbm\n```", "--sde"),
        (unknown_targets, "Type `make tests`.", "tests"),
        (unknown_symbols, "Derive it from sdezoo.Netwrok.", "sdezoo.Netwrok"),
        (unknown_symbols, "see `sdezoo.data.dataset.Data.colums`", "sdezoo.data.dataset.Data.colums"),
        (unknown_symbols, "from sdezoo.errors import RunError, RunErorr", "sdezoo.errors.RunErorr"),
    ],
)
def test_what_does_not_exist_is_found(unknown, text: str, named: str) -> None:
    assert unknown(text) == {named}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_the_contract_that_a_broken_plugin_is_told_to_derive_from_is_exported(kind: str, tmp_path: Path) -> None:
    registry = REGISTRIES[kind]
    name = registry.add(type("Nothing", (), {}), "a test")
    try:
        with pytest.raises(PluginError) as refusal:
            registry.load(name)
    finally:
        registry.remove(name)
    (named,) = re.findall(r"sdezoo\.(\w+)", refusal.value.remedy)
    assert named in sdezoo.__all__
    assert getattr(sdezoo, named) is registry.contract()


def test_the_contracts_that_a_file_without_a_plugin_is_told_of_are_exported(tmp_path: Path) -> None:
    (tmp_path / "empty.py").write_text("x = 1")
    with pytest.raises(PluginError) as refusal:
        load_file(tmp_path / "empty.py")
    named = re.findall(r"\b[A-Z]\w+", refusal.value.remedy.removeprefix("Derive"))
    assert len(named) >= 5
    assert set(named) <= set(sdezoo.__all__)
