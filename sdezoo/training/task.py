"""Tasks: what a training run learns.

`Training` (in `loop`) owns the optimizer, the moving average of the weights, the workers, random keys, checkpoints and metrics. A task owns
what is learned: the module, batches of rows and noise, losses, the tensors saved besides the weights, and how a trained model is rebuilt
from a checkpoint. Score learning is the task `score`. Other tasks are plugins of the entry-point group `sdezoo.tasks`. `state.json` records
the task, so a run folder states which plugin can open it.
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
from sdezoo.errors import RunError
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.model import Model
from sdezoo.learning.network import Network
from sdezoo.parameters import Plugin
from sdezoo.process.process import Process
from sdezoo.process.requirement import P, Requirement
from sdezoo.store.checkpoint import State
from sdezoo.store.origin import Origin
from sdezoo.training.config import TrainingConfig

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Plan:
    """A training run with all choices made.

    Args:
        config: settings, with network and batch size filled in too.
        task: the training task.
        sde: the process, adapted to the data.
        loss: the loss; None if the task has its own.
        network: the network; None if the task has its own.
        data: the data, in the user's units.
        encoding: maps the user's units to the support of the process.
        x0: encoded training rows held in memory, float32 `(N, *event)` on `device`.
        classes: number of classes of a conditional network; None: unconditional.
        device: device to train on.
        run: the run folder.
        reasons: choices made from the data, with reasons, one phrase each.
        origin: the run whose model is trained on; None: a new model.
        asked: names of the settings that the user gave.
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
    origin: Origin | None = None
    asked: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        assert self.config.steps is not None, "set by the plan"
        return self.config.steps

    @property
    def batch(self) -> int:
        """Samples per step, over all workers."""
        assert self.config.batch_size is not None, "set by the plan"
        return self.config.batch_size


@dataclass(frozen=True)
class Draw:
    """Identifies samples of a batch. All randomness in a loss is keyed by it.

    Args:
        step: index of the step, from 0.
        positions: positions in the batch, int64 `(B,)` on the CPU; they key the noise.
        rows: indices of the training rows at these positions, int64 `(B,)` on the CPU.
    """

    step: int
    positions: Tensor
    rows: Tensor


class Losses(NamedTuple):
    """The losses of `B` samples."""

    values: Tensor
    """Loss of each sample per entry of the state, `(B,)`, with gradients."""
    weights: Tensor | float
    """Weight of each sample in the mean that is minimized, a number or `(B,)`."""
    times: Tensor
    """Time of each sample, `B` entries, for the metrics by noise level."""
    quantiles: Tensor
    """Quantiles of these times, `B` entries."""


class Learner(ABC, Generic[M]):
    """One run of a task: the module during training, on the device. Abstract: `live`, `losses`, `record`."""

    module: M
    """All weights that are trained, averaged and saved, under the names of its `state_dict`."""
    learning_rate: float
    """Recommended peak learning rate."""

    @abstractmethod
    def live(self, prepare: Callable[[nn.Module], nn.Module]) -> M:
        """The module that is passed to `losses` in training: `module` with its network wrapped by `prepare`, sharing the weights.

        Args:
            prepare: wraps a network for the workers, with compilation and mixed precision. Call it once.
        """

    @abstractmethod
    def losses(self, live: M, draw: Draw) -> Losses:
        """Compute the losses of some samples of a batch.

        The result must depend only on weights, data, seed, step and positions: not on other samples, nor on the number of workers.

        Args:
            live: the module returned by `live`, or `module`.
            draw: the samples.
        """

    def learn_from(self, quantiles: Tensor, values: Tensor) -> None:
        """Adapt to the losses of a step, for example for importance sampling. Default: do nothing.

        Called after each step if `learns_from_losses`.

        Args:
            quantiles: quantiles of the times of the whole batch, over all workers, `(B,)` on the CPU.
            values: losses of these samples, `(B,)` on the CPU.
        """
        return

    @property
    def learns_from_losses(self) -> bool:
        """Whether to call `learn_from`, which costs a gather over all workers. Default: False."""
        return False

    @property
    def level_edges(self) -> Tensor:
        """Edges of the time bins by which the metrics split the loss, increasing, float64. Default: one bin."""
        return torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)

    def describe(self, time: float) -> str:
        """Describe a time of `Losses.times`, for messages."""
        return f"t = {time:.3g}"

    def validation_loss(self, module: M) -> float | None:
        """Loss on held-out rows; None if there are none. Default: None.

        Args:
            module: a module like `self.module`, with averaged weights.
        """
        return None

    def state(self) -> dict[str, Tensor]:
        """Tensors to save besides the weights and restore on resuming, by name. Default: none."""
        return {}

    def restore_state(self, tensors: dict[str, Tensor]) -> None:
        """Restore the tensors that `state` returned.

        Args:
            tensors: the tensors by name.

        Raises:
            KeyError: if a tensor is missing.
            RuntimeError: if a shape does not fit.
            ValueError: if a value does not fit.
        """
        return

    def take(self, origin: Origin) -> None:
        """Start from the model of an earlier run. Default: load its averaged weights into `module`.

        Called before the optimizer is built, so that `module` may be replaced.

        Args:
            origin: the earlier run, of the same task.

        Raises:
            RunError: if its weights do not fit.
        """
        try:
            self.module.load_state_dict(origin.tensors)
        except RuntimeError:
            raise RunError(f"The weights of '{origin.run}' do not fit these data.", "Omit --from to train a new model.") from None

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """Entries of `State` that describe the model: at least `sde`, `net` and `output`, which may be empty."""

    def note(self) -> str | None:
        """A remark on the trained model for the user, if any."""
        return None


class Task(Plugin, Requirement[P], ABC):
    """Base class of tasks. Fields are hyper-parameters; `learner` (builds a fresh module) and `rebuild` (restores one) are abstract.

    `Task[P]` learns for processes of class `P`. Where the user names no task, the one with the highest `preference` that fits is taken.
    """

    uses_loss: ClassVar[bool] = True
    """Whether it trains with a score loss of the registry, chosen by the plan."""
    uses_network: ClassVar[bool] = True
    """Whether it trains a network of the registry, chosen by the plan."""

    def process(self) -> Process | None:
        """The process that the task brings, in place of `--sde`; the data then keep their units. Default: None, that of the plan."""
        return None

    in_rounds: ClassVar[bool] = False
    """Whether it learns between snapshots, in rounds (`sdezoo.bridging`): the settings `target` and `rounds` are for such tasks."""

    def completed(self, plan: Plan) -> Plan:
        """Return the plan with the choices that this task makes from the data. Default: the plan itself.

        Args:
            plan: the plan, whose number of steps may still be open.

        Raises:
            SdezooError: if a setting does not fit the task.
        """
        return plan

    def check_data(self, data: Data) -> None:
        """Reject data that this task cannot learn from. Default: accept all.

        Args:
            data: the data as read, in the user's units.

        Raises:
            DataError: if the data do not fit the task.
        """
        return

    @abstractmethod
    def learner(self, plan: Plan, positions: Sequence[Tensor]) -> Learner[Any]:
        """Build the learner of a run, with fresh weights, on `plan.device`.

        Args:
            plan: the plan of the run.
            positions: positions in the batch that this worker handles, one int64 tensor per micro-batch, on the CPU.
        """

    @abstractmethod
    def rebuild(self, state: State, tensors: dict[str, Tensor]) -> Model:
        """Rebuild the trained model on the CPU.

        Build modules inside `sdezoo.store.restoring.no_larger_than(tensors)`: the checkpoint is not trusted.

        Args:
            state: state of the checkpoint.
            tensors: averaged weights, under the names of `Learner.module.state_dict()`.

        Raises:
            MisfitError: if the tensors do not fit the state, see `sdezoo.store.restoring`.
        """
