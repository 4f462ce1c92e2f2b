"""Clocks and counters: what is compared is called by turns, and as often as it says."""

import pytest
import torch

from sdezoo.bench.timing import Spread, alternating, one_thread
from sdezoo.bench.tiny import BATCH, ENTRIES, TinyMLP, bare, calls_of


def test_both_calls_take_turns():
    order = []
    first, second = alternating(lambda: order.append("a"), lambda: order.append("b"), 3)
    assert order == ["a", "b"] * 3
    assert len(first) == len(second) == 3
    assert min(first + second) >= 0


def test_the_spread_is_median_and_quartiles():
    assert Spread.of([4, 0, 3, 1, 2]) == Spread(2, 1, 3)


def fails_on_one_thread():
    with one_thread():
        assert torch.get_num_threads() == 1
        raise ZeroDivisionError


def test_threads_are_given_back_even_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with pytest.raises(ZeroDivisionError):
            fails_on_one_thread()
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_bare_loop_makes_as_many_calls_as_were_counted():
    net = TinyMLP()
    assert calls_of(net, bare(net, 7)) == 7
    assert not net._forward_hooks


def test_the_tiny_network_is_the_same_in_every_run_and_leaves_the_random_numbers_alone():
    before = torch.get_rng_state()
    x, level = torch.ones(BATCH, ENTRIES), torch.tensor(0.5)
    torch.testing.assert_close(TinyMLP()(x, level), TinyMLP()(x, level.expand(BATCH)), rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), before)
