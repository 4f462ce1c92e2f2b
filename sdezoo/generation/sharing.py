"""Distributed sampling: the rank of a process and its barriers. This is the only module of sampling that uses accelerate.

`accelerate launch` or `torchrun` start the same command in several processes. The processes exchange no data: samples are keyed by their
index and passed on as files. They only synchronize at barriers, through gloo, on any device.
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
    """The rank of a process in a distributed launch.

    Args:
        index: rank of this process.
        count: number of processes.
        local: local rank of this process on its machine.
    """

    index: int = 0
    count: int = 1
    local: int = 0

    @classmethod
    def join(cls) -> Share:
        """Join the processes that were launched together; in a plain command there is only this one.

        Raises:
            RunError: if the environment does not describe a launch.
        """
        if launched() == 1:
            return cls()
        # By default accelerate lets every process use all cores, and warns about it.
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))))
        from accelerate import PartialState

        state = PartialState(cpu=True, timeout=_LONGEST_WAIT)
        return cls(state.process_index, state.num_processes, state.local_process_index)

    @property
    def first(self) -> bool:
        """Whether this is the main process, which merges the results and prints."""
        return self.index == 0

    def device(self, chosen: torch.device) -> torch.device:
        """Choose the device of this process.

        Args:
            chosen: the requested device. With `cuda` without an index, every process on a machine gets its own GPU.

        Raises:
            RunError: if the machine has fewer GPUs than processes.
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
        """Wait at a barrier for all processes. Exits if one of them has ended; that one reports the error."""
        if self.count > 1:
            from accelerate import PartialState

            try:
                PartialState().wait_for_everyone()
            except RuntimeError:
                raise SystemExit(1) from None
