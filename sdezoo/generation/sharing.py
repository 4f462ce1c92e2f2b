"""The share of one process in a large drawing; the one file of sampling that knows accelerate.

`accelerate launch` or `torchrun` start the same command several times. The processes exchange nothing but that they have come so
far: what they draw is keyed by its row, and lies in files. They meet through gloo, on whatever device they compute.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta

import torch

from sdezoo.errors import RunError
from sdezoo.store.launch import launched

_LONGEST_WAIT = timedelta(days=7)


@dataclass(frozen=True)
class Share:
    """One of `count` processes.

    Args:
        index: of this process. count: of all. local: index of this process on its machine.
    """

    index: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def join(cls) -> Share:
        """This process among those that were launched together; the only one in a plain command."""
        if launched() == 1:
            return cls()
        # accelerate would take all cores for each process, and warn that it does.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))))
        from accelerate import PartialState

        state = PartialState(cpu=True, timeout=_LONGEST_WAIT)
        return cls(state.process_index, state.num_processes, state.local_process_index)

    @property
    def first(self) -> bool:
        """Whether this process is the one that puts results together and shows them."""
        return self.index == 0

    def device(self, chosen: torch.device) -> torch.device:
        """Of this process: of `cuda` without a number, each on a machine takes its own.

        Raises:
            RunError: where there are fewer.
        """
        if self.count == 1 or chosen.type != "cuda" or chosen.index is not None:
            return chosen
        if self.local >= torch.cuda.device_count():
            raise RunError(
                f"{self.local + 1} processes were launched for {torch.cuda.device_count()} GPUs.",
                "Launch one for each GPU, or give --device.",
            )
        return torch.device("cuda", self.local)

    def wait(self) -> None:
        """Until all processes are here. Where one of them has ended, so does this one: the other has said why."""
        if self.count > 1:
            from accelerate import PartialState

            try:
                PartialState().wait_for_everyone()
            except RuntimeError:
                raise SystemExit(1) from None
