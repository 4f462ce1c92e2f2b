"""The rules of the house: imports, format and lint, file sizes, names, and what never occurs in the code."""

import ast
import importlib
import inspect
import pkgutil
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdezoo.zoo.registry import REGISTRIES

HOUSE = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
ROOTS = ("sdezoo", "plugins", "cli")
FILES = [file for root in ROOTS for file in sorted((HOUSE / root).rglob("*.py"))]
BUILT_IN = [
    (kind, entry)
    for kind, registry in REGISTRIES.items()
    for name in registry.names()
    for entry in registry.entries(name)
    if entry.provider == "sdezoo"
]


def run(tool: str, *arguments: str, cwd: Path = HOUSE, path: str | None = None) -> tuple[bool, str]:
    """Whether a tool of this environment is content, and what it says; `path` goes in front of the import path."""
    environment = {"PATH": "/usr/bin:/bin", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"} | ({"PYTHONPATH": path} if path else {})
    done = subprocess.run([BIN / tool, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    return done.returncode == 0, re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)  # some versions colour whatever they are told


def test_the_import_rules_hold():
    kept, report = run("lint-imports", "--no-cache")
    assert kept, report


PLANTED = {
    "the core knows a plugin": ("sdezoo/data/dataset.py", "import sdezoo_plugins", "Plugins and command line"),
    "a plugin knows the command line": ("plugins/sdezoo_plugins/sdes/affine/vp.py", "import sdezoo_cli", "Plugins and command line"),
    "one wing looks up": ("sdezoo/process/noise.py", "import sdezoo.sampling.grid", "Inside the core"),
    "one module looks up inside its wing": ("sdezoo/process/sde.py", "import sdezoo.process.affine", "Inside process"),
    "one module of evaluation looks up": ("sdezoo/evaluation/rows.py", "import sdezoo.evaluation.suite", "Inside evaluation"),
    "one module of bench looks up": ("sdezoo/bench/timing.py", "import sdezoo.bench.suite", "Inside bench"),
    "one plugin knows another": (
        "plugins/sdezoo_plugins/sdes/affine/vp.py",
        "import sdezoo_plugins.sdes.affine.ve",
        "No plugin knows another",
    ),
    "the registry loads torch": ("sdezoo/zoo/registry.py", "import torch", "Names are known without torch"),
    "a plugin integrates by itself": ("plugins/sdezoo_plugins/samplers/general/heun.py", "import torchsde", "One file knows torchsde"),
    "one command knows another": ("cli/sdezoo_cli/runs/sample.py", "import sdezoo_cli.runs.train", "No command on runs knows another"),
    "a command looks up": ("cli/sdezoo_cli/progress.py", "import sdezoo_cli.runs.train", "Inside the command line"),
    "a command conducts": ("cli/sdezoo_cli/runs/sample.py", "import sdezoo.generation.streaming", "Commands on runs"),
    "one module of data looks up": ("sdezoo/data/reading.py", "import sdezoo.data.arrays", "Inside data"),
    "one module of store looks up": ("sdezoo/store/checkpoint.py", "import sdezoo.store.restoring", "Inside store"),
    "one module of training looks up": ("sdezoo/training/config.py", "import sdezoo.training.loop", "Inside training"),
    "one module of generation looks up": ("sdezoo/generation/export.py", "import sdezoo.generation.streaming", "Inside generation"),
    "one module of runs looks up": ("sdezoo/runs/train.py", "import sdezoo.runs.estimator", "Inside runs"),
    "one module of report looks up": ("sdezoo/report/motion.py", "import sdezoo.report.page", "Inside report"),
    "one module of exchange looks up": ("sdezoo/exchange/card.py", "import sdezoo.exchange.hub", "Inside exchange"),
    "conformance looks up": ("sdezoo/conformance/law.py", "import sdezoo.conformance.laws.sde_laws", "Inside conformance"),
    "one module of the bank looks up": (
        "sdezoo/conformance/bank/cases.py",
        "import sdezoo.conformance.bank.orders",
        "Inside conformance, bank",
    ),
    "one module of the laws looks up": (
        "sdezoo/conformance/laws/configuration.py",
        "import sdezoo.conformance.laws.sde_laws",
        "Inside conformance, laws",
    ),
    "one module of verification looks up": ("sdezoo/verification/findings.py", "import sdezoo.verification.verify", "Inside verification"),
    "one module of learning looks up": ("sdezoo/learning/prior.py", "import sdezoo.learning.model", "Inside learning"),
    "one module of paths looks up": (
        "sdezoo/learning/paths/simulated.py",
        "import sdezoo.learning.paths.observed",
        "Inside what is learned",
    ),
    "the core knows the classes of plugins": ("sdezoo/runs/train.py", "import sdezoo.sdes", "Inside the core"),
    "one module of zoo looks up": ("sdezoo/zoo/registry.py", "import sdezoo.zoo.composition", "Inside zoo"),
    "a module has no place": ("sdezoo/sampling/attic.py", "", "Inside sampling"),
}


def test_the_import_rules_bite(tmp_path: Path):
    """Every contract is broken by a violation of it, planted in a copy."""
    for root in ROOTS:
        shutil.copytree(HOUSE / root, tmp_path / root, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE / "pyproject.toml", tmp_path)
    for file, line, _ in PLANTED.values():
        with (tmp_path / file).open("a") as text:
            text.write(f"\n{line}\n")
    kept, report = run("lint-imports", "--no-cache", cwd=tmp_path, path=":".join(str(tmp_path / part) for part in ("", "plugins", "cli")))
    assert not kept
    broken = [line for line in report.splitlines() if line.endswith("BROKEN") or " BROKEN " in line]
    unnoticed = [what for what, (_, _, contract) in PLANTED.items() if not any(line.startswith(contract) for line in broken)]
    assert not unnoticed, report


@pytest.mark.skipif(not (HOUSE / ".git").exists() or not shutil.which("git"), reason="not a git checkout")
def test_git_ignores_no_source_file():
    """An ignored file is there for its author alone."""
    names = [str(file.relative_to(HOUSE)) for file in [*FILES, *(HOUSE / "tests").rglob("*.py")]]
    ignored = subprocess.run(["git", "check-ignore", "--no-index", *names], cwd=HOUSE, capture_output=True, text=True, check=False).stdout
    assert not ignored, ignored


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")], ids=["lint", "format"])
def test_ruff_is_content(arguments: tuple[str, ...]):
    content, report = run("ruff", *arguments, "--no-cache")
    assert content, report


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "from torch import load",
        "import torch\n\ntorch.load('a')",
        "import torch as t\n\nt.save({}, 'a')",
        "import numpy as np\n\nnp.load('a')",
        "import joblib",
        "import yaml\n\nyaml.load('a', yaml.Loader)",
    ],
)
def test_ruff_forbids_what_runs_what_it_reads(tmp_path: Path, code: str):
    """Planted under the rules of the house, in a core module and in a plugin."""
    shutil.copy(HOUSE / "pyproject.toml", tmp_path)
    for name in ("sdezoo/planted.py", "plugins/planted.py"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f'"""A module."""\n\n{code}\n')
        content, report = run("ruff", "check", "--no-cache", "--ignore", "F401", name, cwd=tmp_path)
        assert not content
        assert "TID251" in report or "S506" in report, report


def where(file: Path) -> str:
    return str(file.relative_to(HOUSE))


def test_every_file_can_be_read_in_a_sitting():
    lines = {where(file): len(file.read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: count for file, count in lines.items() if count > 400} == {}


def test_no_folder_holds_more_than_fifteen_files():
    made = {"__pycache__", "_build", "jupyter_execute"}
    found = [path for root in (*ROOTS, "tests", "docs", "attacks") for path in (HOUSE / root).rglob("*") if path.is_file()]
    files = [path for path in found if not made & set(path.parts)]
    sizes = Counter(where(file.parent) for file in files)
    assert {folder: size for folder, size in sizes.items() if size > 15} == {}


def test_every_file_has_a_subject():
    vague = {"utils", "util", "helpers", "helper", "common", "misc"}
    assert [where(file) for file in FILES if vague & {file.stem, file.parent.name}] == []


def test_what_never_occurs():
    found = {where(file): list(forbidden(ast.parse(file.read_text(encoding="utf-8")))) for file in FILES}
    assert {file: lines for file, lines in found.items() if lines} == {}


def forbidden(tree: ast.AST) -> Iterator[str]:
    """Code that runs what it reads, and tests for a particular process in place of a capability."""
    processes = {entry.attribute for kind, entry in BUILT_IN if kind == "sdes"}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names) if any(n.name.partition(".")[0] in {"pickle", "dill", "joblib"} for n in names):
                yield f"line {node.lineno}: pickle"
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in {"pickle", "dill", "joblib"}:
                yield f"line {node.lineno}: pickle"
            case ast.Attribute(value=ast.Name(id="torch"), attr="load"):
                yield f"line {node.lineno}: torch.load reads pickles"
            case ast.Attribute(attr="save_state" | "load_state" as name):
                yield f"line {node.lineno}: accelerate's {name} goes by pickles"
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                yield f"line {node.lineno}: allow_pickle=True"
            case ast.Call(func=ast.Name(id="eval" | "exec" as name)):
                yield f"line {node.lineno}: {name}"
            case ast.Call(func=ast.Name(id="isinstance"), args=[_, kinds]):
                named = {n.id for n in ast.walk(kinds) if isinstance(n, ast.Name)} & processes
                if named:
                    yield f"line {node.lineno}: asks for the process {', '.join(named)}"


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(path)",
        "self._accelerator.save_state(path)",
        "accelerator.load_state(path)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        "exec(text)",
        "isinstance(sde, GBM)",
        "isinstance(model.sde, (AffineSDE, VP))",
    ],
)
def test_forbidden_code_is_found(code: str):
    assert list(forbidden(ast.parse(code)))


@pytest.mark.parametrize("code", ["net.eval()", "'pickle'", "np.load(path, allow_pickle=False)", "isinstance(sde, AffineSDE)"])
def test_allowed_code_is_not(code: str):
    assert not list(forbidden(ast.parse(code)))


def test_every_plugin_has_its_own_file_and_says_what_it_is():
    for kind, entry in BUILT_IN:
        assert [other.name for _, other in BUILT_IN if other.module == entry.module] == [entry.name]
        cls = REGISTRIES[kind].load(entry.name)
        assert cls.__module__ == entry.module
        tree = ast.parse(inspect.getsource(importlib.import_module(entry.module)))
        assert ast.get_docstring(tree), f"{entry.module} has no module docstring"
        [definition] = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == entry.attribute]
        assert ast.get_docstring(definition), f"{entry.module}:{entry.attribute} has no class docstring"


def test_every_built_in_plugin_is_registered():
    registered = {(entry.module, entry.attribute) for _, entry in BUILT_IN}
    contracts = tuple(registry.contract() for registry in REGISTRIES.values())
    for found in pkgutil.walk_packages([str(HOUSE / "plugins")]):
        module = importlib.import_module(found.name)
        for name, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == found.name and issubclass(cls, contracts) and not inspect.isabstract(cls) and not name.startswith("_"):
                assert (found.name, name) in registered, f"{found.name}:{name} is no entry point"
