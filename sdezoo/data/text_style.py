"""How the texts of a table are written, so that samples are written in the same way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self


@dataclass(frozen=True)
class TextStyle:
    """How a table in text is written.

    Args:
        separator: what separates columns.
        usual: what separates columns in the format of the file, such as a comma in .csv.
        decimal: decimal mark.
        missing: the text of a missing value.
        quoted: whether all texts are in quotation marks; else those that need them.
        decimals: the least and the largest number of decimal places of the columns whose numbers all have some.
        booleans: the texts of false and true of a column of Booleans.
    """

    separator: str = ","
    usual: str = ","
    decimal: str = "."
    missing: str = ""
    quoted: bool = False
    decimals: dict[str, tuple[int, int]] = field(default_factory=dict)
    booleans: dict[str, tuple[str, str]] = field(default_factory=dict)

    def for_format(self, usual: str) -> Self:
        """The style in a file of this or another format.

        Args:
            usual: what separates columns in that format. The separator is kept if the format is the same.
        """
        separator = self.separator if usual == self.usual else usual
        return replace(self, separator=separator, usual=usual, decimal="." if separator == self.decimal else self.decimal)

    @property
    def valid(self) -> bool:
        """Whether a file in this style can be read again."""
        marks = (self.separator, self.usual)
        texts = (self.missing, *(text for pair in self.booleans.values() for text in pair))
        return (
            all(len(mark) == 1 and mark.isascii() and mark not in '"\r\n\0' for mark in marks)
            and self.decimal in (".", ",")
            and self.decimal != self.separator
            and not any(len(text) > 64 or set(text) & {*'"\r\n\0', self.separator} for text in texts)
            and all(0 <= least <= most <= 18 for least, most in self.decimals.values())
        )
