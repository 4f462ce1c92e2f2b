"""Columns of texts as their different texts, and the place of each row's.

A file may hold a long text once and refer to it from many rows, so nothing here makes a text for each row. Texts of a column may also all
differ, so they become no Python objects, and no hash table holds all of them.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import eq
from typing import NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.opening.inference import column_parts

TEXT = b"text"
"""Metadata of a field of texts that are held as a dictionary, and are none in the file: their type there."""
_SHOWN, _SORTED = 2**12, 2**16  # texts that become Python objects, or are compared, at a time


def is_text(kind: pa.DataType) -> bool:
    """Whether an Arrow type is one of texts."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def held_as_text(name: str, stored: str = "string") -> pa.Field:
    """The field of a column of texts that is held as a dictionary, and is none in the file.

    Args:
        name: name of the column.
        stored: name of its type in the file.
    """
    return pa.field(name, pa.dictionary(pa.int32(), pa.string()), metadata={TEXT: stored})


class Words(NamedTuple):
    """The different texts of each part of a column."""

    texts: pa.ChunkedArray
    """Different texts of each part, a chunk each; those of two parts may be equal."""
    places: tuple[pa.Array, ...]
    """For the rows of each part, the place of their text in its chunk, int32; null: missing."""

    @property
    def counts(self) -> np.ndarray:
        """How many rows have each of `texts`, int64."""
        parts = zip(self.texts.chunks, self.places, strict=True)
        found = [np.bincount(np.asarray(places.drop_null()), minlength=len(texts)) for texts, places in parts]
        return np.concatenate([np.zeros(0, np.int64), *found])

    def first(self, wrong: np.ndarray) -> int:
        """The first row whose text is one of some; there must be one.

        Args:
            wrong: whether each of `texts` is one of them.
        """
        row = 0
        for places, marked in zip(self.places, self._split(pa.array(wrong)), strict=True):
            found = pc.index(marked.take(places), pa.scalar(True)).as_py()
            if found >= 0:
                return row + found
            row += len(places)
        raise ValueError("no row has such a text")

    def spread(self, values: pa.Array | pa.ChunkedArray) -> pa.ChunkedArray:
        """Give each row what was found for its text. Texts stay a dictionary.

        Args:
            values: a value for each of `texts`, in their order.
        """
        kind = pa.dictionary(pa.int32(), values.type) if pa.types.is_string(values.type) else values.type
        return pa.chunked_array([_taken(part, places) for part, places in zip(self._split(values), self.places, strict=True)], kind)

    def _split(self, values: pa.Array | pa.ChunkedArray) -> Iterator[pa.Array]:
        first = 0
        for texts in self.texts.chunks:
            part = values.slice(first, len(texts))
            yield pa.concat_arrays(part.chunks) if isinstance(part, pa.ChunkedArray) else part
            first += len(texts)


def words(column: pa.ChunkedArray) -> Words:
    """Find the different texts of a column, in parts of at most 2¹⁸ rows.

    Args:
        column: texts, or a dictionary of texts.
    """
    found = [_words(part) for _, part in column_parts(column)]
    return Words(pa.chunked_array([texts for texts, _ in found], pa.string()), tuple(places for _, places in found))


def own_words(part: pa.DictionaryArray) -> pa.DictionaryArray:
    """Leave out of a dictionary the texts that no row has.

    Args:
        part: a dictionary of texts.
    """
    texts, places = _words(part)
    return pa.DictionaryArray.from_arrays(places, texts).cast(part.type)


def ranked(column: pa.ChunkedArray, codes: np.ndarray) -> Sequence[str]:
    """Number the different texts of a column in their order.

    Args:
        column: texts, or a dictionary of texts.
        codes: filled with the numbers of the rows, float32 `(N,)`; NaN: missing.

    Returns:
        The texts in order.

    Raises:
        ArrowInvalid: if a text is not UTF-8, or the different texts take more than 2 GiB.
    """
    found = words(column)
    sizes, places = [len(texts) for texts in found.texts.chunks], found.places
    texts = pa.concat_arrays(found.texts.chunks) if sizes else pa.array([], pa.string())
    del found
    texts.validate(full=True)
    order = np.asarray(pc.sort_indices(texts)).astype(np.int32)  # UTF-8 sorts as its characters
    ranks, new = np.empty(len(order), np.float32), np.ones(len(order), bool)
    for first in range(0, len(order) - 1, _SORTED):
        part = texts.take(pa.array(order[first : first + _SORTED + 1]))
        new[first + 1 : first + len(part)] = np.asarray(pc.not_equal(part.slice(1), part.slice(0, len(part) - 1)))
    ranks[order] = np.cumsum(new, dtype=np.int32) - 1
    first = row = 0
    for size, part in zip(sizes, places, strict=True):
        codes[row : row + len(part)] = np.nan
        codes[row : row + len(part)][np.asarray(part.is_valid())] = ranks[first : first + size][np.asarray(part.drop_null())]
        first, row = first + size, row + len(part)
    return Vocabulary(texts, order[new])


class Vocabulary(Sequence[str]):
    """Different texts in order, which become Python objects when they are asked for.

    Args:
        texts: the texts, in any order.
        order: places of the different ones in their order, int32.
    """

    def __init__(self, texts: pa.Array, order: np.ndarray) -> None:
        self._texts, self._order = texts, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Vocabulary: ...

    def __getitem__(self, index: int | slice) -> str | Vocabulary:
        return Vocabulary(self._texts, self._order[index]) if isinstance(index, slice) else self._texts[int(self._order[index])].as_py()

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _SHOWN):
            yield from self._texts.take(pa.array(self._order[first : first + _SHOWN])).to_pylist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(len(self))


def _words(part: pa.Array) -> tuple[pa.Array, pa.Array]:
    if not pa.types.is_dictionary(part.type):
        found = part.cast(pa.string()).dictionary_encode()
        return found.dictionary, found.indices
    places = part.indices
    used = np.zeros(len(part.dictionary), bool)
    used[np.asarray(places.drop_null())] = True
    used &= np.asarray(part.dictionary.is_valid())
    if used.all():
        return part.dictionary.cast(pa.string()), places.cast(pa.int32())
    number = np.cumsum(used, dtype=np.int32) - 1
    again = pa.array(number, mask=~used).take(places.cast(pa.int64()))
    return part.dictionary.filter(pa.array(used)).cast(pa.string()), again


def _taken(values: pa.Array, places: pa.Array) -> pa.Array:
    if not pa.types.is_string(values.type):
        return values.take(places)
    known = np.asarray(values.is_valid())
    number = pa.array(np.cumsum(known, dtype=np.int32) - 1, mask=~known)
    return pa.DictionaryArray.from_arrays(number.take(places), values.drop_null())
