"""What an estimator draws from: seeds, classes, guides, starts of samples, beginnings of series, and curves of a bridge."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from sklearn.utils import check_random_state
from torch import Tensor

from sdezoo.bridging.curves import Curves
from sdezoo.data.dataset import Data
from sdezoo.errors import CompositionError, ParameterError
from sdezoo.generation.beginnings import Beginnings
from sdezoo.generation.given import Given
from sdezoo.generation.guiding import Guides
from sdezoo.generation.samples import Draw
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.process.bridge import Bridge
from sdezoo.runs.between.arrays import read_like
from sdezoo.runs.frames import Rows, read_rows
from sdezoo.runs.given_rows import first_of, observation, start_of
from sdezoo.sampling.start import PRIOR, AtRows, Start
from sdezoo.store.restoring import Trained
from sdezoo.zoo.spec import shown

RandomState = int | np.integer | np.random.RandomState | np.random.Generator | None
"""What fixes random numbers: a seed, or a generator that draws one each time; None: NumPy's global generator."""

_SEEDS = 2**31 - 1


def conditions_by(given: object, trained: Trained) -> Given | None:
    """The conditions on columns; None if there are none.

    Args:
        given: conditions by column.
        trained: the model.

    Raises:
        SdezooError: if it is no mapping, or a condition cannot be met.
    """
    if not isinstance(given, Mapping):
        raise ParameterError(
            f"given is of type {type(given).__name__}, not a dictionary of conditions.", 'Give one by column, such as {"x": 1.0}.'
        )
    return Given.of(given, trained) if given else None


def number_of(given: object, name: str = "n_samples") -> int:
    """A number of samples or draws.

    Args:
        given: what was asked for.
        name: name of the argument, for the message.

    Raises:
        ParameterError: if it is not a whole number, or below 1.
    """
    if isinstance(given, bool | np.bool) or not isinstance(given, numbers.Integral):
        raise ParameterError(f"{name}={shown(str(given))} is not a whole number.", "Give an integer at least 1.")
    if given < 1:
        raise ParameterError(f"{name}={given} is too small.", "Give an integer at least 1.")
    return int(given)


def seed_of(random_state: RandomState) -> int:
    """The seed: an integer itself, else a number that the generator draws; None: NumPy's global generator.

    Args:
        random_state: what fixes random numbers.

    Raises:
        ParameterError: if it is none of these.
    """
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


def class_of(condition: object, classes: np.ndarray | None) -> int:
    """The number of a class.

    Args:
        condition: the class, one of `classes`.
        classes: the classes of the model; None: it has none.

    Raises:
        SdezooError: if there is no such class.
    """
    if classes is None:
        raise CompositionError("This model is unconditional.", 'Fit one with condition="labels", or leave out condition.')
    if condition not in (known := classes.tolist()):
        raise ParameterError(f"There is no class {shown(repr(condition))}.", f"Give one of {', '.join(map(repr, known[:20]))}.")
    return known.index(condition)


def guides_for(guide: object, observed: object, trained: Trained, source: Callable[[Trained], Data] | None) -> Guides:
    """The guides of samples.

    Args:
        guide: a spec string, or several, from the inside to the outside.
        observed: arrays by name, see `sdezoo.runs.given_rows.observation`; None: nothing.
        trained: the model.
        source: reads the training data for this model; None: there are none.

    Raises:
        SdezooError: as for `Guides.of` and `observation`, or if `guide` is no text, or `observed` no mapping.
    """
    specs = [guide] if isinstance(guide, str) else guide
    if not isinstance(specs, Sequence) or not all(isinstance(spec, str) for spec in specs):
        raise ParameterError(f"guide={shown(repr(guide))} is no guide.", 'Give a text such as "cfg:weight=2", or a list of them.')
    if not isinstance(observed, Mapping | None):
        raise ParameterError(
            f"observed is of type {type(observed).__name__}, not a dictionary of arrays.", 'Give arrays by name, such as {"x": x}.'
        )
    seen = None if observed is None else observation({name: np.asarray(array) for name, array in observed.items()}, "observed")
    return Guides.of(specs, trained, cache(partial(source, trained)) if source else None, seen)


def begun_by(given: np.ndarray | Tensor, trained: Trained) -> Beginnings:
    """The beginnings of series that samples continue.

    Args:
        given: beginnings, `(M, steps, d)`.
        trained: the model.

    Raises:
        SdezooError: as for `Beginnings.of`.
    """
    windows = torch.as_tensor(given).detach().cpu().float()
    return Beginnings.of(windows, windows.shape[1] if windows.ndim == 3 else 0, trained)


def start_for(start: Any, rows: Rows, trained: Trained, who: str) -> Start:
    """Where sampling starts: at given rows, or at the prior.

    Args:
        start: rows of the form that was fitted, or first observations of paths; None: the prior.
        rows: the rows that the model was fitted on; their values are not used.
        trained: the model.
        who: what expects the rows, for messages.

    Raises:
        SdezooError: if the rows do not fit the model, or a bridge has none.
    """
    if start is not None:
        given = (
            first_of(read_rows(start).values, trained, "The rows to start from")
            if is_simulated(trained.model)
            else read_like(start, rows, trained, who)
        )
        return start_of(given, trained, "start")
    if isinstance(trained.model.sde, Bridge):
        raise ParameterError("A bridge starts from rows.", "Give start, rows like those that were fitted.")
    return PRIOR


def curves_of(draw: Draw, times: Tensor) -> Tensor:
    """Curves of a bridge, `(n, T, *event)`, float32.

    Args:
        draw: what is drawn, from rows.
        times: times to record, see `sdezoo.bridging.curves.Curves`.

    Raises:
        SdezooError: as for `Curves`, or if nothing starts from rows.
    """
    if not isinstance(draw.start, AtRows):
        raise ParameterError("Curves at given times are for a bridge, which starts from rows.", "Leave out times.")
    device = draw.device or torch.device("cpu")
    return torch.cat([*Curves(draw.trained, draw.sampler, draw.start.x, times, draw.rows, draw.steps, draw.seed, device).parts()])
