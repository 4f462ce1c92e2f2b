"""Which process suits which data: every process that takes a data set as it is, trained and judged alike.

    python docs/experiments/which_process.py --out runs/which

trains each process of `STUDIES` by `sdezoo train` with the same network, steps and seed, has `sdezoo evaluate` draw samples and compare
them with held-out rows, and prints a table for each data set, which it also writes to OUT/which.md. What is there already is not made
again: an interrupted study goes on.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdezoo import DATASETS


class Recipe(NamedTuple):
    """A process, with the sampler that it is judged by, its steps, and what else `sdezoo train` is told."""

    spec: str
    sampler: str = "dpmpp-2m"
    steps: int = 20
    settings: tuple[str, ...] = ()


class Study(NamedTuple):
    """A data set, what `sdezoo train` is told of all, what is compared, the figures shown, and where the data have to lie."""

    data: str
    settings: tuple[str, ...]
    recipes: tuple[Recipe, ...]
    shown: tuple[str, ...]
    inside: Callable[[np.ndarray], np.ndarray]


TABLE = ("C2ST", "sliced W1", "columns with", "coverage")
OTHERS = ("euler-maruyama", 100)
STUDIES = {
    "wine": Study(
        "wine",
        ("--steps=800",),
        (
            Recipe("gbm"),
            Recipe("exp-ou"),
            Recipe("cir:start=0.05", *OTHERS),
            Recipe("lift:transform=softplus"),
            Recipe("zero-inflated"),
            Recipe("vp"),
            Recipe("student-t", "flow", 100),
        ),
        TABLE,
        lambda x: (x > 0).all(1),
    ),
    "breast-cancer": Study(
        "breast-cancer",
        ("--steps=800",),
        (
            Recipe("gbm", settings=("--shift=auto",)),
            Recipe("exp-ou", settings=("--shift=auto",)),
            Recipe("cir:start=0.05", *OTHERS),
            Recipe("zero-inflated"),
            Recipe("vp"),
            Recipe("student-t", "flow", 100),
        ),
        TABLE,
        lambda x: (x >= 0).all(1),
    ),
    "digits": Study(
        "digits",
        ("--steps=600", "--lr=4e-3", "--ema-half-life-images=20000"),
        (
            Recipe("reflected", *OTHERS),
            Recipe("jacobi:start=0.05", *OTHERS),
            Recipe("lift:transform=sigmoid,low=-0.05,high=1.05"),
            Recipe("vp"),
        ),
        ("C2ST", "sliced W1", "FID", "coverage"),
        lambda x: ((x >= 0) & (x <= 1)).all((1, 2, 3)),
    ),
    "shares": Study(
        "table:path={out}/shares.csv,holdout=0.5",
        ("--steps=800",),
        (
            Recipe("wright-fisher:start=0.05", "sscs", 100),
            Recipe("lift:transform=stick-breaking"),
            Recipe("gbm"),
            Recipe("vp"),
        ),
        TABLE,
        lambda x: (x >= 0).all(1) & (abs(x.sum(1) - 1) < 1e-5),
    ),
}


def main() -> None:
    """Train, judge, print."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("studies", nargs="*", default=list(STUDIES), help=f"of {', '.join(STUDIES)}")
    asked.add_argument("--out", type=Path, default=Path("runs/which"))
    asked.add_argument("--seed", type=int, default=0)
    options = asked.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    write_shares(options.out / "shares.csv")
    text = ""
    for name in options.studies:
        study = STUDIES[name]
        text += f"**{name}**\n\n{table(study, [judged(study, options.out / name, recipe, options) for recipe in study.recipes])}\n\n"
        (options.out / "which.md").write_text(text, encoding="utf-8")
    print(text)


def write_shares(path: Path) -> None:
    """The rows of `wine`, each divided by its sum: 13 positive shares."""
    wine = DATASETS.build("wine").load()
    rows = np.concatenate([wine.train, wine.test]).astype(np.float64)
    np.savetxt(path, rows / rows.sum(1, keepdims=True), "%.9g", ",", header=",".join(wine.columns), comments="")


def judged(study: Study, folder: Path, recipe: Recipe, options: argparse.Namespace) -> dict:
    """What `sdezoo evaluate` finds of one process on one data set, and the share of samples outside."""
    run, data = folder / recipe.spec.partition(":")[0], study.data.format(out=options.out)
    figures, samples = run / "judged" / "evaluation.json", run / "judged" / "samples.npz"
    if not figures.exists():
        command("train", f"--sde={recipe.spec}", f"--data={data}", *study.settings, *recipe.settings, *seeded(options, run), "--overwrite")
        asked = [f"--sampler={recipe.sampler}", f"--steps={recipe.steps}", "-n", len(DATASETS.build(data).load().test)]
        command("sample", run, *asked, *seeded(options, samples), "--overwrite")
        command("evaluate", run, f"--samples={samples}", f"--out={figures.parent}", "--quiet")
    inside = study.inside(np.load(samples)["x"])
    return {"recipe": recipe, "outside": 1 - inside.mean(), **json.loads(figures.read_text())}


def seeded(options: argparse.Namespace, out: Path) -> list[str]:
    """Where something goes, and its seed."""
    return [f"--seed={options.seed}", f"--out={out}"]


def table(study: Study, rows: list[dict]) -> str:
    """In Markdown; the last row compares real rows with real ones."""
    names = [m["name"] for m in rows[0]["measures"] if m["name"].startswith(study.shown)]
    lines = [["process", "sampler, steps", *names, "samples outside"]]
    for row in rows:
        by_name, recipe = {m["name"]: m for m in row["measures"]}, row["recipe"]
        words = " ".join([f"`{recipe.spec}`", *(f"`{setting}`" for setting in recipe.settings)])
        lines.append([words, f"`{recipe.sampler}`, {recipe.steps}", *(figure(by_name[n]) for n in names), f"{100 * row['outside']:.1f} %"])
    floors = {m["name"]: m["floor"] for m in rows[0]["measures"]}
    lines.append(["real rows", "", *(f"{floors[name]:.3f}" for name in names), ""])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def figure(measure: dict) -> str:
    """A figure with its interval."""
    interval = measure["interval"]
    return f"{measure['value']:.3f}" + (f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else "")


def command(*arguments: object) -> None:
    """Run a command of sdezoo."""
    done = subprocess.run([sys.executable, "-m", "sdezoo_cli", *map(str, arguments)], check=False)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
