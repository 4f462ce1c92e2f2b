"""Clean environments: sdezoo as users get it, from its wheel, beside the dependencies of the running environment; no network."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HOUSE = Path(__file__).parents[2]


class Environment:
    """A virtual environment that holds sdezoo's wheel, and of the running environment everything but sdezoo."""

    def __init__(self, folder: Path) -> None:
        self._wheels, self.home = folder / "wheels", folder / "work"
        self.home.mkdir(parents=True)
        venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
        scheme = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
        self._bin = Path(sysconfig.get_path("scripts", "venv", scheme))
        self.packages = Path(sysconfig.get_path("purelib", "venv", scheme))
        (self.packages / "inherited.pth").write_text(str(_without_sdezoo(folder / "inherited" / "site-packages")))
        self.install(HOUSE)

    def install(self, *sources: Path) -> None:
        """Build the wheels of distributions and install them."""
        built = [self._build(source) for source in sources]
        pip = [sys.executable, "-m", "pip", "--python", self._bin / "python", "--disable-pip-version-check", "install"]
        run(*pip, "--no-deps", "--no-index", *built)

    def __call__(self, command: str, *arguments: object) -> str:
        """What a command of this environment writes, in the folder `home`."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL_ENV"))}
        ours = {"PATH": f"{self._bin}{os.pathsep}{os.environ['PATH']}", "PYTHONIOENCODING": "utf-8", "OMP_NUM_THREADS": "1"}
        return run(self._bin / command, *arguments, cwd=self.home, env=kept | ours)

    def _build(self, source: Path) -> Path:
        into = self._wheels / source.name
        run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", into, cwd=source)
        [wheel] = into.glob("*.whl")
        return wheel


def run(*command: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """What a command writes; it has to succeed."""
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _without_sdezoo(folder: Path) -> Path:
    # An editable sdezoo has a .pth file there, and metadata of its own, which would claim every name a second time.
    # The last part of the name matters: Hypothesis reads the source of whatever it takes for a user's own code.
    folder.mkdir(parents=True)
    for packages in {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}:
        for entry in packages.iterdir():
            if "sdezoo" not in entry.name and entry.suffix != ".pth":
                (folder / entry.name).symlink_to(entry)
    return folder
