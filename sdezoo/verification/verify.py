"""Verification: measure a process against an independent solver, closed forms and the data.

There are five parts, all on data with an exact score: the cross-check of the reverse SDE with torchsde (`cross_check`),
weak orders (`convergence`), error against evaluations (`efficiency`), and the prior gap and the likelihood (`densities`).
A measurement that does not apply to a process is a finding too, with the reason.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from sdezoo.errors import SdezooError
from sdezoo.process.process import Process
from sdezoo.process.torchsde_bridge import brownian_interval
from sdezoo.verification import convergence, densities, efficiency
from sdezoo.verification.cross_check import STRONG, Ladder, cross_check
from sdezoo.verification.findings import Curve, Finding, Part
from sdezoo.verification.paths import BrownianFactory, drawn
from sdezoo.zoo.composition import support_in_words


@dataclass(frozen=True)
class Effort:
    """The amount of work. The defaults give orders to within a few hundredths."""

    paths: int = 1000
    """Number of paths of the cross-check."""
    ladder: Ladder = field(default_factory=Ladder)
    """Numbers of steps of the cross-check."""
    interval: bool = True
    """If True, use torchsde's own Brownian motion; else sample all increments at once."""
    weak_steps: Sequence[int] = convergence.STEPS
    """Numbers of steps for weak orders."""
    weak_paths: int = convergence.COUNT
    """Number of paths for the weak order of a sampler that is not linear."""
    evaluations: Sequence[int] = efficiency.COUNTS
    """Numbers of evaluations of the score at which the error is measured."""
    samples: int = efficiency.ROWS
    """Number of samples for each error."""
    flow_steps: int = densities.STEPS
    """Number of steps of the probability flow."""


@dataclass(frozen=True)
class Verification:
    """The results for one process."""

    spec: str
    """Spec string of the process."""
    full_spec: str
    """Spec string with every hyper-parameter."""
    title: str
    """Name of the process."""
    support: str
    """Its support, in words."""
    seed: int
    """Of paths and samples."""
    setting: dict[str, str]
    """By part: the data and times that it was measured on, in words."""
    findings: list[Finding]
    """The measured numbers, sorted by part."""
    curves: list[Curve]
    """The curves behind them."""
    seconds: float
    """Wall-clock time."""

    @property
    def off(self) -> list[Finding]:
        """The findings outside their bounds."""
        return [finding for finding in self.findings if finding.outcome == "off"]

    def finding(self, part: str, what: str) -> Finding:
        """Look up a finding.

        Args:
            part: Its part, for example `strong order`.
            what: Start of its text; the first finding that matches is returned.

        Raises:
            KeyError: There is no such finding.
        """
        for finding in self.findings:
            if finding.part == part and finding.what.startswith(what):
                return finding
        raise KeyError(f"{part}: {what}")

    def record(self) -> dict[str, Any]:
        """As a dictionary that can be written as JSON."""
        return {
            **vars(self),
            "holds": not self.off,
            "findings": [finding.record() for finding in self.findings],
            "curves": [curve.record() for curve in self.curves],
            "versions": {"python": platform.python_version(), **{name: version(name) for name in ("sdezoo", "torch", "torchsde")}},
        }


def verify(
    sde: Process, *, seed: int = 0, effort: Effort | None = None, progress: Callable[[int, int, str], None] | None = None
) -> Verification:
    """Measure everything that applies to a process.

    A part that raises becomes a finding that is off, with the exception as its note.

    Args:
        sde: The process, with its current hyper-parameters.
        seed: Of paths and samples.
        effort: Amount of work; None: the defaults.
        progress: Called with the number of parts done, the number of all parts, and a description of what comes next.
    """
    began, chosen = time.perf_counter(), effort or Effort()
    factory: BrownianFactory = partial(brownian_interval, seed=seed) if chosen.interval else drawn(chosen.ladder.finest, seed)
    steps = {"steps": chosen.weak_steps, "count": chosen.weak_paths}
    parts: dict[str, Callable[[Callable[[str], None]], Part]] = {
        STRONG: lambda notify: cross_check(sde, factory, chosen.paths, chosen.ladder, seed, notify),
        convergence.WEAK: lambda notify: convergence.weak(sde, seed, notify, **steps),
        efficiency.ERROR: lambda notify: efficiency.efficiency(sde, seed, notify, counts=chosen.evaluations, rows=chosen.samples),
        densities.PRIOR: lambda _: densities.prior_gap(sde, seed),
        densities.LIKELIHOOD: lambda notify: densities.likelihood(sde, seed, notify, steps=chosen.flow_steps),
    }
    whole = Part()
    for done, (name, measure) in enumerate(parts.items()):

        def notify(what: str, done: int = done) -> None:
            if progress:
                progress(done, len(parts), what)

        notify(name)
        part = _guarded(name, lambda measure=measure, notify=notify: measure(notify))
        whole.findings += part.findings
        whole.curves += part.curves
        whole.setting |= part.setting
    if progress:
        progress(len(parts), len(parts), "")
    order = list(dict.fromkeys(finding.part for finding in whole.findings))
    return Verification(
        spec=sde.spec,
        full_spec=sde.full_spec,
        title=sde.title(),
        support=support_in_words(sde.support),
        seed=seed,
        setting=whole.setting,
        findings=sorted(whole.findings, key=lambda finding: order.index(finding.part)),
        curves=whole.curves,
        seconds=time.perf_counter() - began,
    )


def _guarded(name: str, measure: Callable[[], Part]) -> Part:
    try:
        return measure()
    except SdezooError as error:
        note = f"{error.problem} {error.remedy}"
    except Exception as error:  # a plugin may raise anything
        note = f"raises {type(error).__name__}: {error}"
    return Part([Finding(name, "all of it", float("nan"), note=note)])
