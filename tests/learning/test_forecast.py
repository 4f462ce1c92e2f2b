"""Forecasts: a conditional model is exact where steps are given, and samples follow the conditional law of a problem with an answer."""

import pytest
import torch
from torch import Tensor, nn

from sdezoo.generation.samples import SERIES_STEPS
from sdezoo.learning.forecast import ForecastModel, beginnings, forecasts
from sdezoo.learning.loss import Batch
from sdezoo.process.noise import KeyedNoise
from sdezoo.zoo.registry import LOSSES, NETWORKS, SAMPLERS, SDES

STEPS, PHI = 10, 0.8
LAGS = (torch.arange(STEPS)[:, None] - torch.arange(STEPS)).abs().double()
COVARIANCE = PHI**LAGS


class Exact(nn.Module):
    """What a perfect network gives for a stationary AR(1) process of unit variance, with output `edm`."""

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        u, given = x[..., 0].double(), x[..., 1] > 0
        ratio = (4 * level.double()).exp()[:, None]
        total = 1 + ratio**2
        y = torch.where(given, u, u * total.sqrt())
        noise = torch.where(given, 1e-9, ratio**2)
        denoised = (COVARIANCE @ torch.linalg.solve(COVARIANCE + torch.diag_embed(noise), y[..., None]))[..., 0]
        out = (denoised - y / total) / (ratio / total.sqrt())
        return torch.stack([out, torch.zeros_like(out)], -1).to(x)


def model(net: nn.Module, sde: str = "vp") -> ForecastModel:
    return ForecastModel(SDES.build(sde), net, "edm")


def given(n: int, known: int) -> tuple[Tensor, Tensor]:
    noise = torch.randn(STEPS, generator=torch.Generator().manual_seed(0)).double()
    series = (torch.linalg.cholesky(COVARIANCE) @ noise).float()[None, :, None].expand(n, STEPS, 1)
    return series, beginnings(series, torch.full((n,), known))


@pytest.mark.parametrize("sde", ["vp", "ve:sigma_max=10"])
@pytest.mark.parametrize(("sampler", "steps"), [("dpmpp-2m-sde", SERIES_STEPS), ("dpmpp-2m", SERIES_STEPS)])
def test_forecasts_follow_the_conditional_law_of_ar1(sde: str, sampler: str, steps: int) -> None:
    n, known = 3000, 4
    series, condition = given(n, known)
    x = SAMPLERS.build(sampler).sample(model(Exact(), sde).condition_on(condition), (n, STEPS, 1), steps, 0)[:, known:, 0].double()
    last, ahead = float(series[0, known - 1, 0]), torch.arange(1, STEPS - known + 1)
    mean, variance = last * PHI**ahead, 1 - PHI ** (2 * ahead)
    assert ((x.mean(0) - mean).abs() < 4 * (variance / n).sqrt()).all()
    assert ((x.var(0) / variance - 1).abs() < 4 * (2 / n) ** 0.5 + 0.02).all(), "4 errors, and what the steps leave"
    after = x[:, 1] - PHI * x[:, 0]  # increments do not depend on what was before
    assert abs(float(torch.corrcoef(torch.stack([after, x[:, 0]]))[0, 1])) < 4 / n**0.5


def test_given_steps_are_known_and_teach_nothing() -> None:
    net = NETWORKS.build("unet1d:width=8").module((STEPS, 2)).eval()
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.1)
    found, (series, condition) = model(net), given(5, 4)
    t = torch.full((5, 1, 1), 0.5)
    z = found.sde.perturb(series, t, KeyedNoise(0, range(5)))
    torch.testing.assert_close(found.denoise(z, t, condition)[:, :4], series[:, :4])
    torch.testing.assert_close(found.score(z, t, condition)[:, :4], found.sde.score(z, series, t)[:, :4])
    moved = z.clone()
    moved[:, :4] += 1
    torch.testing.assert_close(found.denoise(moved, t, condition), found.denoise(z, t, condition), msg="noise of given steps is not seen")
    assert not torch.allclose(found.denoise(z, t, condition)[:, 4:], found.denoise(z, t)[:, 4:])
    all_known = beginnings(series, torch.full((5,), STEPS))
    loss = LOSSES.build("dsm")(found, Batch(series, condition=all_known), t, KeyedNoise(1, range(5)))
    assert float(loss.detach().abs().max()) < 1e-6


def test_only_affine_processes_on_series_without_labels_forecast() -> None:
    vp = SDES.build("vp")
    assert forecasts("series", vp, (STEPS, 1), None)
    assert not forecasts("series", vp, (STEPS, 1), 3)
    assert not forecasts("paths", vp, (STEPS, 1), None)
    assert not forecasts("series", SDES.build("cld"), (STEPS, 1), None)


@pytest.mark.parametrize("net", ["unet1d:width=8", "transformer:width=16"])
def test_networks_take_shorter_series(net: str) -> None:
    torch.manual_seed(0)
    module = NETWORKS.build(net).module((16, 2)).eval()
    level = torch.zeros(3)
    assert not module(torch.randn(3, 16, 2), level).any(), "a fresh network gives 0"
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.1)
    x = torch.randn(3, 9, 2)
    assert module(x, level).shape == x.shape
    assert not torch.allclose(module(x, level + 0.5), module(x, level))
    torch.testing.assert_close(module(x[1:], level[1:]), module(x, level)[1:])


def test_resonance_carries_scores_from_block_to_block_without_parameters() -> None:
    torch.manual_seed(0)
    plain, kept, carried = (NETWORKS.build(f"transformer:width=8,depth=3,resonance={rho}").module((6, 1)).eval() for rho in (0, 1e-9, 0.5))
    for parameter in plain.parameters():
        nn.init.normal_(parameter, std=0.5)
    for other in (kept, carried):
        other.load_state_dict(plain.state_dict())  # the same names and shapes
    x, level = torch.randn(2, 6, 1), torch.zeros(2)
    torch.testing.assert_close(kept(x, level), plain(x, level))
    assert not torch.allclose(carried(x, level), plain(x, level))
    h, e, scores, heads = torch.randn(2, 6, 8), torch.randn(2, 8), None, []
    for block in carried.blocks:  # pyright: ignore[reportGeneralTypeIssues]
        heads.append(block(h, e)[1])
        h, scores = block(h, e, scores)
    torch.testing.assert_close(scores, heads[2] + 0.5 * heads[1] + 0.25 * heads[0])


def test_networks_of_series_refuse_other_data() -> None:
    assert "needs series" in NETWORKS.build("unet1d").refuses((3, 8, 8))
    assert "at least 4 steps" in NETWORKS.build("unet1d").refuses((3, 1))
    assert "multiple of heads" in NETWORKS.build("transformer:width=10").refuses((8, 1))
