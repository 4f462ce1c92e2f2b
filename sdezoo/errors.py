"""Errors shown to the user: one sentence on what is wrong, one on what to do."""

import unicodedata
from collections.abc import Iterable, Sequence

_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats such as changes of direction, half characters, separators
_KEPT = {"\n", "\t", "\u200c", "\u200d"}  # the last two join and part letters in several scripts


def is_plain(c: str) -> bool:
    """Whether a terminal shows a character, or breaks a line there.

    Args:
        c: one character.
    """
    return c in _KEPT or unicodedata.category(c) not in _HIDDEN


def printable(text: str) -> str:
    """Replace characters that a terminal would obey or hide by their escape sequences in Python.

    Args:
        text: any text. Line breaks and tabs stay.
    """
    return "".join(c if is_plain(c) else c.encode("unicode_escape").decode() for c in text)


def in_one_line(text: str) -> str:
    """Replace line breaks and tabs too, such as those in a column's name: `printable` for text that is one line.

    Args:
        text: any text.
    """
    return printable(text).replace("\n", r"\n").replace("\t", r"\t")


def shortened(texts: Iterable[str], most: int = 5, separator: str = ", ") -> str:
    """Join the first texts, and count the others: `a, b and 3 more`.

    Args:
        texts: what is listed.
        most: number of texts that are shown.
        separator: what stands between them.
    """
    every = list(texts)
    left = len(every) - most
    return separator.join(every[:most]) + (f" and {left} more" if left > 0 else "")


def listed(columns: Sequence[str], most: int = 5) -> str:
    """List column names for a message.

    Args:
        columns: the names.
        most: number of names that are listed.
    """
    return shortened((f"'{name}'" for name in columns), most)


class SdezooError(Exception):
    """Base class: a mistake of the user, or unusable input.

    Args:
        problem: one sentence on what is wrong.
        remedy: one sentence on what to do.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem
        self.remedy = remedy
        super().__init__(f"{problem} {remedy}")


class ParameterError(SdezooError, ValueError):
    """A hyper-parameter is unknown, malformed or out of range."""


class CompositionError(SdezooError, TypeError):
    """Two plugins do not fit together."""


class PluginError(SdezooError, LookupError):
    """A plugin is unknown, broken, of the wrong kind, or its name is registered twice."""


class DataError(SdezooError, ValueError):
    """Data cannot be read, or lie outside the support of the process."""


class RunError(SdezooError, RuntimeError):
    """A run folder, checkpoint, device or output path cannot be used as requested."""


class SupportError(SdezooError, ArithmeticError):
    """A state left the support of its process, or its coordinates overflowed.

    Args:
        problem: how many coordinates left it, and at which step.
        remedy: how to keep them inside.
    """


class LeftSupportError(SupportError):
    """A step of a sampler left the support; another sampler preserves it."""


def unknown_prior(whose: str) -> CompositionError:
    """The error for a prior without a density, to be raised by the caller."""
    return CompositionError(
        f"The density of the prior of '{whose}' is not known.",
        "Pass its log-density as `prior`, or override `prior_log_prob` together with `prior`.",
    )
