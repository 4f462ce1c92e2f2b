"""Peak memory of sampling against the number of steps and samples, each measured in its own process.

That process runs this module: `python -P -m sdezoo.bench.memory RUN SAMPLER STEPS N SEED` draws `N` samples of a run folder as
`sdezoo sample` does, 64 at a time, and prints its peak resident memory in MiB.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from sdezoo.bench.table import Table
from sdezoo.bench.timing import Reporter
from sdezoo.generation.samples import Draw, SampleIndices
from sdezoo.runs.train import train
from sdezoo.store.restoring import restore
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import SAMPLERS

_SDE = "gbm"
_FORMATS = {"sampler": "", "steps": "d", "n": "d", "peak_mib": ".1f", "over_first": ".3f", "samples_mib": ".1f"}


def memory_use(
    seed: int,
    report: Reporter,
    *,
    samplers: Sequence[str] = ("dpmpp-2m", "euler-maruyama"),
    steps: Sequence[int] = (10, 100, 1000),
    counts: Sequence[int] = (64, 640, 6400),
    size: int = 784,
) -> Table:
    """Measure peak memory for each of `steps` with the first of `counts`, and for each of `counts` with the first of `steps`.

    `over_first` is the ratio to the first row of the same sampler; `samples_mib` is the size of the result.

    Args:
        seed: seed of the samples.
        report: reports progress.
        samplers: spec strings of the samplers.
        steps: numbers of steps.
        counts: numbers of samples.
        size: number of entries of a sample.
    """
    settings = [(steps[0], counts[0]), *((more, counts[0]) for more in steps[1:]), *((steps[0], more) for more in counts[1:])]
    rows, total = [], len(samplers) * len(settings)
    with TemporaryDirectory() as folder:
        run = _trained(Path(folder), size)
        for sampler in samplers:
            first = None
            for taken, n in settings:
                peak = _peak(run, sampler, taken, n, seed)
                first = first or peak
                samples = n * size * 4 / 2**20
                row = {"sampler": sampler, "steps": taken, "n": n, "peak_mib": peak, "over_first": peak / first, "samples_mib": samples}
                rows.append(row)
                report(len(rows), total, detail=sampler)
    return Table(f"Peak memory of sampling: {_SDE}, vectors of {size}, 64 at a time, one process a row", _FORMATS, rows)


def _trained(folder: Path, size: int) -> Path:
    """Train one step on vectors of `size` entries; return the run folder."""
    data = folder / "data.npz"
    np.savez(data, x=np.random.default_rng(0).uniform(1, 2, (16, size)).astype(np.float32))
    settings = {"sde": _SDE, "net": "mlp:width=64,depth=1", "steps": 1, "batch_size": 8, "prior": "white"}
    return train(TrainingConfig.build({**settings, "data": str(data), "out": str(folder / "run")})).run


def _peak(run: Path, sampler: str, steps: int, n: int, seed: int) -> float:
    command = [sys.executable, "-P", "-m", "sdezoo.bench.memory", *map(str, (run, sampler, steps, n, seed))]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def _resident() -> float:
    """Peak resident memory of this process, in MiB."""
    status = Path("/proc/self/status")
    if status.exists():
        # `ru_maxrss` of a child process starts at the memory of its parent.
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    run, sampler, *numbers = sys.argv[1:]
    steps, n, seed = map(int, numbers)
    for _ in Draw(restore(Path(run)), SAMPLERS.build(sampler), SampleIndices.first(n), steps, seed).batches():
        pass
    sys.stdout.write(f"{_resident()}\n")
