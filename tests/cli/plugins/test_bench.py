"""`sdezoo bench`: which parts run, what is printed and written, and what is refused before anything is measured."""

import json
from importlib.metadata import version

import pytest
import typer

from sdezoo.bench import suite
from sdezoo.bench.table import Table
from sdezoo.errors import SdezooError
from sdezoo_cli.plugins import bench as module
from sdezoo_cli.plugins.bench import PARTS, bench, startup


@pytest.fixture
def sdezoo(monkeypatch, capsys, tmp_path):
    """Runs `sdezoo bench …` in a folder of its own; each part answers at once, and says that it was asked."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def part(name):
        def measure(sde, seed, report):
            asked.append((name, sde, seed))
            report(1, 1, detail=name)
            return Table(f"Table of {name}", {"what": "", "ratio": ".2f"}, [{"what": name, "ratio": 1.5}])

        return measure

    for name in suite.PARTS:
        monkeypatch.setitem(suite.PARTS, name, part(name))
    monkeypatch.setattr(module, "startup", lambda report: part("startup")("", 0, report))
    app = typer.Typer()
    app.command()(bench)

    def run(*arguments):
        asked.clear()
        app(args=[str(argument) for argument in arguments], standalone_mode=False)
        return [name for name, *_ in asked], asked.copy(), capsys.readouterr().out

    return run


def test_every_part_has_its_name_on_the_command_line():
    assert list(PARTS) == [*suite.PARTS, "startup"]


def test_all_parts_run_where_none_is_named(sdezoo):
    parts, _, out = sdezoo()
    assert parts == list(PARTS)
    assert all(f"Table of {part}\n" in out for part in PARTS)


def test_only_the_parts_that_are_named_run(sdezoo):
    _, asked, out = sdezoo("noise", "loop", "--sde", "ve", "--seed", 3)
    assert asked == [("loop", "ve", 3), ("noise", "ve", 3)]
    assert "peers" not in out


def test_json_holds_the_figures_and_the_machine(sdezoo):
    _, _, out = sdezoo("nfe", "startup", "--json")
    found = json.loads(out)
    assert list(found["parts"]) == ["nfe", "startup"]
    assert found["parts"]["nfe"]["rows"] == [{"what": "nfe", "ratio": 1.5}]
    assert found["sde"] == "gbm"
    assert found["seed"] == 0
    assert {"cpus", "threads", "device", "torch", "python"} <= set(found["machine"])
    assert found["machine"]["torch"] == version("torch")


def test_a_quiet_run_leaves_its_file_alone(sdezoo, tmp_path):
    _, _, out = sdezoo("noise", "--quiet", "--out", "figures.json")
    assert not out
    assert list(json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["parts"]) == ["noise"]


def test_a_file_is_replaced_only_on_demand(sdezoo, tmp_path):
    (tmp_path / "figures.json").write_text("mine", encoding="utf-8")
    with pytest.raises(SdezooError, match="exists"):
        sdezoo("noise", "--out", "figures.json")
    assert (tmp_path / "figures.json").read_text(encoding="utf-8") == "mine"
    sdezoo("noise", "--out", "figures.json", "--overwrite", "--quiet")
    assert json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["parts"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["speed"], "has no part 'speed'"),
        (["noise", "--sde", "nothing"], "nothing"),
        (["noise", "--out", "nowhere/figures.json"], "cannot be written"),
        (["noise", "--out", "."], "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_refused_first(sdezoo, monkeypatch, arguments, problem):
    monkeypatch.setattr(suite, "PARTS", {})
    with pytest.raises(SdezooError, match=problem):
        sdezoo(*arguments)


def test_startup_is_measured(monkeypatch):
    monkeypatch.setattr(module, "_ROUNDS", 1)
    rows = startup(lambda *_: None).rows
    assert [row["command"] for row in rows] == ["sdezoo --help", "sdezoo list"]
    assert all(row["ratio"] > 0 for row in rows)
