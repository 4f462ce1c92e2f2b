"""Experiments with optimizers, as in docs/models/optimizers.md.

    python docs/experiments/optimizers.py escape                 # docs/pictures/escape.png: fractional noise in a double well
    python docs/experiments/optimizers.py depth                  # docs/pictures/depth.png: learning rates and features of deep networks
    python docs/experiments/optimizers.py permuted MNIST.npz     # hebbian-projection on permuted MNIST
    python docs/experiments/optimizers.py pruning MNIST.npz      # sign-mask after pruning at initialization

`MNIST.npz` holds `x_train`, `y_train`, `x_test`, `y_test`, with images `(N, 28, 28)` of bytes. Everything is seeded; with
OMP_NUM_THREADS=1 each part takes a few minutes of one core.
"""

import copy
import math
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from sdezoo import LOSSES, NETWORKS, OPTIMIZERS, SDES, Batch, Noise, ScoreModel
from sdezoo.learning.optimizer import flatten_state, is_weight
from sdezoo.zoo.datasets import find_dataset

PICTURES = Path(__file__).parents[1] / "pictures"
LEVEL = 0.08
"""Time of `vp` at which deep networks learn to denoise `spirals`: a noise of 0.26."""
Images = tuple[Tensor, Tensor]
"""Flat images in [0, 1], `(N, 784)`, and their classes."""


def save(figure: Figure, name: str) -> None:
    figure.savefig(PICTURES / name, metadata={"Software": None})
    plt.close(figure)


class Wells(nn.Module):
    """Independent walkers in the double well `(w² − 1)²/4`: wells at ±1 of curvature 2, a barrier of ¼ at 0. All start at −1."""

    def __init__(self, walkers: int) -> None:
        super().__init__()
        self.w = nn.Parameter(-torch.ones(walkers))

    def forward(self) -> Tensor:
        return ((self.w.square() - 1).square() / 4).sum()


def escape_times(hurst: float, sigma: float, *, walkers: int = 1000, steps: int = 16_000, rate: float = 0.025) -> Tensor:
    """Times at which walkers first pass the barrier; infinite if they do not."""
    wells = Wells(walkers)
    optimizer = OPTIMIZERS.build(f"fpgd:hurst={hurst},sigma={sigma}").build(wells, rate, steps=steps, seed=0)
    found = torch.full((walkers,), math.inf)
    for step in range(steps):
        optimizer.zero_grad()
        wells().backward()
        optimizer.step()
        found = torch.where((wells.w.detach() > 0) & found.isinf(), (step + 1) * rate, found)
        if found.isfinite().all():
            break
    return found


def escape() -> None:
    """Median escape times by Hurst index: noise of the same size in each step, or of the same stationary variance in a well."""
    grid, steady = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], 0.04
    figure, axes = plt.subplots(figsize=(4.6, 3.2), layout="constrained", dpi=80)
    for name in ("same variance in the well", "same size of steps"):
        rows = []
        for hurst in grid:
            sigma = math.sqrt(steady / (hurst * math.gamma(2 * hurst) * 2 ** (-2 * hurst)))
            if name == "same size of steps":  # that of independent noise
                sigma = math.sqrt(steady / 0.25) * 0.025 ** (0.5 - hurst)
            times = escape_times(hurst, round(sigma, 6)).sort().values
            n = len(times)
            apart = round(0.98 * math.sqrt(n))  # of the order statistics of a 95 % interval for the median
            rows.append([float(times[k]) for k in (n // 2 - apart, n // 2, n // 2 + apart)])
            print(f"{name}, H = {hurst}, sigma = {sigma:.3f}: median {rows[-1][1]:.1f} ({rows[-1][0]:.1f} … {rows[-1][2]:.1f})", flush=True)
        low, middle, high = np.array(rows).T
        shown = np.isfinite(high)
        apart = [middle[shown] - low[shown], high[shown] - middle[shown]]
        axes.errorbar(np.array(grid)[shown], middle[shown], apart, marker="o", markersize=4, capsize=2, label=name)
    axes.set(xlabel="Hurst index H", ylabel="median escape time", yscale="log")
    axes.legend(fontsize=8)
    save(figure, "escape.png")


def deep(depth: int, rate: float, rule: str, *, steps: int = 120, width: int = 32) -> tuple[float, float]:
    """Train a residual network on `spirals`: mean loss of the last third, and the change of the features behind blocks' first weights.

    `rule` is `plain`; `depth-aware`; or `depth-μP`, the same with the rate of the first weights scaled by 1/√L too.
    """
    x = find_dataset("spirals").load().train
    sde, loss = SDES.build("vp").adapted(x), LOSSES.build("dsm")
    torch.manual_seed(0)
    aware = "false" if rule == "plain" else "true"
    model = ScoreModel.for_data(sde, NETWORKS.build(f"mlp:width={width},depth={depth},depth_aware={aware}").module((2,)), x)
    model.linear = None
    blocks, start = model.net.blocks, copy.deepcopy(model.net)
    first = [p for block in blocks for p in block.enter.parameters()]
    held = {id(p) for p in first}
    slower = 1 / math.sqrt(depth) if rule == "depth-μP" else 1.0
    groups = [{"params": [p for p in model.parameters() if id(p) not in held]}, {"params": first, "lr": rate * slower}]
    optimizer = torch.optim.Adam(groups, lr=rate, betas=(0.9, 0.99))
    found = []
    for step in range(steps):
        noise = Noise.seeded(0, step)
        rows = x[torch.randint(len(x), (128,), generator=torch.Generator().manual_seed(step))]
        found.append(loss(model, Batch(rows), torch.full((128, 1), LEVEL), noise).mean() / 2)
        optimizer.zero_grad()
        found[-1].backward()
        optimizer.step()
    h, e = start.enter(x[:256]), start.embedding(torch.zeros(256))
    moved = []
    with torch.no_grad():
        for before, after in zip(start.blocks, blocks, strict=True):
            a, b = before.enter(h), after.enter(h)
            moved.append(float((b - a).square().mean().sqrt() / a.std()))
            h = before(h, e)
    return float(torch.stack(found[-steps // 3 :]).mean().detach()), float(np.mean(moved))


def depth() -> None:
    """Loss by learning rate at four depths, and feature changes by depth at one learning rate."""
    depths, rates = (2, 8, 32, 64), (0.001, 0.003, 0.01, 0.03, 0.1)
    figure, axes = plt.subplots(1, 3, figsize=(9.6, 3.0), layout="constrained", dpi=80)
    axes[1].sharey(axes[0])
    for place, rule in enumerate(("plain", "depth-aware")):
        for L in depths:  # noqa: N806
            losses = [deep(L, rate, rule)[0] for rate in rates]
            print(f"{rule}, depth {L}: " + " ".join(f"{loss:.4f}" for loss in losses), flush=True)
            axes[place].plot(rates, losses, marker="o", markersize=4, label=f"depth {L}")
        axes[place].set(title=rule, xlabel="learning rate", xscale="log")
    axes[0].set(ylabel="loss, steps 81 to 120", ylim=(0.94, 1.03))
    axes[1].legend(fontsize=8)
    for rule in ("depth-aware", "depth-μP"):
        changes = [deep(L, 0.01, rule)[1] for L in depths]
        print(f"{rule}, feature change: " + " ".join(f"{change:.3f}" for change in changes), flush=True)
        axes[2].plot(depths, changes, marker="o", markersize=4, label=rule)
    axes[2].set(title="features behind first weights", xlabel="depth", ylabel="relative change", xscale="log")
    axes[2].set(ylim=(0, None), xticks=depths, xticklabels=depths)
    axes[2].minorticks_off()
    axes[2].legend(fontsize=8)
    save(figure, "depth.png")


def mnist(path: str) -> tuple[Images, Images]:
    """Training and test images."""
    with np.load(path) as held:
        parts = [(held[f"x_{part}"], held[f"y_{part}"]) for part in ("train", "test")]
    train, test = [(torch.from_numpy(x).flatten(1) / 255, torch.from_numpy(y).long()) for x, y in parts]
    return train, test


def classifier(*widths: int, seed: int = 0) -> nn.Sequential:
    """784 inputs, hidden layers, 10 classes."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for before, after in zip((784, *widths), (*widths, 10), strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def learn(net: nn.Module, optimizer: torch.optim.Optimizer, images: Images, steps: int, rate: float, *, seed: int = 0) -> None:
    """Cross-entropy with batches of 128, and a learning rate that falls to 0 along a cosine."""
    order = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        rows = torch.randint(len(images[0]), (128,), generator=order)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images[0][rows]), images[1][rows]).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, images: Images) -> float:
    """Share of the images whose class is found, in per cent."""
    return 100 * float((net(images[0]).argmax(1) == images[1]).float().mean())


def permuted(path: str) -> None:
    """Five tasks, one after the other: MNIST with its pixels permuted anew in each. Accuracy of each task when learned, and at the end."""
    train, test = mnist(path)
    orders = [torch.randperm(784, generator=torch.Generator().manual_seed(task)) for task in range(5)]
    for spec in ("adamw:weight_decay=0", "hebbian-projection", "hebbian-projection:directions=40"):
        rule, learned, former = OPTIMIZERS.build(spec), [], None
        net = classifier(200, 200)
        for task, order in enumerate(orders):
            net = copy_weights(net, classifier(200, 200))  # without what watched the layers of before
            optimizer = rule.build(net, 1e-3, steps=400, seed=task)
            if former is not None:
                rule.inherit(optimizer, former)
            learn(net, optimizer, (train[0][:, order], train[1]), 400, 1e-3, seed=task)
            former = flatten_state(optimizer)
            learned.append(accuracy(net, (test[0][:, order], test[1])))
        kept = [accuracy(net, (test[0][:, order], test[1])) for order in orders]
        for name, values in (("when learned", learned), ("at the end", kept)):
            print(f"{spec}, {name}: " + " ".join(f"{value:.1f}" for value in values) + f", mean {np.mean(values):.1f}", flush=True)


def copy_weights(source: nn.Module, net: nn.Sequential) -> nn.Sequential:
    net.load_state_dict(source.state_dict())
    return net


def saliency(net: nn.Module) -> list[Tensor]:
    """Synaptic saliency `|w ∘ ∂R/∂w|` of the weights, `R` the sum of outputs for an input of ones through `|w|` (SynFlow, Tanaka et al.,
    arXiv 2006.05467): it looks at no data, and its sum over a layer is the same for all layers, which is checked."""
    twin = copy.deepcopy(net).double()
    for parameter in twin.parameters():
        parameter.data = parameter.data.abs() if is_weight(parameter) else torch.zeros_like(parameter)
    twin(torch.ones(1, 784, dtype=torch.float64)).sum().backward()
    found = [(p * p.grad).detach() for p in twin.parameters() if is_weight(p) and p.grad is not None]
    assert all(math.isclose(float(s.sum()), float(found[0].sum()), rel_tol=1e-9) for s in found)
    return found


def prune(net: nn.Module, keep: float) -> None:
    """Set all but the fraction `keep` of the weights with the largest saliency to 0, in one shot."""
    scores = saliency(net)
    every = torch.cat([score.flatten() for score in scores])
    least = every.kthvalue(len(every) - round(keep * len(every)) + 1).values
    for weight, score in zip([p for p in net.parameters() if is_weight(p)], scores, strict=True):
        weight.data[score < least] = 0
        assert weight.any(), "A layer collapsed."


def pruning(path: str) -> None:
    """Accuracy of signs alone, after pruning at initialization, and of dense networks of at most as many bytes; three seeds."""
    train, test = mnist(path)
    whole = 4 * sum(p.numel() for p in classifier(300, 100).parameters())

    def trained(net: nn.Module, spec: str, rate: float, seed: int) -> float:
        learn(net, OPTIMIZERS.build(spec).build(net, rate, steps=1000, seed=seed), train, 1000, rate, seed=seed)
        return accuracy(net, test)

    def shown(name: str, size: int, found: list[float]) -> None:
        spread = max(found) - min(found)
        print(f"{name}: {size} bytes, 1/{whole / size:.1f}, accuracy {np.mean(found):.2f}, range {spread:.2f}", flush=True)

    shown("dense", whole, [trained(classifier(300, 100, seed=seed), "adamw:weight_decay=0", 1e-3, seed) for seed in range(3)])
    for keep in (1.0, 0.5, 0.1):
        found, size = [], 0
        for seed in range(3):
            net = classifier(300, 100, seed=seed)
            if keep < 1:
                prune(net, keep)
            size = sum(math.ceil(int(p.count_nonzero()) / 8) if is_weight(p) else 4 * p.numel() for p in net.parameters())
            found.append(trained(net, "sign-mask", 0.01, seed))
        shown(f"signs, {keep:.0%} kept", size, found)
        hidden = max(1, (size // 4 - 10) // 795)
        small = [trained(classifier(hidden, seed=seed), "adamw:weight_decay=0", 1e-3, seed) for seed in range(3)]
        shown(f"dense, {hidden} hidden", 4 * (795 * hidden + 10), small)


if __name__ == "__main__":
    mpl.use("agg")
    {"escape": escape, "depth": depth, "permuted": permuted, "pruning": pruning}[sys.argv[1]](*sys.argv[2:])
