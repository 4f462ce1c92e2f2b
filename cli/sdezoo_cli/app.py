"""The command `sdezoo`: what a user is told when it cannot be done, and what Ctrl-C does at any moment.

Everything else is imported in `main`, so that an interruption of the imports is handled like any other.
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


def main() -> None:
    """Run the command line. An `SdezooError` prints two sentences on standard error and exits with code 2."""
    # Threads that wait for each other must not take cores from other programs. OpenMP reads this when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    with _interruptible():
        from sdezoo.errors import RunError, SdezooError
        from sdezoo_cli.commands import run
        from sdezoo_cli.printing import escape_unknown

        escape_unknown()
        try:
            _check_folder()
            try:
                run(arguments)
            except OSError as error:
                if len(arguments) < len(sys.argv) - 1 or error.filename is None:
                    raise
                problem = f"'{error.filename}' cannot be used ({error.strerror})."
                raise RunError(problem, "Give another name, or see that it can be read and written.") from None
        except SdezooError as error:
            if len(arguments) < len(sys.argv) - 1:
                _hook_tracebacks()
                raise
            _tell(error.problem, error.remedy)
            sys.exit(2)
        except Exception:
            _hook_tracebacks()
            raise


def _hook_tracebacks() -> None:
    """Print tracebacks without characters that a terminal obeys."""
    import traceback

    from sdezoo_cli.printing import say

    sys.excepthook = lambda kind, error, trace: say("".join(traceback.format_exception(kind, error, trace)), error=True)


def _check_folder() -> None:
    from sdezoo.errors import RunError

    try:
        os.getcwd()
    except OSError:
        raise RunError("The working folder does not exist any more.", "Change to another folder.") from None


def _tell(problem: str, remedy: str) -> None:
    from sdezoo_cli.printing import say

    first, second = (sentence.replace("\n", " ") for sentence in (problem, remedy))
    say(f"Error: {first}\n       {second}\n", error=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let a first SIGINT interrupt the block, and a second one end the process at once and without words."""
    before = signal.getsignal(signal.SIGINT)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        raise KeyboardInterrupt

    if before is not signal.default_int_handler:  # ignored in a background job, or a program's own
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    except KeyboardInterrupt:
        from sdezoo_cli.printing import say

        say("Interrupted.\n", error=True)
        sys.exit(128 + signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    main()
