"""`sdezoo verify`: what is printed and written, for processes of every capability, and what is refused."""

import json
import platform
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from PIL import Image

from sdezoo.errors import SdezooError
from sdezoo.verification import verify as verification
from sdezoo.verification.cross_check import STRONG, Ladder
from sdezoo.verification.peers import PEERS, Method
from sdezoo.verification.tables import markdown
from sdezoo.verification.verify import Effort
from sdezoo.zoo.registry import SDES
from sdezoo_cli.plugins.verify import verify
from tests.process.edges import BetweenWalls, Stable

CHEAP = Effort(
    paths=64,
    ladder=Ladder((32, 128), (16, 64), (4, 16)),
    interval=False,
    weak_steps=(8, 32),
    weak_paths=1024,
    evaluations=(2, 5),
    samples=64,
    flow_steps=64,
)
THIRD_PARTY = '''
"""Square-root diffusion with a rate of its own."""
from dataclasses import dataclass
import torch
from torch.distributions import Gamma, constraints
from sdezoo import Conditional, ForwardSDE

@dataclass(frozen=True)
class Drawn(ForwardSDE, Conditional):
    """Ornstein–Uhlenbeck, written without its coordinates: dX = -X dt + sqrt(2) dW."""

    def drift(self, z, t):
        return -z

    def diffusion(self, z, t):
        return torch.full_like(z, 2**0.5)

    def scale(self, t):
        return (-torch.expm1(-2 * t)).sqrt()

    def perturb(self, x0, t, noise):
        return (torch.exp(-t) * x0 + self.scale(t) * noise.normal(x0)).to(x0)

    def log_prob(self, z, x0, t):
        s = self.scale(t).to(z)
        return -((z - torch.exp(-t).to(z) * x0) ** 2) / (2 * s**2) - s.log() - 0.9189385332046727

    def prior(self, shape, noise, like):
        return noise.normal(like, shape)
'''


@pytest.fixture
def sdezoo(monkeypatch, capsys, tmp_path):
    """Runs `sdezoo verify …` in a folder of its own, at little effort."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verification, "Effort", lambda: CHEAP)
    app = typer.Typer()
    app.command()(verify)

    def run(*arguments):
        try:
            app(args=[str(argument) for argument in arguments])
            code = 0
        except SystemExit as leave:
            code = leave.code
        return code, *capsys.readouterr()

    return run


def read(name):
    return json.loads(Path(name).read_text(encoding="utf-8"))


def test_it_prints_tables_and_writes_json_and_a_picture(sdezoo):
    code, out, err = sdezoo("gbm:sigma=0.8", "--seed", 1)
    assert code in (0, 1), err
    for text in ("strong order", "limit difference", "equality", "weak order", "prior gap", "likelihood", "after evaluations", "floor"):
        assert text in out
    for path in ("verify/verify-gbm-sigma-0.8.json", "verify/verify-gbm-sigma-0.8.png"):
        assert path in out
    record = read("verify/verify-gbm-sigma-0.8.json")
    assert record["spec"] == "gbm:sigma=0.8"
    assert record["seed"] == 1
    equal = [f for f in record["findings"] if f["part"] == "equality"]
    assert len(equal) >= 6
    assert all(f["outcome"] == "ok" for f in equal)
    assert {"strong order", "weak order", "error against evaluations"} == {curve["part"] for curve in record["curves"]}
    assert min(Image.open("verify/verify-gbm-sigma-0.8.png").size) > 300


def test_it_writes_over_its_own_results_and_over_nothing_else(sdezoo):
    Path("there").mkdir()
    Path("there/verify-ve.json").write_text('{"mine": 1}')
    with pytest.raises(SdezooError, match="is not a verification") as error:
        sdezoo("ve", "--out", "there")
    assert "--out" in error.value.remedy
    assert Path("there/verify-ve.json").read_text() == '{"mine": 1}'
    for _ in range(2):
        assert sdezoo("ve", "--quiet", "--out", "here")[2] == ""
    Path("a-file").touch()
    with pytest.raises(SdezooError, match="a file, not a folder"):
        sdezoo("ve", "--out", "a-file")


def test_a_process_from_a_file_is_verified_without_being_named(sdezoo):
    """One that is Gaussian but does not say so: everything but exact ends applies to it."""
    Path("drawn.py").write_text(THIRD_PARTY, encoding="utf-8")
    try:
        code, out, err = sdezoo("--plugin", "drawn.py", "--json")
    finally:
        SDES.remove("drawn")
    assert code == 0, out + err
    record = json.loads(out)
    assert record["spec"] == "drawn"
    found = {(f["part"], f["what"]): f for f in record["findings"]}
    assert found["likelihood", "largest difference in nats, on the state"]["outcome"] == "ok"
    assert found["equality", "torchsde euler = its closed form, on the state"]["outcome"] == "ok"
    assert found["strong order", "torchsde srk, on the state"]["note"] == "no reference is known that is finer"


@pytest.mark.parametrize("sde", [BetweenWalls(), Stable()], ids=["a boundary rule", "no SDE"])
def test_what_does_not_apply_is_a_finding_with_a_reason(sde):
    found = verification.verify(sde, effort=replace(CHEAP, paths=32))
    assert found.finding(STRONG, "torchsde").note
    assert all(f.note for f in found.findings if f.outcome == "does not apply")
    assert not [f for f in found.off if f.part != "error against evaluations"]
    json.dumps(found.record())


def test_a_process_that_raises_is_off_and_said_why():
    class Broken(BetweenWalls):
        def drift(self, z, t):
            raise RuntimeError("out of tea")

    found = verification.verify(Broken(), effort=CHEAP)
    assert any("RuntimeError: out of tea" in f.note for f in found.off)


def test_an_order_outside_its_band_is_exit_code_1(sdezoo, monkeypatch):
    monkeypatch.setattr("sdezoo.verification.cross_check.EQUAL", 0.0)
    monkeypatch.setattr("sdezoo.verification.cross_check.ROUNDED", 0.0)
    code, out, _ = sdezoo("ve", "--quiet")
    assert code == 1
    assert "ve: equality: torchsde euler = its closed form, on the state is" in out


@pytest.mark.slow
def test_one_table_for_several(sdezoo, monkeypatch):
    monkeypatch.setattr("sdezoo_cli.plugins.verify._everything", lambda: ["ve", "vp"])
    _, out, _ = sdezoo("--all")
    first, *_ = out.split("\n")
    assert first == "|  | expected | `ve` | `vp` |"
    assert "| `vp` dpmpp-2m |" in out
    assert Path("verify/verify-vp.json").is_file()


@pytest.mark.parametrize("wrong", [False, True])
def test_another_library_stands_beside_ours(sdezoo, monkeypatch, wrong):
    def methods(setting):
        return [Method("theirs", "ddim", lambda: setting.ours("ancestral" if wrong else "ddim", setting.times))]

    monkeypatch.setitem(PEERS, "torch", methods)
    code, out, _ = sdezoo("--against", "torch", "--steps", 4, "--json")
    record = json.loads(out)
    assert (code, record["holds"], record["spec"], record["steps"], record["seed"]) == (wrong, not wrong, "vp", 4, 0)
    code, out, _ = sdezoo("cosine", "--against", "torch", "--steps", 4, "--quiet")
    assert (code, bool(out.strip())) == (wrong, wrong)
    code, out, _ = sdezoo("cosine", "--against", "torch", "--seed", 1)
    assert out.startswith("`cosine`, 20 steps; seed 1; torch ")
    assert not list(Path().iterdir())


def test_everything_is_every_registered_process(monkeypatch):
    from sdezoo_cli.plugins.verify import _everything

    assert {"gbm", "subvp", "ve", "vp"} <= set(_everything())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["gmb"], "no SDE 'gmb'"),
        (["gbm:sigma=-1"], "sigma=-1"),
        ([], "nothing to verify"),
        (["--plugin", "none.py"], "'none.py'"),
        (["vp", "--steps", 5], "--steps is the number of steps of --against"),
        (["--against", "azula", "--all"], "--against compares on one SDE"),
        (["--against", "azula", "--out", "here"], "writes no files"),
        (["--against", "torch"], "no comparison with 'torch'"),
    ],
)
def test_a_mistake_is_refused_before_anything_is_written(sdezoo, arguments, problem):
    with pytest.raises(SdezooError, match=problem):
        sdezoo(*arguments)
    assert not list(Path().iterdir())


def test_tables_of_six_say_what_was_measured_and_what_is_missing():
    found = verification.verify(Stable(), effort=CHEAP)
    table = markdown([found])
    assert "| — |" in table
    assert "; strong order, torchsde: is no SDE" in table
    assert table.startswith(f"Processes: 1; seed 0; python {platform.python_version()}, sdezoo ")

    heads = [line for line in markdown([found] * 8).splitlines() if line.startswith("|  |")]
    assert [line.count("`") // 2 for line in heads] == [6, 2]


def test_the_module_imports_neither_torch_nor_the_core():
    import subprocess

    code = "import sys, sdezoo_cli.plugins.verify; print('torch' in sys.modules, 'sdezoo.conformance' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
