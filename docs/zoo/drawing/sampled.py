"""Draw forward and reverse paths of processes, for their pages in `docs/zoo`.

    python docs/zoo/drawing/sampled.py cosine 'lift:transform=sigmoid'
    python docs/zoo/drawing/sampled.py rectified-flow --sampler ddim
    python docs/zoo/drawing/sampled.py 'product:(lift:transform=sigmoid)[0],vp[1]'

writes `docs/pictures/FAMILY/NAME.png` for each spec string: on the left paths of the SDE from data, on the right paths of a sampler of
this library back from the prior, with the exact score. The data are two humps in the coordinates of an affine process, else two points
(see `sdezoo.conformance.bank.reference_laws`); of data with several entries the first is drawn. A process whose transition density is not
known has no exact score here, and only its left half is drawn. A process that is no SDE is drawn at several times with the same noise, a
bridge between two points at each end. Everything is seeded.
"""

import argparse
import io
import math
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from sdezoo import SAMPLERS, SDES, AtRows
from sdezoo.conformance.bank.cases import smallest_event, typical
from sdezoo.conformance.bank.problems import Atoms, BridgeAtoms, Mixture
from sdezoo.conformance.bank.reference_laws import model_of
from sdezoo.process.bridge import Bridge
from sdezoo.process.noise import KeyedNoise
from sdezoo.process.process import Process
from sdezoo.process.sde import ForwardSDE

PATHS, STEPS = 28, 300
WIDE = torch.empty((), dtype=torch.float64)
SAMPLERS_HERE = ("ancestral", "euler-maruyama", "heun", "posterior", "bridge")
"""The first that fits, unless one is given."""


def data(sde: Process, model: Mixture | Atoms | BridgeAtoms | None) -> Tensor:
    if isinstance(model, BridgeAtoms):
        return model.points.repeat_interleave(PATHS // 2, 0)
    if isinstance(model, Mixture):
        return model.sde.decode(model.clean(PATHS, seed=1))
    if isinstance(model, Atoms):
        return model.clean(PATHS, KeyedNoise(1, range(PATHS)))
    return typical(sde, torch.full((PATHS, *smallest_event(sde)), 0.5, dtype=torch.float64))


@torch.no_grad()
def forward(sde: Process, x0: Tensor, model: Mixture | Atoms | BridgeAtoms | None = None) -> tuple[Tensor, Tensor]:
    """Times from 0 to the last, denser at both ends, and the data decoded at each, `(STEPS + 1, PATHS)`."""
    times = sde.t_span[1] * torch.sin(torch.linspace(0, math.pi / 2, STEPS + 1, dtype=torch.float64)) ** 2
    noise = KeyedNoise(0, range(PATHS))
    z = sde.encode(x0, noise)
    if not isinstance(sde, ForwardSDE):
        ends = model.last.repeat(PATHS // 2, 1) if isinstance(model, BridgeAtoms) else None
        states = [at_time(sde, x0, ends, t) for t in times[1:].unbind()]
        return times, shown(sde, [z, *states])
    seen = [z]
    for t, s in pairwise(times.unbind()):
        z = sde.forward_step(z, t, s - t, noise)
        seen.append(z)
    return times, shown(sde, seen)


def at_time(sde: Process, x0: Tensor, ends: Tensor | None, t: Tensor) -> Tensor:
    noise = KeyedNoise(0, range(PATHS))
    return sde.perturb(x0, t, noise) if ends is None else sde.between(sde.encode(x0, noise), ends, t, noise)


def reverse(sde: Process, model: Mixture | Atoms | BridgeAtoms, shape: torch.Size, given: str | None) -> tuple[str, Tensor, Tensor]:
    sampler = next(s for s in map(SAMPLERS.build, [given] if given else SAMPLERS_HERE) if s.refuses(sde) is None)
    seen: list[tuple[Tensor, Tensor]] = []
    start = AtRows(sde.decode(model.last.repeat(PATHS // 2, 1))) if isinstance(model, BridgeAtoms) else None
    sampler.sample(model, shape, STEPS, like=WIDE, start=start, callback=lambda _k, z, t: seen.append((t, z)))
    return sampler.spec, torch.stack([t for t, _ in seen]), shown(sde, [z for _, z in seen])


def shown(sde: Process, states: list[Tensor]) -> Tensor:
    return torch.stack([sde.decode(z).flatten(1)[:, 0] for z in states])


def bridged(sde: Bridge) -> tuple[Tensor, Tensor]:
    """Two points at each end."""
    ends = torch.tensor([[[-1.5], [0.5]], [[-0.5], [1.5]]], dtype=torch.float64)
    return tuple(sde.decode(end) for end in ends)


def panel(axes: Axes, title: str, times: Tensor, x: Tensor) -> None:
    for k, path in enumerate(x.T):
        axes.plot(times, path, color=mpl.colormaps["viridis"](0.85 * k / PATHS), lw=0.6, alpha=0.8)
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("t")


def draw(spec: str, sampler: str | None) -> None:
    sde = SDES.build(spec)
    model = BridgeAtoms(sde, *bridged(sde)) if isinstance(sde, Bridge) else model_of(sde)
    x0 = data(sde, model)
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.4, 2.6), sharey=True, layout="constrained")
    times, x = forward(sde, x0, model)
    order = x[0].argsort()
    panel(left, "forward", times, x[:, order])
    if model is None:
        right.set_visible(False)
    else:
        name, times, back = reverse(sde, model, x0.shape, sampler)
        panel(right, f"reverse: {name}", times, back[:, back[-1].argsort()])
        right.invert_xaxis()
        x = torch.cat([x, back])
    inside = x.flatten().sort().values
    if inside[0] > 0 and inside[-1] > 20 * inside[0].clamp_min(1e-3) and sde.support.check(torch.tensor([1e6])).all():
        left.set_yscale("log")
    elif inside.abs().max() > 12:
        left.set_yscale("symlog", linthresh=2)
    left.set_ylabel("x")
    save(figure, spec.partition(":")[0])


def save(figure: Figure, name: str, dpi: int = 100, colours: int = 48) -> None:
    """Write `docs/pictures/FAMILY/NAME.png`, in few colours, and say so."""
    image = io.BytesIO()
    figure.savefig(image, dpi=dpi)
    plt.close(figure)
    family = SDES.entries(name)[0].module.split(".")[-2].replace("_", "-")
    file = Path(__file__).parents[2] / "pictures" / family / f"{name}.png"
    Image.open(image).convert("RGB").quantize(colours).save(file, optimize=True)
    print(f"{file} ({file.stat().st_size / 1000:.0f} kB)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("processes", nargs="+", metavar="NAME[:key=value,…]")
    parser.add_argument("--sampler", metavar="NAME[:key=value,…]", help=f"default: the first of {', '.join(SAMPLERS_HERE)} that fits")
    given = parser.parse_args()
    for process in given.processes:
        draw(process, given.sampler)
