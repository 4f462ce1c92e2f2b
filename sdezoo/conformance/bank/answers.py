"""What a process computes: the results of its methods, by name, for laws that compare them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import events, typical
from sdezoo.conformance.bank.noise_doubles import keyed
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Denoised, Process, Supervised
from sdezoo.process.sde import ForwardSDE


def answers(
    sde: Any, x0: Tensor, z: Tensor, t: Tensor, noise: Callable[[], Noise], asked: Callable[[str], bool] = lambda _: True
) -> dict[str, Tensor]:
    """Call every method of a process, and return the results by name, broadcast to the batch.

    Args:
        sde: The process.
        x0: Data, `(B, *event)`.
        z: States, `(B, *state)`.
        t: Times, 0-dim or a column `(B, 1, …, 1)`, float64.
        noise: Returns the noise for one call.
        asked: Takes a name; returns whether to call the method.
    """
    s = torch.sin(3 * z)

    def out() -> Tensor:
        return torch.cos(2 * sde.network_input(z, t))

    calls: dict[str, Callable[[], Tensor]] = {
        "perturb": lambda: sde.perturb(x0, t, noise()),
        "encode": lambda: sde.encode(x0, noise()),
        "decode": lambda: sde.decode(z),
        "network_input": lambda: sde.network_input(z, t),
        "score_from_output": lambda: z if type(sde).score_from_output is Process.score_from_output else sde.score_from_output(out(), z, t),
        "scale": lambda: _rows(sde.scale(t), z),
        "noise_conditioning": lambda: _rows(sde.noise_conditioning(t), z),
    }
    if isinstance(sde, ForwardSDE):
        calls |= {
            "drift": lambda: sde.drift(z, t),
            "diffuse": lambda: z + sde.diffuse(z, t, z.new_ones(sde.noise_shape(z.shape))),
            "divergence": lambda: sde.divergence(z, t),
            "ggt": lambda: sde.ggt(z, t, s),
            "reverse_drift": lambda: sde.reverse_drift(z, t, s),
            "project": lambda: sde.project(z, z),
            "forward_step": lambda: sde.forward_step(z, t, t.new_tensor(0.01), noise()),
        }
    if isinstance(sde, Conditional):
        calls["score"] = lambda: sde.score(z, x0, t)
    if isinstance(sde, Denoised):
        calls |= {
            "target": lambda: sde.target(z, x0, t),
            "denoiser_from_output": lambda: sde.denoiser_from_output(out(), z, t),
            "error_scale": lambda: _rows(sde.error_scale(t), z),
        }
    if isinstance(sde, Supervised) and sde.knows_density:
        calls["log_prob"] = lambda: sde.log_prob(z, x0, t)
    return {name: call() for name, call in calls.items() if asked(name)}


def computed(sde: Any) -> dict[Any, Any]:
    """What a process computes for two rows, at three times, by the shape of a row: the smallest, and one of several columns.

    Args:
        sde: The process.

    Raises:
        Exception: Whatever it raises, if it does for all shapes.
    """
    columns = [event for event in events(sde) if len(event) == 1 and event[0] > 1]
    found: dict[Any, Any] = {}
    for event in dict.fromkeys((*columns[:1], events(sde)[0])):
        try:
            found[event] = _on_rows(sde, event)
        except Exception:  # which other laws report
            if not found and event == events(sde)[0]:
                raise
    return found


def _on_rows(sde: Any, event: tuple[int, ...]) -> list[Any]:
    lo, hi = sde.t_span
    x0 = typical(sde, torch.linspace(-0.7, 0.9, 2 * torch.Size(event).numel(), dtype=torch.float64).reshape(2, *event))
    found = [sde.t_span, sde.tail, sde.prior(tuple(x0.shape), keyed(2), x0)]
    if isinstance(sde, Bridge):
        found += [sde.knots, sde.rate, sde.distance, sde.user_time(torch.tensor(0.3, dtype=torch.float64))]
    for t in torch.linspace(lo, hi, 3, dtype=torch.float64):
        z = sde.perturb(x0, t, keyed(2))
        found += answers(sde, x0, z, t, lambda: keyed(2)).values()
    return found


def _rows(value: Tensor, z: Tensor) -> Tensor:
    return value.expand(len(z), *value.shape[1:]) if value.ndim else value.expand(len(z))
