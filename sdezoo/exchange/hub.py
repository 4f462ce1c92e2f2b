"""Models by the conventions of the Hugging Face Hub: a folder, or a repository of the Hub, with a card.

What is downloaded are the files of a run folder, by name: `config.yaml`, `metrics.jsonl`, `evaluation/evaluation.json` and the files of
checkpoints, of a bridge those in `rounds/`, without the simulated pairs. No pickle is among them, and nothing of it is executed. A
repository may change, so its revision is a commit, in full.
"""

from __future__ import annotations

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sdezoo.errors import ParameterError, RunError
from sdezoo.exchange.card import NAME, card
from sdezoo.store.files import atomic_write

_COMMIT = re.compile(r"[0-9a-f]{40}")
_ID = re.compile(r"[\w.-]+/[\w.-]+")
_KEPT = (
    *("config.yaml", "metrics.jsonl", "evaluation/evaluation.json", NAME),
    *("checkpoints/step-*/*.safetensors", "checkpoints/step-*/state.json", "checkpoints/step-*/SHA256SUMS"),
    *("rounds/*/config.yaml", "rounds/*/metrics.jsonl", "rounds/*/checkpoints/step-*/*.safetensors"),
    *("rounds/*/checkpoints/step-*/state.json", "rounds/*/checkpoints/step-*/SHA256SUMS"),
)
"""Files of a model, those of a run folder that sampling and its card need; `rounds` has the models of a bridge."""


def write_card(folder: Path, name: str | None = None) -> Path:
    """Write the card of a folder, `README.md`, in place of one that is there.

    Args:
        folder: the folder of a model.
        name: what to call the model; None: as the folder.

    Returns:
        The file.

    Raises:
        RunError: if the folder has no intact checkpoint, or cannot be written to.
    """
    text = card(folder, name or folder.resolve().name)
    with atomic_write(folder / NAME, "Give another folder.") as file:
        file.write(text.encode("utf-8"))
    return folder / NAME


def find(source: str | Path, revision: str | None = None, *, endpoint: str | None = None) -> Path:
    """The folder of a model: a folder itself, or a repository of the Hub, downloaded.

    Args:
        source: path of a folder, or id `OWNER/NAME` of a repository.
        revision: the commit of the repository, 40 hexadecimal digits.
        endpoint: address of the Hub; None: that of `huggingface_hub`.

    Raises:
        ParameterError: if a repository has no revision, or one that is not a commit, or a folder has one.
        RunError: if there is neither folder nor repository, or `huggingface_hub` is missing.
    """
    folder = Path(source)
    if folder.is_dir():
        if revision is not None:
            raise ParameterError(f"'{source}' is a folder, and has no revision.", "Leave out revision.")
        return folder
    if not _ID.fullmatch(str(source)):
        raise RunError(f"The folder '{source}' does not exist, and it is no id of the Hub.", "Give a folder, or an id such as OWNER/NAME.")
    if revision is None or not _COMMIT.fullmatch(revision):
        problem = (
            f"'{source}' is a repository of the Hub, and no revision is given."
            if revision is None
            else f"The revision '{revision}' is no commit of 40 digits: a branch or a tag may change."
        )
        raise ParameterError(problem, 'Give the commit that you have looked at: revision="…", 40 digits, from the page of the repository.')
    hub, options = _hub(), {"endpoint": endpoint} if endpoint else {}
    try:
        found = hub.snapshot_download(str(source), revision=revision, allow_patterns=list(_KEPT), cache_dir=_cache(), **options)
    except Exception as error:  # of the library, of the network, of the disk
        raise RunError(
            f"'{source}' at {revision[:8]} cannot be downloaded ({_reason(error)}).", "Check the id, the revision and the connection."
        ) from error
    return Path(found)


def push(folder: Path, name: str, *, private: bool = True, token: str | None = None, endpoint: str | None = None) -> str:
    """Upload a folder of a model, with its card.

    Args:
        folder: the folder.
        name: id `OWNER/NAME` of the repository, created if it does not exist.
        private: whether a new repository is private.
        token: access token; None: that of `huggingface_hub`.
        endpoint: address of the Hub; None: that of `huggingface_hub`.

    Returns:
        The commit.

    Raises:
        ParameterError: if the id has another form.
        RunError: if `huggingface_hub` is missing, or the upload fails.
    """
    if not _ID.fullmatch(name):
        raise ParameterError(f"'{name}' is no id of a repository.", "Give OWNER/NAME.")
    api = _hub().HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(name, private=private, exist_ok=True)
        made = api.upload_folder(
            repo_id=name, folder_path=str(folder), allow_patterns=list(_KEPT), commit_message="Upload a model of sdezoo"
        )
    except Exception as error:  # as above
        raise RunError(
            f"'{folder}' cannot be uploaded to '{name}' ({_reason(error)}).", "Check the id, and log in: hf auth login."
        ) from error
    return str(made.oid)


def _cache() -> Path | None:
    """Where downloads are kept; None: where `huggingface_hub` keeps them."""
    return None


def _hub() -> Any:
    if find_spec("huggingface_hub") is None:
        raise RunError("huggingface_hub is not installed.", 'Install it: pip install "sdezoo[hub]".')
    return import_module("huggingface_hub")


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
