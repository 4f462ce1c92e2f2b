"""The best linear denoiser: a fresh network starts at the score of a normal distribution."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence

from sdezoo import NETWORKS, SDES
from sdezoo.data.encoding import Encoding
from sdezoo.generation.samples import choose_sampler, generate, steps_for
from sdezoo.learning.known.blocks import BlockDenoiser, fit_denoiser, restored_denoiser
from sdezoo.learning.known.corners import Corners
from sdezoo.learning.known.linear import LinearDenoiser, correlation_of
from sdezoo.learning.known.tabulated import between, times
from sdezoo.learning.model import ScoreModel
from sdezoo.process.affine import AffineSDE
from sdezoo.runs.train import train
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig

D = 4


def rows(count: int = 400) -> Tensor:
    """Correlated normal rows, two columns of which nearly determine each other."""
    mix = torch.tensor([[1.0, 0, 0, 0], [0.8, 0.6, 0, 0], [1.0, 0, 0.05, 0], [-0.5, 0.2, 0, 3.0]])
    return torch.randn(count, D, generator=torch.Generator().manual_seed(0)) @ mix.T + torch.tensor([0.0, 5.0, 0.0, -1.0])


def _fresh(z0: Tensor, place: float) -> tuple[ScoreModel, Tensor, Tensor, Tensor]:
    """A fresh model of rows under `ve`, rows that are noised at a share of the last time, the variance, and what it takes them for."""
    sde = SDES.build("ve").adapted(z0)
    assert isinstance(sde, AffineSDE)
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=8").module(z0.shape[1:]), z0).double()
    t = torch.tensor(max(sde.t_span[0], place * sde.t_span[1]), dtype=torch.float64)
    v, z0 = sde.exact(t).variance, z0.double()
    z = z0 + v.sqrt() * torch.randn(z0.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    with torch.no_grad():
        return model, z, v, model.denoise(z, t)


@pytest.mark.parametrize("columns", [2, 5, 13, 17, 28, 64])
def test_a_row_is_multiplied_alike_in_every_batch(columns: int) -> None:
    """Bit for bit, wherever in a batch it stands, and to rounding the product."""
    generator = torch.Generator().manual_seed(columns)
    for dtype in (torch.float32, torch.float64):
        x, matrix = (torch.randn(shape, generator=generator, dtype=dtype) for shape in ((1000, columns), (1, columns, columns)))
        found = times(matrix, x)
        torch.testing.assert_close(found, x @ matrix[0].T)
        for first, count in ((0, 1), (17, 1), (999, 1), (3, 7), (63, 2), (100, 64), (5, 130), (700, 300)):
            assert torch.equal(times(matrix, x[first : first + count]), found[first : first + count])
    assert times(matrix, x[:0]).shape == (0, columns)
    torch.testing.assert_close(times(matrix.expand(9, -1, -1), x[:9]), found[:9])


@pytest.mark.parametrize("spec", ["vp", "ve", "gbm", "subvp"])
@pytest.mark.parametrize("place", [0.001, 0.1, 0.5, 1.0])
def test_a_fresh_network_has_the_score_of_a_normal_distribution(spec: str, place: float) -> None:
    sde = SDES.build(spec)
    assert isinstance(sde, AffineSDE)
    z0 = rows()
    x0 = sde.decode(z0)
    sde = sde.adapted(x0)
    assert isinstance(sde, AffineSDE)
    z0 = sde.encode(x0)
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=8").module((D,)), x0)
    lo, hi = sde.t_span
    t = torch.tensor(max(lo, place * hi), dtype=torch.float64)
    k = sde.exact(t)
    mean, covariance = k.alpha * z0.double().mean(0) + k.shift, k.alpha**2 * z0.double().T.cov()
    law = MultivariateNormal(mean, covariance + torch.diag(k.variance.expand(D)))
    z = law.sample((50,)).requires_grad_()
    (score,) = torch.autograd.grad(law.log_prob(z).sum(), z)
    with torch.no_grad():
        found = model.double().score(z, t)
    assert float((found - score).norm() / score.norm()) < 5e-3


def test_the_best_linear_denoiser_is_that_of_each_time_in_a_batch() -> None:
    sde = SDES.build("vp")
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=8").module((D,)), rows())
    nn.init.normal_(model.net.get_submodule("leave").weight)
    z, t = rows(5), torch.linspace(0.1, 0.9, 5)
    with torch.no_grad():
        together = model.score(z, t[:, None])
        apart = torch.cat([model.score(z[i : i + 1], t[i]) for i in range(5)])
    assert torch.allclose(together, apart, atol=1e-4, rtol=1e-4)


def test_for_normal_data_the_network_learns_in_units_of_unit_variance() -> None:
    sde = SDES.build("vp")
    assert isinstance(sde, AffineSDE)
    x0 = rows(4000)
    std = x0.std(0)
    linear = fit_denoiser(sde, x0, std)
    assert isinstance(linear, LinearDenoiser)
    t = torch.tensor(0.2, dtype=torch.float64)
    k = sde.at(t, x0)
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
    y, noised = (x0 - x0.mean(0)) / std, (x0 + k.ratio * noise - x0.mean(0)) / std
    s = (1 + (k.ratio / std) ** 2).sqrt()
    seen: list[Tensor] = []

    def record(u: Tensor) -> Tensor:
        seen.append(u)
        return torch.zeros_like(u)

    a = linear(record, noised / s, float(sde.noise_conditioning(t)))
    assert torch.allclose(seen[0].std(0), torch.ones(D), atol=0.05)
    k0, share = between(linear.levels, float(sde.noise_conditioning(t)))
    b = torch.lerp(linear.tables[k0 - 1], linear.tables[k0], share[:, None, None, None])[:, 1]
    wanted = (y - noised / s**2) * s / (k.ratio / std) - a  # what B F(u) has to be
    target = torch.linalg.solve(b[0].double(), wanted.T.double()).T
    assert torch.allclose(target.T.cov(), torch.eye(D, dtype=torch.float64), atol=0.1)


@pytest.mark.parametrize("spec", ["vp", "ve"])
@pytest.mark.parametrize("place", [0.01, 0.2, 0.5, 1.0])
def test_a_fresh_network_decides_rare_categories_at_their_rate(spec: str, place: float) -> None:
    """Of a bit and a category of three that are independent of each other, the mean given the noised values is known."""
    g = torch.Generator().manual_seed(0)
    bit = (torch.arange(4000) % 25 == 0).float()  # with each category equally often
    third = torch.eye(3)[torch.where(torch.arange(4000) % 16 < 10, 0, torch.where(torch.arange(4000) % 16 < 15, 1, 2))]
    x0 = torch.cat([4 * bit[:, None] - 2, torch.randn(4000, 1, generator=g), 3 * third - 1], 1)
    sde = SDES.build(spec).adapted(x0)
    assert isinstance(sde, AffineSDE)
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=8").module((5,)), x0).double()
    t = torch.tensor(max(sde.t_span[0], place * sde.t_span[1]), dtype=torch.float64)
    k, z0 = sde.exact(t), sde.encode(x0).double()
    z = (k.alpha * z0 + k.shift + k.variance.sqrt() * torch.randn(z0.shape, generator=g, dtype=torch.float64))[:1000]
    seen, values = (z - k.shift) / k.alpha, sde.encode(torch.cat([x0[:2], x0[14:16]])).double()
    with torch.no_grad():
        found = model.denoise(z, t)
    bits = torch.stack([values[1, 0], values[0, 0]])  # the smaller, the larger
    corners = sde.encode(torch.cat([torch.zeros(3, 2), 3 * torch.eye(3) - 1], 1))[:, 2:].double()
    for at, points, shares in (([0], bits[:, None], [0.96, 0.04]), ([2, 3, 4], corners, [10 / 16, 5 / 16, 1 / 16])):
        distances = ((seen[:, None, at] - points) ** 2).sum(-1)
        chances = (torch.tensor(shares).double().log() - distances / (2 * k.ratio**2)).softmax(-1)
        error = (found[:, at] - chances @ points).norm(dim=1).mean() / (points[-1] - points[0]).norm()
        assert float(error) < 3e-3


@pytest.mark.parametrize("place", [0.01, 0.2, 0.5, 1.0])
def test_a_fresh_network_tells_values_from_gaps_by_their_marks_and_gives_them_their_spread(place: float) -> None:
    """Of normal values of which some are not there, the mean of value and mark given both noised is known. One mark says so by its sign."""
    quantiles = torch.special.ndtri((torch.arange(2000) + 0.5) / 2000)
    values = torch.stack([quantiles[torch.randperm(2000, generator=torch.Generator().manual_seed(i))] for i in (0, 1)], 1)
    gap = torch.stack([torch.arange(2000) % 4 == 0, torch.arange(2000) // 4 % 10 > 0], 1)
    sign = torch.tensor([1.0, -1.0])
    z0 = torch.cat([torch.where(gap, 0.0, values), sign * torch.where(gap, -2.0, 2.0)], 1)
    _, z, v, found = _fresh(z0, place)
    value, seen = z.chunk(2, 1)
    odds = (~gap).double().mean(0).logit() + 4 * sign * seen / v + value**2 / (2 * v) - value**2 / (2 * (1 + v)) - torch.log1p(1 / v) / 2
    there = odds.sigmoid()
    wanted = torch.cat([there * value / (1 + v), sign * (4 * there - 2)], 1)
    assert float((found - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.parametrize("place", [0.01, 0.2, 1.0])
def test_a_fresh_network_tells_values_from_walls(place: float) -> None:
    """A value is normal where its mark is 0, and 0 beside the marks −2 and 2 of two walls: the mean given both noised is known."""
    quantiles = torch.special.ndtri((torch.arange(1700) + 0.5) / 1700)
    marks, shares = torch.tensor([-2.0, 0.0, 2.0]), torch.tensor([0.05, 0.85, 0.1])
    mark = marks.repeat_interleave((2000 * shares).long())
    z0 = torch.stack([torch.zeros(2000).masked_scatter(mark == 0, quantiles), mark], 1)
    model, z, v, found = _fresh(z0, place)
    assert model.decides
    value, seen = z.split(1, 1)
    spread = v + (marks == 0)
    odds = shares.double().log() - (seen - marks) ** 2 / (2 * v) - value**2 / (2 * spread) - spread.log() / 2
    chances = odds.softmax(1)
    wanted = torch.cat([chances[:, 1:2] * value / (1 + v), chances @ marks.double()[:, None]], 1)
    assert float((found - wanted).norm() / wanted.norm()) < 0.02


@pytest.mark.parametrize(("spec", "others"), [("vp", 1), ("ve", 1), ("vp", 70)])
def test_the_sampler_of_tables_draws_rare_categories_at_their_rate(spec: str, others: int) -> None:
    n, shares = 10_000 if others == 1 else 1000, torch.tensor([0.05, 0.2, 0.5])
    x0 = torch.where((torch.arange(1000)[:, None] * torch.tensor([1, 7, 13]) % 1000) < 1000 * shares, 2.0, -2.0)
    x0 = torch.cat([x0, torch.randn(1000, others, generator=torch.Generator().manual_seed(0))], 1)
    sde = SDES.build(spec).adapted(x0)
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=8").module((3 + others,)), x0)
    trained = Trained(model, SimpleNamespace(kind="table"), Encoding(()))  # pyright: ignore[reportArgumentType]
    sampler = choose_sampler(trained, None)
    with torch.no_grad():
        made = sampler.sample(model, (n, 3 + others), steps_for(trained, sampler))
    assert ((made[:, :3] > 0).float().mean(0) - shares).abs().le(4 * (shares * (1 - shares) / n).sqrt()).all()


def test_counts_have_their_spread_from_the_start(tmp_path: Path) -> None:
    """What a model starts with is fitted to values anywhere in their cells: as points, counts of which most are 1 have less spread."""
    counts = torch.tensor([0, 1, 2, 3, 4, 5, 6]).repeat_interleave(torch.tensor([800, 140, 38, 12, 5, 3, 2]))
    other = torch.randn(1000, generator=torch.Generator().manual_seed(0)).exp()
    lines = [f"{count},{value:.5f}" for count, value in zip(counts.tolist(), other.tolist(), strict=True)]
    (tmp_path / "a.csv").write_text("\n".join(["count,other", *lines]), encoding="utf-8")
    settings = {"data": str(tmp_path / "a.csv"), "steps": 1, "net": "mlp:width=8", "device": "cpu", "out": str(tmp_path / "run")}
    trained = restore(train(TrainingConfig.build(settings)).run)
    sampler = choose_sampler(trained, None)
    made = generate(trained, sampler, 4000, steps=steps_for(trained, sampler), batch_size=1000).x[:, 0]
    assert float((made == 0).float().mean()) == pytest.approx(0.8, abs=0.03)
    assert float(made[made > 0].std() / counts[counts > 0].float().std()) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("place", [0.01, 0.2, 1.0])
def test_a_fresh_network_knows_what_a_category_of_many_values_says_of_others_and_they_of_it(place: float) -> None:
    """Of two normal columns with a mean beside each of 70 values, the mean given all columns noised is known."""
    value = torch.arange(70).repeat_interleave(50)
    centres = torch.stack([torch.arange(70) % 7 - 3.0, 1.5 * (torch.arange(70) % 2)], 1).double()
    quantiles = torch.special.ndtri((torch.arange(50) + 0.5) / 50)
    inside = torch.stack([quantiles[torch.randperm(50, generator=torch.Generator().manual_seed(i))].repeat(70) for i in (0, 1)], 1)
    z0 = torch.cat([4 * torch.eye(70)[value] - 2, centres[value] + inside], 1).float()
    model, z, v, found = _fresh(z0, place)
    assert isinstance(model.linear, BlockDenoiser)
    points, w, away = 4 * torch.eye(70).double() - 2, inside.double().T.cov(), z[:, None, 70:] - centres
    inverse = torch.linalg.inv(w + v * torch.eye(2))
    chances = (-(torch.cdist(z[:, :70], points) ** 2) / (2 * v) - ((away @ inverse) * away).sum(2) / 2).softmax(1)
    wanted = torch.cat([chances @ points, (chances[:, :, None] * (centres + away @ inverse @ w)).sum(1)], 1)
    for part in (slice(0, 70), slice(70, 72)):
        assert float((found - wanted)[:, part].norm() / (wanted[:, part] - wanted[:, part].mean(0)).norm()) < 0.01


def test_a_column_of_three_values_beside_another_is_no_value_of_it() -> None:
    """Counts of few rows: one of 0, 1 and 2 that is 1 wherever another is not 1."""
    g = torch.Generator().manual_seed(0)
    first = torch.randint(0, 3, (60,), generator=g).float()
    second = torch.where(first == 1, torch.randint(0, 3, (60,), generator=g).float(), 1.0)
    z0 = torch.stack([first, second, torch.randn(60, generator=g)], 1)
    sde = SDES.build("vp").adapted(z0)
    assert isinstance(sde, AffineSDE)
    linear = fit_denoiser(sde, z0, z0.std(0))
    assert isinstance(linear, LinearDenoiser)
    assert linear.piles is not None
    assert linear.piles.at.tolist() == [0, 1]
    assert not len(linear.piles.gating)


def test_a_category_that_no_row_has_does_not_break_up_the_others() -> None:
    """Held-out rows may have it alone."""
    found = Corners.find(torch.eye(4, dtype=torch.float64)[torch.tensor([0, 1, 3, 1, 1, 3, 3])] * 4 - 2)
    assert found is not None
    assert found[:, 3].tolist() == [0, 0, -1, 0]


def test_corners_of_another_form_are_refused() -> None:
    sde = SDES.build("vp")
    assert isinstance(sde, AffineSDE)
    for corners in (torch.zeros(D, 3), torch.full((D, 4), -1.0), torch.full((D, 4), float("nan")), torch.full((D, 9), 3.0)):
        with pytest.raises(ValueError, match="no columns of two values"):
            LinearDenoiser(sde, torch.ones(()), torch.eye(D), corners)


def test_piles_of_another_form_are_refused() -> None:
    sde = SDES.build("vp")
    assert isinstance(sde, AffineSDE)
    whole = torch.tensor([[0.0, -2, 0, 2, 0.1, 0.2, 1, 0, 0, 1]])
    LinearDenoiser(sde, torch.ones(()), torch.eye(D), piles=whole)
    for place, value in ((0, 4), (0, 1), (1, 0), (4, 0.9), (5, 0), (6, 4), (9, 0), (8, float("nan"))):
        broken = whole.clone()
        broken[0, place] = value
        with pytest.raises(ValueError, match="no columns of three values"):
            LinearDenoiser(sde, torch.ones(()), torch.eye(D), piles=broken)


def test_columns_of_a_wide_table_stand_in_blocks_with_those_that_belong_to_them() -> None:
    """Each block has its own denoiser, a value stands beside its mark, and a category of 70 values in none. It has exact shares too."""
    sde = SDES.build("vp")
    assert isinstance(sde, AffineSDE)
    draws = torch.Generator().manual_seed(0)
    few, many = (torch.nn.functional.one_hot(torch.arange(700) % k, k) * 2.0 for k in (5, 70))
    z0 = torch.cat([torch.randn(700, 62, generator=draws), few, torch.randn(700, 8, generator=draws), many], 1)
    z0[:, 74] = 2.0 * (torch.arange(700) % 3 - 1)
    z0[:, 0] = torch.where(z0[:, 74] == 0, z0[:, 0], 0.0)
    std = z0.std(0)
    linear = fit_denoiser(sde, z0, std)
    assert isinstance(linear, BlockDenoiser)
    assert linear.decides
    places = [[*range(1, 62), 67, 68, 69], [0, *range(62, 67), *range(70, 75)]]
    assert [(linear.block == k).nonzero().flatten().tolist() for k in (0, 1, -1)] == [*places, [*range(75, 145)]]
    lo, hi = sde.t_span
    t = torch.tensor(lo + (hi - lo) * 12 / 31, dtype=torch.float64)  # one of the tabulated times
    u, level = torch.randn(9, 145, generator=draws), float(sde.noise_conditioning(t))
    wanted = u.tanh()
    for part, at in zip(linear.parts, places, strict=True):
        alone = fit_denoiser(sde, z0[:, at], std[at])
        assert isinstance(alone, LinearDenoiser)
        wanted[:, at] = alone(lambda _, at=at: u[:, at].tanh(), u[:, at], level)
        assert alone.state_dict().keys() == part.state_dict().keys()
    tau = sde.exact(t).ratio / std[75:].double()
    s, mean = (1 + tau**2).sqrt(), z0[:, 75:].double().mean(0)
    seen = u[:, 75:].double() * s * std[75:] + mean  # a category and noise
    chances = torch.cdist(seen, 2 * torch.eye(70).double()).square().div(-2 * (tau * std[75:]) ** 2).softmax(1)
    found = (2 * chances - mean) / std[75:]  # in place of the noised category, the network sees its mean
    made = linear(torch.tanh, u, level)
    assert torch.equal(made[:, :75], wanted[:, :75])
    torch.testing.assert_close(made[:, 75:], (found.tanh() + (s * found - u[:, 75:]) / tau).float(), atol=1e-4, rtol=1e-4)
    again = restored_denoiser(sde, std, linear.state_dict())
    assert isinstance(again, BlockDenoiser)
    assert torch.equal(again(torch.tanh, u, level), made)
    with pytest.raises(ValueError, match="no blocks of columns"):
        restored_denoiser(sde, std, {**linear.state_dict(), "block": linear.block.clamp_max(0)})


def test_images_have_none_and_few_rows_have_shares_without_correlations() -> None:
    sde = SDES.build("vp")
    assert isinstance(sde, AffineSDE)
    assert fit_denoiser(sde, torch.randn(1000, 1, 2, 2), torch.ones(1, 2, 2)) is None
    few = fit_denoiser(sde, torch.cat([torch.randn(5, 9), torch.tensor([[2.0], [-2], [-2], [2], [-2]])], 1), torch.ones(10))
    assert isinstance(few, LinearDenoiser)
    assert few.decides
    assert torch.equal(few.clean_correlation, torch.eye(10))


def test_a_correlation_matrix_of_few_rows_is_nearer_to_the_true_one_than_that_of_the_rows() -> None:
    """Of independent columns; two that nearly determine each other stay so."""
    sde = SDES.build("vp")
    assert isinstance(sde, AffineSDE)
    x0 = torch.randn(40, 12, generator=torch.Generator().manual_seed(5))
    linear = fit_denoiser(sde, x0, x0.std(0))
    assert isinstance(linear, LinearDenoiser)
    apart, error = (float((matrix - torch.eye(12)).norm()) for matrix in (linear.clean_correlation, x0.T.corrcoef()))
    assert apart < 0.5 * error
    z0 = rows(100)
    linear = fit_denoiser(sde, z0, z0.std(0))
    assert isinstance(linear, LinearDenoiser)
    assert float(linear.clean_correlation[0, 2]) > 0.995


@pytest.mark.parametrize("rows", [20, 40, 70])
def test_a_correlation_matrix_is_shrunk_about_as_far_as_is_best(rows: int) -> None:
    """64 columns share three factors. The best is that of the least divergence of the normal law of `R` from that of the shrunk matrix."""
    draws = torch.Generator().manual_seed(3)
    load = torch.randn(3, 64, generator=draws).double()
    spread = (1 + (load**2).sum(0)).sqrt()
    r = (load.T @ load + torch.eye(64)) / spread / spread[:, None]
    x = torch.randn(rows, 3, generator=draws).double() @ load + torch.randn(rows, 64, generator=draws).double()
    x = (x - x.mean(0)) / x.std(0)
    law = MultivariateNormal(torch.zeros(64).double(), r)

    def divergence(matrix: Tensor) -> float:
        return float(kl_divergence(law, MultivariateNormal(torch.zeros(64).double(), matrix)))

    shares = torch.linspace(0.02, 0.98, 49).double()
    best = min(divergence(torch.lerp(x.T @ x / (rows - 1), torch.eye(64).double(), share)) for share in shares)
    assert divergence(correlation_of(x).double()) < 1.1 * best


@pytest.mark.parametrize("shape", [(65, 65), (3, 4), (9,)])
def test_a_matrix_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    """A file may come from somebody else, and the tables are far larger than the matrix."""
    sde = SDES.build("vp")
    assert isinstance(sde, AffineSDE)
    with pytest.raises(ValueError, match="no correlation matrix of at most 64 columns"):
        LinearDenoiser(sde, torch.ones(()), torch.ones(shape))
