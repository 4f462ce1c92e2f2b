"""An oscillator of which only the position is seen, with errors: `python docs/experiments/hidden_velocity.py [TASK …]`.

`x'' = −4 x − ½ x' + noise`, stationary, of variance 1, observed 11 times at distance 0.4 with errors of deviation 0.2: 1000 paths, of which
100 are held out. Prints for each task the validation loss beside the exact likelihood, the autocovariances of new paths beside the exact
ones, and the largest error. Each takes two to four minutes of one core.
"""

import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch.distributions import MultivariateNormal

from sdezoo import TrainingConfig, sample, train
from sdezoo.data.dataset import Data

LENGTH, STEP, ERROR, PATHS, HELD_OUT = 11, 0.4, 0.2, 1000, 100
TASKS = (
    "paths:drift=linear,diffusion=constant",
    "latent-paths:drift=linear,diffusion=constant",
    "latent-paths",
)


def oscillator() -> tuple[Data, MultivariateNormal]:
    """Paths, and their distribution."""
    rates, spread = torch.tensor([[0.0, 1.0], [-4.0, -0.5]], dtype=torch.float64), torch.tensor([1.0, 4.0], dtype=torch.float64)
    lags = torch.stack([(torch.linalg.matrix_exp(rates * STEP * k) * spread)[0, 0] for k in range(LENGTH)])
    index = torch.arange(LENGTH)
    covariance = lags[(index[:, None] - index).abs()] + ERROR**2 * torch.eye(LENGTH)
    normal = MultivariateNormal(torch.zeros(LENGTH, dtype=torch.float64), covariance)
    e = torch.randn(PATHS, LENGTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = (e @ normal.scale_tril.T)[..., None].float()
    return Data(x[HELD_OUT:], x[:HELD_OUT], "paths", columns=("position",), times=STEP * index.double()), normal


if __name__ == "__main__":
    data, normal = oscillator()
    likelihood = -float(normal.log_prob(data.test[..., 0].double()).mean()) / LENGTH - math.log(float(data.train.double().std()))
    exact = normal.covariance_matrix[0].numpy()
    print(f"exact likelihood of held-out paths: {likelihood:.3f}; autocovariances {np.round(exact[:9], 2)}")
    for task in sys.argv[1:] or TASKS:
        began = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            run, new = Path(folder) / "run", Path(folder) / "new.npz"
            config = TrainingConfig.build({"task": task, "out": str(run), "steps": 800, "batch_size": 128, "lr": 0.02})
            loss = train(config, data=data).validation_loss
            sample(run, new, n=10_000)
            with np.load(new) as file:
                x = file["x"][..., 0]
        found = np.array([np.mean(np.diag(np.cov(x.T), k)) for k in range(LENGTH)])
        print(f"{task}: loss {loss:.3f}, autocovariances {np.round(found[:9], 2)}", end=", ")
        print(f"largest error {np.abs(found - exact).max():.2f}, {time.perf_counter() - began:.0f} s")
