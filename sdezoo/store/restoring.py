"""From a checkpoint to a model that samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError, RunError, SdezooError
from sdezoo.sampling.likelihood import Estimate, estimate
from sdezoo.store.checkpoint import DamagedError, State, choose, newest_whole, read_state, read_tensors
from sdezoo.zoo.registry import TASKS


class MisfitError(ValueError):
    """Tensors of a checkpoint that do not fit what its state describes; raised by `Task.rebuild`."""


@dataclass(frozen=True)
class Trained:
    """A model ready to sample, and the encoding of the user's units.

    Args:
        model: with the averaged weights; of score learning, a `ScoreModel`.
        state: of the checkpoint.
        encoding: from the user's units into the process's domain.
    """

    model: Any
    state: State
    encoding: Encoding

    @property
    def encoded_event(self) -> tuple[int, ...]:
        """The shape of a row in the process's domain."""
        return self.encoding.encoded_event(self.state.event)

    def log_prob(self, x: Tensor, **options: Any) -> Tensor:
        """The log-density of data `x` in the user's own units, in nats, float64 `(B,)` on the CPU: the first half of `likelihood`."""
        return self.likelihood(x, **options).nats

    def likelihood(self, x: Tensor, *, noised: bool = True, **options: Any) -> Estimate:
        """`log p(x) = log p(encode(x)) + log |det ∂ encode/∂ x|` for `x` `(B, *event)` in the user's own units, with its standard error.

        `options` are those of `sdezoo.sampling.likelihood.estimate`. By default the law is the one at the smallest noise level that
        the network knows (`noised`): that one integrates to 1 whatever the network has learnt.

        Raises:
            SdezooError: as `estimate` does, and as `log_det`.
        """
        log_det = self.log_det(x)
        found = estimate(self.model, self.encoding.encode(x), noised=noised, **options)
        return found._replace(nats=found.nats + log_det)

    def log_det(self, x: Tensor) -> Tensor:
        """What a log-density in the user's units has more than one in the process's domain, float64 `(B,)` on the CPU.

        Raises:
            RunError: where the encoding has categories: such rows have probabilities, and no density.
        """
        found = self.encoding.log_det(x)
        if found is None:
            raise RunError("Rows with categories have no density.", "Measure samples instead: sdezoo evaluate RUN.")
        return found


def restore(run: Path, which: str = "newest") -> Trained:
    """A model of a run folder (see `choose`), with the moving average of its weights, on the CPU.

    A training may be writing there.

    Raises:
        RunError: where there is none, or it is damaged, naming the newest that is not.
        PluginError: where a plugin that it was trained with is not installed.
    """
    while True:
        try:
            return _restored(choose(run, which))
        except DamagedError as error:
            if not error.checkpoint.exists():
                continue  # a training has just replaced it by a newer one
            whole, _ = newest_whole(run)
            other = f"Give --checkpoint {whole.name.removeprefix('step-')}, the newest that is whole, or train" if whole else "Train"
            raise RunError(error.problem, f"{other} again.") from None


def _restored(checkpoint: Path) -> Trained:
    state, tensors = read_state(checkpoint), read_tensors(checkpoint, "ema")
    encoding = _encoding(checkpoint, state)
    task = TASKS.build(state.task)
    try:
        model = task.rebuild(state, tensors)
    except SdezooError:
        raise
    except MisfitError as error:
        raise DamagedError(checkpoint, str(error)) from None
    except Exception as error:  # a third party's plugin may raise anything
        raise RunError(
            f"The task '{state.task}' fails to rebuild the model of '{checkpoint}' ({type(error).__name__}: {error}).",
            f"Fix its plugins: {', '.join([state.sde, state.net])}.",
        ) from error
    return Trained(model.eval().requires_grad_(False), state, encoding)


def _encoding(checkpoint: Path, state: State) -> Encoding:
    try:
        encoding = Encoding.from_json(state.encoding)
        encoding.encoded_event(state.event)
    except DataError:
        raise DamagedError(checkpoint, "'state.json' holds no encoding of such rows") from None
    return encoding
