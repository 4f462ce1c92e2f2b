"""A row's numbers depend on (seed, row) and the sequence of requests alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdezoo.process.noise import KeyedNoise, Noise

events = st.lists(st.integers(1, 9), max_size=2).map(tuple)
requests = st.lists(st.tuples(st.sampled_from(["normal", "uniform", "poisson"]), events), min_size=1, max_size=12)


def answer(noise: Noise, rows: int, asked: list, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    like = torch.empty((), dtype=dtype)
    out = []
    for kind, event in asked:
        if kind == "poisson":
            out.append(noise.draw(torch.poisson, torch.full((rows, *event), 3.0)))
        else:
            out.append(getattr(noise, kind)(like, (rows, *event)))
    return out


@given(asked=requests, seed=st.integers(-5, 2**63), companions=st.sampled_from([1, 7, 64]))
def test_row_17_is_the_same_in_every_batch(asked, seed, companions):
    alone = answer(KeyedNoise(seed, [17]), 1, asked)
    rows = list(range(17 - companions // 2, 17 - companions // 2 + companions))
    among = answer(KeyedNoise(seed, rows), companions, asked)
    for a, b in zip(alone, among, strict=True):
        assert torch.equal(a[0], b[rows.index(17)])


def test_requests_past_one_block_go_on_with_the_same_stream():
    sizes = [("normal", (5,))] * 100 + [("normal", (40_000,))] + [("normal", (3,))] * 3
    for a, b in zip(answer(KeyedNoise(0, [3]), 1, sizes), answer(KeyedNoise(0, [1, 3]), 2, sizes), strict=True):
        assert torch.equal(a[0], b[1])
    drawn = torch.cat(answer(KeyedNoise(0, [3]), 1, sizes[:100])).flatten()
    assert len(drawn.unique()) == len(drawn)


@given(asked=requests)
def test_float64_sees_the_numbers_of_float32(asked):
    for make in (lambda: KeyedNoise(1, range(4)), lambda: Noise.seeded(1, 2)):
        narrow, wide = answer(make(), 4, asked), answer(make(), 4, asked, torch.float64)
        for a, b in zip(narrow, wide, strict=True):
            assert torch.equal(a.double(), b.double())


def test_dtype_and_shape_are_those_of_like():
    for noise in (KeyedNoise(0, range(3)), Noise.seeded(0)):
        like = torch.empty(3, 2, dtype=torch.float64)
        for drawn in (noise.normal(like), noise.uniform(like)):
            assert drawn.dtype == torch.float64
            assert drawn.shape == (3, 2)


def test_global_generator_is_untouched():
    before = torch.get_rng_state()
    for noise in (KeyedNoise(0, range(3)), Noise.seeded(0)):
        answer(noise, 3, [("normal", (2,)), ("uniform", (2,)), ("poisson", (2,))])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("first", [KeyedNoise(0, range(20_000)), Noise.seeded(0)], ids=["keyed", "seeded"])
def test_laws(first):
    like = torch.empty(20_000, 1)
    z, u = first.normal(like), first.uniform(like)
    p = first.draw(torch.poisson, torch.full((20_000, 1), 3.0))
    error = 4.5 / 20_000**0.5
    assert abs(z.mean()) < error
    assert abs(z.var() - 1) < error * 2**0.5
    assert abs(u.mean() - 0.5) < error / 12**0.5
    assert 0 <= u.min() <= u.max() < 1
    assert abs(p.mean() - 3) < error * 3**0.5
    assert abs(p.var() - 3) < error * 21**0.5  # Var of the sample variance: (μ₄ − v²)/n, μ₄ = 3 + 27
    assert abs((z[1:] * z[:-1]).mean()) < error  # neighbouring rows do not share a stream


def test_seeds_and_rows_give_different_streams():
    firsts = torch.cat([KeyedNoise(seed, range(50)).normal(torch.empty(50, 1)) for seed in range(20)]).flatten()
    assert len(firsts.unique()) == len(firsts)
    assert not torch.equal(Noise.seeded(0, 1).normal(torch.empty(4)), Noise.seeded(1, 0).normal(torch.empty(4)))


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="3 rows"):
        KeyedNoise(0, range(2)).normal(torch.empty(3, 1))
