"""Any solver of torchsde on the reverse SDE, one of its steps for each step of the grid; noise is keyed as everywhere.

Itô methods: euler, milstein, srk; the others integrate the Stratonovich form. Needs one Brownian motion for every
entry of the state. The last step, to `t = 0`, is the noise-free Euler step, since solvers would ask for a score
there. Evaluations a step depend on the method.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE
from sdezoo.process.torchsde_bridge import ITO, Method, ReverseEquation, bridge_refuses, integrate
from sdezoo.sampling.sampler import Sampler


@dataclass(frozen=True)
class TorchSDE(Sampler[ForwardSDE]):
    """Any torchsde method on the reverse SDE: method=euler, milstein, srk, heun, midpoint, …"""

    method: Method = "euler"

    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or bridge_refuses(sde)

    def step(self, model: Model[ForwardSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Any) -> tuple[Tensor, Any]:
        sde = model.sde
        if s == 0:
            return sde.confine(z - sde.reverse_drift(z, t, model.score(z, t)) * t, z), None
        equation = ReverseEquation(sde, model.score, z.shape, float(t), stratonovich=self.method not in ITO)
        return sde.confine(integrate(equation, z, float(t - s), self.method, noise), z), None
