"""Models: what answers for the score of a noised law.

`Model.score` is the sole primitive; the other views follow from it::

    denoise:    E[z_0 | z_t] = (z_t − m + v s) / α                     (Tweedie; affine processes)
    hyvarinen:  x ∘ ∇_x log p = φ/φ' (s − φ''/φ')                      (change of variables; for x = exp(c + a z), s/a − 1)
    ambient:    ∇_x log p = (s − φ''/φ') / φ'                          (element-wise φ)

Where the process learns a denoiser (`Denoised`), `denoise` is the primitive: derive such a model from `DenoiserModel`.

`ScoreModel` is the one that learns: a network, an output parameterization, the data's moments and the fitted prior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar
from weakref import proxy

import torch
from torch import Tensor, nn

from sdezoo.errors import CompositionError, SdezooError
from sdezoo.learning.output import OUTPUTS, Call
from sdezoo.learning.prior import FittedPrior, Moments, PriorKind, fit
from sdezoo.process.affine import AffineSDE, slopes
from sdezoo.process.noise import Noise
from sdezoo.process.process import Denoised, unknown_prior
from sdezoo.process.requirement import P
from sdezoo.process.sde import ForwardSDE

D = TypeVar("D", bound=AffineSDE | Denoised)
Q = TypeVar("Q", bound=Denoised)
View = Callable[[Tensor, Tensor], Tensor]
"""`score` or `denoise` of a model."""


class Model(ABC, Generic[P]):
    """The score of the marginals of `sde` at some law of the data. Abstract: `score`."""

    sde: P

    @abstractmethod
    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """`∇_z log p_t(z)`, shaped like the state."""

    def denoise(self: Model[D], z: Tensor, t: Tensor) -> Tensor:
        """`E[z_0 | z_t = z]`, shaped like the state; default: by Tweedie's formula, for an affine process."""
        return self.sde.denoised(z, t, self.score(z, t))

    def hyvarinen(self: Model[AffineSDE], z: Tensor, t: Tensor) -> Tensor:
        """The Hyvärinen score `x ∘ ∇_x log p_t(x)` at `x = φ(z)`."""
        if self.sde.multiplicative:
            return self.score(z, t) / self.sde.column_spread.to(z) - 1
        first, second = slopes(self.sde.coordinates, z)
        return self.sde.decode(z) / first * (self.score(z, t) - second / first)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Where sampling starts: a draw of (nearly) `p(z_1)` for data of `shape`."""
        return self.sde.prior(shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Log-density of what `prior` draws, at states `z`: nats, float64 `(B,)` on the CPU.

        Default: that of the process's own prior. Override it together with `prior`.

        Raises:
            CompositionError: where it is not known: the process does not give it, or `prior` was overridden alone.
        """
        if type(self).prior is not Model.prior:
            raise unknown_prior(type(self).__name__)
        return self.sde.prior_log_prob(z)

    def ambient(self: Model[AffineSDE]) -> Model[ForwardSDE]:
        """The same model of the process written on the data."""
        return _AmbientModel(self)

    def intercept_network(self, wrap: Callable[[Call], Call]) -> Model[P]:
        """The same model, with `wrap(call)` in the place of every `call` of what it learnt.

        Between calls, arithmetic on states alone is left, which sampling works out before its loop where it is linear. Default:
        `score` and `denoise` are taken for such calls themselves.
        """

        here = proxy(self)  # a call that is kept does not keep the model
        return _Through(self, lambda z, t: wrap(lambda u: here.score(u, t))(z), lambda z, t: wrap(lambda u: here.denoise(u, t))(z))

    @property
    def version(self) -> Hashable:
        """Changes when numbers change that `intercept_network` leaves to arithmetic; default: there are none."""
        return None

    def condition_on(self, condition: Tensor) -> Model[P]:
        """The model of the law given `condition` `(B,)`.

        Raises:
            CompositionError: for a model that was not trained with conditions.
        """
        raise CompositionError("This model is unconditional.", "Train one with labels to sample a class of your choice.")


class DenoiserModel(Model[Q]):
    """The denoiser of a process that learns one. Abstract: `denoise`; `score` follows from it where the process has one."""

    @abstractmethod
    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """`E[z_0 | z_t = z]`, shaped like the state."""

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """`∇_z log p_t(z)`.

        Raises:
            CompositionError: where the process has no score.
        """
        return self.sde.score_from_denoiser(self.denoise(z, t), z, t)


class _Through(Model[P]):
    def __init__(self, base: Model[P], score: View, denoise: View) -> None:
        self.base, self.sde, self._score, self._denoise = base, base.sde, score, denoise

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self._score(z, t)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._denoise(z, t)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.base.prior(shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        return self.base.prior_log_prob(z)


class _AmbientModel(Model[ForwardSDE]):
    def __init__(self, base: Model[AffineSDE]) -> None:
        self.base = base
        self.sde = base.sde.ambient()

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        state = self.base.sde.encode(z)
        first, second = slopes(self.base.sde.coordinates, state)
        moving = first != 0  # a constant entry has no score, and its diffusion is 0
        score = (self.base.score(state, t) - second / torch.where(moving, first, 1.0)) / torch.where(moving, first, 1.0)
        return torch.where(moving, score, 0.0)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.base.sde.decode(self.base.prior(shape, noise, like))

    def prior_log_prob(self, z: Tensor) -> Tensor:
        state = self.base.sde.encode(z)
        stretch = self.base.sde.coordinates.log_abs_det_jacobian(state, z)
        return self.base.prior_log_prob(state) - stretch.cpu().double().reshape(len(z), -1).sum(1)


class ScoreModel(Model[P], nn.Module):
    """A network that has learnt, or will learn, a score, or a denoiser where the process says so.

    Args:
        sde: the process. net: called as `net(x, level, condition)`; see `sdezoo.learning.network.Network`. output:
        what the network's output means, a key of `sdezoo.learning.output.OUTPUTS`; default: the
        process's `default_output`. moments: the data's mean and standard deviation in coordinates; kept as buffers.
        fitted: the fitted prior; None starts sampling from the process's own.

    Raises:
        CompositionError: where `output` does not fit `sde`.
        SdezooError: for an unknown `output`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        sde: P,
        net: nn.Module,
        output: str | None = None,
        *,
        moments: Moments | None = None,
        fitted: FittedPrior | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.sde = sde
        self.net = net
        self.output_name = output or sde.default_output
        if self.output_name not in OUTPUTS:
            raise SdezooError(f"There is no output '{output}'.", f"Choose one of {', '.join(OUTPUTS)}.")
        self._output = OUTPUTS[self.output_name]
        self._output.require(sde)
        mean, std = moments or (torch.zeros(()), torch.ones(()))
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.fitted = fitted

    @classmethod
    def for_data(cls, sde: P, net: nn.Module, x0: Tensor, output: str | None = None, prior: PriorKind = "full") -> ScoreModel[P]:
        """A fresh model with moments and prior measured on clean data `x0` `(N, *event)`.

        `prior`: `full` or `white` fit a Gaussian (see `sdezoo.learning.prior`); `process` starts from the process's
        own. A process that is not affine always starts from its own.
        """
        moments, fitted = fit(sde, x0, prior)
        return cls(sde, net, output, moments=moments, fitted=fitted)

    def with_network(self, net: nn.Module) -> ScoreModel[P]:
        """The same model around another form of its network, such as one that is compiled: moments and prior are the same tensors."""
        return ScoreModel(self.sde, net, self.output_name, moments=Moments(self.mean, self.std), fitted=self.fitted)

    def score(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self._output.score(self.sde, self._moments(z), self._call(self.sde.noise_conditioning(t), condition), z, t)

    def denoise(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._output.denoise(self.sde, self._moments(z), self._call(self.sde.noise_conditioning(t), condition), z, t)

    def predict(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """What the network has learned, shaped like the state: the mean of the process's `target` given `z_t = z`.

        Args:
            z: noised state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
            condition: class numbers, `(B,)`; None: without.
        """
        return self.denoise(z, t, condition) if isinstance(self.sde, Denoised) else self.score(z, t, condition)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        if self.fitted is None:
            return self.sde.prior(shape, noise, like)
        return self.fitted.draw(self.sde, shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        return self.sde.prior_log_prob(z) if self.fitted is None else self.fitted.log_prob(self.sde, z)

    def condition_on(self, condition: Tensor) -> Model[P]:
        # A network that says nothing of classes is taken at its word.
        declared = [module.classes for module in self.net.modules() if hasattr(module, "classes")]
        if declared and all(classes is None for classes in declared):
            return super().condition_on(condition)
        return _Conditioned(self, condition)

    def intercept_network(self, wrap: Callable[[Call], Call], condition: Tensor | None = None) -> Model[P]:
        def at(view: Callable[..., Tensor]) -> View:
            # The level as a number is filled in on the device, without a copy to it.
            return lambda z, t: view(self.sde, self._moments(z), wrap(self._call(float(self.sde.noise_conditioning(t)), condition)), z, t)

        return _Through(self, at(self._output.score), at(self._output.denoise))

    @property
    def sigma_data(self) -> Tensor:
        """The standard deviation of the clean coordinates; broadcasts against an event."""
        return self.std

    @property
    def version(self) -> Hashable:
        return tuple((moment.data_ptr(), moment._version) for moment in (self.mean, self.std))

    def _moments(self, z: Tensor) -> Moments:
        return Moments(*(moment.to(z.device, z.dtype) for moment in (self.mean, self.std)))

    def _call(self, level: Tensor | float, condition: Tensor | None) -> Call:
        here = proxy(self)  # as in `Model.intercept_network`

        def call(inputs: Tensor) -> Tensor:
            count = inputs.shape[0]
            rows = level.to(inputs).reshape(-1).expand(count) if isinstance(level, Tensor) else inputs.new_full((count,), level)
            out = here.net(inputs, rows) if condition is None else here.net(inputs, rows, condition)
            return out if out.dtype == inputs.dtype else out.to(inputs.dtype)

        return call


class _Conditioned(Model[P]):
    def __init__(self, base: ScoreModel[P], condition: Tensor) -> None:
        self.base, self.condition, self.sde = base, condition, base.sde

    def intercept_network(self, wrap: Callable[[Call], Call]) -> Model[P]:
        return self.base.intercept_network(wrap, self.condition)

    @property
    def version(self) -> Hashable:
        return self.base.version

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self.base.score(z, t, self.condition)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.base.denoise(z, t, self.condition)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.base.prior(shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        return self.base.prior_log_prob(z)
