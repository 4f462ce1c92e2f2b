"""Reversible Heun and its adjoint: the gradients of back-propagation, in memory that does not grow with the number of steps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdezoo.errors import ParameterError
from sdezoo.learning.paths.observed import PathCoefficients
from sdezoo.process.torchsde_bridge import KeyedIntervals, PathEquation, brownian_interval, solve_path, steps_between

COLUMNS, ROWS = 2, 8


def equation(dtype: torch.dtype, step: float) -> PathEquation:
    """Random networks, as drift and diffusion of two columns."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = PathCoefficients(COLUMNS, width=16, depth=2, linear=False, constant=False, autonomous=False, positive=False, scheme="heun")
        for weight in net.parameters():
            nn.init.normal_(weight, std=0.3)
    return PathEquation(net.to(dtype), step)


def brownian(kind: str, steps: int, like: Tensor) -> Any:
    if kind == "keyed":
        return KeyedIntervals(3, range(len(like)), like)
    return brownian_interval((len(like), COLUMNS), float(steps), 3, like.dtype)


def gradients(kind: str, steps: int, dtype: torch.dtype, *, adjoint: bool) -> tuple[Tensor, Tensor]:
    """The end of the paths, and the gradients of a function of the path in weights and first state, in one vector."""
    sde = equation(dtype, 1.0 / steps)
    z = torch.linspace(-1, 1, ROWS * COLUMNS, dtype=dtype).reshape(ROWS, COLUMNS).requires_grad_()
    counts = torch.tensor([0, steps // 2, steps])
    path = solve_path(sde, z, counts, brownian(kind, steps, z.detach()), adjoint=adjoint)
    (path.square().sum() + path[-1].sin().sum()).backward()
    found = [z.grad, *(weight.grad for weight in sde.parameters())]
    return path[-1].detach(), torch.cat([grad.flatten() for grad in found if grad is not None])


@pytest.mark.parametrize("kind", ["keyed", "interval"])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-14), (torch.float32, 1e-6)], ids=["float64", "float32"])
def test_the_adjoint_has_the_gradients_of_back_propagation(kind: str, dtype: torch.dtype, bound: float) -> None:
    end, found = gradients(kind, 40, dtype, adjoint=True)
    same, expected = gradients(kind, 40, dtype, adjoint=False)
    assert torch.equal(end, same)
    assert len(expected) > 500
    assert float(expected.abs().min()) >= 0
    assert float((found - expected).abs().sum() / expected.abs().sum()) <= bound


def kept(steps: int, *, adjoint: bool) -> int:
    """Bytes of the tensors that the backward pass keeps."""
    sizes: list[int] = []

    def keep(x: Tensor) -> Tensor:
        sizes.append(x.numel() * x.element_size())
        return x

    z = torch.zeros(ROWS, COLUMNS, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        solve_path(equation(z.dtype, 1 / steps), z, torch.tensor([0, steps]), brownian("keyed", steps, z.detach()), adjoint=adjoint)
    return sum(sizes)


def test_memory_is_flat_in_the_number_of_steps() -> None:
    assert kept(160, adjoint=True) == kept(10, adjoint=True)
    assert kept(160, adjoint=False) > 11 * kept(10, adjoint=False)


def test_it_converges_to_the_solution_in_the_sense_of_stratonovich() -> None:
    """`dx = x ∘ dW` has the solution `e^W`; the mean error falls with the step, to that of a scheme of strong order 1."""

    class Geometric(nn.Module):
        def forward(self, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros_like(z), z.unsqueeze(-1)

    rows, errors = 400, []
    path = brownian_interval((rows, 1), 1.0, 5)
    for steps in (16, 64):

        def scaled(ta: Tensor, tb: Tensor, steps: int = steps) -> Tensor:
            return path(float(ta) / steps, float(tb) / steps) * steps**0.5

        scaled.shape, scaled.dtype, scaled.device = (rows, 1), torch.float64, torch.device("cpu")  # type: ignore[attr-defined]
        scaled.levy_area_approximation = "none"  # type: ignore[attr-defined]
        z = torch.ones(rows, 1, dtype=torch.float64)
        end = solve_path(PathEquation(Geometric(), 1 / steps), z, torch.tensor([0, steps]), scaled, adjoint=False)[-1]
        errors.append(float((end - path(0.0, 1.0).exp()).abs().mean()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 2.8


def test_steps_that_do_not_divide_the_times_are_refused() -> None:
    times = torch.tensor([0.0, 0.1, 0.3, 0.35], dtype=torch.float64)
    assert steps_between(times, 0.05).tolist() == [0, 2, 6, 7]
    assert steps_between(times + 1000, 0.05).tolist() == [0, 2, 6, 7]
    for step, pair in ((0.1, "2 and 3, 0.05"), (0.03, "0 and 1, 0.1"), (7.0, "0 and 1")):
        with pytest.raises(ParameterError, match=f"do not divide the time between observations {pair}"):
            steps_between(times, step)
