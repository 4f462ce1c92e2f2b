"""sdezoo: score-based generative models in which the noise process is a plugin.

The names below are the public API, for users and for authors of plugins; `docs/api/public.md` describes each. They are loaded on first
use, so `import sdezoo` is fast. Import plugins as classes from the module of their kind, for example `sdezoo.sdes` or `sdezoo.samplers`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sdezoo import datasets, formats, guides, losses, networks, optimizers, samplers, sdes, tasks
    from sdezoo.conformance import guide_laws, loss_laws, network_laws, optimizer_laws, sampler_laws, sde_laws
    from sdezoo.data.dataset import Data, Dataset, Snapshot
    from sdezoo.data.encoding import Encoding
    from sdezoo.data.formats import ArrayFormat, FileFormat, Samples, TableFormat
    from sdezoo.errors import (
        CompositionError,
        DataError,
        ParameterError,
        PluginError,
        RunError,
        SdezooError,
        SupportError,
    )
    from sdezoo.learning.loss import Batch, ScoreLoss, per_sample, score_along
    from sdezoo.learning.model import DenoiserModel, Model, ScoreModel
    from sdezoo.learning.network import Network
    from sdezoo.learning.noise_levels import draw_times
    from sdezoo.learning.optimizer import Optimizer
    from sdezoo.parameters import Count, Fraction, NonNegative, Plugin, Positive
    from sdezoo.process.affine import AffineSDE, Coefficients, leading_spread
    from sdezoo.process.bridge import Bridge
    from sdezoo.process.confined import ConfinedBrownian
    from sdezoo.process.interpolant import Interpolant, Mix, ScaleMixture, SelfDecomposable, SelfSimilar
    from sdezoo.process.noise import KeyedNoise, Noise
    from sdezoo.process.process import Conditional, Denoised, Process, Supervised
    from sdezoo.process.requirement import Requirement, needs_multiplicative
    from sdezoo.process.rewindable import Rewindable
    from sdezoo.process.sde import ForwardSDE, MatrixSDE, Stationary
    from sdezoo.process.standardized import column_moments, standardized
    from sdezoo.runs.estimator import DiffusionModel
    from sdezoo.runs.evaluate import evaluate
    from sdezoo.runs.impute import impute
    from sdezoo.runs.likelihood import likelihood
    from sdezoo.runs.paths import paths
    from sdezoo.runs.sample import sample
    from sdezoo.runs.train import train
    from sdezoo.sampling.guidance import Covariance, Guided, Inpainting, LinearInverse
    from sdezoo.sampling.guide import Guide, Reference
    from sdezoo.sampling.langevin import MirroredLangevin
    from sdezoo.sampling.likelihood import bits_per_dim, dequantize, log_likelihood
    from sdezoo.sampling.sampler import Sampler
    from sdezoo.sampling.start import AtRows, FromPrior, FromRows, Start
    from sdezoo.store.restoring import restore
    from sdezoo.training.config import TrainingConfig
    from sdezoo.training.task import Task
    from sdezoo.zoo.registry import (
        DATASETS,
        FORMATS,
        GUIDES,
        LOSSES,
        NETWORKS,
        OPTIMIZERS,
        SAMPLERS,
        SDES,
        TASKS,
        load_file,
    )

__all__ = [
    "DATASETS",
    "FORMATS",
    "GUIDES",
    "LOSSES",
    "NETWORKS",
    "OPTIMIZERS",
    "SAMPLERS",
    "SDES",
    "TASKS",
    "AffineSDE",
    "ArrayFormat",
    "AtRows",
    "Batch",
    "Bridge",
    "Coefficients",
    "CompositionError",
    "Conditional",
    "ConfinedBrownian",
    "Count",
    "Covariance",
    "Data",
    "DataError",
    "Dataset",
    "Denoised",
    "DenoiserModel",
    "DiffusionModel",
    "Encoding",
    "FileFormat",
    "ForwardSDE",
    "Fraction",
    "FromPrior",
    "FromRows",
    "Guide",
    "Guided",
    "Inpainting",
    "Interpolant",
    "KeyedNoise",
    "LinearInverse",
    "MatrixSDE",
    "MirroredLangevin",
    "Mix",
    "Model",
    "Network",
    "Noise",
    "NonNegative",
    "Optimizer",
    "ParameterError",
    "Plugin",
    "PluginError",
    "Positive",
    "Process",
    "Reference",
    "Requirement",
    "Rewindable",
    "RunError",
    "Sampler",
    "Samples",
    "ScaleMixture",
    "ScoreLoss",
    "ScoreModel",
    "SdezooError",
    "SelfDecomposable",
    "SelfSimilar",
    "Snapshot",
    "Start",
    "Stationary",
    "Supervised",
    "SupportError",
    "TableFormat",
    "Task",
    "TrainingConfig",
    "bits_per_dim",
    "column_moments",
    "datasets",
    "dequantize",
    "draw_times",
    "evaluate",
    "formats",
    "guide_laws",
    "guides",
    "impute",
    "leading_spread",
    "likelihood",
    "load_file",
    "log_likelihood",
    "loss_laws",
    "losses",
    "needs_multiplicative",
    "network_laws",
    "networks",
    "optimizer_laws",
    "optimizers",
    "paths",
    "per_sample",
    "restore",
    "sample",
    "sampler_laws",
    "samplers",
    "score_along",
    "sde_laws",
    "sdes",
    "standardized",
    "tasks",
    "train",
]

_HOMES = {
    "sdezoo.conformance": ("guide_laws", "loss_laws", "network_laws", "optimizer_laws", "sampler_laws", "sde_laws"),
    "sdezoo.data.dataset": ("Data", "Dataset", "Snapshot"),
    "sdezoo.data.encoding": ("Encoding",),
    "sdezoo.data.formats": ("ArrayFormat", "FileFormat", "Samples", "TableFormat"),
    "sdezoo.errors": ("CompositionError", "DataError", "ParameterError", "PluginError", "RunError", "SdezooError", "SupportError"),
    "sdezoo.learning.loss": ("Batch", "ScoreLoss", "per_sample", "score_along"),
    "sdezoo.learning.model": ("DenoiserModel", "Model", "ScoreModel"),
    "sdezoo.learning.network": ("Network",),
    "sdezoo.learning.noise_levels": ("draw_times",),
    "sdezoo.learning.optimizer": ("Optimizer",),
    "sdezoo.parameters": ("Count", "Fraction", "NonNegative", "Plugin", "Positive"),
    "sdezoo.process.affine": ("AffineSDE", "Coefficients", "leading_spread"),
    "sdezoo.process.confined": ("ConfinedBrownian",),
    "sdezoo.process.bridge": ("Bridge",),
    "sdezoo.process.interpolant": ("Interpolant", "Mix", "ScaleMixture", "SelfDecomposable", "SelfSimilar"),
    "sdezoo.process.rewindable": ("Rewindable",),
    "sdezoo.process.noise": ("KeyedNoise", "Noise"),
    "sdezoo.process.process": ("Conditional", "Denoised", "Process", "Supervised"),
    "sdezoo.process.requirement": ("Requirement", "needs_multiplicative"),
    "sdezoo.process.sde": ("ForwardSDE", "MatrixSDE", "Stationary"),
    "sdezoo.process.standardized": ("column_moments", "standardized"),
    "sdezoo.runs.estimator": ("DiffusionModel",),
    "sdezoo.runs.evaluate": ("evaluate",),
    "sdezoo.runs.impute": ("impute",),
    "sdezoo.runs.likelihood": ("likelihood",),
    "sdezoo.runs.paths": ("paths",),
    "sdezoo.runs.sample": ("sample",),
    "sdezoo.runs.train": ("train",),
    "sdezoo.sampling.guide": ("Guide", "Reference"),
    "sdezoo.sampling.guidance": ("Covariance", "Guided", "Inpainting", "LinearInverse"),
    "sdezoo.sampling.langevin": ("MirroredLangevin",),
    "sdezoo.sampling.likelihood": ("bits_per_dim", "dequantize", "log_likelihood"),
    "sdezoo.sampling.sampler": ("Sampler",),
    "sdezoo.sampling.start": ("AtRows", "FromPrior", "FromRows", "Start"),
    "sdezoo.store.restoring": ("restore",),
    "sdezoo.training.config": ("TrainingConfig",),
    "sdezoo.training.task": ("Task",),
    "sdezoo.zoo.registry": ("DATASETS", "FORMATS", "GUIDES", "LOSSES", "NETWORKS", "OPTIMIZERS", "SAMPLERS", "SDES", "TASKS", "load_file"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
_PLUGINS = ("datasets", "formats", "guides", "losses", "networks", "optimizers", "samplers", "sdes", "tasks")

if not TYPE_CHECKING:  # a type checker knows the names above and must reject others

    def __getattr__(name: str) -> object:
        if name in _PLUGINS:
            return import_module(f"sdezoo.{name}")
        if name not in _HOME_OF:
            raise AttributeError(f"module 'sdezoo' has no attribute '{name}'{_near(name)}", name=name)
        return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _near(name: str) -> str:
    if name.startswith("__"):  # the import system looks up such names
        return ""
    from difflib import get_close_matches

    near = get_close_matches(name, __all__, 1)
    return f"; did you mean '{near[0]}'?" if near else ""
