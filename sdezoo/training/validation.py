"""The training loss of a batch, and the validation loss on held-out rows that compares checkpoints.

The validation loss is the mean of `k` losses per entry of the state, with the averaged weights::

    1/k Σ_i L(x_{i mod n}; t(u_i), noise_i),      u_i = (i + ½)/k,      k = min(512, 8 · batch),

`L` is the training loss and `x_i` are the `n` held-out rows, or `k` of them: at most the work of about three steps. Times have the
training distribution, without importance sampling, and are stratified. A conditional network gets the labels. Rows, times and noise are
the same at each checkpoint, so only the weights differ. Without held-out rows there is no validation loss.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.learning.loss import Batch, ScoreLoss
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.noise_levels import NoiseLevels, times_at
from sdezoo.process.noise import KeyedNoise, Noise, mix
from sdezoo.training.batches import BatchMaker

_HELD_OUT = -4  # a random key that no step 0, 1, … uses
_DRAWS, _BATCHES = 512, 8


def per_entry(loss: ScoreLoss, model: ScoreModel, batch: Batch, t: Tensor, noise: Noise, key: int) -> Tensor:
    """Loss of each sample, divided by the number of entries of its state.

    Args:
        loss: the score loss.
        model: the model.
        batch: the batch.
        t: times, `(B, 1, …, 1)`.
        noise: noise for the loss.
        key: seed of torch's generator, for dropout in the network.

    Returns:
        The losses, `(B,)`.
    """
    x0 = batch.x0
    with torch.random.fork_rng(devices=[x0.device] if x0.device.type == "cuda" else []):
        # Dropout in a network uses torch's global generator.
        torch.manual_seed(key)
        return loss(model, batch, t, noise) / math.prod(model.sde.state_shape(x0.shape)[1:])


class ValidationLoss:
    """The validation loss.

    Args:
        loss: the training loss.
        times: distribution of training times.
        seed: seed of training.
        data: the data, in the user's units.
        encoding: maps the user's units to the support of the process.
        classes: number of classes of a conditional network; None: unconditional.
        batch: training samples per step.
        size: rows per evaluation.
        device: device to compute on.
    """

    def __init__(
        self,
        loss: ScoreLoss,
        times: NoiseLevels,
        seed: int,
        data: Data,
        encoding: Encoding,
        classes: int | None,
        *,
        batch: int,
        size: int,
        device: torch.device,
    ) -> None:
        self._loss, self._times, self._key, self._size = loss, times, mix(seed, _HELD_OUT), size
        n, self._draws = len(data.test), min(_DRAWS, _BATCHES * batch)
        order = Noise.seeded(self._key).draw(lambda rows, generator: torch.randperm(len(rows), generator=generator), torch.empty(n))
        rows = order.repeat(-(-self._draws // n))[: self._draws] if n else order
        x0, labels = encoding.encode(data.test[rows]).to(device), None
        if classes is not None and data.test_labels is not None:
            labels = data.test_labels[rows].to(device)
        # A class that does not occur in training is treated as unlabelled.
        self._batches = BatchMaker(lambda places: x0[places.to(device)], labels=labels, unlabelled=classes or 0)
        self._there = n > 0

    def measure(self, model: ScoreModel) -> float | None:
        """Validation loss of `model`, which is on the device; None if there are no held-out rows or the loss is not finite."""
        if not self._there:
            return None
        training = model.training
        model.eval()
        # Some losses need autograd, so gradients stay enabled.
        total = sum(float(self._part(model, i).detach().double().sum()) for i in range(0, self._draws, self._size)) / self._draws
        model.train(training)
        return total if math.isfinite(total) else None

    def _part(self, model: ScoreModel, first: int) -> Tensor:
        places = torch.arange(first, min(first + self._size, self._draws))
        batch = self._batches.make(places)
        x0, noise = batch.x0, KeyedNoise(self._key, places.tolist(), ahead=1)
        dims = len(model.sde.state_shape(x0.shape))
        u = ((places.double() + 0.5) / self._draws).reshape(-1, *[1] * (dims - 1))
        t = times_at(self._times, model, self._loss.t_span(model.sde), u).to(x0)
        return per_entry(self._loss, model, batch, t, noise, mix(self._key, first))
