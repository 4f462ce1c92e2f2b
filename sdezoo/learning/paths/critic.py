"""The critic of paths: a neural controlled differential equation.

Driven by time and a path `Y`, linear between its observations (Kidger, Foster, Li, Oberhauser & Lyons, arXiv 2102.03657, eq. 3)::

    H_0 = ξ(Y_0),      dH = g(H, t) d(t, Y),      D(Y) = m · H_T

It is kept Lipschitz by clipping, in place of a gradient penalty (Kidger, Foster, Li & Lyons, arXiv 2105.13493, section 5): the entries of
a matrix with `b` columns stay in `[−1/b, 1/b]`, and the activation `0.909 x sigmoid(x)` and `tanh` have slopes of at most 1. The equation
is solved by Heun's method, one step between two observations.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LipSwish(nn.Module):
    """`0.909 x sigmoid(x)`, of slope at most 1."""

    def forward(self, x: Tensor) -> Tensor:
        return 0.909 * nn.functional.silu(x)


class Critic(nn.Module):
    """A number for each path. Generated paths should get the same as observed ones, on average.

    Args:
        columns: number of columns `d`.
        width: width of the hidden layers.
        hidden: size of the state `H`.
    """

    def __init__(self, columns: int, width: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(columns, width), LipSwish(), nn.Linear(width, hidden))
        self.rates = nn.Sequential(
            nn.Linear(hidden + 1, width),
            LipSwish(),
            nn.Linear(width, width),
            LipSwish(),
            nn.Linear(width, hidden * (columns + 1)),
            nn.Tanh(),
        )
        self.last = nn.Linear(hidden, 1)

    def forward(self, path: Tensor, t: Tensor) -> Tensor:
        """Judge paths.

        Args:
            path: paths of order 1, `(B, T, d)`.
            t: times of order 1, `(T,)`.

        Returns:
            A number for each path, `(B,)`.
        """
        dtype = self.last.weight.dtype
        path, t = path.to(dtype), t.to(path.device, dtype)
        control = torch.cat([t.diff()[:, None].expand(len(path), -1, 1), path.diff(dim=1)], -1)
        h = self.first(path[:, 0])
        for k in range(len(t) - 1):
            start = self._along(h, t[k], control[:, k])
            h = h + (start + self._along(h + start, t[k + 1], control[:, k])) / 2
        return self.last(h).squeeze(-1)

    @torch.no_grad()
    def clip(self) -> None:
        """Put the entries of all matrices into their bounds."""
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.clamp_(-1 / layer.in_features, 1 / layer.in_features)

    def turn_gradients(self) -> None:
        """Change the sign of the gradients of all weights: where the loss is minimized, the critic then maximizes it."""
        for weight in self.parameters():
            weight.register_hook(torch.neg)

    def _along(self, h: Tensor, t: Tensor, step: Tensor) -> Tensor:
        rates = self.rates(torch.cat([h, t.expand(len(h), 1)], -1)).reshape(*h.shape, -1)
        return (rates @ step.unsqueeze(-1)).squeeze(-1)
