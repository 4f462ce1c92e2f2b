"""Values that recur: columns of numbers whose samples take values of the data.

A column of numbers may take few values that are on no lattice, or on a part of one only: prices of a list, temperatures converted from
whole degrees Fahrenheit, years of school without 13. Samples between them would be told at sight. Encoded is the number itself; decoded is
the nearest value of the data. A number beyond their ends by more than their range stays as it is, so that a sample that is far off is seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sdezoo.data.codecs.codec import Codec, damaged, indices


@dataclass(frozen=True, eq=False)
class RecurringCodec(Codec):
    """Columns of numbers that take few values. Entire rows are encoded: columns keep their places.

    Args:
        places: increasing indices of the columns.
        values: the values of each, at least two, increasing.
    """

    kind: ClassVar[str] = "recurring"

    places: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]

    def encoded_event(self, event: tuple[int, ...]) -> tuple[int, ...]:
        if not event or self.places[-1] >= event[-1]:
            raise damaged()
        return event

    def encode(self, raw: Tensor) -> Tensor:
        return raw

    def decode(self, x: Tensor) -> Tensor:
        columns = list(x.unbind(-1))
        for place, values in zip(self.places, self.values, strict=True):
            known, column = torch.tensor(values, dtype=x.dtype), columns[place]
            # Counted rather than searched for: a graph of the decoding has such operations.
            nearest = known[(column[..., None] > (known[1:] + known[:-1]) / 2).sum(-1)]
            columns[place] = torch.where((column - nearest).abs() <= known[-1] - known[0], nearest, column)
        return torch.stack(columns, -1)

    def log_det(self, raw: Tensor) -> Tensor:
        """0: the identity.

        Args:
            raw: rows `(N, *event)`; only their number is used.
        """
        return torch.zeros(len(raw), dtype=torch.float64)

    def parameters(self) -> dict[str, Any]:
        return {"places": list(self.places), "values": [list(one) for one in self.values]}

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> Self:
        places, known = indices(values, "places"), values.get("values")
        if not isinstance(known, list) or len(known) != len(places):
            raise damaged()
        for one in known:
            if not isinstance(one, list) or len(one) < 2 or not all(type(value) in (int, float) for value in one):
                raise damaged()
            if not all(-torch.inf < a < b < torch.inf for a, b in pairwise(one)):
                raise damaged()
        return cls(places, tuple(tuple(map(float, one)) for one in known))
