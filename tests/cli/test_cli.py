"""The command line: what works is printed, what cannot work is two sentences and exit code 2, and nothing is written."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import get_type_hints

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.composition import fitting, fitting_parts, preferred
from sdezoo.zoo.registry import SAMPLERS, SDES
from sdezoo_cli.runs.evaluate import evaluate
from sdezoo_cli.runs.sample import sample
from sdezoo_cli.runs.train import train

WINE = ["--data", "wine", "--net", "mlp:width=16,depth=1", "--steps", "2", "--batch-size", "8"]


Terminal = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sdezoo(terminal: Terminal) -> Terminal:
    return terminal


def test_train_says_where_things_are_and_how_to_sample(sdezoo: Terminal, tmp_path: Path) -> None:
    code, out, err = sdezoo("train", "--sde", "gbm", "--loss", "mult-dsm", "--net", "unet:width=8", "--steps", 2)
    assert code == 0, err
    run = Path("runs/digits-gbm-mult-dsm")
    assert f"sdezoo sample {run}" in out
    assert Image.open(run / "samples" / "step-2.png").size >= (64, 64)
    command = out.split("Sample next:")[1].splitlines()[0].split()[1:]
    code, out, err = sdezoo(*command)
    assert code == 0, err
    assert Path("samples.png").is_file()
    assert "20 network evaluations each" in out
    assert "outside the range of the data" in out


@pytest.mark.parametrize("name", ["s.npz", "s.npy", "s.csv", "s.parquet", "s.png"])
def test_a_table_is_written_in_every_format(sdezoo: Terminal, name: str) -> None:
    assert sdezoo("train", *WINE, "--out", "run", "--quiet") == (0, "", "")
    code, out, err = sdezoo("sample", "run", "-n", 5, "--steps", 2, "--out", name, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["n"] == 5
    match name.rpartition(".")[2]:
        case "npz":
            assert np.load(name)["x"].shape == (5, 13)
        case "npy":
            assert np.load(name).shape == (5, 13)
        case "csv":
            assert Path(name).read_text().splitlines()[0].replace('"', "").startswith("alcohol,malic_acid,ash")
        case "parquet":
            assert pyarrow.parquet.read_table(name).column_names[0] == "alcohol"
        case "png":
            assert min(Image.open(name).size) > 100


def test_the_same_command_gives_the_same_bytes(sdezoo: Terminal) -> None:
    sdezoo("train", *WINE, "--out", "run", "--quiet")
    for name in ("a.npy", "b.npy"):
        sdezoo("sample", "run", "-n", 5, "--steps", 2, "--seed", 3, "--out", name)
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()


def test_resume_and_config(sdezoo: Terminal) -> None:
    sdezoo("train", *WINE, "--out", "run", "--quiet")
    code, _, err = sdezoo("train", "--config", "run/config.yaml", "--resume", "--steps", 4, "--quiet")
    assert code == 0, err
    assert Path("run/checkpoints/step-4").is_dir()
    code, _, err = sdezoo("train", "--config", "run/config.yaml", "--resume", "--quiet", "--steps", 4)
    assert (code, "nothing left to train" in err) == (0, True)
    code, _, err = sdezoo("train", "--config", "run/config.yaml", "--resume", "--quiet", "--steps", 3)
    assert code == 2
    assert "already has 4 steps" in err


@pytest.mark.parametrize(
    ("command", "problem", "remedy"),
    [
        ("train --sde gmb", "There is no SDE 'gmb'", "'gbm'"),
        ("train --sde gbm:sgma=1", "no parameter 'sgma'", "'sigma'"),
        ("train --sde gbm:sigma=-1", "sigma=-1", "above 0"),
        ("train --sde gbm:sigma=nan", "sigma=nan", "above 0"),
        ("train --sde gbm:sigma", "'sigma' in the spec string", "key=value"),
        ("train --sde ve:sigma_min=3,sigma_max=2", "sigma_min=3", "below"),
        ("train --sde ve --loss mult-dsm", "'ve' lives on the real line", "Fits 'mult-dsm': --sde exp-ou, gbm, lift"),
        ("train --data wine --net unet", "network 'unet' needs images", "mlp"),
        ("train --data digits --net mlp", "network 'mlp' needs vectors", "unet"),
        ("train --output edn", "output 'edn'", "edm"),
        ("train --prior blue", "prior=blue", "full"),
        ("train --noise-levels gaussian", "noise_levels=gaussian", "log-normal"),
        ("train --steps 0", "steps=0", "at least 1"),
        ("train --lr -1", "lr=-1", "above 0"),
        ("train --device cuda:7", "'cuda:7'", "cpu"),
        ("train --device abacus", "'abacus'", "cpu"),
        ("train --data there-is-none", "no dataset 'there-is-none'", "digits"),
        ("train --data none.npz", "'none.npz'", "path"),
        ("train --data empty.csv", "'empty.csv'", "complete"),
        ("train --data nan.csv --missing refuse", "1 missing (NaN) value, the first in row 1, column 'a'", "Remove"),
        ("train --data zero.csv --sde gbm", "1 value is zero or negative, in column 'b'", "--shift auto"),
        ("train --data notes.txt", "'notes.txt'", ".csv"),
        ("train --config none.yaml", "'none.yaml'", "YAML"),
        ("train --config notes.txt", "'notes.txt'", "name: value"),
        ("train --config palette.yaml", "'palette'", "Choose one of"),
        ("train --out notes.txt", "a file, not a folder", "--out"),
        ("train --out folder", "exists", "--overwrite"),
        ("train --out folder --overwrite", "not a run", "--out"),
        ("train --resume --out nowhere", "The folder 'nowhere' does not exist", "Give the folder that `sdezoo train` wrote"),
        ("train --plugin none.py", "'none.py'", ".py"),
        ("train --plugin broken.py", "ModuleNotFoundError", "Fix"),
        ("train --plugin empty.py", "defines no plugin", "Derive"),
        ("sample nowhere", "does not exist", "sdezoo train"),
        ("sample folder", "holds no checkpoint", "sdezoo train"),
        ("show qqqq", "There is no plugin 'qqqq'", "Choose one of"),
        ("list sdess", "'sdess'", "'sdes'"),
    ],
)
def test_a_mistake_is_two_sentences(sdezoo: Terminal, command: str, problem: str, remedy: str) -> None:
    Path("empty.csv").write_text("")
    Path("nan.csv").write_text("a,b\n1,2\n,3\n4,5\n")
    Path("zero.csv").write_text("a,b\n1,2\n3,0\n4,5\n")
    Path("notes.txt").write_text("a note")
    Path("palette.yaml").write_text("palette: red")
    Path("broken.py").write_text("import there_is_no_such_module")
    Path("empty.py").write_text("x = 1")
    Path("folder").mkdir()
    Path("folder/file").write_text("")
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    code, out, err = sdezoo(*command.split())
    assert code == 2
    assert out == ""
    first, second = err.rstrip("\n").split("\n")
    assert first.startswith("Error: ")
    assert problem in first
    assert remedy in second
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "problem", "remedy"),
    [
        (["--sampler", "dpmp-2m"], "no sampler", "'dpmpp-2m'"),
        (["--steps", 0], "steps=0", "at least 1"),
        (["-n", 0], "n=0", "at least 1"),
        (["--out", "s.jpg"], "'s.jpg'", ".csv"),
        (["--out", "there.csv"], "exists", "--overwrite"),
        (["--sampler", "multiplicative", "--steps", 1], "left the support", "dale-langevin"),
        (["--sampler", "dale-langevin:preset=mine"], "preset=mine", "consistent, paper"),
    ],
)
def test_a_mistake_in_sampling(sdezoo: Terminal, arguments: list[object], problem: str, remedy: str) -> None:
    sdezoo("train", *WINE, "--out", "run", "--quiet")
    Path("there.csv").write_text("mine")
    code, _, err = sdezoo("sample", "run", *([] if "--out" in arguments else ["--out", "s.csv"]), *arguments, "--quiet")
    assert code == 2
    assert problem in err.split("\n")[0]
    assert remedy in err.split("\n")[1]
    assert Path("there.csv").read_text() == "mine"
    assert not Path("s.csv").exists()


def test_a_sampler_that_does_not_fit_names_what_does(sdezoo: Terminal) -> None:
    sdezoo("train", *WINE, "--sde", "ve", "--loss", "dsm", "--out", "run", "--quiet")
    code, _, err = sdezoo("sample", "run", "--sampler", "dale-langevin", "--out", "s.csv")
    assert code == 2
    assert err.startswith(
        "Error: sampler 'dale-langevin' needs an SDE on positive data with multiplicative noise; 've' lives on the real line."
    )
    fits = ", ".join(fitting(SDES.build("ve"), SAMPLERS))
    assert f"Fits 've': {fits}.   Fits 'dale-langevin': --sde exp-ou, gbm, lift." in err


def test_show_tells_equation_parameters_support_and_fits(sdezoo: Terminal) -> None:
    code, out, _ = sdezoo("show", "gbm")
    assert code == 0
    for text in ("dX = μ(t) X dt + σ(t) X dW", "sigma", "above 0", "the positive numbers", "mult-dsm", "dale-langevin", "hyvarinen"):
        assert text in out
    assert json.loads(sdezoo("show", "dale-langevin", "--json")[1])[0]["sdes"] == ["exp-ou", "gbm", "lift"]


def test_list_names_everything_and_says_what_is_broken(sdezoo: Terminal) -> None:
    code, out, _ = sdezoo("list")
    assert code == 0
    assert "BROKEN" not in out
    for name in ("gbm", "mult-dsm", "dale-langevin", "unet", "digits"):
        assert f"  {name} " in out


def test_show_tells_what_a_run_was_made_of(sdezoo: Terminal, tmp_path: Path) -> None:
    run = tmp_path / "run"
    small = ("--net", "mlp:width=8,depth=1", "--steps", "2", "--data", "wine", "--out", str(run), "--quiet")
    assert sdezoo("train", *small)[0] == 0
    code, out, _ = sdezoo("show", str(run))
    assert code == 0
    assert all(part in out for part in ("sdes/gbm", "step 2", "validation loss", "mlp:width=8,depth=1"))
    shown = json.loads(sdezoo("show", str(run), "--json")[1])
    assert [entry["step"] for entry in shown["checkpoints"]] == [2]
    code, _, told = sdezoo("show", str(tmp_path))
    assert code != 0
    assert "is not a run of sdezoo" in told


def test_debug_shows_the_traceback(sdezoo: Terminal) -> None:
    with pytest.raises(LookupError):
        sdezoo("train", "--sde", "gmb", "--debug")


def test_help_and_list_import_neither_torch_nor_a_plugin_and_need_no_other_letters_than_ascii() -> None:
    watched = "import sys\nsys.argv = ['sdezoo', *{}]\nfrom sdezoo_cli.app import main\ntry: main()\nexcept SystemExit: pass\n"
    report = "print('LOADED', [m for m in sys.modules if m == 'torch' or m.startswith('sdezoo_plugins')])"
    for arguments in (["--help"], ["--version"], ["train", "--help"], ["new", "--help"], ["list"]):
        command = [sys.executable, "-c", watched.format(arguments) + report]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONIOENCODING": "ascii"})
        assert "LOADED []" in done.stdout, done.stdout + done.stderr
        assert arguments != ["--version"] or done.stdout.startswith(f"sdezoo {version('sdezoo')}\n")


def test_the_help_tells_the_defaults_of_the_config() -> None:
    hints = get_type_hints(train, include_extras=True)
    for name, field in TrainingConfig.model_fields.items():
        (option,) = hints[name].__metadata__
        if field.default not in (None, False):  # a flag that is not given is off
            assert option.help.endswith(f"Default: {field.default}.")


@pytest.mark.parametrize("command", [sample, evaluate])
def test_the_help_tells_the_default_samplers(command: Callable[..., None]) -> None:
    help_text = get_type_hints(command, include_extras=True)["sampler"].__metadata__[0].help
    words = {"image": "images", "table": "tables", "points": "points"}
    for kind, many in words.items():
        told = re.search(rf"([\w:=,-]+) for (\w+ and )?{many}\b", help_text)
        assert told, f"no default is told for {many}"
        assert told[1] == preferred(fitting_parts(SDES.build("gbm"), SAMPLERS), "samplers", kind)


def test_threads_that_wait_leave_their_cores_to_other_programs() -> None:
    environment = {**os.environ, "OMP_DISPLAY_ENV": "TRUE"}
    environment.pop("OMP_WAIT_POLICY", None)
    command = [sys.executable, "-c", "import sys; from sdezoo_cli.app import main; sys.argv = ['sdezoo', 'show', 'gbm']; main()"]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr
    if "OMP_WAIT_POLICY" not in said:
        pytest.skip("this OpenMP does not print its settings")
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in said


def test_a_file_without_its_option_is_told_the_option(terminal):
    code, _, err = terminal("train", "my prices.csv")
    assert code == 2
    assert "--data 'my prices.csv'" in err


def test_the_help_of_training_is_in_groups(terminal):
    code, out, _ = terminal("train", "--help")
    assert code == 0
    heads = [line.strip("╭╮─ ") for line in out.splitlines() if line.startswith("╭")]
    assert len(heads) >= 5, out
    assert {"Data", "Process and model", "Loss and optimizer", "Run", "Machine"} <= set(heads)
    assert "[file]" not in out


def test_what_fits_what_fits_the_terminal(terminal, monkeypatch):
    assert terminal("list", "--fits")[1].startswith("|  | `")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "72")
    out = terminal("list", "--fits")[1]
    assert max(map(len, out.splitlines())) <= 72
    assert "gbm\n  losses    confined-sm, dsm, mult-dsm" in out
