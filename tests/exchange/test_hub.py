"""Folders and repositories: what comes back is what was saved, revisions are commits, and nothing but data is taken."""

import json
import threading
from collections.abc import Iterator
from fnmatch import fnmatch
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from sdezoo import DiffusionModel
from sdezoo.errors import ParameterError, RunError, SdezooError
from sdezoo.exchange import hub
from sdezoo.exchange.card import plain

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    rows = np.random.default_rng(0).lognormal(size=(200, 2))
    return DiffusionModel(sde="gbm", net="mlp:width=8,depth=1", steps=60, batch_size=16).fit(rows)


@pytest.fixture(scope="module")
def folder(model: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("hub") / "model"
    model.save_pretrained(path)
    return path


class Hub(BaseHTTPRequestHandler):
    """As much of the Hub as a download asks for: one repository at one commit."""

    files: ClassVar[dict[str, bytes]] = {}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        entries = [{"type": "file", "path": name, "oid": "0" * 40, "size": len(content)} for name, content in self.files.items()]
        siblings = [{"rfilename": name} for name in self.files]
        pages = {
            f"/api/models/me/prices/revision/{COMMIT}": {"id": "me/prices", "sha": COMMIT, "siblings": siblings},
            f"/api/models/me/prices/tree/{COMMIT}": entries,
        }
        name = path.removeprefix(f"/me/prices/resolve/{COMMIT}/")
        content = json.dumps(pages[path]).encode() if path in pages else self.files.get(name)
        self.send_response(404 if content is None else 200)
        if content is None:
            self.send_header("X-Error-Code", "RepoNotFound")
        elif path not in pages:
            Hub.asked.append(name)
            self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if body and content:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("huggingface_hub")
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "_cache", lambda: tmp_path / "cache")
    Hub.asked.clear()
    Hub.files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    Hub.files |= {"evil.pkl": b"cos\nsystem\n(S'false'\ntR.", "setup.py": b"raise SystemExit", "checkpoints/step-60/x.bin": b"x"}
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_folder_gives_the_model_back_and_has_a_card(model: DiffusionModel, folder: Path) -> None:
    found = DiffusionModel.from_pretrained(folder)
    np.testing.assert_array_equal(found.sample(5), model.sample(5))
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\nlibrary_name: sdezoo\n")
    for part in (
        "`dX = μ(t) X dt + σ(t) X dW`: Brownian in `log X`, so",
        "mlp:width=8",
        f'from_pretrained("{folder.name}")',
        "Not evaluated",
    ):
        assert part in card, part


def test_both_directions_of_a_bridge_come_back_from_the_files_that_are_taken(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    bridge = DiffusionModel(sde="bridge", net="mlp:width=8,depth=1", steps=2, rounds=2, batch_size=16).fit(rows, target=rows + 3)
    bridge.save_pretrained(tmp_path / "saved")
    for file in (at for at in (tmp_path / "saved").rglob("*") if at.is_file()):
        name = file.relative_to(tmp_path / "saved")
        if any(fnmatch(str(name), pattern) for pattern in hub._KEPT):
            (tmp_path / "taken" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "taken" / name).write_bytes(file.read_bytes())
    found = DiffusionModel.from_pretrained(tmp_path / "taken")
    for one, other in ((found.transform, bridge.transform), (found.inverse_transform, bridge.inverse_transform)):
        np.testing.assert_array_equal(one(rows[:5]), other(rows[:5]))
    card = (tmp_path / "taken" / "README.md").read_text(encoding="utf-8")
    for part in ("## Model, backward", "## Model, forward", "model.transform(rows)"):
        assert part in card, part


def test_a_repository_gives_the_model_and_its_data_alone(model: DiffusionModel, endpoint: str) -> None:
    found = DiffusionModel.from_pretrained("me/prices", COMMIT, endpoint=endpoint)
    np.testing.assert_array_equal(found.sample(5), model.sample(5))
    assert {name.rpartition(".")[2] for name in Hub.asked} <= {
        "safetensors",
        "json",
        "yaml",
        "md",
        "jsonl",
        "checkpoints/step-60/SHA256SUMS",
    }
    assert not {"evil.pkl", "setup.py", "checkpoints/step-60/x.bin"} & set(Hub.asked)


@pytest.mark.parametrize(
    ("source", "revision", "error", "words"),
    [
        ("me/prices", None, ParameterError, "no revision is given"),
        ("me/prices", "main", ParameterError, "'main' is no commit"),
        ("me/prices", COMMIT[:7], ParameterError, "is no commit"),
        ("me/nothing", COMMIT, RunError, "cannot be downloaded"),
        ("no such folder", None, RunError, "does not exist"),
        (str(Path(__file__).parent), None, RunError, "is not a run of sdezoo"),
        (".", COMMIT, ParameterError, "has no revision"),
    ],
)
def test_what_cannot_be_loaded_is_refused(endpoint: str, source: str, revision: str | None, error: type[SdezooError], words: str) -> None:
    with pytest.raises(error, match=words):
        DiffusionModel.from_pretrained(source, revision, endpoint=endpoint)


def test_an_upload_holds_the_model_and_its_card(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    seen = {}

    class Api:
        def __init__(self, **options: object) -> None:
            seen["options"] = options

        def create_repo(self, name: str, **options: object) -> None:
            seen["repository"] = (name, options["private"])

        def upload_folder(self, *, repo_id: str, folder_path: str, **_: object) -> object:
            seen["files"] = {path.name for path in Path(folder_path).rglob("*") if path.is_file()}
            seen["card"] = (Path(folder_path) / "README.md").read_text(encoding="utf-8")
            return type("Commit", (), {"oid": COMMIT})

    monkeypatch.setattr("huggingface_hub.HfApi", Api)
    assert model.push_to_hub("me/prices", endpoint="http://127.0.0.1:9") == COMMIT
    assert seen["repository"] == ("me/prices", True)
    assert {"README.md", "config.yaml", "ema.safetensors", "state.json", "SHA256SUMS"} <= seen["files"]
    assert 'from_pretrained("me/prices"' in seen["card"]
    with pytest.raises(ParameterError, match="no id of a repository"):
        model.push_to_hub("prices")


def test_without_the_library_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"sdezoo\[hub\]"):
        DiffusionModel.from_pretrained("me/prices", COMMIT)


@pytest.mark.parametrize("text", ["<script>", "[a](javascript:b)", "`x` | y", "# head\n# head", "![p](q)"])
def test_text_of_others_is_no_markup(text: str) -> None:
    shown = plain(text)
    assert "<" not in shown
    assert "\n" not in shown
    assert all(shown[i - 1] == "\\" for i, c in enumerate(shown) if c in "`[]()|#!")
