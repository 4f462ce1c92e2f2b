"""Laws: what the mathematics of a plugin implies, and how a broken law is reported.

A law has a name, a one-sentence statement and a check. There are three kinds of check:

- `law` raises `LawError`;
- `property_law` runs on cases that Hypothesis generates, and reports the case that Hypothesis shrinks a failure to;
- `monte_carlo_law` returns a p-value, which is uniform on [0, 1] for a correct plugin. The law is broken below `LEVEL`.

Each law gets `LIMIT` seconds, and all laws of a plugin together get `BUDGET`. A law that takes longer is broken and is
reported with its current case; the laws after it are not tried. So the author of a plugin that is slow or hangs gets a
report too. The limits count computing time. Waiting counts for a quarter, so that a busy machine does not fail a plugin.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

from sdezoo.errors import SdezooError

T = TypeVar("T")
Cases = SearchStrategy[Any] | Sequence[SearchStrategy[Any]]
"""Where cases come from: a strategy, or several, each of which gives its share."""

LEVEL = 1e-5
"""Significance level of every Monte-Carlo law: with random seeds, it would reject this share of correct plugins."""
LIMIT = 20.0
"""Time limit of one law, in seconds of computing."""
BUDGET = 120.0
"""Time limit of all laws of one plugin together, in seconds of computing."""
_WAITING = 0.25


_SLOW_OR_LARGE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much]
_TOO_LONG = "It is slow or hangs: the law did not finish within its time limit."


class LawError(AssertionError):
    """A law does not hold.

    Args:
        what: What was found, and what the law requires.
        case: The smallest input that breaks the law; empty if the law has no input.
    """

    def __init__(self, what: str, case: str = "") -> None:
        self.what, self.case = what, case
        super().__init__(f"{what}\n  at {case}" if case else what)


class Unstated(str):
    """Why a law does not apply, if it would apply once the plugin stated what the law compares with."""

    __slots__ = ()


class Overtime(BaseException):
    """The time limit has passed. Not an `Exception`, so that no `except Exception` in a plugin swallows it."""


@dataclass(frozen=True)
class Law(Generic[T]):
    """One law."""

    name: str
    """In kebab case."""
    statement: str
    """One sentence."""
    check: Callable[[T], None]
    """Takes a plugin; raises `LawError` if the law does not hold."""
    excuses: Callable[[T], str | None]
    """Takes a plugin; returns why the law does not apply, or None if it applies."""
    p_value: Callable[[T, int], float] | None = None
    """Takes a plugin and a seed; returns the p-value. None unless this is a Monte-Carlo law."""
    first: bool = False
    """If True and the law is broken, the remaining laws are not tried."""

    def excuse(self, plugin: T) -> str | None:
        """Why the law does not apply to `plugin`; None if it applies, or if asking raises, which the law itself will report."""
        try:
            return self.excuses(plugin)
        except Exception:
            return None


@dataclass(frozen=True)
class BoundLaw(Generic[T]):
    """A law bound to a plugin: call it to run the test. pytest shows its `__name__`, which is the law's name."""

    law: Law[T]
    """The law."""
    plugin: T
    """The plugin that has to obey it."""

    @property
    def __name__(self) -> str:
        return self.law.name

    def __call__(self, limit: float = BUDGET) -> None:
        """Try the law on the plugin.

        Args:
            limit: Time limit in seconds; by default that of all laws together.

        Raises:
            LawError: The law does not hold. It carries a falsifying example.
        """
        with _limited(limit):
            _guarded(self.law.check, self.plugin)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one law."""

    law: str
    """Its name."""
    statement: str
    """Its statement."""
    outcome: str
    """`holds`, `broken`, `excused` (the law does not apply) or `untried`."""
    reason: str = ""
    """Why it is broken, excused or untried."""
    case: str = ""
    """The smallest case found that breaks it."""
    seconds: float = 0.0
    """Wall-clock time."""


class Suite(Generic[T]):
    """The laws of one kind of plugin, in the order in which they are tried.

    Args:
        parts: Other suites, whose laws come first.
    """

    def __init__(self, *parts: Suite[T]) -> None:
        self.laws: list[Law[T]] = [law for part in parts for law in part.laws]

    def __getitem__(self, name: str) -> Law[T]:
        """The law called `name`.

        Raises:
            KeyError: No law has this name.
        """
        return {law.name: law for law in self.laws}[name]

    @property
    def names(self) -> list[str]:
        """The names of the laws, in the order in which they are tried."""
        return [law.name for law in self.laws]

    def law(self, *, excuses: Callable[[T], str | None] = lambda _: None, first: bool = False) -> Callable[[Callable[[T], None]], Law[T]]:
        """Decorate `check(plugin)` to register it; the first line of its docstring is the statement.

        Args:
            excuses: Takes a plugin; returns why the law does not apply, or None if it applies.
            first: If True and the law is broken, the remaining laws are not tried.
        """

        def register(check: Callable[[T], None]) -> Law[T]:
            return self._add(Law(_kebab(check), _statement(check), check, excuses, first=first))

        return register

    def property_law(
        self,
        cases: Callable[[T], Cases],
        *,
        excuses: Callable[[T], str | None] = lambda _: None,
        also: Callable[[T], list[Any]] = lambda _: [],
        examples: int = 30,
        first: bool = False,
    ) -> Callable[[Callable[[Any], None]], Law[T]]:
        """Decorate `check(case)` to register it as a property of every case.

        Args:
            cases: Takes a plugin; returns the Hypothesis strategy that generates its cases.
            excuses: Takes a plugin; returns why the law does not apply, or None if it applies.
            also: Takes a plugin; returns cases that are tried whatever the search finds.
            examples: Number of cases to try.
            first: If True and the law is broken, the remaining laws are not tried.
        """

        def register(check: Callable[[Any], None]) -> Law[T]:
            def search(plugin: T) -> None:
                broken = _first_broken(check, _generated(cases, plugin, examples))
                if broken:
                    falsify(check, cases(plugin), examples)
                broken = broken or _first_broken(check, also(plugin))
                if broken:  # and the search for a smaller case found none
                    raise broken

            return self._add(Law(_kebab(check), _statement(check), search, excuses, first=first))

        return register

    def monte_carlo_law(self, *, excuses: Callable[[T], str | None] = lambda _: None) -> Callable[[Callable[[T, int], float]], Law[T]]:
        """Decorate `p_value(plugin, seed)` to register it.

        Args:
            excuses: Takes a plugin; returns why the law does not apply, or None if it applies.
        """

        def register(p_value: Callable[[T, int], float]) -> Law[T]:
            def check(plugin: T) -> None:
                p = _guarded(p_value, plugin, 0)
                if not p >= LEVEL:
                    at, why = getattr(p, "at", "") or _describe(plugin), getattr(p, "why", None)
                    found = f"The samples contradict the law: p = {float(p):.1e}, below {LEVEL:g}."
                    raise LawError(f"{found} {_guarded(why)}" if why else found, at)

            return self._add(Law(_kebab(p_value), _statement(p_value), check, excuses, p_value))

        return register

    def bind(self, plugin: T) -> list[BoundLaw[T]]:
        """The laws that apply to `plugin`, as tests."""
        return [BoundLaw(law, plugin) for law in self.laws if law.excuse(plugin) is None]

    def verdicts(self, plugin: T, *twins: T) -> Iterator[Verdict]:
        """Try every law, in order, and yield each outcome as soon as it is known.

        Args:
            plugin: The plugin.
            twins: Other objects of its class, on which every law has to hold too. A law may apply to a twin alone.
        """
        hopeless, left = "", BUDGET
        for law in self.laws:
            excuses = [law.excuse(one) for one in (plugin, *twins)]
            tried = [one for one, excuse in zip((plugin, *twins), excuses, strict=True) if excuse is None]
            if hopeless or not tried:
                yield Verdict(law.name, law.statement, "untried" if tried else "excused", (hopeless if tried else excuses[0]) or "")
                continue
            began, began_at = _spent(), time.perf_counter()
            try:
                for one in tried:
                    BoundLaw(law, one)(min(LIMIT, left))
                verdict = Verdict(law.name, law.statement, "holds", seconds=time.perf_counter() - began_at)
            except LawError as broken:
                verdict = Verdict(law.name, law.statement, "broken", broken.what, broken.case, time.perf_counter() - began_at)
                if law.first or _spent() - began >= min(LIMIT, left):
                    hopeless = f"Fix {law.name} first."
            left = max(left - (_spent() - began), 1.0)
            yield verdict

    def _add(self, law: Law[T]) -> Law[T]:
        self.laws.append(law)
        return law


def falsify(check: Callable[[Any], None], cases: Cases, examples: int) -> list[Any]:
    """Search for a case that breaks `check`, and shrink it.

    Args:
        check: Takes a case. Any exception that it raises counts as broken.
        cases: The strategy to generate cases from, or several, each for its share of the cases.
        examples: Number of cases to try.

    Returns:
        The cases that were tried. They are the same for every check that holds.

    Raises:
        LawError: A case breaks `check`. It carries the smallest one found.
    """
    if not isinstance(cases, SearchStrategy):
        return [case for one in cases for case in falsify(check, one, math.ceil(examples / len(cases)))]
    tried: list[Any] = []
    worst: list[tuple[Any, Exception]] = []
    at: list[Any] = []

    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=_SLOW_OR_LARGE,
        phases=(Phase.generate, Phase.shrink),
    )
    @given(cases)
    def search(case: Any) -> None:
        at[:] = [case]
        tried.append(case)
        try:
            _guarded(check, case)
        except Exception as error:
            worst[:] = [(case, error)]
            raise

    try:
        search()
    except Overtime:
        if not worst:
            raise LawError(_TOO_LONG, _describe(at[0]) if at else "") from None
    except Unsatisfiable:
        raise
    except Exception as error:  # Hypothesis adds notes and groups, and reports flaky tests; only the current case matters
        if not worst:
            raise LawError(f"Hypothesis gave up: {error}", _describe(at[0]) if at else "") from error
    if worst:
        case, error = worst[0]
        what = error.what if isinstance(error, LawError) else str(error)
        raise LawError(what, _describe(case)) from error
    return tried


@lru_cache(maxsize=64)
def _generated(cases: Callable[[Any], Cases], plugin: Any, examples: int) -> tuple[Any, ...]:
    """The cases that a search tries; laws with the same strategy share them."""
    return tuple(falsify(lambda _: None, cases(plugin), examples))


def _first_broken(check: Callable[[Any], None], cases: Sequence[Any]) -> LawError | None:
    for case in cases:
        try:
            _guarded(check, case)
        except Overtime:
            raise LawError(_TOO_LONG, _describe(case)) from None
        except LawError as error:
            return LawError(error.what, _describe(case))
    return None


def _guarded(fn: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return fn(*arguments)
    except LawError:
        raise
    except SdezooError as error:
        raise LawError(f"{error.problem} {error.remedy}") from error
    except Exception as error:  # a plugin may raise anything
        raise LawError(f"It raises {type(error).__name__}: {error}") from error


def _spent() -> float:
    """Seconds used by this thread: its computing time, and a share of its waiting time."""
    return time.thread_time() + _WAITING * (time.monotonic() - time.thread_time())


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `Overtime` inside the block once its time is up, and `LawError` outside. Only the main thread on POSIX can be interrupted."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    began = _spent()

    def expire(*_: object) -> None:
        if _spent() - began >= seconds:
            raise Overtime

    before = signal.signal(signal.SIGALRM, expire)
    # Fire repeatedly: the time may have been spent waiting, and code between the plugin and its law may swallow even `Overtime`.
    signal.setitimer(signal.ITIMER_REAL, seconds, min(seconds / 4, 1.0))
    try:
        yield
    except Overtime:
        raise LawError(_TOO_LONG) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _describe(case: Any) -> str:
    try:
        return getattr(case, "spec", None) or str(case)
    except Exception as error:  # even the text of a plugin may be broken
        return f"{type(case).__name__} (whose text raises {type(error).__name__})"


def _kebab(fn: Callable[..., Any]) -> str:
    return fn.__name__.replace("_", "-")


def _statement(fn: Callable[..., Any]) -> str:
    return (fn.__doc__ or "").strip().partition("\n")[0]
