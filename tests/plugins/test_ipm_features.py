"""The closed-form discriminator in features of a network: closed forms for normal features, samples of a model that is wrong, refusals."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sdezoo import (
    GUIDES,
    NETWORKS,
    SAMPLERS,
    SDES,
    AffineSDE,
    CompositionError,
    DiffusionModel,
    Model,
    ParameterError,
    Reference,
    ScoreModel,
)
from sdezoo.generation.acceleration import prepare
from sdezoo.learning.network import features_of
from sdezoo.learning.output import OUTPUTS
from sdezoo_plugins.guides.critic import Critic, direction

WIDE, SHAPE = torch.float64, (1, 8, 8)
AT = torch.tensor(0.3)


def normal(*shape: int, seed: int = 0, mean: float = 0.0, sd: float = 1.0) -> Tensor:
    return mean + sd * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=WIDE)


def images(count: int, seed: int, mean: float = 0.0) -> Tensor:
    return normal(count, *SHAPE, seed=seed, mean=mean).float()


@pytest.fixture(scope="module")
def network() -> Any:
    """A small U-Net whose weights are none of them 0."""
    torch.manual_seed(0)
    net = NETWORKS.build("unet:width=8").module(SHAPE).eval().requires_grad_(False)
    for weight in net.parameters():
        weight.add_(0.05 * torch.randn_like(weight))
    return net


@pytest.fixture(scope="module")
def model(network: nn.Module) -> ScoreModel:
    return ScoreModel(SDES.build("vp"), network, "edm").eval()


def test_between_normal_laws_it_is_the_log_ratio() -> None:
    """Of `N(±δ/2, C)` it is `C⁻¹δ / (1 + δᵀC⁻¹δ/4)`, near the slope `C⁻¹δ` of the log-ratio; a ridge of 0.01 takes a hundredth away.

    An entry of a mean has standard error `√(2/n)`, 0.01, in units of the spread; five of them are allowed, and as much for `C`.
    """
    root = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 3.0]], dtype=WIDE)
    gap = torch.tensor([0.4, -0.2, 0.9], dtype=WIDE)
    real, made = (normal(20_000, 3, seed=seed) @ root.T + sign * gap / 2 for seed, sign in ((1, 1), (2, -1)))
    exact = torch.linalg.solve(root @ root.T, gap)
    found = direction(real, made)
    assert found is not None
    wanted = exact / (1 + exact @ gap / 4)
    assert float(((found - wanted) @ root).abs().max()) < 0.1 * float((wanted @ root).norm())


def test_a_difference_by_chance_is_often_left_alone_and_none_always() -> None:
    """Halves of the same law agree in sign by chance, in half of all cases: of 50 fewer than 10 is 4 standard deviations away."""
    rows = normal(100, 10, seed=3)
    assert direction(rows, rows.clone()) is None
    left = sum(direction(normal(100, 10, seed=2 * k), normal(100, 10, seed=2 * k + 1)) is None for k in range(50))
    assert left >= 10


def test_what_one_half_shows_counts_as_far_as_the_other_shows_it() -> None:
    """Means of one feature differ by 1 in one half, by 0.2 in the other: ridge and factor are those that a search finds best."""
    real, made = torch.tensor([[1.5], [1.1], [-0.5], [-0.9]], dtype=WIDE), torch.tensor([[0.5], [0.9], [-1.5], [-1.1]], dtype=WIDE)
    unit = float(torch.cat([real, made]).std())
    halves = [(1.25 / unit**2, 1.0 / unit), (1.01 / unit**2, 0.2 / unit)]  # mean square and difference of means
    shares = torch.linspace(0, 1, 10_001, dtype=WIDE)
    best = (0.0, 0.0)
    for ridge in (0.01, 0.03, 0.1, 0.3, 1.0):
        judged = torch.zeros_like(shares)
        for (own, shown), (other, gap) in (halves, halves[::-1]):
            v = shares * shown / (own + ridge)
            judged += v * gap - v**2 * other / 2
        best = max(best, (float(judged.max()), float(shares[judged.argmax()]) * 0.6 / (1.13 / unit**2 + ridge) / unit**2))
    found = direction(real, made)
    assert found is not None
    assert float(found) == pytest.approx(best[1], rel=1e-3)


def test_features_that_are_constant_do_not_count() -> None:
    real, made = normal(200, 2, seed=1, mean=0.5), normal(200, 2, seed=2)
    wide = [torch.cat([rows, torch.full((200, 1), 7.0, dtype=WIDE)], 1) for rows in (real, made)]
    found, without = direction(*wide), direction(real, made)
    assert found is not None
    assert without is not None
    assert found[2] == 0
    torch.testing.assert_close(found[:2], without)


class Shifted(Model[AffineSDE]):
    """A normal distribution with mean ½; the data are standard normal, so that the log-ratio is linear in the state."""

    def __init__(self, sde: AffineSDE) -> None:
        self.sde = sde

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        k = self.sde.at(t, z)
        return -(z - k.alpha * 0.5) / (k.alpha**2 + k.variance)


def around(
    spec: str, features: Callable[[Tensor, Tensor], Tensor] | None, inner: Model, *, rows: Tensor, kept: dict | None = None
) -> Model:
    reference = Reference(
        lambda _, __: inner, SAMPLERS.build("dpmpp-2m"), 20, rows.shape[1:], seed=3, rows=lambda _: rows,
        like=torch.empty((), dtype=rows.dtype), kept=kept, features=features,
    )  # fmt: skip
    return GUIDES.build(spec).around(inner, reference)


def drawn(model: Model[Any], rows: list[int], like: Tensor) -> Tensor:
    return SAMPLERS.build("dpmpp-2m").sample(model, (len(rows), *like.shape[1:]), 20, 3, rows=rows, like=like[:0].new_empty(()))


def test_at_weight_1_a_wrong_mean_is_put_right() -> None:
    """The mean goes from ½ to 0, within 4 standard errors, `√(2/400)` of the two sets and as much of the samples, and a share of 0.05 that
    ridge and cross-validation leave."""
    data = normal(400, 1, seed=1)
    free = drawn(Shifted(SDES.build("vp")), list(range(400)), data)
    guided = drawn(around("ipm:features=network,count=400", lambda z, _: z, Shifted(SDES.build("vp")), rows=data), list(range(400)), data)
    assert float(free.mean()) == pytest.approx(0.5, abs=0.2)
    assert abs(float(guided.mean() - data.mean())) < 4 * (2 / 400) ** 0.5 * 0.5 + 0.05
    assert float(guided.std()) == pytest.approx(1.0, abs=0.15)


def test_the_slope_is_the_derivative_through_the_network(model: ScoreModel) -> None:
    wide = model.with_network(model.net.double())
    features = wide.network_features
    assert features is not None
    critic = Critic(features, images(60, 1).double(), lambda x, _: x, images(60, 2, 0.5).double())
    z, along = images(3, 5).double(), critic.at(AT)
    assert along is not None
    slope, step = critic.slope(z, AT), 1e-5 * images(3, 6).double()
    ahead, behind = (features(z + sign * step, AT) @ along for sign in (1, -1))
    model.net.float()
    torch.testing.assert_close((slope * step).flatten(1).sum(1), (ahead - behind) / 2, rtol=1e-4, atol=1e-12)


def test_slopes_of_rounds_add_up(model: ScoreModel) -> None:
    features = model.network_features
    assert features is not None
    real, first, second = images(60, 1), images(60, 2, 0.5), images(60, 3, 0.25)

    def same(x: Tensor, _: Tensor) -> Tensor:
        return x

    before, alone = Critic(features, real, same, first), Critic(features, real, same, second)
    parts = [critic.at(AT) for critic in (before, alone, Critic(features, real, same, second, before))]
    assert parts[0] is not None
    assert parts[1] is not None
    assert parts[2] is not None
    torch.testing.assert_close(parts[0] + parts[1], parts[2])
    kept: dict = {}
    around("ipm:features=network,count=20,rounds=2", features, model, rows=real, kept=kept)
    pilots = [value for key, value in kept.items() if key[0] == "pilot"]
    assert len(pilots) == 2
    assert not torch.equal(*pilots)


def test_row_17_alone_is_row_17_of_many(model: ScoreModel) -> None:
    """The slope to the bit, since rows go through the network in blocks of one size; samples as far as the score itself."""
    data, z = images(80, 1, 0.5), images(100, 7)
    guided = around("ipm:features=network,count=40", model.network_features, model, rows=data)
    many: Tensor = guided.pull(z, AT)  # pyright: ignore[reportAttributeAccessIssue]
    assert float(many[17].abs().max()) > 0
    assert torch.equal(guided.pull(z[17:18], AT)[0], many[17])  # pyright: ignore[reportAttributeAccessIssue]
    assert torch.equal(guided.pull(z[3:50], AT), many[3:50])  # pyright: ignore[reportAttributeAccessIssue]
    rows = [4, 17, 2]
    torch.testing.assert_close(drawn(guided, [17], data)[0], drawn(guided, rows, data)[1], rtol=1e-4, atol=1e-4)


def test_weight_0_is_the_model_inside(model: ScoreModel) -> None:
    assert around("ipm:features=network,weight=0", model.network_features, model, rows=images(8, 1)) is model


@pytest.mark.parametrize("output", sorted(OUTPUTS.keys() - {"hyvarinen"}))
def test_features_are_those_of_the_input_of_the_network(network: Any, output: str) -> None:
    """Whatever the output means; and a row for a row."""
    seen: list[Tensor] = []
    model, z = ScoreModel(SDES.build("vp"), network, output).eval(), images(4, 1)
    handle = network.enter.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    model.score(z, AT)
    handle.remove()
    features = model.network_features
    assert features is not None
    wanted = features_of(network)(seen[0], model.sde.noise_conditioning(AT).float().expand(4))  # pyright: ignore[reportOptionalCall]
    assert torch.equal(features(z, AT), wanted)
    torch.testing.assert_close(features(z[1:2], AT)[0], wanted[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["float64", "bf16"])
def test_features_are_there_at_other_precisions(model: ScoreModel, precision: str) -> None:
    z = images(4, 1).to(WIDE if precision == "float64" else torch.float32)
    found, wanted = prepare(model, torch.device("cpu"), precision).network_features, model.network_features
    assert found is not None
    assert wanted is not None
    assert found(z, AT).dtype == z.dtype
    torch.testing.assert_close(found(z, AT).float(), wanted(z.float(), AT), rtol=0.1, atol=0.1)


def test_series_have_features_too() -> None:
    net = NETWORKS.build("unet1d:width=8").module((12, 3))
    assert net.features(torch.zeros(5, 12, 3), torch.zeros(5)).shape == (5, 2 * (8 + 16 + 16 + 16 + 8))


class Holding(nn.Module):
    """An image classifier's way: `features` is a part of it, and no method."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Flatten()

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        return 0 * x


def test_a_network_without_features_is_refused() -> None:
    for net in (Holding(), NETWORKS.build("mlp").module((4,))):
        bare = ScoreModel(SDES.build("vp"), net)
        assert bare.network_features is None
        with pytest.raises(CompositionError, match=r"has no features .*Leave out features=network, or train a network that has them"):
            around("ipm:features=network", bare.network_features, bare, rows=images(8, 1))


def test_components_and_features_exclude_one_another() -> None:
    with pytest.raises(ParameterError, match="Leave out components, or features"):
        GUIDES.build("ipm:features=network,components=4")


def test_a_run_guides_by_its_own_network() -> None:
    """Of images, with a U-Net; a table's network has no features, and says so."""
    x = images(40, 1).numpy().clip(0, 1)
    made = DiffusionModel(steps=20, batch_size=8).fit(x)
    assert not np.array_equal(made.sample(4), made.sample(4, guide="ipm:features=network,count=16"))
    assert np.array_equal(made.sample(4), made.sample(4, guide="ipm:features=network,count=16,weight=0"))
    with pytest.raises(CompositionError, match="has no features"):
        DiffusionModel(steps=2).fit(x[:, 0, 0]).sample(4, guide="ipm:features=network,count=16")
