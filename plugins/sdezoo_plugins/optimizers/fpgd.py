"""Fractionally perturbed gradient descent: the noise of a step remembers the steps before it::

    w ← w − η g + σ (B^H_{(k+1)η} − B^H_{kη})

`B^H` is a fractional Brownian motion of each weight, with Hurst index `H`: `E(B_t − B_s)² = |t − s|^{2H}`. At `H = ½` increments are
independent, and this is perturbed gradient descent; below ½ they are anti-correlated, beyond ½ correlated. On `½ λ w²` and for small `η`
weights become stationary, with variance (Cheridito, Kawaguchi & Maejima, 2003, for the fractional Ornstein–Uhlenbeck process)::

    σ² H Γ(2H) λ^{−2H}

Increments of unit steps have the covariance `γ(k) = ½ (|k+1|^{2H} − 2|k|^{2H} + |k−1|^{2H})`. They are drawn exactly, by embedding it in
a circulant matrix, whose eigenvalues a Fourier transform gives (Davies & Harte, Biometrika 74, 1987), and a step multiplies them by
`σ η^H`: with a schedule, the noise follows the learning rate of the step. All increments of a run are drawn before its first step, so the
noise depends on the number of steps, and a run resumes with that number alone.
"""

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Interval
from torch import Tensor, nn

from sdezoo.errors import ParameterError, RunError
from sdezoo.learning.optimizer import Optimizer
from sdezoo.parameters import NonNegative
from sdezoo.process.noise import Noise
from sdezoo_plugins.optimizers.steps import Steps

_KEY = 0xF96D
_MOST = 2**28
"""Most numbers that hold the noise of a run: 1 GiB."""
_AT_ONCE = 2**22


@dataclass(frozen=True)
class FPGD(Optimizer):
    """Gradient descent perturbed by fractional noise, of any Hurst index."""

    learning_rate: ClassVar[float | None] = 0.1

    hurst: Annotated[float, Interval(gt=0, lt=1)] = 0.3
    """Hurst index `H`: ½ is independent noise, below ½ anti-correlated, beyond ½ correlated."""
    sigma: NonNegative = 1e-3
    """Size `σ` of the noise; 0: gradient descent."""

    def build(self, module: nn.Module, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        numbers = steps * sum(p.numel() for p in module.parameters())
        if self.sigma and numbers > _MOST:
            raise ParameterError(
                f"The noise of {steps} steps takes {numbers * 4 / 2**30:.1f} GiB, more than {_MOST * 4 / 2**30:.0f}.",
                "Give fewer steps, or a smaller network.",
            )
        return Perturbed(module, lr, hurst=self.hurst, sigma=self.sigma, steps=steps, seed=seed)


class Perturbed(Steps):
    """Gradient descent with fractional noise; see the module.

    Args:
        module: its parameters are trained.
        lr: learning rate `η`.
        hurst: `H`, in (0, 1).
        sigma: `σ`, at least 0.
        steps: number of steps of the run.
        seed: seed of the noise.
    """

    def __init__(self, module: nn.Module, lr: float, *, hurst: float, sigma: float, steps: int, seed: int) -> None:
        super().__init__(module.parameters(), {"lr": lr})
        self.hurst, self.sigma, self.steps, self.seed = hurst, sigma, steps, seed
        self._noise: dict[int, Tensor] = {}

    def move(self) -> None:
        for place, parameter, gradient, group in self.moving():
            state = self.state[parameter]
            if not state:
                state |= {"step": torch.zeros(()), "steps": torch.tensor(float(self.steps))}
            parameter.add_(gradient, alpha=-group["lr"])
            if self.sigma:
                scale = self.sigma * group["lr"] ** self.hurst
                parameter.add_(self._increment(place, int(state["step"]), parameter), alpha=scale)
            state["step"] += 1

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state.

        Args:
            state_dict: what `state_dict` returned.

        Raises:
            RunError: if the noise was drawn for another number of steps.
        """
        drawn = {int(values["steps"]) for values in state_dict["state"].values()}
        if self.sigma and drawn - {self.steps}:
            raise RunError(
                f"The fractional noise of this run was drawn for {max(drawn)} steps, not {self.steps}.",
                f"Resume with --steps {max(drawn)}.",
            )
        super().load_state_dict(state_dict)

    def _increment(self, place: int, step: int, like: Tensor) -> Tensor:
        if place not in self._noise:
            self._noise[place] = fractional_noise(self.hurst, self.steps, like.numel(), Noise.seeded(self.seed, _KEY, place))
        if step >= self.steps:
            raise RunError(f"The fractional noise was drawn for {self.steps} steps.", "Give more --steps from the beginning.")
        return self._noise[place][step].reshape(like.shape).to(like)


def fractional_noise(hurst: float, steps: int, series: int, noise: Noise) -> Tensor:
    """Draw increments of fractional Brownian motion over unit steps, exactly, by Davies and Harte's method.

    Args:
        hurst: Hurst index, in (0, 1).
        steps: length of each series.
        series: number of independent series.
        noise: random numbers.

    Returns:
        Increments of variance 1, float32 `(steps, series)`.
    """
    n = max(1, 2 ** math.ceil(math.log2(steps))) if steps > 1 else 1
    k = torch.arange(n + 1, dtype=torch.float64)
    covariance = ((k + 1) ** (2 * hurst) - 2 * k ** (2 * hurst) + (k - 1).abs() ** (2 * hurst)) / 2
    circle = torch.cat([covariance, covariance[1:-1].flip(0)])
    # Eigenvalues of the embedding are not negative for any H; rounding may leave −1e-16.
    spread = (torch.fft.fft(circle).real.clamp_min(0) / len(circle)).sqrt().to(torch.float32)
    parts, pairs = [], max(1, _AT_ONCE // len(circle))
    for first in range(0, series, 2 * pairs):
        count = min(2 * pairs, series - first)
        drawn = noise.normal(torch.empty(()), (2, (count + 1) // 2, len(circle)))
        both = torch.fft.fft(spread * torch.complex(drawn[0], drawn[1]))[:, :steps]  # two independent series each
        parts.append(torch.cat([both.real, both.imag])[:count].T)
    return torch.cat(parts, 1).contiguous()
