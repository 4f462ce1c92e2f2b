"""Series: forecasts of daily prices against GBM and AR(1)-GARCH(1,1), and stylized facts of three processes, as in docs/data/series.md.

    python docs/experiments/series.py forecasts OUT
    python docs/experiments/series.py processes OUT
    python docs/experiments/series.py steps OUT
    python docs/experiments/series.py resonance OUT

`steps` has forecasts of an AR(1) process by numbers of sampler steps, `resonance` a transformer with and without resonant attention on
fractional Gaussian noise. The other data are daily closing prices that the package `arch` ships
(pip install arch). Each part trains for a few minutes a model on two cores.
"""

from __future__ import annotations

import importlib
import json
import sys
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from sdezoo import SAMPLERS, SDES, DiffusionModel, Noise, restore
from sdezoo.evaluation.measures.stylized import returns, stylized_facts
from sdezoo.generation.samples import SERIES_STEPS, choose_sampler, generate
from sdezoo.learning.forecast import ForecastModel, beginnings
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.datasets import find_dataset

WINDOW, GIVEN, HOLDOUT = 64, 32, 0.3
STEPS, PATHS, EVERY, DRAWN = 1000, 100, 32, 1000
TAKEN = 20  # sampler steps of the forecasts
AR = 0.8
TRIED = [("dpmpp-2m-sde", TAKEN), ("dpmpp-2m-sde", 50), ("dpmpp-2m-sde", 100), ("dpmpp-2m", 20), ("dpmpp-2m", 50)]
TRIED += [("ancestral", 20), ("ancestral", 200)]
HORIZONS = (1, 5, 10, 32)
SERIES = {"sp500": "Adj Close", "nasdaq": "Adj Close", "wti": "DCOILWTICO"}


def prices(name: str, folder: Path) -> Path:
    """Write a daily series of `arch` as a table with columns Date and close."""
    table = importlib.import_module(f"arch.data.{name}").load()[[SERIES[name]]]
    path = folder / f"{name}.csv"
    table.rename(columns={SERIES[name]: "close"}).dropna().to_csv(path)
    return path


def crps(paths: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Unbiased CRPS of an ensemble `(K, n)` for `(n,)`: E|X − y| − E|X − X'|/2."""
    k = len(paths)
    ranked = np.sort(paths, 0)
    apart = 2 * ((2 * np.arange(1, k + 1) - k - 1)[:, None] * ranked).sum(0) / (k * (k - 1))
    return np.abs(paths - truth).mean(0) - apart / 2


def judged(paths: np.ndarray, truth: np.ndarray) -> dict[str, list[float]]:
    """CRPS with its standard error, and coverage of central 90 % and 50 % intervals, at each horizon. `paths` is `(K, n, horizons)`."""
    found: dict[str, list[float]] = {"crps": [], "error": [], "cover 90": [], "cover 50": []}
    for j in range(truth.shape[1]):
        scores = crps(paths[:, :, j], truth[:, j])
        found["crps"].append(float(scores.mean()))
        found["error"].append(float(scores.std(ddof=1) / np.sqrt(len(scores))))
        for level in (90, 50):
            low, high = np.quantile(paths[:, :, j], [0.5 - level / 200, 0.5 + level / 200], axis=0)
            found[f"cover {level}"].append(float(((truth[:, j] >= low) & (truth[:, j] <= high)).mean()))
    return found


def rivals(close: np.ndarray, origins: np.ndarray, first: int) -> dict[str, np.ndarray]:
    """Cumulative log-returns `(K, n, horizons)` of GBM and AR(1)-GARCH(1,1), fitted to the prices before `first`."""
    r = np.diff(np.log(close))
    rng = np.random.default_rng(0)
    steps = rng.standard_normal((PATHS * 10, len(origins), max(HORIZONS)))
    known = r[: first - 1]
    places = [h - 1 for h in HORIZONS]
    fixed = (known.mean() + known.std() * steps).cumsum(2)[:, :, places]
    local = np.stack([r[o - GIVEN + 1 : o] for o in origins])
    moving = (known.mean() + local.std(1)[None, :, None] * steps).cumsum(2)[:, :, places]
    garch = importlib.import_module("arch").arch_model(100 * r, mean="AR", lags=1, vol="GARCH", p=1, q=1)
    fit = garch.fit(last_obs=first - 1, disp="off")
    options = {"horizon": max(HORIZONS), "method": "simulation", "simulations": PATHS * 10, "random_state": np.random.RandomState(0)}
    simulated = fit.forecast(start=int(origins.min()) - 1, reindex=False, **options).simulations
    drawn = np.asarray(simulated.values)
    chosen = drawn[origins - origins.min()].transpose(1, 0, 2) / 100
    return {"GBM": fixed, "GBM, volatility of the given steps": moving, "AR(1)-GARCH(1,1)": chosen.cumsum(2)[:, :, places]}


def forecasts(folder: Path) -> None:
    """Train on each series, continue held-out windows, and judge."""
    found = {}
    for name in SERIES:
        path = prices(name, folder)
        data = f"series:path={path},window={WINDOW},holdout={HOLDOUT}"
        run = folder / f"run-{name}"
        if not run.exists():
            train(TrainingConfig.build({"data": data, "steps": STEPS, "out": str(run)}))
        close = np.loadtxt(path, delimiter=",", skiprows=1, usecols=1)
        held_out = find_dataset(data).load().test.numpy()[:, :, 0]
        begins = np.arange(0, len(held_out), EVERY)
        starts = len(close) - len(held_out) - WINDOW + 1 + begins  # the held-out windows end with the series
        windows = np.stack([close[s : s + WINDOW] for s in starts])
        np.testing.assert_allclose(windows / windows[:, :1], held_out[begins], rtol=1e-5)
        np.savez(folder / "windows.npz", x=windows[:, :GIVEN, None])
        options = {"given_first": GIVEN, "start": folder / "windows.npz", "n": PATHS * len(windows), "steps": TAKEN, "overwrite": True}
        sample(run, folder / "paths.npz", **options)
        drawn = np.load(folder / "paths.npz")["x"].reshape(PATHS, len(windows), WINDOW)
        ahead = [GIVEN - 1 + h for h in HORIZONS]
        logs = np.log(drawn[:, :, ahead] / drawn[:, :, [GIVEN - 1]])
        truth = np.log(windows[:, ahead] / windows[:, [GIVEN - 1]])
        first = round((1 - HOLDOUT) * len(close))
        models = {"sdezoo": logs, **rivals(close, starts + GIVEN - 1, first)}
        found[name] = {model: judged(paths, truth) for model, paths in models.items()}
        print(f"{name}: {len(windows)} windows")
        for model, each in found[name].items():
            line = "  ".join(
                f"h={h}: {1e4 * c:.0f}±{1e4 * e:.0f} {a:.2f} {b:.2f}"
                for h, c, e, a, b in zip(HORIZONS, each["crps"], each["error"], each["cover 90"], each["cover 50"], strict=True)
            )
            print(f"  {model:36} {line}", flush=True)
    (folder / "forecasts.json").write_text(json.dumps(found, indent=1))


def processes(folder: Path) -> None:
    """Train the same network with three processes and two forms on S&P 500 windows, and compare stylized facts; growth with three seeds."""
    data = f"series:path={prices('sp500', folder)},window={WINDOW},holdout={HOLDOUT}"
    known = find_dataset(data).load()
    for name, part in (("held-out", known.test), ("training", known.train)):
        print(f"| {name} {_facts(part, known.overlap)}", flush=True)
    for form, sde, seed in (*product(("growth",), ("gbm", "vp", "ve"), range(3)), *product(("level",), ("gbm", "vp", "ve"), range(1))):
        run = folder / f"run-{form}-{sde}-{seed}"
        if not run.exists():
            train(TrainingConfig.build({"data": f"{data},form={form}", "sde": sde, "steps": STEPS, "seed": seed, "out": str(run)}))
        trained = restore(run)
        drawn = generate(trained, choose_sampler(trained, None), DRAWN, steps=SERIES_STEPS).x
        print(f"| {form} {sde} {seed} {_facts(drawn, 1)}", flush=True)


def _facts(windows: Tensor, overlap: int) -> str:
    found = stylized_facts(returns(windows[..., 0].double().numpy(), relative=True), overlap=overlap)
    return "".join(f"| {fact.value:.3f} [{fact.low:.3f}, {fact.high:.3f}] " for fact in found) + "|"


class Exact(nn.Module):
    """What a perfect network gives for a stationary AR(1) process of unit variance, with output `edm`."""

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        u, given, covariance = x[..., 0].double(), x[..., 1] > 0, _covariance(x.shape[1])
        ratio = (4 * level.double()).exp()[:, None]
        total = 1 + ratio**2
        y = torch.where(given, u, u * total.sqrt())
        noise = torch.where(given, 1e-9, ratio**2)
        denoised = (covariance @ torch.linalg.solve(covariance + torch.diag_embed(noise), y[..., None]))[..., 0]
        out = (denoised - y / total) / (ratio / total.sqrt())
        return torch.stack([out, torch.zeros_like(out)], -1).to(x)


def _covariance(length: int) -> Tensor:
    places = torch.arange(length)
    return AR ** (places[:, None] - places).abs().double()


def steps(folder: Path) -> None:
    """Deviation of forecasts of an AR(1) process over exact, by sampler and steps: with the exact score, and with a trained network."""
    n, known, length = 4000, 4, 10
    root = torch.linalg.cholesky(_covariance(length))
    series = (root @ torch.randn(length, generator=torch.Generator().manual_seed(0)).double()).float()[None, :, None].expand(n, -1, 1)
    given = beginnings(series, torch.full((n,), known))
    exact = (1 - AR ** (2 * torch.arange(1, length - known + 1))).sqrt()
    for sde in ("vp", "ve:sigma_max=10"):
        model = ForecastModel(SDES.build(sde), Exact(), "edm").condition_on(given)
        for sampler, count in TRIED:
            x = SAMPLERS.build(sampler).sample(model, (n, length, 1), count, 0)[:, known:, 0].double()
            print(f"exact score, {sde}, {sampler}, {count} steps: {float((x.std(0) / exact).mean()):.3f}", flush=True)
    rng, x = np.random.default_rng(0), np.zeros(20_000)
    x[0] = rng.normal()
    for k in range(1, len(x)):
        x[k] = AR * x[k - 1] + np.sqrt(1 - AR**2) * rng.normal()
    np.savetxt(folder / "ar.csv", x, header="x", comments="")
    run = folder / "run-ar"
    if not run.exists():
        data = f"series:path={folder}/ar.csv,window=32"
        train(TrainingConfig.build({"data": data, "sde": "vp", "net": "unet1d", "steps": 800, "out": str(run)}))
    windows = np.stack([x[k : k + 32] for k in range(18_100, 19_900, 200)]).astype(np.float32)[..., None]
    np.savez(folder / "windows.npz", x=windows)
    ahead = np.sqrt(1 - AR ** (2 * np.arange(1, 17)))
    for sampler, count in TRIED:
        options = {"given_first": 16, "start": folder / "windows.npz", "sampler": sampler, "steps": count, "overwrite": True}
        sample(run, folder / "ahead.npz", n=400 * len(windows), **options)
        drawn = np.load(folder / "ahead.npz")["x"].reshape(400, len(windows), 32)[:, :, 16:]
        print(f"unet1d, {sampler}, {count} steps: {np.sqrt((drawn.var(0) / ahead**2).mean(0)).mean():.3f}", flush=True)


def resonance(folder: Path) -> None:
    """Error of the denoiser of long memory, fractional Gaussian noise of H = 0.9, against the exact one, by resonance, four seeds."""
    length, hurst, found, size = 64, 0.9, {}, 0
    lag = torch.arange(length).double()
    lags = (lag[:, None] - lag).abs()
    covariance = ((lags + 1) ** (2 * hurst) - 2 * lags ** (2 * hurst) + (lags - 1).abs() ** (2 * hurst)) / 2
    windows = (torch.randn(4096, length, generator=torch.Generator().manual_seed(0)).double() @ torch.linalg.cholesky(covariance).T).float()
    for rho, seed in product((0, 0.5), range(4)):
        net = f"transformer:width=32,heads=2,depth=3,dropout=0,resonance={rho}"
        model = DiffusionModel("vp", net=net, steps=500, batch_size=32, lr=3e-3, ema_half_life_images=3000, random_state=seed).fit(
            windows[:2048, :, None]
        )
        trained = model.trained_
        ends = trained.encoding.encode(torch.stack([torch.zeros(length, 1), torch.ones(length, 1)])).double()
        scale, clean = (ends[1] - ends[0])[:, 0], trained.encoding.encode(windows[2048:2560, :, None])
        errors, noise = [], Noise.seeded(1)
        for t in torch.linspace(0.1, 0.9, 9):
            k = trained.model.sde.at(t, clean)
            z = k.alpha * clean + k.variance.sqrt() * noise.normal(clean)
            prior = k.alpha.double() ** 2 * covariance * scale * scale[:, None]
            mean = k.alpha.double() * ends[0]
            exact = ends[0] + (prior @ torch.linalg.solve(prior + k.variance.double() * torch.eye(length), z.double() - mean)) / k.alpha
            with torch.no_grad():
                errors.append(float((trained.model.denoise(z, t) - exact).square().mean()))
        found.setdefault(rho, []).append(np.mean(errors))
        print(f"resonance={rho}, seed {seed}: {found[rho][-1]:.5f}", flush=True)
        size = sum(p.numel() for p in trained.model.parameters())
    for rho, errors in found.items():
        print(f"resonance={rho}: {np.mean(errors):.5f} ± {np.std(errors, ddof=1) / 2:.5f}, {size} parameters")
    (folder / "resonance.json").write_text(json.dumps(found))


if __name__ == "__main__":
    part, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(parents=True, exist_ok=True)
    {"forecasts": forecasts, "processes": processes, "steps": steps, "resonance": resonance}[part](out)
