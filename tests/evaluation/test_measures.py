"""Each measure has the value that its closed form gives, what is expected of equal laws, and no eye for the order of rows."""

import math

import numpy as np
import pytest
from scipy.stats import norm

from sdezoo.errors import DataError
from sdezoo.evaluation.measures.columns import correlation_error, correlations, kolmogorov_smirnov
from sdezoo.evaluation.measures.frechet import frechet_distance, normal_distance
from sdezoo.evaluation.measures.kernels import kid, median_distance, mmd2
from sdezoo.evaluation.measures.manifold import manifold
from sdezoo.evaluation.measures.neighbours import copying, nearest
from sdezoo.evaluation.measures.transport import sliced_wasserstein
from sdezoo.evaluation.measures.two_sample import c2st

SIGMAS = 4.5


def normals(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


MEASURES = {
    "sliced W1": lambda a, b: sliced_wasserstein(a, b).w1,
    "sliced W2": lambda a, b: sliced_wasserstein(a, b).w2,
    "MMD²": lambda a, b: mmd2(a, b, bandwidth=1.5),
    "KID": kid,
    "FID": frechet_distance,
    "KS": lambda a, b: kolmogorov_smirnov(a, b).statistic.max(),
    "correlations": lambda a, b: correlation_error(a, b).rank_rms,
    "precision": lambda a, b: manifold(a, b).precision.mean(),
    "density": lambda a, b: manifold(a, b).density.mean(),
    "coverage": lambda a, b: manifold(a, b).coverage.mean(),
}
each = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)


@each
def test_the_order_of_rows_does_not_matter(measure):
    a, b = normals(60, 3), normals(80, 3, seed=1) + 0.3
    assert measure(a[::-1], b[::-1]) == pytest.approx(measure(a, b), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("measure", [MEASURES[name] for name in MEASURES if name not in ("density", "coverage", "precision")])
def test_distances_are_symmetric_and_grow(measure):
    a, b = normals(60, 3), normals(80, 3, seed=1) @ np.array([[1, 0.9, 0], [0, 1, 0], [0, 0, 1]]) + 0.8
    assert measure(a, b) == pytest.approx(measure(b, a), rel=1e-9)
    assert measure(a, b) > measure(a, normals(80, 3, seed=2)) + 1e-3


@pytest.mark.parametrize("measure", [MEASURES[name] for name in ("sliced W1", "sliced W2", "FID", "KS", "correlations")])
def test_a_set_has_no_distance_to_itself(measure):
    assert measure(normals(60, 3), normals(60, 3)) == pytest.approx(0, abs=1e-6)


@each
def test_what_cannot_be_compared_is_refused(measure):
    rows = normals(20, 3)
    for other in (rows[:, :2], rows[:0], rows[0], np.full((20, 3), np.nan)):
        with pytest.raises(DataError, match="compared"):
            measure(rows, other)


def test_wasserstein_on_the_line_is_that_of_quantiles():
    u = (np.arange(4000)[:, None] + 0.5) / 4000
    a, b = norm.ppf(u), 3 + 2 * norm.ppf(u)
    found = sliced_wasserstein(a, b)
    assert found.w1 == pytest.approx(2 * norm.pdf(3) + 3 * (2 * norm.cdf(3) - 1), abs=1e-3)
    assert found.w2 == pytest.approx(math.sqrt(10), rel=1e-3)


def test_wasserstein_of_two_sizes_is_that_of_repeated_rows():
    a, b = normals(6, 2), normals(9, 2, seed=1)
    whole, repeated = sliced_wasserstein(a, b), sliced_wasserstein(np.repeat(a, 3, 0), np.repeat(b, 2, 0))
    assert whole == pytest.approx(repeated, rel=1e-12)


def test_slices_average_over_the_sphere():
    """A shift by `v` has sliced W2² `|v|² / d`, and W1 `|v| E|θ_1|`, in the plane `2 |v| / π`."""
    a = normals(50, 2)
    found = sliced_wasserstein(a, a + np.array([3.0, 4.0]), directions=4000)
    assert found.w2 == pytest.approx(5 / math.sqrt(2), rel=SIGMAS * math.sqrt(0.5 / 4000) / 2)
    assert found.w1 == pytest.approx(10 / math.pi, rel=SIGMAS * 0.484 / math.sqrt(4000))


def test_what_is_done_in_parts_is_what_is_done_at_once(monkeypatch):
    a, b = normals(30, 4), normals(40, 4, seed=1)

    def everything():
        rows = (*manifold(a, b), *nearest(a, b))
        return np.concatenate([[*sliced_wasserstein(a, b), mmd2(a, b, bandwidth=1), kid(a, b)], *rows])

    whole = everything()
    for module in ("transport", "kernels", "manifold", "neighbours"):
        monkeypatch.setattr(f"sdezoo.evaluation.measures.{module}.CHUNK", 100)
    np.testing.assert_allclose(everything(), whole, rtol=1e-10, atol=1e-12)


def gaussian_mmd2(shift, d, h):
    """`MMD²` of `N(0, I)` and `N(v, I)`: differences of the kernel's mean, that of `N(0, 2I)` and `N(v, 2I)`."""
    scale = (h**2 / (h**2 + 2)) ** (d / 2)
    return 2 * scale * (1 - math.exp(-(shift**2) / (2 * (h**2 + 2))))


def test_mmd_of_normal_laws_is_its_closed_form_without_bias():
    found = np.array([mmd2(normals(40, 2, seed=k) + np.array([0.7, 0]), normals(40, 2, seed=k + 500), bandwidth=1.2) for k in range(300)])
    assert found.mean() == pytest.approx(gaussian_mmd2(0.7, 2, 1.2), abs=SIGMAS * found.std() / math.sqrt(300))
    equal = np.array([mmd2(normals(40, 2, seed=k), normals(40, 2, seed=k + 500), bandwidth=1.2) for k in range(300)])
    assert equal.mean() == pytest.approx(0, abs=SIGMAS * equal.std() / math.sqrt(300))


def test_kid_is_unbiased():
    """Of standard normal numbers on the line and those shifted by 1: `k = (1 + xy)³` is a polynomial in moments."""
    moments = np.array([1, 3, 3, 1])  # of k in powers of xy
    zero, one = np.array([1, 0, 1, 0]), np.array([1, 1, 2, 4])  # E x^j
    truth = moments @ (zero - one) ** 2
    found = np.array([kid(normals(40, 1, seed=k), normals(40, 1, seed=k + 500) + 1) for k in range(400)])
    assert found.mean() == pytest.approx(truth, abs=SIGMAS * found.std() / math.sqrt(400))


def test_the_median_distance_is_that_of_pairs():
    assert median_distance([[0.0], [1.0], [5.0]]) == 4.0
    assert median_distance(np.zeros((5, 2))) == 1.0


def test_frechet_of_normal_laws_is_its_closed_form():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((3, 3))
    cov = first @ first.T
    assert normal_distance([1, 2, 3], cov, [1, 2, 3], cov) == pytest.approx(0, abs=1e-12)
    assert normal_distance([0, 0], np.diag([1, 4]), [3, 4], np.diag([9, 16])) == pytest.approx(25 + 4 + 4)
    # Covariances that do not commute: N(0, Σ) is carried to N(0, A Σ A) by the symmetric, positive A, at cost tr((A − 1) Σ (A − 1)).
    carry = np.array([[2.0, 0.5, 0], [0.5, 1.5, 0.2], [0, 0.2, 1]])
    cost = np.trace((carry - np.eye(3)) @ cov @ (carry - np.eye(3)))
    assert normal_distance(np.zeros(3), cov, np.zeros(3), carry @ cov @ carry) == pytest.approx(cost)
    assert normal_distance([0, 0], np.zeros((2, 2)), [0, 0], np.diag([1, 0])) == pytest.approx(1)


def test_frechet_takes_sample_moments():
    a, b = normals(50, 2), normals(70, 2, seed=1) * [1, 3] + 1
    assert frechet_distance(a, b) == pytest.approx(normal_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T)))
    assert frechet_distance(a[:, :1], b[:, :1]) == pytest.approx(
        (a[:, 0].mean() - b[:, 0].mean()) ** 2 + (a[:, 0].std(ddof=1) - b[:, 0].std(ddof=1)) ** 2
    )


def test_a_forest_cannot_tell_equal_laws_and_can_tell_different_ones():
    equal = np.mean([c2st(normals(200, 3, seed=k), normals(200, 3, seed=k + 50), trees=10, seed=k).mean() for k in range(6)])
    assert equal == pytest.approx(0.5, abs=SIGMAS * 0.5 / math.sqrt(2400))
    assert c2st(normals(50, 3), normals(60, 3) + 9, trees=10).mean() == 1
    assert len(c2st(normals(50, 3), normals(60, 3), trees=3)) == 100


def test_a_forest_sees_what_columns_by_themselves_do_not():
    a = normals(400, 2)
    b = np.stack([a[:, 0], 0.9 * a[:, 0] + math.sqrt(1 - 0.81) * normals(400, seed=1)], 1)
    assert (kolmogorov_smirnov(a, b).p > 0.01).all()
    assert c2st(a, b, trees=20).mean() > 0.65
    assert correlation_error(a, b).rms == pytest.approx(0.9, abs=SIGMAS / math.sqrt(400))


def test_p_values_are_uniform_for_equal_laws():
    p = np.concatenate([kolmogorov_smirnov(normals(100, 5, seed=k), normals(100, 5, seed=k + 99)).p for k in range(40)])
    assert (p < 0.2).mean() == pytest.approx(0.2, abs=SIGMAS * math.sqrt(0.16 / 200) + 0.03)  # the test is discrete: p is a little large
    shifted = kolmogorov_smirnov(np.arange(10.0)[:, None], np.arange(10.0)[:, None] + 5)
    assert shifted.statistic == pytest.approx([0.5])


def test_correlations_are_those_of_numpy_and_constants_have_none():
    rows = normals(30, 4)
    np.testing.assert_allclose(correlations(rows), np.corrcoef(rows.T), atol=1e-12)
    rows[:, 2] = 0.1
    assert (correlations(rows)[2] == [0, 0, 1, 0]).all()


def test_correlation_errors_are_of_pairs():
    a = normals(1000, 3)
    b = a.copy()
    b[:, 2] = b[:, 1]
    found = correlation_error(a, b)
    gap = 1 - np.corrcoef(a.T)[1, 2]
    assert found.largest == pytest.approx(gap)
    assert found.rms == pytest.approx(gap / math.sqrt(3), abs=0.05)
    rank = correlation_error(np.exp(5 * a), np.exp(5 * b))
    assert rank.rank_largest == pytest.approx(correlation_error(a, b).rank_largest)
    assert rank.largest != pytest.approx(found.largest)


def test_precision_and_recall_of_half_a_support():
    """Samples on half of the support are precise and cover half; samples on twice the support are half precise and recall all."""
    line = np.linspace(0, 2, 400)[:, None]
    half, twice = line / 2, line * 2
    found = manifold(line, half)
    assert found.precision.mean() == 1
    assert found.recall.mean() == pytest.approx(0.5, abs=0.02)
    assert found.coverage.mean() == pytest.approx(0.5, abs=0.02)
    found = manifold(line, twice)
    assert found.precision.mean() == pytest.approx(0.5, abs=0.02)
    assert found.recall.mean() == 1


def test_recall_is_precision_the_other_way_round():
    a, b = normals(60, 3), 2 * normals(80, 3, seed=1)
    assert (manifold(a, b).recall == manifold(b, a).precision).all()
    assert manifold(a, b).recall.mean() != manifold(a, b).precision.mean()


def test_density_and_coverage_of_equal_laws():
    found = [manifold(normals(300, 2, seed=k), normals(300, 2, seed=k + 50)) for k in range(10)]
    for values, truth in (([f.density.mean() for f in found], 1.0), ([f.coverage.mean() for f in found], 1 - 2**-5)):
        assert np.mean(values) == pytest.approx(truth, abs=SIGMAS * np.std(values) / math.sqrt(10) + 2e-3)


def test_a_mode_that_is_lost_is_not_covered():
    modes = np.repeat([[0.0, 0], [9, 9]], 100, 0) + normals(200, 2)
    found = manifold(modes, normals(200, 2, seed=1))
    assert found.coverage[:100].mean() > 0.9
    assert found.coverage[100:].mean() == 0
    assert found.recall[100:].mean() == 0
    assert found.precision.mean() > 0.9


def test_copies_are_found():
    training, held, new = normals(300, 3), normals(300, 3, seed=1), normals(300, 3, seed=2)
    far, fresh, copied = (nearest(rows, training) for rows in (held, new, training[::-1]))
    assert (copied.row == np.arange(300)[::-1]).all()
    assert copying(far.distance, copied.distance).ratio < 1e-6
    ratio, near = copying(far.distance, fresh.distance)
    assert ratio == pytest.approx(1, abs=0.2)
    assert near == pytest.approx(0.05, abs=SIGMAS * math.sqrt(2 * 0.05 * 0.95 / 300))
    mixed = np.concatenate([fresh.distance[:240], copied.distance[:60]])
    assert copying(far.distance, mixed).ratio > 0.75
    assert copying(far.distance, mixed).near > 0.2
    with pytest.raises(DataError, match="training rows"):
        copying(copied.distance * 0, fresh.distance)


def test_the_same_seed_gives_the_same_figures():
    a, b = normals(60, 3), normals(60, 3, seed=1)
    assert sliced_wasserstein(a, b, seed=4) == sliced_wasserstein(a, b, seed=4)
    assert sliced_wasserstein(a, b, seed=4) != sliced_wasserstein(a, b, seed=5)
    assert (c2st(a, b, trees=3, seed=4) == c2st(a, b, trees=3, seed=4)).all()
