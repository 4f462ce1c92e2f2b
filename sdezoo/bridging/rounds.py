"""The rounds of a bridge: iterative Markovian fitting.

Shi et al., arXiv 2303.16852, algorithm 1. Round 1 trains the backward direction on the first coupling. Every later round `k` trains the
other direction than the round before it, on pairs that the model of that round simulates: each training row of a snapshot with the row it
is carried to at the neighbouring one. It starts from the averaged weights of round `k − 2`, with a new optimizer::

    RUN/rounds/1-backward/   RUN/rounds/2-forward/   RUN/rounds/3-backward/   …

Each is a run folder of its own, with the pairs that it was trained on in `coupling/`. What a round does depends on the settings, the data
and the rounds before it alone, so that a killed run ends with the same bytes once it is resumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from sdezoo.bridging.couplings import Pairs, coupling_digest, read_coupling, write_coupling
from sdezoo.bridging.round_task import RoundTask
from sdezoo.bridging.snapshot_starts import AtKnot
from sdezoo.errors import RunError
from sdezoo.generation.samples import choose_sampler
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import mix
from sdezoo.store import checkpoint
from sdezoo.store.launch import is_first
from sdezoo.store.locking import run_lock
from sdezoo.store.provenance import fingerprint
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.interruption import Interrupted
from sdezoo.training.loop import Notify, Result, Training, TrainingProgress
from sdezoo.training.resumption import refuse_other_model
from sdezoo.training.task import Plan
from sdezoo.training.workers import Workers

DIRECTIONS = ("backward", "forward")
"""Backward: from the target, or the last snapshot, to the data; forward: the other way."""

_NAME = re.compile(r"([1-9][0-9]{0,5})-(?:forward|backward)")
_BATCH = 1024
_SEEDS = 2**31

Begin = Callable[[Plan, Training], None]
"""Writes what is in a run folder before the first step."""


def round_folder(run: Path, number: int) -> Path:
    """The folder of a round.

    Args:
        run: the run folder.
        number: the round, from 1.
    """
    return run / "rounds" / f"{number}-{DIRECTIONS[(number + 1) % 2]}"


def round_folders(run: Path) -> dict[int, Path]:
    """The folders of the rounds of a run, by number, in order; what has another name is left out.

    Args:
        run: the run folder.
    """
    folder = run / "rounds"
    named = [_NAME.fullmatch(at.name) for at in folder.iterdir()] if folder.is_dir() else []
    numbers = {int(found[1]) for found in named if found}
    return {number: round_folder(run, number) for number in sorted(numbers)}


def newest_round(run: Path, direction: str | None) -> Path:
    """The run folder to sample in: that of the newest round of a direction, or `run` itself if it has no rounds.

    Args:
        run: the run folder.
        direction: `forward` or `backward`; None: none is asked for.

    Raises:
        RunError: if a direction is asked for and the run has no rounds, or none of this direction has a checkpoint; or if the run has
            rounds and no direction is asked for.
    """
    if not (run / "rounds").is_dir():
        if direction is None or run.name.endswith(f"-{direction}") or not run.exists():
            return run
        raise RunError(f"The run '{run}' has no direction '{direction}'.", "Leave out --direction, or give the run of a bridge.")
    if direction is None:
        raise RunError(f"The run '{run}' is a bridge, which has two directions.", "Give --direction forward, or --direction backward.")
    if direction not in DIRECTIONS:
        raise RunError(f"There is no direction '{direction}'.", "Give --direction forward, or --direction backward.")
    trained = [at for at in round_folders(run).values() if at.name.endswith(direction) and checkpoint.newest(at) is not None]
    if not trained:
        raise RunError(f"No round of '{run}' has trained the direction '{direction}' yet.", "Resume its training: sdezoo train --resume.")
    return trained[-1]


def real_rows(run: Path, spans: int, event: Sequence[int]) -> dict[int, Tensor]:
    """The training rows that the pairs of the newest rounds hold, `(N, *event)` in the domain of the process, by snapshot.

    Pairs of a backward round start at real rows of every snapshot but the last, those of a forward round end at real rows of every snapshot
    but the first. After two rounds rows of the first snapshot are missing; after one, or in a copy without pairs, all are.

    Args:
        run: the run folder.
        spans: number of spans between snapshots.
        event: shape of a row in the domain of the process.

    Raises:
        RunError: if pairs do not fit the run.
    """
    found: dict[int, Tensor] = {}
    for folder in list(round_folders(run).values())[-len(DIRECTIONS) :]:
        digest = coupling_digest(folder)
        if digest is None:
            continue
        pairs = read_coupling(folder, digest, spans, event)
        forward = folder.name.endswith(DIRECTIONS[1])
        found |= {i + forward: span.late if forward else span.early for i, span in enumerate(pairs)}
    return dict(sorted(found.items()))


def train_rounds(
    plan: Plan,
    make_workers: Callable[[], Workers],
    begin: Begin,
    *,
    progress: TrainingProgress | None = None,
    interruptible: bool = False,
    notify: Notify,
) -> Result:
    """Train all rounds of a bridge, going on where an earlier call has ended.

    Args:
        plan: the plan of the run, whose task fits bridges.
        make_workers: makes the workers of a round.
        begin: called before the first step of a round.
        progress: called after every step, counting the steps of all rounds.
        interruptible: whether SIGINT and SIGTERM stop training after the current step.
        notify: called with each message for the user.

    Returns:
        The result of the last round, for the whole run.

    Raises:
        Interrupted: after a signal, once the checkpoint is saved.
        SdezooError: as for `Training.run`.
    """
    rounds = plan.config.rounds
    assert rounds is not None, "set by the plan"
    result, total, data = None, rounds * plan.steps, fingerprint(plan.data, plan.encoding)
    for number in range(1, rounds + 1):
        folder, before = round_folder(plan.run, number), (number - 1) * plan.steps
        done = _done(plan, number, data)
        if done and number < rounds:
            if is_first():
                with run_lock(folder):  # a kill between saving and pruning leaves a checkpoint too many
                    checkpoint.prune(folder, plan.steps, plan.config.keep)
            continue
        if done and is_first():
            notify(f"The run '{plan.run}' already has {rounds} rounds: there is nothing left to train. Give more --rounds to continue.")
        workers = make_workers()
        digest = _coupling(plan, number, workers) if number > 1 else None
        training = Training(_round_plan(plan, number, digest), workers)

        def follow(step: int, _steps: int, loss: float, before: int = before) -> None:
            if progress:
                progress(before + step, total, loss)

        with run_lock(folder) if is_first() else nullcontext():
            if checkpoint.newest(folder) is not None:
                training.resume(notify if is_first() and not done else lambda _: None)
            elif number > 2:
                earlier = checkpoint.newest(round_folder(plan.run, number - 2))
                assert earlier is not None, "trained before"
                weights = checkpoint.read_tensors(earlier, "ema")
                # Buffers describe the pairs of a round, and are those of this one.
                training.start_from(weights | {name: value for name, value in training.module.named_buffers() if name in weights})
            if is_first():
                begin(training.plan, training)
            workers.wait()
            try:
                result = training.run(follow, interruptible=interruptible)
            except Interrupted as stop:
                raise Interrupted(stop.number, stop.checkpoint, before + stop.step, total, plan.run) from None
    assert result is not None, "the last round always runs"
    return replace(result, run=plan.run, steps=total, note=None, usage=f"--direction {DIRECTIONS[rounds > 1]}")


def _done(plan: Plan, number: int, data: str) -> bool:
    """Whether a round has all its steps.

    Raises:
        RunError: if it is one of other settings or data.
    """
    newest, damaged = checkpoint.newest_whole(round_folder(plan.run, number))
    if newest is None or damaged:
        return False
    state = checkpoint.read_state(newest)
    if state.step != plan.steps:
        return False
    assert plan.network, "a bridge needs a network"
    expected = {"sde": _process(plan, number).full_spec, "net": plan.network.full_spec, "output": "", "seed": _seed(plan, number)}
    expected |= {"event": plan.data.event, "encoding": plan.encoding.to_json(), "batch": plan.batch, "data": data}
    refuse_other_model(newest, state, replace(state, **expected))
    return True


def _process(plan: Plan, number: int) -> Bridge:
    assert isinstance(plan.sde, Bridge), "the process of a bridge"
    return plan.sde.reversed() if number % 2 == 0 else plan.sde


def _seed(plan: Plan, number: int) -> int:
    return mix(plan.config.seed, number) % _SEEDS


def _round_plan(plan: Plan, number: int, digest: str | None) -> Plan:
    folder, sde = round_folder(plan.run, number), _process(plan, number)
    assert isinstance(plan.task, RoundTask), "the task of a bridge"
    task = plan.task.paired(digest)
    settings = {"sde": sde.spec, "task": task.spec, "out": str(folder), "rounds": None, "seed": _seed(plan, number)}
    return replace(plan, config=plan.config.model_copy(update=settings), task=task, sde=sde, run=folder)


def _coupling(plan: Plan, number: int, workers: Workers) -> str:
    """The digest of the pairs of a round, which the first worker simulates if they are not there."""
    folder = round_folder(plan.run, number)
    if is_first() and coupling_digest(folder) is None:
        trained = restore(round_folder(plan.run, number - 1))
        trained.model.to(workers.device)
        write_coupling(folder, simulate(trained, plan, seed=mix(plan.config.seed, number, -1) % _SEEDS, device=workers.device))
    workers.wait()
    digest = coupling_digest(folder)
    if digest is None:
        raise RunError(f"The coupling of '{folder}' could not be written.", "Make room, then give --resume.")
    return digest


def simulate(trained: Trained, plan: Plan, *, seed: int, device: torch.device) -> list[Pairs]:
    """Simulate the pairs of each span: training rows of one snapshot, and where the model carries them.

    Args:
        trained: the model of a direction, on `device`.
        plan: the plan of the run.
        seed: the seed; a pair depends on it, the span and the index of its row.
        device: the device of the model.

    Returns:
        The pairs of each span, in order of the user's time, in the domain of the process.
    """
    assert isinstance(plan.task, RoundTask), "the task of a bridge"
    sde, steps = trained.model.sde, plan.task.simulation_steps
    rows = [plan.encoding.encode(at.train) for at in plan.data.snapshots]
    rows = rows[::-1] if sde.forward else rows
    spans = []
    for i, (a, b) in enumerate(pairwise(sde.knots)):
        ends = _carried(trained, AtKnot(rows[i + 1], b, a), steps, mix(seed, i) % _SEEDS, device)
        spans.append(Pairs(rows[i + 1], ends) if sde.forward else Pairs(ends, rows[i + 1]))
    return spans[::-1] if sde.forward else spans


def _carried(trained: Trained, start: AtKnot, steps: int, seed: int, device: torch.device) -> Tensor:
    sampler = choose_sampler(trained, None)
    parts = []
    for first in range(0, len(start.x), _BATCH):
        index = range(first, min(first + _BATCH, len(start.x)))
        shape, like = (len(index), *start.x.shape[1:]), torch.empty((), device=device)
        parts.append(sampler.sample(trained.model, shape, steps, seed, rows=index, start=start, like=like).cpu())
    return torch.cat(parts)
