"""CIFAR-10's binary files as one file that `sdezoo` reads.

    python docs/experiments/cifar10.py cifar-10-batches-bin cifar10.npz
    python docs/reproduce.py cifar10.npz --recipe cifar10 --steps 100000 -n 5000 --fast --out runs/study-cifar10

The *binary version* of the data set (Krizhevsky, 2009) is a folder of `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin`:
for each image one byte of label, then 3072 bytes of pixels, red before green before blue. The *python version* is pickled, and not
read.
"""

import sys
from pathlib import Path

import numpy as np

_BYTES = 1 + 3 * 32 * 32


def read(files: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 3, 32, 32) and labels (N,), uint8."""
    rows = []
    for file in files:
        raw = np.fromfile(file, np.uint8)
        if not len(raw) or len(raw) % _BYTES:
            sys.exit(f"Error: '{file}' is not a whole number of records of {_BYTES} bytes.\n       Download the binary version again.")
        rows.append(raw.reshape(-1, _BYTES))
    together = np.concatenate(rows)
    return together[:, 1:].reshape(-1, 3, 32, 32), together[:, 0]


def main() -> None:
    """Read the folder, write the file."""
    if len(sys.argv) != 3:
        sys.exit("Usage: python docs/experiments/cifar10.py FOLDER FILE.npz")
    folder, out = map(Path, sys.argv[1:])
    train, test = sorted(folder.glob("data_batch_*.bin")), folder / "test_batch.bin"
    if not train or not test.is_file():
        sys.exit(
            f"Error: '{folder}' does not hold data_batch_1.bin … and test_batch.bin.\n       Unpack the binary version of CIFAR-10 there."
        )
    (x_train, y_train), (x_test, y_test) = read(train), read([test])
    np.savez_compressed(out, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    print(f"{len(x_train)} images to train on, {len(x_test)} held out: {out}")


if __name__ == "__main__":
    main()
