"""Processes that are run backward from the denoiser, without a score: jumps, thinning, and others that have no gradient to follow.

Given the clean state, the distribution of an earlier state `z_s` given a later one `z_t` is known. A sampler puts the denoiser
`D = E[z_0 | z_t]` in the place of the clean state. If the intensity of what happens in a short time is linear in the clean state, only its
mean matters, and the reverse process is exact as the step vanishes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from sdezoo.process.noise import Noise
from sdezoo.process.process import Denoised


class Rewindable(Denoised):
    """A process that goes back in time given its denoiser. Abstract: `earlier` and `step_divergence`."""

    in_words = "a process that knows its earlier states given its denoiser"

    @abstractmethod
    def earlier(self, z: Tensor, denoised: Tensor, t: Tensor, s: Tensor, noise: Noise) -> Tensor:
        """Sample `z_s` given `z_t = z`, with the mean that the clean state `denoised` implies; at `s = 0` a sample of the data.

        Args:
            z: noised state at `t`, `(B, *state)`.
            denoised: `D = E[z_0 | z_t = z]`, shaped like `z`.
            t: the later time, 0-dim.
            s: the earlier time, 0-dim.
            noise: random numbers.

        Returns:
            The state at `s`, shaped like `z`.
        """

    @abstractmethod
    def step_divergence(self, z: Tensor, denoised: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """Divergence between the step back from `t` to `s` by the denoiser and the one by the clean state.

        Its mean over `x0` given `z_t` must be smallest at `denoised = E[x_0 | z_t]`. A Kullback–Leibler divergence is so, between members
        of an exponential family whose natural parameters are linear in the clean state, if the member by `denoised` comes first; and one
        between members whose means are linear in it, such as Poisson numbers, if it comes second.

        Args:
            z: noised state at `t`, `(B, *state)`.
            denoised: `D`, shaped like `z`.
            x0: clean data, `(B, *event)`.
            t: the later time, 0-dim or `(B, 1, …, 1)`.
            s: the earlier time, shaped like `t`.

        Returns:
            The divergence of each entry, at least 0, shaped like `z`, differentiable in `denoised`.
        """

    def exact_data(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor | None:
        """Sample data for which `earlier` is exact for a step of any length, to the error of thousands of samples, and the network output 0
        gives the denoiser.

        Args:
            shape: shape of the data, `(B, *event)`.
            noise: random numbers.
            like: sets dtype and device.

        Returns:
            The data, of `shape`. None, the default: there are none, or none are known.
        """
        return None
