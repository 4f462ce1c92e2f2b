"""Noise with heavy tails against normal noise, at equal budget: rare modes of a mixture, and data that are heavy-tailed themselves.

    python docs/experiments/heavy_tails.py [--runs N]
    python docs/experiments/heavy_tails.py --noise
    python docs/experiments/heavy_tails.py --exact
    python docs/experiments/heavy_tails.py --positive

The mixture is that of Shariatian, Simsekli & Durmus (arXiv 2407.18609): nine modes in the plane with weights from 0.01 to 0.3, 32 000
rows, 20 epochs, 100 sampling steps. The second data set is isotropic stable noise of index 1.8. Prints the table of
`docs/zoo/non-gaussian/levy.md`; with `--noise`, that of the published truncations, and with `--exact`, that of samplers with the exact
denoiser of three points. With `--positive`, prints the table of `docs/zoo/non-gaussian/log-laplace.md`: Pareto data of index 2, whose two
columns have ranks that go together.
"""

import argparse
import math
from collections.abc import Iterable

import numpy as np
import torch
from scipy import stats

from sdezoo import LOSSES, NETWORKS, SAMPLERS, SDES, Batch, KeyedNoise, Noise, ScoreModel, draw_times
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.samplers import LevySDE

ROWS, EPOCHS, BATCH, STEPS, SAMPLES = 32_000, 20, 1024, 100, 20_000
CENTRES = torch.cartesian_prod(torch.tensor([-1.0, 0.0, 1.0]), torch.tensor([-1.0, 0.0, 1.0]))
WEIGHTS = torch.tensor([0.01, 0.1, 0.02, 0.2, 0.3, 0.2, 0.05, 0.1, 0.02])
WIDTH = 0.05
LINEUP = {
    "levy:alpha=1.8": ("flow", "levy-sde", "dlpm"),
    "student-t:nu=4": ("flow",),
    "vp": ("dpmpp-2m", "ancestral"),
}
PARETO = 2.0
POSITIVE = {"log-laplace": ("flow", "levy-sde"), "gbm": ("dpmpp-2m",), "exp-ou": ("dpmpp-2m", "ancestral")}


def mixture(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.multinomial(WEIGHTS, count, replacement=True, generator=generator)
    return CENTRES[chosen] + WIDTH * torch.randn(count, 2, generator=generator)


def heavy(count: int, seed: int) -> torch.Tensor:
    return SDES.build("levy:alpha=1.8").base((count, 2), Noise.seeded(seed), torch.empty(()))


def trained(spec: str, x: torch.Tensor, seed: int) -> ScoreModel:
    torch.manual_seed(seed)
    sde = SDES.build(spec).adapted(x)
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=128").module((2,)), x)
    order, steps = torch.cat([torch.randperm(len(x)) for _ in range(EPOCHS)]), EPOCHS * len(x) // BATCH
    return fitted(model, "dsm", 4e-3, (x[rows] for rows in order[: steps * BATCH].split(BATCH)), steps, seed)


def fitted(model: ScoreModel, loss: str, lr: float, batches: Iterable[torch.Tensor], steps: int, seed: int) -> ScoreModel:
    """The model, trained by one step on each batch."""
    objective, optimizer = LOSSES.build(loss), torch.optim.AdamW(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step, rows in enumerate(batches):
        noise = Noise.seeded(seed, step)
        t = draw_times("log-normal", model, model.sde.t_span, (len(rows), 1), noise, rows)
        optimizer.zero_grad()
        objective(model, Batch(rows), t, noise).mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


def shares(x: torch.Tensor) -> torch.Tensor:
    """The share of samples near each mode, `(9,)`, and of those near none."""
    near = torch.cdist(x, CENTRES) < 4 * WIDTH
    return torch.cat([near.float().mean(0), (~near.any(1)).float().mean()[None]])


def sizes(x: torch.Tensor) -> np.ndarray:
    return np.quantile(x.norm(dim=1).numpy(), [0.99, 0.999, 0.9999])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--positive", action="store_true")
    options = parser.parse_args()
    if options.noise:
        truncations()
    elif options.exact:
        samplers_alone()
    elif options.positive:
        power_laws(options.runs)
    else:
        duel(options.runs)


def duel(runs: int) -> None:
    exact_modes, exact_sizes = shares(mixture(1_000_000, 1)), sizes(heavy(1_000_000, 1))
    print("| process, sampler | share of the four rarest modes | error of all shares | near no mode | 99 % | 99.9 % | 99.99 % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rare = WEIGHTS < 0.06
    row("the distribution", [(exact_modes[:9][rare].sum(), torch.tensor(0.0), exact_modes[9])], [exact_sizes])
    for spec, samplers in LINEUP.items():
        models = [[trained(spec, data(ROWS, 100 + seed), seed) for seed in range(runs)] for data in (mixture, heavy)]
        for name in samplers:
            sampler, modes, tails = SAMPLERS.build(name), [], []
            for seed, (first, second) in enumerate(zip(*models, strict=True)):
                found = shares(sampler.sample(first, (SAMPLES, 2), STEPS, seed))
                modes.append((found[:9][rare].sum(), (found[:9] - exact_modes[:9]).abs().sum(), found[9]))
                tails.append(sizes(sampler.sample(second, (SAMPLES, 2), STEPS, seed)))
            row(f"`{spec}`, `{name}`", modes, tails)


def truncations() -> None:
    print("| noise | tail index | 99 % below | 99.9 % | 99.99 % | characteristic function at 1 |")
    print("| --- | --- | --- | --- | --- | --- |")
    for alpha in (1.8, 1.5):
        for spec in ("", ",angle_cut=0.3", ",clamp=20"):
            sde = SDES.build(f"levy:alpha={alpha}{spec}")
            e = sde.base((4_000_000, 1), Noise.seeded(0), torch.empty((), dtype=torch.float64))[:, 0]
            quantiles = np.quantile(e.abs().numpy(), [0.99, 0.999, 0.9999])
            print(f"| `{sde.spec}` | {sde.tail:.3g} | {' | '.join(f'{q:.3g}' for q in quantiles)} | {float(e.cos().mean()):.4f} |")


def pareto(count: int, seed: int) -> torch.Tensor:
    u = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u[:, 1] = 0.8 * u[:, 0] + 0.6 * u[:, 1]
    return torch.special.ndtr(-u).pow(-1 / PARETO).float()


def power_laws(runs: int) -> None:
    print("| process, sampler | rank correlation | mean | 99 % | 99.9 % | 99.99 % | tail index |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    positive("the distribution", [pareto(1_000_000, 1)])
    positive("training rows", [pareto(ROWS, 100)])
    for spec, samplers in POSITIVE.items():
        models = [trained(spec, pareto(ROWS, 100 + seed), seed) for seed in range(runs)]
        for name in samplers:
            sampler = SAMPLERS.build(name)
            positive(f"`{spec}`, `{name}`", [sampler.sample(m, (SAMPLES, 2), STEPS, seed) for seed, m in enumerate(models)])


def positive(title: str, samples: list[torch.Tensor]) -> None:
    columns = [[] for _ in range(6)]
    for x in samples:
        top = x[:, 0].double().sort(descending=True).values[: len(x) // 200]
        figures = [stats.spearmanr(x[:, 0], x[:, 1]).statistic, float(x[:, 0].double().mean())]
        figures += [*np.quantile(x[:, 0].numpy(), [0.99, 0.999, 0.9999]), 1 / float((top / top[-1]).log().mean())]
        for column, figure in zip(columns, figures, strict=True):
            column.append(figure)
    print(f"| {title} | {' | '.join(spread(column, 3) for column in columns)} |", flush=True)


class PublishedFactor(LevySDE):
    """The index in the place of the factor 2."""

    def kept(self, sde, ratio):
        return ratio ** (sde.index - 1)


def samplers_alone() -> None:
    print("| α | `flow` | `levy-sde` | with the published factor | `dlpm` |")
    print("| --- | --- | --- | --- | --- |")
    count, end = 20_000, torch.tensor(0.25, dtype=torch.float64)
    points, shares = torch.tensor([[-1.0], [0.2], [1.3]], dtype=torch.float64), torch.tensor([0.1, 0.6, 0.3])
    for alpha in (1.2, 1.5, 1.8, 2.0):
        sde, found = SDES.build(f"levy:alpha={alpha},spread=1"), []
        model, noise = Atoms(sde, points, shares), Noise.seeded(5)
        exact = sde.perturb(model.clean(50 * count, noise), end, noise)[:, 0]
        times = torch.linspace(sde.t_span[1], float(end), STEPS + 1, dtype=torch.float64)
        for sampler in (SAMPLERS.build("flow"), LevySDE(), PublishedFactor(), SAMPLERS.build("dlpm")):
            noise = KeyedNoise(3, range(count))
            z = drive(sampler, model, model.prior((count, 1), noise, points), times, noise)
            found.append(stats.ks_2samp(z[:, 0], exact).statistic)
        print(f"| {alpha} | {' | '.join(f'{d:.3f}' for d in found)} |", flush=True)


def row(title: str, modes: list, tails: list) -> None:
    cells = [title, *(spread([float(m[k]) for m in modes], 3) for k in range(3)), *(spread([t[k] for t in tails], 3) for k in range(3))]
    print(f"| {' | '.join(cells)} |", flush=True)


def spread(values: list[float], digits: int) -> str:
    """Mean and standard deviation over runs."""
    if len(values) == 1:
        return f"{values[0]:.{digits}g}"
    mean, deviation = np.mean(values), np.std(values, ddof=1)
    places = max(0, 1 - math.floor(math.log10(deviation))) if deviation > 0 else 3
    return f"{mean:.{places}f} ± {deviation:.{places}f}"


if __name__ == "__main__":
    main()
