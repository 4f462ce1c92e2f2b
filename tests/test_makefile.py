"""The Makefile: a line a stage, errors in full, and no target brings into an environment what another one cannot work with.

pip and Python are stand-ins that write down how they were called.
"""

import itertools
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[1]
TARGETS = ("demo", "smoke", "test", "lint", "docs", "bench")

STAND_IN = """#!/bin/sh
echo "$(dirname "$(dirname "$0")") $(basename "$0") $*" >> "$CALLS"
case "$*" in
  "-m venv "*)
    mkdir -p "$3/bin"
    for tool in python sdezoo ruff lint-imports pyright; do cp "$0" "$3/bin/$tool"; done ;;
  *" pip "*)
    for i in $(seq 300); do echo "Collecting package-$i"; done
    test -z "$FAILS" || { echo "ERROR: no space left"; exit 1; } ;;
esac
"""

pytestmark = pytest.mark.skipif(not shutil.which("make"), reason="there is no make")


class Clone:
    """A fresh clone whose Python is a stand-in."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._calls = folder, folder / "calls"
        for name in ("Makefile", "pyproject.toml", "constraints.txt", "constraints-lowest.txt"):
            shutil.copy(HOUSE / name, folder)
        (folder / "python").write_text(STAND_IN)
        (folder / "python").chmod(0o755)

    def make(self, *targets: str, fails: str = "") -> tuple[int, str]:
        """The exit code of `make`, and all that it prints."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
        environment = {**kept, "CALLS": str(self._calls), "FAILS": fails}
        command = ["make", "PYTHON=./python", *targets]
        done = subprocess.run(command, cwd=self._folder, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def pip(self) -> list[tuple[str, str]]:
        """The environment and the arguments of each call of pip."""
        calls = re.findall(r"^(\S+) python -m pip \S+ (.*)$", self._calls.read_text(), re.MULTILINE)
        return [(Path(environment).name, arguments) for environment, arguments in calls]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.parametrize("target", [*TARGETS, "test-lowest", "test-newest"])
def test_pip_is_a_line_a_stage(clone: Clone, target: str) -> None:
    code, said = clone.make(target)
    assert code == 0, said
    assert "Collecting" not in said
    stages = [line for line in said.splitlines() if line.startswith(("Installing", "Removing"))]
    assert len(stages) == len(clone.pip()) > 0
    assert len(said.splitlines()) <= len(stages) + 6  # the target's own commands


@pytest.mark.parametrize("target", [*TARGETS, "test-lowest", "test-newest"])
def test_an_error_of_pip_is_shown_in_full_and_tried_again(clone: Clone, target: str) -> None:
    code, said = clone.make(target, fails="yes")
    assert code != 0
    assert "Collecting package-1\n" in said
    assert "Collecting package-300\n" in said
    assert "ERROR: no space left" in said
    failed = len(clone.pip())
    assert clone.make(target)[0] == 0
    assert len(clone.pip()) > failed


@pytest.mark.parametrize("order", [*itertools.permutations(("test", "docs", "bench"))], ids=" ".join)
def test_in_every_order_an_environment_holds_the_same(tmp_path: Path, order: tuple[str, ...]) -> None:
    """What is installed where depends on no order, and nothing is installed twice."""
    clone = Clone(tmp_path)
    for target in order:
        assert clone.make(target)[0] == 0
    installed = clone.pip()
    assert len(installed) == len(set(installed))
    assert {call for call in installed if call[0] == ".venv" and "[bench]" in call[1]} == set()
    assert sorted(installed) == sorted(
        [
            (".venv", "install -c constraints.txt torch"),
            (".venv", "install -c constraints.txt -e .[dev]"),
            (".venv", "install -c constraints.txt -e .[docs]"),
            (".venv-bench", "install -c constraints.txt torch"),
            (".venv-bench", "install -c constraints.txt -e .[bench]"),
            (".venv-bench", "uninstall --yes torchvision"),
        ]
    )


def test_every_extra_that_is_installed_exists_and_is_constrained(clone: Clone) -> None:
    assert clone.make(*TARGETS, "test-lowest")[0] == 0
    extras = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for _, arguments in clone.pip():
        assert set(re.findall(r"\[(\w+)\]", arguments)) <= set(extras)
        assert "-c constraints" in arguments or arguments.startswith("uninstall")


def test_environments_are_ignored_by_git() -> None:
    ignored = (HOUSE / ".gitignore").read_text().split()
    folders = re.findall(r"^\w+ \?= (\.venv\S*)$", (HOUSE / "Makefile").read_text(), re.MULTILINE)
    assert len(folders) == 6
    assert {f"{folder}/" for folder in folders} <= set(ignored)
