"""Bridges on problems with a known answer, and snapshots of cells with one left out.

    python docs/bridges.py gaussians [--sizes 1 5 20 50] [--rounds 4] [--steps 1000]
    python docs/bridges.py moons [--sigma 1] [--rounds 6] [--steps 2000]
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
from sklearn.datasets import make_moons

from sdezoo import DATASETS, TrainingConfig, restore, train
from sdezoo.bridging.rounds import round_folder
from sdezoo.bridging.snapshot_starts import AtKnot
from sdezoo.data.dataset import Data, Snapshot
from sdezoo.evaluation.measures.kernels import median_distance, mmd2
from sdezoo.evaluation.measures.transport import wasserstein
from sdezoo.generation.samples import choose_sampler
from sdezoo.runs.between.asked import Asked
from sdezoo.runs.between.directions import read_directions
from sdezoo.runs.between.left_out import compare_left_out
from sdezoo.runs.given_rows import training_data

COMPARED = 1000
ROWS = 50_000


def bridged(data: Data, folder: str, sde: str, net: str, steps: int, rounds: int) -> Path:
    """Train a bridge between points in memory; its run folder."""
    settings = {"sde": sde, "net": net, "steps": steps, "rounds": rounds, "batch_size": 512}
    settings |= {"lr": 2e-3, "shift": "none", "data": "memory", "out": f"{folder}/run"}
    return train(TrainingConfig.build(settings), data=data).run


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
            run = bridged(data, folder, f"bridge:sigma={sigma}", "mlp:width=64,depth=2", steps, rounds)
            seconds = time.perf_counter() - began
            for number in range(1, rounds + 1):
                start, stop = (0.0, 1.0) if number % 2 == 0 else (1.0, 0.0)
                end = carried(round_folder(run, number), fresh, start, stop)
                both = float((fresh * (end - end.mean(0))).mean())
                print(f"| {d} | {number} | {both:.4f} | {both / known - 1:+.1%} | {end.var(0).mean():.4f} | {seconds:.0f} |", flush=True)


def moons(sigma: float, rounds: int, steps: int) -> None:
    """Two moons and eight normal distributions on a circle: distances of rows that are carried from new rows at the end."""
    print("| round | W1 | of new rows (floor) | ratio | MMD² | floor | squared distance of pairs | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    sets = {"moons": [_moons(seed) for seed in range(4)], "eight": [_eight(seed) for seed in range(4)]}
    (a, *fresh_a), (b, *fresh_b) = sets["moons"], sets["eight"]
    data = Data(a, a[:0], "points", later=(Snapshot(1.0, b, b[:0]),))
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        run = bridged(data, folder, f"bridge:sigma={sigma}", "mlp:width=128,depth=3", steps, rounds)
        seconds = time.perf_counter() - began
        for number in range(1, rounds + 1):
            forward = number % 2 == 0
            (begin, *_), (_, truth, other) = (fresh_a, fresh_b) if forward else (fresh_b, fresh_a)
            end = carried(round_folder(run, number), begin[:2000], *((0.0, 1.0) if forward else (1.0, 0.0)))
            x, y, z = (rows[:2000].double().numpy() for rows in (truth, end, other))
            bandwidth, cost = median_distance(x), float((end - begin[:2000]).square().sum(1).mean())
            w1, floor = wasserstein(x, y), wasserstein(x, z)
            far, near = (mmd2(x, rows, bandwidth=bandwidth) for rows in (y, z))
            name = f"{number}, to the {'eight' if forward else 'moons'}"
            figures = f"{w1:.3f} | {floor:.3f} | {w1 / floor:.2f} | {far:.1e} | {near:.1e} | {cost:.2f}"
            print(f"| {name} | {figures} | {seconds:.0f} |", flush=True)


def _moons(seed: int) -> torch.Tensor:
    return torch.from_numpy(make_moons(ROWS, noise=0.1, random_state=seed)[0]).float() * 3 - 1


def _eight(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randint(8, (ROWS,), generator=generator) * math.pi / 4
    return 5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.3 * torch.randn(ROWS, 2, generator=generator)


def cells(path: str, columns: int, sigma: float, rounds: int, steps: int) -> None:
    """Leave out each snapshot but the first and the last in turn; distances in the units of the data."""
    times = DATASETS.build(f"snapshots:path={path}").load().snapshots
    for at in times[1:-1]:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"sde": f"bridge:sigma={sigma}", "data": f"snapshots:path={path},columns={columns},without=({at.time:g}),holdout=0"}
            settings |= {"steps": steps, "rounds": rounds, "batch_size": 256, "lr": 2e-3, "net": "mlp:width=128,depth=3"}
            began = time.perf_counter()
            run = train(TrainingConfig.build({**settings, "out": f"{folder}/run"})).run
            models = {name: one.trained for name, one in read_directions(run).items()}
            data, asked = training_data(run, models["forward"]), Asked(COMPARED, None, 0, None, torch.device("cpu"))
            found = compare_left_out(models, data, np.ones(columns), asked, lambda done, total, what: None)
            for measure, values in found.facts[f"{at.time:g}"].items():
                print(f"{at.time:g}, {measure}: ", ", ".join(f"{name} {value:.3f}" for name, value in values.items()), flush=True)
            print(f"{time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gaussians", "moons", "cells"])
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
    elif given.what == "moons":
        moons(given.sigma or 1.0, given.rounds, given.steps)
    else:
        cells(given.path, given.columns, given.sigma or 0.5, given.rounds, given.steps)
