"""The guide `ipm` on images, as in docs/guides.md: feature-FID and KID of an under-trained model of MNIST, guided and not.

    python docs/guides.py MNIST.npz OUT

`MNIST.npz` holds `x_train`, `y_train`, `x_test`, `y_test`, with images `(N, 28, 28)` of bytes. A small network is trained for 300 steps on
10,000 of them, and weights are tried with 500 samples at seed 0. Unguided samples and those of the best weights are then judged with 1000
at seed 1. Everything is seeded; with OMP_NUM_THREADS=1 it takes some minutes of one core.
"""

import sys
import time
from pathlib import Path

import numpy as np

from sdezoo.runs.evaluate import evaluate
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig

TRIED = {"all coordinates": ("", (300, 1000, 3000)), "16 components": (",components=16", (10, 30, 100, 300))}


def judged(run: Path, guides: list[str], *, n: int, seed: int) -> float:
    """Sample and evaluate; print FID and KID with intervals and the seconds of sampling; return the FID."""
    begun = time.process_time()
    sample(run, run / "guided.npz", n=n, seed=seed, guides=guides, overwrite=True)
    seconds = time.process_time() - begun
    lines = [line for line in evaluate(run, samples=run / "guided.npz", n=n).measured if line.name.startswith(("FID", "KID"))]
    figures = ", ".join(f"{line.name} {line.value:.4g} {line.interval}" for line in lines)
    print(f"{guides or 'unguided'}, n = {n}: {figures}; {seconds:.0f} s", flush=True)
    return lines[0].value


def main(source: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    run, data = out / "run", out / "mnist.npz"
    if not run.exists():
        with np.load(source) as held:
            parts = {name: held[name][: 10_000 if "train" in name else 2000] for name in ("x_train", "y_train", "x_test", "y_test")}
        np.savez(data, **parts)
        begun = time.process_time()
        settings = {"net": "unet:width=16", "steps": 300, "batch_size": 64, "ema_half_life_images": 2000, "device": "cpu"}
        train(TrainingConfig.build({"data": f"array:path={data}", "out": str(run), **settings}))
        print(f"trained in {time.process_time() - begun:.0f} s", flush=True)
    judged(run, [], n=500, seed=0)
    best = []
    for options, weights in TRIED.values():
        specs = [f"ipm:weight={weight},count=512{options}" for weight in weights]
        best.append(min(specs, key=lambda spec: judged(run, [spec], n=500, seed=0)))
    for spec in (None, *best):
        judged(run, [] if spec is None else [spec], n=1000, seed=1)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
