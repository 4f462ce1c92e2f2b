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

import tempfile
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.data.encoding import narrowed, typed_columns
from sdezoo.errors import DataError, RunError
from sdezoo.generation.conditions import Values
from sdezoo.generation.given import STEPS, Given
from sdezoo.generation.samples import choose_sampler, generate
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.files import writable_folder
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig

_OWN = ("sampler", "sampling_steps", "random_state")
"""Parameters without a `TrainingConfig` setting of the same name."""


class DiffusionModel(BaseEstimator):
    """A score-based generative model of the rows of an array `(N, d)`, a data frame, or images `(N, C, H, W)` in [0, 1].

    Args:
        sde: spec string of the noise process, such as `gbm`.
        loss: spec string of the score loss; None: the first that fits.
        net: spec string of the network; None: the first that fits.
        output: output parameterization of the network; None: the default of the process.
        prior: initial distribution of sampling, `full`, `white` or `process`.
        noise_levels: distribution of noise levels in training, `log-normal`, `uniform` or `importance`.
        shift: shift of the data into the domain of the process, `auto`, `none` or a number.
        steps: optimizer steps; None: by cross-validation for arrays and tables of fewer than 600 rows, else 2000.
        batch_size: batch size of training; None: 128.
        optimizer: `adamw`, `egd` or `egd-adam`.
        lr: peak learning rate; None: the default of the optimizer or the network.
        ema_half_life_images: half-life of the exponential moving average of the weights, in images; 0: no average.
        condition: `labels` conditions the network on the classes `y`; None: unconditional.
        precision: precision of the network, `float32`, `bf16` or `fp16`; None: the default of the launcher, else `float32`.
        compile: whether to compile the network.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        sampler: spec string of the sampler; None: the preferred one that fits.
        sampling_steps: steps of the sampler.
        random_state: seed of training and of samples.

    Attributes:
        trained_: the fitted model with the encoding of the data, a `sdezoo.store.restoring.Trained`.
        n_features_in_: number of values in a row.
        feature_names_in_: column names, `(d,)`; only if fitted on a data frame.
    """

    def __init__(
        self,
        sde: str = "auto",
        loss: str | None = None,
        *,
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
        random_state: int = 0,
    ) -> None:
        self.sde, self.loss, self.net, self.output, self.prior = sde, loss, net, output, prior
        self.noise_levels, self.shift, self.condition = noise_levels, shift, condition
        self.steps, self.batch_size, self.lr, self.ema_half_life_images = steps, batch_size, lr, ema_half_life_images
        self.optimizer, self.precision, self.compile, self.device = optimizer, precision, compile, device
        self.sampler, self.sampling_steps, self.random_state = sampler, sampling_steps, random_state

    def fit(self, X: Any, y: Any = None) -> Self:  # noqa: N803
        """Train the model.

        Args:
            X: array or data frame `(N, d)`, or images `(N, C, H, W)` in [0, 1].
            y: class indices `(N,)`, integers from 0, used with `condition="labels"`.

        Returns:
            The fitted estimator.

        Raises:
            SdezooError: if the data or the parameters are invalid.
        """
        values, columns, kinds = _read(X)
        labels = None if y is None else torch.as_tensor(np.asarray(y), dtype=torch.int64)
        kind = "image" if values.ndim == 4 else "table" if columns else "points"
        data = Data(values, values[:0], kind, columns, labels, None if labels is None else labels[:0], types=kinds)
        with tempfile.TemporaryDirectory() as folder:
            config = self._config(f"{folder}/run")
            result = train(config, data=data)
            self.trained_: Trained = restore(result.run)
        self.n_features_in_ = values[0].numel()
        if columns:
            self.feature_names_in_ = np.array(columns, dtype=object)
        return self

    def sample(self, n_samples: int = 1, random_state: int | None = None, *, given: Values | None = None) -> Any:
        """Draw new rows in the form that `fit` was given. Sample `i` depends only on the random state and `i`.

        Args:
            n_samples: number of rows.
            random_state: the seed; None: that of the estimator.
            given: conditions by column: a value, or an interval `(low, high)` with None for an open end, see `sdezoo.generation.given`.
                Columns of arrays are called x0, x1, ….

        Returns:
            A data frame with the columns and dtypes of the training data, or a float32 array `(n_samples, *event)`. Integer columns are
            rounded to the nearest integer; they are int64 if their own dtype is too small.

        Raises:
            SdezooError: as for `sdezoo.generation.samples.generate`, if a condition cannot be met, or if a data frame is needed and
                pandas is not installed.
        """
        check_is_fitted(self)
        seed = self.random_state if random_state is None else random_state
        meet = Given.of(given, self.trained_) if given else None
        steps = max(self.sampling_steps, STEPS) if meet and meet.exact else self.sampling_steps
        made = generate(self.trained_, choose_sampler(self.trained_, self.sampler), n_samples, steps=steps, seed=seed, given=meet)
        state = self.trained_.state
        if not state.columns:
            return made.x.numpy()
        try:
            import pandas
        except ImportError:
            raise RunError(
                "The model was fitted on a data frame, but pandas is not installed.", "Install it: pip install pandas."
            ) from None
        types = self.trained_.encoding.types
        columns = typed_columns(made.x, types, state.columns)
        kinds = types or ["float32"] * len(columns)
        return pandas.DataFrame({name: narrowed(column, kind) for name, column, kind in zip(state.columns, columns, kinds, strict=True)})

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
        values, columns, _ = _read(X)
        if tuple(values.shape[1:]) != self.trained_.state.event or (columns and columns != self.trained_.state.columns):
            raise DataError("The rows differ in shape or columns from the fitted data.", "Give the same columns in the same order.")
        return self.trained_.log_prob(values, seed=self.random_state).numpy()

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
        self._config(str(path)).write(path / "config.yaml")

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
        state = model.trained_.state
        model.n_features_in_ = int(np.prod(state.event))
        if state.columns:
            model.feature_names_in_ = np.array(state.columns, dtype=object)
        return model

    def _config(self, out: str) -> TrainingConfig:
        settings = {name: value for name, value in self.get_params().items() if name not in _OWN}
        return TrainingConfig.build({**settings, "data": "memory", "seed": self.random_state, "out": out})


def _read(given: Any) -> tuple[Tensor, tuple[str, ...], tuple[str, ...]]:
    """Convert to float32 values; also return the names and dtypes of the columns of a data frame."""
    kinds = {str(name): kind for name, kind in given.dtypes.items()} if hasattr(given, "dtypes") and hasattr(given, "columns") else {}
    other = [name for name, kind in kinds.items() if getattr(kind, "kind", "O") not in "fiu"]
    if other:
        raise DataError(f"These columns are not numbers: {', '.join(other)}.", "Remove them, or encode them as numbers.")
    try:
        values = torch.as_tensor(np.asarray(given, dtype=np.float32))
    except (TypeError, ValueError):
        raise DataError("The data are not an array of numbers.", "Give rows of numbers, all of one length.") from None
    if values.ndim not in (2, 4):
        raise DataError(f"The data have shape {tuple(values.shape)}.", "Give rows (N, d) or images (N, C, H, W).")
    return values, tuple(kinds), tuple(getattr(kind, "numpy_dtype", kind).name for kind in kinds.values())
