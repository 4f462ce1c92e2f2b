"""sdezoo: score-based generative models in which the noise process is a plugin.

The names below are loaded when they are asked for, so that `import sdezoo` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdezoo.learning.loss import ScoreLoss
    from sdezoo.learning.model import Model, ScoreModel
    from sdezoo.process.affine import AffineSDE, Coefficients
    from sdezoo.process.noise import Noise
    from sdezoo.process.process import Conditional, Process
    from sdezoo.process.sde import ForwardSDE
    from sdezoo.runs.estimator import DiffusionModel
    from sdezoo.sampling.sampler import Sampler
    from sdezoo.zoo.registry import DATASETS, LOSSES, NETWORKS, SAMPLERS, SDES

__all__ = [
    "DATASETS",
    "LOSSES",
    "NETWORKS",
    "SAMPLERS",
    "SDES",
    "AffineSDE",
    "Coefficients",
    "Conditional",
    "DiffusionModel",
    "ForwardSDE",
    "Model",
    "Noise",
    "Process",
    "Sampler",
    "ScoreLoss",
    "ScoreModel",
]

_HOMES = {
    "sdezoo.process.noise": ("Noise",),
    "sdezoo.process.process": ("Conditional", "Process"),
    "sdezoo.process.sde": ("ForwardSDE",),
    "sdezoo.process.affine": ("AffineSDE", "Coefficients"),
    "sdezoo.learning.loss": ("ScoreLoss",),
    "sdezoo.learning.model": ("Model", "ScoreModel"),
    "sdezoo.runs.estimator": ("DiffusionModel",),
    "sdezoo.sampling.sampler": ("Sampler",),
    "sdezoo.zoo.registry": ("DATASETS", "LOSSES", "NETWORKS", "SAMPLERS", "SDES"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'sdezoo' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)
