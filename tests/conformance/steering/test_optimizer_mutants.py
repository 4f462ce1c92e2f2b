"""Optimizers with one plausible mistake each are found by the law that they break; the right ones obey all."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from sdezoo import OPTIMIZERS, Optimizer
from sdezoo.conformance.law import LawError
from sdezoo.conformance.steering.optimizer_laws import OPTIMIZER_LAWS
from sdezoo.parameters import NonNegative
from sdezoo_plugins.optimizers.adamw import AdamW
from sdezoo_plugins.optimizers.hebbian_projection import HebbianProjection
from tests.conformance.trying import try_law


class Steps(torch.optim.Optimizer):
    """Gradient descent with momentum, with the mistakes that it is given."""

    def __init__(self, parameters: Any, lr: float, *mistakes: str) -> None:
        super().__init__(parameters, {"lr": lr})
        self.mistakes, self.hidden, self.seed = mistakes, {}, 0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                gradient = p.grad.nan_to_num() if "hides" in self.mistakes else p.grad
                kept = self.hidden if "forgets" in self.mistakes else self.state[p]
                key = id(p) if "forgets" in self.mistakes else "mean"
                kept[key] = kept.get(key, torch.zeros_like(p)) * 0.8 + gradient
                sign = -1 if "climbs" in self.mistakes else 1
                sign = -1 if "stumbles" in self.mistakes and p.ndim == 1 else sign
                rate = 1000 * group["lr"] ** 2 if "squares" in self.mistakes else group["lr"]
                p.sub_(kept[key], alpha=0.0 if "flips" in self.mistakes else sign * rate)
                if "draws" in self.mistakes:
                    p.add_(torch.randn_like(p), alpha=1e-6)
                if "steady" in self.mistakes:
                    p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(self.seed)), alpha=1e-6)
                if "spends" in self.mistakes:
                    p.grad.mul_(0.5)
                if "repeats" in self.mistakes:
                    p.add_(torch.randn(p.shape, generator=torch.Generator().manual_seed(0)), alpha=1e-6)
                if "swells" in self.mistakes:
                    p.mul_(1 + 5 * group["lr"])
                if "flips" in self.mistakes and p.ndim > 1:
                    p.copy_(p.abs() * -p.grad.sign())


def mutant(law: str, *mistakes: str, claims: str | None = None) -> Any:
    @dataclass(frozen=True)
    class Mutant(Optimizer):
        keeps = claims  # pyright: ignore[reportAssignmentType]

        def build(self, module: Any, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
            parameters = list(module.parameters())
            found = Steps(parameters[:-1] if "misses" in mistakes else parameters, lr, *mistakes)
            found.seed = seed
            return found

    return pytest.param(Mutant, law, id=f"{law}-{'-'.join((*mistakes, claims or ''))}")


@dataclass(frozen=True)
class Inconstant(Optimizer):
    """Its spec string builds another object."""

    lost: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "lost", self.lost + 1)

    def build(self, module: Any, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        return Steps(module.parameters(), lr)


@dataclass(frozen=True)
class Undecayed(AdamW):
    """Weights do not decay, whatever is given."""

    def build(self, module: Any, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        return AdamW(self.beta1, self.beta2, 0.0).build(module, lr, steps=steps, seed=seed)


@dataclass(frozen=True)
class Uncounted(AdamW):
    """A whole number that nothing looks at."""

    warmup: int = 3


@dataclass(frozen=True)
class LastRunAlone(HebbianProjection):
    """What the run before the last one left is given up."""

    def inherit(self, optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
        super().inherit(optimizer, {key: value for key, value in tensors.items() if not key.endswith("former")})


@dataclass(frozen=True)
class NeverUndecayed(AdamW):
    """The default decay for a decay of 0."""

    decay: NonNegative = 0.5

    def build(self, module: Any, lr: float, *, steps: int = 1, seed: int = 0) -> torch.optim.Optimizer:
        return torch.optim.SGD(module.parameters(), lr, weight_decay=self.decay or 0.5)


MUTANTS = [
    pytest.param(NeverUndecayed, "zero-is-a-number", id="zero-is-a-number"),
    pytest.param(Inconstant, "config-round-trip", id="config-round-trip"),
    pytest.param(Undecayed, "every-parameter-counts", id="every-parameter-counts"),
    pytest.param(Uncounted, "every-whole-number-is-read", id="every-whole-number-is-read"),
    pytest.param(LastRunAlone, "what-is-inherited-is-kept", id="what-is-inherited-is-kept"),
    mutant("contract", "misses"),
    mutant("descends-on-a-quadratic", "climbs"),
    mutant("every-parameter-descends", "stumbles"),
    mutant("steps-follow-the-rate", "squares"),
    mutant("keeps-what-it-says", claims="signs"),
    mutant("keeps-what-it-says", claims="magnitudes"),
    mutant("keeps-what-it-says", "flips", claims="magnitudes"),
    mutant("restored-bit-for-bit", "forgets"),
    mutant("seeded-noise-only", "draws"),
    mutant("seeded-noise-only", "repeats"),
    mutant("seeded-noise-only", "steady"),
    mutant("gradients-stay", "spends"),
    mutant("idle-steps-grow-nothing", "swells"),
    mutant("what-is-not-a-number-shows", "hides"),
]


@pytest.mark.parametrize(("kind", "law"), MUTANTS)
def test_mutant_is_killed(kind: Any, law: str) -> None:
    (bound,) = [bound for bound in OPTIMIZER_LAWS.bind(kind()) if bound.__name__ == law]
    with pytest.raises(LawError):
        bound()


def test_every_law_kills_a_mutant() -> None:
    assert {param.values[1] for param in MUTANTS} == set(OPTIMIZER_LAWS.names)


@pytest.mark.parametrize("law", OPTIMIZER_LAWS.names)
@pytest.mark.parametrize("name", OPTIMIZERS.names())
def test_law(name: str, law: str) -> None:
    try_law(OPTIMIZER_LAWS, law, OPTIMIZERS.build(name))
