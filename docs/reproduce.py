"""The published recipe for multiplicative diffusion beside ours, VP and VE: one network, one budget, one set of images.

    python docs/reproduce.py DATA --steps 3000 --out runs/study

trains the `--models`, four by default, on DATA (`digits`, or a file with images and labels), each from the same seed with the same U-Net,
batches and steps, draws `-n` samples of each with each of its samplers, and has `sdezoo evaluate` measure them against held-out images.
What is there already is not made again: an interrupted study goes on. The table is printed and written to OUT/study.md.

`--protocol paper` measures the published recipe as its authors did, and ours beside it: FID and KID of Inception features (images of one
channel are repeated to three) against the test images, and two starts. `prior` starts from noise. `class averages` starts from the noised
averages of the training images of each class, as the authors' code does: part of the data is in every start, so this is not generation
from noise.

The published recipe, `paper` (Shetty, Prasath & Seelamantula, arXiv 2510.02730): constant volatility 0.8, the network returns the Hyvärinen
score, times are uniform, losses are weighted by `(σ² t)²`, one log-normal prior for all pixels, 1000 levels.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from sdezoo.zoo.datasets import find_dataset

PAPER = [
    "--sde=gbm:sigma=0.8",
    "--loss=mult-dsm:weighting=paper",
    "--output=hyvarinen",
    "--noise-levels=uniform",
    "--prior=white",
    "--shift=1",
]
RECIPES = {
    "paper": PAPER,
    "ours": ["--sde=gbm", "--loss=mult-dsm"],
    "vp": ["--sde=vp", "--loss=dsm"],
    "ve": ["--sde=ve", "--loss=dsm"],
    "fractional": ["--sde=fractional:hurst=0.9,count=3", "--loss=hsm"],
}
SAMPLERS = {
    "paper": [("dale-langevin:preset=paper,recipe={recipe}", 1000), ("multiplicative:preset=paper,recipe={recipe}", 1000)],
    "ours": [("dpmpp-2m", 20), ("dpmpp-2m-sde", 20), ("dale-langevin", 1000)],
    "vp": [("dpmpp-2m", 20), ("dpmpp-2m-sde", 20), ("heun", 100), ("euler-maruyama", 400), ("ancestral", 1000)],
    "ve": [("dpmpp-2m", 20), ("dpmpp-2m-sde", 20), ("ancestral", 1000)],
    "fractional": [("heun", 100), ("euler-maruyama", 400)],
}
LONG = 1000
STARTS = {"ours": ["prior"], "paper": ["prior", "class averages"]}
SHOWN = ("FID", "KID", "class shares", "C2ST", "precision", "recall", "distance to training rows")


def main() -> None:
    """Train, draw, measure, print."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("data")
    asked.add_argument("--steps", type=int, default=3000, help="optimizer steps of each model")
    asked.add_argument("--net", default="unet:multipliers=(1,2)", help="network of each model")
    asked.add_argument("--batch-size", type=int, default=128, help="images a step")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("-n", type=int, default=500, help="samples of each")
    asked.add_argument("--recipe", default="mnist", choices=["mnist", "fashion", "kmnist", "cifar10"], help="row of the paper's table")
    asked.add_argument("--protocol", default="ours", choices=list(STARTS), help="starts and features, see above")
    asked.add_argument("--features", help="features of FID and KID; default: inception with --protocol paper")
    asked.add_argument("--models", nargs="+", default=["paper", "ours", "vp", "ve"], choices=list(RECIPES))
    asked.add_argument("--long", action="store_true", help="also the samplers of 1000 steps of the other models")
    asked.add_argument("--fast", action="store_true", help="train and draw, all four alike, in bfloat16 and compiled")
    asked.add_argument("--out", type=Path, default=Path("runs/study"))
    options = asked.parse_args()
    for name, recipe in chosen(RECIPES, options):
        run = options.out / name
        if not list(run.glob(f"checkpoints/step-{options.steps}")):
            resumed = ["--resume"] if list(run.glob("checkpoints/step-*")) else ["--overwrite"]
            budget = [f"--data={options.data}", f"--steps={options.steps}", f"--seed={options.seed}", f"--out={run}"]
            budget += [f"--net={options.net}", f"--batch-size={options.batch_size}"]
            sdezoo("train", *recipe, *budget, *fast(options), *resumed)
    lines = []
    tasks = [(name, spec, steps) for name, choice in chosen(SAMPLERS, options) for spec, steps in choice]
    for name, spec, steps in sorted(tasks, key=lambda task: task[2]):
        if steps < LONG or name == "paper" or options.long:
            for start in STARTS[options.protocol]:
                lines.append(measure(options, options.out / name, spec.format(recipe=options.recipe), steps, start))
                show(options.out, lines)


def chosen(of: dict[str, list], options: argparse.Namespace) -> list[tuple[str, list]]:
    """What is known of the models that were asked for."""
    return [(name, of[name]) for name in options.models]


def fast(options: argparse.Namespace) -> list[str]:
    """How networks are run."""
    return ["--precision=bf16", "--compile"] if options.fast else []


def class_averages(options: argparse.Namespace) -> Path:
    """A file with the average training image of each class, in turn, a row for each sample."""
    file = options.out / "class-averages.npz"
    if not file.exists():
        data = find_dataset(options.data).load()
        if data.train_labels is None:
            sys.exit(f"'{options.data}' has no labels, so there are no class averages. Give data with labels, or --protocol ours.")
        averages = torch.stack([data.train[data.train_labels == label].mean(0) for label in data.train_labels.unique()])
        np.savez(file, x=averages[torch.arange(options.n) % len(averages)].numpy())
    return file


def measure(options: argparse.Namespace, run: Path, spec: str, steps: int, start: str) -> dict:
    """The figures of one sampler on one model from one start; a sampler that fails is a figure too."""
    folder = run / "study" / "-".join([spec.partition(":")[0], *start.split()[:-1]])
    features = options.features or ("inception" if options.protocol == "paper" else None)
    folder /= features or ""
    row = {"run": run.name, "sampler": spec, "steps": steps, "start": start}
    figures = folder / "evaluation.json"
    if not figures.exists():
        samples = folder / "samples.npz"
        asked = [f"--sampler={spec}", f"--steps={steps}", f"-n{options.n}", f"--seed={options.seed}", f"--out={samples}"]
        asked += [f"--from={class_averages(options)}"] if start != "prior" else []
        folder.mkdir(parents=True, exist_ok=True)
        if not samples.exists() and (said := sdezoo("sample", run, *asked, *fast(options), refusable=True)):
            return {**row, "refused": said}
        asked = [f"--samples={samples}", "-n", options.n, f"--out={folder}", "--quiet", *([f"--features={features}"] if features else [])]
        sdezoo("evaluate", run, *asked)
    return {**row, "figures": json.loads(figures.read_text())}


def show(out: Path, lines: list[dict]) -> None:
    """The table so far."""
    first = next((line["figures"] for line in lines if "figures" in line), None)
    if first is None:
        return
    names = [m["name"] for m in first["measures"] if m["name"].startswith(SHOWN)]
    rows = [["model", "sampler", "steps", "start", *names]]
    for line in lines:
        by_name = {m["name"]: m for m in line.get("figures", {"measures": []})["measures"]}
        cells = [f"{by_name[name]['value']:.3f}" if name in by_name else "–" for name in names]
        head = [line["run"], f"`{line['sampler']}`", str(line["steps"]), line["start"]]
        rows.append([*head, *(cells if "figures" in line else [line["refused"], *[""] * (len(names) - 1)])])
    floors = {m["name"]: m for m in first["measures"]}
    rows.append(
        ["real images", "", "", "", *(f"{floors[name]['floor']:.3f}" if floors[name]["floor"] is not None else "–" for name in names)]
    )
    text = "\n".join("| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]])
    (out / "study.md").write_text(text + "\n", encoding="utf-8")
    print(text, flush=True)


def sdezoo(*arguments: object, refusable: bool = False) -> str:
    """Run a command; the first line of what it refused, where it may."""
    command = [sys.executable, "-m", "sdezoo_cli", *map(str, arguments)]
    done = subprocess.run(command, stderr=subprocess.PIPE if refusable else None, text=True, check=False)
    if done.returncode and not refusable:
        sys.exit(done.returncode)
    return (done.stderr or "").strip().partition("\n")[0] if done.returncode else ""


if __name__ == "__main__":
    main()
