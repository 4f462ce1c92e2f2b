"""Laws: what the mathematics of a plugin implies, and how one that does not hold is shown.

A law has a name, one sentence that states it, and a check. Three kinds of check:

- `law`: a plain one; it raises `LawError`;
- `property_law`: Hypothesis draws the cases, and shrinks the one that is reported;
- `monte_carlo_law`: it returns a p-value, uniform on [0, 1] for a plugin that is right, and is broken below `LEVEL`.

Every law is given `LIMIT` seconds, all of a plugin's together `BUDGET`. One that takes longer is broken, with the case
that it was at, and those after it are not tried: a plugin may be slow, or hang, and its author is still told. They are seconds of
computing; those in which the law only waits count for a quarter, so that a busy machine makes no plugin slow.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.strategies import SearchStrategy

from sdezoo.errors import SdezooError

T = TypeVar("T")

LEVEL = 1e-5
"""Level of every Monte-Carlo law: the share of right plugins that it rejects, were the seeds not fixed."""
LIMIT = 20.0
"""Seconds that one law may compute."""
BUDGET = 120.0
"""Seconds that all laws of one plugin may compute together."""
_WAITING = 0.25


_SLOW_OR_LARGE = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example, HealthCheck.filter_too_much]
_TOO_LONG = "It is slow, or hangs: the law is not done when its time is up."


class LawError(AssertionError):
    """A law does not hold.

    Args:
        what: what was found, and what the law asks for.
        case: the smallest input that shows it; empty where the law has no input.
    """

    def __init__(self, what: str, case: str = "") -> None:
        self.what, self.case = what, case
        super().__init__(f"{what}\n  at {case}" if case else what)


class Overtime(BaseException):
    """The time is up. No `Exception`, so that nothing between a hanging plugin and its law swallows it."""


@dataclass(frozen=True)
class Law(Generic[T]):
    """One law."""

    name: str
    """In kebab case."""
    statement: str
    """One sentence."""
    check: Callable[[T], None]
    """Of a plugin; raises `LawError`."""
    excuses: Callable[[T], str | None]
    """Why it does not apply to a plugin; None where it does."""
    p_value: Callable[[T, int], float] | None = None
    """Of a plugin and a seed, for Monte-Carlo laws."""
    first: bool = False
    """Where it is broken, no other law is worth trying."""

    def excuse(self, plugin: T) -> str | None:
        """Why it does not apply to `plugin`; None where it does, and where the plugin fails to answer: that is for the law to find."""
        try:
            return self.excuses(plugin)
        except Exception:
            return None


@dataclass(frozen=True)
class BoundLaw(Generic[T]):
    """A law and the plugin that has to obey it: a test. Its `__name__` is the law's, which pytest shows."""

    law: Law[T]
    plugin: T

    @property
    def __name__(self) -> str:
        return self.law.name

    def __call__(self, limit: float = BUDGET) -> None:
        """Try it for at most `limit` seconds: as a test alone it may take as long as all laws together.

        Raises:
            LawError: with a falsifying example.
        """
        with _limited(limit):
            _guarded(self.law.check, self.plugin)


@dataclass(frozen=True)
class Verdict:
    """What became of one law: `holds`, `broken`, `excused` (it does not apply) or `untried`."""

    law: str
    statement: str
    outcome: str
    reason: str = ""
    case: str = ""
    seconds: float = 0.0


class Suite(Generic[T]):
    """The laws of one kind of plugin, in the order in which they are tried; those of other suites, `parts`, come first."""

    def __init__(self, *parts: Suite[T]) -> None:
        self.laws: list[Law[T]] = [law for part in parts for law in part.laws]

    def __getitem__(self, name: str) -> Law[T]:
        """The law of that name.

        Raises:
            KeyError: where there is none.
        """
        return {law.name: law for law in self.laws}[name]

    @property
    def names(self) -> list[str]:
        """The names of the laws, in the order in which they are tried."""
        return [law.name for law in self.laws]

    def law(self, *, excuses: Callable[[T], str | None] = lambda _: None, first: bool = False) -> Callable[[Callable[[T], None]], Law[T]]:
        """Register `check(plugin)`; its docstring's first line is the statement."""

        def register(check: Callable[[T], None]) -> Law[T]:
            return self._add(Law(_kebab(check), _statement(check), check, excuses, first=first))

        return register

    def property_law(
        self,
        cases: Callable[[T], SearchStrategy[Any]],
        *,
        excuses: Callable[[T], str | None] = lambda _: None,
        examples: int = 30,
        first: bool = False,
    ) -> Callable[[Callable[[Any], None]], Law[T]]:
        """Register `check(case)`, tried on `examples` cases that Hypothesis draws from `cases(plugin)`."""

        def register(check: Callable[[Any], None]) -> Law[T]:
            def search(plugin: T) -> None:
                falsify(check, cases(plugin), examples)

            return self._add(Law(_kebab(check), _statement(check), search, excuses, first=first))

        return register

    def monte_carlo_law(self, *, excuses: Callable[[T], str | None] = lambda _: None) -> Callable[[Callable[[T, int], float]], Law[T]]:
        """Register `p_value(plugin, seed)`."""

        def register(p_value: Callable[[T, int], float]) -> Law[T]:
            def check(plugin: T) -> None:
                p = _guarded(p_value, plugin, 0)
                if not p >= LEVEL:
                    at = getattr(p, "at", "") or _describe(plugin)
                    raise LawError(f"The draws contradict the law: p = {float(p):.1e}, below {LEVEL:g}.", at)

            return self._add(Law(_kebab(p_value), _statement(p_value), check, excuses, p_value))

        return register

    def bind(self, plugin: T) -> list[BoundLaw[T]]:
        """The laws that apply to `plugin`, as tests."""
        return [BoundLaw(law, plugin) for law in self.laws if law.excuse(plugin) is None]

    def verdicts(self, plugin: T, *twins: T) -> Iterator[Verdict]:
        """Try every law on `plugin`, one after the other, and on its `twins`, other objects of the same class."""
        hopeless, left = "", BUDGET
        for law in self.laws:
            excuse = law.excuse(plugin)
            if excuse or hopeless:
                yield Verdict(law.name, law.statement, "excused" if excuse else "untried", excuse or hopeless)
                continue
            began, began_at = _spent(), time.perf_counter()
            try:
                for one in (plugin, *(twin for twin in twins if law.excuse(twin) is None)):
                    BoundLaw(law, one)(min(LIMIT, left))
                verdict = Verdict(law.name, law.statement, "holds", seconds=time.perf_counter() - began_at)
            except LawError as broken:
                verdict = Verdict(law.name, law.statement, "broken", broken.what, broken.case, time.perf_counter() - began_at)
                if law.first or _spent() - began >= min(LIMIT, left):
                    hopeless = f"Mend {law.name} first."
            left = max(left - (_spent() - began), 1.0)
            yield verdict

    def _add(self, law: Law[T]) -> Law[T]:
        self.laws.append(law)
        return law


def falsify(check: Callable[[Any], None], cases: SearchStrategy[Any], examples: int) -> None:
    """Search `cases` for one that breaks `check`, and shrink it.

    Raises:
        LawError: with the smallest case found. Whatever `check` raises counts.
    """
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
    except Exception as error:  # Hypothesis adds notes, groups, and what it finds flaky; the case at hand is what counts
        if not worst:
            raise LawError(f"Hypothesis gave up: {error}", _describe(at[0]) if at else "") from error
    if worst:
        case, error = worst[0]
        what = error.what if isinstance(error, LawError) else str(error)
        raise LawError(what, _describe(case)) from error


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
    """Seconds on this thread's clock: those it computes, and a share of those it waits."""
    return time.thread_time() + _WAITING * (time.monotonic() - time.thread_time())


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """Raise `Overtime` inside the block once its time is up, and `LawError` outside; only a main thread on POSIX can be interrupted."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    began = _spent()

    def expire(*_: object) -> None:
        if _spent() - began >= seconds:
            raise Overtime

    before = signal.signal(signal.SIGALRM, expire)
    # Once more and more: the seconds may have been spent waiting, and code between the plugin and its law may swallow even this.
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
    except Exception as error:  # even a plugin's name may be broken
        return f"{type(case).__name__} (whose text raises {type(error).__name__})"


def _kebab(fn: Callable[..., Any]) -> str:
    return fn.__name__.replace("_", "-")


def _statement(fn: Callable[..., Any]) -> str:
    return (fn.__doc__ or "").strip().partition("\n")[0]
