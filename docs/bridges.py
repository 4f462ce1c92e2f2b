"""Bridges on problems with a known answer, and snapshots of cells with one left out.

    python docs/bridges.py gaussians [--sizes 1 5 20 50] [--rounds 4] [--steps 1000]
    python docs/bridges.py cells cells.npz [--columns 5] [--sigma 0.5] [--rounds 4]

Prints the tables of `docs/bridges.md`. `cells.npz` holds points `x` and their times `time`; every snapshot but the first and the last is
left out in turn, and judged against what the bridge through the others makes of it.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from sdezoo import DATASETS, TrainingConfig, restore, train
from sdezoo.bridging.rounds import round_folder
from sdezoo.bridging.snapshot_starts import AtKnot
from sdezoo.data.dataset import Data, Snapshot
from sdezoo.evaluation.measures.kernels import median_distance, mmd2
from sdezoo.generation.samples import choose_sampler

COMPARED = 1000
ROWS = 50_000


def carried(run: Path, x: torch.Tensor, start: float, stop: float, seed: int = 0, steps: int = 20) -> torch.Tensor:
    """Where the model of a run carries rows, from a snapshot to a time."""
    trained = restore(run)
    first, last = trained.model.sde.own_time(torch.tensor([start, stop])).tolist()
    begin = AtKnot(trained.encoding.encode(x), first, last, (last,))
    out = choose_sampler(trained, None).sample(trained.model, tuple(x.shape), steps, seed, start=begin)
    return trained.encoding.decode(out)


def gaussians(sizes: list[int], sigma: float, rounds: int, steps: int) -> None:
    """Unit Gaussians: covariances of a start and where it is carried, over that of the Schrödinger bridge."""
    known = (math.sqrt(4 + sigma**4) - sigma**2) / 2
    print(f"| d | round | covariance, mean over entries (exact: {known:.4f}) | error | variance of the end | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for d in sizes:
        a, b, fresh = (torch.randn(ROWS, d, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2, 3))
        fresh = (fresh - fresh.mean(0)) / fresh.std(0)
        data = Data(a, a[:0], "points", later=(Snapshot(1.0, b, b[:0]),))
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            settings = {"sde": f"bridge:sigma={sigma}", "net": "mlp:width=64,depth=2", "steps": steps, "rounds": rounds, "batch_size": 512}
            settings |= {"lr": 2e-3, "shift": "none", "data": "memory", "out": f"{folder}/run"}
            run = train(TrainingConfig.build(settings), data=data).run
            seconds = time.perf_counter() - began
            for number in range(1, rounds + 1):
                start, stop = (0.0, 1.0) if number % 2 == 0 else (1.0, 0.0)
                end = carried(round_folder(run, number), fresh, start, stop)
                both = float((fresh * (end - end.mean(0))).mean())
                print(f"| {d} | {number} | {both:.4f} | {both / known - 1:+.1%} | {end.var(0).mean():.4f} | {seconds:.0f} |", flush=True)


def wasserstein(x: np.ndarray, y: np.ndarray) -> float:
    cost = cdist(x, y)
    return float(cost[linear_sum_assignment(cost)].mean())


def cells(path: str, columns: int, sigma: float, rounds: int, steps: int) -> None:
    whole = DATASETS.build(f"snapshots:path={path},columns={columns},holdout=0").load().snapshots
    print("| left out | samples | W1 | MMD² |\n| --- | --- | --- | --- |")
    for k in range(1, len(whole) - 1):
        before, at, after = whole[k - 1 : k + 2]
        generator = np.random.default_rng(k)
        truth, other = np.array_split(generator.permutation(at.train.numpy())[: 2 * COMPARED], 2)
        left, right = (generator.permutation(each.train.numpy())[:COMPARED] for each in (before, after))
        share = (at.time - before.time) / (after.time - before.time)
        paired = right[linear_sum_assignment(cdist(left, right, "sqeuclidean"))[1]]
        rivals = {
            "real rows (floor)": other,
            "linear interpolation, optimal transport": (1 - share) * left + share * paired,
            "linear interpolation, independent pairs": (1 - share) * left + share * right,
            "the snapshot before": left,
            "the snapshot after": right,
        }
        with tempfile.TemporaryDirectory() as folder:
            settings = {"sde": f"bridge:sigma={sigma}", "data": f"snapshots:path={path},columns={columns},without=({at.time:g})"}
            settings |= {
                "steps": steps,
                "rounds": rounds,
                "batch_size": 256,
                "lr": 2e-3,
                "net": "mlp:width=128,depth=3",
                "out": f"{folder}/run",
            }
            run = train(TrainingConfig.build(settings)).run
            for number in range(1, rounds + 1):
                begin, rows = (before, left) if number % 2 == 0 else (after, right)
                end = carried(round_folder(run, number), torch.from_numpy(rows), begin.time, at.time)
                rivals[f"bridge, round {number}, {'forward' if number % 2 == 0 else 'backward'}"] = end.numpy()
        bandwidth = median_distance(truth)
        for name, rows in rivals.items():
            print(f"| {at.time:g} | {name} | {wasserstein(truth, rows):.3f} | {mmd2(truth, rows, bandwidth=bandwidth):.4f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gaussians", "cells"])
    parser.add_argument("path", nargs="?", default="cells.npz")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 5, 20, 50])
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--sigma", type=float)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "gaussians":
        gaussians(given.sizes, given.sigma or 1.0, given.rounds, given.steps)
    else:
        cells(given.path, given.columns, given.sigma or 0.5, given.rounds, given.steps)
