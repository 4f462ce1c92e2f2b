"""Which columns become normal scores: the choice under which a normal distribution is likeliest."""

from itertools import product

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from sdezoo.data.codecs.normal_scores import NormalScoreCodec
from sdezoo.training.preprocessing.coordinate_choice import WORTH, likelier_as_scores
from sdezoo.training.preprocessing.normal_scores import fit_normal_scores

N = 300


def measures(seed: int, noise: float = 0.01) -> Tensor:
    """Width, height, the area that they nearly determine, and a column of two modes, `(N, 4)`."""
    g = torch.Generator().manual_seed(seed)
    normal = torch.randn(N, 4, generator=g).double()
    width, height = (0.3 * normal[:, :2]).exp().T
    area = width * height * (noise * normal[:, 2]).exp()
    modes = (normal[:, 3] + 8 * (torch.rand(N, generator=g) < 0.4)).exp()
    return torch.stack([width, height, area, modes], 1)


def maps(rows: Tensor, monkeypatch: pytest.MonkeyPatch) -> NormalScoreCodec:
    """The maps of all columns, none left out."""
    monkeypatch.setattr("sdezoo.training.preprocessing.normal_scores.likelier_as_scores", lambda _, every, __: [True] * len(every.maps))
    (codec,) = fit_normal_scores(rows, range(rows.shape[1]), [True] * rows.shape[1])
    monkeypatch.undo()
    return codec


def species(seed: int, count: int = N) -> Tensor:
    """Two lengths, each with a mode for every kind; which of three kinds, in three columns; and a length with two modes of no kind."""
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(3, (count,), generator=g)
    lengths = torch.tensor([[38.8, 18.3], [48.8, 18.4], [47.5, 15.0]])[kind] + torch.randn(count, 2, generator=g)
    modes = 10 + 8 * (torch.rand(count, generator=g) < 0.4) + torch.randn(count, generator=g)
    return torch.cat([lengths, modes[:, None], torch.nn.functional.one_hot(kind)], 1).double()


def mean_log_likelihood(rows: Tensor, every: NormalScoreCodec, choice: tuple[bool, ...], given: Tensor | None = None) -> float:
    """Of a normal distribution fitted to the coordinates as chosen, as a density of the coordinates `u`, beside `given`."""
    plain, scores, slopes = every.standardized(rows)
    chosen = torch.where(torch.tensor(choice), scores, plain)
    regressors = torch.ones(len(rows), 1).double() if given is None else given
    left = chosen - regressors @ torch.linalg.lstsq(regressors, chosen, driver="gelsd").solution
    covariance = left.T @ left / (len(rows) - regressors.shape[1])
    fitted = torch.tensor([len(column.values) / len(rows) for column in every.maps])
    normal = MultivariateNormal(torch.zeros(len(choice)).double(), covariance)
    # The last term of a normal density is the same for each choice: half the number of columns.
    return float(normal.log_prob(left[:1] * 0) + ((slopes.mean(0) + WORTH - fitted) * torch.tensor(choice)).sum())


@pytest.mark.parametrize("noise", [0.01, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_the_likeliest_choice_of_all_is_found(seed: int, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measures(seed, noise)
    every = maps(rows, monkeypatch)
    found = tuple(likelier_as_scores(rows, every, torch.ones(4, dtype=torch.bool)))
    assert found == max(product((True, False), repeat=4), key=lambda choice: mean_log_likelihood(rows, every, choice))


@pytest.mark.parametrize("seed", range(4))
def test_the_likeliest_choice_beside_kinds_is_found(seed: int) -> None:
    rows = species(seed)
    with pytest.MonkeyPatch.context() as patch:
        every = maps(rows[:, :3], patch)
    found = tuple(likelier_as_scores(rows, every, torch.ones(3, dtype=torch.bool)))
    assert found == max(product((True, False), repeat=3), key=lambda choice: mean_log_likelihood(rows, every, choice, rows[:, 3:]))


def test_a_mode_for_each_kind_stays_only_beside_the_kinds() -> None:
    (codec,) = fit_normal_scores(species(0), range(3), [False] * 3)
    assert codec.places == (2,)
    (codec,) = fit_normal_scores(species(0)[:, :3], range(3), [False] * 3)
    assert codec.places == (0, 1, 2)


def test_too_many_columns_of_two_values_tell_nothing() -> None:
    rows = species(0, 60)
    beside = (torch.rand(60, 60, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    (codec,) = fit_normal_scores(torch.cat([rows, beside], 1), range(3), [False] * 3)
    (alone,) = fit_normal_scores(rows[:, :3], range(3), [False] * 3)
    assert codec.places == alone.places


def test_what_lies_on_a_plane_stays_and_what_has_two_modes_is_mapped() -> None:
    (codec,) = fit_normal_scores(measures(0), range(4), [True] * 4)
    assert codec.places == (3,)
    rows = measures(0, noise=1.0)
    rows[:, 0] = (rows[:, 0].log() ** 3).exp()
    (codec,) = fit_normal_scores(rows, range(4), [True] * 4)
    assert {0, 3} <= {*codec.places}


def test_noise_around_a_plane_is_as_narrow_once_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measures(2)
    (codec,) = fit_normal_scores(rows, range(4), [True] * 4)
    width, height, area = codec.encode(rows.clone())[:, :3].log().T
    assert float((area - width - height).std()) == pytest.approx(0.01, rel=4 / (2 * N) ** 0.5)
    width, height, area = maps(rows, monkeypatch).encode(rows.clone())[:, :3].log().T
    assert float((area - width - height).std()) > 0.02


def test_few_rows_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measures(0).repeat(1, 20)[:60, :64]
    assert all(likelier_as_scores(rows, maps(rows, monkeypatch), torch.ones(64, dtype=torch.bool)))


def test_a_column_with_favourites_keeps_its_map() -> None:
    rows = measures(0)
    rows[:, 0] = (20 * rows[:, 0]).round().clamp_min(1) / 20
    rows[:, 2] = rows[:, 0] * rows[:, 1]
    (codec,) = fit_normal_scores(rows, range(4), [True] * 4, cells=[1 / 20, 0.0, 0.0, 0.0])
    assert 0 in codec.places
