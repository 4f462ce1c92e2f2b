"""Models: the score of the marginals of a process.

`Model.score` is the only primitive. The other quantities follow from it::

    denoise:    E[z_0 | z_t] = (z_t − m + v s) / α                     (Tweedie; affine processes)
    hyvarinen:  x ∘ ∇_x log p = φ/φ' (s − φ''/φ')                      (change of variables; for x = exp(c + a z), s/a − 1)
    ambient:    ∇_x log p = (s − φ''/φ') / φ'                          (element-wise φ)

For a process whose network learns a denoiser (`Denoised`), `denoise` is the primitive: derive such a model from `DenoiserModel`.

`ScoreModel` is the trainable model: a network, an output parameterization, the moments of the data and the fitted prior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, Self, TypeVar
from weakref import proxy

import torch
from torch import Tensor, nn

from sdezoo.errors import CompositionError, SdezooError, unknown_prior
from sdezoo.learning.known.blocks import BlockDenoiser, fit_denoiser
from sdezoo.learning.known.linear import LinearDenoiser
from sdezoo.learning.network import Seeing, features_of
from sdezoo.learning.output import OUTPUTS, Call
from sdezoo.learning.prior import FittedPrior, Moments, PriorKind, fit
from sdezoo.process.affine import AffineSDE, slopes
from sdezoo.process.noise import Noise
from sdezoo.process.process import Denoised
from sdezoo.process.requirement import P
from sdezoo.process.sde import ForwardSDE

D = TypeVar("D", bound=AffineSDE | Denoised)
Q = TypeVar("Q", bound=Denoised)
View = Callable[[Tensor, Tensor], Tensor]
"""`score` or `denoise` of a model: called with state and time."""


class Model(ABC, Generic[P]):
    """The score of the marginals of `sde` for one distribution of the data. Abstract: `score`."""

    sde: P
    """The noise process."""

    @abstractmethod
    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """The score `∇_z log p_t(z)`, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    def denoise(self: Model[D], z: Tensor, t: Tensor) -> Tensor:
        """The denoiser `E[z_0 | z_t = z]`, shaped like `z`. Default: Tweedie's formula, for an affine process.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """
        return self.sde.denoised(z, t, self.score(z, t))

    def hyvarinen(self: Model[AffineSDE], z: Tensor, t: Tensor) -> Tensor:
        """The Hyvärinen score `x ∘ ∇_x log p_t(x)` at `x = φ(z)`, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """
        if self.sde.multiplicative:
            return self.score(z, t) / self.sde.column_spread.to(z) - 1
        first, second = slopes(self.sde.coordinates, z)
        return self.sde.decode(z) / first * (self.score(z, t) - second / first)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        """Sample the initial state of sampling, approximately from `p(z_1)`. Default: the prior of the process.

        Args:
            shape: shape of the data, `(B, *event)`.
            noise: random numbers.
            like: a tensor with the dtype and device of the result.
        """
        return self.sde.prior(shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Log-density of the distribution that `prior` samples, in nats, float64 `(B,)` on the CPU.

        Default: the log-density of the process's prior. Override it together with `prior`.

        Args:
            z: state at the last time, `(B, *state)`.

        Raises:
            CompositionError: if the log-density is unknown: the process does not define it, or only `prior` is overridden.
        """
        if type(self).prior is not Model.prior:
            raise unknown_prior(type(self).__name__)
        return self.sde.prior_log_prob(z)

    def ambient(self: Model[AffineSDE]) -> Model[ForwardSDE]:
        """The same model with the data as its state, `AffineSDE.ambient` as its process."""
        return _AmbientModel(self)

    def intercept_network(self, wrap: Callable[[Call], Call]) -> Model[P]:
        """The same model, with every `call` of its network replaced by `wrap(call)`.

        Outside these calls the model does only arithmetic on the state. If it is linear, a sampler folds it before its loop.
        Default: treats `score` and `denoise` themselves as the calls.

        Args:
            wrap: maps a call, a function of the network's input at a fixed time, to its replacement.
        """

        here = proxy(self)  # a stored call must not keep the model alive
        return _Through(self, lambda z, t: wrap(lambda u: here.score(u, t))(z), lambda z, t: wrap(lambda u: here.denoise(u, t))(z))

    @property
    def network_features(self) -> View | None:
        """Features of the network in states, `(B, *state)` and a time to `(B, k)`, differentiable, without labels; None: it has none."""
        return None

    @property
    def version(self) -> Hashable:
        """A key that changes whenever a constant used outside the network's calls changes. Default: None, no constants."""
        return None

    @property
    def decides(self) -> bool:
        """Whether it knows columns of two or three values, to one of which a row turns within few steps. Default: False."""
        return False

    def condition_on(self, condition: Tensor) -> Model[P]:
        """The model of the conditional distribution.

        Args:
            condition: class indices, integers `(B,)`.

        Raises:
            CompositionError: if the model was trained without labels.
        """
        raise CompositionError("This model is unconditional.", "Train a model with labels to sample from a chosen class.")


class DenoiserModel(Model[Q]):
    """The denoiser of a `Denoised` process. Abstract: `denoise`; `score` follows if the process defines it."""

    @abstractmethod
    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The denoiser `E[z_0 | z_t = z]`, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        """The score `∇_z log p_t(z)`, shaped like `z`.

        Args:
            z: state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.

        Raises:
            CompositionError: if the process has no score.
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
        self.sde = self._ambient = base.sde.ambient()

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        state, first, second = self._ambient.place(z)
        moving = first != 0  # a constant entry has no score, and its diffusion is zero
        score = (self.base.score(state, t) - second / torch.where(moving, first, 1.0)) / torch.where(moving, first, 1.0)
        return torch.where(moving, score, 0.0)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.base.sde.decode(self.base.prior(shape, noise, like))

    def prior_log_prob(self, z: Tensor) -> Tensor:
        state = self.base.sde.encode(z)
        stretch = self.base.sde.coordinates.log_abs_det_jacobian(state, z)
        return self.base.prior_log_prob(state) - stretch.cpu().double().reshape(len(z), -1).sum(1)


class ScoreModel(Model[P], nn.Module):
    """A network that learns the score, or the denoiser of a `Denoised` process.

    Args:
        sde: the noise process.
        net: the network, called as `net(x, level, condition)`, see `sdezoo.learning.network.Network`.
        output: output parameterization, a key of `sdezoo.learning.output.OUTPUTS`. None: `default_output` of the process.
        moments: mean and standard deviation of the clean coordinates, stored as buffers. None: 0 and 1.
        fitted: the fitted prior, where sampling starts. None: sampling starts from the prior of the process.

    Raises:
        CompositionError: if `output` does not fit `sde`.
        SdezooError: if `output` is unknown.
    """

    mean: Tensor
    """Mean of the clean coordinates; broadcasts against an event."""
    std: Tensor
    """Standard deviation of the clean coordinates; broadcasts against an event."""

    def __init__(
        self,
        sde: P,
        net: nn.Module,
        output: str | None = None,
        *,
        moments: Moments | None = None,
        fitted: FittedPrior | None = None,
        linear: LinearDenoiser | BlockDenoiser | None = None,
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
        self.linear = linear

    @classmethod
    def for_data(cls, sde: P, net: nn.Module, x0: Tensor, output: str | None = None, prior: PriorKind = "full") -> ScoreModel[P]:
        """Create a model with moments and prior estimated from data.

        Args:
            sde: the noise process.
            net: the network, called as `net(x, level, condition)`.
            x0: clean data, `(N, *event)`.
            output: output parameterization. None: `default_output` of the process.
            prior: `full` or `white` fits a Gaussian, see `sdezoo.learning.prior`; `process` uses the prior of the process. A
                process that is not affine always uses its own prior.

        Raises:
            CompositionError: if `output` does not fit `sde`.
            SdezooError: if `output` is unknown.
        """
        moments, fitted = fit(sde, x0, prior)
        linear = None
        if isinstance(sde, AffineSDE) and moments and (output or sde.default_output) == "edm":
            linear = fit_denoiser(sde, sde.encode(x0), moments.sigma_data)
        return cls(sde, net, output, moments=moments, fitted=fitted, linear=linear)

    def with_network(self, net: nn.Module) -> Self:
        """The same model with another version of its network, for example compiled. Moments and prior are shared.

        Args:
            net: the new network.
        """
        return type(self)(self.sde, net, self.output_name, moments=Moments(self.mean, self.std), fitted=self.fitted, linear=self.linear)

    def score(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        return self._output.score(self.sde, self._moments(z), self._call(self.sde.noise_conditioning(t), condition), z, t)

    def denoise(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._output.denoise(self.sde, self._moments(z), self._call(self.sde.noise_conditioning(t), condition), z, t)

    def predict(self, z: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """The regression output: the learned mean of the process's `target` given `z_t = z`, shaped like `z`.

        Args:
            z: noised state, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
            condition: class indices, integers `(B,)`; None: unconditional.
        """
        return self.denoise(z, t, condition) if isinstance(self.sde, Denoised) else self.score(z, t, condition)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        if self.fitted is None:
            return self.sde.prior(shape, noise, like)
        return self.fitted.draw(self.sde, shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        return self.sde.prior_log_prob(z) if self.fitted is None else self.fitted.log_prob(self.sde, z)

    def condition_on(self, condition: Tensor) -> Model[P]:
        # If no module declares `classes`, assume that the network accepts conditions.
        declared = [module.classes for module in self.net.modules() if hasattr(module, "classes")]
        if declared and all(classes is None for classes in declared):
            return super().condition_on(condition)
        return Conditioned(self, condition)

    def intercept_network(self, wrap: Callable[[Call], Call], condition: Tensor | None = None) -> Model[P]:
        def at(view: Callable[..., Tensor]) -> View:
            # A level given as a number is filled in on the device; a tensor would be copied there.
            return lambda z, t: view(self.sde, self._moments(z), wrap(self._call(float(self.sde.noise_conditioning(t)), condition)), z, t)

        return _Through(self, at(self._output.score), at(self._output.denoise))

    @property
    def network_features(self) -> View | None:
        named = features_of(self.net)
        if named is None:
            return None

        def view(z: Tensor, t: Tensor) -> Tensor:
            net = Seeing(named)
            self.with_network(net).predict(z, t)  # whatever the output means, and whatever is known besides
            return net.seen.to(z)

        return view

    @property
    def sigma_data(self) -> Tensor:
        """Standard deviation of the clean coordinates; broadcasts against an event."""
        return self.std

    @property
    def version(self) -> Hashable:
        return tuple((moment.data_ptr(), moment._version) for moment in (self.mean, self.std))

    @property
    def decides(self) -> bool:
        return self.linear is not None and self.linear.decides

    def _moments(self, z: Tensor) -> Moments:
        return Moments(*(moment.to(z.device, z.dtype) for moment in (self.mean, self.std)))

    def _call(self, level: Tensor | float, condition: Tensor | None) -> Call:
        here = proxy(self)  # as in `Model.intercept_network`

        def call(inputs: Tensor) -> Tensor:
            if here.linear is None:
                return through(inputs)
            return here.linear(through, inputs, level)

        def through(inputs: Tensor) -> Tensor:
            count = inputs.shape[0]
            rows = (level.to(inputs).reshape(-1) if isinstance(level, Tensor) else inputs.new_full((1,), level)).expand(count)
            out = here.net(inputs, rows) if condition is None else here.net(inputs, rows, condition)
            return out if out.dtype == inputs.dtype else out.to(inputs.dtype)

        return call


class Conditioned(Model[P]):
    """A trained model given a condition.

    Args:
        base: the model.
        condition: the condition, as `base.score` takes it.
    """

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
