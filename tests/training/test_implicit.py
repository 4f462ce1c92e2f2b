"""The implicit losses train models that sample: they see no conditional score, and end near what denoising reaches."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.evaluation.measures.transport import sliced_wasserstein
from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig


def data(count: int, seed: int) -> np.ndarray:
    """Three log-normals in the plane."""
    generator = np.random.default_rng(seed)
    centres = np.array([[-1.0, 0.5], [1.0, 0.8], [0.2, -1.0]])[generator.integers(0, 3, count)]
    return np.exp(centres + 0.3 * generator.standard_normal((count, 2))).astype(np.float32)


@pytest.mark.slow
def test_implicit_losses_train_models_that_sample(tmp_path: Path) -> None:
    """In log coordinates, within twice the sliced W1 of `mult-dsm` at the same budget."""
    np.savez(tmp_path / "data.npz", x=data(4000, 0))
    held = np.log(data(4000, 1))
    found = {}
    for loss in ("mult-dsm", "nonneg-sm", "sliced-sm"):
        settings = {"loss": loss, "data": str(tmp_path / "data.npz"), "steps": 1500, "device": "cpu", "net": "mlp:width=64,depth=2"}
        result = train(TrainingConfig.build({**settings, "out": str(tmp_path / loss)}))
        trained = restore(result.run)
        x = generate(trained, choose_sampler(trained, None), 4000, batch_size=1000).x
        found[loss] = sliced_wasserstein(held, torch.log(x).numpy())[0]
    found["real rows"] = sliced_wasserstein(held, np.log(data(4000, 2)))[0]
    sys.stdout.write(f"\n{ {name: round(value, 4) for name, value in found.items()} }\n")
    for loss in ("nonneg-sm", "sliced-sm"):
        assert found[loss] <= 2 * found["mult-dsm"], loss
