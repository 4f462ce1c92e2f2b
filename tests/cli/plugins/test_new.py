"""`sdezoo new`: what it writes is clean, installs, obeys the laws and is found; a mistake leaves nothing behind."""

import json
import sys
from pathlib import Path

import pytest

from sdezoo import AffineSDE, Conditional, ForwardSDE, Supervised
from sdezoo.errors import ParameterError, PluginError, RunError, SdezooError
from sdezoo.process.interpolant import Interpolant
from sdezoo.zoo.registry import SDES, load_file
from sdezoo_cli.plugins.new import SDE_FORMS, new
from tests.third_party.environment import Environment, run

KINDS = {"sde": "sdes", "loss": "losses", "sampler": "samplers", "guide": "guides", "optimizer": "optimizers"}
TEMPLATES = [(kind, None) for kind in KINDS] + [("sde", form) for form in SDE_FORMS if form != "affine"]
"""What may be asked for: a kind, and of an SDE its form; `affine` is the default."""

each_template = pytest.mark.parametrize(("kind", "form"), TEMPLATES)
each_quick_template = pytest.mark.parametrize(
    ("kind", "form"), [pytest.param(kind, form, marks=[pytest.mark.slow] if form else []) for kind, form in TEMPLATES]
)


def named(kind: str, form: str | None) -> str:
    return f"my-{kind}" if form is None else f"my-{form}-{kind}"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Where a new plugin of each template is installed, straight from `sdezoo new`."""
    made = Environment(tmp_path_factory.mktemp("environment"))
    for kind, form in TEMPLATES:
        new(kind, named(kind, form), made.home, form)
    made.install(*(made.home / f"sdezoo-{named(kind, form)}" for kind, form in TEMPLATES))
    return made


@each_quick_template
def test_it_passes_its_own_tests(environment: Environment, kind: str, form: str | None) -> None:
    report = environment("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", f"sdezoo-{named(kind, form)}")
    assert "passed" in report
    assert "skipped" not in report


def test_it_is_listed_beside_what_was_there(environment: Environment) -> None:
    listed = json.loads(environment("sdezoo", "list", "--json"))
    for kind, form in TEMPLATES:
        plugin = listed[KINDS[kind]][named(kind, form)]
        assert plugin["broken"] is None
        assert plugin["summary"]
    assert "gbm" in listed["sdes"]


@each_quick_template
def test_it_is_shown_with_its_equation(environment: Environment, kind: str, form: str | None) -> None:
    (shown,) = json.loads(environment("sdezoo", "show", named(kind, form), "--json"))
    assert shown["provider"] == f"sdezoo-{named(kind, form)}"
    assert "`" in shown["equation"]
    assert all(parameter["meaning"] for parameter in shown["parameters"])


@pytest.mark.parametrize("form", ["interpolant", *(pytest.param(form, marks=pytest.mark.slow) for form in (None, "sde", "conditional"))])
def test_a_process_of_each_form_trains(environment: Environment, form: str | None) -> None:
    name = named("sde", form)
    small = ["--data", "spirals", "--net", "mlp:width=8,depth=1", "--steps", 2, "--out", f"run-{form}"]
    shift = ["--shift", "auto"] if form == "conditional" else []  # it lives on the non-negative numbers
    assert "Trained 2 steps" in environment("sdezoo", "train", "--sde", name, *small, *shift)


def test_the_form_of_a_process_decides_its_contract(tmp_path: Path) -> None:
    for form, contract in {"affine": AffineSDE, "sde": ForwardSDE, "interpolant": Interpolant, "conditional": Conditional}.items():
        new("sde", f"my-{form}", tmp_path, form)
        [made] = load_file(tmp_path / f"sdezoo-my-{form}" / f"sdezoo_my_{form}.py")
        try:
            cls = SDES.load(made)
            assert issubclass(cls, contract)
            assert issubclass(cls, AffineSDE) == (form == "affine")
            assert issubclass(cls, Supervised) == (form != "sde")
            assert issubclass(cls, Conditional) == (form in ("affine", "conditional"))
        finally:
            SDES.remove(made)


@pytest.mark.parametrize(
    ("kind", "form", "problem", "remedy"),
    [("sde", "afine", "of kind 'afine'", "'affine'"), ("loss", "affine", "--kind applies to an sde only", "Omit --kind")],
)
def test_a_form_that_does_not_exist_is_refused(tmp_path: Path, kind: str, form: str, problem: str, remedy: str) -> None:
    with pytest.raises(ParameterError) as refusal:
        new(kind, "mine", tmp_path, form)
    assert problem in refusal.value.problem
    assert remedy in refusal.value.remedy
    assert not [*tmp_path.iterdir()]


@each_template
def test_it_is_clean(tmp_path: Path, kind: str, form: str | None) -> None:
    name = "a-rather-long-name-2-for-a-plugin"
    new(kind, name, tmp_path, form)
    ruff = Path(sys.executable).parent / "ruff"
    for command in (["check"], ["format", "--check"]):
        run(ruff, *command, "--isolated", "--no-cache", cwd=tmp_path / f"sdezoo-{name}")


def test_it_says_what_it_wrote_and_what_to_type_next(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "sdezoo-my-process"
    new("sde", "my-process", tmp_path)
    files, _, commands = capsys.readouterr().out.partition("Next steps:\n")
    written = sorted(path for path in folder.rglob("*") if path.is_file())
    assert sorted(Path(line.strip()) for line in files.splitlines()[1:]) == written
    assert [line.strip() for line in commands.splitlines()] == [
        f"cd {folder} && pip install -e '.[test]'",
        "pytest",
        "sdezoo check my-process",
    ]
    assert "class MyProcess(AffineSDE)" in (folder / "sdezoo_my_process.py").read_text(encoding="utf-8")
    assert not any("$" in path.read_text(encoding="utf-8") for path in written)


@pytest.mark.parametrize(
    ("kind", "name", "problem", "remedy"),
    [
        ("sdes", "mine", "no template for a plugin of kind 'sdes'", "Did you mean 'sde'?"),
        ("network", "mine", "no template for a plugin of kind 'network'", "guide, loss, optimizer, sampler, sde"),
        ("sde", "MyProcess", "'MyProcess' is not a name in kebab case", "my-process"),
        ("sde", "my_process", "'my_process' is not a name", "hyphens"),
        ("sde", "my--process", "'my--process' is not a name", "hyphens"),
        ("sde", "2nd", "'2nd' is not a name", "hyphens"),
        ("sde", "../mine", "'../mine' is not a name", "hyphens"),
        ("sde", "", "'' is not a name", "hyphens"),
        ("sde", "class", "'class' or its class name Class is already taken", "another name"),
        ("sde", "none", "'none' or its class name None is already taken", "another name"),
        ("sde", "tensor", "'tensor' or its class name Tensor is already taken", "another name"),
        ("sde", "gbm", "An SDE 'gbm' exists already, in sdezoo", "another name"),
        ("loss", "dsm", "A loss 'dsm' exists already, in sdezoo", "another name"),
        ("sampler", "heun", "A sampler 'heun' exists already, in sdezoo", "another name"),
        ("loss", "plugins", "'sdezoo_plugins' is installed already", "another name"),
    ],
)
def test_a_name_that_will_not_do_is_refused(tmp_path: Path, kind: str, name: str, problem: str, remedy: str) -> None:
    with pytest.raises(PluginError) as refusal:
        new(kind, name, tmp_path)
    assert problem in refusal.value.problem
    assert remedy in refusal.value.remedy
    assert not [*tmp_path.iterdir()]


def test_another_kind_may_have_the_name(tmp_path: Path) -> None:
    assert "gbm" in SDES.names()
    new("sampler", "gbm", tmp_path)
    assert (tmp_path / "sdezoo-gbm").is_dir()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "sdezoo-mine").mkdir()
    (tmp_path / "sdezoo-lost").symlink_to(tmp_path / "nowhere")
    for name in ("mine", "lost"):
        with pytest.raises(RunError, match=rf"sdezoo-{name}' exists.*--into"):
            new("sde", name, tmp_path)
    assert not [*(tmp_path / "sdezoo-mine").iterdir()]


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("a note")
    for name in ("nowhere", "notes.txt"):
        with pytest.raises(RunError, match=rf"folder '.*{name}' does not exist.*--into"):
            new("sde", "mine", tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("method", ["mkdir", "write_text", "rename"])
def test_nothing_is_left_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    works, calls = getattr(Path, method), []

    def fails(self: Path, *arguments: object, **options: object) -> object:
        calls.append(self)
        if len(calls) > (method == "write_text"):
            raise OSError(28, "No space left on device")
        return works(self, *arguments, **options)

    monkeypatch.setattr(Path, method, fails)
    with pytest.raises(SdezooError, match=r"sdezoo-mine' cannot be written: No space left on device\. Choose another --into\."):
        new("sde", "mine", tmp_path)
    assert not [*tmp_path.iterdir()]


def test_help_does_not_load_torch() -> None:
    code = "import sys\nimport sdezoo_cli.plugins.new\nfrom sdezoo_cli.app import main\nsys.argv = ['sdezoo', 'new', '--help']\n"
    code += "try: main()\nexcept SystemExit: pass\nprint('LOADED', 'torch' in sys.modules)"
    shown = run(sys.executable, "-c", code)
    assert "my-process" in shown
    assert "LOADED False" in shown
