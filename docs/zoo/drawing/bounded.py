"""Draw `docs/pictures/boundary/{reflected,metropolis}.png`: paths from two points in [0, 1] and back, and a walk in an annulus.

    python docs/zoo/drawing/bounded.py

Reverse paths are those of `euler-maruyama` with the exact score, which for `metropolis` is that of the reflected process, its limit.
Everything is seeded.
"""

import matplotlib.pyplot as plt
import torch
from sampled import PATHS, STEPS, WIDE, forward, panel, save

from sdezoo import SAMPLERS, SDES, Model
from sdezoo.conformance.bank.problems import Atoms

POINTS = torch.tensor([[0.2], [0.65]], dtype=torch.float64)
RING = "metropolis:set=annulus,inner=0.5"


class Borrowed(Model):
    def __init__(self, sde, exact):
        self.sde, self.exact = sde, exact

    def score(self, z, t):
        return self.exact.score(z, t)


def draw(name, panels):
    figure, axes = plt.subplots(1, panels, figsize=(3.7 * panels, 2.6), layout="constrained")
    sde = SDES.build(name)
    exact = Atoms(SDES.build(f"reflected:sigma_min={sde.sigma_min},sigma_max={sde.sigma_max}"), POINTS)
    times, x = forward(sde, POINTS.repeat_interleave(PATHS // 2, 0))
    panel(axes[0], f"{name}, forward", times, x)
    seen = []
    SAMPLERS.build("euler-maruyama").sample(
        Borrowed(sde, exact), (PATHS, 1), STEPS, seed=1, like=WIDE, callback=lambda _, z, t: seen.append((t, z[:, 0]))
    )
    back = torch.stack([z for _, z in seen])
    panel(axes[1], "reverse: euler-maruyama", torch.stack([t for t, _ in seen]), back[:, back[-1].argsort()])
    axes[1].invert_xaxis()
    for one in axes[:2]:
        one.set_ylim(-0.02, 1.02)
    if panels > 2:
        walks(axes[2])
    save(figure, name)


def walks(axes):
    """Two walks of 1500 steps in an annulus, forward."""
    sde = SDES.build(RING)
    z = torch.tensor([[0.75, 0.0], [-0.75, 0.1]], dtype=torch.float64)
    generator, seen = torch.Generator().manual_seed(3), [z]
    for _ in range(1500):
        z = sde.project(z + 0.04 * torch.randn(z.shape, generator=generator, dtype=torch.float64), z)
        seen.append(z)
    for path, colour in zip(torch.stack(seen, 1), ("#3b528b", "#5ec962"), strict=True):
        axes.plot(*path.T, lw=0.5, color=colour)
        axes.plot(*path[0], "o", color=colour, ms=5)
    for radius in (0.5, 1.0):
        axes.add_patch(plt.Circle((0, 0), radius, fill=False, lw=0.8))
    axes.set_title(RING.partition(":")[2] + ", forward", fontsize=9)
    axes.set_aspect("equal")
    axes.set_xlim(-1.05, 1.05)
    axes.set_ylim(-1.05, 1.05)


if __name__ == "__main__":
    draw("reflected", 2)
    draw("metropolis", 3)
