"""From a checkpoint to a model that samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils._python_dispatch import TorchDispatchMode

from sdezoo.data.encoding import Encoding
from sdezoo.errors import DataError, RunError, SdezooError
from sdezoo.sampling.likelihood import Estimate, estimate
from sdezoo.store.checkpoint import DamagedError, State, choose, newest_whole, read_state, read_tensors
from sdezoo.store.provenance import check_providers
from sdezoo.zoo.registry import TASKS

_NEEDED = ("tasks/", "sdes/", "networks/")
"""Registries of the plugins that a model is rebuilt by."""

_ALWAYS = 2**26
"""Numbers that a tensor may have in any case: masks and tables of frequencies are not saved, and may be larger than a small network."""


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


@contextmanager
def no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Build here what a `state.json` describes, for `Task.rebuild`: the file may ask for any width, depth and shape of the data.

    A tensor of more than 2²⁶ numbers, and more than all `tensors` have, is refused before it is allocated, and so is the first
    parameter with which the modules have more numbers than `tensors`. Plugins run as they always do, on the CPU with real numbers.

    Raises:
        MisfitError: where something is too large.
    """
    left = total = sum(values.numel() for values in tensors.values())
    thread = get_ident()

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is None or get_ident() != thread:
            return  # the hook hears of all threads
        left -= parameter.numel()
        if left < 0:
            raise MisfitError("its tensors are fewer than those of the network that it describes")

    hook = register_module_parameter_registration_hook(count)
    try:
        with _Bounded(max(total, _ALWAYS)):
            yield
    finally:
        hook.remove()


class _Bounded(TorchDispatchMode):
    """Refuses, before it is allocated, a tensor of more than `most` numbers that is asked for by its size."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        size = args[0] if args else ()
        if isinstance(size, list | tuple) and all(isinstance(n, int) for n in size) and math.prod(size) > self._most:
            raise MisfitError(f"it describes a tensor of {math.prod(size)} numbers")
        return func(*args, **(kwargs or {}))


def _restored(checkpoint: Path) -> Trained:
    state, tensors = read_state(checkpoint), read_tensors(checkpoint, "ema")
    encoding = _encoding(checkpoint, state)
    check_providers({key: provider for key, provider in state.plugins.items() if key.startswith(_NEEDED)})
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
            f"Fix its plugins: {', '.join(filter(None, [state.task, state.sde, state.net]))}.",
        ) from error
    return Trained(model.eval().requires_grad_(False), state, encoding)


def _encoding(checkpoint: Path, state: State) -> Encoding:
    try:
        encoding = Encoding.from_json(state.encoding)
        encoding.encoded_event(state.event)
    except DataError:
        raise DamagedError(checkpoint, "'state.json' holds no encoding of such rows") from None
    return encoding
