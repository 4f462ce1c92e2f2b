"""Our samplers beside those of other libraries: the same numbers where the methods are the same, and a refusal where there is none."""

import json
import sys

import pytest
import torch

from sdezoo.errors import CompositionError, ParameterError, PluginError
from sdezoo.verification import against
from sdezoo.verification.against import ROUNDING, compare
from sdezoo.verification.peers import PEERS, Method
from sdezoo.verification.tables import beside
from sdezoo.zoo.registry import SDES

VP = SDES.build("vp")
EXTRAS = {"diffusers": "diffusers", "azula": "bench"}


def outcomes(comparison):
    return {(pair.theirs, pair.ours): pair.difference.outcome for pair in comparison.pairs}


def test_the_schedulers_of_diffusers_and_ours_are_the_same_formulas():
    pytest.importorskip("diffusers", reason="the extra diffusers is not installed")
    before = torch.get_rng_state()
    found = compare("diffusers", VP, steps=6)
    assert outcomes(found) == {
        ("DDIMScheduler", "ddim"): "ok",
        ("DDPMScheduler", "ancestral"): "ok",
        ("DPMSolverMultistepScheduler", "dpmpp-2m"): "ok",
        ("DPMSolverMultistepScheduler, sde-dpmsolver++", "dpmpp-2m-sde"): "ok",
        ("HeunDiscreteScheduler", "heun"): "ok",
        ("UniPCMultistepScheduler", "unipc"): "ok",
        ("UniPCMultistepScheduler", "unipc:weights=exact"): "measured",
    }
    assert {pair.difference.high == ROUNDING for pair in found.pairs if not pair.difference.note} == {True}
    assert max(pair.difference.high or 0 for pair in found.pairs) < 1e-3
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("spec", ["vp", "ve"])
def test_the_samplers_of_azula_and_ours_are_the_same_formulas(spec):
    pytest.importorskip("azula", reason="the extra bench is not installed")
    before = torch.get_rng_state()
    found = compare("azula", SDES.build(spec), steps=6)
    assert set(outcomes(found)) == {
        ("DDIMSampler", "ddim"),
        ("EulerSampler", "ddim"),
        ("DDPMSampler", "ancestral"),
        ("HeunSampler", "heun"),
    }
    assert not found.off
    assert {pair.difference.high for pair in found.pairs} == {ROUNDING}
    assert torch.equal(torch.get_rng_state(), before)


def stand_in(monkeypatch, *methods):
    """In place of the libraries, `methods` of a setting under the name of torch."""
    monkeypatch.setitem(PEERS, "torch", lambda setting: [method(setting) for method in methods])


def test_another_formula_is_off_and_rounding_is_not(monkeypatch):
    """`ancestral` is `ddim:eta=1` by the same noise; one part in 10⁸ is too much in float64, and is rounding in float32."""
    stand_in(
        monkeypatch,
        lambda s: Method("the same", "ancestral", lambda: s.ours("ddim:eta=1", s.times), noisy=True),
        lambda s: Method("another", "ddim", lambda: s.ours("heun", s.times)),
        lambda s: Method("another, and said so", "ddim", lambda: s.ours("heun", s.times), same=False),
        lambda s: Method("near", "ddim", lambda: s.ours("ddim", s.times) * (1 + 1e-8)),
        lambda s: Method("near, in float32", "ddim", lambda: s.ours("ddim", s.times) * (1 + 1e-8), single=True),
        lambda s: Method("far, in float32", "ddim", lambda: s.ours("ddim", s.times) * (1 + 1e-3), single=True),
        lambda s: Method("without an answer", "ddim", lambda: s.start * torch.nan),
        lambda s: Method("to lo", "ddim", lambda: s.ours("ddim", s.times[:-1]), ends_at_lo=True),
        lambda s: Method("the flow itself", "heun", lambda: s.flow[False], same=False),
    )
    found = compare("torch", VP, steps=3)
    assert list(outcomes(found).values()) == ["ok", "off", "measured", "off", "ok", "off", "off", "ok", "measured"]
    assert len(found.off) == 4
    same, another, *_, flow = found.pairs
    assert (same.their_error, same.our_error, flow.their_error) == (None, None, 0.0)
    assert another.their_error == flow.our_error != another.our_error
    record = json.loads(json.dumps(found.record(), allow_nan=False))
    assert record["holds"] is False
    assert record["pairs"][0]["difference"]["expected"] == "≤ 1e-10"
    head, _, names, _, first, *_ = beside(found).splitlines()
    assert head.startswith("`vp`, 3 steps; seed 0; torch ")
    assert names.startswith("| theirs | ours | their error | our error | difference |")
    assert first.startswith("| `the same` | `ancestral` | — | — |")


@pytest.mark.parametrize("library", EXTRAS)
def test_a_library_that_is_missing_or_broken_is_said(monkeypatch, tmp_path, library):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(PluginError, match=f"{library} is not installed") as missing:
        compare(library, VP)
    assert missing.value.remedy == f'Install it: pip install "sdezoo[{EXTRAS[library]}]".'

    monkeypatch.delitem(sys.modules, library)
    (tmp_path / f"{library}.py").write_text("raise ValueError('out of tea')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(PluginError, match=r"cannot be used \(ValueError: out of tea\)"):
        compare(library, VP)


@pytest.mark.parametrize(
    ("library", "spec", "steps", "error", "problem"),
    [
        ("torch", "vp", 20, PluginError, "no comparison with 'torch'"),
        ("azula", "vp", 1, ParameterError, "fewer than 2 steps, and 1 was given"),
        ("azula", "heston", 20, CompositionError, "'heston' is no process that other libraries know"),
        ("azula", "gbm:mu=0.7", 20, CompositionError, "'gbm' has a shift"),
        ("diffusers", "ve", 20, CompositionError, "'ve' does not keep α² \\+ σ² = 1"),
    ],
)
def test_what_cannot_be_compared_is_refused(library, spec, steps, error, problem):
    with pytest.raises(error, match=problem):
        compare(library, SDES.build(spec), steps=steps)


def test_the_defaults_are_those_of_the_help():
    from sdezoo_cli.plugins import verify

    text = " ".join(str(annotation) for annotation in verify.verify.__annotations__.values())
    assert f"Default: {against.STEPS}." in text
    assert all(library in text for library in PEERS)
