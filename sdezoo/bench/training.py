"""Time of a training step relative to a bare step of the same U-Net.

A bare step consists of noise, denoising loss, backward pass, gradient clipping, AdamW and moving average. The progress callback makes one
after every step of `sdezoo train`, so drift of the machine affects both alike. Further rows run training in bfloat16 and compiled; the
bare step is always float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sdezoo.bench.table import Table
from sdezoo.bench.timing import Reporter, Spread, seconds
from sdezoo.data.dataset import Data
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.registry import NETWORKS

_FORMATS = {"precision": "", "compiled": "", "bare_over_ours": ".3f", "quartile_low": ".3f", "quartile_high": ".3f", "ms_bare": ".0f"}
_WARM = 3


def training_loop(
    spec: str,
    seed: int,
    report: Reporter,
    *,
    batch: int = 128,
    shape: tuple[int, ...] = (1, 28, 28),
    steps: int = 40,
    ways: tuple[tuple[str, bool], ...] = (("float32", False), ("bf16", True)),
) -> Table:
    """Measure the time of a bare float32 step over that of a training step, on random images.

    Above 1, training is faster than the bare step. The first three steps, in which the network is compiled, do not count.

    Args:
        spec: spec string of the process.
        seed: seed of data and training.
        report: reports progress.
        batch: batch size.
        shape: event shape of the images, `(C, H, W)`.
        steps: number of training steps.
        ways: pairs of precision and whether to compile the network, one for each row.
    """
    images = torch.rand(4 * batch, *shape, generator=torch.Generator().manual_seed(seed))
    rows = []
    for k, (precision, compiled) in enumerate(ways):
        settings = {"sde": spec, "steps": steps, "batch_size": batch, "seed": seed, "precision": precision, "compile": compiled}
        pairs = _beside(settings, images, lambda done, k=k, way=precision: report(k * steps + done, len(ways) * steps, detail=way))
        ratio = Spread.of([bare / ours for bare, ours in pairs])
        rows.append(
            {
                "precision": precision,
                "compiled": "yes" if compiled else "no",
                "bare_over_ours": ratio.median,
                "quartile_low": ratio.low,
                "quartile_high": ratio.high,
                "ms_bare": Spread.of([1000 * bare for bare, _ in pairs]).median,
            }
        )
    return Table(f"A bare step in float32 over a step of training: {spec}, U-Net, {batch} × {' × '.join(map(str, shape))}", _FORMATS, rows)


def _beside(settings: dict[str, Any], images: torch.Tensor, progress: Callable[[int], None]) -> list[tuple[float, float]]:
    """Seconds of each bare step and of the training step before it."""
    bare, pairs = _bare(images, settings["batch_size"]), []
    ended = time.perf_counter()

    def between(done: int, _steps: int, _loss: float) -> None:
        nonlocal ended
        ours = time.perf_counter() - ended
        pairs.append((seconds(bare), ours))
        progress(done)
        ended = time.perf_counter()

    with TemporaryDirectory() as folder:
        config = TrainingConfig.build({**settings, "net": "unet:multipliers=(1,2)", "device": "cpu", "out": str(Path(folder) / "run")})
        train(config, data=Data(images, images[:0], "image"), progress=between)
    return pairs[_WARM:]


def _bare(images: torch.Tensor, batch: int) -> Callable[[], None]:
    """Return a bare step of denoising score matching."""
    net: nn.Module = NETWORKS.build("unet:multipliers=(1,2)").module(tuple(images.shape[1:]))
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3, fused=True)
    average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.998))

    def step() -> None:
        z = (1 + images[torch.randint(len(images), (batch,))]).log()
        level = torch.randn(batch)
        sigma = level.exp().reshape(-1, *[1] * (images.ndim - 1))
        noised = z + sigma * torch.randn_like(z)
        loss = ((net(noised / (1 + sigma**2).sqrt(), level / 4) - z) ** 2).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(net)

    return step
