"""Where sampling starts: the prior, or rows, each with noise of its own."""

import math
from dataclasses import dataclass

import pytest
import torch

from sdezoo.conformance.bank.problems import gaussian
from sdezoo.errors import ParameterError
from sdezoo.process.noise import KeyedNoise
from sdezoo.sampling.start import PRIOR, AtRows, FromRows
from sdezoo.zoo.registry import SAMPLERS, SDES
from sdezoo_plugins.sdes.affine.vp import VP
from tests.analytic import SIGMAS, assert_moments, at

LIKE = torch.empty((), dtype=torch.float64)
COUNT, MEAN, DEVIATION = 4000, 0.3, 0.5


def problem(spec="vp"):
    sde = SDES.build(spec)
    return gaussian(sde, (MEAN,), (DEVIATION,)), sde


def rows(sde, model, count=COUNT):
    return sde.decode(model.clean(count, 5))


@pytest.mark.parametrize("time", [0.05, 0.3, 0.7, None])
@pytest.mark.parametrize(("spec", "name"), [("vp", "dpmpp-2m"), ("gbm:sigma=0.8", "dpmpp-2m"), ("vp", "heun")])
def test_rows_of_the_data_come_back_as_such_and_as_like_themselves_as_the_noise_allows(spec, name, time):
    """`z_t = α z_0 + m + σ ε` has the law of the noised data, and the flow is linear: `corr(z, z_0) = α s/√(α² s² + σ²)`."""
    model, sde = problem(spec)
    x0 = rows(sde, model)
    x = SAMPLERS.build(name).sample(model, (COUNT, 1), 200, 1, start=FromRows(x0, time), like=LIKE)
    z, z0 = sde.encode(x), sde.encode(x0)
    assert_moments(z, torch.tensor(MEAN), torch.tensor(DEVIATION), bias=0.02)
    k = sde.coefficients(at(sde.t_span[1] if time is None else time))
    expected = float(k.alpha * DEVIATION / (k.alpha**2 * DEVIATION**2 + k.variance).sqrt())
    found = float(torch.corrcoef(torch.cat([z, z0], 1).T)[0, 1])
    assert found == pytest.approx(expected, abs=SIGMAS / math.sqrt(COUNT) + 0.01)


def test_a_sample_depends_on_the_seed_its_index_and_its_row_alone():
    model, sde = problem()
    x0 = rows(sde, model, 6)
    sampler = SAMPLERS.build("euler-maruyama")
    whole = sampler.sample(model, (6, 1), 5, 3, start=FromRows(x0, 0.4), like=LIKE)
    few = sampler.sample(model, (2, 1), 5, 3, rows=[4, 1], start=FromRows(x0, 0.4), like=LIKE)
    assert torch.equal(few, whole[[4, 1]])
    other = x0.clone()
    other[0] += 1
    moved = sampler.sample(model, (6, 1), 5, 3, start=FromRows(other, 0.4), like=LIKE)
    assert torch.equal(moved[1:], whole[1:])
    assert not torch.equal(moved[0], whole[0])
    assert not torch.equal(sampler.sample(model, (6, 1), 5, 4, start=FromRows(x0, 0.4), like=LIKE), whole)


def test_the_steps_above_the_start_are_left_out():
    model, _ = problem()
    sampler, seen = SAMPLERS.build("dpmpp-2m"), []
    sampler.sample(model, (2, 1), 10, start=FromRows(torch.zeros(2, 1), 0.4), callback=lambda k, z, t: seen.append(float(t)))
    grid = sampler.grid(model, 10).tolist()
    assert seen == [t for t in grid if t < 0.4]
    assert sampler.times(model, 10, FromRows(torch.zeros(2, 1), grid[3])).tolist() == grid[3:]
    assert sampler.times(model, 10, PRIOR).tolist() == sampler.times(model, 10, FromRows(torch.zeros(2, 1))).tolist() == grid
    assert sampler.times(model, 1, FromRows(torch.zeros(2, 1), 0.4)).tolist() == [0.4, 0]


@dataclass(frozen=True)
class Bridge(VP):
    """A process that is started from data as they are."""

    def start_from(self, x, t, noise):
        return self.encode(x)


def test_what_becomes_of_a_row_is_the_processes_to_say():
    x = torch.tensor([[0.5], [-2.0], [1.0]], dtype=torch.float64)
    noise = KeyedNoise(2, [2, 0])

    def states(sde, start):
        return start.states(gaussian(sde, (0.0,), (1.0,)), (2, 1), [2, 0], noise, LIKE)

    assert torch.equal(states(Bridge(), FromRows(x)), x[[2, 0]])
    assert torch.equal(states(VP(), AtRows(x)), x[[2, 0]])
    noised = states(VP(), FromRows(x, 0.3))
    k = VP().coefficients(at(0.3))
    assert torch.equal(noised, VP().perturb(x[[2, 0]], at(0.3), KeyedNoise(2, [2, 0])))
    assert (noised - k.alpha * x[[2, 0]]).abs().max() < SIGMAS * float(k.sigma)


def test_what_cannot_start_is_refused():
    model, _ = problem()
    sampler = SAMPLERS.build("ddim")
    for start, words in (
        (FromRows(torch.zeros(3, 1)), "Sample 3 has no row to start from: there are 3 rows"),
        (FromRows(torch.zeros(4, 1), 0.0), "no state to start from at t = 0"),
        (FromRows(torch.zeros(4, 1), 1.5), r"no state to start from at t = 1\.5"),
        (FromRows(torch.zeros(4, 1), math.nan), "no state to start from at t = nan"),
    ):
        with pytest.raises(ParameterError, match=words):
            sampler.sample(model, (4, 1), 5, start=start)


def test_fingerprints_tell_starts_apart():
    x = torch.arange(6.0).reshape(3, 2)
    starts = [FromRows(x), FromRows(x, 0.5), AtRows(x), FromRows(x.double()), FromRows(x.reshape(2, 3)), FromRows(x + 1)]
    assert len({start.fingerprint for start in starts}) == len(starts)
    assert FromRows(x.clone(), 0.5).fingerprint == FromRows(x, 0.5).fingerprint
    assert PRIOR.fingerprint is PRIOR.rows is None
