"""The task `bridge`: one direction of a bridge, trained by regression on the state at the end of a span.

The network `F` stands around the best estimate of `z_a` that is linear in each entry of `z_t` by itself, `L`. With the scale `c` of
`sdezoo.process.bridge`, `D = L + c F`, the loss of a pair `(z_a, z_b)` at a uniform time between the knots `a` and `b` is the mean over
entries of::

    (F(z_t, t) − (z_a − L(z_t, t))/c)² = (D − z_a)²/c²

so that the variance of the target is of order one at every time. With `u = (t − a)/(b − a)`, means `m`, variances `v` and covariance `k` of
each entry over the pairs, it is::

    L = m_a + κ (z_t − (1 − u) m_a − u m_b),      κ = ((1 − u) v_a + u k)/V
    V = (1 − u)² v_a + u² v_b + 2 u (1 − u) k + ς² (b − a) u (1 − u)

A fresh network gives the exact drift between normal distributions with independent entries. Shi et al., arXiv 2303.16852, eq. 9, weigh the
same error by `1/(t − a)²`, or, for images, by the deviation of their target, as here. Spans are drawn with equal probability, and pairs
with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from sdezoo.bridging.couplings import read_coupling
from sdezoo.bridging.round_task import RoundTask
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError
from sdezoo.learning.model import Model
from sdezoo.parameters import Count
from sdezoo.process.bridge import FIRST, Bridge
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import KeyedNoise, Noise, mix
from sdezoo.store.checkpoint import State
from sdezoo.store.restoring import MisfitError, no_larger_than
from sdezoo.training.config import TrainingConfig
from sdezoo.training.task import Draw, Learner, Losses, Plan
from sdezoo.zoo.registry import NETWORKS, SDES

_WEIGHTS = -2  # a random key that no step 0, 1, … uses
_ROUNDS = 6
_UNUSED = ("output", "condition", "prior", "noise_levels", "missing")


class BridgeModel(Model[Bridge], nn.Module):
    """The state expected at the knot below, `D(z, t) = E[z_a | z_t = z]`, by a network around a linear estimate.

    Args:
        sde: the bridge, in the direction of sampling.
        net: the network, called as `net(z, t)`.
        moments: of the pairs of each span, from the lowest: `m_a`, `m_b`, `v_a`, `v_b` and `k`, float32, `(spans, 5, *state)`.
    """

    moments: Tensor

    def __init__(self, sde: Bridge, net: nn.Module, moments: Tensor) -> None:
        nn.Module.__init__(self)
        self.sde, self.net = sde, net
        self.register_buffer("moments", moments)

    def output(self, z: Tensor, t: Tensor) -> Tensor:
        """The network at time `t`, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """
        return self.net(z.float(), t.to(z.device).float().reshape(-1).expand(len(z))).to(z)

    def linear(self, z: Tensor, t: Tensor) -> Tensor:
        """The linear estimate `L`, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time above 0, 0-dim or `(B, 1, …, 1)`.
        """
        a, b = self.sde.span(t)
        u = ((t.double() - a) / (b - a)).to(z)
        place = self.sde.place(t).flatten().to(z.device)
        mean_a, mean_b, var_a, var_b, both = self.moments.to(z)[place].unbind(1)
        noise = self.sde.rate**2 * (b - a).to(z) * u * (1 - u)
        variance = (1 - u) ** 2 * var_a + u**2 * var_b + 2 * u * (1 - u) * both + noise
        # An entry that is the same in all rows of an end has no variance there, and nothing to be estimated from.
        slope = ((1 - u) * var_a + u * both) / variance.clamp(min=torch.finfo(variance.dtype).tiny)
        return mean_a + slope * (z - (1 - u) * mean_a - u * mean_b)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.linear(z, t) + self.sde.error_scale(t).to(z) * self.output(z, t)

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """Not defined.

        Raises:
            CompositionError: always.
        """
        raise CompositionError("A bridge has no score: its network learns the state at the end of a span.", "Call `denoise`.")

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Not defined.

        Raises:
            CompositionError: always.
        """
        raise CompositionError("A bridge starts from rows of its data, not from noise.", "Give --from a file of rows.")


@dataclass(frozen=True)
class BridgeTask(RoundTask):
    """One direction of a bridge between data sets; `sdezoo train` alternates both directions in rounds."""

    papers: ClassVar[tuple[str, ...]] = ("shi2023dsbm",)

    preference: ClassVar[int] = 20
    uses_loss: ClassVar[bool] = False

    coupling: Literal["independent", "reference"] = "independent"
    """The pairs of the first round: independent rows of both ends, or rows of the first end with the Brownian motion from them."""
    simulation_steps: Count = 20
    """Steps of the sampler, in each span, when a round simulates the pairs of the next."""
    pairs: str | None = None
    """SHA-256 of the simulated pairs that are trained on; None: `coupling`. Set by each round."""

    def paired(self, digest: str | None) -> Self:
        return replace(self, pairs=digest)

    def completed(self, plan: Plan) -> Plan:
        unused = [name for name in _UNUSED if getattr(plan.config, name) != TrainingConfig.model_fields[name].default]
        if unused:
            raise ParameterError(
                f"--{unused[0].replace('_', '-')} is not for bridges.", f"Leave it out; '{self.title()}' has a loss of its own."
            )
        if plan.origin:
            raise ParameterError(
                "A bridge is not trained on from another run.", "Omit --from; its own rounds go on with --resume and more --rounds."
            )
        assert isinstance(plan.sde, Bridge), "checked with the composition"
        if plan.sde.forward:
            raise ParameterError("A bridge is trained in both directions, backward first.", "Leave out forward=true.")
        sde = plan.sde.along([at.time for at in plan.data.snapshots])
        config = plan.config.model_copy(update={"rounds": plan.config.rounds or _ROUNDS})
        return replace(plan, sde=sde, config=config)

    def check_data(self, data: Data) -> None:
        if data.kind == "paths":
            raise DataError("A bridge takes rows of each time, and these data are paths.", "Store points x with a time for each row.")
        if not data.later:
            raise DataError(
                "A bridge has two ends, and these data are one.",
                "Give the other end by --target, or rows of several times by --snapshots.",
            )
        if data.stored is not None:
            raise DataError("A bridge needs its data in memory, and these stay on disk.", "Give fewer rows.")

    def learner(self, plan: Plan, positions: Sequence[Tensor]) -> Learner[BridgeModel]:
        return BridgeLearner(self, plan)

    def rebuild(self, state: State, tensors: dict[str, Tensor]) -> BridgeModel:
        sde, network = SDES.build(state.sde), NETWORKS.build(state.net)
        event = Encoding.from_json(state.encoding).encoded_event(state.event)
        with no_larger_than(tensors):
            net = network.module(sde.network_input_shape(event), None)
        try:
            model = BridgeModel(sde, net, torch.zeros(len(sde.knots) - 1, 5, *sde.state_shape((1, *event))[1:]))
            model.load_state_dict(tensors)
        except RuntimeError:
            raise MisfitError("'ema.safetensors' does not fit the network") from None
        return model


class BridgeLearner(Learner[BridgeModel]):
    """One direction of a bridge during training.

    Args:
        task: the task.
        plan: the plan of the round; its process says the direction.
    """

    def __init__(self, task: BridgeTask, plan: Plan) -> None:
        assert plan.network, "a bridge needs a network"
        self.task, self.plan, self.network = task, plan, plan.network
        self.learning_rate = plan.network.learning_rate
        assert isinstance(plan.sde, Bridge), "checked with the composition"
        self.sde = plan.sde
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(plan.config.seed, _WEIGHTS))
            net = plan.network.module(self.sde.network_input_shape(tuple(plan.x0.shape[1:])), None)
        self.below, self.above = self._ends()
        self.module = BridgeModel(self.sde, net, self._moments()).to(plan.device)
        self._knots = torch.tensor(self.sde.knots, dtype=torch.float64)

    def _ends(self) -> tuple[list[Tensor], list[Tensor]]:
        """States at the lower and at the upper knot of each span, in the order of sampling's time."""
        plan = self.plan
        if self.task.pairs is None:
            states = [self._states(plan.encoding.encode(at.train)) for at in plan.data.snapshots]
            states = states[::-1] if self.sde.forward else states
            return states[:-1], states[1:]
        pairs = read_coupling(plan.run, self.task.pairs, len(self.sde.knots) - 1, plan.x0.shape[1:])
        if outside := sum(count_outside(self.sde.support, ends) for span in pairs for ends in span):
            raise RunError(
                f"{outside} values of the coupling in '{plan.run}' lie outside the support of '{self.sde.title()}'.",
                f"Remove '{plan.run}' to train this round again.",
            )
        spans = [(self._states(early), self._states(late)) for early, late in pairs]
        if self.sde.forward:
            return [late for _, late in reversed(spans)], [early for early, _ in reversed(spans)]
        return [early for early, _ in spans], [late for _, late in spans]

    def _moments(self) -> Tensor:
        """Moments of the pairs of each span, see `BridgeModel`."""
        found, knots = [], self.sde.knots
        for i, (below, above) in enumerate(zip(self.below, self.above, strict=True)):
            z, other = below.double(), above.double()
            means, variances = [z.mean(0), other.mean(0)], [z.var(0, correction=0), other.var(0, correction=0)]
            both = torch.zeros_like(means[0])
            if self.task.pairs is not None:
                both = ((z - means[0]) * (other - means[1])).mean(0)
            elif self.task.coupling == "reference":
                means[1], both = means[0], variances[0]
                variances[1] = variances[0] + self.sde.noise_scale(knots[i], knots[i + 1]) ** 2
            found.append(torch.stack([*means, *variances, both]))
        return torch.stack(found).float()

    def _states(self, rows: Tensor) -> Tensor:
        return self.sde.encode(rows, Noise.seeded(self.plan.config.seed)).to(self.plan.device)

    def live(self, prepare: Callable[[nn.Module], nn.Module]) -> BridgeModel:
        return BridgeModel(self.sde, prepare(self.module.net), self.module.moments)

    def losses(self, live: BridgeModel, draw: Draw) -> Losses:
        noise = KeyedNoise(mix(self.plan.config.seed, draw.step), draw.positions.tolist(), ahead=1)
        u = noise.uniform(torch.empty((), dtype=torch.float64), (len(draw.positions), 4))
        span = _floor(u[:, 0], len(self.below))
        share = FIRST + (1 - FIRST) * u[:, 1]
        z0, z1 = self._drawn(self.below, span, u[:, 2]), self._drawn(self.above, span, u[:, 2 if self.task.pairs else 3])
        t = self._knots[span] + (self._knots[span + 1] - self._knots[span]) * share
        t = t.reshape(-1, *[1] * (z0.ndim - 1))
        z = self._noised(z0, z1, t, noise)
        c = self.sde.error_scale(t).to(z)
        error = live.output(z, t) - (z0 - live.linear(z, t)) / c
        return Losses((error**2).flatten(1).mean(1), 1.0, t.flatten(), u[:, 1])

    def _noised(self, z0: Tensor, z1: Tensor, t: Tensor, noise: Noise) -> Tensor:
        if self.task.pairs is None and self.task.coupling == "reference":
            spread = self.sde.rate * (t - self.sde.span(t)[0]).sqrt()
            return z0 + spread.to(z0) * noise.normal(z0)
        return self.sde.between(z0, z1, t, noise)

    def _drawn(self, ends: list[Tensor], span: Tensor, u: Tensor) -> Tensor:
        """Rows at quantiles `u` of the states of each span, on the device."""
        out = ends[0].new_empty(len(span), *ends[0].shape[1:])
        for i, rows in enumerate(ends):
            here = (span == i).nonzero().flatten()
            out[here.to(out.device)] = rows[_floor(u[here], len(rows)).to(rows.device)]
        return out

    @property
    def level_edges(self) -> Tensor:
        edges = [torch.linspace(a, b, 5, dtype=torch.float64)[:-1] for a, b in pairwise(self.sde.knots)]
        return torch.cat([*edges, torch.ones(1, dtype=torch.float64)])

    def describe(self, time: float) -> str:
        return f"time {float(self.sde.user_time(torch.tensor(time, dtype=torch.float64))):.3g}"

    def record(self) -> dict[str, Any]:
        return {"sde": self.sde.full_spec, "net": self.network.full_spec, "output": ""}


def _floor(u: Tensor, count: int) -> Tensor:
    """Indices below `count` at quantiles `u`, int64."""
    return (u * count).long().clamp(max=count - 1)
