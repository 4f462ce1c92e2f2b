"""Overhead of a sampling step beyond its network calls, for all samplers here and in other libraries, on the same tiny network.

The overhead per step is `(loop − bare) / steps`, where the bare loop makes as many calls of the same network and nothing else. The two
are timed alternately, and the median of their differences is reported. A timed call is the call of a user, including the initial noise
and the time steps. The first call is timed separately: in it sdezoo folds the steps of the grid, and reuses them for the next batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from sdezoo.bench.peers import theirs
from sdezoo.bench.table import Row, Table
from sdezoo.bench.timing import Reporter, Spread, alternating, one_thread, seconds
from sdezoo.bench.tiny import BATCH, ENTRIES, Contestant, TinyMLP, bare, calls_of
from sdezoo.learning.model import ScoreModel
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import defaults
from sdezoo.zoo.registry import SAMPLERS, SDES

_FORMATS = {
    "library": "",
    "process": "",
    "sampler": "",
    "calls": "d",
    "bare_us": ".1f",
    "added_us": ".1f",
    "quartile_low": ".1f",
    "quartile_high": ".1f",
    "of_fastest_peer": ".2f",
    "first_call_added_us": ".0f",
    "steps_per_second": ".0f",
    "note": "",
}


def step_costs(specs: Sequence[str], seed: int, report: Reporter, *, steps: int = 100, passes: int = 3, rounds: int = 7) -> Table:
    """Measure the overhead per step, in microseconds on one thread, of every sampler that fits and of other libraries.

    Args:
        specs: spec strings of the processes.
        seed: seed of the samples.
        report: reports progress.
        steps: number of steps.
        passes: how often to go through all samplers.
        rounds: timed calls of a sampler in each pass.
    """
    net = TinyMLP().eval()
    peers, missing = theirs(net, steps)
    contestants = [*(one for spec in specs for one in _ours(net, spec, steps, seed)), *peers]
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        samples = [_Samples(net, one, steps) for one in contestants]
        done, total = 0, passes * len(samples)
        for _ in range(passes):
            for one in samples:
                one.take(rounds)
                done += 1
                report(done, total, detail=one.contestant.sampler)
    fastest = min((one.added.median for one in samples if one.contestant in peers), default=None)
    rows = [one.row(fastest) for one in samples] + [{"library": library, "note": why} for library, why in missing.items()]
    return Table(
        f"What a step adds to its network calls, in microseconds: an MLP 3 → 64 → 64 → 2, batch {BATCH}, {steps} steps, one thread",
        _FORMATS,
        rows,
    )


def _ours(net: nn.Module, spec: str, steps: int, seed: int) -> list[Contestant]:
    sde = SDES.build(spec)

    def contestant(sampler: Sampler[Any]) -> Contestant:
        def prepare() -> Callable[[], object]:
            model = ScoreModel(sde, net)
            return lambda: sampler.sample(model, (BATCH, ENTRIES), steps, seed)

        return Contestant("sdezoo", sampler.spec, sde.spec, prepare)

    # With an untrained network, a sampler that does not preserve the support leaves it.
    return [contestant(sampler) for _, sampler in defaults(SAMPLERS) if sampler.refuses(sde) is None and sampler.preserves_support]


class _Samples:
    """The timings of one contestant."""

    def __init__(self, net: nn.Module, contestant: Contestant, steps: int) -> None:
        self.contestant, self._steps = contestant, steps
        self._calls = calls_of(net, contestant.prepare())
        self._bare = bare(net, self._calls)
        self._firsts: list[float] = []
        self._bares: list[float] = []
        self._loops: list[float] = []

    def take(self, rounds: int) -> None:
        """Time a first call, then `rounds` calls alternately with the bare loop."""
        sample = self.contestant.prepare()
        self._firsts.append(seconds(sample))
        bares, loops = alternating(self._bare, sample, rounds)
        self._bares += bares
        self._loops += loops

    @property
    def added(self) -> Spread:
        """Overhead per step, in microseconds."""
        return Spread.of([(loop - alone) * 1e6 / self._steps for alone, loop in zip(self._bares, self._loops, strict=True)])

    def row(self, fastest: float | None) -> Row:
        """The row of the table.

        Args:
            fastest: least overhead of the other libraries, in microseconds per step; None: none is installed.
        """
        alone, loop, first = (Spread.of(values).median for values in (self._bares, self._loops, self._firsts))
        added = self.added
        return {
            "library": self.contestant.library,
            "process": self.contestant.process,
            "sampler": self.contestant.sampler,
            "calls": self._calls,
            "bare_us": alone * 1e6 / self._steps,
            "added_us": added.median,
            "quartile_low": added.low,
            "quartile_high": added.high,
            "of_fastest_peer": None if fastest is None else added.median / fastest,
            "first_call_added_us": (first - alone) * 1e6 / self._steps,
            "steps_per_second": self._steps / loop,
        }
