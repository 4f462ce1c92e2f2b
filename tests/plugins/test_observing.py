"""Guides to what was observed: samples keep the known entries, or meet the linear measurement, each its own; what cannot be is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdezoo.errors import SdezooError
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

KNOWN = np.array([[0.5, np.nan], [np.nan, 3.0], [2.0, np.nan]], np.float32)
MATRIX = np.array([[1.0, 1.0]], np.float32)
TOTALS = np.array([[1.5], [4.0]], np.float32)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("points")
    x = np.exp(0.5 * np.random.default_rng(0).standard_normal((400, 2)).astype(np.float32))
    np.savez(folder / "points.npz", x=x)
    np.savez(folder / "known.npz", x=KNOWN)
    np.savez(folder / "masked.npz", x=np.nan_to_num(KNOWN, nan=1.0), mask=~np.isnan(KNOWN))
    np.savez(folder / "seen.npz", y=TOTALS, A=MATRIX)
    np.savez(folder / "other.npz", x=KNOWN, known=~np.isnan(KNOWN))
    np.savez(folder / "wide.npz", x=np.ones((2, 3)))
    np.savez(folder / "half.npz", y=TOTALS)
    np.savez(folder / "tall.npz", y=np.ones((1, 2)), A=np.ones((1, 3)))
    np.savez(folder / "negative.npz", x=-KNOWN)
    np.savez(folder / "torn.npz", x=KNOWN, mask=np.ones((5, 5)))
    np.savez(folder / "words.npz", x=np.array(["a", "b"]))
    values = {"net": "mlp:width=16,depth=1", "steps": 100, "lr": 5e-3, "data": str(folder / "points.npz"), "out": str(folder / "run")}
    return train(TrainingConfig.build(values)).run


def drawn(run: Path, guide: str, file: str, **options: Any) -> np.ndarray:
    out = run.parent / "drawn.npz"
    sample(run, out, guides=[guide], observed=run.parent / file, overwrite=True, steps=20, **options)
    return np.load(out)["x"]


def test_known_entries_are_kept_and_the_others_are_drawn(run: Path) -> None:
    x = drawn(run, "inpaint", "known.npz", n=9)
    wanted = KNOWN[np.arange(9) % 3]
    assert (np.abs(x / wanted - 1)[~np.isnan(wanted)] < 0.02).all()
    assert x[np.isnan(wanted)].std() > 0.1
    assert np.array_equal(x, drawn(run, "inpaint", "masked.npz", n=9))


def test_a_linear_measurement_is_met(run: Path) -> None:
    x = drawn(run, "inverse:noise=0.02", "seen.npz", n=20)
    assert np.abs(x @ MATRIX.T - TOTALS[np.arange(20) % 2]).max() < 0.2
    assert x[::2, 0].std() > 0.05
    assert (x > 0).all()


@pytest.mark.parametrize("guide", ["inpaint", "inverse"])
def test_a_sample_is_the_same_in_every_batch(run: Path, guide: str) -> None:
    file = {"inpaint": "known.npz", "inverse": "seen.npz"}[guide]
    together = drawn(run, guide, file, n=9)
    np.testing.assert_allclose(drawn(run, guide, file, n=9, batch_size=4), together, rtol=1e-4)
    np.testing.assert_allclose(drawn(run, guide, file, seeds="5,7"), together[[5, 7]], rtol=1e-4)


@pytest.mark.parametrize(
    ("guides", "file", "problem", "remedy"),
    [
        (["inpaint"], None, "'inpaint' needs what was observed", "--observed"),
        ([], "known.npz", "No guide takes what was observed", "--guide inpaint"),
        (["inpaint"], "seen.npz", "No guide takes the observed array y; 'inpaint' takes x", "Rename it"),
        (["inpaint"], "other.npz", "No guide takes the observed array known; 'inpaint' takes x", "Rename it"),
        (["inverse"], "half.npz", "no array A; it holds y", "Store it as A"),
        (["inpaint"], "wide.npz", r"the shape \(3,\) a row, and a sample \(2,\)", "sdezoo sample"),
        (["inverse"], "tall.npz", r"A has the shape \(1, 3\)", r"A as \(m, 2\)"),
        (["inpaint"], "negative.npz", "3 known entries are outside the support", "mask"),
        (["inpaint"], "torn.npz", r"mask has the shape \(5, 5\), and x \(3, 2\)", "same shape"),
        (["inpaint"], "words.npz", "x in '.*' holds no numbers", "Store numbers"),
        (["inpaint"], "points.csv", "read arrays from", ".npz"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    run: Path, tmp_path: Path, guides: list[str], file: str | None, problem: str, remedy: str
) -> None:
    with pytest.raises(SdezooError, match=problem) as refusal:
        sample(run, tmp_path / "x.npz", guides=guides, observed=None if file is None else run.parent / file, n=5)
    assert any(word in refusal.value.remedy for word in (remedy, remedy.replace("\\", "")))
    assert not [*tmp_path.iterdir()]
