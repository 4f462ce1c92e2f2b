"""Intervals hold the truth as often as they say."""

import math
from functools import partial

import numpy as np
import pytest

from sdezoo.evaluation.measures.frechet import frechet_distance, normal_distance
from sdezoo.evaluation.measures.manifold import manifold
from sdezoo.evaluation.measures.transport import sliced_wasserstein
from sdezoo.evaluation.resampling import LEVEL, bootstrap, halves

RUNS = 150
BINOMIAL = 4.5 * math.sqrt(LEVEL * (1 - LEVEL) / RUNS)


def pair(seed, n, shift=0.0, d=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((n, d)) + shift


def share_inside(interval, truth, runs=RUNS, **law):
    found = [interval(*pair(seed, **law), seed)[0] for seed in range(runs)]
    return np.mean([low <= truth <= high for low, high in found])


def shift(a, b):
    return b.mean() - a.mean()


@pytest.mark.parametrize("way", [bootstrap, halves])
def test_a_shift_of_means_is_inside_as_often_as_said(way):
    inside = share_inside(lambda a, b, seed: way(shift, (a, b), seed=seed), 0.4, n=60, shift=0.4)
    assert inside == pytest.approx(LEVEL, abs=BINOMIAL)


@pytest.mark.parametrize("way", [partial(bootstrap, resamples=2000), partial(halves, repeats=2000)], ids=["bootstrap", "halves"])
def test_an_interval_has_the_spread_of_the_mean(way):
    a, b = pair(0, 400)
    ((low, high),) = way(shift, (a, b))
    assert (high - low) / (2 * 1.96) == pytest.approx(math.sqrt((a.var() + b.var()) / 400), rel=0.06)
    assert (low + high) / 2 == pytest.approx(shift(a, b), abs=0.01)


def test_distances_far_apart_are_inside_by_halves():
    inside = share_inside(
        lambda a, b, seed: halves(lambda *x: sliced_wasserstein(*x).w1, (a, b), seed=seed, repeats=60), 1.0, n=80, shift=1.0
    )
    assert inside == pytest.approx(LEVEL, abs=BINOMIAL)
    truth = normal_distance([0, 0], np.eye(2), [1, 1], np.eye(2))
    inside = share_inside(lambda a, b, seed: halves(frechet_distance, (a, b), seed=seed, repeats=60), truth, n=200, shift=1.0, d=2)
    assert inside == pytest.approx(LEVEL, abs=BINOMIAL)


def test_the_bootstrap_fails_where_it_is_not_used():
    """Between equal laws every resample is further away than the figure, so often is the whole interval; halves hold the expectation."""

    def distance(*rows):
        return sliced_wasserstein(*rows, directions=16).w1

    expected = np.mean([distance(*pair(10_000 + k, n=60, d=4)) for k in range(300)])
    wrong, right = (
        share_inside(lambda a, b, seed, way=way: way(distance, (a, b), seed=seed), expected, runs=40, n=60, d=4)
        for way in (bootstrap, halves)
    )
    assert wrong < 0.5
    assert right > LEVEL - 4.5 * math.sqrt(LEVEL * (1 - LEVEL) / 40)


def test_precision_is_inside_by_halves():
    def precision(a, b):
        return manifold(a, b).precision.mean()

    expected = np.mean([precision(*pair(10_000 + k, n=100, shift=0.7, d=2)) for k in range(100)])
    inside = share_inside(lambda a, b, seed: halves(precision, (a, b), seed=seed, repeats=40), expected, runs=30, n=100, shift=0.7, d=2)
    assert inside > LEVEL - 4.5 * math.sqrt(LEVEL * (1 - LEVEL) / 30)


def test_several_figures_at_once_and_the_seed():
    a, b = pair(0, 50)
    both = bootstrap(lambda *x: [shift(*x), 2 * shift(*x)], (a, b), seed=3)
    assert both.shape == (2, 2)
    assert both[1] == pytest.approx(2 * both[0])
    assert (both == bootstrap(lambda *x: [shift(*x), 2 * shift(*x)], (a, b), seed=3)).all()
    assert (both[0] != bootstrap(shift, (a, b), seed=4)[0]).all()
