"""Imputation of `breast-cancer`: 20 % of the cells of held-out rows are removed at random, and filled by several methods.

    python docs/experiments/tables/imputation.py --out runs/imputation

trains `sdezoo train --data breast-cancer`, fills the cells by `sdezoo impute`, by scikit-learn's `IterativeImputer` and by ForestDiffusion
(see `tables.py` for its environment), and prints a table. Errors are those of the removed cells, in standard deviations of the column. Of
`k` draws and the truth, all exchangeable, the truth lies between the extremes of the draws with probability `(k − 1)/(k + 1)`. What
lies in OUT is not computed again, unless `--again` is given.

`IterativeImputer` is fitted on the training rows and the rows with holes together, as it is used; it then sees more than the others.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[2]))
from tables import PEERS, call, installed, read

from sdezoo import DATASETS

OURS = "sdezoo impute"
POINT, POSTERIOR = "IterativeImputer", "IterativeImputer(sample_posterior=True)"
FOREST, MEAN = "ForestDiffusion", "mean of the column"
REMOVED = 0.2


def main() -> None:
    """Remove cells, fill them, print."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--out", type=Path, default=Path("runs/imputation"))
    asked.add_argument("--methods", nargs="+", default=[OURS, POINT, POSTERIOR, MEAN, FOREST])
    asked.add_argument("--rows", type=int, default=100, help="held-out rows that are filled")
    asked.add_argument("--draws", type=int, default=20)
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--again", nargs="*", default=[], metavar="METHOD", help="methods to run again")
    asked.add_argument("--environment", type=Path, default=Path(".venv-tables"), help="environment of ForestDiffusion")
    options = asked.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = DATASETS.build("breast-cancer").load()
    names = list(data.columns)
    training, truth = (pd.DataFrame(rows.double().numpy(), columns=names) for rows in (data.train, data.test[: options.rows]))
    removed = np.random.default_rng(options.seed).random(truth.shape) < REMOVED
    training.to_csv(options.out / "training.csv", index=False)
    truth.mask(removed).to_csv(options.out / "holes.csv", index=False)
    found = options.out / "imputation.json"
    results = json.loads(found.read_text(encoding="utf-8")) if found.exists() else {}
    for method in options.methods:
        if method not in results or method in options.again:
            try:
                results[method] = measured(filled(method, training, options), truth, removed, training.std().to_numpy())
            except RuntimeError as error:
                results[method] = {"error": str(error)}
            found.write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(markdown({method: results[method] for method in options.methods}))


def filled(method: str, training: pd.DataFrame, options: argparse.Namespace) -> np.ndarray:
    """The draws of a method, `(k, rows, columns)`; k = 1 for one that does not draw.

    Raises:
        RuntimeError: if the method fails.
    """
    holes = read(options.out / "holes.csv")
    if method == MEAN:
        return holes.fillna(training.mean()).to_numpy()[None]
    if method in (POINT, POSTERIOR):
        draws = range(options.draws if method == POSTERIOR else 1)
        return np.stack([iterative(training, holes, options.seed + k, posterior=method == POSTERIOR) for k in draws])
    if method == FOREST:
        arguments = ["forest-imputation", "training.csv", "holes.csv", options.draws, options.seed, "forest.csv"]
        call([installed(options.environment), PEERS / "table_peers.py", *arguments], options.out, 7200)
        made = read(options.out / "forest.csv")
    else:
        ours = [sys.executable, "-m", "sdezoo_cli"]
        call([*ours, "train", "--data", "breast-cancer", "--out", "run", "--seed", options.seed, "--overwrite"], options.out, 7200)
        asked = ["--draws", options.draws, "--seed", options.seed, "--out", "ours.csv", "--overwrite"]
        call([*ours, "impute", "run", "holes.csv", *asked], options.out, 7200)
        made = read(options.out / "ours.csv")
    return made[list(holes)].to_numpy(float).reshape(options.draws, *holes.shape)


def iterative(training: pd.DataFrame, holes: pd.DataFrame, seed: int, *, posterior: bool) -> np.ndarray:
    """One table filled by `IterativeImputer`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        whole = IterativeImputer(sample_posterior=posterior, random_state=seed).fit_transform(pd.concat([training, holes]))
    return whole[len(training) :]


def measured(draws: np.ndarray, truth: pd.DataFrame, removed: np.ndarray, units: np.ndarray) -> dict[str, float | int | None]:
    """Errors of the mean of the draws, and how often the truth lies between their extremes, with the standard error over rows."""
    exact = truth.to_numpy()
    error = ((draws.mean(0) - exact) / units)[removed]
    inside = np.where(removed, (draws.min(0) <= exact) & (exact <= draws.max(0)), np.nan)
    share = float(np.nanmean(inside))
    apart = np.nansum(np.where(removed, inside - share, np.nan), axis=1)
    return {
        "rms": float(np.sqrt((error**2).mean())),
        "median": float(np.median(np.abs(error))),
        "draws": len(draws),
        "inside": share if len(draws) > 1 else None,
        "inside_error": float(np.sqrt((apart**2).sum()) / removed.sum()),
        "expected": (len(draws) - 1) / (len(draws) + 1),
    }


def markdown(results: dict[str, dict]) -> str:
    """The table."""
    lines = [["", "error of the mean", "median error", "truth between the extremes of the draws"], ["---"] * 4]
    for method, one in results.items():
        if "error" in one:
            lines.append([f"`{method}`", f"cannot run: {one['error'][:120]}", "", ""])
            continue
        cover = f"{one['inside']:.1%} ± {one['inside_error']:.1%}, {one['expected']:.1%} expected" if one["inside"] is not None else ""
        draws = f", {one['draws']} draws" if one["draws"] > 1 else ""
        lines.append([(method if method == MEAN else f"`{method}`") + draws, f"{one['rms']:.3f}", f"{one['median']:.3f}", cover])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
