"""The public face: every name loads, is documented once, and costs nothing before it is asked for; plugins are found as classes."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import pytest

import sdezoo
from sdezoo import (
    AffineSDE,
    Conditional,
    ConfinedBrownian,
    ForwardSDE,
    Interpolant,
    Network,
    Process,
    Sampler,
    ScoreLoss,
    Stationary,
    sde_laws,
)
from sdezoo.errors import PluginError
from sdezoo.zoo.classes import class_names, find_class
from sdezoo.zoo.registry import REGISTRIES, SDES, Registry, load_file

HOUSE = Path(__file__).parents[1]
PAGE = (HOUSE / "docs" / "api" / "public.md").read_text(encoding="utf-8")

each_registry = pytest.mark.parametrize("face", REGISTRIES)


@pytest.mark.parametrize("name", sdezoo.__all__)
def test_a_public_name_loads(name: str) -> None:
    home = sdezoo._HOME_OF.get(name)
    assert getattr(sdezoo, name) is (getattr(import_module(home), name) if home else import_module(f"sdezoo.{name}"))


def test_the_three_lists_of_public_names_agree() -> None:
    """What a type checker sees, what a star import gives, and what is loaded lazily."""
    tree = ast.parse((HOUSE / "sdezoo" / "__init__.py").read_text(encoding="utf-8"))
    (seen,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [(node.module, alias.name) for node in seen.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    faces = {("sdezoo", name) for name in sdezoo._PLUGINS}
    assert sorted(imports) == sorted(faces | {(home, name) for name, home in sdezoo._HOME_OF.items()})
    assert sorted(sdezoo.__all__) == sorted(name for _, name in imports)


def test_the_page_documents_every_public_name_once() -> None:
    lines = re.findall(r"^\| `(\w+)` \| (\S.*) \|$", PAGE, re.MULTILINE)
    assert sorted(name for name, _ in lines) == sorted(sdezoo.__all__)
    assert len({meaning for _, meaning in lines}) == len(lines)


def test_an_unknown_name_is_refused_with_a_near_one() -> None:
    with pytest.raises(AttributeError, match="'Nothing'"):
        _ = sdezoo.Nothing  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(AttributeError, match="'Netwrok'; did you mean 'Network'"):
        _ = sdezoo.Netwrok  # pyright: ignore[reportAttributeAccessIssue]
    assert not hasattr(sdezoo, "__nothing__")
    assert set(sdezoo.__all__) <= set(dir(sdezoo))


def test_the_face_is_lazy() -> None:
    code = "import sdezoo, sys\nfrom sdezoo import sdes\n"
    code += "[dir(getattr(sdezoo, name)) for name in sdezoo._PLUGINS]\n[dir(sdezoo), hasattr(sdes, '__wrapped__')]\n"
    code += "print([m for m in ('torch', 'numpy', 'pydantic', 'sdezoo_plugins') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


@each_registry
def test_plugins_are_classes_of_their_face(face: str) -> None:
    module, registry = import_module(f"sdezoo.{face}"), REGISTRIES[face]
    entries = {entry.attribute: entry for name in registry.names() for entry in registry.entries(name)}
    assert dir(module) == sorted(entries)
    for name, entry in entries.items():
        assert getattr(module, name) is registry.load(entry.name)


def test_a_class_imports_just_its_plugin() -> None:
    code = "from sdezoo.samplers import DPMpp2M\nimport sys\n"
    code += "print(DPMpp2M(spacing='karras').spec, *[m for m in sys.modules if m.startswith('sdezoo_plugins.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    package = "sdezoo_plugins.samplers"
    assert done.stdout.split() == ["dpmpp-2m:spacing=karras", package, f"{package}.affine", f"{package}.affine.dpmpp_2m"]


@pytest.mark.parametrize("asked", ["gbm", "Gbm", "GBMM"])
def test_a_near_miss_is_told_the_class(asked: str) -> None:
    with pytest.raises(AttributeError, match=rf"'sdezoo.sdes' has no plugin class '{asked}'; did you mean GBM\?"):
        getattr(import_module("sdezoo.sdes"), asked)


def test_a_far_miss_is_told_all_classes() -> None:
    with pytest.raises(AttributeError, match=r"choose one of: DiffusersUNet, MLP, Module, Transformer, UNet, UNet1D"):
        _ = import_module("sdezoo.networks").Qqqqqq


PLUGIN = '''
from dataclasses import dataclass
from sdezoo import AffineSDE, Coefficients

@dataclass(frozen=True)
class {name}(AffineSDE):
    """Brownian motion."""

    def coefficients(self, t):
        return Coefficients(t ** 0, 0 * t, t)
'''


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry that also finds two installed distributions: each has a class `Twin`, one has `Alone` under two names."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for module in ("zoo_first", "zoo_second"):  # other tests have modules of these names
        monkeypatch.delitem(sys.modules, module, raising=False)
    for name, points in {"zoo-first": ("twin-a Twin", "alone Alone", "alias Alone"), "zoo-second": ("twin-b Twin",)}.items():
        module = name.replace("-", "_")
        classes = dict.fromkeys(point.split()[1] for point in points)
        (tmp_path / f"{module}.py").write_text("".join(PLUGIN.format(name=cls) for cls in classes))
        info = tmp_path / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = (f"{plugin} = {module}:{cls}\n" for plugin, cls in map(str.split, points))
        (info / "entry_points.txt").write_text("[sdezoo.sdes]\n" + "".join(lines))
    yield Registry("SDE", "sdezoo.sdes", "sdezoo.process.process:Process")
    for module in ("zoo_first", "zoo_second"):
        sys.modules.pop(module, None)


def test_third_parties_come_through_the_same_door(third_party: Registry) -> None:
    found = find_class(third_party, "sdezoo.sdes", "Alone")
    assert (found.__module__, found.__name__) == ("zoo_first", "Alone")
    assert {"GBM", "Alone", "Twin"} <= set(class_names(third_party))
    assert class_names(third_party).count("Twin") == 1


def test_two_classes_of_one_name_are_told_apart(third_party: Registry) -> None:
    with pytest.raises(PluginError, match=r"'twin-a' of zoo-first \(zoo_first\) and 'twin-b' of zoo-second \(zoo_second\)"):
        find_class(third_party, "sdezoo.sdes", "Twin")


def test_a_class_of_a_loaded_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "my_sde.py"
    file.write_text(PLUGIN.format(name="FromAFile"))
    try:
        load_file(file)
        assert import_module("sdezoo.sdes").FromAFile is SDES.load("from-a-file")
    finally:
        SDES.remove("from-a-file")
    with pytest.raises(AttributeError):
        _ = import_module("sdezoo.sdes").FromAFile


PAGES = [HOUSE / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")] + sorted((HOUSE / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOUSE)))
def test_what_a_page_imports_exists_and_is_imported_from_the_face(page: Path) -> None:
    for block in re.findall(
        r"^```(?:python|\{code-(?:cell|block)\} python)\n(?::.*\n)*(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S
    ):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] in {"sdezoo", "sdezoo_plugins"}:
                for alias in node.names:
                    assert hasattr(import_module(node.module), alias.name), f"{node.module} has no {alias.name}"
                    home = sdezoo._HOME_OF.get(alias.name)
                    assert node.module != home, f"{alias.name} is imported from {home}"


PLUGIN_PAGE = (HOUSE / "docs" / "write-a-plugin.md").read_text(encoding="utf-8")
HOOKS = [
    (cls, name, hook)
    for cls in (Process, Conditional, ForwardSDE, Stationary, ConfinedBrownian, Interpolant, AffineSDE)
    for name, hook in vars(cls).items()
    if not name.startswith("_") and (cls not in (ConfinedBrownian, Interpolant, AffineSDE) or name in cls.__abstractmethods__)
    if inspect.isfunction(hook) or isinstance(hook, property)
]


@pytest.mark.parametrize(("cls", "name", "hook"), HOOKS, ids=[f"{cls.__name__}-{name}" for cls, name, _ in HOOKS])
def test_every_hook_of_a_process_is_documented_with_its_signature(cls: type, name: str, hook: object) -> None:
    parameters = list(inspect.signature(hook).parameters)[1:] if callable(hook) else None
    written = name if parameters is None else f"{name}({', '.join(parameters)})"
    assert f"| `{written}` |" in PLUGIN_PAGE


@pytest.mark.parametrize(
    "hook", [ScoreLoss.__call__, ScoreLoss.weight, ScoreLoss.t_span, Sampler.step, Sampler.evaluations, Network.module]
)
def test_the_hooks_of_other_plugins_are_documented_with_their_signatures(hook: Callable[..., object]) -> None:
    assert f"`{hook.__name__}({', '.join(list(inspect.signature(hook).parameters)[1:])})`" in PLUGIN_PAGE


def test_the_process_of_the_page_is_what_it_states(tmp_path: Path) -> None:
    file = tmp_path / "constant.py"
    file.write_text(re.findall(r"```python\n(.*?)```", PLUGIN_PAGE, re.DOTALL)[0], encoding="utf-8")
    try:
        assert load_file(file) == ["constant-volatility"]
        (law,) = [law for law in sde_laws("constant-volatility") if law.__name__ == "stated-equation"]
        law()
    finally:
        SDES.remove("constant-volatility")


TYPED = """
from sdezoo import Network, train
from sdezoo.sdes import GBM
from sdezoo.samplers import DPMpp2M

def spec(sampler: DPMpp2M) -> str:
    return sampler.spec + GBM(sigma=0.5).spec + DPMpp2M(spacing="karras").spec

class Mine(GBM):
    pass
"""


@pytest.mark.slow
@pytest.mark.parametrize(("more", "content"), [("", True), ("from sdezoo import Nonsense", False)], ids=["use", "an unknown name"])
def test_a_type_checker_accepts_use_and_refuses_unknown_names(tmp_path: Path, more: str, content: bool) -> None:
    pyright = Path(sys.executable).parent / "pyright"
    if not pyright.exists():
        pytest.skip("pyright is not installed")
    (tmp_path / "use.py").write_text(TYPED + more)
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{HOUSE}"]}}')
    done = subprocess.run([pyright, "--pythonpath", sys.executable, "use.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) is content, done.stdout
