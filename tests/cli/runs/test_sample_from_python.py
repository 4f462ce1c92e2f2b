"""Sampling from Python: what `sdezoo sample` does, in one call."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from sdezoo.errors import SdezooError
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler
from sdezoo.runs.sample import SAMPLES, sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig

Terminal = Callable[..., tuple[int, str, str]]

UNIPC = "unipc:spacing=optimized,order=3,prediction=noise"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    small = {"net": "mlp:width=16,depth=1", "steps": 2, "data": "wine", "batch_size": 8}
    for name, values in {"wine": {}, "digits": {"data": "digits", "net": "unet:width=8"}}.items():
        train(TrainingConfig.build({**small, **values, "out": str(folder / name)}))
    return folder


def test_it_writes_what_the_command_line_writes(runs: Path, tmp_path: Path, terminal: Terminal) -> None:
    made = sample(runs / "wine", tmp_path / "a.npy", n=7, steps=3, seed=5, trajectory=tmp_path / "way.png")
    assert made is not None
    code, _, err = terminal("sample", runs / "wine", "-n", 7, "--steps", 3, "--seed", 5, "--out", "b.npy", "--trajectory", "w.png")
    assert code == 0, err
    assert Path("a.npy").read_bytes() == Path("b.npy").read_bytes()
    assert Path("way.png").read_bytes() == Path("w.png").read_bytes()
    assert (made.n, made.values, made.sampler, made.seeds, made.shown) == (7, 7 * 13, UNIPC, "0-6", 7)


def test_by_default_it_draws_the_first(runs: Path, tmp_path: Path) -> None:
    made = sample(runs / "wine", tmp_path / "a.npy", steps=1)
    assert made is not None
    assert (made.n, made.seeds, made.trajectory) == (SAMPLES, f"0-{SAMPLES - 1}", None)


def test_progress_reaches_the_end(runs: Path, tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []
    sample(runs / "wine", tmp_path / "a.npy", n=5, steps=2, progress=lambda *done: seen.append(done))
    assert seen == [(2.5, 5), (5, 5)]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 2, "seeds": "1"}, "Both"),
        ({"sampler": "dpmp"}, "no sampler"),
        ({"checkpoint": "9"}, "9"),
        ({"device": "abacus"}, "abacus"),
        ({"precision": "fp8"}, "fp8"),
        ({"plugins": [Path("none.py")]}, "none.py"),
        ({"trajectory": Path("way.mp4")}, "way.mp4"),
    ],
)
def test_what_cannot_work_leaves_nothing(runs: Path, tmp_path: Path, options: dict[str, object], problem: str) -> None:
    with pytest.raises(SdezooError, match=problem):
        sample(runs / "wine", tmp_path / "a.npy", **options)  # pyright: ignore[reportArgumentType]
    assert not [*tmp_path.iterdir()]


def test_of_images_on_a_lattice_that_count_as_outside_which_rounding_does_not_bring_back(
    runs: Path, tmp_path: Path, terminal: Terminal
) -> None:
    made = sample(runs / "digits", tmp_path / "a.npy", n=8, steps=4)
    assert made is not None
    trained = restore(runs / "digits")
    draw = Draw(trained, choose_sampler(trained, None), SampleIndices.first(8), 4)
    x = torch.cat([part.x for part in draw.batches()]).double().numpy()
    half = 0.5 / 16
    beyond = np.maximum(-x, x - 1)
    assert made.outside.count == (beyond > half).sum()
    assert made.outside.count < (beyond > 0).sum()
    assert made.outside.farthest == pytest.approx(beyond.max())
    _, out, _ = terminal("sample", runs / "digits", "-n", 8, "--steps", 4, "--out", "b.png")
    assert f"{made.outside.count} of {made.values} values lie outside the range of the data, by up to " in out
    assert "% of its width; they are rounded to the nearest level.\n" in out
    written = np.load(tmp_path / "a.npy")
    assert np.isin(written, np.arange(17, dtype=np.float32) / 16).all()
    np.testing.assert_array_equal(written, (np.round(np.clip(x, 0, 1) * 16) / 16).astype(np.float32))
