"""Generation: samples in the user's own units."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdezoo.errors import ParameterError, SupportError
from sdezoo.runs.checkpoint import Trained
from sdezoo.runs.data import out_of_range
from sdezoo.sampling.sampler import Sampler
from sdezoo.zoo.composition import check_fit, fitting, preferred
from sdezoo.zoo.registry import SAMPLERS

PREFERRED_SAMPLERS = ("dpmpp-2m", "euler-maruyama")

Report = Callable[[float, int], None]
"""Called after every step with the number of samples done, a batch on its way counted in part, and of all."""


@dataclass(frozen=True)
class Generated:
    """Samples, and how many of their values lie outside the range of the data they were learnt from.

    Args:
        x: `(n, *event)`, in the user's units, never clamped.
        outside: the count of such values.
        evaluations: calls of the network for each sample.
    """

    x: Tensor
    outside: int
    evaluations: int


def choose_sampler(trained: Trained, spec: str | None) -> Sampler:
    """The sampler of a spec string, or the first preferred one that fits.

    Raises:
        CompositionError: where it does not fit the model's process, or none does.
    """
    sde = trained.model.sde
    sampler: Sampler = SAMPLERS.build(spec or preferred(PREFERRED_SAMPLERS, fitting(sde, SAMPLERS), f"samplers for '{sde.title()}'"))
    check_fit(sde, sampler)
    return sampler


def generate(
    trained: Trained,
    sampler: Sampler,
    n: int,
    *,
    steps: int = 20,
    seed: int = 0,
    batch_size: int = 64,
    device: torch.device | None = None,
    report: Report | None = None,
) -> Generated:
    """Draw `n` samples; sample `i` depends on (seed, i) alone.

    Raises:
        ParameterError: for a number that is not positive.
        SupportError: where a sampler leaves the support, naming those that do not.
    """
    for name, value in {"n": n, "steps": steps, "batch_size": batch_size}.items():
        if value < 1:
            raise ParameterError(f"{name}={value} is too small.", f"Give {name} at least 1.")
    model = trained.model.to(device or torch.device("cpu"))
    like = torch.empty((), device=device)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    hook = model.net.register_forward_hook(count)
    parts = []
    try:
        for first in range(0, n, batch_size):
            rows = min(batch_size, n - first)

            def progress(done: int, _z: Tensor, _t: Tensor, first: int = first, rows: int = rows) -> None:
                if report:
                    report(first + rows * done / steps, n)

            parts.append(sampler.sample(model, (rows, *trained.state.event), steps, seed, first=first, like=like, callback=progress).cpu())
    except SupportError as error:
        raise _with_alternatives(error, trained, sampler) from None
    finally:
        hook.remove()
    x = trained.map.inverse(torch.cat(parts))
    low, high = (torch.tensor(bound) for bound in trained.state.range)
    return Generated(x, out_of_range(x, low, high), calls // len(parts))


def _with_alternatives(error: SupportError, trained: Trained, sampler: Sampler) -> SupportError:
    if sampler.preserves_support:
        return error
    safe = [name for name in fitting(trained.model.sde, SAMPLERS) if SAMPLERS.load(name).preserves_support]
    return SupportError(error.problem, f"Take more steps, or a sampler that preserves the support: {', '.join(safe)}.")
