"""The likelihood in the user's own units is a density there, and what stands beside it is the law of two moments."""

import dataclasses
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from sdezoo import DATASETS, NETWORKS, SDES, ScoreModel
from sdezoo.conformance.bank.problems import Mixture
from sdezoo.data.codecs.codec import AffineCodec
from sdezoo.data.dataset import Data
from sdezoo.data.encoding import Encoding
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError
from sdezoo.process.noise import Noise
from sdezoo.runs import likelihood as module
from sdezoo.runs.likelihood import likelihood
from sdezoo.runs.train import train
from sdezoo.store.checkpoint import State
from sdezoo.store.restoring import Trained, restore
from sdezoo.training.config import TrainingConfig
from tests.analytic import at, coordinates

WIDE = torch.float64
STATE = State(0, "gbm", "mlp", "edm", (1,), "table", (), None, (0.0, 1.0), {}, 0, 0.0)


class Exact(Mixture):
    """A problem that knows the density of its prior."""

    def prior_log_prob(self, z):
        return self.log_density(z, at(self.sde.t_span[1]))


def exact(spec, scale, shift, entries=1):
    """A run whose score is exact: a mixture in coordinates, in units of the user."""
    means = torch.tensor([[-0.8], [0.9]]).expand(2, entries)
    model = Exact(SDES.build(spec), means, torch.tensor([[0.35], [0.45]]).expand(2, entries), torch.tensor([0.6, 0.4]))
    state = dataclasses.replace(STATE, event=(entries,))
    return Trained(model, state, Encoding.affine(torch.tensor(scale), torch.tensor(shift)))  # pyright: ignore[reportArgumentType]


def trained_run(folder: Path, **values: object) -> Path:
    given = {"net": "mlp:width=16,depth=1", "steps": 2, "batch_size": 8, "data": "wine", "out": str(folder / "run"), **values}
    return train(TrainingConfig.build(given)).run


@pytest.fixture(scope="module")
def wine(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("wine"))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained_run(tmp_path_factory.mktemp("digits"), data="digits", net="unet:width=8")


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8", "vp"])
@pytest.mark.parametrize("noised", [True, False])
def test_an_exact_density_integrates_to_one_in_the_units_of_the_user(spec, noised):
    trained = exact(spec, [-0.02], [3.0] if spec == "vp" else [0.5])
    raw = trained.encoding.decode(trained.model.sde.decode(torch.linspace(-4, 4, 801, dtype=WIDE)[:, None]))
    mass = torch.trapezoid(trained.log_prob(raw, noised=noised).exp(), raw[:, 0].double())
    assert abs(float(mass)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("spec", ["gbm:sigma=0.8", "vp"])
def test_an_exact_density_is_that_of_the_law(spec):
    trained = exact(spec, [-0.02], [0.5])
    z = trained.model.clean(50, seed=1)
    x = trained.model.sde.decode(z)
    stretch = trained.model.sde.coordinates.log_abs_det_jacobian(z, x)[:, 0]
    found = trained.log_prob(trained.encoding.decode(x), noised=False)
    wanted = trained.model.log_density(z, at(0.0)) - stretch + math.log(0.02)
    assert float((found - wanted).abs().max()) < 1e-3


def test_whatever_a_network_has_learnt_its_density_integrates_to_one():
    sde, z = SDES.build("gbm:sigma=0.8"), torch.linspace(-8, 8, 4001)[:, None]
    model = ScoreModel.for_data(sde, NETWORKS.build("mlp:width=32,depth=2").module((1,)), coordinates(200, 1).exp().float())
    generator = torch.Generator().manual_seed(0)
    for weight in model.requires_grad_(False).parameters():
        weight.copy_(torch.randn(weight.shape, generator=generator))
    trained = Trained(model, STATE, Encoding.affine(torch.tensor(2.0), torch.tensor(0.5)))
    raw = trained.encoding.decode(z.exp())
    assert float(torch.trapezoid(trained.log_prob(raw).exp(), raw[:, 0].double())) == pytest.approx(1, abs=1e-3)


def test_a_change_of_units_adds_the_logarithm_of_its_factor():
    """To the bit, where factors are powers of two."""
    factors = torch.tensor([4.0, 0.5, 2.0])
    here, there = (exact("gbm", scale.tolist(), [0.25, 0.5, 0.125], 3) for scale in (torch.ones(3), 1 / factors))
    raw = here.encoding.decode(here.model.sde.decode(here.model.clean(20, seed=2))).float()
    torch.testing.assert_close(there.log_prob(raw * factors), here.log_prob(raw) - math.log(4), rtol=0, atol=1e-9)


def test_a_scale_for_all_columns_counts_once_for_each():
    one, each = exact("vp", 4.0, 0.0, 3), exact("vp", [4.0, 4.0, 4.0], 0.0, 3)
    x = torch.ones(2, 3)
    assert one.log_det(x).tolist() == each.log_det(x).tolist() == [pytest.approx(3 * math.log(4))] * 2


class Category(AffineCodec):
    def log_det(self, raw):
        return None


def test_rows_with_categories_have_no_density():
    trained = replace(exact("vp", 1.0, 0.0, 1), encoding=Encoding((Category(torch.tensor(1.0), torch.tensor(0.0)),)))
    with pytest.raises(RunError, match=r"no density.*sdezoo evaluate"):
        trained.log_prob(torch.ones(2, 1))


def test_a_run_is_judged_on_held_out_rows_beside_the_law_of_two_moments(wine):
    data = DATASETS.build("wine").load()
    seen = []
    found = likelihood(wine, steps=6, batch_size=50, progress=lambda *progress: seen.append(progress))
    torch.testing.assert_close(found.model, -restore(wine).log_prob(data.test, steps=6), rtol=0, atol=1e-4)
    train_rows, test_rows = data.train.double().log().numpy(), data.test.double().log().numpy()
    law = multivariate_normal(train_rows.mean(0), np.cov(train_rows.T))
    assert found.reference is not None
    torch.testing.assert_close(found.reference, torch.from_numpy(test_rows.sum(1) - law.logpdf(test_rows)), rtol=0, atol=1e-3)
    assert (found.dims, found.probes, found.width) == (13, None, None)
    assert found.law == "log-normal, full covariance"
    assert found.data == "the held-out part of wine"
    assert seen == sorted(seen)
    assert seen[-1] == (89, 89)
    assert len(seen) == 12


def test_figures_are_means_with_their_errors(wine):
    record = likelihood(wine, n=20, steps=2, divergence="hutchinson", probes=3).record()
    found = likelihood(wine, n=20, steps=2, divergence="hutchinson", probes=3)
    nats = record["model"]["nats"]
    assert nats["mean"] == float(found.model.mean())
    assert nats["standard_error"] == pytest.approx(float(found.model.std()) / 20**0.5)
    assert record["model"]["nats_per_dim"]["mean"] == pytest.approx(nats["mean"] / 13)
    assert record["model"]["bits_per_dim"]["mean"] == pytest.approx(nats["mean"] / 13 / math.log(2))
    assert record["difference"]["nats"]["mean"] == pytest.approx(nats["mean"] - record["reference"]["nats"]["mean"])
    assert record["difference"]["nats"]["standard_error"] == pytest.approx(float((found.model - found.reference).std()) / 20**0.5)
    assert record["probe_spread"] == pytest.approx(float((found.probe_error**2).sum()) ** 0.5 / 20)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert likelihood(wine, n=1, steps=2, divergence="hutchinson", probes=1).probe_spread is None
    assert likelihood(wine, n=1, steps=2).record()["model"]["nats"]["standard_error"] is None


def test_rows_are_a_choice_by_the_seed_and_values_do_not_depend_on_batches(wine):
    def some(**options):
        return likelihood(wine, n=10, steps=2, divergence="hutchinson", **options)

    whole, parts, other = some(), some(batch_size=3), some(seed=1)
    assert torch.equal(whole.rows, whole.rows.unique())
    assert torch.equal(whole.rows, parts.rows)
    assert not torch.equal(whole.rows, other.rows)
    torch.testing.assert_close(parts.model, whole.model, rtol=1e-5, atol=1e-4)
    test = DATASETS.build("wine").load().test
    again = restore(wine).likelihood(test[whole.rows], steps=2, divergence="hutchinson", probes=2)
    torch.testing.assert_close(-again.nats, whole.model, rtol=1e-5, atol=1e-4)


def test_parts_of_the_data(wine, tmp_path):
    data = DATASETS.build("wine").load()
    trained = restore(wine)
    for part, rows in {"train": data.train, "all": torch.cat([data.train, data.test])}.items():
        found = likelihood(wine, split=part, steps=1)
        torch.testing.assert_close(-found.model, trained.log_prob(rows, steps=1), rtol=0, atol=1e-4)
    np.save(tmp_path / "other.npy", data.test[:20].numpy())
    other = likelihood(wine, data=f"array:path={tmp_path / 'other.npy'},holdout=0", steps=1)
    torch.testing.assert_close(-other.model, trained.log_prob(data.test[:20], steps=1), rtol=0, atol=1e-4)
    torch.testing.assert_close(other.reference, likelihood(wine, steps=1).reference[:20])


def test_values_of_a_lattice_are_spread_over_the_cells_around_them(digits):
    raw = DATASETS.build("digits").load().test
    cells = module._spread(raw, 16, Noise.seeded(0))
    assert torch.equal((cells * 16).round(), raw * 16)
    off = (cells - raw) * 16
    assert (off.abs() <= 0.5 + 1e-5).all()
    assert abs(float(off.mean())) < 4.5 / math.sqrt(12 * off.numel())
    found = likelihood(digits, n=8, steps=2)
    assert (found.width, found.dims, found.probes) == (1 / 16, 64, 2)
    assert found.law == "log-normal, diagonal covariance"
    assert torch.equal(found.model, likelihood(digits, n=8, steps=2).model)


def test_probabilities_of_a_lattice_sum_to_one(tmp_path, monkeypatch):
    """Counts in halves: a cell of width ½ has half the density."""
    generator = torch.Generator().manual_seed(0)
    counts = (8 * torch.randn(400, 1, generator=generator) + 20).round() / 2
    np.save(tmp_path / "counts.npy", counts.numpy())
    run = trained_run(tmp_path, data=str(tmp_path / "counts.npy"), sde="vp")
    every = torch.arange(-40, 80)[:, None] / 2
    monkeypatch.setattr(module, "training_data", lambda *_: Data(counts, every, "points", levels=2))
    found = likelihood(run, steps=20)
    for values in (found.model, found.reference):
        assert values is not None
        assert float((-values).exp().sum()) == pytest.approx(1, abs=0.02)


def test_where_there_is_no_law_of_two_moments_it_is_said(tmp_path):
    rows = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) + 1
    runs = {}
    for name, column in {"constant": torch.ones(40), "sum": rows.sum(1)}.items():
        np.save(tmp_path / f"{name}.npy", torch.cat([rows, column[:, None]], 1).numpy())
        runs[name] = trained_run(tmp_path, data=str(tmp_path / f"{name}.npy"), out=str(tmp_path / name), sde="vp")
    with pytest.raises(RunError, match="constant columns"):
        likelihood(runs["constant"], steps=1)
    found = likelihood(runs["sum"], steps=1)
    assert found.reference is None
    assert "full rank" in found.law
    assert set(found.figures) == {"model"}
    assert found.record()["reference"] is None
    (tmp_path / "sum.npy").rename(tmp_path / "moved.npy")
    found = likelihood(tmp_path / "sum", data=str(tmp_path / "moved.npy"), steps=1)
    assert "cannot be read (There is no file" in found.law
    assert len(found.rows) == 40


def test_rows_without_a_density_are_refused_by_their_numbers(wine, tmp_path):
    rows = DATASETS.build("wine").load().test[:20].clone()
    rows[3, 2], rows[5, 1] = 0.0, -1.0
    np.save(tmp_path / "bad.npy", rows.numpy())
    with pytest.raises(DataError, match=r"^2 rows \(number 3, 5, counted from 0\) have values outside the support of 'gbm'"):
        likelihood(wine, data=f"array:path={tmp_path / 'bad.npy'},holdout=0")
    rows = DATASETS.build("wine").load().test[:20].clone()
    rows[12:] = -1
    np.save(tmp_path / "bad.npy", rows.numpy())
    with pytest.raises(DataError, match=r"^8 rows \(number 12, 13, 14, 15, 16, …, counted"):
        likelihood(wine, data=f"array:path={tmp_path / 'bad.npy'},holdout=0")
    with pytest.raises(DataError, match=r"rows \(number 1[2-9], 1"):
        likelihood(wine, data=f"array:path={tmp_path / 'bad.npy'},holdout=0", n=10)


def test_what_has_no_likelihood_is_refused(wine, tmp_path):
    with pytest.raises(DataError, match=r"have shape \(2,\), but the model has \(13,\)"):
        likelihood(wine, data="spirals")
    data = DATASETS.build("wine").load()
    header = ",".join(reversed(data.columns))
    np.savetxt(tmp_path / "turned.csv", data.test[:20].numpy(), delimiter=",", header=header, comments="")
    with pytest.raises(DataError, match=r"Column 0 of .* is called 'proline', and the model's 'alcohol'"):
        likelihood(wine, data=str(tmp_path / "turned.csv"))
    with pytest.raises(ParameterError, match="split=half"):
        likelihood(wine, split="half")
    for wrong in ("n", "steps", "probes", "batch_size"):
        with pytest.raises(ParameterError, match=f"{wrong}=0"):
            likelihood(wine, **{wrong: 0})
    np.save(tmp_path / "whole.npy", data.train.numpy())
    with pytest.raises(DataError, match="no rows in the held-out part"):
        likelihood(wine, data=f"array:path={tmp_path / 'whole.npy'},holdout=0", split="test")
    with pytest.raises(CompositionError, match="the score of the data only"):
        likelihood(trained_run(tmp_path, loss="nonneg-sm:levels=data"))


def test_a_flow_that_runs_away_is_refused(wine, monkeypatch):
    trained = restore(wine)
    for weight in trained.model.parameters():
        weight.fill_(math.nan)
    monkeypatch.setattr(module, "restore", lambda _run, _which: trained)
    with pytest.raises(RunError, match=r"^3 rows .* have no finite likelihood"):
        likelihood(wine, n=3, steps=1)
