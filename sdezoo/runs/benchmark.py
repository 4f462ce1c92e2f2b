"""Benchmarks: ratios against something measured in the same run, never seconds by themselves."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from sdezoo.learning.model import ScoreModel
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import fitting
from sdezoo.zoo.registry import NETWORKS, SAMPLERS, SDES

_ROUNDS = 5
_STEPS = 10


@dataclass(frozen=True)
class Ratio:
    """What a sampler's loop takes over what its own network calls take; the median of some rounds.

    Both are measured in the same loop, call by call, so that a machine whose speed drifts does not disturb the ratio.
    """

    sampler: str
    sde: str
    ratio: float
    evaluations: int
    milliseconds_per_call: float


def loop_overhead(
    sde: str = "gbm", shape: tuple[int, ...] = (64, 1, 28, 28), report: Callable[[int, int], None] | None = None
) -> list[Ratio]:
    """For each sampler that fits `sde`: its loop against its calls of the U-Net, on a batch of `shape`, on the CPU."""
    process = SDES.build(sde)
    clock = _Clock(NETWORKS.build("unet").module(shape[1:]).eval())
    model = ScoreModel(process, clock.net)
    names = [name for name in fitting(process, SAMPLERS) if SAMPLERS.load(name).preserves_support]
    ratios = []
    for k, name in enumerate(names):
        ratios.append(_ratio(SAMPLERS.build(name), model, clock, shape))
        if report:
            report(k + 1, len(names))
    return ratios


class _Clock:
    """Adds up the time inside a network's calls."""

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


def _ratio(sampler: Sampler, model: ScoreModel, clock: _Clock, shape: tuple[int, ...]) -> Ratio:
    sampler.sample(model, shape, _STEPS)
    ratios, calls = [], []
    for _ in range(_ROUNDS):
        clock.reset()
        began = time.perf_counter()
        sampler.sample(model, shape, _STEPS)
        ratios.append((time.perf_counter() - began) / clock.seconds)
        calls.append(clock.seconds / clock.calls * 1000)
    return Ratio(sampler.spec, model.sde.spec, statistics.median(ratios), clock.calls, statistics.median(calls))
