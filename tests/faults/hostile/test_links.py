"""Links in a folder that somebody else packed lead nowhere: what they point to is neither written nor deleted."""

import ast
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sdezoo.errors import RunError
from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.files import atomic_folder, atomic_write, remove, sweep
from sdezoo.store.shards import Shards
from sdezoo.training.config import TrainingConfig

SETTINGS = {"net": "mlp:width=16,depth=1", "data": "wine", "batch_size": 8, "checkpoint_every": 1, "keep": 1, "device": "cpu"}
HOUSE = Path(__file__).parents[3]


def config(run: Path, steps: int) -> TrainingConfig:
    return TrainingConfig.build({**SETTINGS, "steps": steps, "out": str(run)})


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("trained") / "run"
    train(config(run, 2), preview=True)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """What the links lead to: files and folders with names of a run's."""
    folder = tmp_path / "outside"
    for name in ("step-1", "step-2", "step-3", ".step-3.partial", ".step-1.removed", "deep"):
        (folder / name).mkdir(parents=True)
        (folder / name / "model.safetensors").write_text("precious")
    for name in ("file", ".file.1.partial", "evaluation.json"):
        (folder / name).write_text("precious")
    return folder


NAMES = [
    "checkpoints",
    "samples",
    "tensorboard",
    "evaluation",
    "env.json",
    "metrics.jsonl",
    ".lock",
    ".checkpoints.removed",
    ".env.json.1.partial",
    "checkpoints/step-2",
    "checkpoints/step-9",
    "checkpoints/.step-3.partial",
    "checkpoints/.step-1.removed",
    "checkpoints/step-2/model.safetensors",
    "samples/step-3.csv",
    "samples/deep/er",
]


def plant(run: Path, name: str, outside: Path) -> None:
    """A link in place of a part of the run."""
    place = run / name
    shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(outside / "file" if place.suffix in (".json", ".jsonl", ".lock", ".safetensors", ".csv") else outside)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("act", [{"resume": True}, {"overwrite": True}], ids=["resume", "overwrite"])
def test_training_refuses_links_below_the_run_folder(run: Path, outside: Path, name: str, act: dict[str, bool]) -> None:
    plant(run, name, outside)
    before = content(run), content(outside)
    with pytest.raises(RunError, match=rf"{name}' is a link\. Replace it by what it points to"):
        train(config(run, 3), **act)
    assert (content(run), content(outside)) == before


def test_evaluation_refuses_them_too(run: Path, outside: Path) -> None:
    plant(run, "evaluation", outside)
    before = content(outside)
    with pytest.raises(RunError, match="evaluation' is a link"):
        evaluate(run, out=run / "evaluation", overwrite=True, n=8)
    assert content(outside) == before


def test_the_run_folder_itself_may_be_a_link(run: Path, tmp_path: Path) -> None:
    (tmp_path / "name").symlink_to(run)
    train(config(tmp_path / "name", 3), resume=True)
    assert checkpoint.newest(run) == run / "checkpoints" / "step-3"


def test_a_lock_with_another_name_is_not_emptied(run: Path, outside: Path) -> None:
    (run / ".lock").unlink(missing_ok=True)
    os.link(outside / "file", run / ".lock")
    with pytest.raises(RunError, match="is a hard link"):
        train(config(run, 3), resume=True)
    assert (outside / "file").read_text() == "precious"


def test_only_remains_of_our_own_are_swept(run: Path, outside: Path) -> None:
    kept = [".mine.removed", ".notes.partial", "step-3.partial", ".a.partial.d"]
    swept = [".step-3.partial", ".step-12.removed", ".samples.removed"]
    for name in kept + swept:
        (run / name).mkdir()
        (run / name / "link").symlink_to(outside)
    (run / ".env.json.99999999.partial").write_text("{")
    (run / ".checkpoints.removed").symlink_to(outside)
    before = content(outside)
    sweep(run)
    assert content(outside) == before
    assert {path.name for path in run.iterdir()} >= set(kept)
    assert not {path.name for path in run.iterdir()} & {*swept, ".env.json.99999999.partial", ".checkpoints.removed"}


def test_pruning_removes_real_folders_alone(run: Path, outside: Path) -> None:
    (run / "checkpoints" / "step-1").symlink_to(outside / "step-1")
    (run / "checkpoints" / "step-7").write_text("a file")
    before = content(outside)
    checkpoint.prune(run, 2, 1)
    assert content(outside) == before
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-1", "step-2", "step-7"]


def _file(path: Path) -> None:
    with atomic_write(path, "") as file:
        file.write(b"new")


def _folder(path: Path) -> None:
    with atomic_folder(path, "") as beside:
        (beside / "file").write_text("new")


@pytest.mark.parametrize("write", [_file, _folder, remove])
@pytest.mark.parametrize("link", ["{0}", ".{0}.partial", ".{0}.removed", ".{0}.{1}.partial"])
@pytest.mark.parametrize("to", ["", "file", "missing"])
def test_what_is_written_takes_the_place_of_a_link(
    tmp_path: Path, outside: Path, write: Callable[[Path], None], link: str, to: str
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / link.format("step-1", os.getpid())).symlink_to(outside / to)
    before = content(outside)
    write(place / "step-1")
    assert content(outside) == before
    assert not (place / "step-1").is_symlink()


def test_shards_are_not_put_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "a.npy.parts").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        Shards.reserve(tmp_path / "a.npy", {}, total=4, event=(2,), size=2, overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_one_module_writes_files() -> None:
    """Others go through it, or write into a temporary folder of their own."""
    temporary = {
        "sdezoo/generation/single_files.py",
        "sdezoo/store/files.py",
        "sdezoo/store/checkpoint.py",
        "sdezoo/bridging/couplings.py",
        "sdezoo/exchange/graphs.py",
        "cli/sdezoo_cli/plugins/new.py",
        "cli/sdezoo_cli/plugins/bench.py",
    }
    found = set()
    for root in ("sdezoo", "plugins", "cli"):
        for file in (HOUSE / root).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in ("write_text", "write_bytes", "touch", "copyfile", "copytree"):
                    found.add(str(file.relative_to(HOUSE)))
    assert found <= temporary
