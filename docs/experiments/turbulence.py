"""Signals like those of turbulence, of dimension 1024: noise that keeps the norm beside normal noise.

    python docs/experiments/turbulence.py [--steps N]

A signal is Gaussian noise of the spectrum k^(−5/3), multiplied before it is filtered by a log-normal cascade: its increments have tails
that grow heavier towards small scales, and its norm varies from signal to signal. Prints the table of `docs/zoo/joint/rotation.md`: norms
of the samples, the slope of their spectrum, and the flatness `E δ⁴/(E δ²)²` of increments at several lags, 3 for a Gaussian signal.
"""

import argparse

import numpy as np
import torch
from heavy_tails import fitted

from sdezoo import NETWORKS, SAMPLERS, SDES, ScoreModel

LENGTH, ROWS, BATCH, SAMPLES = 1024, 8000, 256, 2000
CASCADE = 0.2
"""Variance of the logarithm of a factor of the cascade; it has ten."""
LAGS = (1, 4, 16, 64, 256)
LINEUP = {"rotation": ("sliced-sm", "euler-maruyama", 100), "vp": ("dsm", "dpmpp-2m", 100)}


def signals(count: int, seed: int) -> torch.Tensor:
    """Periodic signals, `(count, 1024)`, of unit variance."""
    random, logs = np.random.default_rng(seed), np.zeros((count, LENGTH))
    for level in range(10):
        logs += np.repeat(np.sqrt(CASCADE) * random.standard_normal((count, 2**level)), LENGTH >> level, axis=1)
    frequencies = np.arange(LENGTH // 2 + 1.0)
    shape = np.where(frequencies > 0, np.maximum(frequencies, 1.0) ** (-5 / 6), 0.0)
    force = random.standard_normal((count, LENGTH)) * np.exp(logs / 2 - 10 * CASCADE / 4)
    return torch.from_numpy(np.fft.irfft(np.fft.rfft(force, axis=1) * shape, LENGTH, axis=1)).float()


def trained(spec: str, loss: str, x: torch.Tensor, steps: int) -> ScoreModel:
    torch.manual_seed(0)
    sde = SDES.build(spec).adapted(x)
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=256").module(sde.network_input_shape((LENGTH,))), x)
    chosen = (torch.randint(len(x), (BATCH,), generator=torch.Generator().manual_seed(step)) for step in range(steps))
    return fitted(model, loss, 1e-3, (x[rows] for rows in chosen), steps, 0)


def row(title: str, x: torch.Tensor) -> None:
    x = x.double()
    norms = np.quantile(x.norm(dim=1).numpy(), [0.01, 0.5, 0.99, 0.999])
    flat = [float((d**4).mean() / (d**2).mean() ** 2) for d in (x.roll(-lag, 1) - x for lag in LAGS)]
    shape = x / x.norm(dim=1, keepdim=True)
    power = (torch.fft.rfft(shape).abs() ** 2).mean(0)
    slope = np.polyfit(np.log(np.arange(4, 129)), power[4:129].log().numpy(), 1)[0]
    print(f"| {title} | {' | '.join(f'{v:.3g}' for v in norms)} | {slope:.2f} | {' | '.join(f'{v:.2f}' for v in flat)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3000)
    steps = parser.parse_args().steps
    print(f"| signals | norm, 1 % | 50 % | 99 % | 99.9 % | spectrum | {' | '.join(f'lag {lag}' for lag in LAGS)} |")
    print(f"| --- {'| --: ' * (5 + len(LAGS))}|")
    x = signals(ROWS, 0)
    row("training", x)
    row("fresh", signals(ROWS, 1))
    for spec, (loss, sampler, count) in LINEUP.items():
        model = trained(spec, loss, x, steps)
        row(f"`{spec}`", SAMPLERS.build(sampler).sample(model, (SAMPLES, LENGTH), count, 0))


if __name__ == "__main__":
    main()
