"""The command line, called in the process of the tests."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdezoo_cli.app import main


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., tuple[int, str, str]]:
    """Runs `sdezoo …` in an empty folder: the exit code, and what was written to standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sdezoo", *map(str, arguments)])
        try:
            main()
            code = 0
        except SystemExit as leave:
            code = int(leave.code or 0)
        return code, *capsys.readouterr()

    return call
