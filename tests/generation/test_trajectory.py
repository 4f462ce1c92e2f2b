"""A trajectory ends in the samples, holds no more moments than it shows, and is refused before any work."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sdezoo.errors import RunError
from sdezoo.generation import trajectory as module
from sdezoo.generation.export import write
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler
from sdezoo.generation.trajectory import check_trajectory, record
from sdezoo.runs.train import train
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig


def run(folder: Path, **values: object) -> Trained:
    return restore(train(TrainingConfig.build({"steps": 2, "batch_size": 8, "out": str(folder / "run"), **values})).run)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tmp_path_factory.mktemp("digits"), data="digits", net="unet:width=8")


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(tmp_path_factory.mktemp("points"), data="spirals", sde="ve", loss="dsm", net="mlp:width=16,depth=1")


def draw(trained: Trained, n: int, steps: int, **values: int) -> Draw:
    return Draw(trained, choose_sampler(trained, None), SampleIndices.first(n), steps, **values)


@pytest.mark.parametrize("spec", ["dpmpp-2m", "dale-langevin", "pf-ode"])
def test_the_last_moment_is_the_samples(digits: Trained, spec: str) -> None:
    drawing = Draw(digits, choose_sampler(digits, spec), SampleIndices.first(5), 6, batch_size=2)
    frames = module._frames(drawing, 5, 4)
    assert torch.equal(digits.state.bounds.final(frames[-1]), drawing.together().x)


def test_moments_are_spread_over_all_steps_from_the_prior_on(digits: Trained) -> None:
    every, some = (module._frames(draw(digits, 3, 20), 3, moments) for moments in (100, 8))
    assert (len(every), len(some)) == (21, 8)
    for k, frame in zip(np.linspace(0, 20, 8).round().astype(int), some, strict=True):
        assert torch.equal(frame, every[k])


def test_it_begins_where_the_samples_began(digits: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, prior = [], digits.model.prior

    def seen(*arguments: object) -> torch.Tensor:
        begun.append(prior(*arguments))  # pyright: ignore[reportArgumentType]
        return begun[-1]

    monkeypatch.setattr(digits.model, "prior", seen)
    frames = module._frames(draw(digits, 3, 4), 3, 5)
    shown, sampled = begun
    assert torch.equal(shown, sampled)
    assert torch.equal(frames[0], digits.encoding.decode(digits.model.sde.coordinates(sampled)))


def test_an_animation_of_images_ends_in_their_picture(digits: Trained, tmp_path: Path) -> None:
    drawing = draw(digits, 70, 60)
    assert record(drawing, tmp_path / "way.gif") == 64
    write(draw(digits, 64, 60).together().x, tmp_path / "end.png", kind="image", levels=digits.state.levels)
    with Image.open(tmp_path / "way.gif") as way, Image.open(tmp_path / "end.png") as end:
        frames = getattr(way, "n_frames", 1)
        assert 40 <= frames <= 48
        way.seek(frames - 1)
        assert np.array_equal(np.asarray(way.convert("L")), np.asarray(end))


def test_a_strip_has_a_row_for_each_sample(digits: Trained, tmp_path: Path) -> None:
    assert record(draw(digits, 20, 30), tmp_path / "way.png") == 8
    with Image.open(tmp_path / "way.png") as strip:
        shown = np.asarray(strip)
    factor = shown.shape[0] // (8 * 9 + 1)
    assert shown.shape == (factor * 73, factor * 73)
    write(draw(digits, 8, 30).together().x, tmp_path / "end.png", kind="image", levels=digits.state.levels)
    last = shown[::factor, ::factor][1:9, 7 * 9 + 1 : 7 * 9 + 9]
    with Image.open(tmp_path / "end.png") as end:
        enlarged = end.height // (3 * 9 + 1)
        assert np.array_equal(last, np.asarray(end)[::enlarged, ::enlarged][1:9, 1:9])


@pytest.mark.parametrize("ending", [".gif", ".png"])
def test_points_move_in_one_frame(points: Trained, tmp_path: Path, ending: str) -> None:
    assert record(draw(points, 30, 9), tmp_path / f"way{ending}") == 30
    with Image.open(tmp_path / f"way{ending}") as way:
        frames = getattr(way, "n_frames", 1)
        assert frames == 1 if ending == ".png" else 5 <= frames <= 10  # moments that look the same are one frame
        assert way.convert("L").getextrema() != (255, 255)


def test_what_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "there.gif").touch()
    for name, says in (("a.mp4", r"\.gif or \.png"), ("s.png", "both the samples"), ("there.gif", "exists.*--overwrite")):
        with pytest.raises(RunError, match=says):
            check_trajectory(tmp_path / name, tmp_path / "s.png")
    check_trajectory(tmp_path / "there.gif", tmp_path / "s.png", overwrite=True)
