"""What a GPU changes: the demo's job on the CPU and on the GPU, in each precision, trained twice.

    python docs/experiments/gpu.py [--device cuda] [--steps 1000] [--out runs/gpu] [--check]

Prints, for each setting, seconds of training and of sampling, images a second, the loss, and whether a second training with the same
seed gives the same weights. `make gpu` runs the tests first, and the bench after.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import torch

SETTINGS = {
    "CPU, float32": ("cpu", []),
    "float32": ("", []),
    "bfloat16": ("", ["--precision=bf16"]),
    "bfloat16, compiled": ("", ["--precision=bf16", "--compile"]),
}


def main() -> None:
    """Train twice and sample in each setting; print the table."""
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--device", default="cuda")
    asked.add_argument("--steps", type=int, default=1000)
    asked.add_argument("-n", type=int, default=898, help="samples of each setting")
    asked.add_argument("--check", action="store_true", help="only look whether there is a GPU")
    asked.add_argument("--out", type=Path, default=Path("runs/gpu"))
    options = asked.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU on this machine. Install a CUDA build of PyTorch on a machine that has one, or give --device cpu.")
    if options.check:
        return
    print("| setting | training, s | images/s | sampling, s | loss | same weights again |\n| --- | --- | --- | --- | --- | --- |")
    for name, (device, extra) in SETTINGS.items():
        where = [f"--device={device or options.device}", *extra]
        folder = options.out / name.replace(", ", "-").replace(" ", "-")
        runs = [folder / turn for turn in ("once", "again")]
        seconds = [sdezoo("train", "--sde=gbm", "--loss=mult-dsm", f"--steps={options.steps}", f"--out={run}", *where) for run in runs]
        sampled = sdezoo("sample", runs[0], f"-n{options.n}", "--sampler=dpmpp-2m", f"--out={folder / 'samples.npz'}", *where)
        last = [json.loads(line) for line in (runs[0] / "metrics.jsonl").read_text().splitlines()]
        loss = next(line["loss"] for line in reversed(last) if "loss" in line)
        rate = options.steps * batch(runs[0]) / seconds[0]
        same = "yes" if weights(runs[0]) == weights(runs[1]) else "no"
        print(f"| {name} | {seconds[0]:.1f} | {rate:.0f} | {sampled:.1f} | {loss:.4f} | {same} |", flush=True)


def sdezoo(command: str, *arguments: object) -> float:
    """Run a command that replaces what is there; its seconds, start-up included."""
    began = time.perf_counter()
    done = subprocess.run([Path(sys.executable).parent / "sdezoo", command, *map(str, arguments), "--overwrite", "--quiet"], check=False)
    if done.returncode:
        sys.exit(done.returncode)
    return time.perf_counter() - began


def newest(run: Path) -> Path:
    """The newest checkpoint of a run."""
    return max(run.glob("checkpoints/step-*"), key=lambda folder: int(folder.name.partition("-")[2]))


def batch(run: Path) -> int:
    """The batch size of a run."""
    return json.loads((newest(run) / "state.json").read_text())["batch"]


def weights(run: Path) -> str:
    """SHA-256 of the averaged weights of a run."""
    return hashlib.sha256((newest(run) / "ema.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
