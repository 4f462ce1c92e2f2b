"""States far from where noise usually takes the data, at which formulas have to hold too."""

from __future__ import annotations

import torch
from torch import Tensor

from sdezoo.conformance.bank.cases import Case, inside


def far_states(case: Case) -> list[Tensor]:
    """The noised state of a case, three deviations of its noise on, to either side: those inside the support.

    Args:
        case: The case.
    """
    z = case.draw()
    step = 3 * case.sde.scale(case.t).to(z) * torch.ones_like(z)
    return [u for u in (z - step, z + step) if bool(inside(case.sde, u).all())]
