"""What a training is made of: the same fields in Python, in `config.yaml` and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sdezoo.errors import ParameterError, RunError, SdezooError
from sdezoo.learning.noise_levels import NoiseLevels
from sdezoo.learning.optimizers import OptimizerName
from sdezoo.learning.prior import PriorKind
from sdezoo.parameters import in_words, not_allowed
from sdezoo.store.files import atomic_write
from sdezoo.store.upgrade import upgrade_settings
from sdezoo.training.schedule import ScheduleName
from sdezoo.training.workers import PrecisionName
from sdezoo.zoo.spec import shown, suggestion

FREE = frozenset(
    {"out", "steps", "device", "checkpoint_every", "keep", "accumulate", "precision", "compile", "tensorboard", "deterministic"}
)
"""What a training that goes on may change."""

_LARGEST_FILE = 2**17
_LONGEST = 64  # characters of a value that is no text
_TEXT = "tag:yaml.org,2002:str"


class TrainingConfig(BaseModel):
    """A training, whole. Plugins are spec strings; None leaves a choice to what fits (see `sdezoo.training.planning`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str = "score"
    """What is learned, see `sdezoo.training.task`."""
    sde: str = "auto"
    """The noise process. auto: for tables and points the process of each column, see `sdezoo.training.columns`; for others gbm."""
    column: str | None = None
    """What is known of the columns of a table: `COLUMN=PROCESS` or `COLUMN=drop`, separated by commas."""
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
    noise_levels: NoiseLevels = "log-normal"
    """How training times are drawn, see `sdezoo.learning.noise_levels`."""
    shift: Literal["auto", "none"] | float | None = None
    """Shift of the data into the process's domain; None: +1 for images on a half-line without 0, else none."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps; None: by cross-validation for tables of fewer than 600 rows, see `sdezoo.training.selection`, else 2000."""
    batch_size: int | None = Field(None, ge=1)
    """Samples a step, over all workers; None: 128, in which a smaller data set occurs more than once, with other noise."""
    accumulate: int = Field(1, ge=1)
    """Parts in which a worker goes through its share of the batch, to save memory."""
    optimizer: OptimizerName = "adamw"
    """See `sdezoo.learning.optimizers`."""
    lr: float | None = Field(None, gt=0)
    """Peak learning rate; None: what the optimizer recommends, or for adamw the network."""
    schedule: ScheduleName = "cosine"
    """Of the learning rate, see `sdezoo.training.schedule`."""
    warmup_steps: int = Field(100, ge=0)
    """Steps in which the learning rate rises; a tenth of all at most."""
    grad_clip_norm: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    ema_half_life_images: float = Field(44_000, ge=0)
    """Half-life of the weights' moving average, which samples are drawn from, in images; 0: no average."""
    condition: Literal["labels"] | None = None
    """labels: the network is told the class, and samples can be guided."""
    label_dropout: float = Field(0.1, ge=0, le=1)
    """Share of the labels that are left out in training, so that the network knows the law without them too."""
    precision: PrecisionName | None = None
    """Of the network: float32, bf16, fp16; None: what the launcher says, else float32."""
    compile: bool = False
    """Compile the network; the first step takes a minute."""
    checkpoint_every: int = Field(1000, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(3, ge=1)
    """Checkpoints that are kept, the newest, and the best beside them: the one with the least loss on held-out rows."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too, into the run folder; needs the extra `tensorboard`."""
    seed: int = Field(0, ge=0)
    """Fixes initial weights, data order and noise."""
    deterministic: bool = False
    """Use torch's deterministic algorithms alone; slower on a GPU. On a CPU, equal bytes need the same number of threads too."""
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
                raise ParameterError(f"There is no setting '{shown(field)}'.", suggestion(field, cls.model_fields)) from None
            allowed = in_words(cls.model_json_schema()["properties"][field])
            raise not_allowed(field, shown(str(first["input"])), error, f"Give {field} {allowed}.") from None

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """The values of a YAML file.

        Raises:
            ParameterError: where it is not a mapping of settings.
            RunError: where it cannot be read.
        """
        try:
            if not path.is_file() and path.exists():
                raise RunError(f"The config '{path}' is not a file.", "Give the path of a YAML file.")
            with path.open("rb") as file:
                text = file.read(_LARGEST_FILE + 1)
            if len(text) > _LARGEST_FILE:
                raise ParameterError(f"'{path}' is too large for a config.", "Give the config.yaml of a run.")
            if not _is_flat(text.decode("utf-8")):
                raise ParameterError(
                    f"'{path}' is not a mapping of settings: names, each with one number or text.", "Write one 'name: value' a line."
                )
            return upgrade_settings(yaml.safe_load(text))
        except SdezooError:
            raise
        except OSError as error:
            raise RunError(f"The config '{path}' cannot be read: {error.strerror}.", "Give the path of a YAML file.") from None
        except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            # PyYAML lets through what Python says of impossible dates and numbers, and of tags that do not fit.
            raise ParameterError(f"'{path}' is not YAML.", "Give the config.yaml of a run, or a file like it.") from None

    def write(self, path: Path) -> None:
        """Write all fields as YAML.

        Raises:
            RunError: where the system does not let it be written.
        """
        with atomic_write(path, "Make room, or give another --out.") as file:
            file.write(yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True).encode())


def _is_flat(text: str) -> bool:
    """Whether YAML is a mapping from texts to scalars: others may, by aliases and merges, stand for more than memory holds."""
    mappings = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):  # one by one: what is nested deeply would be composed by recursion
        mappings += isinstance(event, yaml.MappingStartEvent)
        if isinstance(event, yaml.AliasEvent | yaml.SequenceStartEvent) or mappings > 1:
            return False
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return isinstance(root, yaml.MappingNode) and all(
        key.tag == _TEXT and (value.tag == _TEXT or len(value.value) <= _LONGEST) for key, value in root.value
    )


def refuse_elsewhere(out: str, config: Path) -> None:
    """Refuse the run folder `out` that a config file names where it is outside the working folder, and not the folder that the file is in.

    Raises:
        RunError: naming both.
    """
    folder = Path(out).resolve()
    if folder != config.resolve().parent and not folder.is_relative_to(Path.cwd()):
        raise RunError(f"'{config}' has the run written to '{out}', outside of this folder.", f"If that is wanted, give --out {out} too.")
