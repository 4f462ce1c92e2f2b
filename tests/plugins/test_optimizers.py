"""Optimizers as plugins: fractional noise against its covariance, magnitudes that stay, directions that are kept."""

import math

import pytest
import torch
from torch import nn

from sdezoo import OPTIMIZERS, Noise
from sdezoo.errors import ParameterError, RunError
from sdezoo.learning.optimizer import flatten_state, restore_state
from sdezoo_plugins.optimizers.fpgd import fractional_noise
from sdezoo_plugins.optimizers.hebbian_projection import Projected


def covariance(hurst: float, lag: int) -> float:
    return (abs(lag + 1) ** (2 * hurst) - 2 * abs(lag) ** (2 * hurst) + abs(lag - 1) ** (2 * hurst)) / 2


@pytest.mark.parametrize("hurst", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_increments_have_the_covariance_of_fractional_noise(hurst: float) -> None:
    """Of 20,000 series of 12 steps: within five standard errors, `√(2/n)` at most."""
    x = fractional_noise(hurst, 12, 20_000, Noise.seeded(0, 1)).double()
    found = x @ x.T / x.shape[1]
    wanted = torch.tensor([[covariance(hurst, i - j) for j in range(12)] for i in range(12)], dtype=torch.float64)
    assert float((found - wanted).abs().max()) < 5 * math.sqrt(2 / 20_000)


class Quadratic(nn.Module):
    def __init__(self, count: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(count))


@pytest.mark.parametrize("hurst", [0.3, 0.5, 0.7])
def test_the_variance_on_a_quadratic_is_that_of_the_fractional_process(hurst: float) -> None:
    """`σ² H Γ(2H) λ^{−2H}` as η falls, within 3 %; at η = 0.02 that of the steps themselves, of 6000 weights, within 3 %.

    Steps `w ← a w + σ η^H ξ` with `a = 1 − η λ` have the variance `σ² η^{2H} Σ_k a^{|k|} γ(k)/(1 − a²)`.
    """
    eta, slope, sigma, steps = 0.02, 1.5, 0.3, 900
    net = Quadratic(6000)
    optimizer = OPTIMIZERS.build(f"fpgd:hurst={hurst},sigma={sigma}").build(net, eta, steps=steps, seed=1)
    squares = []
    for k in range(steps):
        net.w.grad = slope * net.w.detach()
        optimizer.step()
        if k >= steps // 2 and k % 30 == 0:
            squares.append(float(net.w.detach().square().mean()))

    def variance(step: float) -> float:
        a = 1 - step * slope
        k = torch.arange(int(30 / (step * slope)), dtype=torch.float64)
        lags = ((k + 1) ** (2 * hurst) - 2 * k ** (2 * hurst) + (k - 1).abs() ** (2 * hurst)) / 2 * a**k
        return sigma**2 * step ** (2 * hurst) * float(2 * lags.sum() - lags[0]) / (1 - a**2)

    assert sum(squares) / len(squares) == pytest.approx(variance(eta), rel=0.03)
    assert variance(1e-4) == pytest.approx(sigma**2 * hurst * math.gamma(2 * hurst) * slope ** (-2 * hurst), rel=0.03)


def test_without_noise_it_is_gradient_descent() -> None:
    ours, theirs = Quadratic(5), Quadratic(5)
    pair = OPTIMIZERS.build("fpgd:sigma=0").build(ours, 0.1), torch.optim.SGD(theirs.parameters(), 0.1)
    for net, optimizer in zip((ours, theirs), pair, strict=True):
        for k in range(5):
            net.w.grad = net.w.detach() - k
            optimizer.step()
    assert torch.equal(ours.w, theirs.w)


def test_noise_of_another_number_of_steps_is_refused() -> None:
    rule, net = OPTIMIZERS.build("fpgd"), Quadratic(2)
    optimizer = rule.build(net, 0.1, steps=4)
    net.w.grad = torch.zeros(2)
    optimizer.step()
    with pytest.raises(RunError, match="drawn for 4 steps, not 8") as refusal:
        restore_state(rule.build(net, 0.1, steps=8), flatten_state(optimizer))
    assert "--steps 4" in refusal.value.remedy
    with pytest.raises(ParameterError, match="GiB"):
        rule.build(Quadratic(1000), 0.1, steps=10**6)


def test_signs_take_one_bit_a_weight() -> None:
    rule = OPTIMIZERS.build("sign-mask")
    net = nn.Sequential(nn.Linear(10, 3), nn.LayerNorm(3))
    note = rule.note(rule.build(net, 0.01))
    assert note is not None
    assert note.startswith(f"Signs take {-(-30 // 8)} bytes and biases and gains {4 * 9}; all weights would take {4 * 39}")


def test_pruned_weights_stay_pruned_and_take_no_bit() -> None:
    rule, net = OPTIMIZERS.build("sign-mask"), nn.Linear(10, 3)
    pruned = torch.rand(3, 10, generator=torch.Generator().manual_seed(0)) < 0.7
    net.weight.data[pruned] = 0
    optimizer = rule.build(net, 0.5)
    learned(net, optimizer, torch.eye(10), 20)
    assert torch.equal(net.weight == 0, pruned)
    assert f"Signs take {-(-int((~pruned).sum()) // 8)} bytes" in str(rule.note(optimizer))


def test_a_layer_that_starts_at_zero_gets_one_magnitude() -> None:
    net = nn.Linear(9, 2)
    nn.init.zeros_(net.weight)
    optimizer = OPTIMIZERS.build("sign-mask:gain=0.6").build(net, 0.01)
    (net(torch.ones(4, 9)) - torch.tensor([1.0, -1.0])).square().sum().backward()
    optimizer.step()
    assert torch.equal(net.weight.detach(), torch.tensor([[0.2], [-0.2]]).expand(2, 9))


def low_rank(rows: int, width: int, rank: int, seed: int) -> torch.Tensor:
    noise = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(width, rank, generator=noise)).Q
    return torch.randn(rows, rank, generator=noise) @ basis.T


def learned(net: nn.Module, optimizer: torch.optim.Optimizer, x: torch.Tensor, steps: int) -> None:
    for k in range(steps):
        optimizer.zero_grad()
        (net(x) - x[:, :3].roll(1, 1) - k % 2 * 0.1).square().mean().backward()
        optimizer.step()


def test_the_subspace_is_that_of_the_inputs_and_steps_keep_off_it() -> None:
    """Inputs of rank 3 and a constant span 4 directions. They are found, and what was answered to them stays, bit by bit nearly."""
    rule, net = OPTIMIZERS.build("hebbian-projection:directions=4"), nn.Linear(10, 3)
    old, new = low_rank(200, 10, 3, 0), low_rank(200, 10, 3, 1)
    first = rule.build(net, 0.01)
    learned(net, first, old, 400)
    found = first.state[net.weight]["directions"].double()
    inputs = nn.functional.pad(old, (0, 1), value=1.0).double()
    assert float((found @ found.T - torch.eye(4)).abs().max()) < 1e-2
    assert float((inputs - inputs @ torch.linalg.pinv(found) @ found).norm() / inputs.norm()) < 0.02
    before, start = net(old).detach(), net.weight.detach().clone()
    second = rule.build(net, 0.01)
    rule.inherit(second, flatten_state(first))
    learned(net, second, new, 400)
    moved = float((net(old).detach() - before).abs().max())
    assert float((net.weight.detach() - start).norm()) > 0.1
    assert moved < 0.02 * float(before.abs().max())
    plain, other = nn.Linear(10, 3), OPTIMIZERS.build("adamw:weight_decay=0")
    plain.load_state_dict({"weight": start, "bias": net.bias.detach()})
    learned(plain, other.build(plain, 0.01), new, 400)
    assert float((plain(old).detach() - before).abs().max()) > 10 * moved


def test_a_third_set_of_data_keeps_off_both() -> None:
    rule, net = OPTIMIZERS.build("hebbian-projection:directions=3"), nn.Linear(10, 3, bias=False)
    states = {}
    for turn in range(3):
        optimizer = rule.build(net, 0.01)
        assert isinstance(optimizer, Projected)
        if states:
            rule.inherit(optimizer, states)
            former = optimizer.state[net.weight]["former"]
            assert former.shape == (3 * turn, 10)
            torch.testing.assert_close(former @ former.T, torch.eye(3 * turn), atol=1e-5, rtol=0)
        learned(net, optimizer, low_rank(100, 10, 3, turn), 100)
        states = flatten_state(optimizer)


def test_more_directions_than_there_are_and_runs_without_any_are_refused() -> None:
    net = nn.Linear(10, 3)
    with pytest.raises(ParameterError, match="12 directions are more than the 11"):
        OPTIMIZERS.build("hebbian-projection:directions=12").build(net, 0.1)
    rule = OPTIMIZERS.build("hebbian-projection:directions=7")
    optimizer = rule.build(net, 0.1)
    learned(net, optimizer, low_rank(20, 10, 3, 0), 2)
    with pytest.raises(ParameterError, match="7 directions are more than the 4"):
        rule.inherit(rule.build(net, 0.1), flatten_state(optimizer))
    adam = OPTIMIZERS.build("adamw").build(net, 0.1)
    learned(net, adam, low_rank(20, 10, 3, 0), 2)
    with pytest.raises(RunError, match="did not learn which directions"):
        rule.inherit(rule.build(net, 0.1), flatten_state(adam))
    with pytest.raises(ParameterError, match="no linear layer"):
        rule.build(Quadratic(3), 0.1)


@pytest.mark.parametrize("spec", ["fpgd:hurst=0", "fpgd:hurst=1", "sign-mask:gain=0", "egd:momentum=1", "hebbian-projection:directions=0"])
def test_values_out_of_range_are_refused(spec: str) -> None:
    with pytest.raises(ParameterError, match="is not allowed"):
        OPTIMIZERS.build(spec)
