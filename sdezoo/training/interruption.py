"""SIGINT, SIGTERM and SIGHUP during training: the first finishes the step and saves; the second has its usual effect."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from sdezoo.store.launch import launched

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_HANGUP = getattr(signal, "SIGHUP", None)
_ECHO = 5.0  # seconds in which a launcher, or a shell that hangs up, forwards a signal that the terminal already sent


class Interrupted(KeyboardInterrupt):
    """Training stopped because of a signal, after saving a checkpoint.

    Args:
        number: number of the signal.
        checkpoint: folder of the checkpoint.
        step: number of steps done.
        steps: number of steps planned.
        run: the run folder to resume; None: that of the checkpoint.
    """

    def __init__(self, number: int, checkpoint: Path, step: int, steps: int, run: Path | None = None) -> None:
        super().__init__(f"Stopped after step {step} of {steps}, which is saved in '{checkpoint}'.")
        self.run = run or checkpoint.parents[1]
        self.number, self.checkpoint, self.step, self.steps = number, checkpoint, step, steps


class Request:
    """A request to stop."""

    number: int = 0
    """Number of the signal; 0: none was received."""


@contextmanager
def requests(wanted: bool) -> Iterator[Request]:
    """Catch SIGINT and SIGTERM while the block runs, and record the first in a `Request`. Works in the main thread only.

    Args:
        wanted: whether to catch them; if False, the request stays empty.

    Yields:
        The request, to poll.
    """
    request, since = Request(), 0.0
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in _SIGNALS} if wanted else {}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

    def take(number: int, _frame: FrameType | None) -> None:
        nonlocal since
        if not request.number:
            request.number, since = number, time.monotonic()
        elif (launched() == 1 and number != _HANGUP) or time.monotonic() - since > _ECHO:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)

    for number in before:
        signal.signal(number, take)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
