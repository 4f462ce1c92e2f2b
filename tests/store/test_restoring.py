"""A trained model is rebuilt from its folder: plugins run as ever, their faults are theirs, and no file asks for more than it holds."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sdezoo import NETWORKS, SDES, ForwardSDE
from sdezoo.errors import RunError
from sdezoo.learning.network import Network
from sdezoo.parameters import Count
from sdezoo.runs.train import train
from sdezoo.store import checkpoint
from sdezoo.store.restoring import MisfitError, no_larger_than, restore
from sdezoo.training.config import TrainingConfig

SPREAD = torch.tensor([2.0])


@dataclass(frozen=True)
class Spread(ForwardSDE):
    """An Ornstein–Uhlenbeck process whose network sees the state over a tensor that the plugin holds."""

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return -3 * z

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.full_like(z, 6**0.5)

    def prior(self, shape: Any, noise: Any, like: Tensor) -> Tensor:
        return noise.normal(like, shape)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        return z / SPREAD.to(z.dtype)


@dataclass(frozen=True)
class Square(Network):
    """A linear map with a matrix that is drawn before it is registered, scaled by a tensor that the plugin holds."""

    width: Count = 13

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        return SquareModule(shape[0], self.width)


class SquareModule(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.inner = nn.Parameter(torch.randn(width, width) * SPREAD)
        self.enter, self.leave = nn.Linear(size, width), nn.Linear(width, size)

    def forward(self, x: Tensor, level: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.leave(self.enter(x) @ self.inner)


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    names = [(registry, registry.add(cls, "a test")) for registry, cls in ((SDES, Spread), (NETWORKS, Square))]
    yield
    for registry, name in names:
        registry.remove(name)


def run(folder: Path, **values: Any) -> Path:
    settings = {"sde": "spread", "loss": "sliced-sm", "net": "square", "data": "wine", "steps": 2, "batch_size": 8, "device": "cpu"}
    return train(TrainingConfig.build({**settings, "out": str(folder), **values})).run


def forge(run: Path, **values: Any) -> None:
    """Write other entries into `state.json`, and the sums anew."""
    folder = checkpoint.newest(run)
    assert folder is not None
    state = json.loads((folder / "state.json").read_text())
    (folder / "state.json").write_text(json.dumps({**state, **values}))
    parts = sorted({*folder.iterdir()} - {folder / "SHA256SUMS"})
    (folder / "SHA256SUMS").write_text("".join(f"{hashlib.sha256(part.read_bytes()).hexdigest()}  {part.name}\n" for part in parts))


def test_plugins_with_tensors_of_their_own_are_restored(tmp_path: Path) -> None:
    trained = restore(run(tmp_path / "run"))
    saved = checkpoint.read_tensors(checkpoint.folder_of(tmp_path / "run", 2), "ema")
    weights = trained.model.state_dict()
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], values) for name, values in saved.items())
    assert trained.model.score(torch.ones(3, *trained.state.event), torch.tensor(0.5)).isfinite().all()


@pytest.mark.parametrize(("cls", "hook"), [(Spread, "network_input"), (Square, "module")])
def test_a_plugin_that_fails_is_named_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: type, hook: str) -> None:
    folder = run(tmp_path / "run")

    def failing(*_: Any) -> None:
        raise RuntimeError("the moon is in the way")

    monkeypatch.setattr(cls, hook, failing)
    with pytest.raises(RunError, match="RuntimeError: the moon is in the way") as error:
        restore(folder)
    assert "damaged" not in str(error.value)
    assert "spread" in error.value.remedy
    assert "square" in error.value.remedy


@pytest.mark.parametrize(
    "values",
    [
        {"net": "mlp:width=14,depth=1"},
        {"net": "mlp:width=10000000,depth=1"},
        {"net": "mlp:width=13,depth=1000000000"},
        {"net": "square:width=1000000"},
        {"event": [2**40]},
    ],
    ids=str,
)
def test_a_state_that_asks_for_more_than_the_checkpoint_holds_is_damaged(tmp_path: Path, values: dict[str, Any]) -> None:
    folder = run(tmp_path / "run", net="square" if "square" in str(values) else "mlp:width=13,depth=1")
    forge(folder, **values)
    with pytest.raises(RunError, match="damaged"):
        restore(folder)


def test_what_is_too_large_is_refused_before_memory_is_filled() -> None:
    """512 MB, of numbers that are drawn before the first is registered."""
    with pytest.raises(MisfitError, match=f"a tensor with {2**27} elements"), no_larger_than({}):
        torch.randn(2**14, 2**13)


def test_only_what_is_rebuilt_is_counted() -> None:
    """Modules that another thread builds in the meantime, and tensors that are no parameters, are of no concern."""
    started, done = Event(), Event()

    def other() -> None:
        started.wait()
        nn.Linear(100, 100)
        done.set()

    thread = Thread(target=other)
    thread.start()
    with no_larger_than({"weight": torch.zeros(4, 3), "bias": torch.zeros(4)}):
        started.set()
        assert done.wait(10)
        nn.Linear(3, 4).register_buffer("table", torch.zeros(1000))
        with pytest.raises(MisfitError):
            nn.Linear(1, 1)
    thread.join()
    nn.Linear(1, 1)
