"""Measure what docs/data/observed-paths.md states: `python docs/experiments/observed_paths.py`, a few minutes on one core.

Ratios of times within one run: the reversible Heun method against the midpoint method, each with its adjoint, and torchsde's Brownian
interval against keyed increments that are drawn again. The best of several repetitions counts.
"""

import time
from collections.abc import Callable

import torch
import torchsde
from torch import Tensor, nn

from sdezoo.learning.paths.observed import PathCoefficients
from sdezoo.process.torchsde_bridge import KeyedIntervals, PathEquation, brownian_interval, solve_path

ROWS, STEPS, REPEATS = 256, 64, 5


def equation(dtype: torch.dtype, columns: int) -> PathEquation:
    """Random networks of two hidden layers of 64."""
    torch.manual_seed(0)
    net = PathCoefficients(columns, width=64, depth=2, linear=False, constant=False, autonomous=True, positive=False, scheme="heun")
    for weight in net.parameters():
        nn.init.normal_(weight, std=0.1)
    return PathEquation(net.to(dtype), 1 / STEPS)


def best(run: Callable[[], object]) -> float:
    """Least processor time of several runs, in seconds."""
    seconds = []
    for _ in range(REPEATS):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return min(seconds)


def interval(z: Tensor) -> object:
    """torchsde's Brownian motion, with a cache of its default size."""
    return brownian_interval((len(z), z.shape[1]), float(STEPS), 1, z.dtype, cache=45)


def trained(columns: int, method: str, kind: str, dtype: torch.dtype = torch.float32) -> Callable[[], object]:
    """A forward and a backward pass."""
    sde = equation(dtype, columns)
    z, ends = torch.zeros(ROWS, columns, dtype=dtype), torch.tensor([0, STEPS])

    def once() -> None:
        noise = KeyedIntervals(1, range(ROWS), z) if kind == "keyed" else interval(z)
        if method == "reversible_heun":
            path = solve_path(sde, z, ends, noise)
        else:
            path = torchsde.sdeint_adjoint(sde, z, ends.to(z), bm=noise, method=method, adjoint_method=method, dt=1.0)
        path[-1].square().sum().backward()

    return once


def error(method: str, dtype: torch.dtype) -> float:
    """Relative L1 difference between the gradients of the adjoint and of back-propagation."""
    found = []
    for adjoint in (True, False):
        sde = equation(dtype, 2)
        z = torch.full((ROWS, 2), 0.5, dtype=dtype)
        noise, ends = brownian_interval((ROWS, 2), float(STEPS), 1, dtype), torch.tensor([0.0, STEPS], dtype=dtype)
        options = {"bm": noise, "method": method, "dt": 1.0}
        if adjoint:
            options["adjoint_method"] = "adjoint_reversible_heun" if method == "reversible_heun" else method
        path = (torchsde.sdeint_adjoint if adjoint else torchsde.sdeint)(sde, z, ends, **options)
        path[-1].square().sum().backward()
        found.append(torch.cat([weight.grad.flatten() for weight in sde.parameters() if weight.grad is not None]))
    return float((found[0] - found[1]).abs().sum() / found[1].abs().sum())


def noise(kind: str, rows: int) -> Callable[[], object]:
    """The increments of all steps, forward and then backward, as an adjoint method asks for them."""
    like, options = torch.zeros(rows, 1), {"size": (rows, 1), "entropy": 1}
    makers: dict[str, Callable[[], Callable[..., Tensor]]] = {
        "tree": lambda: torchsde.BrownianTree(0.0, like, t1=float(STEPS), entropy=1),
        "interval": lambda: torchsde.BrownianInterval(0.0, float(STEPS), **options),
        "keyed": lambda: KeyedIntervals(1, range(rows), like),
    }

    def once() -> None:
        path = makers[kind]()
        for order in (range(STEPS), reversed(range(STEPS))):
            for k in order:
                path(float(k), float(k + 1))

    return once


if __name__ == "__main__":
    torch.set_num_threads(1)
    for method in ("reversible_heun", "midpoint"):
        print(f"{method}: gradients differ by", *(f"{error(method, dtype):.1e} ({dtype})" for dtype in (torch.float64, torch.float32)))
    for columns in (1, 4):
        midpoint, heun = (best(trained(columns, method, "interval")) for method in ("midpoint", "reversible_heun"))
        keyed = best(trained(columns, "reversible_heun", "keyed"))
        print(f"{columns} columns, {STEPS} steps of {ROWS} rows: midpoint / reversible Heun {midpoint / heun:.2f}", end=", ")
        print(f"interval / keyed {heun / keyed:.2f}")
    for rows in (1, 256, 4096):
        tree, new, keyed = (best(noise(kind, rows)) for kind in ("tree", "interval", "keyed"))
        print(f"noise of {rows} rows, {STEPS} steps and back: tree / interval {tree / new:.2f}, keyed / interval {keyed / new:.2f}")
