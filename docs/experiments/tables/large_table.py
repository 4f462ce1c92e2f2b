"""Write a large table of 20 columns that depend on each other: seven positive, six real, four counts, three categories.

    python docs/experiments/tables/large_table.py 1000000 large.csv

The ending says whether it is text or .parquet. Shorter tables are beginnings of longer ones.
"""

import argparse
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

BLOCK = 50_000


def main() -> None:
    """Write the table, a block at a time."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("rows", type=int)
    asked.add_argument("out", type=Path)
    options = asked.parse_args()
    form = rows(0, 1).schema
    text = options.out.suffix == ".csv"
    with csv.CSVWriter(options.out, form) if text else parquet.ParquetWriter(options.out, form) as file:
        for block in range(-(-options.rows // BLOCK)):
            table = rows(block, BLOCK)[: options.rows - block * BLOCK]
            file.write(table) if text else file.write_table(table)


def rows(block: int, count: int) -> pa.Table:
    """Rows of a block: functions of five normal factors, noise and a class of four."""
    rng = np.random.default_rng([1, block])
    factors, group = rng.normal(size=(count, 5)), rng.integers(0, 4, count)
    loads = np.random.default_rng(7).normal(size=(20, 5))
    h = factors @ loads.T + 0.6 * rng.normal(size=(count, 20)) + 1.0 * (group[:, None] == np.arange(20) % 4)
    h[:, ::3] += 0.8 * np.sin(2 * factors[:, :1])
    columns = {f"price_{k}": np.round(np.exp(0.5 * h[:, k] + k), 4) for k in range(7)}
    columns |= {f"level_{k}": np.round((h[:, k] + 0.2 * h[:, k] ** 2) * 10 ** ((k - 9) / 2), 5) for k in range(7, 13)}
    columns |= {f"count_{k}": rng.poisson(np.exp(np.clip(0.4 * h[:, k] + 1, -4, 5))) for k in range(13, 17)}
    columns["region"] = np.array(["north", "south", "east", "west"])[group]
    columns["grade"] = np.array([*"ABCDEF"])[np.clip(np.floor(h[:, 18] + 3), 0, 5).astype(int)]
    columns["member"] = np.array(["no", "yes"])[(h[:, 19] > 0.7).astype(int)]
    return pa.table(columns)


if __name__ == "__main__":
    main()
