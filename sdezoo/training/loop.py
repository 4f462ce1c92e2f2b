"""The loop of a training: batches of noised data, steps of an optimizer, a checkpoint now and then.

Everything that is random at step `k` is keyed by (seed, k) and the position in the batch, or by (seed, epoch) for the order of the
data: there is no state of a generator to save, a run goes on as if never interrupted, and any number of workers sees the same numbers.
The same settings give the same bytes on a machine with the same number of threads.
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
from sdezoo.errors import RunError
from sdezoo.learning.optimizers import LEARNING_RATES, OPTIMIZERS, flatten_state, restore_state
from sdezoo.store import checkpoint
from sdezoo.store.launch import is_first
from sdezoo.store.provenance import fingerprint, providers, versions
from sdezoo.training.batches import BatchSampler
from sdezoo.training.interruption import Interrupted, requests
from sdezoo.training.metrics import DivergenceMonitor, MetricBuffer, MetricLogger, failure
from sdezoo.training.resumption import passed_over, refuse_other_model, rounding
from sdezoo.training.schedule import moving_average, rate
from sdezoo.training.task import Draw, Plan
from sdezoo.training.workers import Workers

_WEIGHTS, _DROPOUT = -2, -3  # keys beside the steps 0, 1, …
_LOG_EVERY = 50

TrainingProgress = Callable[[int, int, float], None]
"""Called after every step with the number of steps done, that of all, and the loss, as last read from the device."""

Notify = Callable[[str], None]
"""Called with each sentence that the user should know before a training goes on."""


@dataclass(frozen=True)
class Result:
    """What a training left behind."""

    run: Path
    checkpoint: Path
    steps: int
    loss: float
    """Mean over the last 50 steps, for one entry of the state."""
    validation_loss: float | None
    """The loss of the averaged weights on held-out rows, see `sdezoo.training.validation`; None where there are none."""
    best: int | None
    """Step of the checkpoint with the least such loss."""
    seconds: float
    data: Data
    note: str | None
    """What the user should know about the model, if anything."""
    reasons: tuple[str, ...] = ()
    """What was chosen from the data, and why."""
    preview: Path | None = None
    """Samples drawn when training had ended, see `sdezoo.runs.preview`; None where none were asked for, or could be drawn."""


class Training:
    """The state of a training run: what is learned, its moving average, the optimizer, and the step reached.

    Args:
        plan: everything that was chosen.
        workers: who else trains.

    Raises:
        SdezooError: where the batch cannot be shared.
    """

    def __init__(self, plan: Plan, workers: Workers) -> None:
        self.plan, self.workers = plan, workers
        config = plan.config
        self.positions = workers.positions(plan.batch, config.accumulate)
        self.learner = plan.task.learner(plan, self.positions)
        self.module = self.learner.module
        self.ema = AveragedModel(self.module, multi_avg_fn=moving_average(config.ema_half_life_images, plan.batch))
        self.lr = config.lr or LEARNING_RATES.get(config.optimizer, self.learner.learning_rate)
        self.optimizer = OPTIMIZERS[config.optimizer](self.module.parameters(), self.lr)
        self.order = BatchSampler(plan.data.rows, plan.batch, config.seed)
        self.fingerprint = fingerprint(plan.data, plan.encoding)
        parts = {"sdes": config.sde, "datasets": config.data, "tasks": config.task}
        parts |= {"losses": plan.loss.title()} if plan.loss else {}
        parts |= {"networks": plan.network.spec} if plan.network else {}
        self.plugins = providers(parts)
        self.step, self.loss = 0, math.nan
        self.seconds = self._began = 0.0

    def resume(self, notify: Notify) -> None:
        """Go on from the newest checkpoint that is whole, or from the beginning where there is none at all.

        Raises:
            RunError: where all are damaged, or it is of another process, network, output or data.
        """
        run = self.plan.run
        folder, damaged = checkpoint.newest_whole(run)
        if folder is None:
            if damaged:
                raise RunError(f"All checkpoints of '{run}' are damaged ({damaged[0].what}).", "Train again with --overwrite.")
            notify(f"The run '{run}' had reached no checkpoint, so that it starts from the beginning.")
            return
        state, now = checkpoint.read_state(folder), self._state(None)
        refuse_other_model(folder, state, now)
        if state.step > self.plan.steps:
            raise RunError(f"The run '{run}' has {state.step} steps already.", f"Give --steps above {state.step} to go on.")
        if state.step == self.plan.steps:
            notify(f"The run '{run}' has {state.step} steps already, and there is nothing left to train; more --steps would go on.")
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

    @property
    def average(self) -> nn.Module:
        """What is learned, with the moving average of the weights."""
        return self.ema.module

    def run(self, progress: TrainingProgress | None = None, *, interruptible: bool = False) -> Result:
        """Train up to the configured step, saving on the way.

        Raises:
            Interrupted: for a signal, where `interruptible`, when the step is saved.
            RunError: where the loss stops being finite, or the folder cannot be written to.
        """
        config, steps = self.plan.config, self.plan.steps
        # The network as workers call it, compiled and in mixed precision, around the same weights.
        live = self.learner.live(self.workers.network)
        optimizer = self.workers.optimizer(self.optimizer)
        self._began = time.perf_counter() - self.seconds
        buffer = MetricBuffer(self.learner.level_edges)
        monitor = DivergenceMonitor(self.plan.run, self.learner.describe, self.order, self.lr)
        logger = MetricLogger(self.plan.run, self.step, tensorboard=config.tensorboard) if is_first() else None
        stop, validation_loss = 0, None
        with requests(interruptible) as request:
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
        note, reasons = self.learner.note(), self.plan.reasons
        return Result(self.plan.run, folder, self.step, self.loss, validation_loss, best, self.seconds, self.plan.data, note, reasons)

    def save(self, validation_loss: float | None) -> None:
        """Write a checkpoint with its loss on held-out rows, once for all workers, and remove those that are not kept.

        Raises:
            RunError: where the folder cannot be written to, or is gone; it is not made anew.
        """
        if is_first():
            if not (self.plan.run / "checkpoints").is_dir():
                raise RunError(f"The run folder '{self.plan.run}' is gone.", "Bring it back: --resume goes on from its newest checkpoint.")
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
        """The line of the metrics on the steps of `buffer`, which is empty then."""
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
            live: what the losses are called with, see `Learner.live`.
            optimizer: as the workers step it.
            buffer: takes the losses of the step.

        Returns:
            The norm of the gradient before it was clipped, 0-dim.
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
            range=(low, high),
            encoding=self.plan.encoding.to_json(),
            averaged=int(self.ema.n_averaged),
            seconds=self.seconds,
            optimizer=config.optimizer,
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
                "threads": torch.get_num_threads(),
            },
            versions=versions(),
            data=self.fingerprint,
            plugins=self.plugins,
        )
