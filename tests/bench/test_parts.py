"""The parts of the benchmark at toy size: arithmetic on known times, what is measured, and what is not touched."""

import pytest
import torch

from sdezoo import SAMPLERS, SDES
from sdezoo.bench import memory, noise, steps, training
from sdezoo.bench.loop import loop_overhead
from sdezoo.bench.memory import memory_use
from sdezoo.bench.noise import noise_cost
from sdezoo.bench.steps import step_costs
from sdezoo.bench.training import training_loop
from sdezoo.errors import SupportError
from sdezoo.zoo.composition import fitting

SAFE = [name for name in fitting(SDES.build("gbm"), SAMPLERS) if SAMPLERS.load(name).preserves_support]


def silent(*_, **__):
    pass


def test_a_loop_takes_longer_than_its_calls():
    table = loop_overhead("gbm", 0, silent, shape=(2, 1, 8, 8), steps=3, rounds=2)
    assert [row["sampler"] for row in table.rows] == SAFE
    measured = [row for row in table.rows if "ratio" in row]
    assert len(measured) > len(SAFE) // 2
    for row in measured:
        assert row["quartile_high"] >= row["ratio"] >= row["quartile_low"] > 1
        assert row["ms_a_call"] > 0
        sampler = SAMPLERS.build(row["sampler"])
        assert row["calls"] >= sampler.evaluations(row["steps"]) if sampler.adaptive else row["calls"] == sampler.evaluations(row["steps"])


def test_a_loop_whose_end_cannot_be_decoded_says_so(monkeypatch):
    def lost(*_, **__):
        raise SupportError("It is out.", "Nothing helps.")

    monkeypatch.setattr(SAMPLERS.load("ddim"), "sample", lost)
    row = next(row for row in loop_overhead("vp", 0, silent, shape=(1, 1, 8, 8), steps=2, rounds=1).rows if row["sampler"] == "ddim")
    assert "It is out." in row["note"]


def test_added_microseconds_are_the_difference_of_loops(monkeypatch):
    """Bare 1 ms, loop 3 ms, first call 11 ms, 4 steps: 500 and 2500 µs a step, of which every peer adds the same."""
    monkeypatch.setattr(steps, "alternating", lambda first, second, rounds: ([0.001] * rounds, [0.003] * rounds))
    monkeypatch.setattr(steps, "seconds", lambda call: 0.011)
    table = step_costs(["gbm", "ve"], 0, silent, steps=4, passes=2, rounds=2)
    ours = [row for row in table.rows if row["library"] == "sdezoo"]
    assert [row["sampler"] for row in ours if row["process"] == "gbm"] == SAFE
    assert {row["process"] for row in ours} == {"gbm", "ve"}
    assert any(row["library"] == "torchsde" for row in table.rows)
    for row in (row for row in table.rows if "calls" in row):
        assert row["bare_us"] == pytest.approx(250)
        assert row["added_us"] == row["quartile_low"] == row["quartile_high"] == pytest.approx(500)
        assert row["first_call_added_us"] == pytest.approx(2500)
        assert row["of_fastest_peer"] == pytest.approx(1)
        assert row["steps_per_second"] == pytest.approx(4 / 0.003)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
def test_step_costs_are_measured_on_one_thread_and_leave_random_numbers_and_threads_alone(monkeypatch):
    before = torch.get_rng_state()
    seen, measure = [], steps.alternating
    monkeypatch.setattr(steps, "alternating", lambda *arguments: (seen.append(torch.get_num_threads()), measure(*arguments))[1])
    told = []
    table = step_costs(["gbm"], 0, lambda done, total, detail: told.append((done, total)), steps=3, passes=2, rounds=1)
    assert set(seen) == {1}
    assert told[-1] == (len(seen), len(seen))
    assert all(row["steps_per_second"] > 0 for row in table.rows if "calls" in row)
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), before)


def test_the_calls_of_each_sampler_are_counted():
    table = step_costs(["gbm"], 0, silent, steps=5, passes=1, rounds=1)
    for row in table.rows:
        if row["library"] == "sdezoo" and not SAMPLERS.build(row["sampler"]).adaptive:
            assert row["calls"] == SAMPLERS.build(row["sampler"]).evaluations(5)


def test_keyed_noise_is_a_ratio_to_plain(monkeypatch):
    """randn 1 s, keyed 3 s, and 1 s and 5 s for seeding: 3 without and 4 with it."""
    times = {"drawing": ([1.0], [3.0]), "seeding": ([1.0], [5.0])}
    turns = iter(["drawing", "seeding"] * 4)
    monkeypatch.setattr(noise, "alternating", lambda *_: times[next(turns)])
    table = noise_cost(0, silent, sizes=(2, 3), requests=10, rounds=2)
    assert [row["event_size"] for row in table.rows] == [2, 3]
    for row in table.rows:
        assert (row["ratio"], row["ratio_with_seeding"]) == (3, 4)
        assert (row["randn_us"], row["keyed_us"]) == (pytest.approx(1e5), pytest.approx(3e5))


def test_keyed_noise_is_measured():
    (row,) = noise_cost(0, silent, sizes=(2,), rows=4, requests=3, rounds=1).rows
    assert row["ratio"] > 0
    assert row["ratio_with_seeding"] > 0


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own():
    """A batch of 4 MiB shows, its samples are not held, and what the parent holds does not show."""
    held = torch.ones(2**28)
    few, many = memory_use(0, silent, samplers=["dpmpp-2m"], steps=(2,), counts=(1, 4096), size=2**14).rows
    assert (few["steps"], few["n"], many["n"]) == (2, 1, 4096)
    assert few["over_first"] == 1
    assert many["samples_mib"] == 256
    assert 4 < many["peak_mib"] - few["peak_mib"] < 256
    assert many["over_first"] == pytest.approx(many["peak_mib"] / few["peak_mib"])
    assert few["peak_mib"] < held.nbytes / 2**20


def test_memory_is_measured_against_steps_and_against_counts(monkeypatch):
    monkeypatch.setattr(memory, "_peak", lambda run, sampler, taken, n, seed: 100.0 + taken + n)
    table = memory_use(0, silent, samplers=["ddim", "heun"], steps=(1, 10), counts=(4, 40), size=3)
    assert [(row["sampler"], row["steps"], row["n"]) for row in table.rows] == [
        (sampler, *setting) for sampler in ("ddim", "heun") for setting in ((1, 4), (10, 4), (1, 40))
    ]
    assert [row["over_first"] for row in table.rows[:3]] == [1, 114 / 105, 141 / 105]


def test_training_is_measured_beside_a_bare_step():
    rows = training_loop("gbm", 0, silent, batch=4, shape=(1, 8, 8), steps=6, ways=(("float32", False), ("bf16", False))).rows
    assert [(row["precision"], row["compiled"]) for row in rows] == [("float32", "no"), ("bf16", "no")]
    assert all(row["quartile_low"] <= row["bare_over_ours"] <= row["quartile_high"] for row in rows)
    assert all(row["ms_bare"] > 0 for row in rows)


@pytest.mark.parametrize("bare", [0.0, 1e6])
def test_training_is_the_denominator(monkeypatch, bare):
    """Steps of no time and of a million seconds beside the real ones."""
    monkeypatch.setattr(training, "seconds", lambda call: bare)
    (row,) = training_loop("gbm", 0, silent, batch=4, shape=(1, 8, 8), steps=5, ways=(("float32", False),)).rows
    assert row["ms_bare"] == 1000 * bare
    assert (row["bare_over_ours"] > 1e4) == (bare > 0)
