"""Training: one loop over batches of noised data.

Everything that is random at step `k` is keyed by (seed, k) and the position in the batch, or by (seed, epoch) for the order of the
data: nothing has to be saved to go on as if never interrupted, and any number of workers sees the same numbers. The plan (`plan`)
is checked before any data is read, and nothing is written before the data is.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from sdezoo.errors import RunError
from sdezoo.learning.descent import LEARNING_RATES, OPTIMIZERS
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.network import Network
from sdezoo.learning.times import Importance, quantiles, times_at
from sdezoo.process.noise import KeyedNoise, mix
from sdezoo.runs import checkpoint
from sdezoo.runs.config import TrainingConfig
from sdezoo.runs.data import Data
from sdezoo.runs.metrics import Book, Failure, Interval, failure
from sdezoo.runs.order import Order
from sdezoo.runs.placement import AffineMap, place
from sdezoo.runs.planning import Plan, choose_batch, choose_classes, choose_network, claim, plan
from sdezoo.runs.schedule import moving_average, rate
from sdezoo.runs.workers import Workers, is_first

_WEIGHTS, _DROPOUT = -2, -3  # keys beside the steps 0, 1, …
_LOG_EVERY = 50
_DIVERGED = 1e4

Report = Callable[[int, float], None]
"""Called after every step with the number of steps done and the loss, as last read from the device."""


@dataclass(frozen=True)
class Result:
    """What a training left behind."""

    run: Path
    checkpoint: Path
    steps: int
    loss: float
    """Mean over the last 50 steps, for one entry of the state."""
    seconds: float
    data: Data
    note: str | None
    """What the user should know about the model, if anything."""


def train(
    config: TrainingConfig,
    *,
    data: Data | None = None,
    resume: bool = False,
    overwrite: bool = False,
    report: Report | None = None,
) -> Result:
    """Train a score model and leave it in a run folder. `data`: in place of those that the config names.

    Raises:
        SdezooError: for anything that cannot work, before anything is written; and where the loss stops being finite.
    """
    made = plan(config, data)
    if not resume and is_first():
        claim(made.run, overwrite=overwrite)
    workers = Workers(made.device, made.config.precision, compiled=made.config.compile)
    made = replace(made, device=workers.device)
    data = made.load()
    way = place(data, made.sde.support, made.config.shift)
    x0 = way(data.train).to(made.device)
    network = choose_network(made, data.event)
    made = replace(
        made,
        sde=made.sde.adapted(x0),
        config=made.config.model_copy(update={"net": network.spec, "batch_size": choose_batch(made, len(x0))}),
    )
    training = Training(made, network, data, way, x0, workers)
    if resume:
        training.resume()
    elif is_first():
        _begin(made, overwrite)
    workers.wait()
    return training.run(report)


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
            net = network.module(data.event, self.classes)
        self.model = ScoreModel.for_data(plan.sde, net, x0.cpu(), config.output, config.prior).to(plan.device)
        self.ema = AveragedModel(self.model, multi_avg_fn=moving_average(config.ema, batch))
        self.lr = config.lr or LEARNING_RATES.get(config.optimizer, network.learning_rate)
        self.optimizer = OPTIMIZERS[config.optimizer](self.model.parameters(), self.lr)
        self.order = Order(len(x0), batch, config.seed)
        self.importance = Importance()
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> None:
        """Go on from the newest checkpoint.

        Raises:
            RunError: where there is none, it is damaged, or it is of another process, network, output or data.
        """
        run, folder = self.plan.run, checkpoint.newest(self.plan.run)
        if folder is None:
            raise RunError(f"The run folder '{run}' holds no checkpoint to resume from.", "Leave out --resume to start anew.")
        state = checkpoint.read_state(folder)
        now = self._state()
        for name in ("sde", "net", "output", "event", "map", "classes", "optimizer"):
            before, here = getattr(state, name), getattr(now, name)
            if before != here:
                raise RunError(
                    f"The checkpoint '{folder}' is of {name}={before}, not {here}.",
                    "Resume with its own settings, or train into another --out.",
                )
        if state.step >= self.plan.config.steps:
            raise RunError(f"The run '{run}' has {state.step} steps already.", f"Give --steps above {state.step} to go on.")
        try:
            self.model.load_state_dict(checkpoint.read_tensors(folder, "model"))
            self.average.load_state_dict(checkpoint.read_tensors(folder, "ema"))
            checkpoint.unflatten(self.optimizer, checkpoint.read_tensors(folder, "optimizer"))
            self.importance = Importance(checkpoint.read_tensors(folder, "times")["importance"])
        except (RuntimeError, KeyError, ValueError, IndexError):
            raise checkpoint.damaged(folder) from None
        self.workers.resume_scaling(state.scaling)
        self.ema.n_averaged.fill_(state.averaged)
        self.step, self.seconds = state.step, state.seconds

    @property
    def average(self) -> ScoreModel:
        """The model with the moving average of the weights."""
        module = self.ema.module
        assert isinstance(module, ScoreModel)
        return module

    def run(self, report: Report | None = None) -> Result:
        """Train up to the configured step, saving on the way."""
        config, model = self.plan.config, self.model
        # The network as workers call it, compiled and in mixed precision, around the same weights.
        live = model.around(self.workers.network(model.net))
        optimizer = self.workers.optimizer(self.optimizer)
        began, first, latest = time.perf_counter() - self.seconds, None, float("nan")
        interval, start = Interval(model.sde), self.step
        book = Book(self.plan.run, tensorboard=config.tensorboard) if is_first() else None
        while self.step < config.steps:
            norm = self._update(live, optimizer, interval)
            if self.step % _LOG_EVERY == 0 or self.step == config.steps:
                losses, times = interval.close(self.workers.gather)
                latest = float(losses.mean())
                first = abs(latest) if first is None else first
                self._refuse_divergence(latest, first, failure(losses, times), start)
                before, self.seconds = self.seconds, time.perf_counter() - began
                row = {
                    "step": self.step,
                    "loss": latest,
                    "levels": interval.by_level(losses, times),
                    "grad_norm": float(norm),
                    "lr": self.lr * self._rate(self.step - 1),
                    "images_per_second": round(losses.numel() / (self.seconds - before), 1),
                    "seconds": round(self.seconds, 3),
                }
                if book:
                    book.write(row)
                start = self.step
            if report:
                report(self.step, latest)
            if self.step % config.checkpoint_every == 0 and self.step < config.steps:
                self.save()
        return Result(self.plan.run, self.save(), self.step, latest, self.seconds, self.data, self._note())

    def save(self) -> Path:
        """Write a checkpoint, once for all workers."""
        folder = checkpoint.folder_of(self.plan.run, self.step)
        if is_first():
            parts = {
                "model": self.model.state_dict(),
                "ema": self.average.state_dict(),
                "optimizer": checkpoint.flatten(self.optimizer),
                "times": {"importance": self.importance.state},
            }
            checkpoint.save(self.plan.run, self._state(), parts)
        self.workers.wait()
        return folder

    def _update(self, live: ScoreModel, optimizer: torch.optim.Optimizer, interval: Interval) -> Tensor:
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
        if config.times == "importance":
            everyone = self.workers.gather(torch.stack([torch.cat(drawn).flatten().to(self.x0.device), torch.cat(losses)]))
            u, seen = everyone.transpose(0, 1).flatten(1).cpu()
            self.importance.observe(u, seen)
        norm = self.workers.clip(self.model.parameters(), config.clip)
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
        x0 = self.x0[rows.to(self.x0.device)]
        state = sde.state_shape(x0.shape)
        u, factor = quantiles((len(x0), *[1] * (len(state) - 1)), noise), 1.0
        if config.times == "importance":
            u, factor = self.importance.draw(u)
            factor = factor.flatten().to(x0)
        t = times_at(config.times, live, loss.times(sde), u).to(x0)
        batch = Batch(x0, condition=self._condition(rows, noise))
        with torch.random.fork_rng(devices=[x0.device] if x0.device.type == "cuda" else []):
            # What a network draws by itself, in dropout, comes from torch's own generator.
            torch.manual_seed(mix(config.seed, self.step, _DROPOUT, int(positions[0])))
            return loss(live, batch, t, noise) / math.prod(state[1:]), factor, t, u

    def _condition(self, rows: Tensor, noise: KeyedNoise) -> Tensor | None:
        if self.labels is None:
            return None
        labels = self.labels[rows.to(self.labels.device)]
        left_out = noise.uniform(torch.empty(()), (len(rows),)).to(labels.device) < self.plan.config.drop
        return labels.masked_fill(left_out, self.classes or 0)

    def _rate(self, step: int) -> float:
        config = self.plan.config
        return rate(config.schedule, step, config.steps, config.warm_up)

    def _refuse_divergence(self, loss: float, first: float, found: Failure | None, start: int) -> None:
        if found is None and math.isfinite(loss) and abs(loss) <= _DIVERGED * max(first, 1.0):
            return
        kept = checkpoint.newest(self.plan.run)
        last = f"the last checkpoint is {kept}" if kept else "no checkpoint was reached"
        if found is None:
            what = f"The loss has grown from {first:.3g} to {loss:.3g} at step {self.step}"
        else:
            step = start + found.step
            row = int(self.order.rows(step)[found.position])
            level = float(self.model.sde.scale(torch.tensor(found.time, dtype=torch.float64)))
            where = "on the whole batch" if found.everywhere else f"at row {row} of the training data, number {found.position} of the batch"
            what = f"The loss is not finite any more at step {step + 1}, {where}, at a noise of {level:.3g} (t = {found.time:.3g})"
        raise RunError(f"{what}; {last}.", f"Lower the learning rate (--lr, now {self.lr:g}), or look at the data.")

    def _note(self) -> str | None:
        lo, hi = self.plan.sde.times
        if self.plan.loss.times(self.plan.sde) == (lo, hi):
            return None
        return (
            f"'{self.plan.loss.title()}' learns the score of the data alone; samplers that start from noise need it at every noise level."
        )

    def _state(self) -> checkpoint.State:
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
            range=(low, high),
            map=self.way.to_json(),
            averaged=int(self.ema.n_averaged),
            seconds=self.seconds,
            classes=self.classes,
            optimizer=self.plan.config.optimizer,
            scaling=self.workers.scaling,
            versions=_versions(),
        )


def _begin(made: Plan, overwrite: bool) -> None:
    claim(made.run, overwrite=overwrite)
    for part in ("checkpoints", "samples", "tensorboard"):
        shutil.rmtree(made.run / part, ignore_errors=True)
    (made.run / "metrics.jsonl").unlink(missing_ok=True)
    (made.run / "samples").mkdir(parents=True)
    made.config.write(made.run / "config.yaml")
    (made.run / "env.json").write_text(json.dumps(_environment(made), indent=1), encoding="utf-8")


def _environment(made: Plan) -> dict[str, Any]:
    return {
        **_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(made.device),
        "threads": torch.get_num_threads(),
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("sdezoo", "torch")}
