"""Evaluations to the floor: the distance has exact answers, and the least count is the least."""

import math

import pytest
import torch

from sdezoo import SAMPLERS, SDES
from sdezoo.bench.evaluations import _least, _Task, evaluations_to_floor
from sdezoo.errors import SupportError

ROWS, DRAWS = 500, 40


def silent(*_, **__):
    pass


class Drawn:
    """A sampler that draws from the data themselves, moved by `shift`."""

    def __init__(self, shift=(0.0, 0.0)):
        self.shift = torch.tensor(shift, dtype=torch.float64)

    def sample(self, model, shape, steps, seed):
        return model.sde.decode(model.clean(shape[0], seed + 1) + self.shift)


@pytest.fixture(scope="module")
def task():
    return _Task(SDES.build("gbm"), ROWS, DRAWS)


def test_draws_of_the_data_are_at_the_floor(task):
    """The relative spread of one distance is about a half; of means over 40 draws, 0.08 each."""
    assert task.error(Drawn(), 1, 0) == pytest.approx(1, abs=0.4)


def test_the_floor_falls_with_the_root_of_the_rows(task):
    """It would not where the quantiles were those of another law; each floor is known to a twelfth."""
    assert task.floor / _Task(task.model.sde, 16 * ROWS, 1).floor == pytest.approx(4, rel=0.4)


@pytest.mark.parametrize("shift", [(3.0, 0.0), (-1.0, 2.0)])
def test_the_distance_of_a_shifted_law_is_the_mean_projection_of_the_shift(task, shift):
    """`|v · u|` along `u`, `2 |v| / π` on average; a sample's mean errs by 1/√(ROWS · DRAWS) of the data's spread."""
    assert task.error(Drawn(shift), 1, 0) * task.floor == pytest.approx(2 * math.hypot(*shift) / math.pi, rel=0.02)


class Scripted:
    """A task whose errors are known at each count of evaluations."""

    def __init__(self, errors):
        self.model, self.errors = self, errors
        self.evaluations = 0

    def error(self, sampler, steps, seed):
        self.evaluations = steps
        error = self.errors[steps]
        if error is None:
            raise SupportError("It is out.", "Nothing helps.")
        return error


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ({5: 9.0, 10: 2.0, 20: 1.0}, {"evaluations": 10, "error_over_floor": 2.0}),
        ({5: 1.0, 10: 3.0, 20: 1.0}, {"evaluations": 5, "error_over_floor": 1.0}),
        ({5: None, 10: None, 20: 1.5}, {"evaluations": 20, "error_over_floor": 1.5}),
        ({5: 9.0, 10: 8.0, 20: 7.0}, {"evaluations": None, "error_over_floor": 7.0, "note": "not reached at 20"}),
        ({5: None, 10: None, 20: None}, {"evaluations": None, "error_over_floor": None, "note": "left the support, even at 20"}),
    ],
)
def test_the_least_count_at_twice_the_floor(errors, expected):
    assert _least(Scripted(errors), SAMPLERS.build("ddim"), (5, 10, 20), 0) == expected


def test_every_process_and_sampler_is_asked():
    table = evaluations_to_floor(0, silent, counts=(20, 60), rows=500, draws=2, names=("dpmpp-2m", "multiplicative"))
    found = {(row["process"], row["sampler"]): row for row in table.rows}
    assert {("gbm", "dpmpp-2m"), ("vp", "dpmpp-2m"), ("gbm", "multiplicative")} <= set(found)
    assert ("vp", "multiplicative") not in found
    assert found["gbm", "dpmpp-2m"]["evaluations"] == 20
    assert found["gbm", "multiplicative"]["evaluations"] is None
