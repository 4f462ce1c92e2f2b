"""The task `latent-paths`: fit an SDE of a hidden state to paths that show it in part, and with errors, by a bound of their likelihood.

Of an oscillator one may see the position and not the velocity, of a price not its volatility: the observations alone are then no Markov
chain. With the model of `sdezoo.learning.paths.latent`, whose hidden state `v` has an SDE in the sense of Stratonovich, and an SDE that
guesses `v` from a path, the loss is the negative bound of Girsanov per entry, for standardized data (Li, Wong, Chen & Duvenaud, arXiv
2001.01328, section 5)::

    ℓ(θ) = −(T d)⁻¹ (E[Σ_k log p(u_k | v(t_k)) − ½ ρ ∫ |w|² dt] − KL_0) ≥ −(T d)⁻¹ log p(u)

The guess is solved by the reversible Heun method, with gradients from its adjoint (Kidger, Foster, Li & Lyons, arXiv 2105.13493, where this
is one of two models; the other is `--task paths:method=gan`). With `drift=linear,diffusion=constant` the hidden state is an
Ornstein–Uhlenbeck process of several variables, and a path is normal. White noise of variance 1 gives `½ (1 + log 2π) = 1.419`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sdezoo.data.dataset import Data
from sdezoo.errors import DataError
from sdezoo.learning.paths.latent import HiddenSDE, LatentModel, Push, Reader
from sdezoo.parameters import Count, Positive
from sdezoo.process.noise import KeyedNoise, mix
from sdezoo.process.torchsde_bridge import KeyedIntervals, steps_between
from sdezoo.store.checkpoint import State
from sdezoo.store.origin import Origin
from sdezoo.store.restoring import MisfitError, no_larger_than
from sdezoo.training.task import Draw, Learner, Losses, Plan
from sdezoo_plugins.tasks.observed import ObservedPaths, increments

_WEIGHTS, _STARTS, _PATHS, _JUDGED = -2, -4, -5, -6  # random keys that no step has
_SUBSTEPS = 4  # between two observations: the noise of the last step before an observation cannot be guessed, and looks like an error
_HELD_OUT = 256  # held-out paths that are computed at a time


@dataclass(frozen=True)
class LatentPaths(ObservedPaths):
    """Drift and diffusion networks learn the SDE of a hidden state, of which the observed paths are a linear image with errors."""

    papers: ClassVar[tuple[str, ...]] = ("li2020scalable", "kidger2021efficient")

    size: Count | None = None
    """Number of hidden variables; None: twice the number of columns."""
    drift: Literal["network", "linear"] = "network"
    """linear: the drift of the hidden state is `A v + b`."""
    diffusion: Literal["network", "constant"] = "network"
    """constant: the diffusion of the hidden state depends on nothing."""
    autonomous: bool = True
    """Whether drift and diffusion do not depend on time."""
    width: Count = 64
    """Width of the hidden layers of each network."""
    depth: Count = 2
    """Number of hidden layers of each network."""
    hidden: Count = 32
    """Size of the state of the recurrent network that reads a path."""
    step: Positive | None = None
    """Step of the solver, in units of the times; None: a quarter of the shortest time between observations."""

    def check_data(self, data: Data) -> None:
        super().check_data(data)
        if data.times is not None and data.times.ndim == 2:
            raise DataError(
                f"The task '{self.title()}' takes paths with common times, and these have times of their own.",
                "Give --task paths, which takes them, or interpolate them at common times.",
            )

    def learner(self, plan: Plan, positions: Sequence[Tensor]) -> LatentLearner:
        return LatentLearner(self, plan)

    def rebuild(self, state: State, tensors: dict[str, Tensor]) -> LatentModel:
        try:
            times = tensors["times"]
            with no_larger_than(tensors):
                model = self.model(state.event[-1], torch.zeros_like(times), int(self.counts(times).diff().max()))
            model.load_state_dict(tensors)
        except (KeyError, RuntimeError, ValueError):
            raise MisfitError("'ema.safetensors' does not fit the networks") from None
        if tuple(model.times.shape) != state.event[:1] or not (model.times.diff() > 0).all():
            raise MisfitError("its times are not those of such paths")
        return model.double()

    def model(self, columns: int, times: Tensor, substeps: int) -> LatentModel:
        """Build the networks.

        Args:
            columns: number of columns of the paths.
            times: times of observation, `(T,)`.
            substeps: steps between two observations.
        """
        size = self.size or 2 * columns
        form = {"linear": self.drift == "linear", "constant": self.diffusion == "constant", "autonomous": self.autonomous}
        sde = HiddenSDE(size, width=self.width, depth=self.depth, **form)
        reader = Reader(columns, size, self.hidden)
        push = Push(size, reader.outputs, width=self.width, depth=self.depth)
        return LatentModel(columns, sde, reader, push, times, positive=self.coordinates == "exp", substeps=substeps)

    def counts(self, times: Tensor) -> Tensor:
        """Numbers of solver steps up to each observation, int64, `(T,)`.

        Args:
            times: times of observation, `(T,)`, float64.

        Raises:
            ParameterError: if the steps do not meet every time.
        """
        return steps_between(times, self.step or float(times.diff().min()) / _SUBSTEPS)


class LatentLearner(Learner[nn.Module]):
    """A model of a hidden state during training.

    Args:
        task: the task.
        plan: the plan of the run.

    Raises:
        DataError: if a column never changes.
        ParameterError: if steps do not divide the times between observations.
    """

    learning_rate = 1e-2

    def __init__(self, task: LatentPaths, plan: Plan) -> None:
        self.task, self.plan = task, plan
        data = plan.data
        assert data.times is not None, "paths have times"
        self.counts = task.counts(data.times)
        self.z = task.process().encode(plan.x0.double())
        self.held_out = task.process().encode(plan.encoding.encode(data.test).to(plan.device).double())
        increments(self.z, data.columns)  # refuses columns that have none
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(plan.config.seed, _WEIGHTS))
            self.module = task.model(data.event[-1], data.times, int(self.counts.diff().max()))
        self.module.fit_units(self.z.cpu(), data.times - data.times[0])
        self.module.to(plan.device)

    def live(self, prepare: Callable[[nn.Module], nn.Module]) -> nn.Module:
        assert isinstance(self.module, LatentModel)
        return prepare(_Bound(self.module, self.counts))

    def losses(self, live: nn.Module, draw: Draw) -> Losses:
        if isinstance(live, LatentModel):
            live = _Bound(live, self.counts)
        z = self.z[draw.rows.to(self.z.device)]
        values = live(z, mix(self.plan.config.seed, draw.step), draw.positions.tolist())
        nothing = torch.zeros(len(z), device=z.device)
        return Losses(values.float(), 1.0, nothing, nothing)

    def validation_loss(self, module: nn.Module) -> float | None:
        if not len(self.held_out):
            return None
        assert isinstance(module, LatentModel)
        bound, seed, found = _Bound(module, self.counts), mix(self.plan.config.seed, _JUDGED), []
        with torch.no_grad():
            for first in range(0, len(self.held_out), _HELD_OUT):
                z = self.held_out[first : first + _HELD_OUT]
                found.append(bound(z, seed, range(first, first + len(z))))
        return float(torch.cat(found).mean())

    def take(self, origin: Origin) -> None:
        # Times are those of the new data.
        super().take(replace(origin, tensors={**origin.tensors, "times": self.module.state_dict()["times"]}))

    def record(self) -> dict[str, Any]:
        return {"sde": "", "net": "", "output": ""}

    def note(self) -> str | None:
        return self.task.note_on(self.z)


class _Bound(nn.Module):
    """The negative bound of the likelihood of paths, per entry."""

    def __init__(self, model: LatentModel, counts: Tensor) -> None:
        super().__init__()
        self.model, self.counts = model, counts

    def forward(self, z: Tensor, seed: int, rows: Sequence[int]) -> Tensor:
        like = z.new_empty(len(z), self.model.net.size)
        e = KeyedNoise(mix(seed, _STARTS), rows, ahead=1).normal(like)
        bound = self.model.evidence(z, self.counts, e, KeyedIntervals(mix(seed, _PATHS), rows, like))
        return -bound / (z.shape[1] * z.shape[2])
