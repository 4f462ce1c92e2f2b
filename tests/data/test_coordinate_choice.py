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


def mean_log_likelihood(rows: Tensor, every: NormalScoreCodec, choice: tuple[bool, ...]) -> float:
    """Of a normal distribution fitted to the coordinates as chosen, as a density of the coordinates `u`."""
    plain, scores, slopes = every.standardized(rows)
    chosen = torch.where(torch.tensor(choice), scores, plain)
    normal = MultivariateNormal(chosen.mean(0), chosen.T.cov())
    return float(normal.log_prob(chosen).mean() + ((slopes.mean(0) + WORTH) * torch.tensor(choice)).sum())


@pytest.mark.parametrize("seed", range(4))
def test_the_likeliest_choice_of_all_is_found(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = measures(seed)
    every = maps(rows, monkeypatch)
    found = tuple(likelier_as_scores(rows, every, torch.ones(4, dtype=torch.bool)))
    assert found == max(product((True, False), repeat=4), key=lambda choice: mean_log_likelihood(rows, every, choice))


def test_what_lies_on_a_plane_stays_and_what_has_two_modes_is_mapped() -> None:
    (codec,) = fit_normal_scores(measures(0), range(4), [True] * 4)
    assert codec.places == (3,)
    (codec,) = fit_normal_scores(measures(0, noise=1.0), range(4), [True] * 4)
    assert codec.places == (0, 1, 2, 3)


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
