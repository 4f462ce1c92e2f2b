"""The cross-check with torchsde: equality on one path, and strong orders, for geometric Brownian motion with an exact score."""

import math
from functools import cache, partial

import pytest
import torch

from sdezoo.process.torchsde_bridge import PathBrownian, brownian_interval, intervals
from sdezoo.verification.cross_check import EQUALITY, LIMIT, STRONG, Ladder, cross_check, normals_a_step
from sdezoo.verification.findings import Finding, order
from sdezoo.verification.paths import bent, drawn, follow, stretch
from sdezoo.zoo.registry import SAMPLERS, SDES
from tests.process.edges import BetweenWalls, Kinetic, Stable

PAPER = "gbm:sigma=0.8"
POSITIVE = [PAPER, "gbm", "gbm:sigma=0.8,mu=0.1"]
BANDS = {"euler": (0.4, 0.6), "milstein": (0.9, 1.1), "srk": (1.25, math.inf)}


@cache
def paths(spec, finest=128, count=200):
    return follow(SDES.build(spec), drawn(finest, 0), count, finest, 0)


def quiet(_):
    pass


def found(part, kind):
    return {finding.what.partition(",")[0]: finding for finding in part.findings if finding.part == kind}


@pytest.mark.parametrize("spec", POSITIVE)
@torch.no_grad()
def test_torchsde_euler_is_the_multiplicative_sampler(spec):
    p, sampler = paths(spec), SAMPLERS.build("multiplicative")
    view = sampler.view(p.model)
    ours, theirs = p.by_sampler(sampler, view, 128), p.by_torchsde(view, "euler", 128)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)


@pytest.mark.parametrize("spec", POSITIVE)
@torch.no_grad()
def test_torchsde_milstein_is_the_closed_form(spec):
    """`X (1 + 2δσ² − δμ + δσ² X∘s + √δ σ Z + ½ σ² δ (Z² − 1))`, written out."""
    p = paths(spec)
    sde, model, delta = p.model.sde, p.model.ambient(), p.span / 128
    x = p.enter(model)
    normals = p.increments / math.sqrt(delta)
    for k in range(128):
        t = p.times(128)[k]
        variance = sde.rates(t)[2]
        mu, z = variance / 2 if sde.mu is None else sde.mu, normals[k]
        factor = 1 + 2 * delta * variance - delta * mu + delta * variance * x * model.score(x, t)
        x = x * (factor + math.sqrt(delta) * variance.sqrt() * z + variance * delta * (z**2 - 1) / 2)
    torch.testing.assert_close(x, p.by_torchsde(model, "milstein", 128), rtol=1e-12, atol=0)
    torch.testing.assert_close(x, p.by_formula(model, 128, milstein=True), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["dale-langevin", "euler-maruyama", "torchsde"])
@pytest.mark.parametrize("spec", POSITIVE)
@torch.no_grad()
def test_torchsde_euler_on_the_state_is_dale_langevin(spec, name):
    p, sampler = paths(spec), SAMPLERS.build(name)
    ours, theirs = p.by_sampler(sampler, p.model, 128), p.by_torchsde(p.model, "euler", 128)
    torch.testing.assert_close(p.model.sde.decode(ours), p.model.sde.decode(theirs), rtol=1e-12, atol=0)


@pytest.mark.parametrize("spec", [PAPER, pytest.param("gbm", marks=pytest.mark.slow)])
def test_strong_orders_of_samplers_and_methods(spec):
    ladder = Ladder((128, 512), (32, 128), (8, 32))
    part = cross_check(SDES.build(spec), drawn(ladder.finest, 0), 500, ladder, 0, quiet)
    assert not [finding for finding in part.findings if finding.outcome == "off"]
    strong = found(part, STRONG)
    for method, (low, high) in BANDS.items():
        assert low <= strong[f"torchsde {method}"].value <= high
    assert strong["sampler multiplicative"].value == pytest.approx(0.5, abs=0.1)
    assert strong["sampler dale-langevin"].value == pytest.approx(1, abs=0.1)
    assert "pc with 2 normal numbers a step" in strong["other samplers"].note
    assert found(part, LIMIT)["sampler dale-langevin"].outcome == "ok"
    assert found(part, EQUALITY)["sampler multiplicative = torchsde euler"].value < 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("spec", POSITIVE)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_strong_orders_on_torchsdes_own_brownian_motion(spec, seed):
    part = cross_check(SDES.build(spec), partial(brownian_interval, seed=seed), 1000, Ladder(), seed, quiet)
    assert not [finding for finding in part.findings if finding.outcome == "off"]
    for method, (low, high) in BANDS.items():
        assert low <= found(part, STRONG)[f"torchsde {method}"].value <= high


def test_a_method_that_does_not_converge_to_the_closed_form_is_found():
    """torchsde integrates half of the noise's divergence away: its limit is another."""

    class Wrong(type(SDES.build("gbm"))):
        def ambient(self):
            right = super().ambient()

            class Halved(type(right)):
                def divergence(self, z, t):
                    return right.divergence(z, t) / 2

            return Halved(self)

    part = cross_check(Wrong(sigma=0.8), drawn(128, 0), 200, Ladder((32, 128), (32, 128), (4, 8)), 0, quiet)
    assert found(part, LIMIT)["torchsde euler"].outcome == "off"
    assert found(part, LIMIT)["torchsde milstein"].outcome == "off"
    assert found(part, STRONG)["torchsde milstein"].outcome == "off"


def test_a_path_answers_like_torchsdes_brownian_motion():
    """Increments, and areas over unions of intervals."""
    span, shape = 0.875, (3, 2)
    theirs = brownian_interval(shape, span, 4)
    increments, areas = intervals(theirs, span, 64)
    ours = PathBrownian(span, increments, areas)
    for parts in (1, 4, 64):
        h = span / parts
        for k in range(parts):
            torch.testing.assert_close(
                ours(k * h, (k + 1) * h, return_U=True), theirs(k * h, (k + 1) * h, return_U=True), rtol=0, atol=1e-13
            )


def test_without_areas_a_path_is_straight_in_between():
    ours = PathBrownian(1.0, torch.tensor([[[1.0]], [[2.0]]], dtype=torch.float64))
    w, u = ours(0.0, 1.0, return_U=True)
    assert (float(w), float(u)) == (3.0, 0.25 + 0.5 + 0.5)


@pytest.mark.parametrize("spec", ["gbm", "vp", "subvp"])
@torch.no_grad()
def test_ends_are_exact(spec):
    """Methods of order 1 come close to them on a fine grid, closer on a finer."""
    p = paths(spec, 512)
    errors = [float((p.by_formula(p.model, n, milstein=True) - p.end).abs().mean()) for n in (128, 256, 512)]
    assert order((128, 256, 512), torch.tensor(errors)) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("spec", POSITIVE)
def test_the_ends_of_steps_are_exact_numbers(spec):
    hi, span = stretch(SDES.build(spec))
    for steps in (128, 1024):
        t = hi
        for _ in range(steps):
            t -= span / steps
        assert t == hi - span


@pytest.mark.parametrize(
    ("sde", "reason"),
    [(BetweenWalls(), "boundary rule"), (Kinetic(), "one Brownian motion for every entry"), (Stable(), "is no SDE")],
    ids=lambda value: getattr(value, "title", lambda: "")(),
)
def test_what_does_not_apply_is_said(sde, reason):
    part = cross_check(sde, drawn(1024, 0), 50, Ladder(), 0, quiet)
    assert {finding.part for finding in part.findings} == {STRONG, EQUALITY, LIMIT}
    assert all(finding.outcome == "does not apply" and reason in finding.note for finding in part.findings)


def test_milstein_is_not_compared_where_noise_depends_on_other_entries(monkeypatch):
    monkeypatch.setattr("sdezoo.verification.cross_check.COARSE", Ladder((16, 32), (16, 32), ()))
    monkeypatch.setattr("sdezoo.verification.cross_check.LOST", 1.0)
    monkeypatch.setattr("sdezoo.verification.paths.FINER", 2)
    part = cross_check(SDES.build("wright-fisher"), drawn(64, 0), 60, Ladder(), 0, quiet)
    milstein = [finding for finding in part.findings if "milstein" in finding.what]
    assert {finding.part for finding in milstein} == {STRONG, EQUALITY, LIMIT}
    assert all(finding.outcome == "does not apply" and "depends on other entries" in finding.note for finding in milstein)


@pytest.mark.parametrize("milstein", [True, False])
@torch.no_grad()
def test_rounding_on_the_way_moves_the_end_by_rounding(milstein):
    p = paths(PAPER)
    one, moved, again = (p.by_formula(p.model, 128, milstein=milstein, rounded=seed) for seed in (None, 1, 2))
    assert 1e-17 < float((one - moved).abs().max()) < 1e-12
    assert not torch.equal(moved, again)


def test_which_samplers_a_path_drives():
    p = paths(PAPER)
    expected = {"euler-maruyama": 1, "ancestral": 1, "multiplicative": 1, "ddim": 0, "ddim:eta=1": 1, "heun": 0, "pc": 2}
    assert {name: normals_a_step(SAMPLERS.build(name), p) for name in expected} == expected


@pytest.mark.parametrize(("spec", "expected"), [("gbm", True), ("vp", False), ("ve", False)])
def test_where_there_is_another_equation_on_the_data(spec, expected):
    assert bent(SDES.build(spec)) is expected


def test_the_outcome_of_a_finding():
    assert Finding("p", "w").outcome == "does not apply"
    assert Finding("p", "w", 1.0).outcome == "measured"
    assert Finding("p", "w", 1.0, 0.9, 1.1).outcome == "ok"
    assert Finding("p", "w", 1.2, 0.9, 1.1).outcome == "off"
    assert Finding("p", "w", math.nan).outcome == "off"
    assert Finding("p", "w", -5.0, high=0.0).outcome == "ok"
    assert [Finding("p", "w", 1.0, 0.9, 1.1).expected, Finding("p", "w", 1.0, low=0.5).expected] == ["1 ± 0.1", "≥ 0.5"]
