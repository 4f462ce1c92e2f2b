"""Samples of real tables, beside what else a user may sample tables with: train half against held-out half.

    python docs/tables.py --out runs/tables.json
    python docs/tables.py --out runs/tables.json --markdown
    python docs/tables.py --out runs/bounds.json --methods columns ranks both
    python docs/tables.py --out runs/bounds.json --methods training repeats

The first trains `sdezoo train --data TRAIN.csv` with no other option, and each method of `table_peers.py`, on half of each table, and
compares as many samples as there are held-out rows with those rows, by the measures of `sdezoo.evaluation`, the same for all. Tables are
cut to 2000 rows a half. The second prints what was found. Results are written as they come, and what is in the file is not computed
again: an interrupted study continues, and `--again` replaces what is asked for.

The third is for the membership test, with as little learned as may be: `columns` draws each column by itself from the training rows,
`ranks` is a Gaussian copula of their ranks, and `both` is that copula of both halves together, of which only luck is found. The fourth is
for single columns, whose figures no model can meet in all: `training` takes the training rows as samples, as good as rows can be, and
`repeats` as many rows drawn from them with replacement, as of a model that knows the training half and nothing else.

The other libraries are installed into an environment of their own, `--environment`, by `docs/experiments/tables/table-peers.txt`. That is
all that is downloaded: the tables come with packages. Every method runs in a process of its own, with one thread.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.covariance import ledoit_wolf

from sdezoo.evaluation.measures.columns import kolmogorov_smirnov
from sdezoo.evaluation.measures.two_sample import c2st
from sdezoo.evaluation.mixed import Mixed, total_variation
from sdezoo.evaluation.privacy import Records, privacy
from sdezoo.evaluation.resampling import bootstrap
from sdezoo.evaluation.suite import SIGNIFICANT

PEERS = Path(__file__).parent / "experiments" / "tables"
OURS, BOTH = "sdezoo", "both"
COPULAS = {"columns": False, "ranks": True, BOTH: True}
"""Copulas of ranks, and whether they know correlations."""
REAL = {"training": False, "repeats": True}
"""Training rows as samples, and whether they are drawn with replacement."""
ROWS = 2000
"""Most rows of a half."""
FINEST = 10_000
"""A column is on a lattice of decimals if its range holds no more steps."""
SPREAD = 0.1
"""A standard deviation that differs less is right."""
FIGURES = {
    "distance to training rows, over held-out": "distance",
    "5th percentile of it, over held-out": "distance_5",
    "membership inference, AUC": "membership",
}


def main() -> None:
    """Compute what is asked for and missing, or print it."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--tables", nargs="+", metavar="NAME", help="tables, of those of table_peers.py; default: all")
    asked.add_argument("--methods", nargs="+", metavar="NAME", help=f"{OURS}, of {[*COPULAS, *REAL]}, or of table_peers.py; default: all")
    asked.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    asked.add_argument("--out", type=Path, required=True, help="file of the results, JSON")
    asked.add_argument("--again", action="store_true", help="replace results that the file has")
    asked.add_argument("--markdown", action="store_true", help="print the results of the file")
    asked.add_argument("--environment", type=Path, default=Path(".venv-tables"), help="environment of the other libraries")
    asked.add_argument("--limit", type=float, default=3600, help="longest time of a method on a table, in seconds")
    options = asked.parse_args()
    results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    if options.markdown:
        print(markdown(results, options.tables, options.methods))
        return
    options.out.parent.mkdir(parents=True, exist_ok=True)
    python = installed(options.environment)
    tables, methods = (
        json.loads(call([python, "-c", f"import json, table_peers; print(json.dumps([*table_peers.{names}]))"], PEERS, 600))
        for names in ("TABLES", "METHODS")
    )
    for table, method, seed in cases(options.tables or tables, options.methods or [*methods, OURS], options.seeds):
        if f"{table}/{method}/{seed}" in results and not options.again:
            continue
        found = result(python, table, method, seed, options.limit)
        print(
            table, method, seed, found.get("error") or json.dumps({key: found[key] for key in ("c2st", "distance", "seconds")}), flush=True
        )
        results = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}  # others may have written it
        results[f"{table}/{method}/{seed}"] = found
        partial = options.out.with_suffix(".partial")
        partial.write_text(json.dumps(results, indent=1), encoding="utf-8")
        partial.replace(options.out)


def cases(tables: list[str], methods: list[str], seeds: list[int]) -> Iterator[tuple[str, str, int]]:
    """All that is asked for: the first seed of everything first."""
    for seed in seeds:
        for method in methods:
            for table in tables:
                yield table, method, seed


def installed(environment: Path) -> Path:
    """The Python of the environment of the other libraries, which is made if there is none."""
    python, wanted, mark = environment / "bin" / "python", PEERS / "table-peers.txt", environment / "installed.txt"
    if not mark.exists() or mark.read_text(encoding="utf-8") != wanted.read_text(encoding="utf-8"):
        print(f"Installing the other libraries into {environment}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", wanted], check=True)
        shutil.copy(wanted, mark)
    return python.absolute()


def call(command: list[object], folder: Path, limit: float) -> str:
    """Run a program with one thread; return what it prints.

    Raises:
        RuntimeError: with the last line of its errors, if it fails.
    """
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    try:
        done = subprocess.run(
            [*map(str, command)], cwd=folder, env={**os.environ, **threads}, capture_output=True, text=True, check=False, timeout=limit
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"no result within {limit:g} s") from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise RuntimeError(json.loads(said) if said.startswith('"') else " ".join(done.stderr.split())[-300:])
    return done.stdout


def result(python: Path, table: str, method: str, seed: int, limit: float) -> dict[str, Any]:
    """Split a table, sample it by a method, and measure; or the error of the method."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peers = [python, PEERS / "table_peers.py"]
        call([*peers, "table", table, "table.csv"], folder, limit)
        whole = read(folder / "table.csv")
        order = np.random.default_rng(seed).permutation(len(whole))
        half = min(len(whole) // 2, ROWS)
        training, held_out = (whole.iloc[rows].reset_index(drop=True) for rows in (order[:half], order[-half:]))
        training.to_csv(folder / "train.csv", index=False)
        began = time.perf_counter()
        try:
            if method == OURS:
                ours = [sys.executable, "-m", "sdezoo_cli"]
                call([*ours, "train", "--data", "train.csv", "--out", "run", "--seed", seed], folder, limit)
                call([*ours, "sample", "run", "-n", half, "--seed", seed, "--out", "samples.csv"], folder, limit)
            elif method in COPULAS:
                known = pd.concat([training, held_out], ignore_index=True) if method == BOTH else training
                copula(known, half, seed, correlated=COPULAS[method]).to_csv(folder / "samples.csv", index=False)
            elif method in REAL:
                training.sample(half, replace=REAL[method], random_state=seed).to_csv(folder / "samples.csv", index=False)
            else:
                call([*peers, method, "train.csv", half, seed, "samples.csv"], folder, limit)
        except RuntimeError as error:
            return {"error": str(error)}
        seconds = time.perf_counter() - began
        samples = read(folder / "samples.csv")
    if list(samples) != list(whole) or len(samples) != half:
        return {"error": f"{len(samples)} rows of {len(samples.columns)} columns in place of {half} of {len(whole.columns)}"}
    return {"rows": half, "seconds": round(seconds, 1), **measured(whole, training, held_out, samples, seed)}


def copula(rows: pd.DataFrame, count: int, seed: int, *, correlated: bool) -> pd.DataFrame:
    """Sample a Gaussian copula of ranks: columns take the values of the rows, each as often as there, equal ones ranked at random.

    Args:
        rows: the rows.
        count: number of samples.
        seed: random seed.
        correlated: whether the copula has the correlation of the normal scores, shrunk by Ledoit and Wolf's rule; else columns are
            independent.
    """
    draws = np.random.default_rng(seed)
    codes = np.stack([pd.factorize(rows[name], sort=True, use_na_sentinel=False)[0] for name in rows], axis=1)
    ranks = np.stack([np.lexsort((draws.random(len(rows)), column)).argsort() for column in codes.T], axis=1)
    matrix = ledoit_wolf(norm.ppf((ranks + 0.5) / len(rows)))[0] if correlated else np.eye(codes.shape[1])
    scores = draws.multivariate_normal(np.zeros(len(matrix)), matrix, count) / np.sqrt(np.diag(matrix))
    places = np.minimum(norm.cdf(scores) * len(rows), len(rows) - 1).astype(int)
    order = np.argsort(codes, axis=0, kind="stable")
    return pd.DataFrame({name: rows[name].to_numpy()[order[places[:, i], i]] for i, name in enumerate(rows)})


def read(path: Path) -> pd.DataFrame:
    """Read a table; only an empty cell is missing."""
    return pd.read_csv(path, keep_default_na=False, na_values=[""])


def measured(whole: pd.DataFrame, training: pd.DataFrame, held_out: pd.DataFrame, samples: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Compare samples with held-out rows."""
    kinds = [i for i, name in enumerate(whole) if not pd.api.types.is_numeric_dtype(whole[name])]
    numbers = [i for i in range(whole.shape[1]) if i not in kinds]
    known = {i: list(dict.fromkeys([*whole.iloc[:, i].dropna(), *samples.iloc[:, i].dropna().astype(str)])) for i in kinds}
    every, old, new, made = (coded(rows, known) for rows in (whole, training, held_out, samples))
    mixed = Mixed.fit(old, [new, made], kinds)
    right = c2st(mixed.vectors(new), mixed.vectors(made), seed=seed)
    lines = privacy(Records(*map(mixed.vectors, (old, new, made))), seed=seed).measured
    private = {FIGURES[line.name]: [line.value, *(line.interval or ())] for line in lines if line.name in FIGURES}
    wrong = {name: impossible(every[:, i], made[:, i], category=i in kinds) for i, name in enumerate(whole)}
    ends = bootstrap(spread_ratio, (new[:, numbers], made[:, numbers]), seed=seed)
    names = [whole.columns[i] for i in numbers]
    return {
        "columns": whole.shape[1],
        "c2st": [float(right.mean()), float(right.std() / np.sqrt(len(right)))],
        **{key: private.get(key) for key in FIGURES.values()},
        "impossible": float(np.any([*wrong.values()], axis=0).mean()),
        "off_lattice": float(np.any([off_lattice(every[:, i], made[:, i]) for i in numbers], axis=0).mean()),
        "impossible_columns": {name: float(bad.mean()) for name, bad in wrong.items() if bad.any()},
        "spread": {
            name: [float(value), *map(float, ends[k])]
            for k, (name, value) in enumerate(zip(names, spread_ratio(new[:, numbers], made[:, numbers]), strict=True))
        },
        "ks": dict(zip(names, map(float, kolmogorov_smirnov(new[:, numbers], made[:, numbers]).p), strict=True)),
        "variation": dict(
            zip(mixed.class_names(list(whole)), map(float, total_variation(mixed.classes(new), mixed.classes(made))), strict=True)
        ),
    }


def coded(rows: pd.DataFrame, known: dict[int, list[Any]]) -> np.ndarray:
    """Rows as numbers, categories by their place in `known`, NaN where a value is missing."""
    columns = [
        pd.Categorical(rows.iloc[:, i].astype(object), known[i]).codes if i in known else pd.to_numeric(rows.iloc[:, i])
        for i in range(rows.shape[1])
    ]
    found = np.stack([np.asarray(column, np.float64) for column in columns], axis=1)
    found[:, [*known]] = np.where(found[:, [*known]] < 0, np.nan, found[:, [*known]])
    return found


def spread_ratio(held_out: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Standard deviation of each column over that of the held-out rows; 1 where both are 0."""
    above, below = np.nanstd(samples, axis=0), np.nanstd(held_out, axis=0)
    return np.where(above == below, 1.0, above / np.maximum(below, 1e-300))


def impossible(whole: np.ndarray, samples: np.ndarray, *, category: bool) -> np.ndarray:
    """Which samples of a column have a value that the column cannot have.

    That is: a category that the table does not have; a missing value where the table has none; a negative number in a column without one;
    and 0 in a positive one.
    """
    values, missing = whole[~np.isnan(whole)], np.isnan(samples)
    found = missing & (len(values) == len(whole))
    if category:
        return found | (~missing & ~np.isin(samples, values))
    return found | (samples < 0 if values.min() == 0 else samples <= 0 if values.min() > 0 else False)


def off_lattice(whole: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Which samples of a column of numbers have more decimals than all values of the table, if these are on a lattice."""
    values = whole[~np.isnan(whole)]
    for scale in 10.0 ** np.arange(5):
        if (np.abs(values * scale - np.round(values * scale)) < 1e-6).all() and np.ptp(values) * scale <= FINEST:
            return np.abs(samples * scale - np.round(samples * scale)) > 1e-3
    return np.zeros(len(samples), bool)


def markdown(results: dict[str, Any], tables: list[str] | None, methods: list[str] | None) -> str:
    """The results in Markdown: a table for each figure, a row for each table of data, a column for each method."""
    keys = [key.split("/") for key in results]
    tables = tables or list(dict.fromkeys(key[0] for key in keys))
    methods = methods or sorted({key[1] for key in keys}, key=lambda name: (name != OURS, name))
    every = {(t, m): [run for key, run in results.items() if key.startswith(f"{t}/{m}/")] for t in tables for m in methods}
    done = {pair: [run for run in runs if "error" not in run] for pair, runs in every.items()}
    text = []
    for title, show in FIGURES_SHOWN.items():
        lines = [["", *methods], ["---"] * (len(methods) + 1)]
        lines += [[name, *(show(done[name, method]) if done[name, method] else "–" for method in methods)] for name in tables]
        text += [f"**{title}**", "", *("| " + " | ".join(line) + " |" for line in lines), ""]
    for (name, method), runs in every.items():
        for error in dict.fromkeys(run["error"] for run in runs if "error" in run):
            count = sum(run.get("error") == error for run in runs)
            text.append(f"- {method} cannot run on {name} ({count} of {len(runs)} seeds): {error[:100]}")
    return "\n".join(text)


def accuracy(runs: list[dict[str, Any]]) -> str:
    """Mean over seeds. The standard error is the larger of that of the rows and that of the seeds."""
    score = np.array([run["c2st"] for run in runs])
    error = np.sqrt((score[:, 1] ** 2).sum()) / len(runs)
    error = max(error, score[:, 0].std(ddof=1) / np.sqrt(len(runs))) if len(runs) > 1 else error
    return f"{score[:, 0].mean():.3f} ± {error:.3f}"


def distances(runs: list[dict[str, Any]]) -> str:
    """Means over seeds, of the median and of the 5 % quantile; none where that of held-out rows is 0."""
    means = [[run[key][0] for run in runs if run[key]] for key in ("distance", "distance_5")]
    return ", ".join(f"{np.mean(values):.2f}" if values else "–" for values in means)


def membership(runs: list[dict[str, Any]]) -> str:
    """Mean over seeds, and the number of seeds whose interval does not hold 0.5."""
    apart = sum(not low <= 0.5 <= high for _, low, high in (run["membership"] for run in runs))
    return f"{np.mean([run['membership'][0] for run in runs]):.3f}" + (f" ({apart}/{len(runs)})" if apart else "")


def shares(runs: list[dict[str, Any]]) -> str:
    """Means over seeds, in percent."""
    return ", ".join(f"{100 * np.mean([run[key] for run in runs]):.1f}" for key in ("impossible", "off_lattice"))


def right_columns(runs: list[dict[str, Any]]) -> str:
    """Counts over columns and seeds."""
    spread = [abs(value - 1) <= SPREAD or low <= 1 <= high for run in runs for value, low, high in run["spread"].values()]
    same = [p > SIGNIFICANT for run in runs for p in run["ks"].values()]
    return f"{sum(spread)}, {sum(same)} of {len(same)}"


FIGURES_SHOWN = {
    "Accuracy of a random forest that tells samples from held-out rows (0.5 is best)": accuracy,
    "Distance to the closest training row over that of held-out rows: median, 5 % quantile (1 is best, below 1: copies)": distances,
    "Membership AUC (0.5 is best), and on how many seeds its interval is apart from 0.5": membership,
    "Rows with a value that the column cannot have, rows off the lattice of the data, in %": shares,
    "Columns of numbers whose standard deviation is right, whose KS test has p > 0.01": right_columns,
    "Seconds for training and sampling": lambda runs: f"{np.mean([run['seconds'] for run in runs]):.0f}",
}


if __name__ == "__main__":
    main()
