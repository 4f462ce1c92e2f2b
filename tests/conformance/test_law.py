"""The machinery of the laws: what is reported is the smallest case, and whatever a plugin does, its author is told."""

import time
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from sdezoo.conformance import law
from sdezoo.conformance.law import LawError, Suite, falsify


@dataclass(frozen=True)
class Plugin:
    bound: int = 17


def suite_of(check, **options):
    suite = Suite()
    suite.property_law(lambda plugin: st.integers(0, 10_000).map(lambda n: (plugin, n)), **options)(check)
    return suite


def small(case):
    """Numbers are small."""
    plugin, n = case
    if n > plugin.bound:
        raise LawError(f"{n} is large.")


def test_the_smallest_falsifying_case_is_reported():
    [bound] = suite_of(small).bind(Plugin())
    assert bound.__name__ == "small"
    with pytest.raises(LawError, match="18 is large") as error:
        bound()
    assert error.value.case == "(Plugin(bound=17), 18)"


@pytest.mark.parametrize("raised", [ValueError("no"), ZeroDivisionError("no"), RecursionError("no")])
def test_whatever_a_plugin_raises_is_a_verdict(raised):
    def fails(case):
        raise raised

    [verdict] = suite_of(fails).verdicts(Plugin())
    assert verdict.outcome == "broken"
    assert verdict.reason == f"It raises {type(raised).__name__}: no"
    assert verdict.case == "(Plugin(bound=17), 0)"


def hang(case):
    """It comes to an end, whatever the plugin swallows."""
    while case[1] >= 0:
        try:
            time.sleep(0.01)
        except Exception:
            continue


def test_a_plugin_that_hangs_is_reported_with_its_case(monkeypatch):
    monkeypatch.setattr(law, "LIMIT", 0.3)
    suite = suite_of(hang)
    suite.property_law(lambda plugin: st.just((plugin, 0)))(small)
    hung, untried = suite.verdicts(Plugin())
    assert hung.outcome == "broken"
    assert "hangs" in hung.reason
    assert hung.case == "(Plugin(bound=17), 0)"
    assert (untried.outcome, untried.reason) == ("untried", "Fix hang first.")


def test_a_busy_machine_makes_no_plugin_slow(monkeypatch):
    """Waiting counts for a quarter, computing in full."""

    def wait(case):
        time.sleep(0.4)

    def compute(case):
        until = time.thread_time() + 0.4
        while time.thread_time() < until:
            pass

    monkeypatch.setattr(law, "LIMIT", 0.2)
    for check, outcome in ((wait, "holds"), (compute, "broken")):
        suite = Suite()
        suite.property_law(lambda plugin: st.just((plugin, 17)))(check)
        [verdict] = suite.verdicts(Plugin())
        assert verdict.outcome == outcome


def test_time_that_runs_out_in_shrinking_still_gives_a_case(monkeypatch):
    monkeypatch.setattr(law, "LIMIT", 0.5)

    def slow(case):
        if case[1] > 17:
            time.sleep(0.1)
            raise LawError(f"{case[1]} is large.")

    [verdict] = suite_of(slow).verdicts(Plugin())
    assert verdict.outcome == "broken"
    assert verdict.reason.endswith("is large.")


def test_all_laws_together_have_a_budget(monkeypatch):
    monkeypatch.setattr(law, "BUDGET", 0.2)
    monkeypatch.setattr(law, "LIMIT", 5.0)
    [verdict] = suite_of(hang).verdicts(Plugin())
    assert verdict.outcome == "broken"
    assert verdict.seconds < 4


def test_a_broken_contract_leaves_the_others_untried():
    suite = suite_of(small, first=True)
    suite.property_law(lambda plugin: st.just((plugin, 0)))(hang)
    assert [verdict.outcome for verdict in suite.verdicts(Plugin())] == ["broken", "untried"]


def test_monte_carlo_laws_hold_at_their_level():
    suite = Suite()

    @suite.monte_carlo_law()
    def drawn(plugin, seed):
        """It is drawn."""
        return plugin.bound * law.LEVEL

    assert [next(suite.verdicts(Plugin(n))).outcome for n in (1, 2)] == ["holds", "holds"]
    assert next(suite.verdicts(Plugin(0))).outcome == "broken"


def test_laws_that_do_not_apply_are_not_listed():
    suite = suite_of(small, excuses=lambda plugin: "It is exempt." if plugin.bound > 100 else None)
    assert suite.bind(Plugin(101)) == []
    assert next(suite.verdicts(Plugin(101))).reason == "It is exempt."


def test_what_holds_is_silent():
    falsify(small, st.integers(0, 5).map(lambda n: (Plugin(), n)), 30)


def test_a_law_that_applies_to_a_twin_alone_is_tried_on_it():
    suite: Suite[int] = Suite()

    @suite.law(excuses=lambda plugin: "Not a two." if plugin != 2 else None)
    def fails(plugin: int) -> None:
        """No two."""
        raise LawError("A two.")

    assert [verdict.outcome for verdict in suite.verdicts(1)] == ["excused"]
    assert [verdict.outcome for verdict in suite.verdicts(1, 2)] == ["broken"]
