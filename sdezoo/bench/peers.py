"""Samplers of other libraries on the same network, batch and number of steps, called as in their documentation.

Each uses its own schedule, which does not affect the time: torchsde integrates `dz = σ² s du + σ dW` with the network as `s`; diffusers'
schedulers and azula's samplers keep their defaults, except that DDIM's clamp is off. Objects that a user builds once (a scheduler, a
denoiser) are built before timing. Time steps and the initial noise are part of every timed call.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sdezoo.bench.tiny import BATCH, ENTRIES, Contestant
from sdezoo.process.torchsde_bridge import solve

NOT_INSTALLED = 'not installed: pip install "sdezoo[bench]"'
"""The note on a library that is not installed."""


def theirs(net: nn.Module, steps: int) -> tuple[list[Contestant], dict[str, str]]:
    """Build the samplers of the other libraries.

    Args:
        net: the network, called with `(B, 2)` and a level `(B,)` or 0-dim.
        steps: number of steps.

    Returns:
        The samplers of the libraries that are installed; and by library, why its samplers are missing.
    """
    found, missing = [], {}
    for library, build in {"torchsde": _torchsde, "diffusers": _diffusers, "azula": _azula}.items():
        try:
            found.extend(build(net, steps))
        except (ImportError, AttributeError, RuntimeError) as error:  # diffusers wraps the errors of its lazy modules
            absent = isinstance(error, ModuleNotFoundError) and error.name == library
            missing[library] = NOT_INSTALLED if absent else f"cannot be used: {error}"
    return found, missing


class _Reverse(nn.Module):
    """The reverse of Brownian motion with volatility `σ`, as an SDE for torchsde."""

    noise_type, sde_type = "diagonal", "ito"

    def __init__(self, net: nn.Module, sigma: float = 0.8) -> None:
        super().__init__()
        self.net, self.sigma = net, sigma

    def f(self, u: Tensor, y: Tensor) -> Tensor:
        return self.sigma**2 * self.net(y, u)

    def g(self, u: Tensor, y: Tensor) -> Tensor:
        return torch.full_like(y, self.sigma)


def _torchsde(net: nn.Module, steps: int) -> list[Contestant]:
    span = steps / 128  # the step size is exact in binary, so rounding cannot add a step

    def prepare() -> Callable[[], object]:
        equation = _Reverse(net)

        def sample() -> Tensor:
            with torch.no_grad():
                return solve(equation, torch.randn(BATCH, ENTRIES), span, "euler", None, steps)

        return sample

    return [Contestant("torchsde", "euler", "Brownian", prepare)]


def _diffusers(net: nn.Module, steps: int) -> list[Contestant]:
    library = importlib.import_module("diffusers")

    def contestant(name: str, *, scaled: bool = False, **options: Any) -> Contestant:
        scheduler_class = getattr(library, name)

        def prepare() -> Callable[[], object]:
            scheduler = scheduler_class(**options)

            def sample() -> Tensor:
                scheduler.set_timesteps(steps)
                x = torch.randn(BATCH, ENTRIES) * scheduler.init_noise_sigma
                levels = scheduler.timesteps.float()
                with torch.no_grad():
                    for t, level in zip(scheduler.timesteps, levels, strict=True):
                        out = net(scheduler.scale_model_input(x, t) if scaled else x, level)
                        x = scheduler.step(out, t, x, return_dict=False)[0]
                return x

            return sample

        return Contestant("diffusers", name.removesuffix("Scheduler"), "EDM" if scaled else "VP", prepare)

    return [
        contestant("DDIMScheduler", clip_sample=False),
        contestant("DPMSolverMultistepScheduler"),
        contestant("EDMDPMSolverMultistepScheduler", scaled=True),
    ]


def _azula(net: nn.Module, steps: int) -> list[Contestant]:
    denoise, noise, samplers = (importlib.import_module(f"azula.{name}") for name in ("denoise", "noise", "sample"))

    def contestant(name: str) -> Contestant:
        sampler_class = getattr(samplers, name)

        def prepare() -> Callable[[], object]:
            denoiser = denoise.KarrasDenoiser(net, noise.VPSchedule()).eval()
            sampler = sampler_class(denoiser, steps=steps, silent=True)
            return lambda: sampler(sampler.init((BATCH, ENTRIES)))

        return Contestant("azula", name.removesuffix("Sampler"), "VP", prepare)

    return [contestant("DDIMSampler"), contestant("HeunSampler")]
