"""Verification: a process measured against an independent solver, against closed forms, and against the data.

Five parts, each of them on data whose score is exact: the reversal cross-checked with torchsde (`cross_check`), weak orders
(`convergence`), error against evaluations (`efficiency`), and the prior and the likelihood (`densities`). What does
not apply to a process is a finding too, with its reason.
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
    """How much is measured. The defaults give orders to within a few hundredths."""

    paths: int = 1000
    ladder: Ladder = field(default_factory=Ladder)
    interval: bool = True
    """Whether the paths are those of torchsde's own Brownian motion; otherwise they are drawn at once."""
    weak_steps: Sequence[int] = convergence.STEPS
    weak_paths: int = convergence.COUNT
    evaluations: Sequence[int] = efficiency.COUNTS
    samples: int = efficiency.ROWS
    flow_steps: int = densities.STEPS


@dataclass(frozen=True)
class Verification:
    """What was found of one process."""

    spec: str
    full_spec: str
    title: str
    support: str
    seed: int
    setting: dict[str, str]
    """What each part was measured on."""
    findings: list[Finding]
    curves: list[Curve]
    seconds: float

    @property
    def off(self) -> list[Finding]:
        """The findings outside their bounds."""
        return [finding for finding in self.findings if finding.outcome == "off"]

    def finding(self, part: str, what: str) -> Finding:
        """The first finding of `part` whose text starts with `what`.

        Raises:
            KeyError: where there is none.
        """
        for finding in self.findings:
            if finding.part == part and finding.what.startswith(what):
                return finding
        raise KeyError(f"{part}: {what}")

    def record(self) -> dict[str, Any]:
        """As JSON holds it."""
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
    """Measure everything that can be measured of `sde`.

    Args:
        sde: the process, at the hyper-parameters that it has. seed: of paths and samples. effort: how much is measured.
        progress: called with the parts that are done, their number, and what comes next.
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
    except Exception as error:  # somebody's process may raise anything
        note = f"raises {type(error).__name__}: {error}"
    return Part([Finding(name, "all of it", float("nan"), note=note)])
