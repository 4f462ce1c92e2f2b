"""Every registered loss obeys its laws, and so do losses of processes that are none of the reference ones."""

from dataclasses import dataclass

import pytest
from torch.distributions import StickBreakingTransform

from sdezoo.conformance.bank.problems import Additive
from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from sdezoo.learning.loss import ScoreLoss
from sdezoo.zoo.registry import LOSSES
from tests.conformance.right.losses import Denoising, Sliced
from tests.conformance.trying import try_law
from tests.process.edges import BetweenWalls, Kinetic, Stable

VARIANTS = ["dsm:weighting=paper", "dsm:weighting=uniform", "mult-dsm:weighting=paper", "nonneg-sm:levels=data"]


@pytest.mark.parametrize("law", LOSS_LAWS.names)
@pytest.mark.parametrize("spec", [*LOSSES.names(), *VARIANTS])
def test_the_law_holds(spec, law):
    try_law(LOSS_LAWS, law, LOSSES.build(spec))


@dataclass(frozen=True)
class Simplex(Additive):
    """Affine, with rows that sum to one: a state of two entries for data of three."""

    @property
    def coordinates(self):
        return StickBreakingTransform()


@dataclass(frozen=True)
class OfKinetic(Denoising, ScoreLoss[Kinetic]):
    """Denoising of a state with auxiliaries."""


@dataclass(frozen=True)
class OfKineticSliced(Sliced, ScoreLoss[Kinetic]):
    """An implicit loss of a process whose conditional score cannot be differentiated."""


@dataclass(frozen=True)
class OfReflected(Denoising, ScoreLoss[BetweenWalls]):
    """Denoising between walls."""


@dataclass(frozen=True)
class OfReflectedSliced(Sliced, ScoreLoss[BetweenWalls]):
    """An implicit loss between walls, where the density does not vanish: integration by parts leaves a term that it forgets."""

    def refuses(self, sde):
        return ScoreLoss.refuses(self, sde)


@dataclass(frozen=True)
class OfStable(Denoising, ScoreLoss[Stable]):
    """Denoising of a process without a known density, whose network learns a denoiser."""

    def weight(self, model, t, like):
        return (model.sde.error_scale(t) ** -2).to(like)

    def learned(self, model, batch, z, t):
        return model.predict(z, t, batch.condition)

    def target(self, sde, x0, z, t, noise):
        return sde.target(z, x0, t)


@dataclass(frozen=True)
class OfSimplex(Denoising, ScoreLoss[Simplex]):
    """Denoising of a state that is smaller than the data."""


@pytest.fixture
def broken(monkeypatch):
    def tried(loss, sde):
        monkeypatch.setattr("sdezoo.conformance.bank.loss_trials.defaults", lambda _: [] if sde is None else [("sde", sde)])
        verdicts = list(LOSS_LAWS.verdicts(loss))
        named = {outcome: {v.law: v.reason for v in verdicts if v.outcome == outcome} for outcome in ("broken", "excused", "untried")}
        assert not named["untried"]
        return named["broken"], named["excused"]

    return tried


@pytest.mark.parametrize(
    ("loss", "sde"),
    [(OfKinetic(), Kinetic()), (OfKineticSliced(), Kinetic()), (OfReflected(), BetweenWalls()), (OfSimplex(), Simplex())],
    ids=lambda plugin: plugin.spec,
)
def test_losses_of_other_processes_are_tried_on_registered_ones(broken, loss, sde):
    found, excused = broken(loss, sde)
    assert found == {}
    others = {"minimizer-at-walls", "minimizer-with-matrix-noise"}  # on processes of their own
    others |= {"every-parameter-counts", "every-whole-number-is-read", "zero-is-a-number"}  # they have no hyper-parameters
    assert set(excused) == {"equivalence", *others} | (set() if isinstance(sde, Simplex) else {"recovers-a-normal-law"})


def test_implicit_losses_do_not_learn_the_score_between_walls(broken):
    assert {"minimizer", "minimizer-at-the-last-time", "gradient"} <= set(broken(OfReflectedSliced(), BetweenWalls())[0])


def test_what_needs_a_density_is_excused_without_one(broken):
    found, excused = broken(OfStable(), Stable())
    assert found == {}
    assert excused["minimizer"] == excused["minimum"] == "It accepts no installed process whose transition density is known."


def test_a_loss_that_accepts_nothing_is_excused(broken):
    found, excused = broken(OfStable(), None)
    assert found == {}
    assert set(excused) == {law.name for law in LOSS_LAWS.laws} - {"config-round-trip"}
    assert excused["contract"] == "It accepts no installed process."
