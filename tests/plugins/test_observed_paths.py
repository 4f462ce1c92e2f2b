"""The task `paths`: parameters of known SDEs are recovered, and a run is keyed, survives a kill, and refuses what it cannot learn from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sdezoo import SDES, paths, sde_laws
from sdezoo.data.dataset import Data
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError, SdezooError
from sdezoo.learning.paths.observed import PathCoefficients, PathModel
from sdezoo.runs.sample import sample
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from tests.interrupting import assert_same_tensors, train_killed

QUICK = ["divergence-is-that-of-ggt", "stratonovich-correction-turns-the-columns", "reverse-drift-is-andersons"]
_RUNS: dict[str, Path] = {}

THETA, MU, SIGMA, H = 2.0, 1.0, 0.7, 0.05
DRIFT, ROOT = torch.tensor([0.3, -0.2], dtype=torch.float64), torch.tensor([[0.2, 0.0], [0.15, 0.25]], dtype=torch.float64)


def ornstein_uhlenbeck(n: int = 100, steps: int = 100) -> Data:
    """Exact paths, stationary."""
    e = torch.randn(n, steps + 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    a, x = np.exp(-THETA * H), [MU + SIGMA / np.sqrt(2 * THETA) * e[:, 0]]
    for k in range(steps):
        x.append(MU + a * (x[-1] - MU) + SIGMA * np.sqrt((1 - a * a) / (2 * THETA)) * e[:, k + 1])
    return Data(torch.stack(x, 1)[..., None].float(), torch.zeros(0, steps + 1, 1), "paths", times=H * torch.arange(steps + 1).double() + 3)


def geometric(n: int = 200, steps: int = 60, *, own: bool = True) -> Data:
    """Exact paths of two correlated geometric Brownian motions, `d log x = b dt + R dW`, at irregular times, `own` ones for each path."""
    generator = torch.Generator().manual_seed(1)
    e = torch.randn(n, steps, 2, generator=generator, dtype=torch.float64)
    h = 0.01 + 0.02 * torch.rand(n if own else 1, steps, generator=generator, dtype=torch.float64)
    z = (h[..., None] * DRIFT + h[..., None].sqrt() * e @ ROOT.T).cumsum(1)
    times = torch.nn.functional.pad(h.cumsum(1), (1, 0))
    x = torch.nn.functional.pad(z, (0, 0, 1, 0)).exp() * torch.tensor([100.0, 3.0])
    cut = n // 10 if own else 0
    parts = {"times": times[cut:], "test_times": times[:cut]} if own else {"times": times[0]}
    return Data(x[cut:].float(), x[:cut].float(), "paths", columns=("a", "b"), **parts)


def config(run: Path, task: str = "paths:width=8,depth=1", **values: Any) -> TrainingConfig:
    return TrainingConfig.build({"task": task, "out": str(run), "steps": 3, "batch_size": 32, **values})


def net(run: Path) -> PathCoefficients:
    model = restore(run).model
    assert isinstance(model, PathModel)
    return model.net


def test_an_ornstein_uhlenbeck_process_is_recovered_within_its_cramer_rao_intervals(tmp_path: Path) -> None:
    """The estimates are those of maximum likelihood, a regression of each value on the one before, to a quarter of a standard error."""
    data = ornstein_uhlenbeck()
    settings: Any = {"steps": 250, "batch_size": 100, "lr": 0.03, "ema_half_life_images": 2000}
    train(config(tmp_path / "run", "paths:drift=linear,diffusion=constant,transitions=100", **settings), data=data)
    f, g = net(tmp_path / "run")(torch.tensor([[0.0], [1.0]], dtype=torch.float64), torch.tensor(0.0))
    found = torch.stack([f[0, 0] - f[1, 0], f[0, 0] / (f[0, 0] - f[1, 0]), g[0, 0, 0]])
    x, y = data.train[:, :-1, 0].double().flatten().numpy(), data.train[:, 1:, 0].double().flatten().numpy()
    a, b = np.polyfit(x, y, 1)
    theta = -np.log(a) / H
    likeliest = torch.tensor([theta, b / (1 - a), np.sqrt((y - a * x - b).var() * 2 * theta / (1 - a * a))])
    span = len(x) * H
    error = torch.tensor([np.sqrt(2 * THETA / span), SIGMA / THETA / np.sqrt(span), SIGMA / np.sqrt(2 * len(x))])
    assert ((found - likeliest).abs() < error / 4).all(), (found, likeliest, error)
    assert ((found - torch.tensor([THETA, MU, SIGMA])).abs() < 1.96 * error).all(), (found, error)


def test_positive_paths_at_times_of_their_own(tmp_path: Path) -> None:
    """Networks find the constant drift and diffusion of `log x`, and new paths stay positive."""
    data, run = geometric(), tmp_path / "run"
    settings: Any = {"steps": 60, "batch_size": 90, "lr": 0.01, "ema_half_life_images": 2000}
    result = train(config(run, "paths:coordinates=exp,diffusion=constant,drift=linear", **settings), data=data)
    assert result.validation_loss is not None
    assert abs(result.validation_loss - 1.419) < 0.1
    learned, z = net(run), restore(run).model.sde.encode(data.train[:, 30].double())
    f, g = learned(z, torch.tensor(0.3))
    elapsed = float(data.times.diff().sum())  # pyright: ignore[reportOptionalMemberAccess]
    error = ROOT.square().sum(1).sqrt() / elapsed**0.5
    assert ((f.mean(0) - DRIFT).abs() < 4 * error).all(), f.mean(0)
    torch.testing.assert_close((g @ g.mT)[0], ROOT @ ROOT.T, rtol=0.05, atol=1e-3)
    made = sample(run, tmp_path / "new.npz", n=300)
    assert made is not None
    assert made.steps == 1
    with np.load(tmp_path / "new.npz") as file:
        x, times = torch.from_numpy(file["x"]).double(), torch.from_numpy(file["times"])
    assert x.shape == (300, 61, 2)
    assert (x > 0).all()
    scaled = x.log().diff(dim=1) / times.diff()[:, None].sqrt()
    torch.testing.assert_close(torch.cov(scaled.flatten(0, 1).T), (g @ g.mT)[0], rtol=0.06, atol=1e-3)
    assert set(map(tuple, x[:, 0].tolist())) <= set(map(tuple, data.train[:, 0].double().tolist()))


def test_networks_learn_what_is_not_linear(tmp_path: Path) -> None:
    """A double well with noise that grows, `dx = 2 (x − x³) dt + (0.5 + 0.2 x²) dW`: both functions, where the paths are."""
    generator, fine = torch.Generator().manual_seed(2), 10
    x = [2 * torch.randn(300, generator=generator, dtype=torch.float64).clamp(-0.7, 0.7)]
    h = 0.02 / fine
    for _ in range(60 * fine):
        dw = h**0.5 * torch.randn(300, generator=generator, dtype=torch.float64)
        x.append(x[-1] + 2 * (x[-1] - x[-1] ** 3) * h + (0.5 + 0.2 * x[-1] ** 2) * dw)
    values = torch.stack(x[::fine], 1)[..., None].float()
    data = Data(values, values[:0], "paths", times=0.02 * torch.arange(61).double())
    train(config(tmp_path / "run", "paths:width=32", steps=250, batch_size=100, ema_half_life_images=3000, lr=0.01), data=data)
    z = torch.linspace(-1.3, 1.3, 27, dtype=torch.float64)[:, None]
    f, g = net(tmp_path / "run")(z, torch.tensor(0.0))
    assert float((f - 2 * (z - z**3)).square().mean().sqrt()) < 0.5
    assert float((g[..., 0] / (0.5 + 0.2 * z**2) - 1).abs().max()) < 0.1


def test_a_path_depends_on_the_seed_and_its_index_alone(tmp_path: Path) -> None:
    data, run = ornstein_uhlenbeck(40, 10), tmp_path / "run"
    train(config(run), data=data)

    def drawn(**options: Any) -> tuple[Tensor, Tensor]:
        sample(run, tmp_path / "x.npz", overwrite=True, **options)
        with np.load(tmp_path / "x.npz") as file:
            return torch.from_numpy(file["x"]), torch.from_numpy(file["times"])

    whole, times = drawn(n=30)
    assert torch.equal(times, data.times)  # pyright: ignore[reportArgumentType]
    torch.testing.assert_close(drawn(n=30, batch_size=7)[0], whole)
    torch.testing.assert_close(drawn(seeds="5,20-22")[0], whole[[5, 20, 21, 22]])
    assert not torch.equal(drawn(n=30, seed=1)[0], whole)
    assert drawn(n=30, steps=3)[0].shape == whole.shape
    np.savez(tmp_path / "starts.npz", x=np.array([[0.25], [4.0]], np.float32))
    np.savez(tmp_path / "paths.npz", x=data.train[:6].numpy(), times=np.arange(11))
    assert drawn(start=tmp_path / "starts.npz")[0][:, 0, 0].tolist() == [0.25, 4.0]
    assert torch.equal(drawn(start=tmp_path / "paths.npz")[0][:, 0], data.train[:6, 0])


def test_a_run_survives_a_kill(tmp_path: Path) -> None:
    task, data = "paths:width=8,depth=1,transitions=4,autonomous=false", geometric(own=False)
    settings: Any = {"steps": 15, "checkpoint_every": 5}
    train(config(tmp_path / "whole", task, **settings), data=data)
    train_killed(config(tmp_path / "cut", task, **settings), 12, data)
    train(config(tmp_path / "cut", task, **settings), data=data, resume=True)
    assert_same_tensors(tmp_path / "cut", tmp_path / "whole", 15)


def points() -> Data:
    return Data(torch.zeros(4, 2), torch.zeros(0, 2), "points")


def shifted(by: float) -> Data:
    data = ornstein_uhlenbeck(5, 4)
    return Data(data.train + by, data.test, "paths", times=data.times)


def flat(slope: float) -> Data:
    x = ornstein_uhlenbeck(5, 4).train
    return Data(torch.cat([x, slope * x], 2), x[:0].expand(0, 5, 2), "paths", times=torch.arange(5).double())


@pytest.mark.parametrize(
    ("data", "settings", "error", "says"),
    [
        (points, {}, DataError, r"learns from paths, and these data are of kind 'points'\. Store paths \(N, T, d\)"),
        (
            lambda: shifted(-9.0),
            {"task": "paths:coordinates=exp"},
            DataError,
            r"25 values of the paths are 0 or less.*Leave out coordinates",
        ),
        (lambda: flat(0.0), {}, DataError, "The column 1 never changes within a path"),
        (lambda: flat(2.0), {}, DataError, "follow from those of the others"),
        (lambda: ornstein_uhlenbeck(5, 0), {}, DataError, "one observation, and so no transition"),
        (lambda: shifted(0.0), {"sde": "vp"}, ParameterError, "does not use the setting sde.*Leave out --sde"),
        (lambda: shifted(0.0), {"loss": "dsm"}, ParameterError, "does not use the setting loss"),
        (lambda: shifted(0.0), {"net": "mlp"}, ParameterError, "does not use the setting net"),
        (lambda: shifted(0.0), {"task": "paths:drift=cubic"}, ParameterError, "drift=cubic is not allowed"),
    ],
)
def test_what_cannot_be_learned_from_is_told(
    tmp_path: Path, data: Any, settings: dict[str, Any], error: type[SdezooError], says: str
) -> None:
    values = {"batch_size": 2, **settings}
    with pytest.raises(error, match=says):
        train(config(tmp_path / "run", **values), data=data())
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_what_a_model_of_paths_does_not_do_is_told(tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out.npz"
    train(config(run), data=ornstein_uhlenbeck(40, 4))
    np.savez(tmp_path / "wide.npz", x=np.zeros((3, 2), np.float32))
    refusals: list[tuple[dict[str, Any], str]] = [
        ({"sampler": "heun"}, "takes no sampler"),
        ({"trajectory": tmp_path / "a.gif"}, "are trajectories themselves"),
        ({"precision": "bf16"}, "Leave out --precision"),
        ({"start": tmp_path / "wide.npz"}, r"have shape \(3, 2\)\. Give rows \(n, 1\)"),
        ({"start": tmp_path / "wide.npz", "start_time": 0.5}, "not noised before"),
        ({"steps": 0}, "steps=0 is too small"),
        ({"guides": ["ipm"]}, "Leave out the guides"),
        ({"times": "0:1:3"}, "bridge"),
    ]
    for options, says in refusals:
        with pytest.raises(SdezooError, match=says):
            sample(run, out, **options)
    with pytest.raises(RunError, match="cannot be written as a picture"):
        sample(run, tmp_path / "out.png")
    assert not out.exists()


def test_a_fitted_sde_names_its_checkpoint_and_simulates_to_any_horizon(tmp_path: Path) -> None:
    """For a linear drift with constant noise its steps are exact, also long ones: mean and variance are those of the learned parameters."""
    data, run = ornstein_uhlenbeck(40, 20), tmp_path / "run"
    settings: Any = {"lr": 0.05, "ema_half_life_images": 0}
    train(config(run, "paths:drift=linear,diffusion=constant", **{**settings, "steps": 20}), data=data)
    sde = SDES.build(f"fitted:run={run}")
    assert sde.spec == f"fitted:run={run},checkpoint=20"
    assert SDES.build(sde.full_spec) == sde
    z = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    f, g = sde.drift(z, torch.tensor(0.0)), sde.diffuse(z, torch.tensor(0.0), torch.ones_like(z))
    theta, sigma = float(f[0] - f[1]), float(g[0])
    mean, horizon = float(f[0]) / theta, 2.5
    made = paths(sde, 3.0, steps=2, n=4000, horizon=horizon, substeps=2, seed=4)
    last, decay = made.x[:, -1, 0], np.exp(-theta * horizon)
    variance = sigma**2 / (2 * theta) * (1 - decay**2)
    assert abs(float(last.mean()) - (mean + (3 - mean) * decay)) < 4 * np.sqrt(variance / 4000)
    assert abs(float(last.var()) / variance - 1) < 4 * np.sqrt(2 / 4000)
    train(config(run, "paths:drift=linear,diffusion=constant", **{**settings, "steps": 30}), data=data, resume=True)
    assert SDES.build(f"fitted:run={run}").spec.endswith("checkpoint=30")
    assert torch.equal(SDES.build(sde.spec).drift(z, torch.tensor(0.0)), f)


@pytest.mark.parametrize("task", ["paths:width=8,depth=1,coordinates=exp", "paths:drift=linear,diffusion=constant"])
@pytest.mark.parametrize("law", QUICK)
def test_a_fitted_sde_passes_laws(tmp_path_factory: pytest.TempPathFactory, task: str, law: str) -> None:
    """A few; `sdezoo check` tries them all."""
    run = _RUNS.get(task) or tmp_path_factory.mktemp("fitted") / "run"
    if task not in _RUNS:
        train(config(run, task, steps=10), data=geometric(40, 10, own=False))
        _RUNS[task] = run
    chosen = {each.__name__: each for each in sde_laws(f"fitted:run={run}")}
    chosen[law]()


def test_what_is_no_fitted_sde_is_told(tmp_path: Path) -> None:
    train(config(tmp_path / "timed", "paths:width=8,depth=1,autonomous=false"), data=geometric(40, 10, own=False))
    scored: Any = {"sde": "vp", "net": "mlp:width=8,depth=1", "steps": 2, "batch_size": 8, "out": str(tmp_path / "scored")}
    one = Data(torch.linspace(-1, 1, 20)[:, None], torch.zeros(0, 1), "points")
    train(TrainingConfig.build(scored), data=one)
    for run, says in (("none", "does not exist"), ("scored", "has learned no SDE of its data alone"), ("timed", "depend on time")):
        with pytest.raises(SdezooError, match=says):
            SDES.build(f"fitted:run={tmp_path / run}")
    train(config(tmp_path / "run"), data=ornstein_uhlenbeck(40, 4))
    with pytest.raises(CompositionError, match="need not forget where they started"):
        train(
            TrainingConfig.build({**scored, "sde": f"fitted:run={tmp_path / 'run'}", "loss": "sliced-sm", "out": str(tmp_path / "new")}),
            data=one,
        )
    assert not (tmp_path / "new").exists()


def test_a_report_of_such_a_run_shows_no_motion_from_noise(tmp_path: Path) -> None:
    from sdezoo.report.motion import motion

    train(config(tmp_path / "run"), data=ornstein_uhlenbeck(40, 4))
    picture, words = motion(tmp_path / "run")
    assert picture is None
    assert "has learned an SDE from paths" in words
