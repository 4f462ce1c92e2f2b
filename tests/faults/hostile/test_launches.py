"""The launches that are documented import nothing from the working folder, which may be somebody else's."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
MODULES = ("typer", "torch", "json", "numpy", "yaml", "sdezoo", "sdezoo_cli", "sitecustomize", "usercustomize", "evil")
LAUNCHES = {
    "sdezoo": ["sdezoo"],
    "torchrun": ["torchrun", "--nproc-per-node=1", "--master-port=0", "--no-python", "sdezoo"],
    "accelerate": [
        "accelerate",
        "launch",
        "--cpu",
        "--num_processes=1",
        "--num_machines=1",
        "--mixed_precision=no",
        "--no_python",
        "sdezoo",
    ],
    "python -P": [sys.executable, "-P", "-m", "sdezoo_cli"],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with modules, a distribution and an entry point of somebody's. Each leaves a mark when it is imported."""
    folder = tmp_path / "foreign"
    folder.mkdir()
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'a').write({name!r})\n")
    record = folder / "evil-1.0.dist-info"
    record.mkdir()
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (record / "entry_points.txt").write_text("[sdezoo.sdes]\nevil-process = evil:Evil\n")
    return folder


def called(folder: Path, command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONSAFEPATH"}
    environment |= {"PATH": path, "OMP_NUM_THREADS": "1", **variables}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_a_launch_imports_nothing_of_the_folder(folder: Path, launch: str) -> None:
    command = LAUNCHES[launch]
    if not shutil.which(command[0], path=f"{BIN}{os.pathsep}{os.environ['PATH']}"):
        pytest.skip(f"{command[0]} is not installed")
    done = called(folder, [*command, "list", "sdes"])
    assert done.returncode == 0, done.stderr
    assert "gbm" in done.stdout
    assert "evil" not in done.stdout
    assert not (folder.parent / "mark").exists()


def test_a_safe_path_is_as_good(folder: Path) -> None:
    done = called(folder, [sys.executable, "-m", "sdezoo_cli", "list", "sdes"], PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stderr
    assert "evil" not in done.stdout
    assert not (folder.parent / "mark").exists()


def test_python_alone_imports_from_the_folder(folder: Path) -> None:
    """What the others are for: a trap that works."""
    called(folder, [sys.executable, "-m", "sdezoo_cli", "list", "sdes"])
    assert (folder.parent / "mark").read_text()


def test_benchmarks_start_nothing_of_the_folder(folder: Path) -> None:
    code = "from sdezoo_cli.plugins.bench import _seconds; _seconds(['-m', 'sdezoo_cli', '--help'])"
    done = called(folder, [sys.executable, "-P", "-c", code])
    assert done.returncode == 0, done.stderr
    assert not (folder.parent / "mark").exists()
