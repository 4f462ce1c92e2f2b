"""Samplers of other libraries, run on an exact score, a grid, a start and noise that are given.

diffusers knows a process by its signal `ᾱ = α²` at whole timesteps. Its tables are set to the process at the times of the grid, in
float64; those that it builds from `betas` are rounded to float32. azula takes `α` and `σ` at any time, and its steps one by one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sdezoo.conformance.bank.noise_doubles import BrownianPath
from sdezoo.conformance.bank.problems import Mixture
from sdezoo.conformance.bank.sampler_problems import drive
from sdezoo.errors import CompositionError, PluginError
from sdezoo.zoo.registry import SAMPLERS


@dataclass(frozen=True, eq=False)
class Setting:
    """What both libraries are given."""

    model: Mixture
    """The exact score."""
    times: Tensor
    """The grid, float64 `(steps + 1,)`: `hi`, …, `lo`, 0."""
    start: Tensor
    """States at `hi`, float64 `(B, d)`."""
    seed: int
    """Seed of torch's generator, from which the noise comes."""

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.times) - 1

    @cached_property
    def noise(self) -> Tensor:
        """Normal numbers, float64 `(steps, B, d)`, drawn step by step."""
        generator = torch.Generator().manual_seed(self.seed)
        return torch.stack([torch.randn(self.start.shape, generator=generator, dtype=torch.float64) for _ in range(self.steps)])

    def ours(self, spec: str, times: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Run one of our samplers.

        Args:
            spec: Its spec string.
            times: Times, float64 `(n + 1,)`, the first of the grid.
            dtype: Of the states.

        Returns:
            States at the last time, float64 `(B, d)`.
        """
        sampler: Any = SAMPLERS.build(spec)
        noise = BrownianPath(self.noise, self.steps)
        return drive(sampler, sampler.view(self.model), self.start.to(dtype), times, noise).double()

    @cached_property
    def flow(self) -> dict[bool, Tensor]:
        """End of the exact probability flow, float64 `(B, d)`: True: at `lo`; False: after the step to 0, which denoises."""
        at_lo = self.ours("pf-ode:rtol=1e-8,atol=1e-10", self.times[:-1])
        return {True: at_lo, False: self.model.denoise(at_lo, self.times[-2])}


class Method(NamedTuple):
    """A method of another library, and ours."""

    theirs: str
    """What it is called there."""
    ours: str
    """Spec string of our sampler."""
    run: Callable[[], Tensor]
    """Returns its final states, float64 `(B, d)`."""
    note: str = ""
    """Remark."""
    same: bool = True
    """False if the methods are different formulas; `note` says in what."""
    single: bool = False
    """True if its steps are taken in float32 whatever the states are."""
    noisy: bool = False
    """True if it draws noise."""
    ends_at_lo: bool = False
    """True if the step from `lo` to 0 is left out."""


def _diffusers(setting: Setting) -> list[Method]:
    times, sde = setting.times[:-1], setting.model.sde
    k = sde.exact(times)
    if bool(k.shift.any()) or not torch.allclose(k.alpha**2 + k.variance, torch.ones_like(times), rtol=0, atol=1e-12):
        raise CompositionError(
            f"'{sde.title()}' does not keep α² + σ² = 1, and the schedulers of diffusers know no other process.", "Compare on vp or cosine."
        )
    ddim, ddpm, dpm, heun, unipc = _loaded(
        "diffusers",
        "diffusers",
        *(f"{name}Scheduler" for name in ("DDIM", "DDPM", "DPMSolverMultistep", "HeunDiscrete", "UniPCMultistep")),
    )
    signal = (k.alpha**2).flip(0)
    betas = (1 - signal / torch.cat([signal.new_ones(1), signal[:-1]])).tolist()
    levels = torch.cat([k.ratio, k.ratio.new_zeros(1)])

    def run(
        kind: Any, noise: Callable[[int], dict[str, Any]] = lambda _: {}, *, scaled: bool = False, **options: Any
    ) -> Callable[[], Tensor]:
        def final() -> Tensor:
            scheduler = kind(num_train_timesteps=setting.steps, trained_betas=betas, timestep_spacing="trailing", **options)
            scheduler.alphas_cumprod = signal.clone()
            scheduler.set_timesteps(setting.steps)
            if hasattr(scheduler, "sigmas"):
                scheduler.sigmas = levels[(scheduler.sigmas[:, None] - levels).abs().argmin(1)]
            z = setting.start / k.alpha[0] if scaled else setting.start
            for timestep in scheduler.timesteps:
                index = setting.steps - 1 - int(timestep)
                x = scheduler.scale_model_input(z, timestep)
                epsilon = -k.sigma[index] * setting.model.score(x, times[index])
                z = scheduler.step(epsilon, timestep, z, return_dict=False, **noise(index))[0]
            return z

        return final

    generator = torch.Generator()

    def drawn(index: int) -> dict[str, Any]:
        return {"generator": generator.manual_seed(setting.seed) if index == 0 else generator}

    single = "diffusers takes these steps in float32"
    weights = "diffusers gives predictor and first corrector the weight ½, this has the exact weights"
    return [
        Method("DDIMScheduler", "ddim", run(ddim, clip_sample=False)),
        Method("DDPMScheduler", "ancestral", run(ddpm, drawn, clip_sample=False), noisy=True),
        Method("DPMSolverMultistepScheduler", "dpmpp-2m", run(dpm), single, single=True),
        Method(
            "DPMSolverMultistepScheduler, sde-dpmsolver++",
            "dpmpp-2m-sde",
            run(dpm, lambda index: {"variance_noise": setting.noise[index]}, algorithm_type="sde-dpmsolver++"),
            single,
            single=True,
            noisy=True,
        ),
        Method("HeunDiscreteScheduler", "heun", run(heun, scaled=True)),
        Method("UniPCMultistepScheduler", "unipc", run(unipc)),
        Method("UniPCMultistepScheduler", "unipc:weights=exact", run(unipc), weights, same=False),
    ]


class _Denoiser:
    """The exact denoiser, as azula's samplers ask for it: `schedule(t)` is `(α, σ)`, and a call has the attribute `mean`."""

    def __init__(self, model: Mixture) -> None:
        self._model = model

    def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
        k = self._model.sde.exact(t)
        return k.alpha, k.sigma

    def __call__(self, z: Tensor, t: Tensor) -> _Mean:
        return _Mean(self._model.denoise(z, t))


class _Mean(NamedTuple):
    mean: Tensor


def _azula(setting: Setting) -> list[Method]:
    sde = setting.model.sde
    if bool(sde.exact(setting.times).shift.any()):
        raise CompositionError(f"'{sde.title()}' has a shift, and the samplers of azula know none.", "Compare on vp, ve or edm.")
    ddpm, ddim, euler, heun = _loaded("azula.sample", "bench", *(f"{name}Sampler" for name in ("DDPM", "DDIM", "Euler", "Heun")))

    def run(kind: Any, times: Tensor = setting.times) -> Callable[[], Tensor]:
        def final() -> Tensor:
            sampler, z = kind(_Denoiser(setting.model), silent=True), setting.start
            with torch.random.fork_rng(devices=[]):  # it draws from the global generator
                torch.default_generator.manual_seed(setting.seed)
                for t, s in pairwise(times.unbind()):
                    z = sampler.step(z, t, s)
            return z

        return final

    lo = "both end at `lo`: the last step of azula asks for the score at 0"
    return [
        Method("DDIMSampler", "ddim", run(ddim)),
        Method("EulerSampler", "ddim", run(euler)),
        Method("DDPMSampler", "ancestral", run(ddpm), noisy=True),
        Method("HeunSampler", "heun", run(heun, setting.times[:-1]), lo, ends_at_lo=True),
    ]


def _loaded(module: str, extra: str, *names: str) -> list[Any]:
    """Attributes of a module of a library that may not be installed."""
    library = module.partition(".")[0]
    try:
        importlib.import_module(library)  # alone, so that its absence is told from that of a module in it
        return [getattr(importlib.import_module(module), name) for name in names]
    except Exception as error:  # a library that does not match this torch may raise anything
        if isinstance(error, ModuleNotFoundError) and error.name == library:
            raise PluginError(f"{library} is not installed.", f'Install it: pip install "sdezoo[{extra}]".') from None
        reason = " ".join(str(error).split()).rstrip(".")
        raise PluginError(
            f"{library} is installed but cannot be used ({type(error).__name__}: {reason}).",
            f"Install a version of {library} that fits torch {torch.__version__}.",
        ) from error


PEERS: dict[str, Callable[[Setting], list[Method]]] = {"diffusers": _diffusers, "azula": _azula}
"""Builders of methods, by name of the library."""
