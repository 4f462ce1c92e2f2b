"""The training loop: batches of noised data, optimizer steps, checkpoints.

Randomness is stateless. Everything random at step `k` is keyed by (seed, k) and the position in the batch; the order of the data is keyed
by (seed, epoch). So no generator state is saved, a run resumes as if never interrupted, and any number of workers sees the same numbers.
The same settings give identical bytes on one machine with the same number of threads.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from sdezoo.data.dataset import Data
from sdezoo.errors import ParameterError, RunError
from sdezoo.learning.optimizer import Optimizer, flatten_state, restore_state
from sdezoo.store import checkpoint
from sdezoo.store.launch import is_first
from sdezoo.store.provenance import fingerprint, providers, versions
from sdezoo.training.batches import BatchSampler
from sdezoo.training.interruption import Interrupted, requests
from sdezoo.training.metrics import DivergenceMonitor, MetricBuffer, MetricLogger, failure
from sdezoo.training.resumption import passed_over, refuse_other_model, rounding
from sdezoo.training.schedule import moving_average, rate
from sdezoo.training.task import Draw, Plan
from sdezoo.training.workers import Workers, threads, threads_for
from sdezoo.zoo.registry import OPTIMIZERS

_LOG_EVERY = 50

TrainingProgress = Callable[[int, int, float], None]
"""Called after every step with the number of steps done, the total, and the loss last read from the device."""

Notify = Callable[[str], None]
"""Called with each message for the user before training resumes."""


@dataclass(frozen=True)
class Result:
    """Result of a training run."""

    run: Path
    """The run folder."""
    checkpoint: Path
    """Folder of the last checkpoint."""
    steps: int
    """Number of steps trained."""
    loss: float
    """Training loss per entry of the state, mean over the last 50 steps."""
    validation_loss: float | None
    """Validation loss of the averaged weights, see `sdezoo.training.validation`; None if there are no held-out rows."""
    best: int | None
    """Step of the checkpoint with the lowest validation loss."""
    seconds: float
    """Training time, over all sessions."""
    data: Data
    """The data, in the user's units."""
    note: str | None
    """A remark on the model for the user, if any."""
    reasons: tuple[str, ...] = ()
    """Choices made from the data, with reasons."""
    preview: Path | None = None
    """Samples drawn after training, see `sdezoo.runs.preview`; None if not requested or not possible."""
    usage: str = "-n 64 --seed 0"
    """Options of `sdezoo sample` for a first look at the model."""


class Training:
    """State of a training run: learner, moving average of the weights, optimizer, and current step.

    Args:
        plan: the plan of the run.
        workers: the workers that train.

    Raises:
        SdezooError: if the batch cannot be split evenly among the workers, or a checkpoint would be too large to be read.
    """

    def __init__(self, plan: Plan, workers: Workers) -> None:
        self.plan, self.workers = plan, workers
        config = plan.config
        self.positions = workers.positions(plan.batch, config.accumulate)
        self.learner = plan.task.learner(plan, self.positions)
        if plan.origin:
            self.learner.take(plan.origin)
        self.module = self.learner.module
        self.rule: Optimizer = OPTIMIZERS.build(config.optimizer)
        half_life = config.ema_half_life_images if self.rule.averaged else 0
        self.ema = AveragedModel(self.module, multi_avg_fn=moving_average(half_life, plan.batch))
        self.lr = config.lr or self.rule.learning_rate or self.learner.learning_rate
        if self.rule.watches and workers.count > 1:
            raise ParameterError(
                f"The optimizer '{self.rule.title()}' sees the layers of one process, and there are {workers.count}.", "Start one process."
            )
        self.optimizer = self.rule.build(self.module, self.lr, steps=plan.steps, seed=config.seed)
        if plan.origin:
            self.rule.inherit(self.optimizer, plan.origin.optimizer)
        self.order = BatchSampler(plan.data.rows, plan.batch, config.seed, config.order)
        self.fingerprint = fingerprint(plan.data, plan.encoding)
        parts = {"sdes": config.sde, "datasets": config.data, "tasks": config.task, "optimizers": config.optimizer}
        parts |= {"losses": plan.loss.title()} if plan.loss else {}
        parts |= {"networks": plan.network.spec} if plan.network else {}
        self.plugins = providers(parts)
        self.step, self.loss = 0, math.nan
        self.seconds = self._began = 0.0
        self.threads = torch.get_num_threads() if workers.device.type != "cpu" else threads_for(self._forward)
        checkpoint.check_size(self._state(None))

    def resume(self, notify: Notify) -> None:
        """Resume from the newest intact checkpoint, or start from the beginning if there is no checkpoint.

        Args:
            notify: called with each message for the user.

        Raises:
            RunError: if all checkpoints are damaged, or the checkpoint has a different process, network, output or data.
        """
        run = self.plan.run
        folder, damaged = checkpoint.newest_whole(run)
        if folder is None:
            if damaged:
                raise RunError(f"All checkpoints of '{run}' are damaged ({damaged[0].what}).", "Train again with --overwrite.")
            notify(f"The run '{run}' has no checkpoint, so it starts from the beginning.")
            return
        state, now = checkpoint.read_state(folder), self._state(None)
        refuse_other_model(folder, state, now)
        if state.step > self.plan.steps:
            raise RunError(f"The run '{run}' already has {state.step} steps.", f"Give --steps above {state.step} to continue.")
        if state.step == self.plan.steps:
            notify(f"The run '{run}' already has {state.step} steps: there is nothing left to train. Give more --steps to continue.")
        try:
            self.module.load_state_dict(checkpoint.read_tensors(folder, "model"))
            self.average.load_state_dict(checkpoint.read_tensors(folder, "ema"))
            restore_state(self.optimizer, checkpoint.read_tensors(folder, "optimizer"))
            self.learner.restore_state(checkpoint.read_tensors(folder, "times"))
        except RunError:
            raise
        except (RuntimeError, KeyError, ValueError, IndexError):
            raise checkpoint.DamagedError(folder, "its tensors do not fit the network") from None
        self.workers.resume_scaling(state.scaling)
        self.ema.n_averaged.fill_(state.averaged)
        self.step, self.seconds, self.loss = state.step, state.seconds, self.loss if state.loss is None else state.loss
        if is_first() and not damaged:  # a kill between saving and pruning leaves one too many
            checkpoint.prune(run, state.step, self.plan.config.keep)
        for sentence in (passed_over(damaged, state.step) if damaged else None, rounding(state, now)):
            if sentence:
                notify(sentence)

    def start_from(self, weights: dict[str, Tensor]) -> None:
        """Begin with given weights instead of fresh ones, also in the moving average; the optimizer is new.

        Args:
            weights: tensors under the names of `Learner.module.state_dict()`, of a model of the same shape.
        """
        self.module.load_state_dict(weights)
        self.average.load_state_dict(weights)

    @property
    def average(self) -> nn.Module:
        """The module with the moving average of the weights."""
        return self.ema.module

    def run(self, progress: TrainingProgress | None = None, *, interruptible: bool = False) -> Result:
        """Train up to the configured step and save checkpoints.

        Args:
            progress: called after every step.
            interruptible: whether SIGINT and SIGTERM stop training after the current step.

        Raises:
            Interrupted: after a signal, once the checkpoint is saved; only if `interruptible`.
            RunError: if the loss diverges, or the run folder cannot be written to.
        """
        config, steps = self.plan.config, self.plan.steps
        # The network as the workers call it, compiled and in mixed precision, sharing the weights.
        live = self.learner.live(self.workers.network)
        optimizer = self.workers.optimizer(self.optimizer)
        self._began = time.perf_counter() - self.seconds
        buffer = MetricBuffer(self.learner.level_edges)
        monitor = DivergenceMonitor(self.plan.run, self.learner.describe, self.order, self.lr)
        logger = MetricLogger(self.plan.run, self.step, tensorboard=config.tensorboard) if is_first() else None
        stop, validation_loss = 0, None
        with requests(interruptible) as request, threads(self.threads):
            while self.step < steps and not stop:
                norm = self.advance(live, optimizer, buffer)
                stop = self.workers.most(request.number)
                saves = stop or self.step == steps or self.step % config.checkpoint_every == 0
                if saves or self.step % _LOG_EVERY == 0:
                    row = self._row(buffer, monitor, norm)
                    if logger and saves:
                        row["validation_loss"] = validation_loss = self.learner.validation_loss(self.average)
                    if logger:
                        logger.write(row)
                if progress:
                    progress(self.step, steps, self.loss)
                if saves:
                    self.save(validation_loss)
        folder = checkpoint.folder_of(self.plan.run, self.step)
        if stop:
            raise Interrupted(stop, folder, self.step, steps)
        validation_loss, best = checkpoint.read_state(folder).validation_loss, checkpoint.best(self.plan.run)
        note = " ".join(filter(None, (self.learner.note(), self.rule.note(self.optimizer)))) or None
        reasons = self.plan.reasons
        return Result(self.plan.run, folder, self.step, self.loss, validation_loss, best, self.seconds, self.plan.data, note, reasons)

    def save(self, validation_loss: float | None) -> None:
        """Write a checkpoint, on the first worker only, and remove those that are not kept.

        Args:
            validation_loss: validation loss of the averaged weights, if known.

        Raises:
            RunError: if the run folder cannot be written to, or no longer exists; it is not created again.
        """
        if is_first():
            if not (self.plan.run / "checkpoints").is_dir():
                raise RunError(
                    f"The run folder '{self.plan.run}' is gone.", "Restore it and give --resume to resume from its newest checkpoint."
                )
            parts = {
                "model": self.module.state_dict(),
                "ema": self.average.state_dict(),
                "optimizer": flatten_state(self.optimizer),
                "times": self.learner.state(),
            }
            checkpoint.save(self.plan.run, self._state(validation_loss), parts)
            checkpoint.prune(self.plan.run, self.step, self.plan.config.keep)
        self.workers.wait()

    def _row(self, buffer: MetricBuffer, monitor: DivergenceMonitor, norm: Tensor) -> dict[str, Any]:
        """The line of metrics for the steps in `buffer`; empties the buffer."""
        losses, times = buffer.close(self.workers.gather)
        self.loss = float(losses.mean())
        monitor.see(self.loss, failure(losses, times), self.step - len(losses), self.step)
        before, self.seconds = self.seconds, time.perf_counter() - self._began
        return {
            "step": self.step,
            "loss": self.loss,
            "levels": buffer.by_level(losses, times),
            "grad_norm": float(norm),
            "lr": self.lr * self._rate(self.step - 1),
            "images_per_second": round(losses.numel() / (self.seconds - before), 1),
            "seconds": round(self.seconds, 3),
        }

    def advance(self, live: Any, optimizer: torch.optim.Optimizer, buffer: MetricBuffer) -> Tensor:
        """Take one step.

        Args:
            live: the module that computes the losses, see `Learner.live`.
            optimizer: the optimizer as wrapped by the workers.
            buffer: receives the losses of the step.

        Returns:
            The norm of the gradient before clipping, 0-dim.
        """
        config = self.plan.config
        rows = self.order.rows(self.step)
        losses, times, quantiles = [], [], []
        for part, positions in enumerate(self.positions, start=1):
            with self.workers.alone() if part < len(self.positions) else nullcontext():
                found = self.learner.losses(live, Draw(self.step, positions, rows[positions]))
                self.workers.backward((found.values * found.weights).mean() / len(self.positions))
            losses.append(found.values.detach())
            times.append(found.times)
            quantiles.append(found.quantiles)
        buffer.add(torch.cat(losses), torch.cat(times))
        if self.learner.learns_from_losses:
            values = torch.cat(losses)
            everyone = self.workers.gather(torch.stack([torch.cat(quantiles).flatten().to(values.device), values]))
            self.learner.learn_from(*everyone.transpose(0, 1).flatten(1).cpu())
        norm = self.workers.clip(self.module.parameters(), config.grad_clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * self._rate(self.step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.module)
        self.step += 1
        return norm

    def _forward(self) -> None:
        """Compute the losses of the first micro-batch, to see how much work that is."""
        live, positions = self.learner.live(lambda net: net), self.positions[0]
        with torch.no_grad():
            self.learner.losses(live, Draw(self.step, positions, self.order.rows(self.step)[positions]))

    def _rate(self, step: int) -> float:
        config = self.plan.config
        return rate(config.schedule, step, self.plan.steps, config.warmup_steps)

    def _state(self, validation_loss: float | None) -> checkpoint.State:
        config, data, workers = self.plan.config, self.plan.data, self.workers
        low, high = (bound.tolist() for bound in data.bounds)
        return checkpoint.State(
            step=self.step,
            task=self.plan.task.full_spec,
            **self.learner.record(),
            event=data.event,
            kind=data.kind,
            columns=data.columns,
            levels=data.levels,
            maximum=data.maximum,
            style=data.style,
            range=(low, high),
            encoding=self.plan.encoding.to_json(),
            averaged=int(self.ema.n_averaged),
            seconds=self.seconds,
            optimizer=self.rule.full_spec,
            scaling=workers.scaling,
            seed=config.seed,
            batch=config.batch_size,
            lr=self.lr,
            loss=None if math.isnan(self.loss) else self.loss,
            validation_loss=validation_loss,
            computing={
                "device": str(workers.device),
                "precision": workers.precision,
                "compile": config.compile,
                "deterministic": config.deterministic,
                "workers": workers.count,
                "accumulate": config.accumulate,
                "threads": self.threads,
            },
            versions=versions(),
            data=self.fingerprint,
            plugins=self.plugins,
        )
