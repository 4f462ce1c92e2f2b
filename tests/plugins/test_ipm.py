"""The closed-form discriminator: kernel means against closed forms, the flow of its slope, and samples of a model that is wrong."""

import math

import pytest
import torch
from torch import Tensor

from sdezoo import GUIDES, SAMPLERS, SDES, AffineSDE, Model, ParameterError, Reference
from sdezoo_plugins.guides.ipm import Witness, bandwidth, kernel_slope

WIDE = torch.float64


def normal(*shape: int, seed: int = 0, mean: float = 0.0, sd: float = 1.0) -> Tensor:
    return mean + sd * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=WIDE)


def kernel_mean(z: Tensor, y: Tensor, h: float) -> Tensor:
    return torch.exp(-((z[:, None] - y[None]) ** 2).sum(-1) / (2 * h)).mean(1)


def test_the_slope_between_normal_laws_is_the_closed_form() -> None:
    """`E κ(z, y)` for `y ~ N(m, s² I)` is `(h/(h + s²))^{d/2} exp(−‖z − m‖²/2(h + s²))`; 50,000 draws are within 0.006 of its slope."""
    z, h, d = normal(40, 2, seed=1), 0.8, 2
    for mean, sd in ((0.5, 1.3), (0.0, 1.0)):
        wide = h + sd**2
        value = (h / wide) ** (d / 2) * torch.exp(-((z - mean) ** 2).sum(1, keepdim=True) / (2 * wide))
        found = kernel_slope(z, normal(50_000, d, seed=2, mean=mean, sd=sd), h)
        assert float((found - (-value * (z - mean) / wide)).abs().max()) < 0.006


def test_the_slope_is_the_derivative_of_the_kernel_mean() -> None:
    z, y = normal(5, 3, seed=3).requires_grad_(), normal(30, 3, seed=4)
    (wanted,) = torch.autograd.grad(kernel_mean(z, y, 0.7).sum(), z)
    torch.testing.assert_close(kernel_slope(z.detach(), y, 0.7), wanted)


def test_in_a_plane_it_is_the_derivative_there_and_across_it_nothing() -> None:
    """As for points of the plane, and no step leaves it; more directions than there are do not exist."""
    plane = torch.linalg.qr(normal(4, 2)).Q.T
    z, y = normal(70, 4, seed=3).requires_grad_(), normal(30, 2, seed=4)
    (wanted,) = torch.autograd.grad(kernel_mean(z @ plane.T, y, 0.7).sum(), z)
    found = kernel_slope(z.detach(), y, 0.7, plane)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(found @ plane.T @ plane, found)
    torch.testing.assert_close(
        guided("ipm:components=1").score(normal(5, 1), torch.tensor(0.5)), guided("ipm").score(normal(5, 1), torch.tensor(0.5))
    )
    with pytest.raises(ParameterError, match="asks for 2 principal components, and there are 1"):
        guided("ipm:components=2")


def test_the_bandwidth_is_the_median_over_pairs() -> None:
    assert bandwidth(torch.tensor([[0.0], [1.0], [3.0]])) == pytest.approx(2**2 / 2)


def test_the_flow_of_the_witness_takes_the_discrepancy_down() -> None:
    """Particles that climb the witness go to the data: MMD² falls from 0.263 to below 0.01."""
    real, z, h = normal(256, 2, seed=5), normal(256, 2, seed=6, mean=0.725, sd=0.5), 1.0

    def discrepancy() -> float:
        return float(kernel_mean(real, real, h).mean() + kernel_mean(z, z, h).mean() - 2 * kernel_mean(z, real, h).mean())

    first = discrepancy()
    for _ in range(100):
        z = z + 0.5 * (kernel_slope(z, real, h) - kernel_slope(z, z, h))
    assert first == pytest.approx(0.263, abs=0.005)
    assert discrepancy() < 0.01


class Wrong(Model[AffineSDE]):
    """A normal distribution with mean ½ and standard deviation 1.3, of the classes that it is given; the data are standard normal."""

    def __init__(self, sde: AffineSDE, labels: Tensor | None = None) -> None:
        self.sde, self.labels = sde, labels

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        k = self.sde.at(t, z)
        shift = 0.0 if self.labels is None else 4.0 * self.labels.to(z)[:, None]
        return -(z - k.alpha * (0.5 + shift)) / (k.alpha**2 * 1.3**2 + k.variance)

    def prior(self, shape, noise, like):
        return noise.normal(like, shape)

    def condition_on(self, condition: Tensor) -> Model[AffineSDE]:
        return Wrong(self.sde, condition)


def guided(spec: str, *, labels: Tensor | None = None, sampler: str = "euler-maruyama", kept: dict | None = None) -> Model:
    sde = SDES.build("vp")

    def rows(label: int | None) -> Tensor:
        return normal(512, 1) + (0 if label is None else 4.0 * label)

    def inner(given: Tensor | None, _indices: object = ()) -> Model:
        return Wrong(sde, given)

    like = torch.empty((), dtype=WIDE)
    reference = Reference(inner, SAMPLERS.build(sampler), 40, (1,), seed=3, rows=rows, labels=labels, like=like, kept=kept)
    return GUIDES.build(spec).around(inner(labels), reference)


def draw(model: Model, rows: list[int], sampler: str = "euler-maruyama") -> Tensor:
    return SAMPLERS.build(sampler).sample(model, (len(rows), 1), 40, 3, rows=rows, like=torch.empty((), dtype=WIDE))


@pytest.mark.parametrize("sampler", ["euler-maruyama", "dpmpp-2m"])
def test_samples_of_a_wrong_model_come_nearer_to_the_data(sampler: str) -> None:
    rows = list(range(400))
    free = draw(guided("ipm:weight=0", sampler=sampler), rows, sampler)
    steered = draw(guided("ipm:weight=2,count=200", sampler=sampler), rows, sampler)
    data = normal(2000, 1, seed=77)

    def discrepancy(x: Tensor) -> float:
        both = kernel_mean(x, x, 1.0).mean() + kernel_mean(data, data, 1.0).mean()
        return float(both - 2 * kernel_mean(x, data, 1.0).mean())

    assert discrepancy(steered) < 0.6 * discrepancy(free)


def test_row_17_alone_is_row_17_of_many() -> None:
    """Bit for bit, though what was drawn before differs; the pilot has keys of its own, and is drawn once."""
    kept: dict = {}
    many = draw(guided("ipm:count=50,rounds=2", kept=kept), list(range(40)))
    drawn = {key: value.clone() for key, value in kept.items() if key[0] != "once"}
    alone = draw(guided("ipm:count=50,rounds=2"), [17])
    assert torch.equal(alone[0], many[17])
    assert torch.equal(draw(guided("ipm:count=50,rounds=2", kept=kept), [17])[0], many[17])
    assert {key[0] for key in kept} == {"rows", "pilot", "once"}
    assert all(torch.equal(kept[key], value) for key, value in drawn.items())


def test_each_class_is_compared_with_its_own_rows() -> None:
    labels = torch.tensor([0, 1] * 100)
    x = draw(guided("ipm:weight=2,count=100", labels=labels), list(range(200)))
    assert float(x[::2].mean()) == pytest.approx(0.25, abs=0.3)
    assert float(x[1::2].mean()) == pytest.approx(4.25, abs=0.3)
    alone = draw(guided("ipm:weight=2,count=100", labels=labels[1:2]), [1])
    assert torch.equal(alone[0], x[1])


def test_times_may_differ_between_rows() -> None:
    model, z = guided("ipm:count=50"), normal(3, 1)
    t = torch.tensor([0.2, 0.5, 0.9], dtype=WIDE)
    rows = torch.cat([model.score(z[i : i + 1], t[i]) for i in range(3)])
    torch.testing.assert_close(model.score(z, t[:, None]), rows)


def test_where_noise_covers_the_data_the_witness_vanishes() -> None:
    """Both sets have the same noise, so their difference is that of the rows, times `α`: with noise of its own each, it would be 0.06."""
    sde = SDES.build("vp")
    reference = Reference(lambda _, __: Wrong(sde), SAMPLERS.build("dpmpp-2m"), 20, (1,), like=torch.empty((), dtype=WIDE))
    witness = Witness(normal(200, 1), reference.noised, normal(200, 1, seed=9, mean=0.5))
    last = torch.tensor(1.0, dtype=WIDE)
    assert float(witness.slope(normal(50, 1, seed=8), last).abs().max()) < 3 * math.exp(-5)
