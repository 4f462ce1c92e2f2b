"""Time of keyed noise, which does not depend on the batch, relative to `torch.randn`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from sdezoo.bench.table import Table
from sdezoo.bench.timing import Reporter, Spread, alternating, one_thread
from sdezoo.process.noise import KeyedNoise, Noise

_FORMATS = {
    "event_size": "d",
    "randn_us": ".1f",
    "keyed_us": ".1f",
    "ratio": ".2f",
    "quartile_low": ".2f",
    "quartile_high": ".2f",
    "ratio_with_seeding": ".2f",
}


def noise_cost(
    seed: int, report: Reporter, *, sizes: Sequence[int] = (2, 8, 64, 784, 3072), rows: int = 64, requests: int = 100, rounds: int = 15
) -> Table:
    """Measure the time of keyed noise relative to `torch.randn` for each event size.

    `ratio_with_seeding` includes the construction of both generators.

    Args:
        seed: seed of the noise.
        report: reports progress.
        sizes: event sizes.
        rows: rows of a request.
        requests: requests in a timed call.
        rounds: number of timed calls.
    """
    found = []
    with one_thread():
        for k, size in enumerate(sizes, start=1):
            like = torch.empty(rows, size)

            def keyed() -> Noise:
                return KeyedNoise(seed, range(rows))

            def plain() -> torch.Generator:
                return torch.Generator().manual_seed(seed)

            drawing, whole = [], []
            plain_us, keyed_us = [], []
            for _ in range(rounds):
                generator, source = plain(), keyed()
                (a,), (b,) = alternating(_randn(generator, like, requests), _normal(source, like, requests), 1)
                (c,), (d,) = alternating(plain, keyed, 1)
                drawing.append(b / a)
                whole.append((b + d) / (a + c))
                plain_us.append(a * 1e6 / requests)
                keyed_us.append(b * 1e6 / requests)
            ratio = Spread.of(drawing)
            found.append(
                {
                    "event_size": size,
                    "randn_us": Spread.of(plain_us).median,
                    "keyed_us": Spread.of(keyed_us).median,
                    "ratio": ratio.median,
                    "quartile_low": ratio.low,
                    "quartile_high": ratio.high,
                    "ratio_with_seeding": Spread.of(whole).median,
                }
            )
            report(k, len(sizes), detail=f"{size} numbers a row")
    return Table(f"Keyed noise over torch.randn: {rows} rows, {requests} requests, microseconds a request, one thread", _FORMATS, found)


def _randn(generator: torch.Generator, like: torch.Tensor, requests: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(requests):
            torch.randn(like.shape, generator=generator)

    return run


def _normal(noise: Noise, like: torch.Tensor, requests: int) -> Callable[[], None]:
    def run() -> None:
        for _ in range(requests):
            noise.normal(like)

    return run
