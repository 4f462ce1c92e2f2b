"""Rows are what was asked for, and a sample depends on (seed, row) alone: not on the batch, nor on what else is drawn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdezoo.errors import CompositionError, ParameterError
from sdezoo.generation.guiding import Guides
from sdezoo.generation.samples import Draw, Generated, SampleIndices, choose_sampler, generate
from sdezoo.runs.train import train
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    values = {"net": "mlp:width=16,depth=1", "steps": 2, "data": "wine", "batch_size": 8}
    return restore(train(TrainingConfig.build({**values, "out": str(tmp_path_factory.mktemp("run") / "run")})).run)


def draw(trained: Trained, rows: SampleIndices, **values: Any) -> Generated:
    return Draw(trained, choose_sampler(trained, "dpmpp-2m-sde"), rows, 4, **values).together()


indices = st.lists(st.integers(0, 10**9), min_size=1, max_size=8, unique=True)


@given(indices)
def test_a_list_is_read_as_it_is_written(wanted: list[int]) -> None:
    rows = SampleIndices.parse(",".join(map(str, wanted)))
    assert list(rows) == wanted
    assert len(rows) == len(wanted)
    assert list(SampleIndices.parse(str(rows))) == wanted


@given(st.integers(0, 12), st.integers(0, 12))
def test_a_cut_is_a_slice(first: int, last: int) -> None:
    rows = SampleIndices.parse("0-3, 17,100-105")
    assert list(rows) == [0, 1, 2, 3, 17, 100, 101, 102, 103, 104, 105]
    assert list(rows.cut(first, last)) == list(rows)[first:last]
    assert str(rows) == "0-3,17,100-105"


def test_a_range_takes_no_room() -> None:
    rows = SampleIndices.parse("0-999999999999")
    assert len(rows) == 10**12
    assert list(rows.cut(10**11, 10**11 + 2)) == [10**11, 10**11 + 1]


@pytest.mark.parametrize("text", ["", "a", "1,", "5-3", "-3", "1-2-3", "1.5", "1;2", "٣", "9" * 19])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"not a list of indices.*100-120"):
        SampleIndices.parse(text)


@pytest.mark.parametrize("text", ["3,3", "5-7,6", "6,5-7", "0-5,5-9"])
def test_an_index_twice_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match=r"contains \d twice"):
        SampleIndices.parse(text)


def test_no_samples_steps_or_batch_are_refused(trained: Trained) -> None:
    sampler = choose_sampler(trained, None)
    with pytest.raises(ParameterError, match="n=0"):
        SampleIndices.first(0)
    for name in ("steps", "batch_size"):
        with pytest.raises(ParameterError, match=f"{name}=0"):
            Draw(trained, sampler, SampleIndices.first(1), **{name: 0})


def test_rows_are_those_of_the_whole_run(trained: Trained) -> None:
    whole = draw(trained, SampleIndices.first(12)).x
    some = SampleIndices.parse("11,2-4,0")
    torch.testing.assert_close(draw(trained, some).x, whole[list(some)])


def test_batches_change_rounding_alone(trained: Trained) -> None:
    whole = draw(trained, SampleIndices.first(11))
    parts = draw(trained, SampleIndices.first(11), batch_size=4)
    torch.testing.assert_close(parts.x, whole.x)
    assert (parts.outside, parts.evaluations) == (whole.outside, whole.evaluations)


def test_a_part_of_the_batches_is_that_part(trained: Trained) -> None:
    drawing = Draw(trained, choose_sampler(trained, None), SampleIndices.first(12), 4, batch_size=4)
    assert torch.equal(drawing.together(4, 8).x, drawing.together().x[4:8])


def test_generate_counts_what_lies_outside_and_keeps_no_graph(trained: Trained, tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []
    made = generate(trained, choose_sampler(trained, None), 10, steps=4, batch_size=4, progress=lambda *done: seen.append(done))
    low, high = (torch.tensor(bound) for bound in trained.state.range)
    assert made.outside.count == int(((made.x < low) | (made.x > high)).sum())
    assert made.evaluations == 4
    assert not made.x.requires_grad
    assert seen == sorted(seen)
    assert seen[-1] == (10, 10)


@pytest.fixture(scope="module")
def conditional(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Two classes far apart, learnt with labels."""
    folder = tmp_path_factory.mktemp("classes")
    labels = np.tile([0, 1], 100)
    x = np.exp(np.array([-2.0, 2.0])[labels][:, None] + 0.1 * np.random.default_rng(0).standard_normal((200, 2)))
    np.savez(folder / "two.npz", x=x.astype(np.float32), y=labels)
    values = {"net": "mlp:width=32,depth=2", "steps": 400, "lr": 5e-3, "batch_size": 64, "condition": "labels", "label_dropout": 0.2}
    return restore(train(TrainingConfig.build({**values, "data": str(folder / "two.npz"), "out": str(folder / "run")})).run)


def test_a_label_draws_its_class(conditional: Trained) -> None:
    for label, sign in ((0, -1), (1, 1)):
        x = draw(conditional, SampleIndices.first(40), label=label).x
        assert ((sign * x.log()).mean(1) > 1).float().mean() > 0.9
    each = draw(conditional, SampleIndices.first(40), label="each", batch_size=7).x.log().mean(1)
    assert (each[1::2] - each[::2]).median() > 3
    assert (draw(conditional, SampleIndices.first(40)).x.log().mean(1) > 0).float().mean().item() == pytest.approx(0.5, abs=0.3)


def cfg(trained: Trained, weight: float) -> Guides:
    return Guides.of([f"cfg:weight={weight}"], trained)


def test_guidance_goes_on_past_the_class(conditional: Trained) -> None:
    """With scale 1 it is the class, and beyond it pushes on; a sample is the same in every batch."""
    told, guided = (draw(conditional, SampleIndices.first(40), label=1, guides=cfg(conditional, w)).x for w in (1.0, 2.0))
    assert not torch.equal(told, guided)
    parts = draw(conditional, SampleIndices.first(40), label=1, guides=cfg(conditional, 2.0), batch_size=9).x
    torch.testing.assert_close(parts, guided, rtol=1e-4, atol=1e-4)


def test_labels_are_refused_where_they_mean_nothing(trained: Trained, conditional: Trained) -> None:
    with pytest.raises(CompositionError, match="unconditional"):
        draw(trained, SampleIndices.first(2), label=0)
    with pytest.raises(ParameterError, match="no class 2"):
        draw(conditional, SampleIndices.first(2), label=2)
    with pytest.raises(CompositionError, match="guides to a class, and this model is unconditional"):
        draw(trained, SampleIndices.first(2), guides=cfg(trained, 2.0))
    with pytest.raises(ParameterError, match="no label to guide to"):
        draw(conditional, SampleIndices.first(2), guides=cfg(conditional, 2.0))
