"""What a training is made of: the same fields in Python, in `config.yaml` and on the command line."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, Self

import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sdezoo.errors import ParameterError, RunError
from sdezoo.learning.descent import OptimizerName
from sdezoo.learning.prior import PriorKind
from sdezoo.learning.times import TimesName
from sdezoo.parameters import in_words, not_allowed
from sdezoo.runs.schedule import ScheduleName
from sdezoo.runs.workers import PrecisionName
from sdezoo.zoo.spec import suggestion

_LARGEST_FILE = 2**20


class TrainingConfig(BaseModel):
    """A training, whole. Plugins are spec strings; None leaves a choice to what fits (see `sdezoo.runs.planning`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sde: str = "gbm"
    """The noise process."""
    loss: str | None = None
    """None: the first of mult-dsm, dsm, sliced-sm that fits the process."""
    data: str = "digits"
    """A dataset's spec string, or the path of a file or folder."""
    net: str | None = None
    """None: the first of unet, mlp that fits the data."""
    output: str | None = None
    """What the network's output means; None: edm for affine processes, else epsilon."""
    prior: PriorKind = "full"
    """Where sampling starts, see `sdezoo.learning.prior`."""
    times: TimesName = "log-normal"
    """How training times are drawn, see `sdezoo.learning.times`."""
    shift: Literal["auto", "none"] | float | None = None
    """Shift of the data into the process's domain; None: +1 for images on the positive numbers, else none."""
    steps: int = Field(2000, ge=1)
    """Optimizer steps."""
    batch_size: int | None = Field(None, ge=1)
    """Samples a step, over all workers; None: 128, in which a smaller data set occurs more than once, with other noise."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a worker goes through its share of the batch, to save memory."""
    optimizer: OptimizerName = "adamw"
    """See `sdezoo.learning.descent`."""
    lr: float | None = Field(None, gt=0)
    """Peak learning rate; None: what the optimizer recommends, or for adamw the network."""
    schedule: ScheduleName = "cosine"
    """Of the learning rate, see `sdezoo.runs.schedule`."""
    warm_up: int = Field(100, ge=0)
    """Steps in which the learning rate rises; a tenth of all at most."""
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    ema: float = Field(44_000, ge=0)
    """Half-life of the weights' moving average, which samples are drawn from, in images; 0: no average."""
    condition: Literal["labels"] | None = None
    """labels: the network is told the class, and samples can be guided."""
    drop: float = Field(0.1, ge=0, le=1)
    """Share of the labels that are left out in training, so that the network knows the law without them too."""
    precision: PrecisionName | None = None
    """Of the network: float32, bf16, fp16; None: what the launcher says, else float32."""
    compile: bool = False
    """Compile the network; the first step takes a minute."""
    checkpoint_every: int = Field(1000, ge=1)
    """Steps between checkpoints."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the run folder; needs the extra `tensorboard`."""
    seed: int = Field(0, ge=0)
    """Fixes initial weights, data order and noise."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    out: str | None = None
    """The run folder; None: runs/DATA-SDE-LOSS."""

    @classmethod
    def build(cls, values: dict[str, Any]) -> Self:
        """A config from plain values.

        Raises:
            ParameterError: naming the field, its value and what is allowed.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0])
            if first["type"] == "extra_forbidden":
                raise ParameterError(f"There is no setting '{field}'.", suggestion(field, cls.model_fields)) from None
            allowed = in_words(cls.model_json_schema()["properties"][field])
            raise not_allowed(field, first["input"], error, f"Give {field} {allowed}.") from None

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """The values of a YAML file.

        Raises:
            ParameterError: where it is not a mapping of settings.
            RunError: where it cannot be read.
        """
        try:
            if path.stat().st_size > _LARGEST_FILE:
                raise ParameterError(f"'{path}' is too large for a config.", "Give the config.yaml of a run.")
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(f"The config '{path}' cannot be read: {error.strerror}.", "Give the path of a YAML file.") from None
        except (yaml.YAMLError, UnicodeDecodeError, RecursionError):
            raise ParameterError(f"'{path}' is not YAML.", "Give the config.yaml of a run, or a file like it.") from None
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise ParameterError(f"'{path}' is not a mapping of settings.", "Write one 'name: value' a line.")
        return values

    def write(self, path: Path) -> None:
        """Write all fields as YAML."""
        path.write_text(yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True), encoding="utf-8")


def resolve_device(name: str) -> torch.device:
    """The device called `name`; `auto` is cuda, else mps, else cpu.

    Raises:
        RunError: for a device that is not there.
    """
    here = [*["cuda"] * torch.cuda.is_available(), *["mps"] * torch.backends.mps.is_available(), "cpu"]
    if name == "auto":
        return torch.device(here[0])
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise RunError(f"There is no device '{name}' on this machine.", f"Choose one of: {', '.join(here)}, or auto.") from None
    return device


def writable_folder(folder: Path) -> None:
    """Check that `folder` can be made and written to; makes nothing.

    Raises:
        RunError: where it cannot.
    """
    existing = next(p for p in [folder.absolute(), *folder.absolute().parents] if p.exists())
    if not existing.is_dir():
        raise RunError(f"'{existing}' is a file, not a folder.", "Give another --out.")
    if not os.access(existing, os.W_OK):
        raise RunError(f"The folder '{existing}' cannot be written to.", "Give another --out, or change its permissions.")
