"""Planning: make all choices of a training run before anything is written.

A `Draft` holds the choices that need no data. A `Plan` adds those that depend on the data: encoding, adapted process, network, batch size,
classes. Both are immutable.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path

import torch

from sdezoo.data.codecs.codec import Codec
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.snapshots import joined
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError, listed
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.network import Network
from sdezoo.process.process import Process
from sdezoo.store.files import writable_folder
from sdezoo.store.launch import resolve_device
from sdezoo.store.origin import Origin
from sdezoo.training.config import TrainingConfig
from sdezoo.training.loop import TrainingProgress
from sdezoo.training.preprocessing.codecs import constant_codecs, recurring_codecs, series_codecs, value_codecs
from sdezoo.training.preprocessing.fitting import fit_encoding
from sdezoo.training.resumption import trained_on
from sdezoo.training.selection import cross_validates, select_steps
from sdezoo.training.task import Plan, Task
from sdezoo.training.workers import Workers
from sdezoo.zoo.column_options import ColumnOptions, column_names
from sdezoo.zoo.column_roles import KEEP, find_roles, prepared
from sdezoo.zoo.columns import AUTO, choose_process
from sdezoo.zoo.composition import check_fit, check_network, check_output, defaults, fitting_parts, preferred, preferred_network
from sdezoo.zoo.datasets import find_dataset, names_a_dataset
from sdezoo.zoo.registry import LOSSES, NETWORKS, OPTIMIZERS, SDES, TASKS

_BATCH, _STEPS = 128, 2000


@dataclass(frozen=True)
class Draft:
    """The parts of a training run that need no data, checked against each other.

    Args:
        config: settings, with loss and run folder filled in.
        task: the training task.
        sde: the process, not yet adapted to data.
        loss: the loss; None if the task has its own.
        network: the network that the user requested; None: choose one that fits the data, or none if the task has its own.
        load: reads the data.
        device: device to train on.
        run: the run folder.
        reasons: what was chosen from the data, and why, a phrase each.
        origin: the run whose model is trained on; None: a new model.
        asked: names of the settings that the user gave.
    """

    config: TrainingConfig
    task: Task
    options: ColumnOptions
    sde: Process
    loss: ScoreLoss | None
    network: Network | None
    load: Callable[[], Data]
    device: torch.device
    run: Path
    reasons: tuple[str, ...] = ()
    origin: Origin | None = None
    asked: tuple[str, ...] = ()


def draft(config: TrainingConfig, data: Data | None = None) -> Draft:
    """Build the parts of a training run that need no data, and check that they fit each other.

    Args:
        config: the settings.
        data: data to use instead of those that `config` names.

    Raises:
        SdezooError: if a part is invalid or does not fit. Nothing has been read or written.
    """
    asked = tuple(name for name, field in TrainingConfig.model_fields.items() if getattr(config, name) != field.default)
    origin = Origin.of(Path(config.origin)) if config.origin else None
    if origin:
        config = trained_on(config, origin)
    config = _with_task(config)
    task: Task = TASKS.build(config.task or "")
    own = task.process()
    _refuse_unused(config, task, own)
    options = ColumnOptions.parse(config.column)
    read = cache(partial(load_data, config) if data is None else lambda: data)
    reasons: tuple[str, ...] = ()
    if config.sde == AUTO and own is None:
        options, reasons = find_roles(_checked(read, task, options), options)
        config = config.model_copy(update={"missing": config.missing or KEEP})
    load = cache(partial(_read, read, task, options, config.missing))
    if config.sde == AUTO and own is None:
        chosen = choose_process(load(), Encoding(_first_codecs(load(), options)), options)
        # The processes of columns stand in the spec from here on.
        config = config.model_copy(update={"sde": chosen.spec, "column": options.others})
        reasons = (*chosen.reasons, *reasons, *_rows_left_out(read(), load()))
    elif options.processes and not origin:
        raise ParameterError("--column gives columns a process, and so does --sde.", "Leave out --sde.")
    sde = own or SDES.build(config.sde)
    if reason := task.refuses(sde):
        raise CompositionError(
            f"The task '{task.title()}' {reason}, and '{sde.title()}' is none.", "Leave out --task, or give another --sde."
        )
    loss = None
    if task.uses_loss:
        loss = LOSSES.build(config.loss or preferred(fitting_parts(sde, LOSSES), f"losses for '{sde.title()}'"))
        check_fit(sde, loss)
    if config.output:
        check_output(sde, config.output)
    network = NETWORKS.build(config.net) if config.net and task.uses_network else None
    if OPTIMIZERS.build(config.optimizer).watches and config.compile:
        raise ParameterError(
            f"The optimizer '{config.optimizer}' sees what layers are given, and compiled layers hide it.", "Omit --compile."
        )
    source = config.data.partition(":")[0] if names_a_dataset(config.data) else Path(config.data).stem
    if config.tensorboard and find_spec("tensorboard") is None:
        raise RunError("TensorBoard is not installed.", 'Install it: pip install "sdezoo[tensorboard]", or omit --tensorboard.')
    run = Path(config.out or f"runs/{'-'.join([source, *([] if own else [sde.title()]), (loss or task).title()])}")
    writable_folder(run)
    config = config.model_copy(update={"out": str(run), "loss": config.loss or (loss.spec if loss else None)})
    return Draft(config, task, options, sde, loss, network, load, resolve_device(config.device), run, reasons, origin, asked)


def plan(draft: Draft, workers: Workers, *, resume: bool = False, progress: TrainingProgress | None = None) -> Plan:
    """Read the data and make the choices that depend on them.

    Args:
        draft: the choices made so far.
        workers: the workers that train.
        resume: whether a run is resumed; its batch size is then kept, even if it exceeds the number of rows.
        progress: called after every step of the cross-validation.

    Raises:
        SdezooError: if the data or the settings are invalid. Nothing has been written.
    """
    data = draft.load()
    if draft.origin:
        data, sde, encoding = draft.origin.fitted(data), draft.sde, draft.origin.encoding
        draft.origin.check_support(sde, encoding.encode(data.train))
    else:
        sde, encoding = _encoded(draft, data)
    x0 = encoding.encode(data.train).to(workers.device)
    network = _network(draft, tuple(x0.shape[1:]), data.rows) if draft.task.uses_network else None
    batch = (draft.config.batch_size if resume else None) or _batch(draft, data.rows)
    config = draft.config.model_copy(update={"net": network.spec if network else None, "batch_size": batch})
    classes = draft.origin.state.classes if draft.origin else _classes(draft, data)
    reasons = draft.reasons
    if not draft.origin:
        sde = sde.adapted(torch.cat([x0, *(encoding.encode(at.train).to(x0.device) for at in data.later)]))
        if data.kind in ("table", "points"):
            names, sources = encoding.named(column_names(data))
            recurring = [names[place] for place in encoding.recurring]
            reasons = (*reasons, *sde.findings([names[source] for source in sources]))
            reasons += (f"values of the data for {listed(recurring)}: few, and they recur",) if recurring else ()
    chosen = Plan(
        config=config,
        task=draft.task,
        sde=sde,
        loss=draft.loss,
        network=network,
        data=data,
        encoding=encoding,
        x0=x0,
        classes=classes,
        device=workers.device,
        run=draft.run,
        reasons=reasons,
        origin=draft.origin,
        asked=draft.asked,
    )
    return _with_steps(draft.task.completed(chosen), workers, progress)


def _with_task(config: TrainingConfig) -> TrainingConfig:
    """The settings with a task: the preferred one that fits the process, if none is given."""
    name = config.task
    if name is None:
        # A process that is chosen by column fits what fits every process.
        sde = None if config.sde == AUTO else SDES.build(config.sde)
        fits = [(name, part) for name, part in defaults(TASKS) if (part.refuses(sde) is None if sde else part.requires is Process)]
        what = f"tasks for '{sde.title()}'" if sde else "tasks"
        name = preferred(fits, what)
    task = TASKS.load(name.partition(":")[0])
    for setting in ("target", "rounds"):
        if getattr(config, setting) is not None and not task.in_rounds:
            raise ParameterError(
                f"--{setting} is for a bridge between two data sets, and '{config.sde}' is none.",
                f"Give --sde bridge, or leave out --{setting}.",
            )
    return config.model_copy(update={"task": name})


def load_data(config: TrainingConfig) -> Data:
    """Read the data of a run, joined with those at the other end of a bridge.

    Args:
        config: the settings of the run.

    Raises:
        SdezooError: if they cannot be read or do not fit together.
    """
    data = find_dataset(config.data).load()
    return data if config.target is None else joined(data, find_dataset(config.target).load())


def _checked(read: Callable[[], Data], task: Task, options: ColumnOptions) -> Data:
    data = read()
    task.check_data(data)
    options.check(data)
    return data


def _read(read: Callable[[], Data], task: Task, options: ColumnOptions, missing: str | None) -> Data:
    """The data without the columns and rows that are left out."""
    return prepared(_checked(read, task, options), options, missing)


def _rows_left_out(data: Data, kept: Data) -> list[str]:
    before, after = (len(each.train) + len(each.test) for each in (data, kept))
    return [f"{before - after} of {before} rows left out, since values are missing in them"] if after < before else []


def _with_steps(plan: Plan, workers: Workers, progress: TrainingProgress | None) -> Plan:
    if plan.config.steps is not None:
        return plan
    if not (plan.task.uses_loss and cross_validates(plan.data)):
        return replace(plan, config=plan.config.model_copy(update={"steps": _STEPS}))
    found = select_steps(plan, workers, progress)
    reasons = (f"{plan.network.spec} for {plan.data.rows} rows",) if plan.network else ()
    config = plan.config.model_copy(update={"steps": found.steps})
    return replace(plan, config=config, reasons=(*plan.reasons, *reasons, found.reason))


def _first_codecs(data: Data, options: ColumnOptions) -> tuple[Codec, ...]:
    """The codecs that do not depend on the process: of recurring values, chains and groups, categories, missing values and constants."""
    if data.form:
        return series_codecs(data)
    bound = options.codecs(data)
    kept = [column_names(data).index(name) for group, _ in options.groups for name in group]
    recurring = recurring_codecs(data, bound, options.categories)  # it keeps columns in their places
    first = (*recurring, *bound, *value_codecs(data, bound, options.categories))
    return (*first, *constant_codecs(data, first, kept))


def _encoded(draft: Draft, data: Data) -> tuple[Process, Encoding]:
    """The process for the encoded columns, and the encoding."""
    sde = draft.sde
    if data.form and sde.support.event_dim:
        raise DataError(f"'{sde.title()}' takes single rows, not series.", "Choose another process, such as gbm or vp, or leave out --sde.")
    codecs = () if sde.support.event_dim else _first_codecs(data, draft.options)
    if data.kind in ("table", "points"):
        sde = sde.for_columns(*Encoding(codecs).named(column_names(data)))
    event = Encoding(codecs).encoded_event(data.event)
    if sde.row_shape not in (None, event):
        raise DataError(
            f"'{sde.title()}' takes rows of shape {sde.row_shape}, not {event}.", "Leave out columns, or choose another process."
        )
    # A heavy tail is what noise with such a tail is chosen for: it stays in the data.
    tails = math.isfinite(sde.tail)
    shift = draft.config.shift if draft.task.process() is None else "none"
    rounds_up = sde.rounds_up(event)
    return sde, fit_encoding(data, sde.support, shift, codecs, rounds_up, normal_scores=data.kind == "table", keeps_tails=tails)


def _refuse_unused(config: TrainingConfig, task: Task, own: Process | None) -> None:
    """Refuse settings that a task does not use, since it brings these parts itself."""
    unused = {"loss": not task.uses_loss, "net": not task.uses_network}
    unused |= dict.fromkeys(("sde", "column", "missing", "output", "shift", "condition", "compile"), own is not None)
    for key in (key for key, refused in unused.items() if refused):
        if getattr(config, key) != TrainingConfig.model_fields[key].default:
            raise ParameterError(f"The task '{task.title()}' does not use the setting {key}.", f"Leave out --{key}.")


def _network(draft: Draft, event: tuple[int, ...], rows: int) -> Network:
    """The requested network, or the preferred one for data of shape `event`, sized for this number of rows."""
    network = draft.network or NETWORKS.build(preferred_network(event))
    check_network(network, event)
    return network.sized(event, rows)


def _batch(draft: Draft, rows: int) -> int:
    asked = draft.config.batch_size
    if asked is not None and asked > rows:
        raise ParameterError(f"A batch of {asked} is larger than the data, which have {rows} rows.", f"Give --batch-size at most {rows}.")
    return asked or _BATCH


def _classes(draft: Draft, data: Data) -> int | None:
    if draft.config.condition is None:
        return None
    if data.train_labels is None:
        raise DataError(f"The data '{draft.config.data}' have no labels.", "Omit --condition, or use data with labels.")
    classes = int(data.train_labels.max()) + 1
    if len(data.train_labels.unique()) < 2:
        raise DataError(f"All rows of '{draft.config.data}' have the same label.", "Omit --condition, or use data with several classes.")
    return classes
