"""Provenance: a record tells equal from different data, and who brought each plugin."""

import hashlib
from pathlib import Path

import pytest
import torch

from sdezoo import SDES
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import PluginError
from sdezoo.store.provenance import check_providers, fingerprint, providers
from sdezoo.zoo.registry import load_file

ENCODING = Encoding.affine(torch.tensor(1.0), torch.tensor(0.0))


def table(value: float = 1.0, labels: list[int] | None = None) -> Data:
    rows = torch.tensor([[value, 2.0], [3.0, 4.0]])
    return Data(rows, rows + 1, "table", ("a", "b"), torch.tensor(labels) if labels else None)


def test_equal_data_have_equal_fingerprints_and_any_change_is_seen() -> None:
    of = fingerprint(table(), ENCODING)
    assert of == fingerprint(table(), ENCODING)
    others = [
        fingerprint(table(1.0 + 2**-23), ENCODING),
        fingerprint(table(labels=[0, 1]), ENCODING),
        fingerprint(table(labels=[1, 0]), ENCODING),
        fingerprint(Data(table().train, table().test, "table", ("a", "c")), ENCODING),
        fingerprint(table(), Encoding.affine(torch.tensor(1.0), torch.tensor(1e-12))),
        fingerprint(Data(table().test, table().train, "table", ("a", "b")), ENCODING),
    ]
    assert len({of, *others}) == 1 + len(others)


def test_a_fingerprint_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.arange(3000.0).view(1000, 3)
    data = Data(rows, rows[:0], "points")
    whole = fingerprint(data, ENCODING)
    monkeypatch.setattr("sdezoo.store.provenance._BLOCK", 100)
    assert fingerprint(data, ENCODING) == whole


def test_a_fingerprint_is_a_sha256() -> None:
    assert len(bytes.fromhex(fingerprint(table(), ENCODING))) == hashlib.sha256().digest_size


def test_every_plugin_is_traced_to_its_distribution() -> None:
    found = providers({"sdes": "gbm:sigma=0.8", "losses": "mult-dsm", "datasets": "some/file.npz"})
    assert set(found) == {"sdes/gbm", "losses/mult-dsm"}
    assert all(provider.startswith("sdezoo ") for provider in found.values())


def test_a_plugin_from_a_file_is_traced_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from dataclasses import dataclass\nfrom sdezoo import SDES\n\n@dataclass(frozen=True)\nclass Mine(SDES.load('vp')):\n    pass\n",
        encoding="utf-8",
    )
    (name,) = load_file(file)
    assert providers({"sdes": name}) == {f"sdes/{name}": str(file)}
    SDES.remove(name)
    with pytest.raises(PluginError, match=rf"SDE '{name}' of {file}") as error:
        check_providers({f"sdes/{name}": str(file)})
    assert f"--plugin {file}" in str(error.value.remedy)


def test_what_is_missing_is_named_with_what_brought_it() -> None:
    check_providers({"sdes/gbm": "sdezoo 0.1.0"})
    with pytest.raises(PluginError, match=r"SDE 'absent' of absent-plugins 2\.1, which is not installed") as error:
        check_providers({"sdes/gbm": "sdezoo 0.1.0", "sdes/absent": "absent-plugins 2.1"})
    assert "absent-plugins 2.1" in error.value.remedy
