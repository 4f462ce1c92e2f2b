"""What the tests of processes with a transition of their own share: data of two points and their reversal, and states that stay inside."""

import torch

from sdezoo import Model
from sdezoo.conformance.bank.problems import Atoms

WIDE = torch.empty((), dtype=torch.float64)
STATES = {1: 500_000, 10: 400_000, 100: 90_000, 1000: 10_000}
"""A million states: how many, by the number of steps that lead to them."""


class Wild(Model):
    """A score that is as wrong as one pleases, and large."""

    def __init__(self, sde):
        self.sde = sde

    def score(self, z, t):
        return self.sde.score_from_output(30 * torch.cos(40 * self.sde.network_input(z, t)), z, t)


def outside(sampler, sde, event, steps, states=None):
    """How many of `states` float32 numbers that `sampler` ends in are outside the support, not finite, or on its boundary.

    By default `STATES[steps]` of them.
    """
    rows = (states or STATES[steps]) // event
    found = []
    sampler.sample(Wild(sde), (rows, event), steps, callback=lambda k, z, t: found.append(z) if k == steps else None)
    state, (x,) = found[0], [sde.decode(found[0])]
    inside = sde.support.check(x)
    open_end = (state > 0) & ((state < 1) if bool(sde.support.check(x + 1).sum() == 0) else torch.isfinite(state))
    return int((~inside).sum() + (~open_end).sum() + (~torch.isfinite(x)).sum())


def distance(sampler, sde, points, steps, count, seed=0):
    """W1, entry by entry, between data of two equally likely points and what `sampler` makes of their exact score."""
    points = torch.tensor(points, dtype=torch.float64)
    x = sampler.sample(Atoms(sde, points), (count, points.shape[1]), steps, seed, like=WIDE)
    exact = points[torch.arange(count) % 2]
    return float((x.sort(0).values - exact.sort(0).values).abs().mean())


def without_divergence(cls):
    """The process whose reversal leaves out `∇·(g gᵀ)`, as toolkits for additive noise do."""
    return type("WithoutDivergence", (cls,), {"divergence": lambda self, z, t: torch.zeros_like(z)})
