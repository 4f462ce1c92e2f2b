"""Time of a sampler's loop relative to its calls of a U-Net.

Hooks on the network measure the time of its calls inside the same loop. A call takes tens of milliseconds, and its time varies between
runs by more than the overhead, so a separate loop of bare calls could not resolve an overhead of two percent.
"""

from __future__ import annotations

import time
from typing import Any

from torch import nn

from sdezoo.bench.table import Row, Table
from sdezoo.bench.timing import Reporter, Spread, seconds
from sdezoo.errors import SupportError
from sdezoo.learning.model import ScoreModel
from sdezoo.sampling.sampler import Sampler
from sdezoo.verification.efficiency import steps_for
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import NETWORKS, SAMPLERS, SDES

_FORMATS = {
    "sampler": "",
    "steps": "d",
    "calls": "d",
    "ratio": ".4f",
    "quartile_low": ".4f",
    "quartile_high": ".4f",
    "ms_a_call": ".1f",
    "note": "",
}


def loop_overhead(
    spec: str, seed: int, report: Reporter, *, shape: tuple[int, ...] = (64, 1, 28, 28), steps: int = 10, rounds: int = 3
) -> Table:
    """Measure the time of the loop relative to its network calls, for each sampler that fits the process.

    Args:
        spec: spec string of the process.
        seed: seed of the samples.
        report: reports progress.
        shape: shape of the batch, `(B, C, H, W)`.
        steps: number of steps. An adaptive sampler takes the most steps that fit into as many network calls.
        rounds: number of timed samples for each sampler.
    """
    process = SDES.build(spec)
    clock = _Clock(NETWORKS.build("unet:multipliers=(1,2)").module(shape[1:]).eval())
    model = ScoreModel(process, clock.net)
    samplers = [sampler for name, sampler in defaults(SAMPLERS) if sampler.refuses(process) is None and sampler.preserves_support]
    rows = []
    for k, sampler in enumerate(samplers, start=1):
        taken = (steps_for(sampler, steps) or 1) if sampler.adaptive else steps
        rows.append({"sampler": sampler.spec, "steps": taken, **_ratio(sampler, model, clock, shape, taken, rounds, seed)})
        report(k, len(samplers), detail=sampler.title())
    size = " × ".join(map(str, shape))
    return Table(f"A sampler's loop over its own network calls: {process.spec}, U-Net, {size}", _FORMATS, rows)


def _ratio(sampler: Sampler[Any], model: ScoreModel[Any], clock: _Clock, shape: tuple[int, ...], steps: int, rounds: int, seed: int) -> Row:
    ratios, each = [], []
    try:
        # Fold the steps before timing. They are folded once for all batch sizes, so a batch of one is enough.
        sampler.sample(model, (1, *shape[1:]), steps, seed)
        for _ in range(rounds):
            clock.reset()
            whole = seconds(lambda: sampler.sample(model, shape, steps, seed))
            ratios.append(whole / clock.seconds)
            each.append(clock.seconds / clock.calls * 1000)
    except SupportError as error:
        return {"note": f"samples of the untrained network cannot be decoded: {error.problem}"}
    ratio = Spread.of(ratios)
    return {
        "calls": clock.calls,
        "ratio": ratio.median,
        "quartile_low": ratio.low,
        "quartile_high": ratio.high,
        "ms_a_call": Spread.of(each).median,
    }


class _Clock:
    """Sums the time spent in calls of a network."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net
        self.reset()
        net.register_forward_pre_hook(self._enter)
        net.register_forward_hook(self._leave)

    def reset(self) -> None:
        self.calls, self.seconds, self._entered = 0, 0.0, 0.0

    def _enter(self, *_: object) -> None:
        self._entered = time.perf_counter()

    def _leave(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._entered
        self.calls += 1
