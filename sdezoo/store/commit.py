"""The git commit of a folder, read from the files of its repository. Git itself is not started.

Git runs programs that a repository's configuration names (`core.fsmonitor`, filters), and a folder may come from somebody else. Reading
`HEAD` and the reference that it names runs nothing. Formats: gitrepository-layout(5), git-worktree(1), git-pack-refs(1).
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_HASH = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REFERENCE = re.compile(r"refs(?:/(?!\.)[^\x00-\x20\x7f~^:?*\[\\/]+)+")
_SMALL, _PACKED = 2**12, 2**24  # most bytes of a file with one line, and of packed-refs
_DEPTH = 5  # references that name references


def commit(folder: Path) -> str | None:
    """Look up the git commit of a folder.

    Args:
        folder: a folder in a work tree.

    Returns:
        The hash; None without a repository, before the first commit, or if the repository stores references in another way than as files.
    """
    found = next((place / ".git" for place in (folder, *folder.parents) if os.path.lexists(place / ".git")), None)
    git = found and _repository(found)
    if git is None:
        return None
    shared = _line(git / "commondir")
    places = (git, git / shared) if shared else (git,)
    text = _line(git / "HEAD")
    for _ in range(_DEPTH):
        if text is None or _HASH.fullmatch(text):
            return text
        name = text.removeprefix("ref: ")
        if name == text or not _REFERENCE.fullmatch(name):
            return None
        text = next((line for place in places if (line := _line(place / name) or _packed(place, name))), None)
    return None


def _repository(git: Path) -> Path | None:
    """The folder of a repository: `.git` itself, or the one that a file `.git` of a worktree or submodule names."""
    if git.is_dir():
        return git
    text = _line(git) or ""
    place = text.removeprefix("gitdir: ")
    if place == text or place.startswith(("//", "\\\\")):  # the second: a share of another machine
        return None
    return git.parent / place


def _line(path: Path) -> str | None:
    """The only line of a small file."""
    text = _text(path, _SMALL)
    return None if text is None else text.strip()


def _packed(git: Path, name: str) -> str | None:
    """The hash of a reference in `packed-refs`."""
    for line in (_text(git / "packed-refs", _PACKED) or "").splitlines():
        digest, _, other = line.partition(" ")
        if other == name and _HASH.fullmatch(digest):
            return digest
    return None


def _text(path: Path, most: int) -> str | None:
    """The text of a file; None for a link, a device, a pipe, or more than `most` bytes."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            content = file.read(most + 1)
        return None if len(content) > most else content.decode("utf-8")
    except (OSError, ValueError):
        return None
