"""UniPC: an exponential Adams predictor and corrector that share one network evaluation per step, for every affine process.

Zhao et al., arXiv 2302.04867. UniP-p predicts `z` at the next time from the last `p` values of the denoiser, or of the noise. The next
step evaluates the network there, and UniC-2 corrects that `z` with three values, the new one included. The network is not evaluated
again at the corrected `z`, so correcting is free. The weights solve the paper's conditions, so its `B(h)` cancels: they are those of
`sdezoo_plugins.samplers.affine.exponential_adams`. With two values, in the predictor and in the first correction, the published code gives
the slope the weight ½ instead. That has the same order, and is nearer to the exact flow of the data in few steps: by a quarter with 5, by a
third with 10 and 20, in the geometric mean over 21 exact problems. For the noise it makes little difference.

With `p = 2` the corrector raises the order to 3 (theorem 3.1). The paper corrects `p = 3` with four values. Within ten evaluations four
values overshoot, at twice the distance from the exact flow, so `p = 3` is corrected with three as well: it predicts better, at the same
order. The first step knows one value and is corrected with two; the error it leaves is of order 3.

Interpolating the noise is more accurate on smooth densities, best with `spacing=optimized`, and where values turn to one of
two with `p = 2`. Interpolating the data is more stable with few steps, and for data that are isolated points. The last step, to `s = 0`,
ends in the denoised state: `D`, or `(z − m − σ ε)/α` at the corrected `z`.
"""

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, Self

from annotated_types import Interval
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE, Coefficients
from sdezoo.process.noise import Noise
from sdezoo.sampling.sampler import Sampler
from sdezoo_plugins.samplers.affine.exponential_adams import log_snr, with_data, with_noise

Last = tuple[Coefficients, Tensor, list[tuple[Tensor, Tensor]]]
"""The start of the previous step: coefficients, state, and known values as pairs of `λ` and the value there."""


@dataclass(frozen=True)
class UniPC(Sampler[AffineSDE, Last]):
    """UniPC for every affine process: deterministic predictor–corrector, order 3, one evaluation per step."""

    papers: ClassVar[tuple[str, ...]] = ("zhao2023unipc",)

    preference: ClassVar[int] = 30
    preferred_for: ClassVar[tuple[str, ...]] = ("table",)
    preferred_with: ClassVar[str] = "order=3,prediction=noise,spacing=optimized"
    weak_order: ClassVar[float | None] = 3.0

    order: Annotated[int, Interval(ge=2, le=3)] = 2
    """Number of values that the predictor interpolates; the corrector interpolates three."""
    prediction: Literal["data", "noise"] = "data"
    """What is interpolated: the denoised state (`data`), or the predicted noise (`noise`)."""
    weights: Literal["exact", "half"] | None = None
    """Weight of the slope through two values: that which solves the conditions (`exact`), or ½ as in the published code (`half`); None:
    `half` for the data, `exact` for the noise."""

    @property
    def usual_steps(self) -> int:
        """Where noise is interpolated on the grid `optimized`: 12 with `order=3`, on tables as near the exact flow as `dpmpp-2m` in 20, and
        16 with `order=2`. Else 20.
        """
        return {2: 16, 3: 12}[self.order] if self.prediction == "noise" and self.spacing == "optimized" else super().usual_steps

    def deciding(self) -> Self:
        """With `order=2`: three values overshoot where a row turns to one of two."""
        return replace(self, order=2)

    def step(
        self, model: Model[AffineSDE], z: Tensor, t: Tensor, s: Tensor, noise: Noise, memory: Last | None
    ) -> tuple[Tensor, Last | None]:
        p, q = model.sde.at(t, z), model.sde.at(s, z)
        value, advance = model.denoise(z, t), with_data
        half = (self.weights or {"data": "half", "noise": "exact"}[self.prediction]) == "half"
        if self.prediction == "noise":
            value, advance = ((z - p.shift) / p.alpha - value) / p.ratio, with_noise
        known = [(log_snr(p), value)]
        if memory is not None:
            origin, start, before = memory
            known += before
            z = advance(origin, p, start, known[:3], half)
        if s == 0:
            return q.shift + q.alpha * (value if self.prediction == "data" else (z - p.shift) / p.alpha - p.ratio * value), None
        known = known[: self.order]
        return advance(p, q, z, known, half), (p, z, known)
