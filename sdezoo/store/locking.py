"""A run folder is one training's at a time.

`.lock` in the run folder is locked by the system, for the process: the lock goes with the process, however that ends. The file
stays, and means nothing by itself. Readers need no lock, since a checkpoint is whole or not there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sdezoo.errors import RunError
from sdezoo.store.files import sweep, writing

_REMEDY = "Make it writable, or give another --out."


def reserve(run: Path, *, overwrite: bool) -> None:
    """Check that a new run may be written to `run`; removes nothing.

    Raises:
        RunError: where something is there, and it is no run that may be overwritten.
    """
    if not run.exists() or all(entry.name.startswith(".") for entry in run.iterdir()):
        return
    if not overwrite:
        raise RunError(f"The run folder '{run}' exists.", "Go on with --resume, replace it with --overwrite, or choose another --out.")
    if not (run / "config.yaml").is_file():
        raise RunError(f"The folder '{run}' is not a run of sdezoo, so it is not overwritten.", "Choose another --out.")


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """No other training is in the folder `run`, which is made; what a killed one left half-written is removed.

    Raises:
        RunError: where one is, or the folder cannot be written to.
    """
    lock = FileLock(run / ".lock", timeout=0)
    with writing(run, _REMEDY):
        run.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(f"Another training is writing to '{run}'.", "Wait until it has ended, or choose another --out.") from None
    try:
        for folder in (run, run / "checkpoints"):
            sweep(folder)
        yield
    finally:
        lock.release()
