"""Any torchsde solver on the reverse SDE, one solver step per step of the grid; noise is keyed as in every sampler.

Itô methods are euler, milstein and srk; the others integrate the Stratonovich form. The process needs one Brownian motion per entry of
the state, or noise that is a matrix. Where it is a matrix, or the noise of an entry depends on other entries, torchsde has `euler`,
`euler_heun`, `heun`, `midpoint` and `reversible_heun`, of strong order ½. The last step, to `t = 0`, is a noise-free Euler step, because a
solver would evaluate the score there.

For state-dependent noise, weak order, strong order and evaluations per step: `euler` 1, ½, 1; `milstein` and `euler_heun` 1, 1, 1;
`heun`, `midpoint`, `log_ode` and `reversible_heun` 1, 1, 2; `srk` 2, none claimed since it needs two normal numbers, 9.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE
from sdezoo.process.torchsde_bridge import ITO, Method, ReverseEquation, bridge_refuses, integrate
from sdezoo.sampling.sampler import Sampler

_FACTS: dict[Method, tuple[float, float | None, int]] = {
    "euler": (1.0, 0.5, 1),
    "milstein": (1.0, 1.0, 1),
    "srk": (2.0, None, 9),
    "euler_heun": (1.0, 1.0, 1),
    "heun": (1.0, 1.0, 2),
    "midpoint": (1.0, 1.0, 2),
    "log_ode": (1.0, 1.0, 2),
    "reversible_heun": (1.0, 1.0, 2),
}


@dataclass(frozen=True)
class TorchSDE(Sampler[ForwardSDE]):
    """Any torchsde method on the reverse SDE: method=euler, milstein, srk, heun, midpoint, …"""

    papers: ClassVar[tuple[str, ...]] = ("li2020scalable",)

    method: Method = "euler"
    """torchsde's method. `euler`, `milstein` and `srk` integrate in the Itô sense, the others in the Stratonovich sense."""

    @property
    def weak_order(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _FACTS[self.method][0]

    @property
    def strong_order(self) -> float | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return _FACTS[self.method][1]

    def evaluations(self, steps: int) -> int:
        return _FACTS[self.method][2] * (steps - 1) + 1

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or bridge_refuses(sde, self.method)

    def step(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: None) -> tuple[Tensor, None]:
        sde = model.sde
        if s == 0:
            return sde.project(z - sde.reverse_drift(z, t, model.score(z, t)) * t, z), None
        equation = ReverseEquation(sde, model.score, z.shape, float(t), stratonovich=self.method not in ITO, start=z)
        return sde.project(integrate(equation, z, float(t - s), self.method, noise), z), None
