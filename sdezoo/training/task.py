"""Tasks: what a training run learns.

`Training` (in `loop`) owns the optimizer, the moving average of the weights, the workers, the keyed random numbers, checkpoints and
metrics. A task owns what is learned: the module, how a batch is made of rows and noise, the losses, what is saved beside the weights,
and how a trained model is rebuilt from a checkpoint. Score learning is the task `score`. Another one is a plugin of the entry-point
group `sdezoo.tasks`; its name stands in `state.json`, so that a run folder knows who can open it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.model import Model
from sdezoo.learning.network import Network
from sdezoo.parameters import Plugin
from sdezoo.process.process import Process
from sdezoo.store.checkpoint import State
from sdezoo.training.config import TrainingConfig

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Plan:
    """A training run with everything chosen.

    Args:
        config: the settings, with network and batch size filled in too.
        task: what is learned.
        sde: the process, adapted to the data.
        loss: the loss; None where the task brings its own.
        network: the network; None where the task brings its own.
        data: in the user's units.
        encoding: from the user's units to the process's domain.
        x0: the training rows that are held in memory, encoded, `(N, *event)`, float32 on `device`.
        classes: how many labels the network is told of; None: it is not conditional.
        device: where to compute.
        run: the run folder.
        reasons: what was chosen from the data, and why, a phrase each.
    """

    config: TrainingConfig
    task: Task
    sde: Process
    loss: ScoreLoss | None
    network: Network | None
    data: Data
    encoding: Encoding
    x0: Tensor
    classes: int | None
    device: torch.device
    run: Path
    reasons: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        assert self.config.steps is not None, "a plan has chosen it"
        return self.config.steps

    @property
    def batch(self) -> int:
        """Samples a step, of all workers."""
        assert self.config.batch_size is not None, "a plan has chosen it"
        return self.config.batch_size


@dataclass(frozen=True)
class Draw:
    """Which samples of which batch are asked for: all that is random in a loss is keyed by it.

    Args:
        step: number of the step, from 0.
        positions: places in the batch, int64 `(B,)` on the CPU; they key the noise.
        rows: numbers of the training rows at these places, int64 `(B,)` on the CPU.
    """

    step: int
    positions: Tensor
    rows: Tensor


class Losses(NamedTuple):
    """The losses of `B` samples.

    Args:
        values: of each sample, for one entry of the state, `(B,)`, with gradients.
        weights: what each counts in the mean that is minimized, a number or `(B,)`.
        times: of each sample, with `B` entries, for the metrics by noise level.
        quantiles: of these times, with `B` entries.
    """

    values: Tensor
    weights: Tensor | float
    times: Tensor
    quantiles: Tensor


class Learner(ABC, Generic[M]):
    """One run of a task: the module while it is trained, on the device. Abstract: `live`, `losses`, `record`.

    Args:
        module: everything whose weights are trained, averaged and saved, under the names of its `state_dict`.
        learning_rate: the peak learning rate that suits it.
    """

    module: M
    learning_rate: float

    @abstractmethod
    def live(self, prepare: Callable[[nn.Module], nn.Module]) -> M:
        """What `losses` is called with in training: `module` with its network wrapped by `prepare`, around the same weights.

        Args:
            prepare: makes of a network what the workers call, compiled and in mixed precision. Call it once.
        """

    @abstractmethod
    def losses(self, live: M, draw: Draw) -> Losses:
        """The losses of some samples of a batch.

        They depend on the seed, the step and the positions alone: not on the other samples, nor on the number of workers.
        """

    def learn_from(self, quantiles: Tensor, values: Tensor) -> None:
        """Take note of the quantiles and losses of the whole batch, of all workers, `(B,)` on the CPU. Default: nothing.

        Called after each step where `learns_from_losses`.
        """
        return

    @property
    def learns_from_losses(self) -> bool:
        """Whether `learn_from` is to be called; gathering the losses of all workers costs time."""
        return False

    @property
    def level_edges(self) -> Tensor:
        """Edges of the bins of `Losses.times` by which the metrics split the loss, increasing, float64. Default: one bin."""
        return torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)

    def describe(self, time: float) -> str:
        """A time of `Losses.times` in words, for messages."""
        return f"t = {time:.3g}"

    def validation_loss(self, module: M) -> float | None:
        """The loss of `module`, of the same form as `Learner.module`, on held-out rows; None where there are none. Default: None."""
        return None

    def state(self) -> dict[str, Tensor]:
        """What is saved beside the weights and restored on resuming, by name. Default: nothing."""
        return {}

    def restore_state(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` gave.

        Raises:
            KeyError, RuntimeError, ValueError: where it does not fit.
        """
        return

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """The entries of `State` that say what was learned: at least `sde`, `net` and `output`, which may be empty."""

    def note(self) -> str | None:
        """A sentence that the user should know about the trained model, if there is one."""
        return None


class Task(Plugin, ABC):
    """A recipe: its fields are the hyper-parameters, `learner` builds what is trained, `rebuild` what was trained. Both are abstract."""

    uses_loss: ClassVar[bool] = True
    """Whether it trains by a score loss, which the plan then chooses."""
    uses_network: ClassVar[bool] = True
    """Whether it trains a network of the registry, which the plan then chooses."""

    def check_data(self, data: Data) -> None:
        """Refuse data that are not what this task learns from. Default: none.

        Args:
            data: as they were read.

        Raises:
            DataError: with the reason.
        """
        return

    @abstractmethod
    def learner(self, plan: Plan, positions: Sequence[Tensor]) -> Learner[Any]:
        """What is trained, with fresh weights, on `plan.device`.

        Args:
            plan: everything that was chosen before the first step.
            positions: the places in a batch that this worker takes, in as many parts as gradients are accumulated over.
        """

    @abstractmethod
    def rebuild(self, state: State, tensors: dict[str, Tensor]) -> Model:
        """The trained model on the CPU.

        Build what `state` describes inside `sdezoo.store.restoring.no_larger_than(tensors)`: somebody else may have written it.

        Args:
            state: of the checkpoint.
            tensors: the averaged weights, under the names of `Learner.module.state_dict()`.

        Raises:
            MisfitError: where the tensors do not fit what the state describes, see `sdezoo.store.restoring`.
        """
