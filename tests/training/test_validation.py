"""The held-out loss: an unbiased and repeatable estimate of the loss that training minimizes."""

import pytest
import torch

from sdezoo import LOSSES, NETWORKS, SDES
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.learning.loss import Batch
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.noise_levels import NoiseLevels, quantiles, times_at
from sdezoo.process.noise import Noise
from sdezoo.training.validation import ValidationLoss, per_entry

CODE = Encoding.affine(torch.tensor(2.0), torch.tensor(1.0))
MANY = 2**15


def rows(n: int) -> torch.Tensor:
    return torch.rand(n, 2, generator=torch.Generator().manual_seed(0)) ** 3


@pytest.mark.parametrize(
    ("sde", "loss", "times"),
    [
        ("vp", "dsm:weighting=uniform", "uniform"),
        ("ve", "dsm:weighting=uniform", "log-normal"),
        ("gbm", "mult-dsm:weighting=paper", "importance"),
        ("vp", "sliced-sm", "log-normal"),
    ],
)
@pytest.mark.parametrize(("n", "batch"), [(700, 128), (100, 8), (3, 64)])
def test_it_estimates_the_expected_loss(sde: str, loss: str, times: NoiseLevels, n: int, batch: int) -> None:
    """Against 2¹⁵ plain draws, within five standard errors of both: stratified times only lower that of the held-out loss."""
    x = rows(n)
    process = SDES.build(sde).adapted(CODE.encode(x))
    part = LOSSES.build(loss)
    torch.manual_seed(0)
    model = ScoreModel.for_data(process, NETWORKS.build("mlp:width=16,depth=1").module((2,), None), CODE.encode(x))
    noise, x0 = Noise.seeded(1), CODE.encode(x[torch.arange(MANY) % n])
    t = times_at(times, model, part.t_span(process), quantiles((MANY, 1), noise)).to(x0)
    losses = per_entry(part, model, Batch(x0), t, noise, 0).detach().double()
    validation_loss = ValidationLoss(part, times, 5, Data(x[:0], x, "points"), CODE, None, batch=batch, size=17, device=torch.device("cpu"))
    found = validation_loss.measure(model)
    assert found is not None
    draws = min(512, 8 * batch)
    assert abs(found - float(losses.mean())) < 5 * float(losses.std()) * (draws**-0.5 + MANY**-0.5)
    assert validation_loss.measure(model) == found
    assert model.training


def test_labels_are_given_and_unknown_ones_are_not() -> None:
    """A network that returns its labels: held-out rows of a class that training did not have are rows without one."""
    seen = []

    class Labels(torch.nn.Module):
        def forward(self, x: torch.Tensor, level: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            seen.append(labels)
            return 0 * x

    process = SDES.build("vp")
    model = ScoreModel.for_data(process, Labels(), rows(30))
    labels = torch.arange(30) % 5
    data = Data(rows(30), rows(30), "points", train_labels=labels % 3, test_labels=labels)
    ValidationLoss(LOSSES.build("dsm"), "uniform", 0, data, CODE, 3, batch=30, size=30, device=torch.device("cpu")).measure(model)
    counts = torch.cat(seen).bincount().tolist()
    assert counts == [48, 48, 48, 96]


def test_there_is_none_without_rows_or_where_it_is_not_finite() -> None:
    process = SDES.build("vp")
    model = ScoreModel.for_data(process, NETWORKS.build("mlp:width=16,depth=1").module((2,), None), rows(9))
    for test in (rows(0), torch.full((9, 2), torch.inf)):
        data = Data(rows(9), test, "points")
        validation_loss = ValidationLoss(LOSSES.build("dsm"), "uniform", 0, data, CODE, None, batch=8, size=8, device=torch.device("cpu"))
        assert validation_loss.measure(model) is None
