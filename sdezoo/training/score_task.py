"""The task `score`: train a network to approximate what the process says it learns, the score or the denoiser."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from sdezoo.data.codecs.cells import Cells
from sdezoo.data.codecs.codec import AffineCodec
from sdezoo.data.codecs.normal_scores import NormalScoreCodec
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import check_one_time
from sdezoo.errors import CompositionError
from sdezoo.learning.forecast import ForecastModel, beginnings, forecasts
from sdezoo.learning.known.blocks import restored_denoiser
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.network import Network
from sdezoo.learning.noise_levels import Importance, quantiles, times_at
from sdezoo.learning.prior import FittedPrior, Moments
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import KeyedNoise, Noise, mix
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE
from sdezoo.store.checkpoint import State
from sdezoo.store.origin import Origin
from sdezoo.store.restoring import MisfitError, no_larger_than
from sdezoo.training.batches import BatchMaker
from sdezoo.training.metrics import level_edges
from sdezoo.training.preprocessing.fitting import units_of
from sdezoo.training.task import Draw, Learner, Losses, Plan, Task
from sdezoo.training.validation import ValidationLoss, per_entry
from sdezoo.zoo.registry import NETWORKS, SDES

_WEIGHTS, _DROPOUT, _CELLS = -2, -3, -6  # random keys that no step 0, 1, … uses
_BEGUN = 0.5  # share of the series whose beginning is given in training


@dataclass(frozen=True)
class ScoreTask(Task):
    """A network learns the score of the noised data by a score loss."""

    preference: ClassVar[int] = 10

    def refuses(self, sde: Process) -> str | None:
        return "needs a process from data to noise" if isinstance(sde, Bridge) else super().refuses(sde)

    def check_data(self, data: Data) -> None:
        check_one_time(data, "Score learning")

    def learner(self, plan: Plan, positions: Sequence[Tensor]) -> Learner:
        if isinstance(plan.sde, ForwardSDE) and not plan.sde.forgets_data:
            raise CompositionError(
                f"Data under '{plan.sde.title()}' need not forget where they started, so sampling has no prior to start from.",
                "Choose a process that turns data into noise, such as vp.",
            )
        return ScoreLearner(plan, positions)

    def rebuild(self, state: State, tensors: dict[str, Tensor]) -> ScoreModel:
        sde, network = SDES.build(state.sde), NETWORKS.build(state.net)
        event = Encoding.from_json(state.encoding).encoded_event(state.event)
        if sde.row_shape not in (None, event):
            raise MisfitError(f"its process takes rows {sde.row_shape}, not {event}")
        with no_larger_than(tensors):
            net, kind = _module(state.kind, sde, network, event, state.classes)
        try:
            _check_moments(tensors, sde.state_shape((1, *event)))
            moments = Moments(tensors["mean"], tensors["std"])
            parts = [tensors[f"fitted.{part}"] for part in FittedPrior.PARTS] if "fitted.mean" in tensors else None
            known = {name.removeprefix("linear."): tensor for name, tensor in tensors.items() if name.startswith("linear.")}
            linear = restored_denoiser(sde, moments.sigma_data, known)
            model = kind(sde, net, state.output, moments=moments, fitted=FittedPrior(*parts) if parts else None, linear=linear)
            model.load_state_dict(tensors)
        except (KeyError, RuntimeError, ValueError):
            raise MisfitError("'ema.safetensors' does not fit the network") from None
        return model


class ScoreLearner(Learner[ScoreModel]):
    """A score model during training.

    Args:
        plan: the plan of the run.
        positions: positions in the batch that this worker handles, one tensor per micro-batch.
    """

    def __init__(self, plan: Plan, positions: Sequence[Tensor]) -> None:
        assert plan.loss, "score learning needs a loss"
        assert plan.network, "score learning needs a network"
        config, data = plan.config, plan.data
        self.plan, self.loss, self.network = plan, plan.loss, plan.network
        self.learning_rate = plan.network.learning_rate
        labels = data.train_labels.to(plan.x0.device) if plan.classes and data.train_labels is not None else None
        self.batches = BatchMaker(self._clean, labels=labels, unlabelled=plan.classes or 0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(config.seed, _WEIGHTS))
            net, kind = _module(data.kind, plan.sde, plan.network, tuple(plan.x0.shape[1:]), plan.classes)
        self.cells = _cells_of(data, plan.encoding)
        edges = self.cells.edges(data.train) if self.cells else torch.empty(0)
        self.edges = edges if data.stored is None else torch.empty(0)
        self.module = kind.for_data(plan.sde, net, self._spread_out(edges), config.output, config.prior).to(plan.device)
        self.importance = Importance()
        self.held_out = ValidationLoss(
            plan.loss,
            config.noise_levels,
            config.seed,
            data,
            plan.encoding,
            plan.classes,
            batch=plan.batch,
            size=len(positions[0]),
            device=plan.x0.device,
        )

    def live(self, prepare: Callable[[nn.Module], nn.Module]) -> ScoreModel:
        return self.module.with_network(prepare(self.module.net))

    def losses(self, live: ScoreModel, draw: Draw) -> Losses:
        config, sde = self.plan.config, self.plan.sde
        noise = KeyedNoise(mix(config.seed, draw.step), draw.positions.tolist(), ahead=1)
        rows, event = len(draw.rows), self.plan.x0.shape[1:]
        u, factor = quantiles((rows, *[1] * (len(sde.state_shape((rows, *event))) - 1)), noise), 1.0
        batch = self.batches.make(draw.rows, dropped=self._dropped(noise, rows))
        if isinstance(self.module, ForecastModel):
            batch = replace(batch, condition=_begun(self.module, batch.x0, noise))
        if self.cells:
            edges = self.cells.edges(stored[draw.rows]) if (stored := self.plan.data.stored) else self.edges[:, draw.rows]
            batch = replace(batch, x0=self.cells.draw(batch.x0, edges, noise.uniform(torch.empty(()), edges.shape[1:])))
        if self.learns_from_losses:
            u, factor = self.importance.draw(u)
            factor = factor.flatten().to(batch.x0)
        t = times_at(config.noise_levels, live, self.loss.t_span(sde), u).to(batch.x0)
        key = mix(config.seed, draw.step, _DROPOUT, int(draw.positions[0]))
        return Losses(per_entry(self.loss, live, batch, t, noise, key), factor, t, u)

    @property
    def learns_from_losses(self) -> bool:
        return self.plan.config.noise_levels == "importance"

    def learn_from(self, quantiles: Tensor, values: Tensor) -> None:
        self.importance.observe(quantiles, values)

    @property
    def level_edges(self) -> Tensor:
        return level_edges(self.plan.sde)

    def describe(self, time: float) -> str:
        scale = float(self.plan.sde.scale(torch.tensor(time, dtype=torch.float64)))
        return f"noise scale {scale:.3g} (t = {time:.3g})"

    def validation_loss(self, module: ScoreModel) -> float | None:
        return self.held_out.measure(module)

    def state(self) -> dict[str, Tensor]:
        return {"importance": self.importance.state}

    def restore_state(self, tensors: dict[str, Tensor]) -> None:
        self.importance = Importance(tensors["importance"])

    def record(self) -> dict[str, Any]:
        return {
            "sde": self.plan.sde.full_spec,
            "net": self.network.full_spec,
            "output": self.module.output_name,
            "classes": self.plan.classes,
            "class_names": self.plan.data.class_names if self.plan.classes else (),
            "label_column": self.plan.data.label_column,
            "label_place": self.plan.data.label_place,
        }

    def take(self, origin: Origin) -> None:
        # Moments, prior and linear part are those of the earlier data too, and other data may have none.
        rebuilt = self.plan.task.rebuild(origin.state, origin.tensors)
        assert isinstance(rebuilt, ScoreModel)
        self.module = rebuilt.to(self.plan.device)

    def note(self) -> str | None:
        if _learns_every_level(self.loss, self.plan):
            return None
        return f"'{self.loss.title()}' learns only the score of the data; samplers that start from noise need it at every noise level."

    def _spread_out(self, edges: Tensor) -> Tensor:
        """The encoded training rows in memory, with values anywhere in their cells, as in training."""
        x0 = self.plan.x0.cpu()
        if self.cells is None:
            return x0
        noise = Noise.seeded(self.plan.config.seed, _CELLS)
        return self.cells.draw(x0, edges, self.cells.evenly(edges, noise.uniform(torch.empty(()), edges.shape[1:])))

    def _clean(self, rows: Tensor) -> Tensor:
        """The encoded training rows with these indices, on the device."""
        plan = self.plan
        if plan.data.stored is None:
            return plan.x0[rows.to(plan.x0.device)]
        return plan.encoding.encode(plan.data.stored[rows]).to(plan.x0.device)

    def _dropped(self, noise: KeyedNoise, rows: int) -> Tensor | None:
        """Mask of the labels to drop, bool `(B,)`; None for an unconditional network."""
        if self.batches.labels is None:
            return None
        return noise.uniform(torch.empty(()), (rows,)) < self.plan.config.label_dropout


def _check_moments(tensors: dict[str, Tensor], shape: tuple[int, ...]) -> None:
    """Check that what is known of the data has the shape of states; `ValueError` otherwise.

    The network may fit all the same: a convolution takes rows of any length.
    """
    for name in ("mean", "std", "fitted.mean", "fitted.floor"):
        if name in tensors and np.broadcast_shapes(tensors[name].shape, shape) != shape:
            raise ValueError(f"'{name}' is not of a state")
    if "fitted.directions" in tensors:
        directions, excess = tensors["fitted.directions"], tensors["fitted.excess"]
        if directions.ndim != 2 or directions.shape[1] != math.prod(shape) or excess.shape != directions.shape[:1]:
            raise ValueError("directions are not of a state")


def _module(
    data: str, sde: Process, network: Network, event: tuple[int, ...], classes: int | None
) -> tuple[nn.Module, type[ScoreModel[Any]]]:
    """The network for data of a kind, and the class of the model around it."""
    shape = sde.network_input_shape(event)
    if forecasts(data, sde, event, classes):
        return network.module((*shape[:-1], shape[-1] + 1)), ForecastModel
    return network.module(shape, classes), ScoreModel


def _begun(model: ForecastModel, x0: Tensor, noise: KeyedNoise) -> Tensor:
    """What is given of each series: nothing of half of them, else a beginning of any length."""
    given, share = noise.uniform(torch.empty(()), (len(x0), 2)).unbind(1)
    lengths = torch.where(given < _BEGUN, 1 + (share * (x0.shape[1] - 1)).long(), 0).clamp_max(x0.shape[1] - 1)
    return beginnings(model.sde.encode(x0), lengths)


def _cells_of(data: Data, encoding: Encoding) -> Cells | None:
    """The cells of the values of a table that are mapped to normal scores; None if there are none."""
    codecs, last = encoding.codecs[:-2], encoding.codecs[-1]
    scores = encoding.codecs[-2] if len(encoding.codecs) > 1 else None
    if data.kind != "table" or not isinstance(scores, NormalScoreCodec) or not isinstance(last, AffineCodec):
        return None
    first = Encoding(codecs)
    steps = torch.tensor([step / scale for step, scale in units_of(data, first)], dtype=torch.float64)
    found = Cells(first.encode_exactly, scores, last, steps, tuple(encoding.sources(data.event[-1])))
    return found if found.places and len(steps) > 1 else None


def _learns_every_level(loss: ScoreLoss, plan: Plan) -> bool:
    return loss.t_span(plan.sde) == plan.sde.t_span
