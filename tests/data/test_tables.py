"""What a small positive table comes to: always against a held-out half, since against its own training rows everything passes.

The two-sample test is fitted to half of both sets and judged on the other half, five times; the floor is that of training rows.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import train_test_split

from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.runs.train import train
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig

STEPS = 500  # 2000, the default, learns the 284 tumours partly by heart
GBM = {"sde": "gbm", "loss": "mult-dsm", "shift": "auto"}
VP = {"sde": "vp", "loss": "dsm"}


def drawn(settings: dict[str, str], data: str, out: Path) -> tuple[np.ndarray, np.ndarray, Trained]:
    """Held-out rows of a dataset, and as many samples of a model of it."""
    result = train(TrainingConfig.build({**settings, "data": data, "steps": STEPS, "device": "cpu", "out": str(out)}))
    trained, held = restore(result.run), result.data.test.numpy()
    return held, generate(trained, choose_sampler(trained, None), len(held), steps=20).x.numpy(), trained


def told_apart(held: np.ndarray, x: np.ndarray) -> tuple[float, float]:
    """Accuracy of a forest, and its standard error over the splits."""
    rows, kind = np.concatenate([held, x]), np.repeat([0, 1], [len(held), len(x)])
    right = []
    for seed in range(5):
        seen, judged, of_seen, of_judged = train_test_split(rows, kind, test_size=0.5, random_state=seed, stratify=kind)
        right.append(RandomForestClassifier(200, random_state=seed).fit(seen, of_seen).score(judged, of_judged))
    return float(np.mean(right)), float(np.std(right) / len(right) ** 0.5)


def passing(held: np.ndarray, x: np.ndarray) -> float:
    """Share of the columns that pass the Kolmogorov–Smirnov test at level 0.01."""
    return float(np.mean([ks_2samp(a, b).pvalue > 0.01 for a, b in zip(held.T, x.T, strict=True)]))


@pytest.mark.slow
@pytest.mark.parametrize(("data", "bound", "columns"), [("breast-cancer", 0.60, 0.9), ("wine", 0.72, 0.8)])
def test_samples_are_hardly_told_from_rows_that_training_never_saw(data: str, bound: float, columns: float, tmp_path: Path) -> None:
    held, x, _ = drawn(GBM, data, tmp_path / "run")
    accuracy, _ = told_apart(held, x)
    sys.stdout.write(f"\n{data}: C2ST {accuracy:.3f}, columns {passing(held, x):.2f}\n")
    assert accuracy <= bound
    assert passing(held, x) >= columns


@pytest.mark.slow
def test_multiplicative_noise_keeps_to_the_support_and_additive_noise_does_not(tmp_path: Path) -> None:
    held, x, trained = drawn(GBM, "breast-cancer", tmp_path / "gbm")
    _, y, _ = drawn(VP, "breast-cancer", tmp_path / "vp")
    ours, (theirs, error) = told_apart(held, x)[0], told_apart(held, y)
    negative = float((y < 0).any(1).mean())
    sys.stdout.write(f"\nC2ST: gbm {ours:.3f}, vp {theirs:.3f} ± {error:.3f}; rows of vp with negative values {negative:.3f}\n")
    floor = trained.encoding.decode(trained.encoding.codecs[0].scale.new_zeros(x.shape[1]).float()).numpy()
    assert (x > floor).all()
    assert negative > 0
    assert ours <= theirs + 2 * error
