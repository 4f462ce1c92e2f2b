"""What was recorded is recognized, and what has become worse is named."""

import json
from dataclasses import dataclass

import pytest

from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.errors import SdezooError
from sdezoo.verification.baseline import COSTS, compare, read, record, write
from sdezoo.zoo.registry import SAMPLERS
from sdezoo_plugins.samplers.affine.dpmpp_2m import DPMpp2M
from sdezoo_plugins.samplers.general.heun import Heun
from sdezoo_plugins.samplers.multiplicative.multiplicative import Multiplicative
from tests.process.edges import StableFlow


@dataclass(frozen=True)
class Forgetful(DPMpp2M):
    """The first-order update of `ddim` under the name of a better sampler."""

    name = "dpmpp-2m"

    def step(self, model, z, t, s, noise, memory):
        return super().step(model, z, t, s, noise, None)


@dataclass(frozen=True)
class Inverted(DPMpp2M):
    """`h₋/h` for `h/h₋`, which is of second order too: no law is broken, and yet it is worse."""

    name = "dpmpp-2m"

    def step(self, model, z, t, s, noise, memory):
        h = (model.sde.at(t, z).ratio / model.sde.at(s, z).ratio).log()
        return super().step(model, z, t, s, noise, None if memory is None else (memory[0], h**2 / memory[1]))


@dataclass(frozen=True)
class Wasteful(Heun):
    """One evaluation more a step buys fewer steps."""

    name = "heun"

    def evaluations(self, steps):
        return 3 * steps - 1


@dataclass(frozen=True)
class Leaving(Multiplicative):
    """Twice the noise, so that it leaves the positive numbers where it did not."""

    name = "multiplicative"

    def update(self, model, z, t, delta, anneal, noise):
        return super().update(model, z, t, delta, 2 * anneal, noise)


@pytest.fixture(scope="module")
def second_order():
    return record(SAMPLERS.build("dpmpp-2m"))


@pytest.mark.parametrize("spec", ["dale-langevin", "multiplicative", "torchsde"])
def test_what_has_not_changed_is_not_worse(spec, tmp_path):
    sampler = SAMPLERS.build(spec)
    baseline = record(sampler)
    assert all(list(row) == [str(cost) for cost in COSTS] for row in baseline["errors"].values())
    write(tmp_path / "baseline.json", baseline)
    assert read(tmp_path / "baseline.json") == baseline
    assert compare(sampler, baseline) == []


def test_the_same_code_has_the_same_errors(second_order):
    assert record(SAMPLERS.build("dpmpp-2m")) == second_order


def test_a_step_of_lower_order_is_named_with_its_problems(second_order):
    worse = compare(Forgetful(), second_order)
    assert {(one.problem, one.evaluations) for one in worse} >= {
        (problem, 5) for problem in second_order["errors"] if not problem.startswith("atoms on Mult")
    }
    assert all(one.now is not None and one.now[0] > one.before[0] for one in worse)
    assert str(worse[0]).startswith("normal on Additive, 5 evaluations: error 0.0")


def test_what_breaks_no_law_may_still_be_worse(second_order):
    assert all(verdict.outcome in ("holds", "excused") for verdict in SAMPLER_LAWS.verdicts(Inverted()))
    assert ("narrow on Multiplicative", 5) in {(one.problem, one.evaluations) for one in compare(Inverted(), second_order)}


def test_what_is_better_is_not_named():
    assert compare(DPMpp2M(), {**record(Forgetful()), "sampler": "dpmpp-2m"}) == []


def test_more_evaluations_a_step_are_worse():
    assert compare(Wasteful(), record(SAMPLERS.build("heun")))


def test_leaving_the_support_is_worse_than_any_error():
    baseline = record(SAMPLERS.build("multiplicative"))
    assert None in baseline["errors"]["normal on Multiplicative"].values()
    worse = compare(Leaving(), baseline)
    assert any(one.now is None for one in worse)
    assert any("it leaves the support" in str(one) for one in worse)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is not a baseline"),
        ("[1, 2", "is not a baseline"),
        ("[]", "This is not a baseline"),
        ("{}", "This is not a baseline"),
        ('{"format": 99}', "format 99"),
        ('{"format": 1, "sampler": "ddim", "errors": {}}', "This is not a baseline"),
        ('{"format": 1, "sampler": "ddim", "errors": {"normal": {"5": [1]}}}', "This is not a baseline"),
        ('{"format": 1, "sampler": "ddim", "errors": {"normal": {"many": [1, 2]}}}', "This is not a baseline"),
        ('{"format": 1, "sampler": "ddim", "errors": {"normal": {"5": ["a", 2]}}}', "This is not a baseline"),
    ],
)
def test_a_file_that_is_no_baseline_is_refused(text, problem, tmp_path):
    path = tmp_path / "baseline.json"
    path.write_text(text)
    with pytest.raises(SdezooError, match=problem) as error:
        read(path)
    assert error.value.remedy


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(SdezooError, match="There is no file"):
        read(tmp_path / "baseline.json")


def test_a_baseline_of_another_sampler_is_refused(second_order):
    with pytest.raises(SdezooError, match="of 'dpmpp-2m', not of 'ddim'"):
        compare(SAMPLERS.build("ddim"), second_order)


def test_a_baseline_of_other_problems_is_refused(second_order):
    foreign = json.loads(json.dumps(second_order).replace(" on ", " upon "))
    with pytest.raises(SdezooError, match="no problem in common"):
        compare(SAMPLERS.build("dpmpp-2m"), foreign)


def test_a_sampler_without_a_problem_cannot_be_recorded():
    with pytest.raises(SdezooError, match="takes no process on which an exact score is known"):
        record(StableFlow())
