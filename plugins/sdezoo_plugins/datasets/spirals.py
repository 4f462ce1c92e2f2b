"""A toy distribution in the plane whose mass lies near two curves."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from sdezoo.data.dataset import Data, Dataset
from sdezoo.data.reading import check_size
from sdezoo.parameters import Count, Positive

_TURNS = 1.5


@dataclass(frozen=True)
class Spirals(Dataset):
    """Two interleaved spiral arms in the plane, with Gaussian noise.

        x = ± r (cos 3πr, sin 3πr) + noise · ε,   r² ~ U(0, 1),   ε ~ N(0, I)

    Both coordinates are unbounded. Half of the points lie on each arm, and the arm is the label. Every load gives the same points.
    """

    n: Count = 2000
    """Number of training points; as many are held out."""
    noise: Positive = 0.05
    """Standard deviation of the noise around the arms; the arms are 1/3 apart."""

    def load(self) -> Data:
        check_size("spirals", 4 * self.n)
        generator = Generator().manual_seed(0)
        (train, train_labels), (test, test_labels) = self._draw(generator), self._draw(generator)
        return Data(train, test, "points", train_labels=train_labels, test_labels=test_labels)

    def _draw(self, generator: Generator) -> tuple[Tensor, Tensor]:
        labels = torch.arange(self.n) % 2
        radius = torch.rand(self.n, generator=generator).sqrt() * (1 - 2 * labels)
        angle = 2 * math.pi * _TURNS * radius.abs()
        arms = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)
        return arms + self.noise * torch.randn(self.n, 2, generator=generator), labels
