"""From names to plugins: nothing is imported too early, and a bad plugin harms nobody else."""

import py_compile
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from sdezoo.errors import ParameterError, PluginError
from sdezoo.zoo import source
from sdezoo.zoo.composition import broken, defaults
from sdezoo.zoo.registry import DATASETS, LOSSES, NETWORKS, REGISTRIES, SAMPLERS, SDES, Registry, kebab, load, load_file
from sdezoo.zoo.source import read_papers, read_summary

GOOD = '''
from dataclasses import dataclass
import torch
from sdezoo import AffineSDE, Coefficients

@dataclass(frozen=True)
class Good(AffineSDE):
    """Brownian motion. More."""

    rate: float
    def coefficients(self, t):
        return Coefficients(torch.ones_like(t), 0 * t, self.rate * t)

@dataclass
class Thawed(AffineSDE):
    def coefficients(self, t):
        return Coefficients(torch.ones_like(t), 0 * t, t)

@dataclass(frozen=True)
class Unfinished(AffineSDE):
    """No coefficients."""

class Undecorated(Good):
    pass

class Stranger:
    pass

number = 7
'''


@pytest.fixture
def distribution(tmp_path, monkeypatch):
    """A function that installs a distribution: its name, its module's text and its entry points."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, text, **points):
        module = name.replace("-", "_")
        (tmp_path / f"{module}.py").write_text(text)
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "\n".join(f"{key} = {module}:{cls}" for key, cls in points.items())
        (info / "entry_points.txt").write_text(f"[sdezoo.sdes]\n{lines}\n")
        monkeypatch.delitem(sys.modules, module, raising=False)

    return install


def sdes() -> Registry:
    return Registry("SDE", "sdezoo.sdes", "sdezoo.process.process:Process")


@pytest.mark.parametrize(
    "code",
    [
        "import sdezoo",
        "from sdezoo import SDES, LOSSES, SAMPLERS, NETWORKS, DATASETS\n[r.names() for r in (SDES, LOSSES, SAMPLERS, NETWORKS, DATASETS)]",
        "from sdezoo.zoo.registry import REGISTRIES\n[r.summary(n) for r in REGISTRIES.values() for n in r.names()]",
        "from sdezoo.zoo.spec import parse\nparse('gbm:sigma=1')",
    ],
)
def test_names_and_summaries_import_nothing(code):
    heavy = ("torch", "numpy", "sdezoo_plugins", "pydantic", "torchsde")
    check = f"\nimport sys\nprint([m for m in sys.modules if m.partition('.')[0] in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code + check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_building_imports_just_that_plugin():
    code = "from sdezoo import SDES\nSDES.build('gbm:sigma=0.8')\n"
    code += "import sys\nprint(*[m for m in sys.modules if m.startswith('sdezoo_plugins.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["sdezoo_plugins.sdes", "sdezoo_plugins.sdes.affine", "sdezoo_plugins.sdes.affine.gbm"]


def test_the_built_in_plugins_are_here_and_whole():
    assert {"gbm", "subvp", "ve", "vp"} <= set(SDES.names())
    assert {"dsm", "mult-dsm", "nonneg-sm", "sliced-sm"} <= set(LOSSES.names())
    assert {"euler-maruyama", "dale-langevin", "multiplicative", "ancestral", "ddim", "heun", "dpmpp-2m", "pc", "torchsde"} <= set(
        SAMPLERS.names()
    )
    assert {"mlp", "unet"} <= set(NETWORKS.names())
    assert {"digits", "wine", "spirals"} <= set(DATASETS.names())
    for registry in REGISTRIES.values():
        assert broken(registry) == {}
        assert registry.names() == sorted(registry.names())
        for name in registry.names():
            text, reason = registry.summary(name)
            assert reason is None
            assert text
            assert registry.load(name).name == name


def test_third_parties_come_through_the_same_door(distribution):
    distribution("zoo-one", GOOD, good="Good")
    registry = sdes()
    assert "good" in registry.names()
    assert registry.summary("good") == ("Brownian motion. More.", None)
    assert "zoo_one" not in sys.modules
    assert registry.build("good:rate=2").spec == "good:rate=2.0"
    with pytest.raises(ParameterError, match=r"good needs the parameter 'rate'. Write good:rate="):
        registry.build("good")
    assert "good" not in [name for name, _ in defaults(registry)]


def test_a_broken_plugin_breaks_only_itself(distribution):
    distribution("zoo-fine", GOOD, good="Good")
    distribution("zoo-bad", "raise RuntimeError('no luck')\nclass Bad: pass\n", bad="Bad")
    distribution("zoo-lost", "import a_library_that_is_not_there\nclass Lost: pass\n", lost="Lost")
    distribution("zoo-typo", "def f(:\n", typo="Typo")
    distribution("zoo-empty", "", empty="Nothing")
    registry = sdes()
    assert registry.build("good:rate=1").rate == 1
    assert registry.build("gbm").name == "gbm"
    reasons = broken(registry)
    assert set(reasons) == {"bad", "lost", "typo", "empty"}
    assert reasons["bad"] == "The SDE 'bad' of zoo-bad is broken: RuntimeError: no luck."
    assert "a_library_that_is_not_there" in reasons["lost"]
    with pytest.raises(PluginError, match="Fix or uninstall zoo-bad; other plugins are not affected"):
        registry.load("bad")
    assert "a_library_that_is_not_there" in (registry.summary("lost")[1] or "")
    assert "SyntaxError" in (registry.summary("typo")[1] or "")
    assert "defines no Nothing" in (registry.summary("empty")[1] or "")
    assert "gbm" in [name for name, _ in defaults(registry)]


def test_what_is_read_of_a_compiled_file_is_what_stands_there(monkeypatch):
    entries = [entry for registry in REGISTRIES.values() for name in registry.names() for entry in registry.entries(name)]

    def found():
        return [(read_summary(e.module, e.attribute), read_papers(e.module, e.attribute)) for e in entries]

    whole = found()
    monkeypatch.setattr(source, "_compiled", lambda file, cached: True)
    assert found() == whole


def test_a_file_that_changed_since_it_was_compiled_is_read_anew(tmp_path):
    file, cached = tmp_path / "plugin.py", tmp_path / "plugin.pyc"
    file.write_text("x = 1\n")
    assert not source._compiled(file, str(cached))
    py_compile.compile(str(file), str(cached))
    assert source._compiled(file, str(cached))
    file.write_text("x = (1\n")
    assert not source._compiled(file, str(cached))


def test_a_class_that_its_package_imports_from_a_module_is_read_there(distribution, tmp_path):
    distribution("inner", GOOD)
    distribution("outer", "from inner import Good as Better\nmade = type('Made', (), {})", better="Better", made="made")
    registry = Registry("SDE", "sdezoo.sdes", "sdezoo.process.process:Process")
    assert registry.summary("better") == ("Brownian motion. More.", None)
    assert registry.summary("made") == ("", None)


def test_two_claims_are_refused_when_the_name_is_asked_for(distribution):
    distribution("zoo-first", GOOD, shared="Good", other="Good")
    distribution("zoo-second", GOOD, shared="Good", gbm="Good")
    registry = sdes()
    for name, rivals in (("shared", ("zoo-first", "zoo-second")), ("gbm", ("sdezoo", "zoo-second"))):
        with pytest.raises(PluginError, match=f"The SDE '{name}' is claimed by") as error:
            registry.load(name)
        assert all(rival in str(error.value) for rival in rivals)
        assert registry.summary(name)[1].startswith("claimed by")
    assert registry.build("other:rate=1").rate == 1
    assert registry.names().count("shared") == 1


@pytest.mark.parametrize(
    ("attribute", "reason"),
    [
        ("Thawed", "it is not a frozen dataclass"),
        ("Undecorated", "it is not a frozen dataclass"),
        ("Unfinished", "it does not define coefficients"),
        ("Stranger", "it is not a Process"),
        ("number", "it is not a Process"),
        ("Missing", "AttributeError"),
    ],
)
def test_what_does_not_keep_the_contract_is_refused(distribution, attribute, reason):
    distribution("zoo-odd", GOOD, odd=attribute)
    with pytest.raises(PluginError, match=f"The SDE 'odd' of zoo-odd is broken: .*{reason}"):
        sdes().load("odd")


@pytest.fixture
def registries():
    """What files registered is forgotten afterwards."""
    kept = {name: list(r._from_files) for name, r in REGISTRIES.items()}
    yield REGISTRIES
    for name, registry in REGISTRIES.items():
        registry._from_files[:] = kept[name]


MINE = dedent(GOOD[: GOOD.index("@dataclass\n")])


@pytest.mark.parametrize("header", ["", "from __future__ import annotations\n"], ids=["plain", "postponed-annotations"])
def test_a_file_registers_its_classes(registries, tmp_path, header):
    path = tmp_path / "mine.py"
    path.write_text(header + MINE.replace("Good", "MyProcess").replace("rate: float", "rate: float = 1.0"))
    assert load_file(path) == ["my-process"]
    assert SDES.build("my-process:rate=2").spec == "my-process:rate=2.0"
    assert SDES.summary("my-process") == ("Brownian motion. More.", None)


def test_a_file_registers_concrete_classes_alone(registries, tmp_path):
    path = tmp_path / "family.py"
    path.write_text(MINE + "@dataclass(frozen=True)\nclass Family(AffineSDE):\n    '''Abstract.'''\n")
    assert load_file(path) == ["good"]


def test_a_private_class_is_no_plugin(registries, tmp_path):
    path = tmp_path / "helpers.py"
    path.write_text(MINE + MINE.replace("Good", "_Helper"))
    assert load_file(path) == ["good"]


def test_a_file_may_be_loaded_again(registries, tmp_path):
    path = tmp_path / "again.py"
    path.write_text(MINE)
    load_file(path)
    path.write_text(MINE.replace("rate: float", "rate: float = 3.0"))
    load_file(path)
    assert SDES.build("good").rate == 3


@pytest.mark.parametrize(
    ("text", "says"), [("1 / 0", "ZeroDivisionError"), ("x = 1", "defines no plugin"), (None, "There is no Python file")]
)
def test_a_file_that_is_of_no_use_is_refused(registries, tmp_path, text, says):
    path = tmp_path / "odd.py"
    if text is not None:
        path.write_text(text)
    with pytest.raises(PluginError, match=says):
        load_file(path)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("MyProcess", "my-process"), ("CIR", "cir"), ("SubVP", "sub-vp"), ("Rank2Model", "rank2-model"), ("VPSde", "vp-sde")],
)
def test_kebab(name, wanted):
    assert kebab(name) == wanted


def test_a_module_is_imported_by_name(tmp_path, monkeypatch):
    (tmp_path / "nets_of_mine.py").write_text("class Net: ...\n")
    (tmp_path / "broken_nets.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    load(Path("nets_of_mine"))
    assert sys.modules.pop("nets_of_mine").Net
    with pytest.raises(PluginError, match="'broken_nets' cannot be imported: ZeroDivisionError"):
        load(Path("broken_nets"))
    with pytest.raises(PluginError, match=r"'no.such.module' cannot be imported: ModuleNotFoundError.*Install it"):
        load(Path("no.such.module"))
    with pytest.raises(PluginError, match="no Python file"):
        load(Path("none.py"))


@pytest.mark.parametrize("kind", REGISTRIES)
@pytest.mark.parametrize(
    "name", ["evil", "evil.py", "./evil.py", "{here}/evil.py", "evil:path=evil.py", "evil.Evil", "evil:Evil", "../evil"]
)
def test_a_name_is_looked_up_and_never_imported(kind, name, tmp_path, monkeypatch):
    """Names come from configs and checkpoints, which anybody may have written."""
    (tmp_path / "evil.py").write_text("from pathlib import Path\n\nPath('ran').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises((ParameterError, PluginError)):
        REGISTRIES[kind].build(name.format(here=tmp_path))
    assert "evil" not in sys.modules
    assert not (tmp_path / "ran").exists()
    with pytest.raises(PluginError, match="defines no plugin"):
        load(tmp_path / "evil.py")
    assert (tmp_path / "ran").exists(), "a file that --plugin names is run"
