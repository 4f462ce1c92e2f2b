"""What is taken where the user names no loss, network or sampler: plugins state it, and a process may bring its own sampler."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import ClassVar

import pytest

from sdezoo.errors import CompositionError
from sdezoo.generation.samples import choose_sampler
from sdezoo.process.process import Process
from sdezoo.process.requirement import Requirement
from sdezoo.zoo.composition import defaults, fitting_parts, preferred
from sdezoo.zoo.registry import LOSSES, NETWORKS, SAMPLERS, SDES
from sdezoo_plugins.samplers.affine.dpmpp_2m import DPMpp2M
from sdezoo_plugins.sdes.affine.vp import VP

ORDERS = {
    "image": ("dpmpp-2m-sde", "euler-maruyama"),
    "table": ("unipc:order=3,prediction=noise,spacing=optimized", "euler-maruyama"),
    "points": ("dpmpp-2m", "euler-maruyama"),
}


def first(order, names):
    return next((spec for spec in order if spec.partition(":")[0] in names), names[0])


@pytest.mark.parametrize("sde", [name for name, _ in defaults(SDES)])
def test_the_defaults_of_every_process(sde):
    process = SDES.build(sde)
    for kind, order in ORDERS.items():
        parts = fitting_parts(process, SAMPLERS)
        assert preferred(parts, "samplers", kind) == first(order, [name for name, _ in parts])
    parts = fitting_parts(process, LOSSES)  # none for a bridge, whose task has its own
    assert not parts or preferred(parts, "losses") == first(("mult-dsm", "dsm", "sliced-sm"), [name for name, _ in parts])


@pytest.mark.parametrize(("event", "chosen"), [((3,), "mlp"), ((1, 8, 8), "unet")])
def test_the_default_networks(event, chosen):
    assert preferred([(name, network) for name, network in defaults(NETWORKS) if network.refuses(event) is None], "networks") == chosen


@dataclass(frozen=True)
class Stranger(DPMpp2M):
    """A sampler that states no preference; that of the class it derives from is not its own."""


@dataclass(frozen=True)
class Better(DPMpp2M):
    """One that is preferred for tables alone, on a grid that is not its default."""

    preference: ClassVar[int] = 25
    preferred_for: ClassVar[tuple[str, ...]] = ("table",)
    preferred_with: ClassVar[str] = "spacing=uniform"


def test_who_states_no_preference_comes_last_and_the_highest_wins():
    euler = SAMPLERS.build("euler-maruyama")
    assert preferred([("a", Stranger()), ("euler-maruyama", euler)], "samplers", "table") == "euler-maruyama"
    assert preferred([("b", Stranger()), ("a", Stranger())], "samplers", "table") == "b"
    parts = [("dpmpp-2m", DPMpp2M()), ("z", Better())]
    assert [preferred(parts, "samplers", kind) for kind in ("table", "points")] == ["z:spacing=uniform", "dpmpp-2m"]
    with pytest.raises(CompositionError, match="There are no samplers"):
        preferred([], "samplers")


@dataclass(frozen=True)
class Brings(VP):
    """A process with a sampler of its own."""

    steady: bool = True

    def own_sampler(self):
        return "ddim" if self.steady else None


def test_a_process_brings_its_sampler():
    def chosen(sde, spec=None):
        return choose_sampler(
            SimpleNamespace(model=SimpleNamespace(sde=sde, decides=False), state=SimpleNamespace(kind="table")), spec
        ).title()

    assert chosen(VP()) == chosen(Brings(steady=False)) == "unipc"
    assert chosen(Brings()) == "ddim"
    assert chosen(Brings(), "heun") == "heun"


class Quantum(Process):
    """A kind of process that the core has never heard of."""

    in_words = "a quantum process"


@dataclass(frozen=True)
class Planck(Quantum):
    """One of them, by its own name."""


class OfQuanta(Requirement[Quantum]):
    """What asks for the kind."""


class OfPlanck(Requirement[Planck]):
    """What asks for one."""


def test_a_kind_of_processes_says_its_own_words():
    assert OfQuanta().refuses(VP()) == "needs a quantum process"
    assert OfPlanck().refuses(VP()) == "needs the process Planck"
