"""A scikit-learn estimator: train, sample and compute likelihoods of arrays and data frames.

```python
model = DiffusionModel(sde="gbm", loss="mult-dsm").fit(X)
model.sample(1000)
model.score_samples(X)  # log-density of each row, in nats
```

Parameters are those of `TrainingConfig`. They are validated in `fit` only, so that `clone` and `set_params` work. `save` writes a run
folder, which `sdezoo sample` reads too.
"""

from __future__ import annotations

import math
import numbers
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sdezoo.data.conversion import recoded
from sdezoo.data.dataset import Data
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError
from sdezoo.exchange import hub
from sdezoo.generation.beginnings import Beginnings
from sdezoo.generation.conditions import Values
from sdezoo.generation.given import STEPS, Given
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, together
from sdezoo.runs.frames import Rows, make_frame, read_labels, read_rows, series_form
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.files import writable_folder
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from sdezoo.training.metrics import history, print_progress
from sdezoo.zoo.spec import shown

RandomState = int | np.integer | np.random.RandomState | np.random.Generator | None
"""What fixes random numbers: a seed, or a generator that draws one each time; None: NumPy's global generator."""

_SEEDS = 2**31 - 1
_OWN = ("sampler", "sampling_steps", "random_state", "verbose")
"""Parameters without a `TrainingConfig` setting of the same name."""


class DiffusionModel(BaseEstimator):
    """A score-based generative model of rows `(N, d)`, a data frame, series `(N, T, d)`, or images `(N, C, H, W)` in [0, 1].

    Windows of series that are all positive, such as prices, are divided by their first value; samples start at 1.

    Args:
        sde: spec string of the noise process, such as `gbm`.
        loss: spec string of the score loss; None: the first that fits.
        column: overrides for the columns of a data frame, `COLUMN=PROCESS`, `COLUMN=category` or `COLUMN=drop`, separated by commas.
        missing: missing values of a data frame, `keep`, `drop` (their rows) or `refuse`; None: keep if `sde="auto"`, else refuse.
        net: spec string of the network; None: the first that fits.
        output: output parameterization of the network; None: the default of the process.
        prior: initial distribution of sampling, `full`, `white` or `process`.
        noise_levels: distribution of noise levels in training, `log-normal`, `uniform` or `importance`.
        shift: shift of the data into the domain of the process, `auto`, `none` or a number.
        steps: optimizer steps; None: by cross-validation for arrays and tables of fewer than 600 rows, else 2000.
        batch_size: batch size of training; None: 128.
        optimizer: spec string of the optimizer.
        lr: peak learning rate; None: the default of the optimizer or the network.
        ema_half_life_images: half-life of the exponential moving average of the weights, in images; 0: no average.
        condition: `labels` conditions the network on the classes `y`; None: unconditional.
        precision: precision of the network, `float32`, `bf16` or `fp16`; None: the default of the launcher, else `float32`.
        compile: whether to compile the network.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        sampler: spec string of the sampler; None: the preferred one that fits.
        sampling_steps: steps of the sampler.
        random_state: seed of training and of samples; or a NumPy generator, which draws a seed for each call of `fit` and `sample`;
            None: NumPy's global generator.
        verbose: 1: while training, print a line to standard error every ten seconds; 0: print nothing.

    Attributes:
        history_: losses in training by name, `step`, `loss` and `validation_loss`, equally long; a validation loss is None where it
            was not measured. Empty if loaded from a folder without them.
        trained_: the fitted model with the encoding of the data, a `sdezoo.store.restoring.Trained`.
        n_features_in_: number of values in a row.
        feature_names_in_: column names, `(d,)`; only if fitted on a data frame whose names are texts.
        classes_: class labels in the order of their numbers; only if fitted with `condition="labels"`.
    """

    def __init__(
        self,
        sde: str = "auto",
        loss: str | None = None,
        *,
        column: str | None = None,
        missing: str | None = None,
        net: str | None = None,
        output: str | None = None,
        prior: str = "full",
        noise_levels: str = "log-normal",
        shift: str | float | None = None,
        steps: int | None = None,
        batch_size: int | None = None,
        optimizer: str = "adamw",
        lr: float | None = None,
        ema_half_life_images: float = 44_000,
        condition: str | None = None,
        precision: str | None = None,
        compile: bool = False,  # noqa: A002
        device: str = "auto",
        sampler: str | None = None,
        sampling_steps: int = 20,
        random_state: RandomState = 0,
        verbose: int = 0,
    ) -> None:
        self.sde, self.loss, self.net, self.output, self.prior = sde, loss, net, output, prior
        self.column, self.missing = column, missing
        self.noise_levels, self.shift, self.condition = noise_levels, shift, condition
        self.steps, self.batch_size, self.lr, self.ema_half_life_images = steps, batch_size, lr, ema_half_life_images
        self.optimizer, self.precision, self.compile, self.device = optimizer, precision, compile, device
        self.sampler, self.sampling_steps, self.random_state = sampler, sampling_steps, random_state
        self.verbose = verbose

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # noqa: N803
        """The parameters, and the process of the fitted model."""
        shown = super().__repr__(N_CHAR_MAX)
        return f"{shown}, fitted: {self.trained_.model.sde.spec}" if "trained_" in vars(self) else shown

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Train the model.

        Args:
            X: array `(N, d)`, data frame of pandas or polars, windows of series `(N, T, d)`, or images `(N, C, H, W)` in [0, 1].
            y: class labels `(N,)`, texts or whole numbers, used with `condition="labels"`; else ignored.

        Returns:
            The fitted estimator.

        Raises:
            SdezooError: if the data or the parameters are invalid.
        """
        rows = read_rows(X)
        values, labels = rows.values, None
        if len(values) == 1:
            raise DataError("There is 1 sample (n_samples=1), and at least 2 are needed.", "Give more rows.")
        if self.condition is not None and y is not None:
            labels = read_labels(y, len(values))
        kind = "image" if values.ndim == 4 else "series" if values.ndim == 3 else "table" if rows.columns else "points"
        form = series_form(values) if values.ndim == 3 else None
        values = values / values[:, :1] if form == "growth" else values
        classes = None if labels is None else labels.numbers
        held_out = None if classes is None else classes[:0]
        names = () if labels is None else labels.names
        data = Data(values, values[:0], kind, rows.columns, classes, held_out, types=rows.types, class_names=names, form=form)
        self.seed_ = _seed(self.random_state)
        with tempfile.TemporaryDirectory() as folder:
            config = self._config(f"{folder}/run", self.seed_)
            result = train(config, data=data, progress=print_progress() if self.verbose else None)
            self.trained_: Trained = restore(result.run)
            self.history_ = history(result.run)
        self._describe(replace(rows, values=values[:0]), None if labels is None else np.array(labels.names))
        return self

    def sample(
        self,
        n_samples: int = 1,
        random_state: RandomState = None,
        *,
        condition: str | float | None = None,
        given: Values | np.ndarray | Tensor | None = None,
    ) -> Any:
        """Draw new rows in the form that `fit` was given. Sample `i` depends only on the seed and `i`.

        Args:
            n_samples: number of rows.
            random_state: as for the estimator; None: that of the estimator.
            condition: the class to draw, one of `classes_`; None: none.
            given: conditions by column: a value, or an interval `(low, high)` with None for an open end, see `sdezoo.generation.given`.
                Columns of arrays are called x0, x1, …. Of series: their beginnings `(M, steps, d)`; sample `i` continues number `i`
                modulo `M`.

        Returns:
            A data frame with the columns and dtypes of the training data, or a float32 array `(n_samples, *event)`. Integer columns are
            rounded to the nearest integer; they are int64 if their own dtype is too small, and `Int64` if values are missing. Columns that
            were left out, such as identifiers, are not in it.

        Raises:
            SdezooError: as for `sdezoo.generation.samples.Draw`, if there is no such class, if a condition cannot be met, or if a data
                frame is needed and its library is not installed.
        """
        check_is_fitted(self)
        seed = _seed(self.random_state if random_state is None else random_state)
        sampler = choose_sampler(self.trained_, self.sampler)
        label = None if condition is None else self._class(condition)
        begun = _begun(given, self.trained_) if isinstance(given, np.ndarray | Tensor) else None
        meet = None if begun or given is None else _conditions(given, self.trained_)
        steps = max(self.sampling_steps, STEPS) if meet and meet.exact else self.sampling_steps
        draw = Draw(self.trained_, sampler, SampleIndices.first(_number(n_samples)), steps, seed, label=label, given=meet, begun=begun)
        made = together(draw.batches())
        state = self.trained_.state
        if not state.columns:
            return made.x.numpy()
        return make_frame(self._rows, state.columns, made.x, self.trained_.encoding)

    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Compute the log-density of each row, see `sdezoo.store.restoring.Trained.likelihood`.

        Args:
            X: rows of the form that was fitted.

        Returns:
            Log-densities `(N,)` in nats, float64, in the units of the data.

        Raises:
            SdezooError: if rows lie outside the support, or have another shape or other columns.
        """
        check_is_fitted(self)
        rows, state = read_rows(X), self.trained_.state
        values, columns, types = rows.values, rows.columns, rows.types
        if columns and columns == self._rows.columns != state.columns:  # without the columns that training left out
            kept = [columns.index(name) for name in state.columns]
            values, columns, types = values[:, kept], state.columns, tuple(types[place] for place in kept)
        given = math.prod(values.shape[1:]) if len(values) else math.prod(state.event)
        if given != math.prod(state.event):
            raise DataError(
                f"X has {given} features, but {type(self).__name__} is expecting {self.n_features_in_} features as input.",
                "Give rows of the form that was fitted.",
            )
        if tuple(values.shape[1:]) != state.event or (columns and state.columns and columns != state.columns):
            raise DataError("The rows differ in shape or columns from the fitted data.", "Give the same columns in the same order.")
        if self.trained_.encoding.starts_at_one:
            values = values / values[:, :1]
        if columns and state.columns:
            values = recoded(values, types, self.trained_.encoding.types, columns)
        return self.trained_.log_prob(values, seed=self.seed_).numpy()

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """Compute the mean of `score_samples`.

        Args:
            X: rows of the form that was fitted.
            y: ignored.
        """
        return float(self.score_samples(X).mean())

    def save(self, path: str | Path) -> None:
        """Write a run folder, for `load` and the command line.

        Args:
            path: a new or empty folder.

        Raises:
            RunError: if the folder is not empty, or cannot be written to.
        """
        check_is_fitted(self)
        path = Path(path)
        writable_folder(path)
        if path.exists() and any(path.iterdir()):
            raise RunError(f"'{path}' is not empty.", "Give a new folder.")
        checkpoint.save(path, self.trained_.state, {"ema": self.trained_.model.state_dict()})
        self._config(str(path), self.seed_).write(path / "config.yaml")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load an estimator from a folder of `save` or a run folder of `sdezoo train`.

        Args:
            path: the run folder.

        Raises:
            SdezooError: if the folder cannot be read.
        """
        path = Path(path)
        config = TrainingConfig.build(TrainingConfig.read(path / "config.yaml"))
        names = set(cls().get_params())
        model = cls(**{name: value for name, value in config.model_dump().items() if name in names}, random_state=config.seed)
        model.trained_ = restore(path)
        model.history_ = history(path)
        state = model.trained_.state
        rows = Rows(torch.empty(0, *state.event), state.columns, model.trained_.encoding.types, state.columns, "pandas")
        model.seed_ = config.seed
        model._describe(rows, None if state.classes is None else np.array(state.class_names or range(state.classes)))
        return model

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder by the conventions of the Hub: that of `save`, with a model card, `README.md`.

        Args:
            path: a new or empty folder.

        Raises:
            RunError: if the folder is not empty, or cannot be written to.
        """
        self.save(path)
        hub.write_card(Path(path))

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None, *, endpoint: str | None = None) -> Self:
        """Load an estimator from a folder, or from a repository of the Hugging Face Hub. Nothing of it is executed.

        Args:
            source: a folder of `save_pretrained`, of `save` or of `sdezoo train`; or the id `OWNER/NAME` of a repository, which needs the
                extra `hub`.
            revision: the commit of the repository, 40 hexadecimal digits: a branch may change.
            endpoint: address of the Hub; None: that of `huggingface_hub`.

        Raises:
            SdezooError: if there is neither, the revision is no commit, or the folder cannot be read.
        """
        return cls.load(hub.find(source, revision, endpoint=endpoint))

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None, endpoint: str | None = None) -> str:
        """Upload the model to the Hugging Face Hub, with a card; needs the extra `hub`.

        Args:
            repo_id: the id `OWNER/NAME`; a repository that does not exist is created.
            private: whether a new repository is private.
            token: access token; None: that of `huggingface_hub`.
            endpoint: address of the Hub; None: that of `huggingface_hub`.

        Returns:
            The commit, for `from_pretrained`.

        Raises:
            SdezooError: if the id has another form, or the upload fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model"
            self.save(path)
            hub.write_card(path, repo_id)
            return hub.push(path, repo_id, private=private, token=token, endpoint=endpoint)

    def _describe(self, rows: Rows, classes: np.ndarray | None) -> None:
        """Set the attributes that describe the fitted data."""
        self._rows = rows
        self.n_features_in_ = math.prod(rows.values.shape[1:])
        for name in ("feature_names_in_", "classes_"):
            vars(self).pop(name, None)
        if rows.columns and all(isinstance(name, str) for name in rows.names):
            self.feature_names_in_ = np.array(rows.columns, dtype=object)
        if classes is not None:
            self.classes_ = classes

    def _class(self, condition: str | float) -> int:
        """The number of a class."""
        if (classes := getattr(self, "classes_", None)) is None:
            raise CompositionError("This model is unconditional.", 'Fit one with condition="labels", or leave out condition.')
        if condition not in (known := classes.tolist()):
            raise ParameterError(f"There is no class {shown(repr(condition))}.", f"Give one of {', '.join(map(repr, known[:20]))}.")
        return known.index(condition)

    def _config(self, out: str, seed: int) -> TrainingConfig:
        settings = {name: value for name, value in self.get_params().items() if name not in _OWN}
        settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
        return TrainingConfig.build({**settings, "data": "memory", "seed": seed, "out": out})


def _begun(given: np.ndarray | Tensor, trained: Trained) -> Beginnings:
    """The beginnings of series that samples continue."""
    windows = torch.as_tensor(given).detach().cpu().float()
    return Beginnings.of(windows, windows.shape[1] if windows.ndim == 3 else 0, trained)


def _conditions(given: object, trained: Trained) -> Given | None:
    """The conditions on columns; None if there are none."""
    if not isinstance(given, Mapping):
        raise ParameterError(
            f"given is of type {type(given).__name__}, not a dictionary of conditions.", 'Give one by column, such as {"x": 1.0}.'
        )
    return Given.of(given, trained) if given else None


def _number(n_samples: object) -> int:
    """The number of samples."""
    if isinstance(n_samples, bool | np.bool) or not isinstance(n_samples, numbers.Integral):
        raise ParameterError(f"n_samples={shown(str(n_samples))} is not a whole number.", "Give an integer at least 1.")
    return int(n_samples)


def _seed(random_state: RandomState) -> int:
    """The seed: an integer itself, else a number that the generator draws; None: NumPy's global generator."""
    if isinstance(random_state, numbers.Integral):
        return int(random_state)
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(_SEEDS))
    try:
        return int(check_random_state(random_state).randint(_SEEDS))
    except ValueError:
        raise ParameterError(
            f"random_state={shown(str(random_state))} is no seed.", "Give an integer, a NumPy generator, or None."
        ) from None
