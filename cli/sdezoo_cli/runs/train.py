"""`sdezoo train`: train a model."""

from __future__ import annotations

import math
import shlex
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdezoo.errors import ParameterError, in_one_line
from sdezoo_cli.options import Columns, Json, Plugins, Quiet, load_plugins, said_of_columns
from sdezoo_cli.panels import TRAINING, in_panels
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.training.loop import Result

Text = str | None
Whole = int | None
Number = float | None


@in_panels(TRAINING)
def train(
    file: Annotated[Text, typer.Argument(hidden=True, metavar="--data FILE")] = None,
    data: Annotated[Text, typer.Option(help="Dataset, or a file or folder. Default: digits.")] = None,
    sde: Annotated[Text, typer.Option(help="Noise process, NAME[:key=value,…]; auto: by column, gbm for images. Default: auto.")] = None,
    column: Columns = None,
    missing: Annotated[
        Text, typer.Option(help="Missing values of a table: keep, drop (their rows) or refuse. Default: keep; with --sde: refuse.")
    ] = None,
    task: Annotated[Text, typer.Option(help="What is learned. Default: score.")] = None,
    loss: Annotated[Text, typer.Option(help="Score loss. Default: the first of mult-dsm, dsm, sliced-sm that fits the process.")] = None,
    label_column: Annotated[Text, typer.Option(help="Column of a table with class labels, for --condition labels.")] = None,
    target: Annotated[Text, typer.Option(help="Data at the other end of a bridge, as for --data.")] = None,
    snapshots: Annotated[
        Text, typer.Option(metavar="PATH", help="Instead of --data: an .npz with points x and times time, or a folder, a file a snapshot.")
    ] = None,
    rounds: Annotated[Whole, typer.Option(help="Rounds of a bridge, backward and forward in turn. Default: 6.")] = None,
    origin: Annotated[
        Text,
        typer.Option(
            "--from",
            metavar="RUN",
            help="Run folder whose model is trained on with these data; its process, encoding and network are kept.",
        ),
    ] = None,
    net: Annotated[Text, typer.Option(help="Network. Default: unet for images, mlp for vectors, unet1d for series.")] = None,
    output: Annotated[
        Text,
        typer.Option(
            help="Output parameterization: score, hyvarinen, epsilon, denoiser, v, edm. Default: the one that the process recommends."
        ),
    ] = None,
    prior: Annotated[Text, typer.Option(help="Prior that sampling starts from: full, white, process. Default: full.")] = None,
    noise_levels: Annotated[
        Text, typer.Option(help="Distribution of training times: log-normal, uniform, importance. Default: log-normal.")
    ] = None,
    shift: Annotated[Text, typer.Option(help="Shift of the data into the support of the process: auto, none, or a number.")] = None,
    steps: Annotated[Whole, typer.Option(help="Optimizer steps. Default: 2000; small tables: by cross-validation.")] = None,
    batch_size: Annotated[Whole, typer.Option(help="Samples per step. Default: 128.")] = None,
    accumulate: Annotated[Whole, typer.Option(help="Micro-batches per step (gradient accumulation), to save memory. Default: 1.")] = None,
    optimizer: Annotated[Text, typer.Option(help="Optimizer, NAME[:key=value,…]. Default: adamw.")] = None,
    order: Annotated[
        Text, typer.Option(help="Order of the rows: reshuffle, single-shuffle, flip-flop, with-replacement. Default: reshuffle.")
    ] = None,
    lr: Annotated[Number, typer.Option(help="Peak learning rate. Default: the one that the optimizer or the network recommends.")] = None,
    schedule: Annotated[Text, typer.Option(help="Learning-rate schedule: cosine, constant. Default: cosine.")] = None,
    warmup_steps: Annotated[Whole, typer.Option(help="Steps of linear learning-rate warm-up. Default: 100.")] = None,
    grad_clip_norm: Annotated[Number, typer.Option(help="Clip the gradient to this norm. Default: 1.0.")] = None,
    ema_half_life_images: Annotated[
        Number, typer.Option(help="Half-life of the moving average of the weights, in images. Default: 44000.")
    ] = None,
    condition: Annotated[Text, typer.Option(help="labels: train a class-conditional network.")] = None,
    label_dropout: Annotated[Number, typer.Option(help="Probability of dropping a label in training. Default: 0.1.")] = None,
    precision: Annotated[Text, typer.Option(help="Precision of the network: float32, bf16, fp16. Default: float32.")] = None,
    compile: Annotated[bool | None, typer.Option("--compile", help="Compile the network.")] = None,  # noqa: A002
    checkpoint_every: Annotated[Whole, typer.Option(help="Steps between checkpoints. Default: 1000.")] = None,
    keep: Annotated[Whole, typer.Option(help="Number of newest checkpoints to keep, besides the best. Default: 3.")] = None,
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard", help="Also write metrics for TensorBoard.")] = None,
    seed: Annotated[Whole, typer.Option(help="Seed of initial weights, data order and noise. Default: 0.")] = None,
    deterministic: Annotated[bool | None, typer.Option("--deterministic", help="Use only deterministic algorithms of torch.")] = None,
    device: Annotated[Text, typer.Option(help="Device: auto, cpu, cuda, cuda:1, mps. Default: auto.")] = None,
    out: Annotated[Text, typer.Option(help="Run folder. Default: runs/DATA-SDE-LOSS.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file with any of these settings; options on the command line take precedence.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the newest intact checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that exists.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a score model.  Example: sdezoo train --sde gbm --loss mult-dsm

    SIGINT (Ctrl-C), SIGTERM and SIGHUP finish the current step and save; a second signal stops at once. Give --resume to resume a run.
    """
    if file is not None:
        raise ParameterError(f"'{file}' is given without the name of an option.", f"If these are the data: --data {shlex.quote(file)}")
    load_plugins(plugin)
    from sdezoo.runs.train import train as run_training
    from sdezoo.store.launch import is_first
    from sdezoo.training.config import TrainingConfig

    options = {**locals(), "column": said_of_columns(column)}
    given = {key: options[key] for key in TrainingConfig.model_fields if options[key] is not None}
    values = _values(config, given, resume=resume)
    if snapshots is not None:
        values["data"] = _snapshots(snapshots, data)
    if label_column is not None:
        from sdezoo.zoo.datasets import with_parameter

        values["data"] = with_parameter(values.get("data", "digits"), "label_column", label_column)
    made = TrainingConfig.build(values)
    try:
        with bar("training", made.steps, shown=is_first() and not (quiet or as_json)) as update:
            result = run_training(
                made,
                resume=resume,
                overwrite=overwrite,
                interruptible=True,
                preview=True,
                progress=lambda done, total, loss: update(done, total, "" if math.isnan(loss) else f"loss {loss:.4f}"),
                notify=lambda sentence: _say(f"Note: {sentence}"),
            )
    except KeyboardInterrupt as stop:
        raise _stopped(stop, plugin) from None
    if not is_first():
        return
    if as_json:
        summary = {"run": str(result.run), "checkpoint": str(result.checkpoint)}
        summary |= {"samples": str(result.preview) if result.preview else None, "steps": result.steps}
        summary |= {"loss": result.loss, "validation_loss": result.validation_loss, "best": result.best, "chosen": list(result.reasons)}
        say_json({**summary, "seconds": round(result.seconds, 3), "note": result.note})
    elif not quiet:
        ending = {"table": "csv", "paths": "npz"}.get(result.data.kind, "png")
        say(
            f"Trained {result.steps} steps in {result.seconds:.0f} s; loss {result.loss:.4f}{_held_out(result)}.\n"
            f"  run         {result.run}\n"
            f"  checkpoint  {result.checkpoint}\n"
            + (f"  samples     {result.preview}\n" if result.preview else "")
            + "".join(f"  chosen      {in_one_line(reason)}\n" for reason in result.reasons)
            + (f"Note: {result.note}\n" if result.note else "")
            + f"Sample next:  sdezoo sample {shlex.quote(str(result.run))} {result.usage} --out samples.{ending}\n"
            + f"Report next:  sdezoo report {shlex.quote(str(result.run))}\n"
        )


def _snapshots(path: str, data: str | None) -> str:
    """The spec of snapshots in a file."""
    from sdezoo.errors import ParameterError
    from sdezoo.parameters import format_value

    if data is not None:
        raise ParameterError("Both --data and --snapshots were given.", "Give one of them.")
    return path if path.startswith("snapshots:") else f"snapshots:path={format_value(path)}"


def _values(config: Path | None, given: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    from sdezoo.training.config import TrainingConfig, config_file, refuse_elsewhere

    if config is None and resume and "out" in given:
        config = config_file(Path(given["out"]))
    base = TrainingConfig.read(config) if config else {}
    if config and resume and (config.parent / "checkpoints").is_dir():
        base["out"] = str(config.parent)
    if config and isinstance(base.get("out"), str) and "out" not in given:
        refuse_elsewhere(base["out"], config)
    return {**base, **given}


def _held_out(result: Result) -> str:
    if result.validation_loss is None:
        return ""
    better = f", least at step {result.best}" if result.best != result.steps else ""
    return f", {result.validation_loss:.4f} on held-out rows{better}"


def _stopped(stop: KeyboardInterrupt, plugin: list[Path] | None) -> typer.Exit:
    """Print what was saved and how to resume; return the exit code that shells use for the signal."""
    from sdezoo.store.launch import is_first
    from sdezoo.training.interruption import Interrupted

    if not isinstance(stop, Interrupted):
        if is_first():
            _say("Stopped at once. Earlier checkpoints are kept; give --resume to resume from the newest.")
        return typer.Exit(128 + signal.SIGINT)
    if is_first():
        command = ["sdezoo", "train", "--out", str(stop.run), "--resume"]
        command += [part for file in plugin or () for part in ("--plugin", str(file))]
        _say(f"{stop}\n" + (f"Resume with:  {shlex.join(command)}" if stop.step < stop.steps else "There is nothing left to train."))
    return typer.Exit(128 + stop.number)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may have hung up
        say(f"{text}\n", error=True)
