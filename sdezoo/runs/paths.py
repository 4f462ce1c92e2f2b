"""Forward paths: simulate an SDE from given data, in the user's units, with no model.

The state goes from each time to the next by `ForwardSDE.transition`, which is exact for an affine process::

    z_t = (α_t/α_s) z_s + m_t − (α_t/α_s) m_s + √(v_t − (α_t/α_s)² v_s) ε

and where a process writes its own. Any number of steps then has the right distribution at the recorded times. Other processes take several
of their `forward_step` between two recorded times, by default Euler–Maruyama: strong order ½ in the step (1 for additive noise), weak
order 1.

Time is that of the process: `dX = μX dt + σX dW` with `sigma=0.2` has a volatility of 0.2 over a time of 1. A process whose coefficients
do not depend on time (`homogeneous`) runs to any horizon.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.generation.export import check_output, check_place, write_parts
from sdezoo.plots import Figure, label, plain, save
from sdezoo.process.columns import count_outside
from sdezoo.process.noise import KeyedNoise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE
from sdezoo.store.files import atomic_write
from sdezoo.store.launch import usual_torch
from sdezoo.zoo.registry import SDES, load

SUBSTEPS = 10
"""Default number of steps between two recorded times, without an exact transition."""

_NUMBERS = 2**22
_PROBES = 8
_BAND = 1000
_LINES = 30
_PANELS = 4


@dataclass(frozen=True, eq=False)
class Paths:
    """Paths of an SDE, simulated when they are asked for. Path `i` depends only on `(seed, i)`, and on `times` and `substeps`.

    Args:
        sde: the process.
        start: the data at time 0, `(d,)`, float64.
        times: the recorded times, `(steps + 1,)`, float64, from 0 to the horizon, in units of the process's time.
        n: number of paths.
        seed: the seed.
        substeps: steps between two recorded times; 1 if the transition is exact.
    """

    sde: ForwardSDE
    start: Tensor
    times: Tensor
    n: int
    seed: int
    substeps: int

    @property
    def exact(self) -> bool:
        """Whether the paths have the exact distribution at the recorded times."""
        return self.sde.knows_transition

    @property
    def scheme(self) -> str:
        """How a step is taken, with its order, as a phrase."""
        if self.exact:
            return "exact transitions"
        step = float(self.times[1]) / self.substeps
        return f"steps of {step:.3g} ({self.sde.forward_scheme})"

    @cached_property
    def x(self) -> Tensor:
        """All paths, `(n, steps + 1, d)`, float64."""
        return torch.cat(list(self.parts()))

    def parts(self, progress: Callable[..., None] | None = None) -> Iterator[Tensor]:
        """Simulate the paths in batches `(n_i, steps + 1, d)`, float64.

        Args:
            progress: called as `progress(done, n)` after each batch.

        Raises:
            SupportError: if a path leaves the support of the process.
        """
        batch = max(1, _NUMBERS // (len(self.times) * len(self.start)))
        for first in range(0, self.n, batch):
            rows = range(first, min(first + batch, self.n))
            yield self._simulated(rows)
            if progress:
                progress(rows.stop, self.n)

    def write(self, out: str | Path, *, overwrite: bool = False, progress: Callable[..., None] | None = None) -> None:
        """Write the paths to a file, a batch at a time, float32.

        Args:
            out: output file; its ending selects the format. A `.npz` holds `x` `(n, steps + 1, d)` and `times` `(steps + 1,)`.
            overwrite: whether an existing file may be replaced.
            progress: called as `progress(done, n)` after each batch.

        Raises:
            RunError: before anything is simulated, if the file cannot be written.
            SupportError: if a path leaves the support of the process.
        """
        check_output(out, "paths", overwrite)
        shape = (self.n, len(self.times), len(self.start))
        write_parts((part.float() for part in self.parts(progress)), shape, out, kind="paths", times=self.times)

    def plot(self, file: str | Path, *, overwrite: bool = False) -> None:
        """Plot the first paths and the band in which 90 % of them lie at each time, as a PNG; up to four columns of the data.

        Args:
            file: the PNG file.
            overwrite: whether an existing file may be replaced.

        Raises:
            RunError: if the file cannot be written.
        """
        check_plot(file, overwrite)
        figure = self._figure(self._simulated(range(min(self.n, _BAND))))
        with atomic_write(Path(file), "Give --plot another place.") as target:
            save(figure, target)

    def _simulated(self, rows: Sequence[int]) -> Tensor:
        sde, noise = self.sde, KeyedNoise(self.seed, rows)
        x0 = self.start.expand(len(rows), -1).contiguous()
        z, found = sde.encode(x0, noise), [x0]
        for s, t in pairwise(self.times.unbind()):
            step = (t - s) / self.substeps
            for k in range(self.substeps):
                z = sde.transition(z, s + k * step, t if k == self.substeps - 1 else s + (k + 1) * step, noise)
            found.append(sde.decode(z))
        return torch.stack(found, 1)

    @plain()
    def _figure(self, x: Tensor) -> Figure:
        panels = min(x.shape[2], _PANELS)
        figure = Figure((6.4, 2.6 * panels), layout="constrained")
        for column, axes in enumerate(figure.subplots(panels, 1, squeeze=False)[:, 0]):
            values = x[:, :, column]
            low, middle, high = torch.quantile(values, values.new_tensor([0.05, 0.5, 0.95]), dim=0)
            axes.fill_between(self.times, low, high, color="tab:blue", alpha=0.15, linewidth=0, label="90 % of the paths")
            axes.plot(self.times, values[:_LINES].T, color="tab:blue", alpha=0.35, linewidth=0.6)
            axes.plot(self.times, middle, color="black", linewidth=1.2, label="median")
            axes.set(ylabel="x" if panels == 1 else f"x, column {column + 1}", xmargin=0)
        figure.axes[-1].set_xlabel("t")
        figure.axes[0].set_title(label(self.sde.spec), fontsize=10)
        figure.axes[0].legend(loc="upper left", fontsize=8)
        return figure


def check_plot(file: str | Path, overwrite: bool = False) -> None:
    """Check that a plot can be written to a file, without writing.

    Args:
        file: the file.
        overwrite: whether an existing file may be replaced.

    Raises:
        ParameterError: if its ending is not `.png`.
        RunError: if it cannot be written.
    """
    if Path(file).suffix.lower() != ".png":
        raise ParameterError(f"A plot cannot be written to '{file}'.", "Give a name that ends with .png.")
    check_place(file, overwrite)


@usual_torch()
def paths(
    sde: str | ForwardSDE,
    x0: float | Sequence[float],
    *,
    steps: int = 252,
    n: int = 1000,
    horizon: float | None = None,
    seed: int = 0,
    substeps: int | None = None,
    plugins: Sequence[Path] = (),
) -> Paths:
    """Simulate paths of an SDE that start at `x0`, in units of the data.

    Args:
        sde: spec string of the process, or the process. All its hyper-parameters must be given.
        x0: the data at time 0: a number, or one for each column.
        steps: number of recorded steps of equal length.
        n: number of paths.
        horizon: the last time, in units of the process's time; None: the last time of the process, usually 1.
        seed: the seed; path `i` depends only on `(seed, i)` and on the times.
        substeps: steps between two recorded times, for a process without an exact transition; None: 10.
        plugins: files or modules to load first, see `sdezoo.zoo.registry.load`.

    Returns:
        The paths. They are simulated by `Paths.x`, `Paths.parts` or `Paths.write`.

    Raises:
        ParameterError: if a number is out of range, or a hyper-parameter is left to the data.
        CompositionError: if the process is not an SDE, or its coefficients end before the horizon.
        DataError: if `x0` does not lie in the support.
    """
    for file in plugins:
        load(file)
    for name, value in {"steps": steps, "n": n, "substeps": substeps}.items():
        if value is not None and value < 1:
            raise ParameterError(f"{name}={value} is too small.", f"Give {name} at least 1.")
    process: Process = SDES.build(sde) if isinstance(sde, str) else sde
    if not isinstance(process, ForwardSDE):
        raise CompositionError(f"'{process.title()}' has no drift and diffusion, so it has no paths.", "Choose an SDE, such as gbm.")
    start = torch.tensor([x0] if isinstance(x0, int | float) else list(x0), dtype=torch.float64)
    _check_start(process, start)
    if process.knows_transition and substeps is not None:
        raise ParameterError(f"The transitions of '{process.title()}' are exact, and take no substeps.", "Leave out substeps.")
    last = process.t_span[1] if horizon is None else horizon
    if not 0 < last < float("inf"):
        raise ParameterError(f"horizon={last:g} is not a positive number.", "Give a horizon above 0.")
    if last > process.t_span[1] and not process.homogeneous:
        raise CompositionError(
            f"The coefficients of '{process.spec}' depend on time and end at t = {process.t_span[1]:g}, before the horizon {last:g}.",
            f"Give a horizon of at most {process.t_span[1]:g}, or a process whose coefficients are constant.",
        )
    times = torch.linspace(0, last, steps + 1, dtype=torch.float64)
    made = Paths(process, start, times, n, seed, 1 if process.knows_transition else substeps or SUBSTEPS)
    _check_complete(made)
    return made


def _check_start(sde: ForwardSDE, start: Tensor) -> None:
    given = ",".join(f"{value:g}" for value in start.tolist())
    if not len(start) or not start.isfinite().all():
        raise DataError(f"x0={given} is not a list of finite numbers.", "Give one number for each column.")
    if sde.row_shape is not None and sde.row_shape != tuple(start.shape):
        raise DataError(f"'{sde.title()}' takes rows of {sde.row_shape[0]} numbers, and x0 has {len(start)}.", "Give one for each column.")
    if count_outside(sde.support, start[None]):
        raise DataError(f"x0={given} does not lie in the support of '{sde.title()}'.", "Give a start inside the support.")


def _check_complete(made: Paths) -> None:
    """Check that no hyper-parameter is left to the data: under `adapted`, paths must be the same."""
    times = made.times.new_tensor([0.0, made.sde.t_span[0]])
    probe = Paths(made.sde, made.start, times, _PROBES, made.seed, made.substeps).x
    adapted = made.sde.adapted(probe[:, -1])
    if adapted == made.sde or torch.equal(Paths(adapted, made.start, times, _PROBES, made.seed, made.substeps).x, probe):
        return
    known = adapted.parameters()
    missing = [name for name, value in made.sde.parameters().items() if known[name] != value]
    raise ParameterError(
        f"'{made.sde.spec}' leaves {', '.join(missing)} to be set from data, and paths have none.", "Give these hyper-parameters."
    )
