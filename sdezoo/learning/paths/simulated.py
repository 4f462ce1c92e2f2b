"""Models whose samples are paths, simulated forward in time, and the layers of their coefficients."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sdezoo.errors import CompositionError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.process.noise import Noise
from sdezoo.process.process import Process
from sdezoo.process.requirement import P

_UNIT = math.log(math.e - 1)  # softplus is 1 there


class SteppingProcess(Process, ABC):
    """A process whose state is carried forward from one time to a later one. Abstract: `transition`."""

    @abstractmethod
    def transition(self, z: Tensor, s: Tensor, t: Tensor, noise: Noise) -> Tensor:
        """Draw the state at `t` given that at `s`, or an approximation of it.

        Args:
            z: states at `s`, `(B, *state)`.
            s: the earlier time, 0-dim or `(B, 1)`.
            t: the later time, shaped alike.
            noise: random numbers.
        """


class SimulatedModel(Model[P], nn.Module):
    """A model of paths, which has no score. Abstract: `prior`, `coordinates`, and a `sde` that is a `SteppingProcess`."""

    markov: ClassVar[bool]
    """Whether a path goes on from its latest observation alone: paths may then start at given observations."""

    net: Any
    """Drift and diffusion, a module."""
    times: Tensor
    """Times of observation of a sample, `(T,)`, float64."""
    substeps: int
    """Steps between two observations."""

    @abstractmethod
    def coordinates(self, x: Tensor) -> Tensor:
        """The coordinates of observations, in which their increments are compared.

        Args:
            x: observations in the user's units, `(…, d)`.
        """

    def states_at(self, x: Tensor, noise: Noise) -> Tensor:
        """First states of new paths, one for each observation: there, the default, or drawn, if the model is not `markov`.

        Args:
            x: first observations in the user's units, `(B, d)`.
            noise: random numbers.
        """
        return self.coordinates(x)

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """Not defined.

        Raises:
            CompositionError: always.
        """
        raise CompositionError("A model of paths has learned an SDE, and no score.", "Sample paths from it.")

    def with_network(self, net: nn.Module) -> SimulatedModel[P]:
        """Not possible.

        Raises:
            ParameterError: always.
        """
        raise ParameterError("Paths are simulated in float64, by networks that are not compiled.", "Leave out --precision and --compile.")


class Layers(nn.Sequential):
    """A network whose last layer starts at 0, or small.

    Args:
        inputs: number of inputs.
        width: width of the hidden layers; 0: there are none, and the network is linear.
        depth: number of hidden layers.
        outputs: number of outputs.
        gain: scale of the weights of the last layer at first, see `torch.nn.init.xavier_uniform_`.
    """

    def __init__(self, inputs: int, width: int, depth: int, outputs: int, gain: float = 0.0) -> None:
        sizes = [inputs, *([width] * depth if width else [])]
        hidden: list[nn.Module] = []
        for a, b in pairwise(sizes):
            hidden += [nn.Linear(a, b), nn.SiLU()]
        last = nn.Linear(sizes[-1], outputs)
        nn.init.xavier_uniform_(last.weight, gain) if gain else nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        super().__init__(*hidden, last)


class Constant(nn.Module):
    """The same output for all inputs, 0 at first.

    Args:
        outputs: number of outputs.
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(outputs))

    def forward(self, u: Tensor) -> Tensor:
        return self.value.expand(*u.shape[:-1], -1)


def positive(x: Tensor) -> Tensor:
    """The softplus of `x`, moved so that 0 becomes 1.

    Args:
        x: any numbers.
    """
    return nn.functional.softplus(x + _UNIT)


def heun(
    rates: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    diffuse: Callable[[Tensor], Tensor],
    z: Tensor,
    s: Tensor,
    t: Tensor,
    step: Tensor,
) -> Tensor:
    """One step of Heun's method, for an SDE in the sense of Stratonovich.

    Args:
        rates: called with states and a time, returns drift and diffusion.
        diffuse: applies a diffusion to the increment of the Brownian motion.
        z: states at `s`, `(B, d)`.
        s: the earlier time.
        t: the later time.
        step: what the drift is multiplied by, `t − s` in the unit of the rates.

    Returns:
        States at `t`, shaped like `z`.
    """
    f, g = rates(z, s)
    f_end, g_end = rates(z + f * step + diffuse(g), t)
    return z + (f + f_end) / 2 * step + diffuse(g + g_end) / 2


def is_simulated(model: Any) -> bool:
    """Whether samples of a model are paths that are simulated forward in time."""
    return isinstance(model, SimulatedModel)
