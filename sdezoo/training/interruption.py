"""SIGINT, SIGTERM and SIGHUP while training: the step is finished and saved; the second signal does what it would have done at first."""

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
_ECHO = 5.0  # seconds; a launcher, or a shell that hangs up, passes on what the terminal has sent already


class Interrupted(KeyboardInterrupt):
    """A training was asked to stop, and has saved.

    Args:
        number: of the signal. checkpoint: where it has saved. step, steps: how far it is, and was to go.
    """

    def __init__(self, number: int, checkpoint: Path, step: int, steps: int) -> None:
        super().__init__(f"Stopped after step {step} of {steps}, which is saved in '{checkpoint}'.")
        self.number, self.checkpoint, self.step, self.steps = number, checkpoint, step, steps


class Request:
    """Which signal has asked to stop."""

    number: int = 0
    """Of the signal; 0 where there was none."""


@contextmanager
def requests(wanted: bool) -> Iterator[Request]:
    """The request to stop, which signals fill in while the block runs; only in a main thread, and where `wanted`."""
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
