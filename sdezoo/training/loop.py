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
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from sdezoo.data.dataset import Data
from sdezoo.data.encoding import AffineMap
from sdezoo.errors import RunError
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.network import Network
from sdezoo.learning.noise_levels import Importance, quantiles, times_at
from sdezoo.learning.optimizers import LEARNING_RATES, OPTIMIZERS, flatten_state, restore_state
from sdezoo.process.noise import KeyedNoise, mix
from sdezoo.store import checkpoint
from sdezoo.store.launch import is_first
from sdezoo.store.provenance import fingerprint, providers, versions
from sdezoo.training.divergence import DivergenceMonitor
from sdezoo.training.interruption import Interrupted, requests
from sdezoo.training.metrics import MetricBuffer, MetricLogger, failure
from sdezoo.training.planning import Plan, choose_classes
from sdezoo.training.resumption import passed_over, refuse_other_model, rounding
from sdezoo.training.schedule import moving_average, rate
from sdezoo.training.shuffling import BatchSampler
from sdezoo.training.validation import ValidationLoss, per_entry
from sdezoo.training.workers import Workers

_WEIGHTS, _DROPOUT = -2, -3  # keys beside the steps 0, 1, …
_LOG_EVERY = 50

Report = Callable[[int, float], None]
"""Called after every step with the number of steps done and the loss, as last read from the device."""

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


class Training:
    """The state of a training: model, moving average, optimizer, and the step reached.

    Args:
        plan: what to train, with the process and the batch adapted to the data.
        network: the recipe of the network.
        data: in the user's units.
        way: from the user's units to the process's domain.
        x0: the training data in that domain, on the device.
        workers: who else trains.

    Raises:
        SdezooError: where the batch cannot be shared, or there are no labels to train with.
    """

    def __init__(self, plan: Plan, network: Network, data: Data, way: AffineMap, x0: Tensor, workers: Workers) -> None:
        self.plan, self.network, self.data, self.way, self.x0, self.workers = plan, network, data, way, x0, workers
        config = plan.config
        batch = config.batch_size
        assert batch is not None, "the plan has chosen one"
        self.positions = workers.positions(batch, config.accumulate)
        self.classes = choose_classes(plan, data)
        self.labels = data.train_labels.to(x0.device) if self.classes and data.train_labels is not None else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(config.seed, _WEIGHTS))
            net = network.module(plan.sde.network_input_shape(data.event), self.classes)
        self.model = ScoreModel.for_data(plan.sde, net, x0.cpu(), config.output, config.prior).to(plan.device)
        self.ema = AveragedModel(self.model, multi_avg_fn=moving_average(config.ema_half_life_images, batch))
        self.lr = config.lr or LEARNING_RATES.get(config.optimizer, network.learning_rate)
        self.optimizer = OPTIMIZERS[config.optimizer](self.model.parameters(), self.lr)
        self.order = BatchSampler(data.rows, batch, config.seed)
        sizes = {"batch": batch, "size": len(self.positions[0])}
        self.validation_loss = ValidationLoss(
            plan.loss, config.noise_levels, config.seed, data, way, self.classes, **sizes, device=x0.device
        )
        self.importance = Importance()
        self.fingerprint = fingerprint(data, way)
        parts = {"sdes": config.sde, "losses": plan.loss.title(), "networks": network.spec, "datasets": config.data}
        self.plugins = providers(parts)
        self.step, self.loss = 0, math.nan
        self.seconds = self._began = 0.0

    def resume(self, tell: Notify) -> None:
        """Go on from the newest checkpoint that is whole, or from the beginning where there is none at all.

        Raises:
            RunError: where all are damaged, or it is of another process, network, output or data.
        """
        run = self.plan.run
        folder, damaged = checkpoint.newest_whole(run)
        if folder is None:
            if damaged:
                raise RunError(f"All checkpoints of '{run}' are damaged ({damaged[0].what}).", "Train again with --overwrite.")
            tell(f"The run '{run}' had reached no checkpoint, so that it starts from the beginning.")
            return
        state, now = checkpoint.read_state(folder), self._state(None)
        refuse_other_model(folder, state, now)
        if state.step > self.plan.config.steps:
            raise RunError(f"The run '{run}' has {state.step} steps already.", f"Give --steps above {state.step} to go on.")
        if state.step == self.plan.config.steps:
            tell(f"The run '{run}' has {state.step} steps already, and there is nothing left to train; more --steps would go on.")
        try:
            self.model.load_state_dict(checkpoint.read_tensors(folder, "model"))
            self.average.load_state_dict(checkpoint.read_tensors(folder, "ema"))
            restore_state(self.optimizer, checkpoint.read_tensors(folder, "optimizer"))
            self.importance = Importance(checkpoint.read_tensors(folder, "times")["importance"])
        except RunError:
            raise
        except (RuntimeError, KeyError, ValueError, IndexError):
            raise checkpoint.DamagedError(folder, "its tensors do not fit the network") from None
        self.workers.resume_scaling(state.scaling)
        self.ema.n_averaged.fill_(state.averaged)
        self.step, self.seconds, self.loss = state.step, state.seconds, self.loss if state.loss is None else state.loss
        for sentence in (passed_over(damaged, state.step) if damaged else None, rounding(state, now)):
            if sentence:
                tell(sentence)

    @property
    def average(self) -> ScoreModel:
        """The model with the moving average of the weights."""
        module = self.ema.module
        assert isinstance(module, ScoreModel)
        return module

    def run(self, report: Report | None = None, *, interruptible: bool = False) -> Result:
        """Train up to the configured step, saving on the way.

        Raises:
            Interrupted: for a signal, where `interruptible`, when the step is saved.
            RunError: where the loss stops being finite, or the folder cannot be written to.
        """
        config, model = self.plan.config, self.model
        # The network as workers call it, compiled and in mixed precision, around the same weights.
        live = model.with_network(self.workers.network(model.net))
        optimizer = self.workers.optimizer(self.optimizer)
        self._began = time.perf_counter() - self.seconds
        interval, watch = MetricBuffer(model.sde), DivergenceMonitor(self.plan.run, model.sde, self.order, self.lr)
        book = MetricLogger(self.plan.run, self.step, tensorboard=config.tensorboard) if is_first() else None
        stop, validation_loss = 0, None
        with requests(interruptible) as request:
            while self.step < config.steps and not stop:
                norm = self._update(live, optimizer, interval)
                stop = self.workers.most(request.number)
                saves = stop or self.step == config.steps or self.step % config.checkpoint_every == 0
                if saves or self.step % _LOG_EVERY == 0:
                    row = self._row(interval, watch, norm)
                    if book and saves:
                        row["validation_loss"] = validation_loss = self.validation_loss.measure(self.average)
                    if book:
                        book.write(row)
                if report:
                    report(self.step, self.loss)
                if saves:
                    self.save(validation_loss)
        folder = checkpoint.folder_of(self.plan.run, self.step)
        if stop:
            raise Interrupted(stop, folder, self.step, config.steps)
        validation_loss, best = checkpoint.read_state(folder).validation_loss, checkpoint.best(self.plan.run)
        return Result(self.plan.run, folder, self.step, self.loss, validation_loss, best, self.seconds, self.data, self._note())

    def save(self, validation_loss: float | None) -> None:
        """Write a checkpoint with its loss on held-out rows, once for all workers, and remove those that are not kept.

        Raises:
            RunError: where the folder cannot be written to, or is gone; it is not made anew.
        """
        if is_first():
            if not (self.plan.run / "checkpoints").is_dir():
                raise RunError(f"The run folder '{self.plan.run}' is gone.", "Bring it back: --resume goes on from its newest checkpoint.")
            parts = {
                "model": self.model.state_dict(),
                "ema": self.average.state_dict(),
                "optimizer": flatten_state(self.optimizer),
                "times": {"importance": self.importance.state},
            }
            checkpoint.save(self.plan.run, self._state(validation_loss), parts)
            checkpoint.prune(self.plan.run, self.step, self.plan.config.keep)
        self.workers.wait()

    def _row(self, interval: MetricBuffer, watch: DivergenceMonitor, norm: Tensor) -> dict[str, Any]:
        """The line of the metrics on the steps of `interval`, which is empty then."""
        losses, times = interval.close(self.workers.gather)
        self.loss = float(losses.mean())
        watch.see(self.loss, failure(losses, times), self.step - len(losses), self.step)
        before, self.seconds = self.seconds, time.perf_counter() - self._began
        return {
            "step": self.step,
            "loss": self.loss,
            "levels": interval.by_level(losses, times),
            "grad_norm": float(norm),
            "lr": self.lr * self._rate(self.step - 1),
            "images_per_second": round(losses.numel() / (self.seconds - before), 1),
            "seconds": round(self.seconds, 3),
        }

    def _update(self, live: ScoreModel, optimizer: torch.optim.Optimizer, interval: MetricBuffer) -> Tensor:
        config = self.plan.config
        rows = self.order.rows(self.step)
        losses, times, drawn = [], [], []
        for part, positions in enumerate(self.positions, start=1):
            with self.workers.alone(live.net) if part < len(self.positions) else nullcontext():
                loss, factor, t, u = self._losses(live, positions, rows[positions])
                self.workers.backward((loss * factor).mean() / len(self.positions))
            losses.append(loss.detach())
            times.append(t)
            drawn.append(u)
        interval.add(torch.cat(losses), torch.cat(times))
        if config.noise_levels == "importance":
            everyone = self.workers.gather(torch.stack([torch.cat(drawn).flatten().to(self.x0.device), torch.cat(losses)]))
            u, seen = everyone.transpose(0, 1).flatten(1).cpu()
            self.importance.observe(u, seen)
        norm = self.workers.clip(self.model.parameters(), config.grad_clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * self._rate(self.step)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.model)
        self.step += 1
        return norm

    def _losses(self, live: ScoreModel, positions: Tensor, rows: Tensor) -> tuple[Tensor, Tensor | float, Tensor, Tensor]:
        """The losses of the samples at `positions` of the batch, what each counts, their times and the times' quantiles."""
        config, loss, sde = self.plan.config, self.plan.loss, live.sde
        noise = KeyedNoise(mix(config.seed, self.step), positions.tolist(), ahead=1)
        x0 = self._clean(rows)
        state = sde.state_shape(x0.shape)
        u, factor = quantiles((len(x0), *[1] * (len(state) - 1)), noise), 1.0
        if config.noise_levels == "importance":
            u, factor = self.importance.draw(u)
            factor = factor.flatten().to(x0)
        t = times_at(config.noise_levels, live, loss.t_span(sde), u).to(x0)
        batch, key = Batch(x0, condition=self._condition(rows, noise)), mix(config.seed, self.step, _DROPOUT, int(positions[0]))
        return per_entry(loss, live, batch, t, noise, key), factor, t, u

    def _clean(self, rows: Tensor) -> Tensor:
        """The training rows of these numbers, in the process's domain, on the device."""
        if self.data.stored is None:
            return self.x0[rows.to(self.x0.device)]
        return self.way(self.data.stored[rows]).to(self.x0.device)

    def _condition(self, rows: Tensor, noise: KeyedNoise) -> Tensor | None:
        if self.labels is None:
            return None
        labels = self.labels[rows.to(self.labels.device)]
        left_out = noise.uniform(torch.empty(()), (len(rows),)).to(labels.device) < self.plan.config.label_dropout
        return labels.masked_fill(left_out, self.classes or 0)

    def _rate(self, step: int) -> float:
        config = self.plan.config
        return rate(config.schedule, step, config.steps, config.warmup_steps)

    def _note(self) -> str | None:
        lo, hi = self.plan.sde.t_span
        if self.plan.loss.t_span(self.plan.sde) == (lo, hi):
            return None
        return (
            f"'{self.plan.loss.title()}' learns the score of the data alone; samplers that start from noise need it at every noise level."
        )

    def _state(self, validation_loss: float | None) -> checkpoint.State:
        config, workers = self.plan.config, self.workers
        low, high = (bound.tolist() for bound in self.data.bounds)
        return checkpoint.State(
            step=self.step,
            sde=self.plan.sde.full_spec,
            net=self.network.full_spec,
            output=self.model.output_name,
            event=self.data.event,
            kind=self.data.kind,
            columns=self.data.columns,
            levels=self.data.levels,
            types=self.data.types,
            range=(low, high),
            map=self.way.to_json(),
            averaged=int(self.ema.n_averaged),
            seconds=self.seconds,
            classes=self.classes,
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
