"""A small image classifier whose last hidden layer gives the features that images are compared by.

Three convolutions, a layer of 64 features and a layer of classes, trained on the labels of the training data with a fixed seed: a
feature extractor that needs no download and fits the data at hand. Its features capture what separates the classes and not much
else, and distances between them are not comparable with published FIDs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load as deserialize
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sdezoo.errors import DataError, RunError
from sdezoo.evaluation.rows import FloatArray
from sdezoo.process.noise import Noise, mix

FEATURES = 64
"""Width of the last hidden layer."""

_RECIPE = 1  # raise it with every change of the network or its training, so that no older classifier is reused
_RECORD = 2**16  # most bytes of a record, and of the header of the weights
_SEED, _BATCH, _STEPS, _EPOCHS, _RATE, _CHUNK = 0, 64, 1000, 40, 5e-3, 256


@dataclass(frozen=True)
class Facts:
    """What is known of a classifier, besides its weights.

    Args:
        channels: number of image channels.
        classes: number of classes.
        steps: number of training steps.
        accuracy: accuracy on held-out images, in [0, 1]; None if they have no labels.
        held_out: number of held-out images.
    """

    channels: int
    classes: int
    steps: int
    accuracy: Annotated[float, Field(ge=0, le=1)] | None
    held_out: int


_FACTS = TypeAdapter(Facts)


class Classifier(nn.Module):
    """A small convolutional classifier of images `(n, C, H, W)` of any size.

    Args:
        channels: number of image channels `C`.
        classes: number of classes.
    """

    size: Tensor
    """Root mean square of the features of the training images, 0-dim."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2, ceil_mode=True),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(3),
            nn.Flatten(),
            nn.Linear(64 * 9, FEATURES),
            nn.ReLU(),
        )
        self.head = nn.Linear(FEATURES, classes)
        self.register_buffer("size", torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, `(n, classes)`, of images `(n, C, H, W)` in [0, 1]."""
        return self.head(self.body(2 * images - 1))

    def features(self, images: Tensor) -> FloatArray:
        """Return the last hidden layer, `(n, 64)`, divided by `size`, since its scale is an accident of training."""
        with torch.no_grad():
            return torch.cat([self.body(2 * part - 1) / self.size for part in images.float().split(_CHUNK)]).double().numpy()

    def predict(self, images: Tensor) -> Tensor:
        """Return the most likely class of each image, `(n,)`."""
        with torch.no_grad():
            return torch.cat([self(part).argmax(1) for part in images.float().split(_CHUNK)])


@dataclass(frozen=True, eq=False)
class Judge:
    """A trained classifier."""

    net: Classifier
    """The network, in eval mode."""
    facts: Facts
    """What is known of it."""
    path: Path
    """File of its weights."""

    @property
    def words(self) -> str:
        """Summary for the reader, one line."""
        right = "" if self.facts.accuracy is None else f", {self.facts.accuracy:.1%} right on {self.facts.held_out} held-out images"
        return f"Classifier: trained on the classes of the training images{right}; {self.path}"

    @property
    def record(self) -> dict[str, Any]:
        """The same facts for JSON."""
        return {"classifier": {"file": str(self.path), **asdict(self.facts)}}


def classifier(folder: Path, images: Tensor, labels: Tensor, held_out: Tensor, held_out_labels: Tensor | None) -> Judge:
    """Return the classifier of a training set; load it from `folder` if it was trained before, else train and save it.

    Args:
        folder: holds `classifier-FINGERPRINT.safetensors` and `.json`; the fingerprint is that of images, labels and recipe.
        images: training images, `(n, C, H, W)`, in [0, 1].
        labels: their classes, whole numbers from 0, `(n,)`.
        held_out: held-out images, `(m, C, H, W)`.
        held_out_labels: their classes, `(m,)`, for the accuracy; or None.

    Raises:
        DataError: if there are fewer than two classes.
        RunError: if a saved classifier is damaged, or the new one cannot be saved.
    """
    classes = int(labels.max()) + 1
    if len(labels.unique()) < 2:
        raise DataError("All images are of one class, so no classifier can be trained.", "Give labels of two classes or more.")
    path = folder / f"classifier-{_fingerprint(images, labels)}.safetensors"
    if path.exists() and path.with_suffix(".json").exists():
        return Judge(*_load(path, images.shape[1], classes), path)
    steps = min(_STEPS, _EPOCHS * -(-len(images) // _BATCH))
    made = _train(images, labels, classes, steps)
    right = None if held_out_labels is None else float((made.predict(held_out) == held_out_labels).double().mean())
    facts = Facts(images.shape[1], classes, steps, right, len(held_out))
    _save(path, made, facts)
    return Judge(made, facts, path)


def _train(images: Tensor, labels: Tensor, classes: int, steps: int) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(mix(_SEED))
        made = Classifier(images.shape[1], classes)
    optimizer = torch.optim.AdamW(made.parameters(), lr=_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=_RATE, total_steps=steps)
    for _, rows in zip(range(steps), _batches(len(images)), strict=False):
        optimizer.zero_grad()
        cross_entropy(made(images[rows].float()), labels[rows]).backward()
        optimizer.step()
        schedule.step()
    made.size.fill_(float(np.sqrt(np.square(made.features(images)).mean())))
    return made.eval().requires_grad_(False)


def _batches(count: int) -> Iterator[Tensor]:
    """Yield indices of batches without end; every row appears once per epoch."""
    epoch = 0
    while True:
        noise = Noise.seeded(_SEED, epoch)
        order = noise.draw(lambda rows, generator: torch.randperm(len(rows), generator=generator), torch.empty(count))
        yield from order.split(_BATCH)
        epoch += 1


def _fingerprint(images: Tensor, labels: Tensor) -> str:
    digest = hashlib.sha256(str((_RECIPE, tuple(images.shape))).encode())
    for tensor in (images.float(), labels.long()):
        digest.update(memoryview(tensor.cpu().contiguous().numpy()))  # pyright: ignore[reportArgumentType]
    return digest.hexdigest()[:12]


def _save(path: Path, made: Classifier, facts: Facts) -> None:
    record = path.with_suffix(".json")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(record, (json.dumps(asdict(facts), indent=1) + "\n").encode())
        _replace(path, serialize(made.state_dict()))
    except (OSError, SafetensorError) as error:
        raise RunError(f"The classifier cannot be saved as '{path}' ({error}).", "Make room there, or permit writing.") from error


def _replace(path: Path, content: bytes) -> None:
    """Write a file beside its place, and rename it; a link in either place is removed, not followed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:
            file.write(content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _load(path: Path, channels: int, classes: int) -> tuple[Classifier, Facts]:
    """The classifier of images with so many channels and classes; the files may come from somebody else."""
    try:
        facts = _FACTS.validate_json(_read(path.with_suffix(".json"), _RECORD))
        if (facts.channels, facts.classes) != (channels, classes):
            raise ValueError
        made = Classifier(channels, classes)
        most = 2 * sum(value.nbytes for value in made.state_dict().values()) + _RECORD
        made.load_state_dict(deserialize(_read(path, most)))
        if not made.size > 0 or not all(bool(value.isfinite().all()) for value in made.state_dict().values()):
            raise ValueError
    except (OSError, SafetensorError, ValueError, RuntimeError):
        raise RunError(f"The classifier '{path}' is damaged.", "Remove it to have it trained again.") from None
    return made.eval().requires_grad_(False), facts


def _read(path: Path, most: int) -> bytes:
    """The contents of a regular file of at most so many bytes."""
    if not path.is_file():
        raise OSError
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError
    return content
