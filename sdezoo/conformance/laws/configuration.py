"""The laws of configuration, for every kind of plugin."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, get_args, get_type_hints

import torch
from hypothesis import strategies as st

from sdezoo import parameters
from sdezoo.conformance.bank import cases, other_values
from sdezoo.conformance.bank.cases import unusual, variants
from sdezoo.conformance.bank.other_values import alternatives, is_whole
from sdezoo.conformance.law import LawError, Suite
from sdezoo.errors import SdezooError
from sdezoo.zoo.spec import parse


def configuration_laws(contract: type, answer: Callable[[Any], Any], *, sizes: bool = False) -> Suite[Any]:
    """The laws of configuration of one kind of plugin.

    Args:
        contract: The class that plugins of this kind derive from; its own hyper-parameters are left alone.
        answer: Takes a plugin; returns what it computes: tensors and values that can be compared, in lists, or in a dict by what it works
            on, of which the common keys are compared.
        sizes: Whether whole numbers are sizes, which change what is computed; else they may be bounds that are rarely reached.
    """
    suite: Suite[Any] = Suite()
    usual = frozenset(getattr(contract, "__dataclass_fields__", ()))

    @suite.property_law(lambda plugin: st.sampled_from(variants(plugin)))
    def config_round_trip(plugin: Any) -> None:
        """The spec string of the plugin builds an equal object, and the object is frozen and hashable."""
        values = parse(plugin.full_spec)[1]
        twin = type(plugin)(**{key: None if value == "none" else value for key, value in values.items()})
        if twin != plugin or hash(twin) != hash(plugin):
            raise LawError(f"{plugin.full_spec} builds {twin!r}, which is not equal.")
        for field in dataclasses.fields(plugin):
            try:
                setattr(plugin, field.name, getattr(plugin, field.name))
            except dataclasses.FrozenInstanceError:
                continue
            raise LawError(f"{field.name} can be assigned: the class is not frozen.")

    @suite.law(excuses=lambda plugin: None if _counts(plugin, usual) else "It has no whole numbers among hyper-parameters of its own.")
    def every_whole_number_is_read(plugin: Any) -> None:
        """Every whole number of its own among its hyper-parameters is looked at when it computes, as it is or beside other choices."""
        left = set(_counts(plugin, usual))
        for one in (*(other for key in left for other in _varied(plugin, key)), unusual(plugin, usual), plugin):
            with _reads(type(plugin), left) as seen:
                try:
                    idle = answer(one) == {}  # it takes nothing that is tried
                except Exception:  # which other laws report
                    idle = True
                seen.update(left if idle else ())
            left -= seen
            if not left:
                return
        raise LawError(f"Nothing looks at {', '.join(sorted(left))}.")

    @suite.law(excuses=lambda plugin: None if _numbers(plugin, usual) else "It has no numbers among hyper-parameters of its own.")
    def zero_is_a_number(plugin: Any) -> None:
        """A number that is given as 0, where it may be, is not taken for one that is left out."""
        _take_zero(plugin, _numbers(plugin, usual), answer)

    def counted(plugin: Any) -> list[str]:
        return _own(plugin, usual) + (_counts(plugin, usual) if sizes else [])

    @suite.law(excuses=lambda plugin: None if counted(plugin) else "It has no numbers or choices among hyper-parameters of its own.")
    def every_parameter_counts(plugin: Any) -> None:
        """Every number and choice of its own among its hyper-parameters changes what it computes, alone or beside other choices.

        A number that is 0 or open by default is tried at two other values too: it is more than a switch.
        """
        known: dict[Any, Any] = {}

        def asked(one: Any) -> Any:
            if one not in known:
                try:
                    known[one] = answer(one)
                except Exception:  # which other laws report
                    known[one] = {}
            return known[one]

        for key in counted(plugin):
            alone = _beside(plugin, key) if _is_whole(plugin, key, plugin.parameters()[key]) else ()  # a size is no choice beside others
            for pairs in (_pairs(plugin, usual, key), _given(plugin, usual, key), alone):
                first: tuple[Any, Any] | None = None
                for base, changed in pairs:
                    if not _same(asked(base), asked(changed)):
                        break
                    first = first or (base, changed)
                else:
                    if first is not None:
                        values = " and ".join(str(one.parameters()[key]) for one in first)
                        raise LawError(f"Nothing depends on {key}: all is the same at {values}.")

    return suite


def _own(plugin: Any, usual: frozenset[str]) -> list[str]:
    """Hyper-parameters that should change something: not whole numbers, such as a bound that is rarely reached. None beside texts or
    lists that are given, since what they name may make others idle."""
    values = plugin.parameters()
    if any(isinstance(value, tuple) or (isinstance(value, str) and not alternatives(plugin, key)) for key, value in values.items()):
        return []
    return [key for key, value in values.items() if key not in usual and not _is_whole(plugin, key, value)]


def _numbers(plugin: Any, usual: frozenset[str]) -> list[str]:
    """Hyper-parameters of its own that are numbers, or open ones."""
    hints = get_type_hints(type(plugin))
    return [key for key in plugin.parameters() if key not in usual and float in (hints[key], *get_args(hints[key]))]


def _counts(plugin: Any, usual: frozenset[str]) -> list[str]:
    """Whole numbers among the hyper-parameters of its own. None beside texts that are given, since what they name may make others idle."""
    values = plugin.parameters()
    if any(isinstance(value, str) and not alternatives(plugin, key) for key, value in values.items()):
        return []
    return [key for key, value in values.items() if key not in usual and _is_whole(plugin, key, value)]


def _is_whole(plugin: Any, key: str, value: Any) -> bool:
    """Whether a hyper-parameter is a whole number, or an open one."""
    return is_whole(get_type_hints(type(plugin))[key]) if value is None else isinstance(value, int) and not isinstance(value, bool)


def _varied(plugin: Any, key: str) -> Iterator[Any]:
    for other in alternatives(plugin, key):
        try:
            yield dataclasses.replace(plugin, **{key: other})
        except SdezooError:  # out of range
            continue


_BOOKKEEPING = {dataclasses.__file__, parameters.__file__, "<string>", __file__, cases.__file__, other_values.__file__}
"""Files whose code looks at all hyper-parameters alike; dataclasses write methods without one."""


@contextmanager
def _reads(cls: type, keys: set[str]) -> Iterator[set[str]]:
    """Collect which of the fields `keys` are read inside the block, from a method that is not of all plugins alike."""
    seen: set[str] = set()
    before = {key: vars(cls)[key] for key in keys if key in vars(cls)}

    def watched(key: str) -> property:
        def get(plugin: Any) -> Any:
            if sys._getframe(1).f_code.co_filename not in _BOOKKEEPING:
                seen.add(key)
            return vars(plugin)[key]

        def put(plugin: Any, value: Any) -> None:
            vars(plugin)[key] = value

        return property(get, put)

    for key in keys:
        setattr(cls, key, watched(key))
    try:
        yield seen
    finally:
        for key in keys:
            delattr(cls, key)
        for key, value in before.items():
            setattr(cls, key, value)


def _pairs(plugin: Any, usual: frozenset[str], key: str) -> Iterator[tuple[Any, Any]]:
    """Plugins that differ in one hyper-parameter alone."""
    every: list[Any] = variants(plugin)
    for base in dict.fromkeys((plugin, unusual(plugin, usual), *every)):
        yield from _beside(base, key)


def _beside(base: Any, key: str) -> Iterator[tuple[Any, Any]]:
    """A plugin, and copies that differ in one hyper-parameter."""
    value = base.parameters()[key]
    small = _SIZES if isinstance(value, int) and not isinstance(value, bool) else ()  # at which a bound is reached
    for other in (*alternatives(base, key), *small):
        try:
            yield base, dataclasses.replace(base, **{key: other})
        except SdezooError:  # out of range
            continue


_SIZES = (1, 2)
_GIVEN, _WHOLE = ((0.5, 0.25), (2.0, 4.0)), ((2, 3), (4, 8))
"""Numbers that are given in the place of 0, or of none, and whole numbers in the place of none."""


def _given(plugin: Any, usual: frozenset[str], key: str) -> Iterator[tuple[Any, Any]]:
    """Plugins that differ in a number that is 0 or open by default, and given in both."""
    value = plugin.parameters()[key]
    hint = get_type_hints(type(plugin))[key]
    whole = value is None and is_whole(hint)
    if not whole and not (value is None and float in get_args(hint)) and not (isinstance(value, float) and value == 0):
        return
    every: list[Any] = variants(plugin)
    for base in dict.fromkeys((plugin, unusual(plugin, usual), *every)):
        for one, other in _WHOLE if whole else _GIVEN:
            try:
                yield dataclasses.replace(base, **{key: one}), dataclasses.replace(base, **{key: other})
            except SdezooError:  # out of range
                continue


def _take_zero(plugin: Any, keys: Sequence[str], answer: Callable[[Any], Any]) -> None:
    """Check that nothing differs near 0 either, where with a number of 0 nothing differs from the plugin as it is."""
    for key in keys:
        try:
            zero, near = (dataclasses.replace(plugin, **{key: value}) for value in (0.0, _NEAR_ZERO))
            left_out, found = answer(plugin), answer(zero)
            alike = zero == plugin or not _same(found, left_out) or _alike(answer(near), left_out)
        except Exception:  # out of range, or a fault which other laws report
            continue
        if not alike:
            raise LawError(f"With {key}=0 all is as without {key}, and with {key}={_NEAR_ZERO:g} it is not.", plugin.spec)


_NEAR_ZERO, _CLOSE = 1e-6, 1e-3
"""A number next to 0, and how near two answers are if they are alike, in units of their size."""


def _alike(one: Any, other: Any) -> bool:
    """Whether two answers are equal, to a thousandth of the size of their numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_alike(one[key], other[key]) for key in one if key in other)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.shape == other.shape and one.is_floating_point():
        return torch.allclose(one, other, rtol=0, atol=_CLOSE * float(1 + other.abs().max()) if other.numel() else 0.0, equal_nan=True)
    return _same(one, other)


def _same(one: Any, other: Any) -> bool:
    """Whether two answers are equal, bit for bit; not if nothing can be compared."""
    if isinstance(one, dict) or isinstance(other, dict):
        common = [key for key in one if key in other] if isinstance(one, dict) and isinstance(other, dict) else []
        return bool(common) and all(_same(one[key], other[key]) for key in common)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.shape == other.shape and torch.equal(one, other)
    return one == other
