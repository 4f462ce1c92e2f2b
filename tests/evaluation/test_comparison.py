"""What is compared for a kind of data, what stands beside it, and how it is shown."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from sdezoo.errors import DataError
from sdezoo.evaluation import suite
from sdezoo.evaluation.comparison import Extractor, Parts, columns, images
from sdezoo.evaluation.measures.classifier import Classifier, Facts, Judge
from sdezoo.evaluation.suite import Measured, Sets
from sdezoo.evaluation.table import number, record, text

N = 60
QUIET = {"seed": 0, "progress": lambda *_: None}


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Fewer resamples than a user gets."""
    monkeypatch.setattr(suite, "halves", lambda *a, seed: _halves(*a, repeats=10, seed=seed))
    monkeypatch.setattr(suite, "c2st", lambda *a, seed: _c2st(*a, trees=10, seed=seed))


_halves, _c2st = suite.halves, suite.c2st


def table_parts(shift=0.0, n=N, d=3):
    rows = torch.randn(4, n, d, generator=torch.Generator().manual_seed(0)).exp()
    return Parts(rows[0] + shift, rows[1], rows[2], torch.cat([rows[2], rows[3]]))


def image_parts(n=N):
    images = (torch.rand(4, n, 1, 6, 6, generator=torch.Generator().manual_seed(0)) * 16).round() / 16
    return Parts(images[0], images[1], images[2], torch.cat([images[2], images[3]]))


def named(found):
    return {m.name: m for m in found.measured}


def test_columns_are_compared_in_their_own_units():
    found, scaled = (
        columns(Parts(*(unit * x for x in table_parts(2.0))), "t", names=(), **QUIET)
        for unit in (torch.ones(3), torch.tensor([1.0, 64, 1 / 16]))
    )
    for one, other in zip(found.measured, scaled.measured, strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-4)
    names = named(found)
    assert {"sliced W1", "C2ST, random forest", "coverage", "columns with KS p > 0.01", "correlations, RMS error"} <= set(names)
    assert names["columns with KS p > 0.01"].value == 0
    assert names["columns with KS p > 0.01"].floor == 1
    assert "Columns that differ by the KS test: x" in found.notes[0]
    assert [column["name"] for column in found.facts["columns"]] == ["x0", "x1", "x2"]


def test_the_floor_is_the_figure_of_training_rows():
    parts = table_parts(0.5)
    found = columns(parts, "t", names="abc", **QUIET)
    floors = columns(parts._replace(samples=parts.training), "t", names="abc", **QUIET)
    for m, floor in zip(found.measured, floors.measured, strict=True):
        if m.group != "privacy" and (m.error != "bootstrap" or "C2ST" in m.name):
            assert m.floor == pytest.approx(floor.value)
    assert named(floors)["distance to training rows, over held-out"].value < 1e-6


def test_one_column_has_no_pairs_and_a_constant_one_does_no_harm():
    assert not any("correlation" in m.name for m in columns(table_parts(d=1), "t", names=(), **QUIET).measured)
    constant = Parts(*(torch.cat([x, torch.ones(len(x), 1)], 1) for x in table_parts()))
    assert all(np.isfinite(m.value) for m in columns(constant, "t", names=(), **QUIET).measured)


def test_repeated_data_cannot_tell_copies():
    parts = table_parts()
    found = columns(parts._replace(held_out=parts.training), "t", names=(), **QUIET)
    assert "Half of the held-out rows are training rows" in found.notes[0]
    assert not any("training rows" in m.name for m in found.measured)


def test_images_are_put_on_the_lattice():
    parts = image_parts()
    noisy = parts._replace(
        samples=parts.samples + 0.06 * (torch.rand(parts.samples.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    )
    plain = {"levels": 16, "extractor": None, "judge": None, "labels": None, **QUIET}
    for m, other in zip(images(parts, "t", **plain).measured, images(noisy, "t", **plain).measured, strict=True):
        assert m.value == pytest.approx(other.value, abs=1e-9)
    off = images(noisy, "t", **{**plain, "levels": None})
    assert named(off)["sliced W1"].value != named(images(noisy, "t", **plain))["sliced W1"].value
    assert "FID and KID need features" in off.notes[0]
    assert "precision" in named(off)


class Halves(Classifier):
    """A classifier that tells dark images from bright ones."""

    def predict(self, images):
        return (images.mean((1, 2, 3)) > 0.5).long()

    def features(self, images):
        return images.mean(1).flatten(1)[:, :4].double().numpy()


def test_features_and_classes():
    parts = image_parts()
    dark = parts._replace(samples=parts.samples / 2)
    judge = Judge(Halves(1, 2), Facts(channels=1, classes=2, steps=0, accuracy=0.5, held_out=9), Path("here"))
    labels = judge.net.predict(parts.every)
    found = images(dark, "t", levels=16, extractor=Extractor("halves", judge.net.features), judge=judge, labels=labels, **QUIET)
    names = named(found)
    assert {"FID", "KID", "coverage", "class shares, largest error"} <= set(names)
    assert names["precision"].group == "features of halves"
    bright = float(labels.double().mean())
    assert names["class shares, largest error"].value == pytest.approx(bright)
    assert names["class shares, largest error"].floor < 0.3
    assert found.facts["classes"]["samples"] == [1, 0]
    assert "50.0% right on 9 held-out images" in found.notes[0]


def test_a_sheet_of_many_columns_shows_the_first():
    figure = columns(table_parts(d=30), "title", names=(), **QUIET).picture
    assert "the first 25 of 30 columns" in figure.get_suptitle()
    assert len(figure.subfigs[1].axes) >= 25


@pytest.mark.parametrize("d", [1, 2, 3])
def test_a_sheet_can_be_drawn(d):
    figure = columns(table_parts(d=d), "title", names=(), **QUIET).picture
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    assert np.ptp(np.asarray(canvas.buffer_rgba())) > 0


def test_a_sheet_pairs_samples_with_their_neighbours():
    parts = image_parts(n=20)
    copied = parts._replace(samples=parts.every[[5, 7] * 10])
    figure = images(copied, "title", levels=16, extractor=None, judge=None, labels=None, **QUIET).picture
    grid = np.asarray(figure.subfigs[0].axes[0].images[0].get_array())
    np.testing.assert_allclose(grid[:6, :6], grid[:6, 7:13])
    np.testing.assert_allclose(grid[:6, :6], parts.every[5, 0].numpy())


def test_sizes_are_checked():
    with pytest.raises(DataError, match="There are 3 held-out rows"):
        suite.check_sizes({"rows": 20, "held-out rows": 3})


def test_a_table_is_read_by_people_and_machines():
    lines = [
        Measured("pixels", "W1", 0.12345, (0.1, 0.2), "halves", 0.01, 0),
        Measured("classes", "shares", 12.345, None, None, 1234.5, 0.5),
    ]
    shown = text(lines).splitlines()
    assert shown[0].split() == ["pixels", "samples", "95", "%", "interval", "real", "rows", "ideal"]
    assert shown[1].split() == ["W1", "0.123", "0.100", "…", "0.200", "0.010", "0.000"]
    assert shown[4].split() == ["shares", "12.3", "1234", "0.500"]
    assert record(lines)[0]["interval"] == (0.1, 0.2)
    assert [number(x) for x in (0, 1, 1e-5, -0.004, 9.999, 99.99)] == ["0.000", "1.000", "1.0e-05", "-4.0e-03", "10.00", "100.0"]


def test_sets_are_of_any_size_for_the_suite():
    rng = np.random.default_rng(0)
    sets = Sets(*(rng.standard_normal((n, 2)) for n in (30, 40, 50)))
    assert len(suite.distances("g", sets)) == 4
