"""Draw paths of a double well, and of the SDE that is fitted to them.

    python docs/zoo/drawing/fitted.py

writes `docs/pictures/joint/fitted.png`: on the left observed paths of `dX = (X − X³) dt + 0.6 dW`, on the right new paths of the SDE that
the task `paths` has learned from 400 such, of 60 observations each. Everything is seeded; half a minute on one core.
"""

import numpy as np
import torch
from augmented import PATHS, draw

from sdezoo import DiffusionModel

COUNT, OBSERVED, WITHIN, SPAN = 400, 60, 20, 12.0


def observed() -> tuple[np.ndarray, np.ndarray]:
    """Times `(OBSERVED,)`, and paths `(COUNT, OBSERVED, 1)`, by Euler and Maruyama, WITHIN steps between two observations."""
    rng = np.random.default_rng(0)
    times = np.linspace(0, SPAN, OBSERVED)
    h = times[1] / WITHIN
    x = rng.normal(0, 0.2, COUNT)
    rows = [x]
    for _ in times[1:]:
        for _ in range(WITHIN):
            x = x + (x - x**3) * h + 0.6 * np.sqrt(h) * rng.normal(size=COUNT)
        rows.append(x)
    return times, np.stack(rows, 1)[..., None].astype(np.float32)


if __name__ == "__main__":
    times, x = observed()
    model = DiffusionModel(task="paths", steps=1000, device="cpu").fit(x, times=times)
    found = model.sample(PATHS)
    panels = [
        (title, torch.from_numpy(times), torch.as_tensor(paths[:PATHS, :, 0]).T)
        for title, paths in (("observed", x), ("simulated by the fitted SDE", found))
    ]
    draw("fitted", panels, {})
    for name, paths in (("observed", x), ("simulated", model.sample(COUNT))):
        last = paths[:, -1, 0]
        print(f"{name}: deviation of the last value {last.std():.3f}, share above 0 {(last > 0).mean():.3f}")
