"""The methods of an estimator that follow the conventions of the Hugging Face Hub."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Self

from sklearn.utils.validation import check_is_fitted

from sdezoo.errors import RunError
from sdezoo.exchange import hub
from sdezoo.store.files import atomic_folder, writable_folder


class OnHub(ABC):
    """An estimator that is kept in folders and on the Hub. Abstract: `load`, `_write_models`."""

    @abstractmethod
    def _write_models(self, folder: Path, out: str) -> None:
        """Write the files of a run to a folder that exists, and will be at `out`."""

    @classmethod
    @abstractmethod
    def load(cls, path: str | Path) -> Self:
        """Load from a run folder."""

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder by the conventions of the Hub: that of `save`, with a model card, `README.md`.

        Args:
            path: a new or empty folder.

        Raises:
            RunError: if the folder is not empty, or cannot be written to.
        """
        self._write(path := Path(path), path.resolve().name)

    @classmethod
    def from_pretrained(cls, source: str | Path, revision: str | None = None, *, endpoint: str | None = None) -> Self:
        """Load an estimator from a folder, or from a repository of the Hugging Face Hub. Nothing of it is executed.

        Args:
            source: a folder of `save_pretrained`, of `save` or of `sdezoo train`; or the id `OWNER/NAME` of a repository, which needs the
                extra `hub`.
            revision: the commit of the repository, 40 hexadecimal digits: a branch may change.
            endpoint: address of the Hub; None: that of `huggingface_hub`.

        Raises:
            SdezooError: if there is neither, the revision is no commit, or the folder cannot be read.
        """
        return cls.load(hub.find(source, revision, endpoint=endpoint))

    def push_to_hub(self, repo_id: str, *, private: bool = True, token: str | None = None, endpoint: str | None = None) -> str:
        """Upload the model to the Hugging Face Hub, with a card; needs the extra `hub`.

        Args:
            repo_id: the id `OWNER/NAME`; a repository that does not exist is created.
            private: whether a new repository is private.
            token: access token; None: that of `huggingface_hub`.
            endpoint: address of the Hub; None: that of `huggingface_hub`.

        Returns:
            The commit, for `from_pretrained`.

        Raises:
            SdezooError: if the id has another form, or the upload fails.
        """
        with tempfile.TemporaryDirectory() as folder:
            self._write(path := Path(folder) / "model", repo_id)
            return hub.push(path, repo_id, private=private, token=token, endpoint=endpoint)

    def _write(self, path: Path, card: str | None = None) -> None:
        """Write a run folder, all of it or nothing, with a card of this name."""
        check_is_fitted(self)
        writable_folder(path)
        if path.exists() and any(path.iterdir()):
            raise RunError(f"'{path}' is not empty.", "Give a new folder.")
        with atomic_folder(path, "Give another folder.") as beside:
            self._write_models(beside, str(path))
            if card is not None:
                hub.write_card(beside, card)
