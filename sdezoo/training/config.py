"""Settings of a training run: the same fields in Python, in `config.yaml` and on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sdezoo.errors import ParameterError, RunError, SdezooError
from sdezoo.learning.noise_levels import NoiseLevels
from sdezoo.learning.prior import PriorKind
from sdezoo.parameters import in_words, not_allowed
from sdezoo.store.files import atomic_write
from sdezoo.store.upgrade import upgrade_settings
from sdezoo.training.batches import Order
from sdezoo.training.schedule import ScheduleName
from sdezoo.training.workers import PrecisionName
from sdezoo.zoo.spec import shown, suggestion

FREE = frozenset(
    {"out", "steps", "rounds", "device", "checkpoint_every", "keep", "accumulate", "precision", "compile", "tensorboard", "deterministic"}
)
"""Settings that may change when a run resumes."""

_LARGEST_FILE = 2**17
_LONGEST = 64  # characters of a value that is not a string
_TEXT = "tag:yaml.org,2002:str"


class TrainingConfig(BaseModel):
    """All settings of a training run. Plugins are spec strings; None means chosen automatically (see `sdezoo.training.planning`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    task: str | None = None
    """Training task, see `sdezoo.training.task`; None: score, and for a bridge its own."""
    origin: str | None = None
    """Run folder whose model is trained on with these data; its process, encoding and network are kept. None: a new model."""
    sde: str = "auto"
    """Noise process; auto: by the values of series and of each column of tables and points, see `sdezoo.zoo.columns`; else gbm."""
    column: str | None = None
    """Overrides for columns of a table, separated by commas: `COLUMN=PROCESS`, or `category`, `negative`, `floor`, `ceiling` or `drop`
    instead of a process."""
    missing: Literal["keep", "drop", "refuse"] | None = None
    """Missing values of a table: keep them, by a mark beside each value, drop their rows, or refuse; None: keep for auto, else refuse."""
    loss: str | None = None
    """Score loss; None: the first of mult-dsm, dsm, sliced-sm that fits the process."""
    data: str = "digits"
    """Spec string of a dataset, or path of a file or folder."""
    target: str | None = None
    """The data at the other end of a bridge, as for `data`; `data` is the first end."""
    rounds: int | None = Field(None, ge=1)
    """Rounds in which a bridge is trained, backward and forward in turn, see `sdezoo.bridging`; None: 6."""
    net: str | None = None
    """Network; None: the first of unet, unet1d, mlp that fits the data."""
    output: str | None = None
    """Output parameterization; None: edm for affine processes, else epsilon."""
    prior: PriorKind = "full"
    """Prior that sampling starts from, see `sdezoo.learning.prior`."""
    noise_levels: NoiseLevels = "log-normal"
    """Distribution of training times, see `sdezoo.learning.noise_levels`."""
    shift: Literal["auto", "none"] | float | None = None
    """Shift of the data into the support of the process; None: +1 for images if the support is a half-line without 0, else no shift. If a
    shift is given, nothing else is done to pixels."""
    steps: int | None = Field(None, ge=1)
    """Optimizer steps; None: by cross-validation for tables of fewer than 600 rows, see `sdezoo.training.selection`, else 2000."""
    batch_size: int | None = Field(None, ge=1)
    """Samples per step, over all workers; None: 128. Rows of a smaller data set occur more than once in a batch, with different noise."""
    accumulate: int = Field(1, ge=1)
    """Micro-batches per step on each worker (gradient accumulation), to save memory."""
    order: Order = "reshuffle"
    """Order of the training rows, see `sdezoo.training.batches`."""
    optimizer: str = "adamw"
    """Optimizer, see `sdezoo.learning.optimizer`."""
    lr: float | None = Field(None, gt=0)
    """Peak learning rate; None: the one that the optimizer recommends, or the network for adamw."""
    schedule: ScheduleName = "cosine"
    """Learning-rate schedule, see `sdezoo.training.schedule`."""
    warmup_steps: int = Field(100, ge=0)
    """Steps of linear learning-rate warm-up; at most a tenth of all steps."""
    grad_clip_norm: float = Field(1.0, gt=0)
    """Clip the gradient to this norm."""
    ema_half_life_images: float = Field(44_000, ge=0)
    """Half-life of the exponential moving average of the weights, in images; 0: no average. Samples are drawn with the average."""
    condition: Literal["labels"] | None = None
    """labels: train a class-conditional network, which classifier-free guidance needs."""
    label_dropout: float = Field(0.1, ge=0, le=1)
    """Probability of dropping a label in training, so that the network also learns the unconditional distribution."""
    precision: PrecisionName | None = None
    """Precision of the network: float32, bf16, fp16; None: the setting of the launcher, else float32."""
    compile: bool = False
    """Compile the network; the first step then takes about a minute."""
    checkpoint_every: int = Field(1000, ge=1)
    """Steps between checkpoints."""
    keep: int = Field(3, ge=1)
    """Number of newest checkpoints to keep, besides the best: the one with the lowest validation loss."""
    tensorboard: bool = False
    """Also write metrics for TensorBoard, into the run folder; needs the extra `tensorboard`."""
    seed: int = Field(0, ge=0)
    """Seed of initial weights, data order and noise."""
    deterministic: bool = False
    """Use only deterministic algorithms of torch; slower on a GPU. On a CPU, identical results also need the same number of threads."""
    device: str = "auto"
    """Device: auto, cpu, cuda, cuda:1, mps."""
    out: str | None = None
    """Run folder; None: runs/DATA-SDE-LOSS."""

    @classmethod
    def build(cls, values: dict[str, Any]) -> Self:
        """Build a config from plain values.

        Args:
            values: settings by name.

        Raises:
            ParameterError: if a setting is unknown or its value is not allowed; the message names both.
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
    def of_run(cls, run: Path) -> Self:
        """The settings of a run.

        Args:
            run: the run folder.

        Raises:
            ParameterError: if a setting is unknown or out of range.
            RunError: if the folder is not a run, or its settings cannot be read.
        """
        return cls.build(cls.read(config_file(run)))

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """Read settings from a YAML file, without validating them.

        Args:
            path: path of the file.

        Raises:
            ParameterError: if the file is not a mapping of settings.
            RunError: if the file cannot be read.
        """
        try:
            if not path.is_file() and path.exists():
                raise RunError(f"The config '{path}' is not a file.", "Give the path of a YAML file.")
            with path.open("rb") as file:
                text = file.read(_LARGEST_FILE + 1)
            if len(text) > _LARGEST_FILE:
                raise ParameterError(f"'{path}' is too large for a config.", "Give the config.yaml of a run.")
            if not _is_flat(text.decode("utf-8")):
                raise ParameterError(f"'{path}' is not a mapping of settings to numbers or strings.", "Write one 'name: value' per line.")
            return upgrade_settings(yaml.safe_load(text))
        except SdezooError:
            raise
        except OSError as error:
            raise RunError(f"The config '{path}' cannot be read: {error.strerror}.", "Give the path of a YAML file.") from None
        except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
            # PyYAML lets Python's own exceptions through for impossible dates, numbers and tags.
            raise ParameterError(f"'{path}' is not YAML.", "Give the config.yaml of a run, or a file like it.") from None

    def write(self, path: Path) -> None:
        """Write all settings as YAML.

        Args:
            path: path of the file.

        Raises:
            RunError: if the file cannot be written.
        """
        with atomic_write(path, "Make room, or give another --out.") as file:
            file.write(yaml.safe_dump(self.model_dump(), sort_keys=False, allow_unicode=True).encode())


def _is_flat(text: str) -> bool:
    """Whether `text` is a YAML mapping from strings to scalars. Aliases and merges are rejected: they can expand to exhaust memory."""
    mappings = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):  # events, since composing deeply nested YAML recurses
        mappings += isinstance(event, yaml.MappingStartEvent)
        if isinstance(event, yaml.AliasEvent | yaml.SequenceStartEvent) or mappings > 1:
            return False
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return isinstance(root, yaml.MappingNode) and all(
        key.tag == _TEXT and (value.tag == _TEXT or len(value.value) <= _LONGEST) for key, value in root.value
    )


def refuse_elsewhere(out: str, config: Path) -> None:
    """Reject a run folder named by a config file, unless it is the folder of that file or inside the working directory.

    Args:
        out: the run folder.
        config: path of the config file.

    Raises:
        RunError: if the folder is elsewhere.
    """
    folder = Path(out).resolve()
    if folder != config.resolve().parent and not folder.is_relative_to(Path.cwd()):
        raise RunError(f"'{config}' writes the run to '{out}', outside the working directory.", f"If you want that, give --out {out} too.")


def config_file(run: Path) -> Path:
    """The file with the settings of a run.

    Args:
        run: the run folder.

    Raises:
        RunError: if the folder is not a run.
    """
    file = run / "config.yaml"
    if not file.is_file():
        found = "is not a run of sdezoo" if run.is_dir() else "does not exist"
        raise RunError(f"The folder '{run}' {found}.", "Give the folder that `sdezoo train` wrote.")
    return file
