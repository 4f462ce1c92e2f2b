"""Benchmarks: ratios against something measured in the same run, never seconds by themselves."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from sdezoo.learning.model import ScoreModel
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import fitting
from sdezoo.zoo.registry import NETWORKS, SAMPLERS, SDES

_ROUNDS = 5
_STEPS = 6


@dataclass(frozen=True)
class Ratio:
    """Time of a sampler's loop over that of as many bare network calls; median of rounds that alternate the two."""

    sampler: str
    sde: str
    ratio: float
    evaluations: int
    milliseconds_per_call: float


def loop_overhead(
    sde: str = "gbm", shape: tuple[int, ...] = (64, 1, 28, 28), report: Callable[[int, int], None] | None = None
) -> list[Ratio]:
    """For each sampler that fits `sde`: its loop against bare calls of the U-Net on the same batch."""
    process = SDES.build(sde)
    net = NETWORKS.build("unet").module(shape[1:]).eval()
    model = ScoreModel(process, net, moments=None)
    names = [name for name in fitting(process, SAMPLERS) if SAMPLERS.load(name).preserves_support]
    ratios = []
    for k, name in enumerate(names):
        ratios.append(_ratio(SAMPLERS.build(name), model, shape))
        if report:
            report(k + 1, len(names))
    return ratios


def _ratio(sampler: Sampler, model: ScoreModel, shape: tuple[int, ...]) -> Ratio:
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = model.net.register_forward_hook(count)
    sampler.sample(model, shape, _STEPS)
    hook.remove()
    x, level = torch.randn(shape), torch.zeros(shape[0])

    def bare() -> None:
        with torch.no_grad():
            for _ in range(calls):
                model.net(x, level)

    pairs = [(_seconds(lambda: sampler.sample(model, shape, _STEPS)), _seconds(bare)) for _ in range(_ROUNDS)]
    each = statistics.median(b for _, b in pairs) / calls * 1000
    return Ratio(sampler.spec, model.sde.spec, statistics.median(a / b for a, b in pairs), calls, each)


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
