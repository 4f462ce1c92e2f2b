"""Plans: a training with every part built and checked, before any data is read or anything is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from sdezoo.data.dataset import Data
from sdezoo.errors import DataError, ParameterError, RunError
from sdezoo.learning.loss import ScoreLoss
from sdezoo.learning.network import Network
from sdezoo.process.process import Process
from sdezoo.store.files import writable_folder
from sdezoo.store.launch import resolve_device
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.composition import check_fit, check_network, check_output, defaults, fitting, preferred
from sdezoo.zoo.datasets import find_dataset, names_a_dataset
from sdezoo.zoo.registry import LOSSES, NETWORKS, SDES

PREFERRED_LOSSES = ("mult-dsm", "dsm", "sliced-sm")
PREFERRED_NETWORKS = ("unet", "mlp")
_BATCH = 128


@dataclass(frozen=True)
class Plan:
    """A training that has been checked and has read no data yet."""

    config: TrainingConfig
    sde: Process
    loss: ScoreLoss
    network: Network | None
    load: Callable[[], Data]
    device: torch.device
    run: Path


def plan(config: TrainingConfig, data: Data | None = None) -> Plan:
    """Build every part of a training and check that they fit. `data`: in place of those that the config names.

    Raises:
        SdezooError: with the reason and the remedy; nothing has been read or written.
    """
    sde = SDES.build(config.sde)
    loss = LOSSES.build(config.loss or preferred(PREFERRED_LOSSES, fitting(sde, LOSSES), f"losses for '{sde.title()}'"))
    check_fit(sde, loss)
    if config.output:
        check_output(sde, config.output)
    network = NETWORKS.build(config.net) if config.net else None
    load = find_dataset(config.data).load if data is None else lambda: data
    source = config.data.partition(":")[0] if names_a_dataset(config.data) else Path(config.data).stem
    if config.tensorboard and find_spec("tensorboard") is None:
        raise RunError("TensorBoard is not installed.", 'Install it: pip install "sdezoo[tensorboard]", or leave out --tensorboard.')
    run = Path(config.out or f"runs/{source}-{sde.title()}-{loss.title()}")
    writable_folder(run)
    config = config.model_copy(update={"out": str(run), "loss": config.loss or loss.spec})
    return Plan(config, sde, loss, network, load, resolve_device(config.device), run)


def choose_network(made: Plan, event: tuple[int, ...]) -> Network:
    """The planned network, or the first preferred one that works with data of shape `event`.

    Raises:
        CompositionError: where it does not work with the data, or none does.
    """
    fits = [name for name, network in defaults(NETWORKS) if network.refuses(event) is None]
    network = made.network or NETWORKS.build(preferred(PREFERRED_NETWORKS, fits, f"networks for data of shape {event}"))
    check_network(network, event)
    return network


def choose_batch(made: Plan, rows: int) -> int:
    """The samples of a step, for data of `rows` rows.

    Raises:
        ParameterError: where more were asked for than there are.
    """
    asked = made.config.batch_size
    if asked is not None and asked > rows:
        raise ParameterError(f"A batch of {asked} is larger than the data, which have {rows} rows.", f"Give --batch-size at most {rows}.")
    return asked or _BATCH


def choose_classes(made: Plan, data: Data) -> int | None:
    """How many classes the network is told of; None without `condition`.

    Raises:
        DataError: where the data have no labels, or a single one.
    """
    if made.config.condition is None:
        return None
    if data.train_labels is None:
        raise DataError(f"The data '{made.config.data}' have no labels.", "Leave out --condition, or give data with labels.")
    classes = int(data.train_labels.max()) + 1
    if len(data.train_labels.unique()) < 2:
        raise DataError(f"All rows of '{made.config.data}' have the same label.", "Leave out --condition: there is nothing to tell apart.")
    return classes
