"""Errors in the words of the estimator: its parameters in place of the options of the command line."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from sdezoo.errors import SdezooError

_P = ParamSpec("_P")
_T = TypeVar("_T")
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)")
_ONE = r"(?!(?:a|above|an|and|another|at|below|by|each|for|from|in|of|one|or|to|with)\b)(?:'[^']*'|[\w:=.](?:[\w:=.-]|,(?=\w))*(?<=\w)|\w)"
_VALUE = re.compile(rf"{_OPTION.pattern}(?: ({_ONE}(?:, {_ONE})+(?=[.;](?: |$))|{_ONE}))?")
"""An option with its value, or with all values that fit it, which end a sentence."""
_RENAMED = {
    "fit": {"snapshots": "times", "seed": "random_state"},
    "sample": {"from": "start", "given_first": "given", "label": "condition", "seed": "random_state", "steps": "sampling_steps"},
}
"""Options that are called otherwise by the arguments of a method."""


def in_parameters(method: Callable[_P, _T]) -> Callable[_P, _T]:
    """Let the errors of a method of an estimator name its parameters, such as `shift="auto"` for `--shift auto`.

    Args:
        method: the method. Options that are neither parameters of the estimator nor arguments of the method stay as they are.
    """
    renamed = _RENAMED.get(method.__name__, {})

    @wraps(method)
    def called(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return method(*args, **kwargs)
        except SdezooError as error:
            model: Any = args[0]
            known = {*inspect.signature(type(model)).parameters, *inspect.signature(method).parameters}

            def parameter(option: re.Match[str]) -> str:
                name = option[1].replace("-", "_")
                name = renamed.get(name, name)
                if name not in known:
                    return option[0]
                values = option[2] if option.re is _VALUE else None
                return f"{name}={', '.join(map(_literal, re.findall(_ONE, values)))}" if values else name

            error.problem, error.remedy = _OPTION.sub(parameter, error.problem), _VALUE.sub(parameter, error.remedy)
            error.args = (f"{error.problem} {error.remedy}",)
            raise

    return called


def _literal(value: str) -> str:
    return value if value[0] == "'" or value.isdecimal() else f'"{value}"'
