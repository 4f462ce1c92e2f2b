"""`sdezoo train`."""

from __future__ import annotations

import shlex
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdezoo_cli.options import Json, Plugins, Quiet, load_plugins
from sdezoo_cli.printing import say, say_json
from sdezoo_cli.progress import bar

if TYPE_CHECKING:
    from sdezoo.training.loop import Result

Text = str | None
Whole = int | None
Number = float | None


def train(
    sde: Annotated[Text, typer.Option(help="Noise process, NAME[:key=value,…]. Default: gbm.")] = None,
    task: Annotated[Text, typer.Option(help="What is learned. Default: score.")] = None,
    loss: Annotated[Text, typer.Option(help="Score loss. Default: the first of mult-dsm, dsm, sliced-sm that fits.")] = None,
    data: Annotated[Text, typer.Option(help="Dataset, or a file or folder of yours. Default: digits.")] = None,
    net: Annotated[Text, typer.Option(help="Network. Default: unet for images, mlp for vectors.")] = None,
    output: Annotated[Text, typer.Option(help="What the network's output means: score, hyvarinen, epsilon, denoiser, v, edm.")] = None,
    prior: Annotated[Text, typer.Option(help="Where sampling starts: full, white, process. Default: full.")] = None,
    noise_levels: Annotated[
        Text, typer.Option(help="How training times are drawn: log-normal, uniform, importance. Default: log-normal.")
    ] = None,
    shift: Annotated[Text, typer.Option(help="Shift of the data into the domain: auto, none, or a number.")] = None,
    steps: Annotated[Whole, typer.Option(help="Optimizer steps. Default: 2000; cross-validated for small tables.")] = None,
    batch_size: Annotated[Whole, typer.Option(help="Samples a step. Default: 128.")] = None,
    accumulate: Annotated[Whole, typer.Option(help="Parts in which a batch is gone through, to save memory. Default: 1.")] = None,
    optimizer: Annotated[Text, typer.Option(help="adamw, egd, egd-adam. Default: adamw.")] = None,
    lr: Annotated[Number, typer.Option(help="Peak learning rate. Default: the optimizer's or the network's.")] = None,
    schedule: Annotated[Text, typer.Option(help="Of the learning rate: cosine, constant. Default: cosine.")] = None,
    warmup_steps: Annotated[Whole, typer.Option(help="Steps in which the learning rate rises. Default: 100.")] = None,
    grad_clip_norm: Annotated[Number, typer.Option(help="Largest norm of the gradient. Default: 1.0.")] = None,
    ema_half_life_images: Annotated[
        Number, typer.Option(help="Half-life of the weights' moving average, in images. Default: 44000.")
    ] = None,
    condition: Annotated[Text, typer.Option(help="labels: train a network that is told the class.")] = None,
    label_dropout: Annotated[Number, typer.Option(help="Share of the labels that are left out in training. Default: 0.1.")] = None,
    precision: Annotated[Text, typer.Option(help="Of the network: float32, bf16, fp16. Default: float32.")] = None,
    compile: Annotated[bool | None, typer.Option("--compile", help="Compile the network.")] = None,  # noqa: A002
    checkpoint_every: Annotated[Whole, typer.Option(help="Steps between checkpoints. Default: 1000.")] = None,
    keep: Annotated[Whole, typer.Option(help="Checkpoints that are kept, beside the best. Default: 3.")] = None,
    tensorboard: Annotated[bool | None, typer.Option("--tensorboard", help="Write metrics for TensorBoard too.")] = None,
    seed: Annotated[Whole, typer.Option(help="Fixes weights, data order and noise. Default: 0.")] = None,
    deterministic: Annotated[bool | None, typer.Option("--deterministic", help="Use torch's deterministic algorithms alone.")] = None,
    device: Annotated[Text, typer.Option(help="auto, cpu, cuda, cuda:1, mps. Default: auto.")] = None,
    out: Annotated[Text, typer.Option(help="Run folder. Default: runs/DATA-SDE-LOSS.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with any of these; options given here win.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint that is whole.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that is there.")] = False,
    plugin: Plugins = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a score model.  Example: sdezoo train --sde gbm --loss mult-dsm

    SIGINT (Ctrl-C), SIGTERM and SIGHUP end the step and save; a second one stops at once. A run that was killed goes on with --resume.
    """
    load_plugins(plugin)
    from sdezoo.runs.train import train as run_training
    from sdezoo.store.launch import is_first
    from sdezoo.training.config import TrainingConfig

    options = locals()
    given = {key: options[key] for key in TrainingConfig.model_fields if options[key] is not None}
    made = TrainingConfig.build(_values(config, given, resume=resume))
    try:
        with bar("training", made.steps, shown=is_first() and not (quiet or as_json)) as update:
            result = run_training(
                made,
                resume=resume,
                overwrite=overwrite,
                interruptible=True,
                preview=True,
                progress=lambda done, total, loss: update(done, total, f"loss {loss:.4f}"),
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
        ending = "csv" if result.data.kind == "table" else "png"
        say(
            f"Trained {result.steps} steps in {result.seconds:.0f} s; loss {result.loss:.4f}{_held_out(result)}.\n"
            f"  run         {result.run}\n"
            f"  checkpoint  {result.checkpoint}\n"
            + (f"  samples     {result.preview}\n" if result.preview else "")
            + "".join(f"  chosen      {reason}\n" for reason in result.reasons)
            + (f"Note: {result.note}\n" if result.note else "")
            + f"Sample next:  sdezoo sample {shlex.quote(str(result.run))} -n 64 --seed 0 --out samples.{ending}\n"
        )


def _values(config: Path | None, given: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    from sdezoo.training.config import TrainingConfig, refuse_elsewhere

    if config is None and resume and "out" in given:
        config = Path(given["out"]) / "config.yaml"
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
    """Say what is saved and how to go on; the exit code that shells give to the signal."""
    from sdezoo.store.launch import is_first
    from sdezoo.training.interruption import Interrupted

    if not isinstance(stop, Interrupted):
        if is_first():
            _say("Stopped at once: the checkpoints that were saved before stay, and --resume goes on from the newest.")
        return typer.Exit(128 + signal.SIGINT)
    if is_first():
        command = ["sdezoo", "train", "--out", str(stop.checkpoint.parents[1]), "--resume"]
        command += [part for file in plugin or () for part in ("--plugin", str(file))]
        _say(f"{stop}\n" + (f"Go on with:  {shlex.join(command)}" if stop.step < stop.steps else "There is nothing left to train."))
    return typer.Exit(128 + stop.number)


def _say(text: str) -> None:
    with suppress(OSError):  # the terminal may have hung up
        say(f"{text}\n", error=True)
