"""The run whose model another run trains on: its newest checkpoint, and which data fit it.

Process, encoding, moments, prior and network are those of the earlier run; only weights change. So the new data have to be rows like those
that it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sdezoo.data.conversion import recoded
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.data.validation import column_name
from sdezoo.errors import DataError, RunError
from sdezoo.process.columns import count_outside
from sdezoo.process.process import Process
from sdezoo.store.checkpoint import newest_whole, read_state, read_tensors
from sdezoo.store.state import State

_NEW = 0.02
"""The largest share of the rows that may have a new value in a column of few values."""


@dataclass(frozen=True, eq=False)
class Origin:
    """The newest intact checkpoint of a run.

    Args:
        run: the run folder.
        state: what the checkpoint records.
        encoding: maps the user's units to the support of the process.
        tensors: the averaged weights.
        optimizer: the state of the optimizer.
    """

    run: Path
    state: State
    encoding: Encoding
    tensors: dict[str, Tensor]
    optimizer: dict[str, Tensor]

    @classmethod
    def of(cls, run: Path) -> Origin:
        """Read the newest intact checkpoint of a run.

        Args:
            run: the run folder.

        Raises:
            RunError: if there is none.
        """
        folder, _ = newest_whole(run)
        if folder is None:
            raise RunError(f"There is no run in '{run}' to train on from.", "Give --from the folder that `sdezoo train` wrote.")
        state = read_state(folder)
        return cls(run, state, Encoding.from_json(state.encoding), read_tensors(folder, "ema"), read_tensors(folder, "optimizer"))

    def fitted(self, data: Data) -> Data:
        """Return data in the codes of the earlier run.

        Args:
            data: data of the new run, in the user's units.

        Raises:
            DataError: if their rows, columns or classes are not those of the earlier run, or a column has values that it could not have.
        """
        state, remedy = self.state, "Give rows like those of the run, or omit --from to train a new model."
        if data.event != tuple(state.event) or data.kind != state.kind:
            raise DataError(
                f"The rows are {data.kind} data of shape {data.event}, and the model of '{self.run}' takes {state.kind} data of shape "
                f"{tuple(state.event)}.",
                remedy,
            )
        if state.columns and data.columns != tuple(state.columns):
            other = next(name for name in (*data.columns, *state.columns) if name not in state.columns or name not in data.columns)
            raise DataError(f"The columns are not those of '{self.run}': '{other}' is in one of them alone.", remedy)
        if state.classes is not None and (
            data.train_labels is None
            or int(data.train_labels.max()) >= state.classes
            or (data.class_names and tuple(data.class_names) != tuple(state.class_names))
        ):
            raise DataError(f"The model of '{self.run}' has {state.classes} classes, and the data do not have these.", remedy)
        types = self.encoding.types
        if data.kind == "table" and data.types != types and len(types or data.types) == data.event[-1]:
            train, test = (recoded(rows, data.types, types, data.columns) for rows in (data.train, data.test))
            data = replace(data, train=train, test=test, types=types)
        for place, values in self.encoding.recurring.items():
            column = data.train[:, place]
            new = int((~torch.isin(column, torch.tensor(values)) & ~column.isnan()).sum())
            if new > _NEW * len(column):
                name = column_name(place, data.columns)
                raise DataError(f"{new} values of {name} are none of the {len(values)} that samples of '{self.run}' can have.", remedy)
        return data

    def check_support(self, sde: Process, x0: Tensor) -> None:
        """Check that encoded rows lie in the support of the process.

        Args:
            sde: the process.
            x0: encoded rows, `(N, *event)`.

        Raises:
            DataError: if a value lies outside.
        """
        if outside := count_outside(sde.support, x0):
            raise DataError(
                f"{outside} values lie outside the support of '{sde.title()}' in the encoding of '{self.run}'.",
                "Give rows like those of the run, or omit --from to train a new model.",
            )
