"""Output parameterizations: from the output of a network to the score and the denoiser.

With `z_t = α z_0 + m + σ ε`, network output `F` and denoiser `D = E[z_0 | z_t]`:

=========== ======================================================= =================================================
`score`     `∇ log p = F`                                           any process
`epsilon`   `∇ log p = −F / scale(t)`, see below                    any process
`hyvarinen` `x ∘ ∇_x log p = F`, so `∇_z log p = F + 1`             `x = exp z`
`denoiser`  `D = F`                                                 affine
`v`         `F = α ε − σ z_0`, so `D = (α (z − m) − σ F)/(α² + σ²)` affine (Salimans & Ho, arXiv 2202.00512)
`edm`       `D = μ + c_skip (ẑ − μ) + c_out F(c_in (ẑ − μ))`        affine (Karras et al., arXiv 2206.00364, table 1)
=========== ======================================================= =================================================

For `edm`, `ẑ = (z − m)/α` and `σ̂ = σ/α`. With mean `μ` and standard deviation `s` of the clean coordinates,
`c_skip = s²/(σ̂² + s²)`, `c_out = σ̂ s/√(σ̂² + s²)` and `c_in = 1/√(σ̂² + s²)`. Input and target of the network then
have unit variance at every time.

The last four feed the network the state itself, or a multiple of it: they do not fit a process with a `network_input` of its own.

If the network learns a denoiser (`sdezoo.process.process.Denoised`), only `epsilon` fits, and `denoiser_from_output` of the process
converts `F` to `D`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

from sdezoo.learning.prior import Moments
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Denoised, Process
from sdezoo.process.requirement import P, Requirement, needs_multiplicative

Call = Callable[[Tensor], Tensor]
"""The network at a fixed time and condition: `(B, *event)` to `(B, *event)`."""


class Output(Requirement[P], ABC):
    """An output parameterization. Abstract: `score`, `denoise`."""

    name: str
    """Its key in `OUTPUTS`."""

    @abstractmethod
    def score(self, sde: P, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        """The score `∇_z log p_t(z)`, shaped like `z`.

        Args:
            sde: the noise process.
            moments: moments of the clean coordinates.
            net: the network at time `t`.
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    @abstractmethod
    def denoise(self, sde: P, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        """The denoiser `E[z_0 | z_t = z]`, shaped like `z`.

        Args:
            sde: the noise process.
            moments: moments of the clean coordinates.
            net: the network at time `t`.
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """


class _FromScore(Output[P]):
    def denoise(self, sde: P, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        return sde.denoised(z, t, self.score(sde, moments, net, z, t))


def _own_input(sde: Process) -> str | None:
    """Why an output that feeds the network the state itself does not fit; None if it fits."""
    if type(sde).network_input is Process.network_input:
        return None
    return "needs a process whose network sees the state as it is, without a `network_input` of its own"


class _FromDenoiser(Output[AffineSDE]):
    def refuses(self, sde: Process) -> str | None:
        return super().refuses(sde) or _own_input(sde)

    def score(self, sde: AffineSDE, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        k = sde.at(t, z)
        return (k.alpha * self.denoise(sde, moments, net, z, t) + k.shift - z) / k.variance


class _Score(_FromScore[Process]):
    name = "score"

    def refuses(self, sde: Process) -> str | None:
        return "needs a process that has a score" if isinstance(sde, Denoised) else super().refuses(sde)

    def score(self, sde: Process, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        return sde.score_from_output(net(sde.network_input(z, t)), z, t)


class _Epsilon(_FromScore[Process]):
    name = "epsilon"

    def score(self, sde: Process, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        if isinstance(sde, Denoised):
            return sde.score_from_denoiser(self.denoise(sde, moments, net, z, t), z, t)
        out = net(sde.network_input(z, t))
        scale = sde.scale(t)
        if scale.ndim:  # `t` broadcasts against the state, which may have more dimensions than an event
            scale = scale.to(out).reshape(-1, *[1] * (out.ndim - 1))
        return sde.score_from_output(-out / scale, z, t)

    def denoise(self, sde: Process, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        if isinstance(sde, Denoised):
            return sde.denoiser_from_output(net(sde.network_input(z, t)), z, t)
        return super().denoise(sde, moments, net, z, t)


class _Hyvarinen(_FromScore[AffineSDE]):
    name = "hyvarinen"

    def refuses(self, sde: Process) -> str | None:
        return needs_multiplicative(sde) or _own_input(sde)

    def score(self, sde: AffineSDE, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        return net(z) + 1


class _Denoiser(_FromDenoiser):
    name = "denoiser"

    def denoise(self, sde: AffineSDE, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        return net(z)


class _Velocity(_FromDenoiser):
    name = "v"

    def denoise(self, sde: AffineSDE, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        k = sde.at(t, z)
        return (k.alpha * (z - k.shift) - k.sigma * net(z)) / (k.alpha**2 + k.variance)


class _EDM(_FromDenoiser):
    name = "edm"

    def denoise(self, sde: AffineSDE, moments: Moments, net: Call, z: Tensor, t: Tensor) -> Tensor:
        k = sde.at(t, z)
        noise, data = k.ratio**2, moments.sigma_data**2
        centred = (z - k.shift) / k.alpha - moments.mean
        total = noise + data
        out = net(centred / total.sqrt())
        return moments.mean + data / total * centred + (noise * data / total).sqrt() * out


OUTPUTS: dict[str, Output] = {o.name: o for o in (_Score(), _Hyvarinen(), _Epsilon(), _Denoiser(), _Velocity(), _EDM())}
"""Output parameterizations by name."""
