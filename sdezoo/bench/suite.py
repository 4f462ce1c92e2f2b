"""The parts of the benchmark: each returns a table of ratios."""

from __future__ import annotations

from collections.abc import Callable

from sdezoo.bench.evaluations import evaluations_to_floor
from sdezoo.bench.loop import loop_overhead
from sdezoo.bench.memory import memory_use
from sdezoo.bench.noise import noise_cost
from sdezoo.bench.steps import step_costs
from sdezoo.bench.table import Table
from sdezoo.bench.timing import Reporter
from sdezoo.bench.training import training_loop

ADDITIVE = ("ve", "vp")
"""Spec strings of the additive processes that part `peers` measures in addition to the one given."""

PARTS: dict[str, Callable[[str, int, Reporter], Table]] = {
    "loop": loop_overhead,
    "training": training_loop,
    "peers": lambda sde, seed, report: step_costs(list(dict.fromkeys([sde, *ADDITIVE])), seed, report),
    "noise": lambda _, seed, report: noise_cost(seed, report),
    "memory": lambda _, seed, report: memory_use(seed, report),
    "nfe": lambda _, seed, report: evaluations_to_floor(seed, report),
}
"""Functions by name: called with the spec string of a process, a seed and a progress reporter."""
