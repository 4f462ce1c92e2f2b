"""The task `paths`: fit an SDE, `dz = f_θ(z, t) dt + G_θ(z, t) dW`, to observed paths, by the likelihood of transitions or by a critic.

In coordinates `z` (`x`, or `log x`), the paths are a Markov chain at their times of observation, which need not be regular. With the normal
transition of `sdezoo.learning.paths.observed`, of mean `z + m_θ(z, t, h)` and covariance `S_θ(z, t, h)`, the loss is::

    ℓ(θ) = −Σ_k log N(z_{k+1}; z_k + m_θ, S_θ),      h = t_{k+1} − t_k

For a linear drift with constant noise this is the exact likelihood, and the estimates are those of maximum likelihood. Otherwise
the transition is approximate, and the times between observations should be short against those in which drift and diffusion change
(Kessler, Scandinavian Journal of Statistics 24 (1997), for the order of the bias).

With `method=gan` whole paths are compared (Kidger, Foster, Li, Oberhauser & Lyons, arXiv 2102.03657). From the first observations of
real paths, `dz = f dt + G ∘ dW` is solved in the sense of Stratonovich by the reversible Heun method with its adjoint, and a critic `D`,
kept Lipschitz by clipping, plays against it: `min_θ max_D E[D(real)] − E[D(simulated)]`, which is the loss that is reported. Observations
may then be far apart, if steps of length `step` divide the times between them. See `sdezoo.process.torchsde_bridge`.

The loss of the likelihood is reported per entry, less `½ log |R Rᵀ h|`, the units: paths without drift, of constant diffusion, give
`½ (1 + log 2π) = 1.419`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from sdezoo.errors import DataError, ParameterError
from sdezoo.learning.paths.critic import Critic
from sdezoo.learning.paths.observed import PathCoefficients, PathModel, Scheme
from sdezoo.parameters import Count, Positive
from sdezoo.process.noise import KeyedNoise, mix
from sdezoo.process.torchsde_bridge import KeyedIntervals, PathEquation, solve_path, steps_between
from sdezoo.store.checkpoint import State
from sdezoo.store.origin import Origin
from sdezoo.store.restoring import MisfitError, no_larger_than
from sdezoo.training.task import Draw, Learner, Losses, Plan
from sdezoo_plugins.tasks.observed import ObservedPaths, increments

_WEIGHTS, _PATHS, _HELD_OUT = -2, -3, 2**14  # random keys that no step has; transitions of held-out paths that are computed at a time
_STARTS = 2**16  # first observations that a model keeps
_FLAT = 1e-10  # smallest share of an increment that is its own, in the directions of the columns


@dataclass(frozen=True)
class Paths(ObservedPaths):
    """Drift and diffusion networks learn the SDE of observed paths, by the likelihood of transitions."""

    papers: ClassVar[tuple[str, ...]] = ("kidger2021neural", "kidger2021efficient")

    method: Literal["likelihood", "gan"] = "likelihood"
    """likelihood: of transitions; gan: a generative adversarial network, which compares whole paths at times common to all."""
    drift: Literal["network", "linear"] = "network"
    """linear: the drift is `A z + b`."""
    diffusion: Literal["network", "constant"] = "network"
    """constant: the diffusion is a matrix that depends on nothing."""
    autonomous: bool = True
    """Whether drift and diffusion do not depend on time; the SDE then runs to any horizon."""
    transition: Literal["local-linear", "euler"] = "local-linear"
    """Normal approximation of a transition."""
    width: Count = 64
    """Width of the hidden layers of each network."""
    depth: Count = 2
    """Number of hidden layers of each network."""
    transitions: Count = 16
    """Transitions of each path in a step, at most; drawn anew in every step."""
    step: Positive | None = None
    """Step of the solver for method=gan, in units of the times; None: the shortest time between observations."""
    hidden: Count = 16
    """Size of the critic's state for method=gan."""

    def __post_init__(self) -> None:
        super().__post_init__()
        only = {"likelihood": ("transition", "transitions"), "gan": ("step", "hidden")}
        for method, keys in only.items():
            for key in keys:
                if self.method != method and getattr(self, key) != getattr(type(self), key):
                    raise ParameterError(f"{self.title()}: {key} has a meaning for method={method} alone.", f"Leave out {key}.")

    def learner(self, plan: Plan, positions: Sequence[Tensor]) -> TransitionLearner:
        return AdversarialLearner(self, plan) if self.method == "gan" else TransitionLearner(self, plan)

    def rebuild(self, state: State, tensors: dict[str, Tensor]) -> PathModel:
        with no_larger_than(tensors):
            net = self.coefficients(state.event[-1])
        try:
            counts = self.counts(tensors["times"])
            substeps = int(counts.diff().max()) if self.method == "gan" else 1
            model = PathModel(net, torch.zeros_like(tensors["times"]), torch.zeros_like(tensors["starts"]), substeps)
            model.load_state_dict({name: value for name, value in tensors.items() if not name.startswith("critic.")})
            shapes = (tuple(model.times.shape), tuple(model.starts.shape[1:]))
        except (KeyError, RuntimeError, ValueError):
            raise MisfitError("'ema.safetensors' does not fit the networks") from None
        if shapes != (state.event[:1], state.event[1:]) or not len(model.starts) or not (model.times.diff() > 0).all():
            raise MisfitError("its times and first observations are not those of such paths")
        return model.double()

    def coefficients(self, columns: int) -> PathCoefficients:
        """Build the networks.

        Args:
            columns: number of columns of the paths.
        """
        scheme: Scheme = "heun" if self.method == "gan" else self.transition
        return PathCoefficients(
            columns,
            width=self.width,
            depth=self.depth,
            linear=self.drift == "linear",
            constant=self.diffusion == "constant",
            autonomous=self.autonomous,
            positive=self.coordinates == "exp",
            scheme=scheme,
        )

    def counts(self, times: Tensor) -> Tensor:
        """Numbers of solver steps up to each observation for method=gan, int64, `(T,)`.

        Args:
            times: times of observation, `(T,)`, float64.

        Raises:
            ParameterError: if the steps do not meet every time.
        """
        return steps_between(times, self.step or float(times.diff().min())) if self.method == "gan" else torch.arange(len(times))


class TransitionLearner(Learner[nn.Module]):
    """A model of paths during training.

    Args:
        task: the task.
        plan: the plan of the run.

    Raises:
        DataError: if a column never changes, or follows from others.
    """

    learning_rate = 3e-3

    def __init__(self, task: Paths, plan: Plan) -> None:
        self.task, self.plan = task, plan
        data = plan.data
        assert data.times is not None, "paths have times"
        origin = data.times.min()
        self.z, self.t = task.process().encode(plan.x0.double()), (data.times - origin).to(plan.device)
        _check_changes(self.z, data.columns)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(plan.config.seed, _WEIGHTS))
            net = task.coefficients(data.event[-1])
            critic = Critic(data.event[-1], task.width, task.hidden) if task.method == "gan" else None
        net.fit_units(self.z.cpu(), self.t.cpu())
        times = data.times if data.times.ndim == 1 else torch.linspace(float(origin), float(data.times.max()), data.event[0])
        starts = data.train[:, 0]
        if len(starts) > _STARTS:
            starts = starts[torch.randperm(len(starts), generator=torch.Generator().manual_seed(0))[:_STARTS]]
        self.module = PathModel(net, times, starts, critic=critic).to(plan.device)
        self.floor = float(net.root.diagonal().log().sum())
        self.held_out = task.process().encode(plan.encoding.encode(data.test).to(plan.device).double())
        test_times = data.times if data.test_times is None else data.test_times
        self.held_out_t = (test_times - origin).to(plan.device)

    def live(self, prepare: Callable[[nn.Module], nn.Module]) -> nn.Module:
        assert isinstance(self.module, PathModel)
        return prepare(self.module.net)

    def losses(self, live: nn.Module, draw: Draw) -> Losses:
        rows = draw.rows.to(self.z.device)
        z, count, most = self.z[rows], self.z.shape[1] - 1, self.task.transitions
        t = self.t[rows] if self.t.ndim == 2 else self.t.expand(len(rows), -1)
        k = torch.arange(count, device=z.device).expand(len(rows), -1)
        if count > most:
            noise = KeyedNoise(mix(self.plan.config.seed, draw.step), draw.positions.tolist(), ahead=1)
            k = (noise.uniform(torch.empty(()), (len(rows), most)).double() * count).long().clamp_max(count - 1).to(z.device)
        values = self._nats(live, z, t, k).mean(1)
        nothing = torch.zeros(len(rows), device=z.device)
        return Losses(values.float(), 1.0, nothing, nothing)

    def validation_loss(self, module: nn.Module) -> float | None:
        if not len(self.held_out):
            return None
        assert isinstance(module, PathModel)
        found, t = [], self.held_out_t
        rows = max(1, _HELD_OUT // (self.z.shape[1] - 1))
        with torch.no_grad():
            for first in range(0, len(self.held_out), rows):
                z = self.held_out[first : first + rows]
                times = t[first : first + rows] if t.ndim == 2 else t.expand(len(z), -1)
                k = torch.arange(z.shape[1] - 1, device=z.device).expand(len(z), -1)
                found.append(self._nats(module.net, z, times, k).mean(1))
        return float(torch.cat(found).mean())

    def take(self, origin: Origin) -> None:
        # Times and first observations are those of the new data.
        own = {name: values for name, values in self.module.state_dict().items() if name in ("times", "starts")}
        super().take(replace(origin, tensors={**origin.tensors, **own}))

    def record(self) -> dict[str, Any]:
        return {"sde": "", "net": "", "output": ""}

    def note(self) -> str | None:
        return self.task.note_on(self.z)

    def _nats(self, net: nn.Module, z: Tensor, t: Tensor, k: Tensor) -> Tensor:
        """`−log p` of transitions `k`, `(B, K)`, of paths `z`, `(B, T, d)`, per entry, less the units."""
        at, then = (torch.gather(z, 1, i[..., None].expand(-1, -1, z.shape[-1])) for i in (k, k + 1))
        s, u = (torch.gather(t, 1, i)[..., None] for i in (k, k + 1))
        shift, factor = net(at, s, u - s)
        rest = torch.linalg.solve_triangular(factor, (then - at - shift).unsqueeze(-1), upper=False).squeeze(-1)
        d = z.shape[-1]
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - self.floor - d / 2 * (u - s).log().squeeze(-1)
        return (rest.square().sum(-1) / 2 + log_det) / d + math.log(2 * math.pi) / 2


class AdversarialLearner(TransitionLearner):
    """A model of paths and its critic during training; arguments and errors as for `TransitionLearner`.

    Raises:
        DataError: if paths have times of their own.
        ParameterError: if steps do not divide the times between observations.
    """

    learning_rate = 3e-3

    def __init__(self, task: Paths, plan: Plan) -> None:
        super().__init__(task, plan)
        if self.t.ndim == 2:
            raise DataError("A critic compares paths at common times, and these have times of their own.", "Leave out method=gan.")
        counts = task.counts(self.t.cpu())
        assert isinstance(self.module, PathModel)
        self.game = _Game(self.module, self.t, counts)
        self.game.critic.turn_gradients()

    def live(self, prepare: Callable[[nn.Module], nn.Module]) -> nn.Module:
        return prepare(self.game)

    def losses(self, live: nn.Module, draw: Draw) -> Losses:
        self.game.critic.clip()
        z = self.z[draw.rows.to(self.z.device)]
        noise = KeyedIntervals(mix(self.plan.config.seed, draw.step, _PATHS), draw.positions.tolist(), z[:, 0])
        nothing = torch.zeros(len(z), device=z.device)
        return Losses(live(z, noise).float(), 1.0, nothing, nothing)

    def validation_loss(self, module: nn.Module) -> float | None:
        return None


class _Game(nn.Module):
    """What the critic says of real paths, less what it says of simulated ones."""

    def __init__(self, model: PathModel, t: Tensor, counts: Tensor) -> None:
        super().__init__()
        assert isinstance(model.critic, Critic)
        self.critic, self.net, self.t, self.counts = model.critic, model.net, t, counts
        self.equation = PathEquation(model.net, float(t[-1]) / int(counts[-1]))

    def forward(self, z: Tensor, noise: KeyedIntervals) -> Tensor:
        made = solve_path(self.equation, z[:, 0], self.counts, noise).transpose(0, 1)
        both = (torch.cat([z, made]) - self.net.center) / self.net.spread
        return torch.sub(*self.critic(both, self.t / self.t[-1]).chunk(2))


def _check_changes(z: Tensor, names: Sequence[str]) -> None:
    """Check that increments have noise in all directions."""
    scaled = increments(z, names)
    if float(torch.linalg.eigvalsh(scaled.T @ scaled / len(scaled))[0]) < _FLAT:
        raise DataError("The changes of one column follow from those of the others, so they have no joint density.", "Leave it out.")
