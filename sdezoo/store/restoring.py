"""Restore a trained model from a checkpoint."""

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
from sdezoo.errors import RunError, SdezooError
from sdezoo.sampling.likelihood import Estimate, estimate
from sdezoo.store.checkpoint import DamagedError, State, choose, newest_whole, read_state, read_tensors
from sdezoo.store.provenance import check_providers
from sdezoo.zoo.registry import TASKS
from sdezoo.zoo.spec import shown

_NEEDED = ("tasks/", "sdes/", "networks/")
"""Registries of the plugins needed to rebuild a model."""

_ALWAYS = 2**26
"""Tensor size that is always allowed: unsaved tensors such as masks and frequency tables may be larger than a small network."""


class MisfitError(ValueError):
    """The tensors of a checkpoint do not fit the model that its state describes; raised by `Task.rebuild`."""


@dataclass(frozen=True)
class Trained:
    """A trained model with the encoding of its data.

    Args:
        model: the model with its averaged weights; a `ScoreModel` for score learning.
        state: the state of the checkpoint.
        encoding: maps rows in the user's units into the domain of the process.
    """

    model: Any
    state: State
    encoding: Encoding

    @property
    def encoded_event(self) -> tuple[int, ...]:
        """Shape of a row in the domain of the process."""
        return self.encoding.encoded_event(self.state.event)

    def log_prob(self, x: Tensor, **options: Any) -> Tensor:
        """Compute log-densities of rows in the user's units.

        Args:
            x: rows `(B, *event)` in the user's units.
            **options: as for `likelihood`.

        Returns:
            Log-densities in nats, `(B,)`, float64 on the CPU, the same as the `nats` of `likelihood`.

        Raises:
            SdezooError: as for `likelihood`.
        """
        return self.likelihood(x, **options).nats

    def likelihood(self, x: Tensor, *, noised: bool = True, **options: Any) -> Estimate:
        """Estimate `log p(x) = log p(encode(x)) + log |det ∂ encode/∂ x|` and its standard error, in nats.

        Args:
            x: rows `(B, *event)` in the user's units.
            noised: use the distribution at the smallest noise level that the network knows. Its density integrates to 1 no matter what the
                network has learned.
            **options: further options of `sdezoo.sampling.likelihood.estimate`.

        Raises:
            SdezooError: as for `estimate` and `log_det`.
        """
        log_det = self.log_det(x)
        found = estimate(self.model, self.encoding.encode(x), noised=noised, **options)
        return found._replace(nats=found.nats + log_det)

    def log_det(self, x: Tensor) -> Tensor:
        """Compute `log |det ∂ encode/∂ x|`, the difference between log-densities in the user's units and in the domain of the process.

        Args:
            x: rows `(B, *event)` in the user's units.

        Returns:
            Values `(B,)` in nats, float64 on the CPU.

        Raises:
            RunError: if the encoding has categories: such rows have probabilities, not densities.
        """
        found = self.encoding.log_det(x)
        if found is None:
            raise RunError(
                "Rows with constant columns, categories or shares have no density.", "Evaluate samples instead: sdezoo evaluate RUN."
            )
        return found


def restore(run: Path | str, which: str = "newest") -> Trained:
    """Restore a model with its averaged weights, on the CPU. Safe while a training run is writing to the folder.

    Args:
        run: the run folder.
        which: the checkpoint, see `sdezoo.store.checkpoint.choose`.

    Raises:
        RunError: if there is no such checkpoint, or it is damaged; the message names the newest intact one.
        PluginError: if a plugin that the model was trained with is not installed.
    """
    run = Path(run)
    while True:
        try:
            return _restored(choose(run, which))
        except DamagedError as error:
            if not error.checkpoint.exists():
                continue  # a training run has just replaced it by a newer one
            whole, _ = newest_whole(run)
            whole = whole if whole != error.checkpoint else None
            other = f"Give --checkpoint {whole.name.removeprefix('step-')}, the newest intact one, or train" if whole else "Train"
            raise RunError(error.problem, f"{other} again.") from None


@contextmanager
def no_larger_than(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Limit memory while `Task.rebuild` builds a model from `state.json`, which may ask for any width, depth and shape.

    Two things are rejected: a tensor with more than 2²⁶ elements and more than all `tensors` together, before it is allocated; and the
    first parameter with which the modules have more elements than `tensors`. Plugins run as usual, on the CPU and with real tensors.

    Args:
        tensors: the saved tensors by name.

    Raises:
        MisfitError: if the model is too large.
    """
    left = total = sum(values.numel() for values in tensors.values())
    thread = get_ident()

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        if parameter is None or get_ident() != thread:
            return  # the hook is global: ignore other threads
        left -= parameter.numel()
        if left < 0:
            raise MisfitError("it holds fewer weights than the network that it describes")

    hook = register_module_parameter_registration_hook(count)
    try:
        with _Bounded(max(total, _ALWAYS)):
            yield
    finally:
        hook.remove()


class _Bounded(TorchDispatchMode):
    """Reject the creation of a tensor with more than `most` elements, before it is allocated."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled in here, and torch would load its compiler in order to leave it alone

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        size = args[0] if args else ()
        if isinstance(size, list | tuple) and all(isinstance(n, int) for n in size) and math.prod(size) > self._most:
            raise MisfitError(f"it describes a tensor with {math.prod(size)} elements")
        return func(*args, **(kwargs or {}))


def _restored(checkpoint: Path) -> Trained:
    state, tensors = read_state(checkpoint), read_tensors(checkpoint, "ema")
    encoding = Encoding.from_json(state.encoding)
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
            f"Fix its plugins: {', '.join(map(shown, filter(None, [state.task, state.sde, state.net])))}.",
        ) from error
    return Trained(model.eval().requires_grad_(False), state, encoding)
