"""States far from where noise usually takes the data, at which formulas have to hold too."""

from __future__ import annotations

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import Case, inside


def far_states(case: Case, *deviations: float) -> list[Tensor]:
    """The noised state of a case, some deviations of its noise on, to either side: those inside the support.

    Args:
        case: The case.
        deviations: How many; three if none is given.
    """
    z, found = case.draw(), []
    for count in deviations or (3.0,):
        step = count * case.sde.scale(case.t).to(z) * torch.ones_like(z)
        found += [u for u in (z - step, z + step) if bool(inside(case.sde, u).all())]
    return found
