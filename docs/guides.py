"""The guide `ipm` on images, as in docs/guides.md: feature-FID and KID of an under-trained model of MNIST, guided and not.

    python docs/guides.py MNIST.npz OUT

`MNIST.npz` holds `x_train`, `y_train`, `x_test`, `y_test`, with images `(N, 28, 28)` of bytes. A small network is trained for 300 steps on
10,000 of them, and 1000 samples at seed 1 are judged for each guide. Everything is seeded; with OMP_NUM_THREADS=1 it takes some minutes
of one core.
"""

import sys
import time
from pathlib import Path

import numpy as np

from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

TRIED = ("", "ipm:weight=300,count=512", "ipm:weight=10,count=512,components=16", "ipm:weight=100,count=512,components=16")


def judged(run: Path, spec: str) -> None:
    """Sample and evaluate; print FID and KID with intervals and floors, and the seconds of sampling."""
    begun = time.process_time()
    sample(run, run / "guided.npz", n=1000, seed=1, guides=[spec] if spec else [], overwrite=True)
    seconds = time.process_time() - begun
    lines = [line for line in evaluate(run, samples=run / "guided.npz").measured if line.name.startswith(("FID", "KID"))]
    figures = (f"{line.name} {line.value:.3f} ({line.interval[0]:.3f} … {line.interval[1]:.3f}), floor {line.floor:.3f}" for line in lines)
    print(f"{spec or 'unguided'}: {', '.join(figures)}; {seconds:.0f} s", flush=True)


def chosen(source: str) -> dict[str, np.ndarray]:
    """Read 10,000 training and 2000 test images with labels, chosen at random: a file may be sorted by class."""
    parts = {}
    with np.load(source) as held:
        for part, count in (("train", 10_000), ("test", 2000)):
            rows = np.random.default_rng(0).permutation(len(held[f"y_{part}"]))[:count]
            parts |= {name: held[name][rows] for name in (f"x_{part}", f"y_{part}")}
    return parts


def main(source: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    run, data = out / "run", out / "mnist.npz"
    if not run.exists():
        np.savez(data, **chosen(source))
        begun = time.process_time()
        settings = {"net": "unet:width=16", "steps": 300, "batch_size": 64, "ema_half_life_images": 2000, "device": "cpu"}
        train(TrainingConfig.build({"data": f"array:path={data}", "out": str(run), **settings}))
        print(f"trained in {time.process_time() - begun:.0f} s", flush=True)
    for spec in TRIED:
        judged(run, spec)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
