"""Training: one loop over batches of noised data.

Everything that is random at step `k` is keyed by (seed, k), or (seed, epoch) for the order of the data: nothing has
to be saved to go on as if never interrupted. The plan (`plan`) is checked before any data is read, and nothing is
written before the data is.
"""

from __future__ import annotations

import json
import math
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sdezoo.errors import RunError
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.network import Network
from sdezoo.learning.weighting import draw_times
from sdezoo.process.noise import Noise, mix
from sdezoo.runs import checkpoint
from sdezoo.runs.config import TrainingConfig
from sdezoo.runs.data import Data
from sdezoo.runs.placement import AffineMap, place
from sdezoo.runs.planning import Plan, choose_network, claim, plan

_ORDER, _WEIGHTS, _DROPOUT = -1, -2, -3  # keys beside the steps 0, 1, …
_LOG_EVERY = 50
_WARM_UP = 100

Report = Callable[[int, float], None]
"""Called after every step with the number of steps done and the loss."""


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


def train(config: TrainingConfig, *, resume: bool = False, overwrite: bool = False, report: Report | None = None) -> Result:
    """Train a score model and leave it in a run folder.

    Raises:
        SdezooError: for anything that cannot work, before anything is written; and where the loss stops being finite.
    """
    made = plan(config)
    if not resume:
        claim(made.run, overwrite=overwrite)
    data = made.dataset.load()
    way = place(data, made.sde.support, made.config.shift)
    x0 = way(data.train).to(made.device)
    network = choose_network(made, data.event)
    made = replace(made, sde=made.sde.adapted(x0), config=made.config.model_copy(update={"net": network.spec}))
    training = Training(made, network, data, way, x0)
    if resume:
        training.resume()
    else:
        _begin(made, overwrite)
    return training.run(report)


class Training:
    """The state of a training: model, moving average, optimizer, and the step reached.

    Args:
        plan: what to train, with the process adapted to the data.
        network: the recipe of the network.
        data: in the user's units.
        way: from the user's units to the process's domain.
        x0: the training data in that domain, on the device.
    """

    def __init__(self, plan: Plan, network: Network, data: Data, way: AffineMap, x0: Tensor) -> None:
        self.plan, self.network, self.data, self.way, self.x0 = plan, network, data, way, x0
        config = plan.config
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(mix(config.seed, _WEIGHTS))
            net = network.module(data.event)
        self.model = ScoreModel.for_data(plan.sde, net, x0.cpu(), config.output, config.prior).to(plan.device)
        self.ema = AveragedModel(self.model, multi_avg_fn=_moving_average(config.ema))
        self.lr = config.lr or network.learning_rate
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), self.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=plan.device.type != "mps"
        )
        self.order = Order(len(x0), config.batch_size, config.seed)
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
        for name in ("sde", "net", "output", "event", "map"):
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
        except (RuntimeError, KeyError, ValueError):
            raise checkpoint.damaged(folder) from None
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
        config, folder = self.plan.config, self.plan.run
        began = time.perf_counter() - self.seconds
        recent: list[Tensor] = []
        latest = float("nan")
        with (folder / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
            while self.step < config.steps:
                loss, norm = self._update()
                recent.append(loss)
                if report:
                    report(self.step, float(loss))
                if self.step % _LOG_EVERY == 0 or self.step == config.steps:
                    latest = float(torch.stack(recent).mean())
                    recent.clear()
                    self.seconds = time.perf_counter() - began
                    self._refuse_divergence(latest)
                    row = {
                        "step": self.step,
                        "loss": latest,
                        "grad_norm": float(norm),
                        "lr": self._rate(self.step - 1),
                        "seconds": round(self.seconds, 3),
                    }
                    metrics.write(json.dumps(row) + "\n")
                    metrics.flush()
                if self.step % config.checkpoint_every == 0 and self.step < config.steps:
                    self.save()
        return Result(folder, self.save(), self.step, latest, self.seconds, self.data, self._note())

    def save(self) -> Path:
        """Write a checkpoint."""
        return checkpoint.save(
            self.plan.run, self._state(), self.model.state_dict(), self.average.state_dict(), checkpoint.flatten(self.optimizer)
        )

    def _update(self) -> tuple[Tensor, Tensor]:
        config, loss, model = self.plan.config, self.plan.loss, self.model
        noise = Noise.seeded(config.seed, self.step)
        x0 = self.x0[self.order.rows(self.step).to(self.x0.device)]
        state = model.sde.state_shape(x0.shape)
        t = draw_times(config.times, model, loss.times(model.sde), (len(x0), *[1] * (len(state) - 1)), noise, x0)
        with torch.random.fork_rng(devices=[x0.device] if x0.device.type == "cuda" else []):
            # What a network draws by itself, in dropout, comes from torch's own generator.
            torch.manual_seed(mix(config.seed, self.step, _DROPOUT))
            mean = loss(model, Batch(x0), t, noise).mean() / math.prod(state[1:])
        self.optimizer.zero_grad(set_to_none=True)
        mean.backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate(self.step)
        self.optimizer.step()
        self.ema.update_parameters(self.model)
        self.step += 1
        return mean.detach(), norm

    def _rate(self, step: int) -> float:
        # Linear warm-up, then a cosine to zero.
        steps = self.plan.config.steps
        warm = min(_WARM_UP, max(steps // 10, 1))
        decay = torch.tensor(torch.pi * step / steps).cos()
        return self.lr * min(1.0, (step + 1) / warm) * float(0.5 + 0.5 * decay)

    def _refuse_divergence(self, loss: float) -> None:
        if not math.isfinite(loss):
            kept = checkpoint.newest(self.plan.run)
            last = f"the last checkpoint is {kept}" if kept else "no checkpoint was reached"
            raise RunError(
                f"The loss is not finite any more at step {self.step}; {last}.",
                f"Lower the learning rate (--lr, now {self.lr:g}), or look at the data.",
            )

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
            versions=_versions(),
        )


class Order:
    """Which rows make the batch of a step: permutations of the data one after the other, each keyed by (seed, epoch)."""

    def __init__(self, rows: int, batch: int, seed: int) -> None:
        self._rows, self._batch, self._seed = rows, batch, seed
        self._epoch, self._permutation = -1, torch.empty(0, dtype=torch.int64)

    def rows(self, step: int) -> Tensor:
        """Indices of the batch of `step`, on the CPU."""
        wanted = torch.arange(step * self._batch, (step + 1) * self._batch)
        epochs = wanted // self._rows
        return torch.cat([self._shuffled(int(e))[wanted[epochs == e] % self._rows] for e in epochs.unique()])

    def _shuffled(self, epoch: int) -> Tensor:
        if epoch != self._epoch:
            noise = Noise.seeded(self._seed, _ORDER, epoch)
            self._permutation = noise.draw(lambda n, generator: torch.randperm(len(n), generator=generator), torch.empty(self._rows))
            self._epoch = epoch
        return self._permutation


def _begin(made: Plan, overwrite: bool) -> None:
    claim(made.run, overwrite=overwrite)
    for part in ("checkpoints", "samples"):
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


def _moving_average(decay: float) -> Callable[..., None]:
    def update(averaged: list[Tensor], current: list[Tensor], seen: Tensor | int) -> None:
        # A short memory at first, so that a short training is not an average with its initial weights.
        now = min(decay, (1 + int(seen)) / (10 + int(seen)))
        get_ema_multi_avg_fn(now)(averaged, current, seen)

    return update
