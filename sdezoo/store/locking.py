"""The lock of a run folder: only one training run writes to it at a time.

`.lock` in the run folder holds a system lock of the process. The system releases it when the process ends, however it ends. The file stays
and means nothing by itself. Readers need no lock, because checkpoints are written atomically.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sdezoo.errors import RunError
from sdezoo.store.files import refuse_links, sweep, writing

_REMEDY = "Make it writable, or give another --out."


def reserve(run: Path, *, overwrite: bool) -> None:
    """Check that a new run may be written to `run`; removes nothing.

    Args:
        run: the run folder.
        overwrite: whether an existing run may be replaced.

    Raises:
        RunError: if the folder is not empty, unless it holds a run and `overwrite` is set.
    """
    if not run.exists() or all(entry.name.startswith(".") for entry in run.iterdir()):
        return
    if not overwrite:
        raise RunError(
            f"The run folder '{run}' exists.", "Continue it with --resume, replace it with --overwrite, or choose another --out."
        )
    if not (run / "config.yaml").is_file():
        raise RunError(f"The folder '{run}' is not a run of sdezoo, so it is not overwritten.", "Choose another --out.")


@contextmanager
def run_lock(run: Path) -> Iterator[None]:
    """Hold the lock of a run folder. Creates the folder, and removes temporary files of killed runs.

    Args:
        run: the run folder.

    Raises:
        RunError: if another training run holds the lock, the folder contains links, or it cannot be written to.
    """
    refuse_links(run)
    _refuse_other_names(run / ".lock")
    lock = FileLock(run / ".lock", timeout=0)
    with writing(run, _REMEDY):
        run.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise RunError(f"Another training run is writing to '{run}'.", "Wait until it has ended, or choose another --out.") from None
    try:
        for folder in (run, *(run / part for part in ("checkpoints", "samples", "evaluation"))):
            sweep(folder)
        yield
    finally:
        lock.release()


def _refuse_other_names(lock: Path) -> None:
    """Reject a lock that is a hard link: taking a lock may empty its file."""
    try:
        found = lock.lstat()
    except OSError:  # missing; otherwise taking the lock tells
        return
    if found.st_nlink > 1 and found.st_size:
        raise RunError(f"'{lock}' is a hard link to another file.", "Remove it.")
