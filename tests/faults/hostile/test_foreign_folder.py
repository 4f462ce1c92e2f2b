"""A folder that somebody else packed: no command in it starts a program, and its repository is read as text."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sdezoo.store.commit import commit

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
HASH = "0123456789abcdef0123456789abcdef01234567"

TRAINING = """
import sys
started = []
PROGRAMS = ("subprocess.Popen", "os.posix_spawn", "os.exec", "os.system", "os.spawn", "os.startfile")
sys.addaudithook(lambda event, arguments: started.append(str(arguments)) if event in PROGRAMS else None)
import json
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
train(TrainingConfig.build(dict(data="wine", net="mlp:width=16,depth=1", batch_size=16, steps=1, device="cpu", out="run")))
print(json.dumps(started))
"""

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a repository with one commit."""
    if not shutil.which("git"):
        pytest.skip("there is no git")

    def call(*what: str, folder: Path = tmp_path) -> str:
        words = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *what]
        return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()

    call("init", "--initial-branch=main")
    (tmp_path / "file").write_text("one")
    call("add", "file")
    call("commit", "--message=one")
    return call


def test_training_in_a_repository_starts_nothing_of_it(tmp_path: Path, git: Git) -> None:
    """`core.fsmonitor` and filters are programs that git runs to see what has changed."""
    hook, mark = tmp_path / "hook", tmp_path / "mark"
    hook.write_text(f"#!/bin/sh\ntouch '{mark}'\ncat\n")
    hook.chmod(0o755)
    (tmp_path / ".gitattributes").write_text("* filter=hostile\n")
    for key in ("core.fsmonitor", "filter.hostile.clean", "filter.hostile.process"):
        git("config", key, str(hook))
    (tmp_path / "file").write_text("two")
    mark.unlink(missing_ok=True)
    command = [sys.executable, "-c", TRAINING]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env=ENVIRONMENT, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not mark.exists(), "the repository ran its own program"
    started = [what for what in json.loads(done.stdout.splitlines()[-1]) if "'uname'" not in what]  # by Python, for its platform
    assert started == []
    head = (tmp_path / ".git" / "refs" / "heads" / "main").read_text().strip()
    assert json.loads((tmp_path / "run" / "env.json").read_text())["commit"] == head


def test_the_commit_is_that_of_git(tmp_path: Path, git: Git) -> None:
    """On a branch, packed, detached, in a folder of the work tree, in a worktree and in a submodule."""
    head = git("rev-parse", "HEAD")
    assert commit(tmp_path) == head
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert commit(tmp_path / "a" / "b") == head
    git("pack-refs", "--all")
    assert not (tmp_path / ".git" / "refs" / "heads" / "main").exists()
    assert commit(tmp_path) == head
    git("worktree", "add", "-b", "other/branch", "tree")
    git("commit", "--allow-empty", "--message=two", folder=tmp_path / "tree")
    assert commit(tmp_path / "tree") == git("rev-parse", "HEAD", folder=tmp_path / "tree") != head
    git("pack-refs", "--all")
    assert commit(tmp_path / "tree") == git("rev-parse", "HEAD", folder=tmp_path / "tree")
    git("checkout", "--detach")
    assert commit(tmp_path) == head
    git("-c", "protocol.file.allow=always", "submodule", "add", str(tmp_path), "module")
    assert commit(tmp_path / "module") == head


def test_a_folder_without_a_commit_has_none(tmp_path: Path) -> None:
    assert commit(tmp_path / "nowhere") is None
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    assert commit(tmp_path) is None


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


@pytest.mark.parametrize(
    "spoil",
    [
        _pipe,
        _link,
        lambda head: head.write_text("ref: refs/heads/../../outside\n"),
        lambda head: head.write_text("ref: /etc/passwd\n"),
        lambda head: head.write_text("ref: refs/heads/loop\n"),
        lambda head: head.write_text(f"{HASH}\x1b[31m\n"),
        lambda head: head.write_text(HASH + " " * 2**13),
        lambda head: head.write_bytes(b"\xff\xfe"),
        lambda head: head.with_name("packed-refs").write_bytes(b"#" * (2**24 + 1)),
        lambda head: head.unlink(),
    ],
)
def test_a_spoilt_repository_has_none(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs" / "heads" / "loop").write_text("ref: refs/heads/loop\n")
    (git / "packed-refs").write_text(f"# pack-refs with: peeled\n{HASH} refs/heads/main\n^{HASH}\n")
    (tmp_path / "outside").write_text(HASH)
    assert commit(tmp_path) == HASH
    spoil(git / "HEAD")
    assert commit(tmp_path) is None


@pytest.mark.parametrize("text", ["", "gitdir: ", "gitdir: //host/share", "gitdir: \\\\host\\share", "gitdir: nowhere", "gitdir: \0"])
def test_a_file_that_names_no_repository_has_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".git").write_text(text)
    assert commit(tmp_path) is None
