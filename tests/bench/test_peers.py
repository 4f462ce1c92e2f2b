"""Other libraries: called as they are, and named where they are missing."""

import importlib

import pytest

from sdezoo.bench import peers
from sdezoo.bench.peers import NOT_INSTALLED, theirs
from sdezoo.bench.steps import step_costs
from sdezoo.bench.tiny import TinyMLP, calls_of

STEPS = 6
CALLS = {
    ("torchsde", "euler"): STEPS + 1,  # it asks once for the shapes
    ("diffusers", "DDIM"): STEPS,
    ("diffusers", "DPMSolverMultistep"): STEPS,
    ("diffusers", "EDMDPMSolverMultistep"): STEPS,
    ("azula", "DDIM"): STEPS,
    ("azula", "Heun"): 2 * STEPS,
}


@pytest.mark.parametrize("library", ["torchsde", "diffusers", "azula"])
def test_a_peer_calls_the_network_once_a_step_and_returns_finite_numbers(library):
    pytest.importorskip(library)
    net = TinyMLP()
    found = [one for one in theirs(net, STEPS)[0] if one.library == library]
    assert {(one.library, one.sampler) for one in found} == {key for key in CALLS if key[0] == library}
    for one in found:
        sample = one.prepare()
        assert calls_of(net, sample) == CALLS[one.library, one.sampler]
        x = sample()
        assert x.shape == (64, 2)
        assert x.isfinite().all()
        assert not x.requires_grad


def without(monkeypatch, error):
    """`importlib` raises `error(name)` for everything but torchsde, which sdezoo itself needs."""

    def missing(name):
        raise error(name)

    monkeypatch.setattr(importlib, "import_module", missing)


def test_what_is_not_installed_is_named_with_the_way_to_install_it(monkeypatch):
    without(monkeypatch, lambda name: ModuleNotFoundError(f"No module named '{name}'", name=name.partition(".")[0]))
    rows = step_costs(["gbm"], 0, lambda *_, **__: None, steps=2, passes=1, rounds=1).rows
    assert {row["library"]: row["note"] for row in rows if "note" in row} == {"diffusers": NOT_INSTALLED, "azula": NOT_INSTALLED}
    assert 'pip install "sdezoo[bench]"' in NOT_INSTALLED
    assert any(row["library"] == "torchsde" and row["of_fastest_peer"] == 1 for row in rows)


@pytest.mark.parametrize(
    "error",
    [
        lambda name: ModuleNotFoundError("No module named 'tqdm'", name="tqdm"),
        lambda name: RuntimeError("tqdm is broken"),
        lambda name: AttributeError("no tqdm"),
    ],
)
def test_what_is_installed_and_broken_is_not_called_missing(monkeypatch, error):
    without(monkeypatch, error)
    missing = peers.theirs(TinyMLP(), STEPS)[1]
    assert set(missing) == {"diffusers", "azula"}
    assert all(why.startswith("cannot be used: ") and "tqdm" in why for why in missing.values())
