"""The classifier learns, is the same for the same data, and is kept; Inception is refused where it is not there."""

import hashlib
import json
import sys

import numpy as np
import pytest
import torch

from sdezoo.errors import DataError, RunError
from sdezoo.evaluation.measures import classifier as module
from sdezoo.evaluation.measures import inception
from sdezoo.evaluation.measures.classifier import Classifier, classifier
from sdezoo.evaluation.measures.inception import Inception


def bars(count, seed):
    """Images of a bright row or a bright column, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = 0.3 * torch.rand(count, 1, 8, 8, generator=generator)
    place = torch.randint(8, (count,), generator=generator)
    for image, label, at in zip(images, labels, place, strict=True):
        image[0, at if label == 0 else slice(None), at if label else slice(None)] = 1
    return images, labels


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(module, "_STEPS", 80)


def test_it_tells_classes_apart_and_is_kept(tmp_path, quick, monkeypatch):
    (x, y), (x_held, y_held) = bars(256, 0), bars(100, 1)
    made = classifier(tmp_path, x, y, x_held, y_held)
    assert made.facts.accuracy == float((made.net.predict(x_held) == y_held).double().mean()) > 0.95
    assert f"{made.facts.accuracy:.1%} right on 100 held-out images" in made.words
    assert json.loads(made.path.with_suffix(".json").read_text())["accuracy"] == made.facts.accuracy
    features = made.net.features(x)
    assert features.shape == (256, module.FEATURES)
    assert np.square(features).mean() == pytest.approx(1, rel=1e-5)
    monkeypatch.setattr(module, "_train", None)
    again = classifier(tmp_path, x, y, x_held, y_held)
    assert (again.net.features(x) == features).all()
    assert again.facts == made.facts
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_it_depends_on_the_data_alone(tmp_path, quick):
    (x, y), (x_held, y_held) = bars(128, 0), bars(20, 1)
    first = classifier(tmp_path / "a", x, y, x_held, y_held)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    second = classifier(tmp_path / "b", x, y, x_held, None)
    assert (torch.get_rng_state() == state).all()
    assert (first.net.features(x) == second.net.features(x)).all()
    assert (second.facts.accuracy, "right" in second.words) == (None, False)
    assert classifier(tmp_path / "a", x, 1 - y, x_held, None).path != first.path
    assert classifier(tmp_path / "a", 1 - x, y, x_held, None).path != first.path


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 9), (2, 30, 7)])
def test_images_of_any_size(shape):
    net = Classifier(shape[0], 3)
    assert net.features(torch.rand(4, *shape)).shape == (4, module.FEATURES)
    assert net.predict(torch.rand(4, *shape)).shape == (4,)


def test_mistakes(tmp_path, quick):
    x, y = bars(128, 0)
    with pytest.raises(DataError, match="one class"):
        classifier(tmp_path, x, 0 * y, x, y)
    path = classifier(tmp_path, x, y, x, y).path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match="damaged"):
        classifier(tmp_path, x, y, x, y)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be saved"):
        classifier(tmp_path / "file", x, y, x, y)


def test_inception_is_never_downloaded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(RunError, match=r"no Inception weights.*nothing is downloaded"):
        Inception()
    weights = tmp_path / "checkpoints" / inception.WEIGHTS
    weights.parent.mkdir()
    weights.write_bytes(b"something else")
    with pytest.raises(RunError, match="published"):
        Inception()
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(b"something else").hexdigest())
    monkeypatch.setitem(sys.modules, "torchmetrics.image.fid", None)
    with pytest.raises(RunError, match=r"torchmetrics.*sdezoo\[inception\]"):
        Inception()


def test_inception_sees_coloured_bytes(monkeypatch):
    seen = []
    net = Inception.__new__(Inception)
    net._net = lambda part: seen.append(part) or part.float().mean((2, 3))
    for channels in (1, 2, 3, 4):
        net.features(torch.linspace(-0.2, 1.2, channels * 4).reshape(1, channels, 2, 2))
    assert all(part.dtype == torch.uint8 and part.shape == (1, 3, 2, 2) for part in seen)
    assert (seen[0][:, 0] == seen[0][:, 2]).all()
    assert (int(seen[0].min()), int(seen[0].max())) == (0, 255)
