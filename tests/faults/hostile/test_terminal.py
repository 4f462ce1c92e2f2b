"""Text from somebody's files cannot control the terminal: names of columns, files and plugins, versions, settings."""

import ast
import io
import json
import shutil
import subprocess
import sys
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from sdezoo.errors import printable
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo_cli.app import main
from sdezoo_cli.printing import say_json
from sdezoo_cli.progress import bar

HOSTILE = "\x1b]0;title\x07\x1b[31m\x9b2J\r\x08\x7f\u202e\u2066\u200f\u2028\ufeff\U000e0041{x}[bold]"
COMMANDS = Path(__file__).parents[3] / "cli" / "sdezoo_cli"
Terminal = Callable[..., tuple[int, str, str]]


def hidden(text: str) -> set[str]:
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\n"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a table whose columns have hostile names, with a hostile record of its origin."""
    folder = tmp_path_factory.mktemp("hostile")
    table = folder / "table.csv"
    first, second = HOSTILE.replace("\r", "").replace("\u2028", ""), "plain\x1b[0m"
    rows = "".join(f"{(0.5 + k % 37) * 1.01**k:.4g},{(1.5 + k % 23) * 1.01**k:.4g}\n" for k in range(300))
    table.write_text(f'"{first}",{second}\n{rows}', encoding="utf-8")
    settings = {"data": str(table), "net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "device": "cpu", "out": str(folder / "run")}
    train(TrainingConfig.build(settings))
    environment = json.loads((folder / "run" / "env.json").read_text())
    environment |= {"torch": HOSTILE, HOSTILE: "1", "plugins": {HOSTILE: HOSTILE}}
    (folder / "run" / "env.json").write_text(json.dumps(environment))
    return folder / "run"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Terminal:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sdezoo", *map(str, arguments)])
        with pytest.raises(SystemExit) as leave:
            main()
        return int(leave.value.code or 0), *capsys.readouterr()

    return call


@pytest.mark.parametrize(
    "command",
    [
        ["show", "RUN"],
        ["show", "RUN", "--json"],
        ["sample", "RUN", "-n", 4, "--out", "a.csv"],
        ["evaluate", "RUN", "-n", 20, "--out", "measures"],
        ["evaluate", "RUN", "-n", 20, "--out", "measures", "--json"],
        ["evaluate", "RUN", "-n", 8, "--likelihood"],
        ["train", "--out", "RUN", "--resume", "--steps", 3],
        ["train", "--out", "RUN", "--resume", "--steps", 3, "--json"],
    ],
)
def test_a_run_cannot_control_the_terminal(terminal: Terminal, trained: Path, command: list[object]) -> None:
    run = shutil.copytree(trained, trained.parent / "copy", dirs_exist_ok=True)
    code, out, err = terminal(*(run if part == "RUN" else part for part in command))
    shutil.rmtree(run)
    assert code == 0, err
    assert hidden(out) | hidden(err) == set()
    if "--json" in command:
        json.loads(out)
    if command[0] == "show":
        assert "\\x1b[31m" in out or "\\u001b[31m" in out, "it is shown, not left out"


PLUGIN = f"""
from dataclasses import dataclass
from sdezoo import SDES
VP = SDES.load("vp")
@dataclass(frozen=True)
class Evil(VP):
    {HOSTILE!a}
    def __post_init__(self):
        raise ValueError({HOSTILE!a})
Evil.__module__ += {HOSTILE!a}
"""


@pytest.mark.parametrize(
    "command",
    [
        [f"x{HOSTILE}"],
        [f"--x{HOSTILE}"],
        ["show", f"x{HOSTILE}"],
        ["show", f"./x{HOSTILE}"],
        ["show", "gbm", f"x{HOSTILE}"],
        ["train", "--sde", f"gbm:x{HOSTILE}=1"],
        ["train", "--data", f"x{HOSTILE}.csv"],
        ["train", "--config", f"x{HOSTILE}.yaml"],
        ["train", "--plugin", f"x{HOSTILE}.py"],
        ["train", "--sde", "evil", "--plugin", "evil.py"],
        ["check", "--plugin", "evil.py"],
        ["show", "evil", "--plugin", "evil.py"],
        ["list", "--plugin", "evil.py"],
        ["sample", f"x{HOSTILE}"],
        ["evaluate", ".", "--samples", f"x{HOSTILE}.csv"],
        ["evaluate", ".", "--probes", f"x{HOSTILE}"],
        ["new", "sde", f"x{HOSTILE}"],
        ["verify", f"x{HOSTILE}"],
        ["bench", f"x{HOSTILE}"],
        ["check", "gbm", "--compare", f"x{HOSTILE}"],
    ],
)
def test_no_message_controls_the_terminal(terminal: Terminal, tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "evil.py").write_text(PLUGIN)
    _, out, err = terminal(*command)
    assert out or err
    assert hidden(out) | hidden(err) == set()


def test_no_traceback_controls_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(PLUGIN)
    command = [sys.executable, "-P", "-m", "sdezoo_cli", "train", "--sde", f"x{HOSTILE}", "--debug"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert not hidden(done.stdout + done.stderr)


def test_a_message_of_two_sentences_has_two_lines(terminal: Terminal) -> None:
    _, _, err = terminal("show", "./a\nError: forged")
    assert len(err.splitlines()) == 2


def test_a_bar_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with bar(HOSTILE, 2, shown=True) as update:
        update(1, 2, HOSTILE)
        update(2, 2, HOSTILE)
    assert not hidden(stream.getvalue())


def test_a_warning_of_a_library_is_printable(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "typer.Typer.__call__", lambda _, args: [sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, "file", 1)), sys.exit(0)]
    )
    _, _, err = terminal("list")
    assert "UserWarning" in err
    assert not hidden(err)


def test_what_is_printable_stays() -> None:
    text = "Größe\tλ ∂ 名前 نام\u200cها 👩\u200d🔬 {x} [b] \\x1b\n"
    assert printable(text) == text
    assert printable("\x1b\x9b\u202e\r") == r"\x1b\x9b\u202e\r"
    assert printable("\udc80") == r"\udc80", "an undecodable byte of a file's name"


def test_json_reads_as_what_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    say_json({HOSTILE: HOSTILE})
    out = capsys.readouterr().out
    assert not hidden(out)
    assert json.loads(out) == {HOSTILE: HOSTILE}


def test_commands_print_through_one_module() -> None:
    for file in COMMANDS.rglob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
        printing = (names & {"stdout", "stderr", "echo", "secho"}) | (calls & {"print"})
        assert not printing or file.name == "printing.py", file.name
