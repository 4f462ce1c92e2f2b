"""A scikit-learn estimator: train, sample and compute likelihoods of arrays and data frames.

::

    model = DiffusionModel(sde="gbm", loss="mult-dsm").fit(X)
    model.sample(1000)
    model.score_samples(X)  # log-density of each row, in nats

    bridge = DiffusionModel(sde="bridge:sigma=1").fit(a, target=b)
    bridge.transform(a2)  # row i goes from row i; inverse_transform goes the other way

Parameters are those of `TrainingConfig`. They are validated in `fit` only, so that `clone` and `set_params` work. `save` writes a run
folder, which `sdezoo sample` reads too.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sdezoo.data.validation import check_finite
from sdezoo.generation.conditions import Values
from sdezoo.generation.given import STEPS
from sdezoo.generation.samples import Draw, SampleIndices, choose_sampler, steps_for
from sdezoo.runs.between.arrays import read_given, read_like, spaced
from sdezoo.runs.between.directions import Direction, all_history, read_directions, toward, write_models
from sdezoo.runs.between.drawing import RandomState, begun_by, class_of, conditions_by, curves_of, guides_for, number_of, seed_of, start_for
from sdezoo.runs.between.imputing import impute_like
from sdezoo.runs.between.on_hub import OnHub
from sdezoo.runs.between.wording import in_parameters
from sdezoo.runs.frames import Rows, make_frame
from sdezoo.runs.given_rows import as_trained, training_data
from sdezoo.runs.train import train
from sdezoo.store.launch import usual_torch
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from sdezoo.training.metrics import print_progress

_MEMORY = "memory"
_OWN = ("sampler", "sampling_steps", "random_state", "verbose")
"""Parameters without a `TrainingConfig` setting of the same name."""


def _is_bridge(model: Any) -> bool:
    return bool(vars(model).get("directions_"))


class DiffusionModel(OnHub, BaseEstimator):
    """A score-based generative model of rows `(N, d)`, a data frame, series `(N, T, d)`, or images `(N, C, H, W)` in [0, 1]; a bridge
    between two sets of rows, or through snapshots; or an SDE of observed paths.

    Windows of series that are all positive, such as prices, are divided by their first value; samples start at 1.

    Args:
        sde (str, default "auto"): spec string of the noise process, such as `gbm`; `auto`: one for each column of a table, by its values.
        loss (str, default None): spec string of the score loss; None: the first that fits.
        column (str, default None): overrides for columns of a data frame, such as `price=gbm`, see `ColumnOptions.parse`; None: none.
        missing (str, default None): missing values of a data frame, `keep`, `drop` or `refuse`; None: keep if `sde="auto"`, else refuse.
        net (str, default None): spec string of the network; None: the first that fits.
        output (str, default None): output parameterization of the network, such as `epsilon`; None: the default of the process.
        prior (str, default "full"): where sampling starts: `full` or `white`, a normal distribution fitted to the data; or `process`.
        noise_levels (str, default "log-normal"): distribution of noise levels in training, `log-normal`, `uniform` or `importance`.
        shift (str or float, default None): shift of the data into the domain of the process, in their units, `auto` or `none`; None: 1 for
            images if the process needs positive data, else none.
        steps (int, default None): optimizer steps; None: by cross-validation for arrays and tables of fewer than 600 rows, else 2000.
        batch_size (int, default None): rows in a step of the optimizer; None: 128.
        optimizer (str, default "adamw"): spec string of the optimizer.
        lr (float, default None): peak learning rate; None: the default of the optimizer or the network.
        ema_half_life_images (float, default 44000.0): half-life of the moving average of the weights, in training rows; 0: no average.
        condition (str, default None): `labels` conditions the network on the classes `y`; None: unconditional.
        precision (str, default None): precision of the network, `float32`, `bf16` or `fp16`; None: that of the launcher, else `float32`.
        compile (bool, default False): whether to compile the network.
        device (str, default "auto"): `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        sampler (str, default None): spec string of the sampler; None: the preferred one that fits.
        sampling_steps (int, default None): sampler steps, also of a span of a bridge or of paths; None: 20, tables 12, series 50, paths 1.
        random_state (int, generator of NumPy or None, default 0): seed of training and samples; a generator draws one each call of `fit`
            and `sample`; None: NumPy's global generator.
        verbose (int, default 0): 1: while training, print a line to standard error every ten seconds; 0: print nothing.
        task (str, default None): spec string of what is learned, such as `paths` for an SDE of observed paths; None: what fits the process.
        rounds (int, default None): rounds of a bridge, backward and forward in turn; None: 6.

    Attributes:
        history_ (dict): lists `step`, `loss` and `validation_loss`, equally long; None where a validation loss was not measured.
        trained_ (Trained): the fitted model with the encoding of the data; of a bridge, that of the last round.
        directions_ (dict): the models of a bridge, `forward` and `backward`, see `sdezoo.runs.between.directions`; empty for other models.
        n_features_in_ (int): number of values in a row.
        feature_names_in_ (array of str): column names, `(d,)`; only if fitted on a data frame whose names are texts.
        classes_ (array): class labels in the order of their numbers, `(classes,)`; only if fitted with `condition="labels"`.
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
        ema_half_life_images: float = 44_000.0,
        condition: str | None = None,
        precision: str | None = None,
        compile: bool = False,  # noqa: A002
        device: str = "auto",
        sampler: str | None = None,
        sampling_steps: int | None = None,
        random_state: RandomState = 0,
        verbose: int = 0,
        task: str | None = None,
        rounds: int | None = None,
    ) -> None:
        self.sde, self.loss, self.net, self.output, self.prior, self.column, self.missing = sde, loss, net, output, prior, column, missing
        self.noise_levels, self.shift, self.condition, self.task, self.rounds = noise_levels, shift, condition, task, rounds
        self.steps, self.batch_size, self.lr, self.ema_half_life_images = steps, batch_size, lr, ema_half_life_images
        self.optimizer, self.precision, self.compile, self.device = optimizer, precision, compile, device
        self.sampler, self.sampling_steps, self.random_state, self.verbose = sampler, sampling_steps, random_state, verbose

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:  # noqa: N803
        """The parameters, and the process of the fitted model."""
        shown = super().__repr__(N_CHAR_MAX)
        return f"{shown}, fitted: {self.trained_.model.sde.spec}" if "trained_" in vars(self) else shown

    def __getstate__(self) -> dict[str, Any]:
        """All but the training rows, which are not for whoever is handed a pickled model."""
        state: Any = super().__getstate__()
        return {**state, "_source": None} if "_source" in state else state

    @in_parameters
    @usual_torch()
    def fit(self, X: Any, y: Any = None, *, target: Any = None, times: Any = None) -> Self:  # noqa: N803
        """Train the model.

        Args:
            X: array `(N, d)`, data frame of pandas or polars, windows of series `(N, T, d)`, or images `(N, C, H, W)` in [0, 1].
            y: class labels `(N,)`, texts or whole numbers, used with `condition="labels"`; else ignored.
            target: rows at the other end of a bridge, of the form of `X`, any number of them; None: none.
            times: the time of each row, `(N,)`, for a bridge through snapshots: rows of one time are a snapshot. With `task="paths"`, the
                times of observation of paths `X` `(N, T, d)`: `(T,)`, or `(N, T)` if each path has its own. None: none.

        Returns:
            The fitted estimator.

        Raises:
            SdezooError: if the data or the parameters are invalid.
        """
        given = read_given(X, y, target, times, labelled=self.condition is not None)
        self.seed_ = seed_of(self.random_state)
        with tempfile.TemporaryDirectory() as folder:
            config = self._config(f"{folder}/run", self.seed_, None if target is None else _MEMORY)
            result = train(config, data=given.data, progress=print_progress() if self.verbose else None)
            self._take(result.run)
            self._source = partial(as_trained, given.data, config=config)
        self._describe(replace(given.rows, values=given.rows.values[:0]), given.labels and np.array(given.labels.names))
        return self

    @in_parameters
    @usual_torch()
    def sample(
        self,
        n_samples: int | None = None,
        random_state: RandomState = None,
        *,
        condition: str | float | None = None,
        given: Values | np.ndarray | Tensor | None = None,
        start: Any = None,
        direction: str | None = None,
        times: Sequence[float] | np.ndarray | None = None,
        guide: str | Sequence[str] = (),
        observed: Mapping[str, Any] | None = None,
    ) -> Any:
        """Draw new rows in the form that `fit` was given. Sample `i` depends only on the seed and `i`, and on row `i` of `start`.

        Args:
            n_samples: number of rows; None: 1, or as many as `start` has.
            random_state: as for the estimator; None: that of the estimator.
            condition: the class to draw, one of `classes_`; None: none.
            given: conditions by column: a value, or an interval `(low, high)` with None for an open end, see `sdezoo.generation.given`.
                Columns of arrays are called x0, x1, …. Of series: their beginnings `(M, steps, d)`; sample `i` continues number `i`
                modulo `M`.
            start: rows to start from, of the form that was fitted, which a bridge needs; of paths, first observations `(n, d)`; None: the
                prior, or for paths first observations of the data.
            direction: `forward` or `backward`, for a bridge; None: none.
            times: increasing times at which curves of a bridge are recorded, counted from the first snapshot; None: where they end.
            guide: spec strings of guides, one or several, from the inside out. Pickled or copied models have no training rows for them.
            observed: arrays by name, for guides that take them, see `sdezoo.runs.given_rows.observation`; None: nothing.

        Returns:
            A data frame with the columns and dtypes of the training data, or a float32 array `(n_samples, *event)`. Integer columns are
            rounded to the nearest integer; they are int64 if their own dtype is too small, and `Int64` if values are missing. Columns that
            were left out, such as identifiers, are not in it. With `times`, curves `(n_samples, T, *event)`, float32.

        Raises:
            SdezooError: as for `sdezoo.generation.samples.Draw`, if there is no such class, if a condition cannot be met, if `start`,
                `direction`, `times` and `guide` do not fit the model, or if a data frame is needed and its library is not installed.
        """
        check_is_fitted(self)
        bridge = bool(self.directions_) or direction is not None
        trained = toward(self.directions_, direction) if bridge else self.trained_
        seed = seed_of(self.random_state if random_state is None else random_state)
        sampler = choose_sampler(trained, self.sampler)
        label = None if condition is None else class_of(condition, getattr(self, "classes_", None))
        begun = begun_by(given, trained) if isinstance(given, np.ndarray | Tensor) else None
        meet = None if begun or given is None else conditions_by(given, trained)
        steps = steps_for(trained, sampler) if self.sampling_steps is None else self.sampling_steps
        steps = max(steps, STEPS) if meet and meet.exact else steps
        begin = start_for(start, self._rows, trained, type(self).__name__)
        rows = SampleIndices.first((begin.rows or 1) if n_samples is None else number_of(n_samples))
        steered = guides_for(guide, observed, trained, self._source)
        draw = Draw(trained, sampler, rows, steps, seed, label=label, guides=steered, given=meet, begun=begun, start=begin)
        if times is not None:
            return curves_of(draw, spaced(times)).numpy()
        made = draw.together()
        if not trained.state.columns:
            return made.x.numpy()
        return make_frame(self._rows, trained.state.columns, made.x, trained.encoding)

    @in_parameters
    @usual_torch()
    def impute(self, X: Any, draws: int = 1, random_state: RandomState = None) -> Any:  # noqa: N803
        """Fill the missing values of rows, each with a draw given the other values of its row. What is not missing stays as it is.

        Args:
            X: rows of the form that was fitted, with NaN or null where a value is missing.
            draws: number of draws of each row, for multiple imputation.
            random_state: as for `sample`.

        Returns:
            Rows of the form of `X`; if there are several draws, a list of them.

        Raises:
            SdezooError: if nothing is missing, rows do not fit the model, a value is outside its support, or the process is not affine.
        """
        check_is_fitted(self)
        seed = seed_of(self.random_state if random_state is None else random_state)
        found = impute_like(X, draws, seed, self._rows, self.trained_, self.sampler, type(self).__name__)
        return found if draws > 1 else found[0]

    @available_if(_is_bridge)
    def transform(self, X: Any) -> Any:  # noqa: N803
        """Carry rows from the first end of a bridge to the other: row `i` goes from row `i`. Only after a bridge was fitted.

        Args:
            X: rows of the form that was fitted.

        Returns:
            Rows as `sample` returns them, with `start=X` and `direction="forward"`.

        Raises:
            SdezooError: as for `sample`.
        """
        return self.sample(start=X, direction="forward")

    @available_if(_is_bridge)
    def inverse_transform(self, X: Any) -> Any:  # noqa: N803
        """Carry rows from the other end of a bridge to the first. It does not undo `transform`, since both are random.

        Args:
            X: rows of the form of the target.

        Returns:
            Rows as `sample` returns them, with `start=X` and `direction="backward"`.

        Raises:
            SdezooError: as for `sample`.
        """
        return self.sample(start=X, direction="backward")

    @in_parameters
    @usual_torch()
    def score_samples(self, X: Any) -> np.ndarray:  # noqa: N803
        """Compute the log-density of each row, see `sdezoo.store.restoring.Trained.likelihood`.

        Args:
            X: rows of the form that was fitted.

        Returns:
            Log-densities `(N,)` in nats, float64, in the units of the data.

        Raises:
            SdezooError: if values are missing, rows lie outside the support, or have another shape or other columns.
        """
        check_is_fitted(self)
        values = read_like(X, self._rows, self.trained_, type(self).__name__)
        check_finite(values, self.trained_.state.columns, "given")
        return self.trained_.log_prob(values, seed=self.seed_).numpy()

    def score(self, X: Any, y: Any = None) -> float:  # noqa: N803
        """Compute the mean of `score_samples`.

        Args:
            X: rows of the form that was fitted.
            y: ignored.
        """
        return float(self.score_samples(X).mean())

    @usual_torch()
    def save(self, path: str | Path) -> None:
        """Write a run folder, for `load` and the command line. `sampler`, `sampling_steps` and `verbose` are not in it: give them to `load`
        again by `set_params`.

        Args:
            path: a new or empty folder.

        Raises:
            RunError: if the folder is not empty, or cannot be written to.
        """
        self._write(Path(path))

    @classmethod
    @usual_torch()
    def load(cls, path: str | Path) -> Self:
        """Load an estimator from a folder of `save` or a run folder of `sdezoo train`.

        Args:
            path: the run folder.

        Raises:
            SdezooError: if the folder is no run, or cannot be read.
        """
        config = TrainingConfig.of_run(path := Path(path))
        settings = {name: value for name, value in config.model_dump().items() if name in cls().get_params()}
        model = cls(**settings, random_state=config.seed)
        model._take(path)
        model._source = partial(training_data, path)
        state, model.seed_ = model.trained_.state, config.seed
        rows = Rows(torch.empty(0, *state.event), state.columns, model.trained_.encoding.types, state.columns, "pandas")
        model._describe(rows, None if state.classes is None else np.array(state.class_names or range(state.classes)))
        return model

    def _write_models(self, folder: Path, out: str) -> None:
        write_models(folder, self.trained_, self.directions_, self._config(out, self.seed_, self._target))

    def _take(self, run: Path) -> None:
        """Set the attributes of the models in a run folder."""
        self.directions_: dict[str, Direction] = read_directions(run)
        newest = [one.trained for one in self.directions_.values()]
        self.trained_: Trained = newest[-1] if newest else restore(run)
        self.history_ = all_history(run)
        self._target = TrainingConfig.read(run / "config.yaml").get("target")

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

    def _config(self, out: str, seed: int, target: str | None) -> TrainingConfig:
        settings = {name: value for name, value in self.get_params().items() if name not in _OWN}
        settings = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
        return TrainingConfig.build({**settings, "data": _MEMORY, "target": target, "seed": seed, "out": out})
