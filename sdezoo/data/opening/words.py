"""Columns of texts as their different texts, and the place of each row's.

A file may hold a long text once and refer to it from many rows, so nothing here makes a text for each row. Texts of a column may also all
differ, so they become no Python objects, and no hash table holds all of them.
"""

# pyright: reportAttributeAccessIssue=false
# pyarrow.compute makes its functions when it is imported.

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from operator import eq
from typing import NamedTuple, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sdezoo.data.opening.inference import column_parts

TEXT = b"text"
"""Metadata of a field of texts that are held as a dictionary, and are none in the file: their type there."""
_MARKS = "[-?.*\u2013\u2014]|--|" r"\.\.|none|null|<na>|na|n\.a\.|n/a|nan|missing|unknown|"
NO_NUMBER = rf"(?i)^\s*(?:{_MARKS})\s*$"
"""What people write for a missing number, besides what Arrow knows."""
NO_TIME = rf"(?i)^\s*(?:{_MARKS}|nat|0000-00-00(?:[ T]00:00:00)?)\s*$"
"""What people write for a missing date or time."""
_SHOWN, _SORTED = 2**12, 2**16  # texts that become Python objects, or are sorted together, at a time
_LEVELS = 2**10  # categories of which the order is kept
_SAMPLED = 2**10  # one text of so many is compared to choose where to cut


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
    """The texts of each part of a column, equal ones once, unless most of the part differ."""

    texts: pa.ChunkedArray
    """Texts of each part, a chunk each; those of two parts may be equal, and so may some of a part of which most differ."""
    held: tuple[pa.Array, ...]
    """For the rows of each part, the place of their text in its chunk, int32, null if it is missing; Boolean: whether they have a text, and
    its texts are those of its rows."""

    @property
    def places(self) -> Iterator[pa.Array]:
        """For the rows of each part, the place of their text in its chunk, int32; null: missing."""
        for part in self.held:
            there = np.asarray(part) if pa.types.is_boolean(part.type) else None
            yield part if there is None else pa.array(np.cumsum(there, dtype=np.int32) - 1, mask=~there)

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


def by_part(change: Callable[[pa.Array], pa.Array], column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Change a column in parts of at most 2¹⁸ rows, so that what is needed on the way is that of a part.

    Args:
        change: of a part.
        column: the column.
    """
    return pa.chunked_array([change(part) for _, part in column_parts(column)] or [change(pa.array([], column.type))])


def without_marks(column: pa.ChunkedArray, marks: str = NO_NUMBER) -> pa.ChunkedArray | None:
    """Leave out what people write for a missing value.

    Args:
        column: texts.
        marks: a pattern of it.

    Returns:
        The column with null for these texts; None if it has none of them.
    """
    found = pc.match_substring_regex(column, marks)
    return pc.if_else(found, pa.scalar(None, column.type), column) if pc.any(found).as_py() else None


def words(column: pa.ChunkedArray) -> Words:
    """Find the texts of a column, in parts of at most 2¹⁸ rows. Parts of which most texts differ are not copied.

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
    return pa.DictionaryArray.from_arrays(places, texts, ordered=part.type.ordered).cast(part.type)


def levels(column: pa.ChunkedArray, values: Sequence[str] | Sequence[bool]) -> tuple[tuple[str, ...], bool]:
    """The categories of a dictionary of texts in their order, at most 1024, and whether they are ordered.

    Args:
        column: the dictionary.
        values: the different texts of its rows.

    Returns:
        The categories; none if they are not ordered and just those of the rows.
    """
    first = column.chunk(0).dictionary if column.num_chunks else pa.array([], pa.string())
    if len(first) > _LEVELS or first.null_count or any(not chunk.dictionary.equals(first) for chunk in column.chunks):
        return (), False
    found, ordered = tuple(first.cast(pa.string()).to_pylist()), column.type.ordered
    if len(set(found)) < len(found) or not {*values} <= set(found) or not (ordered or len(values) < len(found)):
        return (), False
    return found, ordered


def ranked(column: pa.ChunkedArray, codes: np.ndarray) -> Sequence[str]:
    """Number the different texts of a column in their order.

    Args:
        column: texts, or a dictionary of texts.
        codes: filled with the numbers of the rows, float32 `(N,)`; NaN: missing.

    Returns:
        The texts in order.

    Raises:
        ArrowInvalid: if a text is not UTF-8, or those of a part take more than 2 GiB.
    """
    found = words(column)
    found.texts.validate(full=True)
    ranks, order = _ranks(found.texts)
    first = row = 0
    for chunk, part in zip(found.texts.chunks, found.places, strict=True):
        codes[row : row + len(part)] = np.nan
        codes[row : row + len(part)][np.asarray(part.is_valid())] = ranks[first : first + len(chunk)][np.asarray(part.drop_null())]
        first, row = first + len(chunk), row + len(part)
    return Vocabulary(found.texts, order)


def _ranks(texts: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
    """The rank of each text among the different ones, float32; and a place of each different one, in their order, int32.

    Chunks are sorted one by one, and cut at common texts. Then what lies between two cuts is sorted together, so that no sort is large.
    """
    starts = np.cumsum([0, *map(len, texts.chunks)], dtype=np.int32)
    runs = [_order(chunk) + start for chunk, start in zip(texts.chunks, starts, strict=False)]
    some = [_gathered(texts, run[_SAMPLED // 2 :: _SAMPLED]).to_pylist() for run in runs]
    cuts = sorted(chain.from_iterable(some))[:: _SORTED // _SAMPLED][1:]
    bounds = [[0, *(bisect_left(run, cut, key=lambda place: texts[int(place)].as_py()) for cut in cuts), len(run)] for run in runs]
    ranks, different, count = np.empty(len(texts), np.float32), np.empty(len(texts), np.int32), 0
    for k in range(len(cuts) + 1):
        places = np.concatenate([different[:0], *(run[bound[k] : bound[k + 1]] for run, bound in zip(runs, bounds, strict=True))])
        found = _gathered(texts, places)
        order = _order(found)
        places, found, new = places[order], found.take(pa.array(order)), np.ones(len(order), bool)
        new[1:] = np.asarray(pc.not_equal(found.slice(1), found.slice(0, max(len(found) - 1, 0))))
        ranks[places] = count + np.cumsum(new) - 1
        different[count : count + new.sum()] = places[new]
        count += new.sum()
    return ranks, different[:count]


def _order(texts: pa.Array) -> np.ndarray:
    """Places of texts in their order, int32. UTF-8 sorts as its characters."""
    return np.asarray(pc.sort_indices(texts)).astype(np.int32)


class Vocabulary(Sequence[str]):
    """Different texts in order, which become Python objects when they are asked for.

    Args:
        texts: the texts, in any order.
        order: places of the different ones in their order, int32.
    """

    def __init__(self, texts: pa.ChunkedArray, order: np.ndarray) -> None:
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
            yield from _gathered(self._texts, self._order[first : first + _SHOWN]).to_pylist()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and len(self) == len(other) and all(map(eq, self, other))

    def __hash__(self) -> int:
        return hash(len(self))


def _gathered(texts: pa.ChunkedArray, places: np.ndarray) -> pa.Array:
    """The texts at some places, in their order. Arrow's own `take` joins all chunks before."""
    starts = np.cumsum([0, *map(len, texts.chunks)])
    order = np.argsort(places, kind="stable")
    parts = np.split(places[order], np.searchsorted(places[order], starts[1:-1]))
    found = [chunk.take(pa.array(own - start)) for chunk, own, start in zip(texts.chunks, parts, starts, strict=False)]
    back = np.empty(len(places), np.int64)
    back[order] = np.arange(len(places))
    return pa.concat_arrays(found).take(pa.array(back)) if found else pa.array([], pa.string())


def _words(part: pa.Array) -> tuple[pa.Array, pa.Array]:
    if not pa.types.is_dictionary(part.type):
        texts = part.cast(pa.string())
        found, there = texts.dictionary_encode(), texts.is_valid()
        if 4 * len(found.dictionary) <= 3 * len(texts):
            return found.dictionary, found.indices
        return texts.drop_null(), there
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
