"""sdezoo beside diffusers' example of unconditional training, on images, in the same processor time: a table of docs/reproduction.md.

    python docs/experiments/diffusers_example.py IMAGES.npz OUT [--steps 6000] [-n 1000] [--long-n 1000] [--fast]

Trains `sdezoo train --data IMAGES.npz` with its default network, and then, for as many seconds of the processor, diffusers' example
`examples/unconditional_image_generation`: its `UNet2DModel` of as many weights, `DDPMScheduler` of 1000 linear steps, the loss of the
noise, batches of 16, AdamW with learning rate 1e-4 (betas 0.95 and 0.999, weight decay 1e-6), 500 steps of warmup and a cosine, and its
moving average. Its images are the pixels in [−1, 1]; samples are clipped and rounded to bytes, as the example does. Both are sampled and
judged by `sdezoo evaluate`. Samples of 1000 steps take hours, so `--long-n` says how many are drawn; they are compared with as many of the
others.

Needs diffusers. Steps that are done are not repeated. With OMP_NUM_THREADS=1 processor time is the time of one idle core.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel
from diffusers.optimization import get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel

SHOWN = ("FID", "KID", "precision", "recall", "C2ST", "class")
OURS = (("dpmpp-2m-sde", 20), ("dpmpp-2m", 20), ("dpmpp-2m", 10))
THEIRS = (50, 1000)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("data", type=Path)
    asked.add_argument("out", type=Path)
    asked.add_argument("--steps", type=int, default=6000, help="optimizer steps of sdezoo, which set the time of both")
    asked.add_argument("-n", type=int, default=1000, help="samples of each")
    asked.add_argument("--long-n", type=int, default=1000, help="samples of the sampler of 1000 steps")
    asked.add_argument("--fast", action="store_true", help="sdezoo in bfloat16 and compiled, for processors with instructions for it")
    options = asked.parse_args()
    fast = ["--precision=bf16", "--compile"] if options.fast else []
    options.out.mkdir(parents=True, exist_ok=True)
    run, seconds = options.out / "run", options.out / "seconds.json"
    if not seconds.exists():
        how = [f"--data={options.data}", f"--steps={options.steps}", "--batch-size=64", *fast]
        sdezoo("train", "--sde=gbm", "--loss=mult-dsm", *how, f"--out={run}", "--overwrite")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.write_text(json.dumps(used.ru_utime + used.ru_stime))
    budget = json.loads(seconds.read_text())
    print(f"sdezoo was trained for {budget:.0f} s of the processor.", flush=True)
    with np.load(options.data) as held:
        images = held["x_train"]
    unet = trained(images, budget, options.out / "unet")
    for name, steps in OURS:
        file = options.out / f"{name}-{steps}.npz"
        if not file.exists():
            how = [f"--steps={steps}", f"-n{options.n}", "--seed=0", f"--out={file}", *fast[:1]]
            sdezoo("sample", run, f"--sampler={name}", *how)
        for n in {options.n, options.long_n}:
            judge(run, file, n)
    for steps in THEIRS:
        n = options.long_n if steps == max(THEIRS) else options.n
        file = options.out / f"ddpm-{steps}.npz"
        if not file.exists():
            np.savez(file, x=drawn(unet, steps, n))
        judge(run, file, n)


def trained(images: np.ndarray, budget: float, folder: Path) -> UNet2DModel:
    """Train as the example does, until so many seconds of the processor are over."""
    if folder.exists():
        return UNet2DModel.from_pretrained(folder)
    torch.manual_seed(0)
    unet = network(images.shape[1])
    average = EMAModel(unet.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear")
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    begun, rates, step, total = time.process_time(), None, 0, 0
    while (spent := time.process_time() - begun) < budget:
        if step == 20:  # the number of steps that fit, which the learning rate needs to know
            total = int(step * budget / spent)
            rates = get_cosine_schedule_with_warmup(optimizer, 500, total)
        clean = torch.from_numpy(images[torch.randint(len(images), (16,)).numpy()]).float()[:, None] / 127.5 - 1
        noise, t = torch.randn_like(clean), torch.randint(0, 1000, (16,))
        loss = torch.nn.functional.mse_loss(unet(scheduler.add_noise(clean, noise, t), t).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        if rates is not None:
            optimizer.step()
            rates.step()
        optimizer.zero_grad()
        average.step(unet.parameters())
        step += 1
        if step % 200 == 0:
            print(f"diffusers: step {step} of about {total}, loss {loss.item():.4f}", flush=True)
    average.copy_to(unet.parameters())
    unet.save_pretrained(folder)
    return unet


def network(side: int) -> UNet2DModel:
    """Return the example's network with three resolutions and 0.893 M weights; the default of sdezoo has 0.892 M."""
    down, up = ("DownBlock2D", "DownBlock2D", "AttnDownBlock2D"), ("AttnUpBlock2D", "UpBlock2D", "UpBlock2D")
    settings = {"block_out_channels": (32, 56, 56), "layers_per_block": 1, "norm_num_groups": 8}
    return UNet2DModel(sample_size=side, in_channels=1, out_channels=1, down_block_types=down, up_block_types=up, **settings)


def drawn(unet: UNet2DModel, steps: int, n: int) -> np.ndarray:
    """Samples of the example's pipeline, as bytes."""
    pipeline = DDPMPipeline(unet=unet.eval(), scheduler=DDPMScheduler(num_train_timesteps=1000, beta_schedule="linear"))
    pipeline.set_progress_bar_config(disable=True)
    keys, found = torch.Generator().manual_seed(0), []
    for begin in range(0, n, 64):
        found.append(pipeline(min(64, n - begin), keys, steps, output_type="np").images[..., 0][:, None])
        print(f"diffusers: {begin + len(found[-1])} of {n} in {steps} steps", flush=True)
    return np.round(np.concatenate(found) * 255).astype(np.uint8)


def judge(run: Path, samples: Path, n: int) -> None:
    """Print what `sdezoo evaluate` says of the first `n` samples."""
    folder = samples.with_suffix("") / str(n)
    if not (folder / "evaluation.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        with np.load(samples) as held:
            np.savez(folder / "samples.npz", x=held["x"][:n])
        sdezoo("evaluate", run, f"--samples={folder / 'samples.npz'}", f"-n{n}", f"--out={folder}", "--quiet")
    figures = json.loads((folder / "evaluation.json").read_text())["measures"]
    cells = [f"{m['name']} {m['value']:.3f} (real {m['floor']})" for m in figures if m["name"].startswith(SHOWN)]
    print(f"{samples.stem}, {n} samples: {'; '.join(cells)}", flush=True)


def sdezoo(*arguments: object) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-P", "-m", "sdezoo_cli", *map(str, arguments)], check=True)


if __name__ == "__main__":
    main()
