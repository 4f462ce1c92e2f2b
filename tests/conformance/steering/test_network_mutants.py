"""Networks with one plausible mistake each are found by the law that they break; the right ones obey all."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

from sdezoo import NETWORKS, Network
from sdezoo.conformance.law import LawError
from sdezoo.conformance.steering.architecture_laws import ARCHITECTURE_LAWS
from sdezoo.parameters import Count, Fraction
from tests.conformance.trying import try_law


class Net(nn.Module):
    """Random Fourier features of the level, a label, two layers and a residual, with the mistakes that it is given."""

    def __init__(self, rule, shape, classes):
        super().__init__()
        self.mistakes, self.gate, self.calls, width = rule.mistakes, rule.gate, 0, rule.width
        self.turns = 1 if "one-depth" in self.mistakes and not rule.gate else rule.turns  # it counts beside another choice alone
        frequencies = torch.randn(4)
        if "keeps-aside" in self.mistakes:
            self.frequencies = frequencies
        else:
            self.register_buffer("frequencies", frequencies)
        self.enter, self.told = nn.Linear(torch.Size(shape).numel(), width), nn.Linear(8, width)
        self.middle, self.leave = nn.Linear(width, width), nn.Linear(width, torch.Size(shape).numel())
        self.table = None if classes is None else nn.Embedding(classes + ("no-row" not in self.mistakes), width)
        own = "own-dropout" in self.mistakes or ("falls-back" in self.mistakes and not rule.dropout)
        self.dropout = nn.Dropout(0.1 if own else rule.dropout)
        self.none = 0 if "class-for-none" in self.mistakes else classes
        if "starts-anywhere" not in self.mistakes:
            nn.init.zeros_(self.leave.weight)
            nn.init.zeros_(self.leave.bias)

    def forward(self, x, level, condition=None):
        if "clamps" in self.mistakes:
            level = level.clamp(-1, 1)
        if "first-level" in self.mistakes:
            level = level[:1].expand(len(level))
        flat = x.flatten(1)
        if "changes" in self.mistakes:
            flat.add_(0.0).mul_(1.0 + 1e-3)
        if "masks" in self.mistakes:
            flat = torch.cat([flat[:, :-1], 0 * flat[:, -1:]], 1)
        if "centres" in self.mistakes:
            flat = flat - flat.mean(0)
        angles = level[:, None] * self.frequencies
        h = self.enter(flat.detach() / 2 + flat / 2 if "detaches" in self.mistakes else flat)
        h = h + self.told(torch.cat([angles.cos(), angles.sin()], 1))
        if self.table is not None and "ignores-labels" not in self.mistakes:
            h = h + self.table(torch.full((len(x),), self.none) if condition is None else condition)
        if "forgets-a-layer" not in self.mistakes:
            more = h
            for _ in range(self.turns):
                more = self.middle(nn.functional.silu(more))
            if "drops-always" in self.mistakes:
                more = nn.functional.dropout(more, 0.1)
            h = h + self.dropout(more) + (0.5 if "switches" in self.mistakes and self.gate else self.gate) * h.sin()
        if "remembers" in self.mistakes:
            self.calls += 1
            h = h * (1 + 0.01 * self.calls)
        out = self.leave(nn.functional.silu(h))
        return (out.clamp(-0.05, 0.05) if "clips" in self.mistakes else out).reshape(x.shape)


@dataclass(frozen=True)
class Perceptron(Network):
    """A perceptron for rows of any shape."""

    width: Count | None = None
    dropout: Fraction = 0.1
    gate: Fraction = 0.0
    turns: Count = 1
    mistakes = ()

    def sized(self, shape, rows):
        if "grows" in self.mistakes:
            return replace(self, width=2 * (self.width or 16))
        return replace(self, width=self.width or (16 if rows < 500 else 32))

    def module(self, shape, classes=None):
        if "vectors-alone" in self.mistakes and len(shape) != 1:
            raise ValueError("vectors alone")
        width = 32 if "one-width" in self.mistakes else self.width or 32
        return Net(replace(self, width=width), shape, classes)


def _wrong(*mistakes):
    @dataclass(frozen=True)
    class Wrong(Perceptron):
        pass

    Wrong.mistakes = mistakes
    return Wrong()


MUTANTS = {
    "starts-anywhere": "contract",
    "changes": "contract",
    "no-row": "contract",
    "vectors-alone": "contract",
    "own-dropout": "every-parameter-counts",
    "switches": "every-parameter-counts",
    "falls-back": "zero-is-a-number",
    "one-width": "every-parameter-counts",
    "one-depth": "every-parameter-counts",
    "centres": "rows-are-independent",
    "first-level": "rows-are-independent",
    "clamps": "levels-are-told-apart",
    "ignores-labels": "labels-are-told-apart",
    "class-for-none": "labels-are-told-apart",
    "masks": "every-entry-is-seen",
    "drops-always": "answers-are-fixed",
    "remembers": "answers-are-fixed",
    "keeps-aside": "restored",
    "forgets-a-layer": "every-weight-is-trained",
    "detaches": "derivative-is-that-of-the-output",
    "clips": "learns-what-depends-on-the-level",
    "grows": "sized-once",
}


@pytest.mark.parametrize(("mistake", "law"), MUTANTS.items(), ids=[f"{law}-{mistake}" for mistake, law in MUTANTS.items()])
def test_the_mutant_is_killed(mistake, law):
    with pytest.raises(LawError):
        try_law(ARCHITECTURE_LAWS, law, _wrong(mistake))


RIGHT = [Perceptron(), Perceptron(width=8, gate=0.3), *map(NETWORKS.build, ("mlp", "transformer", "unet1d:width=8", "unet:width=8"))]


@pytest.mark.parametrize("law", ARCHITECTURE_LAWS.names)
@pytest.mark.parametrize("network", RIGHT, ids=lambda network: network.spec)
def test_a_right_network_obeys_the_law(network, law):
    try_law(ARCHITECTURE_LAWS, law, network)


def test_a_network_that_takes_no_shape_is_excused():
    @dataclass(frozen=True)
    class Picky(Perceptron):
        def refuses(self, shape):
            return "needs rows of a million entries"

    outcomes = {one.law: one.outcome for one in ARCHITECTURE_LAWS.verdicts(Picky())}
    assert set(outcomes.values()) == {"holds", "excused"}
    assert outcomes["restored"] == "excused"
