"""A row's numbers depend on (seed, row), and on which request of its kind and size it is, alone."""

import gc

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.utils._python_dispatch import TorchDispatchMode

from sdezoo.process.noise import KeyedNoise, Noise

SIZES = (1, 2, 3, 8, 64, 301, 784, 3072, 9001)  # below, at and past the sizes of groups and blocks; 301: blocks with a tail past 16s
BATCHES = {
    "alone": [17],
    "begins within a group": range(17, 24),
    "across groups": range(17 - 32, 17 + 32),
    "permuted": [40, 17, 3, 16, 18, 41],
    "repeated": [17, 17, 5, 17],
    "scattered": [10**12, 17, -4000, 64, 2**40 + 17],
}

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


def table(seed: int = 0, rows: int = 256, count: int = 64, size: int = 8, kind: str = "normal") -> torch.Tensor:
    """`(rows, count, size)`: all that the first rows of a seed see in `count` requests."""
    noise, like = KeyedNoise(seed, range(rows)), torch.empty(rows, size)
    return torch.stack([getattr(noise, kind)(like) for _ in range(count)], 1)


@given(asked=requests, seed=st.integers(-5, 2**63), companions=st.sampled_from([1, 7, 64]))
def test_row_17_is_the_same_in_every_batch(asked, seed, companions):
    alone = answer(KeyedNoise(seed, [17]), 1, asked)
    rows = list(range(17 - companions // 2, 17 - companions // 2 + companions))
    among = answer(KeyedNoise(seed, rows), companions, asked)
    for a, b in zip(alone, among, strict=True):
        assert torch.equal(a[0], b[rows.index(17)])


@pytest.mark.parametrize("rows", BATCHES.values(), ids=BATCHES)
def test_rows_do_not_know_their_batch_over_many_requests_of_mixed_sizes(rows):
    asked = [(kind, (size,)) for turn in range(45) for kind in ("normal", "uniform") for size in SIZES if size < 3000 or turn < 5]
    expected = {row: answer(KeyedNoise(3, [row]), 1, asked) for row in set(rows)}
    for k, drawn in enumerate(answer(KeyedNoise(3, rows), len(rows), asked)):
        for row, numbers in zip(rows, drawn, strict=True):
            assert torch.equal(numbers, expected[row][k][0])


def test_what_else_is_asked_for_and_when_does_not_matter():
    """Also not what another source draws meanwhile."""
    rows, like, alone = range(5, 12), torch.empty(7, 6), KeyedNoise(0, range(5, 12))
    expected = [alone.normal(like) for _ in range(30)]
    noise, meanwhile = KeyedNoise(0, rows), KeyedNoise(1, rows)
    for numbers in expected:
        answer(noise, 7, [("normal", (4,)), ("uniform", (6,)), ("poisson", (6,))])
        answer(meanwhile, 7, [("normal", (6,))])
        assert torch.equal(noise.normal(like, (7, 2, 3)).flatten(1), numbers)


@pytest.mark.parametrize("rows", [range(1), range(64), [3, 1, 70]], ids=str)
@pytest.mark.parametrize("size", [2, 784, 9000])
def test_numbers_that_were_handed_out_stay(rows, size):
    noise, like = KeyedNoise(0, rows), torch.empty(len(rows), size)
    for _ in range(45):
        kept = noise.normal(like)
        copy = kept.clone()
        noise.normal(like).zero_()
        assert torch.equal(kept, copy)


@given(asked=requests)
def test_float64_sees_the_numbers_of_float32(asked):
    for make in (lambda: KeyedNoise(1, range(4)), lambda: Noise.seeded(1, 2)):
        narrow, wide = answer(make(), 4, asked), answer(make(), 4, asked, torch.float64)
        for a, b in zip(narrow, wide, strict=True):
            assert torch.equal(a.double(), b.double())


def test_default_dtype_does_not_change_the_numbers():
    like = torch.empty(3, 20, dtype=torch.float32)
    for make in (lambda: KeyedNoise(0, range(3)), lambda: Noise.seeded(0)):
        expected = make().normal(like)
        torch.set_default_dtype(torch.float64)
        try:
            found = make().normal(like)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(found, expected)


def test_dtype_and_shape_are_those_of_like():
    for noise in (KeyedNoise(0, range(3)), Noise.seeded(0)):
        like = torch.empty(3, 2, dtype=torch.float64)
        for drawn in (noise.normal(like), noise.uniform(like)):
            assert drawn.dtype == torch.float64
            assert drawn.shape == (3, 2)
        assert noise.normal(like, [3]).shape == (3,)
        assert noise.normal(like, (3, 0)).shape == (3, 0)


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


@pytest.mark.parametrize(("kind", "law"), [("normal", "norm"), ("uniform", "uniform")])
@pytest.mark.parametrize("size", [1, 8, 784, 9000])
def test_keyed_numbers_follow_their_law(kind, law, size):
    drawn = table(rows=70, count=max(1, 7000 // size), size=size, kind=kind).flatten()
    assert stats.kstest(drawn.numpy(), law).statistic * len(drawn) ** 0.5 < 1.95  # one in a thousand exceeds it (Kolmogorov)


@pytest.mark.parametrize("size", [2, 300])
def test_neighbours_are_independent(size):
    """Rows, groups, requests, entries, seeds, and sizes: nothing is correlated, at any distance up to 70."""
    z, other_seed, other_size = (table(seed, rows=160, count=80, size=n) for seed, n in ((0, size), (1, size), (0, size + 1)))
    pairs = {f"rows {k}": (z[k:], z[:-k]) for k in (1, 2, 8, 16, 32, 64, 70)}
    pairs |= {f"requests {k}": (z[:, k:], z[:, :-k]) for k in (1, 5, 10, 20, 40, 70)}
    pairs |= {"entries": (z[..., 1:], z[..., :-1]), "seeds": (z, other_seed), "sizes": (z, other_size[..., :-1])}
    for name, (a, b) in pairs.items():
        assert abs((a * b).mean()) < 5 / a.numel() ** 0.5, name
        assert abs(((a**2 - 1) * (b**2 - 1)).mean() / 2) < 5 / a.numel() ** 0.5, name


def test_kinds_are_independent():
    u, z = table(kind="uniform", size=3), table(size=3)
    assert abs((12**0.5 * (u - 0.5) * z).mean()) < 5 / u.numel() ** 0.5


def test_no_two_rows_share_a_generator():
    """Torch keeps 32 bits of a seed: of 200,000 random ones five pairs would agree."""
    words = []

    def note(row: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        words.append(generator.initial_seed() % 2**32)
        return row

    for k in range(0, 200_000, 5000):
        KeyedNoise(0, range(k, k + 5000)).draw(note, torch.empty(5000))
    assert len(set(words)) == 200_000


def test_seeds_and_rows_give_different_streams():
    firsts = torch.cat([KeyedNoise(seed, range(50)).normal(torch.empty(50, 1)) for seed in range(20)]).flatten()
    assert len(firsts.unique()) == len(firsts)
    assert not torch.equal(Noise.seeded(0, 1).normal(torch.empty(4)), Noise.seeded(1, 0).normal(torch.empty(4)))


@pytest.mark.parametrize("size", [2, 64, 784, 9000])
def test_memory_does_not_grow_with_the_requests(size):
    """A block of at most 2¹³ numbers, or one event, for a group; held twice at most, while the next is drawn."""
    noise, like = KeyedNoise(0, range(64)), torch.empty(64, size)
    before, largest = _held(), 0
    for k in range(1, 124):
        noise.normal(like)
        if k % 41 == 0:
            largest = max(largest, _held() - before)
    groups = -(-64 * size // 2**8) if size <= 2**7 else 64
    assert 0 < largest <= 2 * 4 * groups * max(2**13, size)


def _held() -> int:
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in gc.get_objects() if type(t) is torch.Tensor}
    return sum(storages.values())


def test_wrong_number_of_rows_is_refused():
    with pytest.raises(ValueError, match="3 rows"):
        KeyedNoise(0, range(2)).normal(torch.empty(3, 1))


def test_what_is_drawn_ahead_is_chosen():
    """With one request at a time no number is drawn in vain, and rows still see the same in every batch."""
    calls = []

    class Counted(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "normal" in func.overloadpacket.__name__:
                calls.append(args[0].numel())
            return func(*args, **(kwargs or {}))

    like = torch.empty(())
    with Counted():
        one = KeyedNoise(0, range(8), ahead=1).normal(like, (8, 300))
    assert sum(calls) == 8 * 300
    torch.testing.assert_close(KeyedNoise(0, [5, 2], ahead=1).normal(like, (2, 300)), one[[5, 2]], rtol=0, atol=0)
