"""How the texts of a table are written, so that its values are written in the same way."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Self

_DTYPE = re.compile(r"U?Int(?:8|16|32|64)|Float(?:32|64)|boolean|string|(?:period|interval)\[[\w, -]{1,40}\]")


def is_dtype(name: str) -> bool:
    """Whether a dtype of pandas is one that is kept.

    Args:
        name: its name.
    """
    return _DTYPE.fullmatch(name) is not None


@dataclass(frozen=True)
class TextStyle:
    """How a table is written: as text, or as pandas does.

    Args:
        separator: what separates columns.
        decimal: decimal mark.
        missing: the text of a missing value.
        decimals: the least and the largest number of decimal places of the columns whose numbers all have some.
        booleans: the texts of false and true of a column of Booleans.
        pandas: the dtypes that pandas noted in a .parquet, of the columns whose dtype the types of Parquet do not tell.
        gaps: the texts of missing values of the columns that have some, where one is not empty.
    """

    separator: str = ","
    decimal: str = "."
    missing: str = ""
    decimals: dict[str, tuple[int, int]] = field(default_factory=dict)
    booleans: dict[str, tuple[str, str]] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    pandas: dict[str, str] = field(default_factory=dict)

    def for_format(self, separator: str) -> Self:
        """The style of samples: that of the format, with the texts of values as in the data.

        A program that reads samples need not know how the data were exported.

        Args:
            separator: what separates columns in the format.
        """
        return replace(self, separator=separator, decimal=".")

    @property
    def marks(self) -> tuple[str, ...]:
        """The texts of missing values, as the parameter `missing` of the dataset `table` takes them."""
        return tuple(f"{name}={text}" for name, text in self.gaps.items() if text)

    @property
    def valid(self) -> bool:
        """Whether a file in this style can be read again."""
        texts = (self.missing, *self.gaps.values(), *(text for pair in self.booleans.values() for text in pair))
        return (
            len(self.separator) == 1
            and self.separator.isascii()
            and self.separator not in '"\r\n\0'
            and self.decimal in (".", ",")
            and self.decimal != self.separator
            and all(map(is_dtype, self.pandas.values()))
            and not any(len(text) > 64 or set(text) & {*'"\r\n\0', self.separator} for text in texts)
            and all(0 <= least <= most <= 18 for least, most in self.decimals.values())
        )
