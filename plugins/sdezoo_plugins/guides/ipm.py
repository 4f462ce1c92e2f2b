"""The closed-form discriminator of an integral probability metric (IPM): maximum mean discrepancy, with a Gaussian kernel.

Of all functions of the kernel's unit ball, the one that tells data `p` from generated states `q` best is the *witness*
(Gretton et al., JMLR 13, 2012, section 2.3), and the guide climbs it::

    D(z) ∝ E_{y∼p_t} κ(z, y) − E_{y∼q_t} κ(z, y),      κ(z, y) = exp(−‖z − y‖²/2h)
    s(z) ← s(z) + w ∇D(z)

No discriminator is trained. Both sets are at the level of the step: training rows, and a *pilot*, rows that the model inside the guide
generates. The published form takes the present batch for `q_t`, and a sample then depends on its batch. Here the pilot has keys of its own
and is frozen, so that each row depends on (seed, row) and on the pilot alone. Row `i` of both sets is noised with the same random numbers:
where noise covers the data, the witness of two finite sets would otherwise be that of their noise.

The bandwidth is `h = median²/2`, the median of the distances between all states of both sets, at each level, and the same for both. With
`rounds` above 1 the pilot is drawn again under the guide, so that data and *guided* samples are compared.

The kernel compares states in coordinates. In many dimensions, such as images, all distances are nearly the same, and it tells little. With
`components=k` it compares `P z`, the rows of `P` being the `k` leading principal directions of the training rows in coordinates; the slope
is then `Pᵀ ∇D(P z)`, and the guide moves samples along these directions alone.

With `features=network` states are compared by what the run's own network sees in them, at the level of the step: `D` is linear in these
features, with their covariance in place of the kernel's ball (see `sdezoo_plugins.guides.critic`). Its slope goes back through the network,
and is in units of the score, so that weight 1 is right at all levels. Where rows that were left out show no difference, it is 0.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, Protocol

import torch
from annotated_types import Ge
from torch import Tensor

from sdezoo.errors import CompositionError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.parameters import Count, NonNegative
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise
from sdezoo.process.sde import ForwardSDE
from sdezoo.sampling.guide import Guide, Reference
from sdezoo_plugins.guides.critic import Critic

_NUMBERS, _ROWS = 2**20, 64
"""A block holds at most so many numbers and rows."""
_MOST = 2**25
"""Most numbers of noised sets that are kept for the next batch."""
_FITTED = 2048
"""Most training rows that principal directions are fitted to."""


@dataclass(frozen=True)
class IPM(Guide[ForwardSDE]):
    """Closed-form discriminator: climbs what tells training rows from generated ones, by a kernel; nothing is trained."""

    needs_rows: ClassVar[bool] = True

    weight: NonNegative = 1.0
    """Weight `w` of the slope of the witness."""
    count: Annotated[int, Ge(2)] = 256
    """Number of rows in the pilot, and at most as many training rows, of each class that is drawn."""
    rounds: Count = 1
    """Number of pilots, each after the first drawn under guidance by the one before; in features, the slopes of all are added."""
    components: Count | None = None
    """Number of principal components of the training rows in which states are compared, as for images; None: all coordinates."""
    features: Literal["state", "network"] = "state"
    """What states are compared by: `state`, their coordinates, by a Gaussian kernel; `network`, features of the run's network, by a linear
    one, as for images."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.components is not None and self.features == "network":
            raise ParameterError(
                f"'{self.title()}' compares states in principal components, or in features of the network, and not in both.",
                "Leave out components, or features.",
            )

    def around(self, model: Model[ForwardSDE], reference: Reference) -> Model[ForwardSDE]:
        if not self.weight:
            return model
        if self.features == "network" and reference.features is None:
            raise CompositionError(
                f"The network of this model has no features for '{self.title()}' to compare states in.",
                "Leave out features=network, or train a network that has them, such as a U-Net (--net unet, --net unet1d).",
            )
        lowest = torch.tensor(model.sde.t_span[0]).to(reference.like)
        plane = reference.once("plane", lambda: self._plane(reference, lowest))
        witnesses = {label: reference.once(label, partial(self._last, reference, label, plane)) for label in reference.classes}
        return Climbing(model, self.weight, witnesses, reference.labels)

    def _last(self, reference: Reference, label: int | None, plane: Tensor | None) -> "Climbed":
        """The witness of the last pilot, each pilot after the first being drawn under guidance by the witness before."""
        real, found = reference.data(self.count, label), None
        for turn in range(self.rounds):

            def through(inner: Model[Any], before: Climbed | None = found) -> Model[Any]:
                return inner if before is None else Climbing(inner, self.weight, {None: before}, None)

            pilot = reference.pilot(self.count, label, through, turn)
            if reference.features is not None and self.features == "network":
                found = Critic(reference.features, real, reference.noised, pilot, found if isinstance(found, Critic) else None)
            else:
                found = Witness(real, reference.noised, pilot, plane)
        assert found is not None, "there is at least one round"
        return found

    def _plane(self, reference: Reference, t: Tensor) -> Tensor | None:
        """The leading principal directions of training rows at the lowest noise level, `(components, d)`; None: all coordinates."""
        if self.components is None:
            return None
        states = reference.noised(reference.data(_FITTED, None), t).flatten(1)
        if self.components > (most := min(len(states) - 1, states.shape[1])):
            raise ParameterError(
                f"'{self.title()}' asks for {self.components} principal components, and there are {most}.", f"Give at most {most}."
            )
        return torch.linalg.svd((states - states.mean(0)).double(), full_matrices=False).Vh[: self.components].to(states)


class Climbed(Protocol):
    """What a model climbs."""

    def slope(self, z: Tensor, t: Tensor) -> Tensor:
        """Return `∇D(z)`, shaped like `z`.

        Args:
            z: states, `(B, *state)`.
            t: time, 0-dim.
        """
        ...


class Witness:
    """The slope of the witness between noised rows and a pilot.

    Args:
        real: encoded training rows, `(n, *event)`.
        noised: noises them to a time, see `Reference.noised`.
        pilot: generated rows, encoded, `(m, *event)`.
        plane: orthonormal directions in which states are compared, `(k, d)`; None: all coordinates.
    """

    def __init__(self, real: Tensor, noised: Callable[[Tensor, Tensor], Tensor], pilot: Tensor, plane: Tensor | None = None) -> None:
        self._real, self._noised, self._pilot, self._plane = real, noised, pilot, plane
        self._kept: dict[float, tuple[Tensor, Tensor, float]] = {}

    def at(self, t: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return both sets at a time, `(n, d)` and `(m, d)`, or `(n, k)` and `(m, k)` in the plane, and the bandwidth `h`.

        Args:
            t: time, 0-dim.
        """
        at = float(t)
        if at not in self._kept:
            real, made = (self._noised(rows, t.detach()).flatten(1) for rows in (self._real, self._pilot))
            if self._plane is not None:
                real, made = real @ self._plane.T, made @ self._plane.T
            if (len(self._kept) + 1) * (real.numel() + made.numel()) > _MOST:
                self._kept.clear()
            self._kept[at] = (real, made, bandwidth(torch.cat([real, made])))
        return self._kept[at]

    def slope(self, z: Tensor, t: Tensor) -> Tensor:
        """Return `∇D(z)`, shaped like `z`.

        Args:
            z: states, `(B, *state)`.
            t: time, 0-dim.
        """
        real, made, h = self.at(t)
        flat = z.flatten(1)
        plane = None if self._plane is None else self._plane.to(z)
        return (kernel_slope(flat, real.to(z), h, plane) - kernel_slope(flat, made.to(z), h, plane)).reshape(z.shape)


class Climbing(Model[ForwardSDE]):
    """A model whose score climbs a witness: `s + w ∇D`.

    Args:
        model: the model inside.
        weight: `w`.
        witnesses: by class; None: without labels.
        labels: classes of the rows, `(B,)`; None: no label.
    """

    def __init__(self, model: Model[ForwardSDE], weight: float, witnesses: Mapping[int | None, Climbed], labels: Tensor | None) -> None:
        self.model, self.weight, self.sde = model, weight, model.sde
        self.witnesses, self.labels = witnesses, labels

    def score(self, z: Tensor, t: Tensor) -> Tensor:
        return self.model.score(z, t) + self.weight * self.pull(z, t)

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not isinstance(self.sde, AffineSDE):
            return super().denoise(z, t)  # pyright: ignore[reportAttributeAccessIssue]
        k = self.sde.at(t, z)
        return self.model.denoise(z, t) + k.variance / k.alpha * (self.weight * self.pull(z, t))  # pyright: ignore[reportAttributeAccessIssue]

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return self.model.prior(shape, noise, like)

    def prior_log_prob(self, z: Tensor) -> Tensor:
        """Unknown, since the guided score is that of no known density.

        Raises:
            CompositionError: always.
        """
        raise CompositionError("The density of guided samples is not known.", "Compute the log-likelihood of the unguided model.")

    def pull(self, z: Tensor, t: Tensor) -> Tensor:
        """Return `∇D(z)` for each row by its own class and time, shaped like `z`.

        Args:
            z: states, `(B, *state)`.
            t: time, 0-dim or `(B, 1, …, 1)`.
        """
        if t.ndim:
            parts = zip(z.split(1), t.reshape(-1), self.labels if self.labels is not None else [None] * len(z), strict=True)
            return torch.cat([self._of(None if label is None else int(label)).slope(row, at) for row, at, label in parts])
        if self.labels is None:
            return self._of(None).slope(z, t)
        found = torch.zeros_like(z)
        for label in self.labels.unique().tolist():
            at = (self.labels == label).nonzero().flatten()
            found = found.index_copy(0, at, self._of(label).slope(z[at], t))
        return found

    def _of(self, label: int | None) -> Climbed:
        return self.witnesses[label]


def bandwidth(y: Tensor) -> float:
    """Return half the squared median of the distances between states.

    Args:
        y: states, `(n, d)`.
    """
    return float(torch.nn.functional.pdist(y.double()).median()) ** 2 / 2


def kernel_slope(z: Tensor, y: Tensor, h: float, plane: Tensor | None = None) -> Tensor:
    """Return `∇_z mean_j exp(−‖P z − y_j‖²/2h)`, `(B, d)`, in blocks of a fixed number of rows: each row rounds alike in every batch.

    Args:
        z: points, `(B, d)`.
        y: states, `(n, d)`, or `(n, k)` in the plane.
        h: bandwidth.
        plane: `P`, `(k, d)`; None: the identity.
    """
    rows = max(1, min(_ROWS, _NUMBERS // y.numel()))
    found = []
    for block in torch.nn.functional.pad(z, (0, 0, 0, -len(z) % rows)).split(rows):
        apart = (block if plane is None else block @ plane.T)[:, None] - y[None]
        weights = torch.exp(-(apart * apart).sum(-1, keepdim=True) / (2 * h))
        slope = -(weights * apart).mean(1) / h
        found.append(slope if plane is None else slope @ plane)
    return torch.cat(found)[: len(z)]
