"""Bridges on problems with a known answer, and snapshots of cells with one left out.

    python docs/experiments/bridges.py gaussians [--sizes 1 5 20 50] [--rounds 4] [--steps 1000]
    python docs/experiments/bridges.py moons [--sigma 1] [--rounds 6] [--steps 2000]
    python docs/experiments/bridges.py snapshots [--sigma 1] [--rounds 4] [--steps 2000]
    python docs/experiments/bridges.py digits mnist.npz [--sigma 0.5] [--rounds 2] [--steps 2000]
    python docs/experiments/bridges.py cells cells.npz [--columns 5] [--sigma 0.3] [--rounds 4] [--seed 0]

Prints the tables of `docs/data/bridges.md`. `mnist.npz` holds images `x_train`, `x_test` with labels `y_train`, `y_test`.
`cells.npz` holds points `x` and their times `time`; every snapshot but the first and the last is
left out in turn, and judged against what the bridge through the others makes of it, and against the exact bridge between rows of its
neighbours, which needs no network.
"""

import argparse
import math
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import make_moons

from sdezoo import DATASETS, TrainingConfig, evaluate, restore, train
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


def snapshots(sigma: float, rounds: int, steps: int) -> None:
    """A normal distribution, two moons and eight normal distributions at times 0, 1 and 3: new rows are carried through all, either way."""
    print("| direction | at time | W1 | of new rows (floor) | ratio |")
    print("| --- | --- | --- | --- | --- |")
    knots = {0.0: _normal, 1.0: _moons, 3.0: _eight}
    first, *later = [Snapshot(t, rows := make(0), rows[:0]) for t, make in knots.items()]
    data = Data(first.train, first.train[:0], "points", later=tuple(later))
    with tempfile.TemporaryDirectory() as folder:
        run = bridged(data, folder, f"bridge:sigma={sigma}", "mlp:width=128,depth=3", steps, rounds)
        for number, order in ((rounds, [*knots]), (rounds - 1, [*reversed(knots)])):
            forward = order[0] == 0
            x = knots[order[0]](1)[:2000]
            for begin, at in pairwise(order):
                x = carried(round_folder(run, number), x, begin, at, seed=int(at))  # noise of its own for each span
                truth, other = (knots[at](seed)[:2000].double().numpy() for seed in (2, 3))
                w1, floor = wasserstein(truth, x.double().numpy()), wasserstein(truth, other)
                print(f"| {'forward' if forward else 'backward'} | {at:g} | {w1:.3f} | {floor:.3f} | {w1 / floor:.2f} |", flush=True)


def _normal(seed: int) -> torch.Tensor:
    return torch.randn(ROWS, 2, generator=torch.Generator().manual_seed(seed))


def _moons(seed: int) -> torch.Tensor:
    return torch.from_numpy(make_moons(ROWS, noise=0.1, random_state=seed)[0]).float() * 3 - 1


def _eight(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    angle = torch.randint(8, (ROWS,), generator=generator) * math.pi / 4
    return 5 * torch.stack([angle.cos(), angle.sin()], 1) + 0.3 * torch.randn(ROWS, 2, generator=generator)


def digits(path: str, sigma: float, rounds: int, steps: int) -> None:
    """MNIST at its own size: 2 and 3, each carried to the other; what `sdezoo evaluate` reports of 500 held-out images."""
    images = np.load(path)
    with tempfile.TemporaryDirectory() as folder:
        for digit in (2, 3):
            chosen = {f"x_{part}": images[f"x_{part}"][images[f"y_{part}"] == digit] for part in ("train", "test")}
            np.savez(f"{folder}/{digit}.npz", **chosen)
        settings = {"sde": f"bridge:sigma={sigma}", "data": f"{folder}/2.npz", "target": f"{folder}/3.npz", "out": f"{folder}/run"}
        settings |= {"net": "unet:width=16,multipliers=(1,2,2)", "task": "bridge:simulation_steps=10", "steps": steps, "batch_size": 64}
        for number in range(2, rounds + 1, 2):
            train(TrainingConfig.build({**settings, "rounds": number}), resume=number > 2)
            print(f"{number} rounds, {time.process_time() / 60:.0f} minutes of processor time", flush=True)
            print(evaluate(f"{folder}/run", n=500).text, flush=True)


def exact_bridge(left: torch.Tensor, right: torch.Tensor, share: float, scale: float) -> torch.Tensor:
    """The Schrödinger bridge between two sets of `n` rows at a share of the time, by Sinkhorn's iteration; `scale` is `σ √Δt`."""
    cost = torch.cdist(left, right).square().double() / (2 * scale**2)
    f, g, n = cost.new_zeros(len(left)), cost.new_zeros(len(right)), math.log(len(left))
    for _ in range(200):
        g = -torch.logsumexp(f[:, None] - cost, 0) - n
        f = -torch.logsumexp(g - cost, 1) - n
    generator = torch.Generator().manual_seed(0)
    partner = torch.multinomial((f[:, None] + g - cost).softmax(1), 1, generator=generator)[:, 0]
    spread = scale * math.sqrt(share * (1 - share))
    return (1 - share) * left + share * right[partner] + spread * torch.randn(left.shape, generator=generator)


def cells(path: str, columns: int, sigma: float, rounds: int, steps: int, seed: int) -> None:
    """Leave out each snapshot but the first and the last in turn; distances in the units of the data."""
    times = DATASETS.build(f"snapshots:path={path},columns={columns},holdout=0").load().snapshots
    for before, at, after in zip(times, times[1:], times[2:], strict=False):
        order = [torch.randperm(len(one.train), generator=torch.Generator().manual_seed(seed)) for one in (before, at, after)]
        n = min(COMPARED, *(len(one) // 2 for one in order))
        left, truth, right = (one.train[rows[:n]] for one, rows in zip((before, at, after), order, strict=True))
        span = after.time - before.time
        middle = exact_bridge(left, right, (at.time - before.time) / span, sigma * math.sqrt(span)).double().numpy()
        x = truth.double().numpy()
        figures = f"W1 {wasserstein(x, middle):.3f}, MMD² {mmd2(x, middle, bandwidth=median_distance(x)):.3f}"
        print(f"{at.time:g}, exact bridge between rows: {figures}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            settings = {"sde": f"bridge:sigma={sigma}", "data": f"snapshots:path={path},columns={columns},without=({at.time:g}),holdout=0"}
            settings |= {"steps": steps, "rounds": rounds, "batch_size": 256, "lr": 2e-3, "net": "mlp:width=128,depth=3", "seed": seed}
            began = time.perf_counter()
            run = train(TrainingConfig.build({**settings, "out": f"{folder}/run"})).run
            models = {name: one.trained for name, one in read_directions(run).items()}
            data, asked = training_data(run, models["forward"]), Asked(COMPARED, None, seed, None, torch.device("cpu"))
            found = compare_left_out(models, data, np.ones(columns), asked, lambda done, total, what: None)
            for measure, values in found.facts[f"{at.time:g}"].items():
                print(f"{at.time:g}, {measure}: ", ", ".join(f"{name} {value:.3f}" for name, value in values.items()), flush=True)
            print(f"{time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["gaussians", "moons", "snapshots", "digits", "cells"])
    parser.add_argument("path", nargs="?")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 5, 20, 50])
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--sigma", type=float)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "gaussians":
        gaussians(given.sizes, given.sigma or 1.0, given.rounds, given.steps)
    elif given.what == "moons":
        moons(given.sigma or 1.0, given.rounds, given.steps)
    elif given.what == "snapshots":
        snapshots(given.sigma or 1.0, given.rounds, given.steps)
    elif given.path is None:
        parser.error(f"{given.what} needs a file of data")
    elif given.what == "digits":
        digits(given.path, given.sigma or 0.5, given.rounds, given.steps)
    else:
        cells(given.path, given.columns, given.sigma or 0.3, given.rounds, given.steps, given.seed)
