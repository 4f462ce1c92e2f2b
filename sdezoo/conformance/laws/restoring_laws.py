"""The law of restoring: the results of a process depend only on what a checkpoint records of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from sdezoo.conformance.bank.answers import answers
from sdezoo.conformance.bank.cases import smallest_event, typical
from sdezoo.conformance.bank.loss_trials import SmallNetwork
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.conformance.evidence import close
from sdezoo.conformance.law import LawError, Suite
from sdezoo.data.dataset import Kind
from sdezoo.data.encoding import Encoding
from sdezoo.errors import PluginError
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.network import Network
from sdezoo.process.process import Process
from sdezoo.store.checkpoint import State, save
from sdezoo.store.restoring import restore
from sdezoo.zoo.registry import NETWORKS, SDES, Registry

RESTORING_LAWS: Suite[Process] = Suite()

_ROWS = 12
_SHARES = (0.0, 0.4, 1.0)
_PROVIDER = "the laws"


@dataclass(frozen=True)
class NetworkOfTheLaws(Network):
    """A small network with fixed non-zero weights."""

    def module(self, shape: tuple[int, ...], classes: int | None = None) -> nn.Module:
        return SmallNetwork(math.prod(shape), shape)


@RESTORING_LAWS.law()
def restored(sde: Any) -> None:
    """A model restored from its run folder gives the same results as the saved one, even if the class was since adapted to other data."""
    with _registered(SDES, type(sde)) as kind, _registered(NETWORKS, NetworkOfTheLaws) as network, TemporaryDirectory() as folder:
        sde, net = kind(**sde.parameters()), network()
        x0 = _data(sde, 0.0, 1.0)
        adapted = sde.adapted(x0)
        model = ScoreModel.for_data(adapted, net.module(adapted.network_input_shape(x0.shape[1:])), x0)
        expected = _answers(model, x0, places := _states(adapted, x0))
        save(Path(folder), _state(model, net, x0), {"ema": model.state_dict()})
        sde.adapted(_data(sde, 0.4, 0.5))
        found = restore(Path(folder)).model
        if found.sde != adapted:
            raise LawError(f"The restored process is {found.sde.full_spec}.", adapted.full_spec)
        for name, value in _answers(found, x0, places).items():
            close(f"{name} of the restored model", value, expected[name], rtol=1e-6, atol=1e-6 * float(expected[name].abs().max()))


def _data(sde: Process, centre: float, width: float) -> Tensor:
    event = smallest_event(sde)
    normals = centre + width * torch.linspace(-1, 1.3, _ROWS * math.prod(event), dtype=torch.float64)
    return typical(sde, normals.reshape(_ROWS, *event)).float()


def _states(sde: Process, x0: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Noised data, and their times."""
    lo, hi = sde.t_span
    times = [torch.tensor(lo + share * (hi - lo), dtype=torch.float64) for share in _SHARES]
    return [(sde.perturb(x0, t, keyed(len(x0), 1)), t) for t in times]


def _answers(model: ScoreModel[Any], x0: Tensor, states: list[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    found = {"prior": model.prior(tuple(x0.shape), keyed(len(x0), 2), x0)}
    with torch.no_grad():
        for z, t in states:
            at = f"at t = {float(t):.3g}"
            found[f"model.predict {at}"] = model.predict(z, t)
            found |= {f"{name} {at}": value for name, value in answers(model.sde, x0, z, t, lambda: keyed(len(x0), 3)).items()}
    return found


_KINDS: dict[int, Kind] = {2: "paths", 3: "image"}  # by the number of axes of a row; else points


def _state(model: ScoreModel[Any], net: Network, x0: Tensor) -> State:
    kind, low, high = _KINDS.get(x0.ndim - 1, "points"), float(x0.min()), float(x0.max())
    return State(
        step=1,
        sde=model.sde.full_spec,
        net=net.full_spec,
        output=model.output_name,
        event=tuple(x0.shape[1:]),
        kind=kind,
        columns=(),
        levels=None,
        range=(low, high) if kind == "image" else ([low], [high]),
        encoding=Encoding.affine(1.0, 0.0).to_json(),
        averaged=1,
        seconds=0.0,
    )


@contextmanager
def _registered(registry: Registry[Any], cls: type[Any]) -> Iterator[type[Any]]:
    """`cls` if it is registered; else a subclass that is registered inside the block, under a name of its own."""
    try:
        registered = registry.load(cls.title()) is cls
    except PluginError:
        registered = False
    if registered:
        yield cls
        return
    tried = dataclass(frozen=True)(type(f"{cls.__name__}UnderTheLaws", (cls,), {"__doc__": cls.__doc__, "__module__": cls.__module__}))
    name = registry.add(tried, _PROVIDER)
    try:
        yield registry.load(name)
    finally:
        registry.remove(name)
