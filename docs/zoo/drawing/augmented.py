"""Draw forward and reverse paths of the processes whose states hold more than the data, or whose noise is not normal.

    python docs/zoo/drawing/augmented.py

writes `docs/pictures/*/NAME.png` of `{cld,zero-inflated,student-t,levy,log-laplace,fractional}`: paths of the process from data at a few
points, and paths of a sampler of this library back from the prior, with the exact score. Everything is seeded.
"""

from itertools import pairwise

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from sampled import save
from torch import Tensor

from sdezoo import SAMPLERS, SDES, Model
from sdezoo.conformance.bank.problems import Atoms
from sdezoo.learning.model import DenoiserModel
from sdezoo.process.noise import KeyedNoise

PATHS, STEPS = 28, 300
TIMES = torch.linspace(0, 1, STEPS + 1, dtype=torch.float64)
Panel = tuple[str, Tensor, Tensor]
"""Title, times `(n,)`, and paths `(n, PATHS)`."""


class StudentPoints(DenoiserModel):
    """What a network learns of data that are one of two points under Student's noise, exactly."""

    def __init__(self, sde, points):
        self.sde, self.points = sde, points

    def denoise(self, z: Tensor, t: Tensor) -> Tensor:
        sigma, nu = self.sde.mix(t).sigma, self.sde.nu
        shares = torch.softmax(-(nu + 1) / 2 * (((z - self.points) / sigma) ** 2 / nu).log1p(), 1)
        return (shares * self.points).sum(1, keepdim=True)


def forward(sde, x0: Tensor) -> Tensor:
    """States at `TIMES`, on one Brownian path each."""
    noise = KeyedNoise(0, range(PATHS))
    states = [sde.encode(x0, noise)]
    for t, s in pairwise(TIMES.unbind()):
        states.append(sde.forward_step(states[-1], t.clamp_min(sde.t_span[0]), s - t, noise))
    return torch.stack(states)


def reverse(model: Model, sampler: str, like: Tensor, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Times, and states of a sampler back to the data."""
    seen: list[tuple[Tensor, Tensor]] = []
    SAMPLERS.build(sampler).sample(model, (PATHS, 1), steps, like=like, callback=lambda _k, z, t: seen.append((t, z)))
    return torch.stack([t for t, _ in seen]), torch.stack([z for _, z in seen])


def cld() -> list[Panel]:
    points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    sde = SDES.build("cld")
    out = forward(sde, points.repeat(PATHS // 2, 1))
    times, back = reverse(Atoms(sde, points), "sscs", points)
    return [("forward: position", TIMES, out[:, :, 0, 0]), ("velocity", TIMES, out[:, :, 1, 0]), ("reverse: sscs", times, back[:, :, 0, 0])]


def zero_inflated() -> list[Panel]:
    points = torch.tensor([[0.0], [1.0], [6.0]], dtype=torch.float64)
    sde = SDES.build("zero-inflated").adapted(points)
    out = forward(sde, points.repeat(PATHS, 1)[:PATHS])
    times, back = reverse(Atoms(sde, points), "ancestral", points)
    x = torch.stack([sde.decode(z)[:, 0] for z in back])
    return [("forward: logarithm", TIMES, out[..., 0]), ("mark", TIMES, out[..., 1]), ("reverse: ancestral, decoded", times, x)]


def student_t() -> list[Panel]:
    points = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    sde = SDES.build("student-t:nu=2.5")
    x0 = points.repeat(PATHS // 2)[:, None]
    e = sde.base((PATHS, 1), KeyedNoise(0, range(PATHS)), x0)
    out = torch.stack([x0 + sde.mix(t).sigma * e for t in TIMES])
    times, back = reverse(StudentPoints(sde, points), "flow", x0, 120)
    return [("forward", TIMES, out[..., 0]), ("reverse: flow", times, back[..., 0])]


def levy() -> list[Panel]:
    points, noise = torch.tensor([[-1.0], [1.0]], dtype=torch.float64), KeyedNoise(0, range(PATHS))
    sde = SDES.build("levy:alpha=1.5,spread=1")
    times = TIMES * sde.t_span[1]
    out = [points.repeat(PATHS // 2, 1)]
    for s, t in pairwise(times.unbind()):
        out.append(sde.mix(t).alpha / sde.mix(s).alpha * out[-1] + sde.increment(out[-1], t, s, noise))
    back = [reverse(Atoms(sde, points), sampler, points) for sampler in ("flow", "levy-sde")]
    titles = ("reverse: flow", "reverse: levy-sde")
    paths = [(title, seen, z[..., 0]) for title, (seen, z) in zip(titles, back, strict=True)]
    return [("forward", times, torch.stack(out)[..., 0]), *paths]


def log_laplace() -> list[Panel]:
    points, noise = torch.tensor([[0.5], [2.0]], dtype=torch.float64), KeyedNoise(0, range(PATHS))
    sde = SDES.build("log-laplace:spread=(0.7)")
    times = TIMES * sde.t_span[1]
    out = [sde.encode(points).repeat(PATHS // 2, 1)]
    for s, t in pairwise(times.unbind()):
        out.append(sde.mix(t).alpha / sde.mix(s).alpha * out[-1] + sde.increment(out[-1], t, s, noise))
    panels = [("forward", times, sde.decode(torch.stack(out))[..., 0])]
    for sampler in ("flow", "levy-sde"):
        seen, z = reverse(Atoms(sde, points), sampler, points)
        panels.append((f"reverse: {sampler}", seen, sde.decode(z)[..., 0]))
    return panels


def fractional() -> list[Panel]:
    points = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    panels = []
    for hurst in (0.2, 0.9):
        out = forward(SDES.build(f"fractional:hurst={hurst}"), points.repeat(PATHS // 2, 1))
        panels.append((f"forward: H = {hurst}", TIMES, out[:, :, 0, 0]))
    times, back = reverse(Atoms(SDES.build("fractional"), points), "euler-maruyama", points)
    return [*panels, ("reverse: H = 0.9, euler-maruyama", times, back[:, :, 0, 0])]


def draw(name: str, panels: list[Panel], scales: dict[int, str]) -> None:
    figure, row = plt.subplots(1, len(panels), figsize=(3.7 * len(panels), 2.6), layout="constrained")
    for k, (axes, (title, times, paths)) in enumerate(zip(row, panels, strict=True)):
        order = paths[0 if "reverse" not in title else -1].argsort()
        for i, path in enumerate(paths[:, order].T):
            axes.plot(times, path, color=mpl.colormaps["viridis"](0.85 * i / PATHS), lw=0.6, alpha=0.8)
        if "reverse" in title:
            axes.invert_xaxis()
        if k in scales:
            axes.set_yscale(scales[k], **({"linthresh": 1} if scales[k] == "symlog" else {}))
        if (paths >= 0).all() and scales.get(k) != "log":
            axes.set_ylim(bottom=-0.3)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("t")
    save(figure, name, dpi=90, colours=40)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    draw("cld", cld(), {})
    draw("zero-inflated", zero_inflated(), {2: "symlog"})
    draw("student-t", student_t(), {0: "symlog", 1: "symlog"})
    draw("levy", levy(), {0: "symlog", 1: "symlog", 2: "symlog"})
    draw("log-laplace", log_laplace(), {0: "log", 1: "log", 2: "log"})
    draw("fractional", fractional(), {})
