"""Training that is killed in a process of its own, and what two runs learned."""

import os
import signal
from pathlib import Path

import torch
from safetensors.torch import load_file

from attacks.kill import forked
from sdezoo.data.dataset import Data
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.training.config import TrainingConfig


def train_killed(config: TrainingConfig, at: int, data: Data | None = None) -> None:
    """Train in a process that is killed after `at` steps."""

    def kill(step: int, *_: object) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)

    _, status = os.waitpid(forked(lambda: train(config, data=data, progress=kill)), 0)
    assert os.WIFSIGNALED(status)


def assert_same_tensors(one: Path, other: Path, step: int) -> None:
    """Weights, their averages and the state of the optimizer of two runs are the same bits after `step` steps."""
    for part in ("model", "ema", "optimizer"):
        found, wanted = (load_file(checkpoint.folder_of(run, step) / f"{part}.safetensors") for run in (one, other))
        assert wanted, part
        assert found.keys() == wanted.keys(), part
        assert all(torch.equal(found[key], value) for key, value in wanted.items()), part
