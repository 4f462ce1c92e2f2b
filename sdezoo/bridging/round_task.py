"""Tasks that are trained in rounds: what `rounds` asks of them."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Self

from sdezoo.process.bridge import Bridge
from sdezoo.training.task import Task


class RoundTask(Task[Bridge]):
    """One direction of a bridge, trained on pairs of ends. Abstract: `paired` and `simulation_steps`, beside those of `Task`."""

    in_rounds: ClassVar[bool] = True

    simulation_steps: int
    """Steps of the sampler, in each span, when a round simulates the pairs of the next."""

    @abstractmethod
    def paired(self, digest: str | None) -> Self:
        """The task on the simulated pairs with this digest, which lie in the run folder; None: on its first coupling.

        Args:
            digest: SHA-256 in hexadecimal, see `sdezoo.bridging.couplings`.
        """
