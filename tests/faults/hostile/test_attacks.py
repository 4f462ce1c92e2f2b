"""The exploits in `attacks/` fail."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ATTACKS = Path(__file__).parents[3] / "attacks"
SLOW = {"kill": ["--kills", "200"], "state": ["--changes", "2000", "--seed", "1"], "damage": ["--inputs", "2000"]}
FEW = [pytest.param("state", ["--changes", "40"], id="state")]
MANY = [pytest.param(file.stem, SLOW.get(file.stem, []), id=f"{file.stem}-slow", marks=pytest.mark.slow) for file in ATTACKS.glob("*.py")]


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory and kills are measured on Linux")
@pytest.mark.parametrize(("name", "options"), [*FEW, *MANY])
def test_an_attack_fails(tmp_path: Path, name: str, options: list[str]) -> None:
    command = [sys.executable, "-P", str(ATTACKS / f"{name}.py"), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=3600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout, "it says what it tried"
