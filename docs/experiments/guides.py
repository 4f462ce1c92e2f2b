"""Guides that correct an under-trained model of images, as in docs/models/guides.md: feature-FID and KID of samples, guided and not.

    python docs/experiments/guides.py MNIST.npz OUT [SPEC ...]

`MNIST.npz` holds `x_train`, `y_train`, `x_test`, `y_test`, with images `(N, 28, 28)` of bytes. A small network is trained for 300 steps on
10,000 of them, chosen at random. For each guide, given as a spec string (`none`: unguided), 1000 samples at each of three seeds are judged.
Everything is seeded; with OMP_NUM_THREADS=1 the guides of the table take half an hour of one core.

The guide `dg` below is discriminator guidance, for comparison, and an example of a guide that trains something of its own.
"""

import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, silu

from sdezoo import GUIDES, AffineSDE, Model, Noise, Reference
from sdezoo.evaluation.measures.classifier import classifier
from sdezoo.evaluation.measures.frechet import frechet_distance
from sdezoo.evaluation.measures.kernels import kid
from sdezoo.evaluation.resampling import halves
from sdezoo.evaluation.rows import FloatArray
from sdezoo.evaluation.sizes import compared_rows, sizes
from sdezoo.parameters import Count, NonNegative
from sdezoo.runs.given_rows import read_samples, training_data
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.sampling.guide import Guide
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig

SEEDS = 1, 2, 3
TRIED = (
    "none",
    "ipm:weight=10,count=512,components=16",
    "ipm:features=network,weight=2,count=1024",
    "dg:weight=2",
)


class Discriminator(nn.Module):
    """Convolutions of noised images `(B, C, H, W)`, scaled and shifted by the noise level: logits of being data, `(B,)`."""

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        widths = [channels, width, 2 * width, 2 * width]
        self.body = nn.ModuleList(nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.GroupNorm(8, b, affine=False) for b in widths[1:])
        self.levels = nn.ModuleList(nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 2 * b)) for b in widths[1:])
        self.head = nn.Sequential(nn.Dropout(0.3), nn.LazyLinear(1))

    def forward(self, z: Tensor, level: Tensor) -> Tensor:
        waves = torch.cat([level[:, None] * 0.5**k for k in range(4)], 1)
        waves, h = torch.cat([waves.sin(), waves.cos()], 1), z
        for layer, norm, scale in zip(self.body, self.norms, self.levels, strict=True):
            a, c = scale(waves)[..., None, None].chunk(2, 1)
            h = silu((1 + a) * norm(layer(h)) + c)
        return self.head(h.flatten(1))[:, 0]


@dataclass(frozen=True)
class DG(Guide[AffineSDE]):
    """Discriminator guidance (Kim et al., ICML 2023): `s + w ∇ log d/(1 − d)`, `d` trained to tell noised data from a noised pilot."""

    needs_rows: ClassVar[bool] = True

    weight: NonNegative = 1.0
    """Weight `w`."""
    count: Count = 1024
    """Number of rows in the pilot."""
    steps: Count = 1000
    """Training steps of the discriminator."""

    def around(self, model: Model[AffineSDE], reference: Reference) -> Model[AffineSDE]:
        if not self.weight:
            return model
        data, pilot = reference.data(10_000, None), reference.pilot(self.count, None)
        logit = reference.once("discriminator", lambda: self._trained(model.sde, data, pilot, reference.seed))
        return Refined(model, self.weight, logit)

    def _trained(self, sde: AffineSDE, data: Tensor, pilot: Tensor, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
        """The logit of the steps that are best on an eighth of the rows, which is left out."""
        torch.manual_seed(seed)
        spread = float(sde.encode(data).std())

        def seen(z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            k = sde.at(t, z)
            ratio = k.ratio.reshape(-1).expand(len(z))
            return (z - k.shift) / k.alpha / (k.ratio**2 + spread**2).sqrt(), 4 * ratio.log().to(z)

        def loss(rows: Sequence[Tensor], noise: Noise) -> Tensor:
            x = torch.cat([part[torch.randint(len(part), (96,))] for part in rows])
            lo, hi = sde.t_span
            t = (lo + (hi - lo) * torch.rand(96)).repeat(2)[:, None, None, None]
            right = torch.tensor([1.0, 0.0]).repeat_interleave(96)
            return binary_cross_entropy_with_logits(net(*seen(sde.perturb(x, t, noise), t)), right)

        net, noise = Discriminator(data.shape[1]), Noise(torch.Generator().manual_seed(seed))
        learned, kept = ([part[part_of(part, out)] for part in (data, pilot)] for out in (False, True))
        with torch.enable_grad():
            loss(learned, noise)  # the last layer takes its size from the first batch
            optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
            best, weights = math.inf, net.state_dict()
            for step in range(1, self.steps + 1):
                optimizer.zero_grad()
                loss(learned, noise).backward()
                optimizer.step()
                if step % 100 == 0:
                    net.eval()
                    with torch.no_grad():
                        held = float(torch.stack([loss(kept, noise) for _ in range(10)]).mean())
                    net.train()
                    if held < best:
                        best, weights = held, {name: value.clone() for name, value in net.state_dict().items()}
        net.load_state_dict(weights)
        net.eval().requires_grad_(False)
        print(f"  discriminator: cross-entropy {best:.4f} on rows left out, where 0.6931 is chance", flush=True)
        return lambda z, t: net(*seen(z, t))


def part_of(rows: Tensor, out: bool) -> Tensor:
    """Every eighth row is left out."""
    return (torch.arange(len(rows)) % 8 == 0) == out


class Refined(Model[AffineSDE]):
    """A model whose score has the slope of a logit added: `s + w ∇ log d/(1 − d)`."""

    def __init__(self, model: Model[AffineSDE], weight: float, logit: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.model, self.weight, self.logit, self.sde = model, weight, logit, model.sde

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self.model.score(z, t) + self.slope(z, t)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        k = self.sde.at(t, z)
        return self.model.denoise(z, t) + k.variance / k.alpha * self.slope(z, t)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.model.prior(shape, noise, like)

    def slope(self, z: Tensor, t: Tensor) -> Tensor:
        with torch.enable_grad():
            z = z.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.logit(z, t).sum(), z)
        return self.weight * found


def features(run: Path, samples: Path) -> list[FloatArray]:
    """Features of held-out images, samples and training images, the same as `sdezoo evaluate` compares."""
    trained = restore(run)
    data = training_data(run, trained)
    x = (read_samples(samples, trained).clamp(0, 1) * 255).round() / 255
    held_out, floor = compared_rows(data.train, data.test, sizes(len(x), training=len(data.train), held_out=len(data.test), image=True), 0)
    assert data.train_labels is not None, "MNIST has labels"
    judge = classifier(run / "evaluation", data.train, data.train_labels, data.test, data.test_labels)
    return [judge.net.features(part) for part in (held_out, x, floor)]


def distances(a: FloatArray, b: FloatArray) -> list[float]:
    """FID and KID."""
    return [frechet_distance(a, b), kid(a, b)]


def judged(run: Path, spec: str, seed: int) -> None:
    """Sample and evaluate; print FID and KID with intervals and floors, and the seconds of sampling."""
    begun = time.process_time()
    sample(run, run / "guided.npz", n=1000, seed=seed, guides=[] if spec == "none" else [spec], overwrite=True)
    seconds = time.process_time() - begun
    held_out, samples, training = features(run, run / "guided.npz")
    found = zip(distances(held_out, samples), halves(distances, (held_out, samples)), distances(held_out, training), strict=True)
    figures = [f"{value:.3f} ({low:.3f} … {high:.3f}), floor {floor:.3f}" for value, (low, high), floor in found]
    print(f"{spec}, seed {seed}: FID {figures[0]}, KID {figures[1]}; {seconds:.0f} s", flush=True)


def chosen(source: str) -> dict[str, Any]:
    """Read 10,000 training and 2000 test images with labels, chosen at random: a file may be sorted by class."""
    parts = {}
    with np.load(source) as held:
        for part, count in (("train", 10_000), ("test", 2000)):
            rows = np.random.default_rng(0).permutation(len(held[f"y_{part}"]))[:count]
            parts |= {name: held[name][rows] for name in (f"x_{part}", f"y_{part}")}
    return parts


def main(source: str, out: Path, specs: Sequence[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    run, data = out / "run", out / "mnist.npz"
    if not run.exists():
        np.savez(data, **chosen(source))
        begun = time.process_time()
        settings = {"net": "unet:width=16", "steps": 300, "batch_size": 64, "ema_half_life_images": 2000, "device": "cpu"}
        train(TrainingConfig.build({"data": f"array:path={data}", "out": str(run), **settings}))
        print(f"trained in {time.process_time() - begun:.0f} s", flush=True)
    GUIDES.add(DG, __file__)
    for spec in specs or TRIED:
        for seed in SEEDS:
            judged(run, spec, seed)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
