"""Tables of verifications: one process as text for a terminal, several side by side and other libraries in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from sdezoo.verification.against import Comparison
from sdezoo.verification.efficiency import ERROR, FLOOR
from sdezoo.verification.findings import Finding, columns
from sdezoo.verification.verify import Verification

_BESIDE = 6
_MARK = {"ok": "ok", "off": "OFF", "measured": "", "does not apply": ""}


def text(verification: Verification) -> str:
    """All results of one process, for a terminal."""
    lines = [f"{verification.spec}, on {verification.support}; seed {verification.seed}"]
    lines += [f"  {part}: {on}" for part, on in verification.setting.items()]
    part = ""
    for finding in verification.findings:
        if finding.part != part:
            part = finding.part
            lines += ["", f"{part:<64} {'measured':>17}  expected"]
        lines.append(_line(finding))
    curves = [curve for curve in verification.curves if curve.part == ERROR]
    if curves:
        heads, rows = columns(curves)
        lines += ["", f"{'Wasserstein-1 to the data, after evaluations':<46}" + "".join(f"{head:>9g}" for head in heads)]
        for curve, row in zip(curves, rows, strict=True):
            cells = ("" if head not in row else "left" if row[head] is None else f"{row[head]:.3g}" for head in heads)
            lines.append(f"  {curve.name:<44}" + "".join(f"{cell:>9}" for cell in cells))
    off = len(verification.off)
    lines += ["", f"{off} OFF" if off else "Everything is as expected.", f"{verification.seconds:.0f} s"]
    return "\n".join(lines)


def markdown(verifications: Sequence[Verification]) -> str:
    """A stamp, tables of the findings with a column for each process, a table of the sample errors, and the notes.

    Processes on which the same parts were measured stand side by side, at most six of them.
    """
    parts = list(dict.fromkeys(finding.part for v in verifications for finding in v.findings))
    groups: dict[tuple[bool, ...], list[Verification]] = {}
    notes: dict[str, list[str]] = {}
    for v in verifications:
        measured = {finding.part for finding in v.findings if finding.value is not None}
        groups.setdefault(tuple(part in measured for part in parts), []).append(v)
        for f in v.findings:
            if f.value is None:
                notes.setdefault(f"{f.part}, {f.what}: {f.note}", []).append(f"`{v.spec}`")
    few = [
        group[k : k + _BESIDE] for which, group in sorted(groups.items(), reverse=True) if any(which) for k in range(0, len(group), _BESIDE)
    ]
    blocks = [_stamp(verifications), *(_findings(group, parts) for group in few)]
    heads, _ = columns([curve for v in verifications for curve in v.curves if curve.part == ERROR])
    if heads:
        body = [row for v in verifications for row in _errors(v, heads)]
        blocks.append(_table(["error of samples over the floor, after evaluations", *(f"{head:g}" for head in heads)], body))
    blocks.append("\n".join(f"- {', '.join(specs)}; {note}" for note, specs in notes.items()))
    return "\n\n".join(blocks).rstrip() + "\n"


def beside(comparison: Comparison) -> str:
    """A stamp, and a table of the methods of another library and ours."""
    versions = ", ".join(f"{name} {version}" for name, version in comparison.versions.items())
    head = ["theirs", "ours", "their error", "our error", "difference", "expected", ""]
    rows = []
    for pair in comparison.pairs:
        errors = ["—" if error is None else f"{error:.6f}" for error in (pair.their_error, pair.our_error)]
        found = pair.difference
        rows.append([f"`{pair.theirs}`", f"`{pair.ours}`", *errors, _cell(found, beside=False), found.expected, found.note])
    stamp = f"`{comparison.spec}`, {comparison.steps} steps; seed {comparison.seed}; {versions}."
    return f"{stamp}\n\n{_table(head, rows)}\n"


def _stamp(verifications: Sequence[Verification]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in verifications[0].record()["versions"].items())
    seeds = sorted({v.seed for v in verifications})
    named = f"seed {seeds[0]}" if len(seeds) == 1 else f"seeds {', '.join(map(str, seeds))}"
    return f"Processes: {len(verifications)}; {named}; {versions}; {sum(v.seconds for v in verifications) / 60:.0f} min."


def _findings(verifications: Sequence[Verification], parts: Sequence[str]) -> str:
    rows: list[list[str]] = []
    every = [finding for v in verifications for finding in v.findings]
    for part, what in sorted(dict.fromkeys((f.part, f.what) for f in every), key=lambda key: parts.index(key[0])):
        found = [next((f for f in v.findings if (f.part, f.what) == (part, what)), None) for v in verifications]
        expected = {f.expected for f in found if f and f.value is not None}
        common = expected.pop() if len(expected) == 1 else None
        rows.append([f"{part}: {what}", common or "", *(_cell(f, beside=common is None) for f in found)])
    return _table(["", "expected", *(f"`{v.spec}`" for v in verifications)], rows)


def _line(finding: Finding) -> str:
    if finding.value is None:
        return f"  {finding.what:<64} {'-':>15}  {finding.note}"
    error = "" if finding.error is None else f" ± {finding.error:.1g}"
    value = f"{finding.value:.3g}{error}"
    tail = "; ".join(filter(None, (finding.expected, finding.note)))
    return f"  {finding.what:<62} {value:>17}  {tail}  {_MARK[finding.outcome]}".rstrip()


def _cell(finding: Finding | None, *, beside: bool) -> str:
    if finding is None:
        return ""
    if finding.value is None:
        return "—"
    value = f"{finding.value:.3g}"
    if beside and finding.expected:
        value += f" ({finding.expected})"
    return f"**{value}**" if finding.outcome == "off" else value


def _errors(verification: Verification, heads: Sequence[float]) -> list[list[str]]:
    curves = [curve for curve in verification.curves if curve.part == ERROR]
    if not curves:
        return []
    floor = verification.finding(ERROR, FLOOR).value or 1.0
    rows = []
    for curve, row in zip(curves, columns(curves)[1], strict=True):
        cells = {head: "left" if y is None else f"{y / floor:.1f}" for head, y in row.items()}
        rows.append([f"`{verification.spec}` {curve.name}", *(cells.get(head, "") for head in heads)])
    return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
