"""From a checkpoint to a model that samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from sdezoo.data.encoding import AffineMap
from sdezoo.errors import RunError, SdezooError
from sdezoo.learning.model import ScoreModel
from sdezoo.learning.prior import FittedPrior, Moments
from sdezoo.sampling.likelihood import Estimate, estimate
from sdezoo.store.checkpoint import DamagedError, State, choose, newest_whole, read_state, read_tensors
from sdezoo.store.provenance import check_providers
from sdezoo.zoo.registry import NETWORKS, SDES


@dataclass(frozen=True)
class Trained:
    """A model ready to sample, and the way from and back to the user's units."""

    model: ScoreModel
    state: State
    map: AffineMap

    def log_prob(self, x: Tensor, **options: Any) -> Tensor:
        """The log-density of data `x` in the user's own units, in nats, float64 `(B,)` on the CPU: the first half of `likelihood`."""
        return self.likelihood(x, **options).nats

    def likelihood(self, x: Tensor, *, noised: bool = True, **options: Any) -> Estimate:
        """`log p(x) = log p(map(x)) + Σ log |scale|` for `x` `(B, *event)` in the user's own units, with its standard error.

        `options` are those of `sdezoo.sampling.likelihood.estimate`. By default the law is the one at the smallest noise level that
        the network knows (`noised`): that one integrates to 1 whatever the network has learnt.

        Raises:
            SdezooError: as `estimate` does.
        """
        found = estimate(self.model, self.map(x), noised=noised, **options)
        return found._replace(nats=found.nats + self.log_scale)

    @property
    def log_scale(self) -> float:
        """`Σ log |scale|` of the map: what a log-density in the user's units has more than one in the process's domain."""
        return float(self.map.scale.abs().log().expand(self.state.event).sum())


def restore(run: Path, which: str = "newest") -> Trained:
    """A model of a run folder (see `choose`), with the moving average of its weights, on the CPU.

    A training may be writing there.

    Raises:
        RunError: where there is none, or it is damaged, naming the newest that is not.
        PluginError: where a plugin that it was trained with is not installed.
    """
    while True:
        try:
            return _restored(choose(run, which))
        except DamagedError as error:
            if not error.checkpoint.exists():
                continue  # a training has just replaced it by a newer one
            whole, _ = newest_whole(run)
            other = f"Give --checkpoint {whole.name.removeprefix('step-')}, the newest that is whole, or train" if whole else "Train"
            raise RunError(error.problem, f"{other} again.") from None


def _restored(checkpoint: Path) -> Trained:
    state, tensors = read_state(checkpoint), read_tensors(checkpoint, "ema")
    check_providers({key: provider for key, provider in state.plugins.items() if key.startswith(("sdes/", "networks/"))})
    sde = SDES.build(state.sde)
    network = NETWORKS.build(state.net)
    try:
        with torch.device("meta"), _at_most(sum(values.numel() for values in tensors.values()), checkpoint):
            shape = sde.network_input_shape(state.event)
            network.module(shape, state.classes)
        net = network.module(shape, state.classes)
        moments = Moments(tensors["mean"], tensors["std"])
        parts = [tensors[f"fitted.{part}"] for part in FittedPrior.PARTS] if "fitted.mean" in tensors else None
        model = ScoreModel(sde, net, state.output, moments=moments, fitted=FittedPrior(*parts) if parts else None)
        model.load_state_dict(tensors)
    except SdezooError:
        raise
    except (KeyError, RuntimeError, ValueError):
        raise DamagedError(checkpoint, "'ema.safetensors' does not fit the network") from None
    return Trained(model.eval().requires_grad_(False), state, AffineMap.from_json(state.map))


@contextmanager
def _at_most(numbers: int, checkpoint: Path) -> Iterator[None]:
    """A network with more parameters than a checkpoint holds is not finished: `state.json` may ask for any width and depth."""
    left = numbers

    def see(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else parameter.numel()
        if left < 0:
            raise DamagedError(checkpoint, "'ema.safetensors' does not fit the network")

    handle = register_module_parameter_registration_hook(see)
    try:
        yield
    finally:
        handle.remove()
