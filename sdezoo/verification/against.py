"""Our samplers beside those of another library: the same exact score, the same times, the same start and the same noise, in float64.

The data are eight normal components in the coordinates of an affine process (`problems.eight`), and sampling starts from exact states at
`t = hi`. What is compared are the final states: the largest difference between theirs and ours, in standard deviations of the data.
Where two methods are the same formula it is rounding: at most `ROUNDING`, or ten times what float32 makes of ours if the other library
takes its steps in float32. Where they are not, a note says what differs.

The error of a method without noise is the root mean square distance of its final states from those of the exact probability flow.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.problems import eight
from sdezoo.errors import CompositionError, ParameterError, PluginError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise, mix
from sdezoo.process.process import Process
from sdezoo.sampling.grid import grid
from sdezoo.verification.findings import Finding, number
from sdezoo.verification.peers import PEERS, Method, Setting

STEPS = 20
"""Number of steps if none is given."""

ROUNDING = 1e-10
"""Largest difference of two methods that are the same formula in float64."""

_STATES = 256
_NOISE = 1  # keys the noise of the steps apart from that of the start
_FACTOR = 10  # of the rounding of ours in float32, for a method that the other library runs in float32


@dataclass(frozen=True)
class Pair:
    """A method of theirs and ours, compared."""

    theirs: str
    """What the method is called there."""
    ours: str
    """Spec string of our sampler."""
    their_error: float | None
    """Root mean square distance from the exact flow, in standard deviations of the data; None: the method draws noise."""
    our_error: float | None
    """The same of ours."""
    difference: Finding
    """The largest difference of final states, in standard deviations of the data."""


@dataclass(frozen=True)
class Comparison:
    """Our samplers beside those of another library."""

    library: str
    """The other library."""
    spec: str
    """Spec string of the process."""
    steps: int
    """Number of steps."""
    seed: int
    """Of start and noise."""
    pairs: list[Pair]
    """The methods, compared."""

    @property
    def off(self) -> list[Finding]:
        """The differences outside their bounds."""
        return [pair.difference for pair in self.pairs if pair.difference.outcome == "off"]

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries."""
        return {name: version(name) for name in (self.library, "sdezoo", "torch")}

    def record(self) -> dict[str, Any]:
        """As a dictionary that can be written as JSON."""
        pairs = [
            {
                "theirs": pair.theirs,
                "ours": pair.ours,
                "their_error": None if pair.their_error is None else number(pair.their_error),
                "our_error": None if pair.our_error is None else number(pair.our_error),
                "difference": pair.difference.record(),
            }
            for pair in self.pairs
        ]
        return {**vars(self), "states": _STATES, "holds": not self.off, "pairs": pairs, "versions": self.versions}


@torch.no_grad()
def compare(library: str, sde: Process, *, steps: int = STEPS, seed: int = 0) -> Comparison:
    """Run our samplers beside those of another library.

    Args:
        library: Name of the library, one of `PEERS`.
        sde: The process.
        steps: Number of steps.
        seed: Of start and noise.

    Raises:
        PluginError: The library is unknown, not installed, or cannot be used.
        CompositionError: The library does not know the process.
        ParameterError: Fewer than two steps are asked for.
    """
    if library not in PEERS:
        raise PluginError(f"There is no comparison with '{library}'.", f"Choose one of: {', '.join(PEERS)}.")
    if steps < 2:
        raise ParameterError(f"Samplers cannot be compared in fewer than 2 steps, and {steps} was given.", "Take at least 2 steps.")
    if not isinstance(sde, AffineSDE) or tuple(sde.state_shape((1, 2))) != (1, 2):
        raise CompositionError(f"'{sde.title()}' is no process that other libraries know.", "Compare on an affine SDE, such as vp.")
    model = eight(sde)
    start = model.prior((_STATES, 2), Noise.seeded(seed), torch.empty((), dtype=torch.float64))
    setting = Setting(model, grid(sde, steps, "auto"), start, mix(seed, _NOISE))
    methods = PEERS[library](setting)
    spread = (model.weights @ (model.means**2 + model.deviations**2) - (model.weights @ model.means) ** 2).sqrt()
    return Comparison(library, sde.spec, steps, seed, [_pair(library, setting, method, spread) for method in methods])


def _pair(library: str, setting: Setting, method: Method, spread: Tensor) -> Pair:
    times = setting.times[:-1] if method.ends_at_lo else setting.times
    theirs, ours = method.run(), setting.ours(method.ours, times)

    def largest(z: Tensor) -> float:
        return float(((z - ours) / spread).abs().max())

    high = ROUNDING if method.same else None
    if method.single:
        high = _FACTOR * largest(setting.ours(method.ours, times, torch.float32))

    def error(z: Tensor) -> float | None:
        return None if method.noisy else float(((z - setting.flow[method.ends_at_lo]) / spread).square().mean().sqrt())

    difference = Finding(library, f"{method.theirs} against {method.ours}", largest(theirs), high=high, note=method.note)
    return Pair(method.theirs, method.ours, error(theirs), error(ours), difference)
