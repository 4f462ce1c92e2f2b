"""Progress, on standard error: standard output is for results. A bar on a terminal; elsewhere, as in a log, a line every ten seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sdezoo.errors import printable
from sdezoo_cli.printing import say, to_terminal

_REDRAW, _LINES = 0.1, 10.0  # seconds


@contextmanager
def bar(label: str, total: int | None, *, shown: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar with rate and remaining time.

    Args:
        label: text in front of the bar.
        total: number of items, or None if unknown until the first update.
        shown: whether to draw anything.

    Yields:
        `update(done, total=None, detail="")`, to call after each item.
    """
    if not shown:
        yield lambda *_, **__: None
        return
    if not to_terminal(error=True):
        yield _lines(label)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[detail]}", markup=False),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True))
    task = progress.add_task(printable(label), total=total or 1, detail="", rate="")
    began, first, drawn = time.perf_counter(), None, 0.0

    def update(done: float, total: int | None = None, detail: str = "") -> None:
        nonlocal first, drawn, began
        now = time.perf_counter()
        with suppress(OSError):  # the terminal may have hung up
            if first is None:
                # Draw nothing before the first update: if the inputs are rejected, only the error is printed.
                began, first = now, done
                progress.start()
            if now - drawn < _REDRAW and done != total:
                return
            drawn = now
            rate = f"{(done - first) / (now - began):.1f}/s" if done > first else ""
            progress.update(task, completed=done, total=total, detail=printable(detail), rate=rate)

    try:
        yield update
    finally:
        if first is not None:
            with suppress(OSError):
                progress.stop()


def _lines(label: str) -> Callable[..., None]:
    """An `update` that prints a line every ten seconds, and one at the end."""
    began = last = time.monotonic()
    first: float | None = None
    before, told = 0.0, False

    def update(done: float, total: int | None = None, detail: str = "") -> None:
        nonlocal began, last, first, before, told
        now = time.monotonic()
        if first is None or done < before:  # what comes next, such as measuring after sampling, has a rate of its own
            began, first, told = now, done, False
        before = done
        ends = total is not None and done >= total
        if told or (now - last < _LINES and not ends):
            return
        last, told = now, ends
        parts = [f"{label} {done:.0f}" + ("" if total is None else f"/{total:.0f}"), detail]
        if done > first and now > began:
            rate = (done - first) / (now - began)
            parts.append(f"{rate:.1f}/s")
            parts += [] if total is None else [f"{_time((total - done) / rate)} left"]
        with suppress(OSError):
            say("  ".join(filter(None, parts)) + "\n", error=True)

    return update


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
