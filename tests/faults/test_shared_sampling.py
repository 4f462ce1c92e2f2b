"""A sampling job shared by four processes, one of which is killed: the same command ends with the bytes of one process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

PROCESSES = 4


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds workers in /proc")
def test_one_of_four_processes_is_killed(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    settings = {"net": "mlp:width=16,depth=1", "data": "wine", "batch_size": 8, "steps": 1, "device": "cpu"}
    run = train(TrainingConfig.build({**settings, "out": str(tmp_path / "run")}), notify=lambda _: None).run
    sample(run, tmp_path / "whole.npy", n=2000, batch_size=4, steps=20)
    out = tmp_path / "shared.npy"
    options = ["sample", str(run), "-n", "2000", "--batch-size", "4", "--steps", "20", "--out", str(out), "--quiet"]
    launch = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={PROCESSES}", "--standalone", "-m", "sdezoo_cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launcher = subprocess.Popen([*launch, *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    request.addfinalizer(launcher.kill)
    until, parts = time.monotonic() + 60, out.with_name(f"{out.name}.parts")
    while len(list(parts.glob("*.shard"))) < 3:
        assert launcher.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    third = int(Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()[2])
    os.kill(third, signal.SIGKILL)
    assert launcher.wait(timeout=120) != 0
    kept = len(list(parts.glob("*.shard")))
    assert not out.exists()
    assert kept >= 3
    subprocess.run([*launch, *options], env=environment, check=True, capture_output=True, timeout=120)
    assert out.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert not parts.exists()
