"""What training minimizes: on a batch, and on held-out rows to tell one checkpoint from another.

The held-out loss is the mean of `k` losses for one entry of the state, of the averaged weights::

    1/k Σ_i L(x_{i mod n}; t(u_i), noise_i),      u_i = (i + ½)/k,      k = min(512, 8 · batch),

`L` the training's own loss, over the `n` held-out rows, or `k` of them: about as much work as three steps, at most. Times are the
quantiles that training draws, without importance sampling; labels are given to a network that takes them. Rows, times and noise are
the same at each checkpoint: what differs are the weights. Where there are no held-out rows there is no such loss.
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

_HELD_OUT = -4  # a key beside the steps 0, 1, …
_DRAWS, _BATCHES = 512, 8


def per_entry(loss: ScoreLoss, model: ScoreModel, batch: Batch, t: Tensor, noise: Noise, key: int) -> Tensor:
    """The loss of each sample, `(B,)`, over the number of entries of its state; `key` fixes what the network draws by itself."""
    x0 = batch.x0
    with torch.random.fork_rng(devices=[x0.device] if x0.device.type == "cuda" else []):
        # What a network draws by itself, in dropout, comes from torch's own generator.
        torch.manual_seed(key)
        return loss(model, batch, t, noise) / math.prod(model.sde.state_shape(x0.shape)[1:])


class ValidationLoss:
    """The held-out loss.

    Args:
        loss: that of training.
        times: how training draws times.
        seed: of training.
        data: in the user's units.
        encoding: from the user's units to the process's domain.
        classes: how many labels the network takes; None: none.
        batch: samples a step.
        size: rows at a time.
        device: to compute on.
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
        # A class that training did not have is one that is not told.
        self._batches = BatchMaker(lambda places: x0[places.to(device)], labels=labels, unlabelled=classes or 0)
        self._there = n > 0

    def measure(self, model: ScoreModel) -> float | None:
        """The loss of `model`, on the device; None where there are no rows, or it is not finite."""
        if not self._there:
            return None
        training = model.training
        model.eval()
        # Some losses differentiate: gradients stay on.
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
