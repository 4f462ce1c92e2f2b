"""Progress bars, on standard error: standard output is for results."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from sdezoo.errors import printable

_REDRAW = 0.1


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
