"""Laws of networks, tried on vectors, series and images, with weights that are moved away from those at the start.

A network answers each row for itself, from all entries of its input, the noise level and the label. It starts at zero, every weight that it
has is trained, and the same weights give the same answers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sdezoo.conformance.law import LawError, Suite
from sdezoo.conformance.laws.configuration import configuration_laws
from sdezoo.learning.network import Network

SHAPES = ((1,), (2,), (5,), (8, 2), (7, 3), (1, 4, 4), (1, 8, 8), (2, 7, 5))
"""Shapes of a row that are tried: vectors, series `(T, d)` and images `(C, H, W)`, some with odd sides."""
LEVELS = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
"""Noise levels, the range of `¼ ln(σ/α)`, in which the times 0 to 1 of other processes lie."""
_CLASSES, _ROWS = 3, 4
_CHANGED, _ROUNDED = 1e-6, 1e-4
"""In units of the largest output: a change that is one, and a difference that is rounding in float32."""
_MOVED = 0.5
"""How far weights are moved from those at the start, in units of `1/√inputs`."""
_ROW_COUNTS = (50, 1000, 100_000)
_STEP = 1e-2
"""Step of differences."""
_STEPS, _LOOK, _RATE, _LEFT = 400, 20, 3e-3, 0.7
"""Steps of Adam, how many there are between two looks, their rate, and the share of the squared error that may be left."""


@dataclass(frozen=True)
class Trial:
    """A module of a network for rows of one shape, with weights that are moved from those at the start, and rows to try it on."""

    shape: tuple[int, ...]
    """Shape of a row."""
    module: Any
    """The module, as for sampling."""
    classes: int | None
    """Number of classes, or None."""

    @property
    def x(self) -> Tensor:
        """Input, `(B, *shape)`."""
        return _normal(_ROWS, *self.shape, seed=1)

    @property
    def level(self) -> Tensor:
        """Noise levels, `(B,)`, all different."""
        return torch.linspace(-1.2, 0.9, _ROWS)

    @property
    def labels(self) -> Tensor | None:
        """Labels, `(B,)`; the last of them means that there is none."""
        return None if self.classes is None else torch.arange(_ROWS) % (self.classes + 1)

    def __call__(self, x: Tensor, level: Tensor, labels: Tensor | None = None) -> Tensor:
        """The output, without derivatives."""
        with torch.no_grad():
            return _called(self.module, x, level, labels)

    def __str__(self) -> str:
        return f"rows of shape {self.shape}, {f'{self.classes} classes' if self.classes else 'no classes'}"


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def _called(module: Any, x: Tensor, level: Tensor, labels: Tensor | None) -> Tensor:
    return module(x, level) if labels is None else module(x, level, labels)


def _built(plugin: Network, shape: tuple[int, ...], classes: int | None, seed: int = 0) -> Any:
    """A module as at the start of a run: its weights come from torch's generator."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return plugin.module(shape, classes)


def _moved(module: Any, seed: int = 0) -> Any:
    """The module with all weights moved, so that no layer starts at zero any more."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            size = 1 / math.sqrt(max(1, p[0].numel())) if p.ndim > 1 else 0.2
            p.add_(_MOVED * size * torch.randn(p.shape, generator=generator).to(p))
    return module.eval()


def _taken(plugin: Network) -> list[tuple[int, ...]]:
    return [shape for shape in SHAPES if plugin.refuses(shape) is None]


def _ranks(plugin: Network) -> list[tuple[int, ...]]:
    """The last shape of each rank that the network takes."""
    return list({len(shape): shape for shape in _taken(plugin)}.values())


def _firsts(plugin: Network) -> list[tuple[int, ...]]:
    """The first shape of each rank that the network takes."""
    return list({len(shape): shape for shape in _taken(plugin)[::-1]}.values())


@lru_cache(maxsize=32)
def _trial(plugin: Network, shape: tuple[int, ...], classes: int | None) -> Trial:
    return Trial(shape, _moved(_built(plugin, shape, classes)), classes)


def _trials(plugin: Network) -> list[Trial]:
    return [_trial(plugin, shape, classes) for shape in _ranks(plugin) for classes in (None, _CLASSES)]


def _takes_nothing(plugin: Network) -> str | None:
    return None if _taken(plugin) else f"It takes rows of none of the shapes {', '.join(map(str, SHAPES))}."


def _computed(plugin: Network) -> dict[Any, Any]:
    """What the network answers, in sampling and in training, at the start of a run and later."""
    found: dict[Any, Any] = {"rate": plugin.learning_rate, "refuses": [plugin.refuses(shape) is None for shape in SHAPES]}
    for shape in _firsts(plugin):
        trial = Trial(shape, _moved(_built(plugin, shape, None)), None)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            sampling = trial(trial.x, trial.level)
            trial.module.train()
            training = trial(trial.x, trial.level)
        found[shape] = [sampling, training, [_chosen(plugin, plugin.sized(shape, n)) for n in _ROW_COUNTS]]
    return {"all": [found]} if _taken(plugin) else {}


def _chosen(plugin: Network, sized: Network) -> list[Any]:
    """The hyper-parameters that were chosen for the data."""
    return [value for key, value in sized.parameters().items() if value != plugin.parameters()[key]]


ARCHITECTURE_LAWS: Suite[Network] = Suite(configuration_laws(Network, _computed, sizes=True))


@ARCHITECTURE_LAWS.law(first=True)
def contract(plugin: Network) -> None:
    """It refuses a shape in words, or builds a module that answers in the shape and dtype of its input, zero before training."""
    for shape in SHAPES:
        reason = plugin.refuses(shape)
        if reason is not None:
            if not (isinstance(reason, str) and reason):
                raise LawError(f"refuses({shape}) returned {reason!r}; give a phrase, or None.")
            continue
        for classes in (None, _CLASSES):
            module = _built(plugin, shape, classes)
            if not isinstance(module, nn.Module):
                raise LawError(f"module({shape}) returned a {type(module).__name__}.")
            for training in (True, False):
                module.train(training)
                for labels in (None, *([] if classes is None else [torch.tensor([0, classes - 1, classes, 1])])):
                    _check_output(module, shape, labels, "a fresh module", zero=True)
                    if not training:
                        _check_output(_moved(_built(plugin, shape, classes)), shape, labels, "a module", zero=False)


def _check_output(module: Any, shape: tuple[int, ...], labels: Tensor | None, what: str, *, zero: bool) -> None:
    many = _normal(_ROWS, *shape, seed=1)
    for x in (many, many[:1]):
        for level in (torch.linspace(-1.2, 0.9, len(x)), torch.tensor(0.3).expand(len(x))):
            told = None if labels is None else labels[: len(x)]
            given = [x.clone(), level.clone()]
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                found = _called(module, x, level, told)
            at = f"rows of shape {shape}, {len(x)} of them, labels {None if told is None else told.tolist()}"
            if not isinstance(found, Tensor) or found.shape != x.shape or found.dtype != x.dtype:
                shown = f"{tuple(found.shape)} {found.dtype}" if isinstance(found, Tensor) else type(found).__name__
                raise LawError(f"{what} returned {shown} for an input {tuple(x.shape)} {x.dtype}.", at)
            if not found.isfinite().all():
                raise LawError(f"{what} returned numbers that are not finite.", at)
            if zero and found.any():
                raise LawError(f"Before training the output is up to {float(found.abs().max()):.3g}, and must be zero.", at)
            if not (torch.equal(x, given[0]) and torch.equal(level, given[1])):
                raise LawError(f"{what} changes its arguments in place.", at)


def _size(out: Tensor) -> float:
    return max(float(out.abs().max()), 1e-30)


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def rows_are_independent(plugin: Network) -> None:
    """In sampling, row `i` of the output depends on row `i` of input, level and label alone, in every batch."""
    for trial in _trials(plugin):
        x, level, labels = trial.x, trial.level, trial.labels
        whole = trial(x, level, labels)
        for i in range(_ROWS):
            alone = trial(x[i : i + 1], level[i : i + 1], None if labels is None else labels[i : i + 1])
            if float((alone[0] - whole[i]).abs().max()) > _ROUNDED * _size(whole):
                raise LawError(f"Row {i} differs by {float((alone[0] - whole[i]).abs().max()):.3g} if it is alone.", str(trial))
        one = trial(x, level[1].expand(_ROWS), labels)
        if float((one[1] - whole[1]).abs().max()) > _ROUNDED * _size(whole):
            raise LawError("Row 1 differs if all rows have its level, as in sampling.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def levels_are_told_apart(plugin: Network) -> None:
    """At two noise levels the outputs for one input differ: each level has a score of its own."""
    for trial in _trials(plugin):
        rows = trial.x[:1].expand(len(LEVELS), *trial.shape)
        found = trial(rows, torch.tensor(LEVELS))
        apart = (found[:, None] - found[None]).flatten(2).abs().amax(2) + torch.eye(len(LEVELS)) * _size(found)
        if float(apart.min()) < _CHANGED * _size(found):
            i, j = divmod(int(apart.argmin()), len(LEVELS))
            raise LawError(f"The output is the same at the levels {LEVELS[i]:g} and {LEVELS[j]:g}.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def labels_are_told_apart(plugin: Network) -> None:
    """Every class has an output of its own, and so has "no label", which the number of classes means as well as no labels at all."""
    for trial in _trials(plugin):
        if trial.classes is None:
            continue
        every = torch.arange(trial.classes + 1)
        rows, level = trial.x[:1].expand(len(every), *trial.shape), trial.level[:1].expand(len(every))
        found, none = trial(rows, level, every), trial(rows, level)
        for i in range(len(every)):
            for j in range(i):
                if float((found[i] - found[j]).abs().max()) < _CHANGED * _size(found):
                    raise LawError(f"The output is the same for the labels {j} and {i} of {trial.classes} classes.", str(trial))
        if float((none[0] - found[-1]).abs().max()) > _ROUNDED * _size(found):
            raise LawError(f"Without labels the output is another one than with the label {trial.classes}, which means none.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def every_entry_is_seen(plugin: Network) -> None:
    """Every entry of the input changes the output, and every entry of the output depends on the input."""
    for trial in _trials(plugin):
        if trial.classes is not None:
            continue
        count = torch.Size(trial.shape).numel()
        x = trial.x[:1].expand(count + 1, *trial.shape).clone()
        x[1:] += torch.eye(count).reshape(count, *trial.shape)
        found = trial(x, torch.full((count + 1,), 0.3))
        changes = (found[1:] - found[:1]).reshape(count, count).abs()
        for what, most in (("input changes nothing", changes.amax(1)), ("output depends on no input", changes.amax(0))):
            if float(most.min()) < _CHANGED * _size(found):
                at = torch.unravel_index(most.argmin(), trial.shape)
                raise LawError(f"Entry {tuple(int(k) for k in at)} of the {what}.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def answers_are_fixed(plugin: Network) -> None:
    """In sampling, the same input has the same output, bit for bit, whatever came in between, and no random number is drawn."""
    for trial in _trials(plugin):
        before = torch.random.get_rng_state()
        first = trial(trial.x, trial.level, trial.labels)
        trial(2 * trial.x + 1, trial.level, trial.labels)
        again = trial(trial.x, trial.level, trial.labels)
        drawn = not torch.equal(before, torch.random.get_rng_state())
        torch.random.set_rng_state(before)
        if not torch.equal(first, again):
            raise LawError(f"The output of one input differs by {float((first - again).abs().max()):.3g} between two calls.", str(trial))
        if drawn:
            raise LawError("It draws from torch's generator in sampling.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def restored(plugin: Network) -> None:
    """The same seed gives the same weights, and a module that is given the saved tensors of another answers as that one."""
    for trial in _trials(plugin):
        one, other = (_built(plugin, trial.shape, trial.classes, seed=1) for _ in range(2))
        kept = one.state_dict()
        for name, value in other.state_dict().items():
            if name not in kept or not torch.equal(value, kept[name]):
                raise LawError(f"Two modules that are built with one seed differ in '{name}'.", str(trial))
        torch.nn.Module.load_state_dict(other, {name: value.clone() for name, value in trial.module.state_dict().items()})
        found = Trial(trial.shape, other.eval(), trial.classes)(trial.x, trial.level, trial.labels)
        wanted = trial(trial.x, trial.level, trial.labels)
        if float((found - wanted).abs().max()) > _ROUNDED * _size(wanted):
            apart = float((found - wanted).abs().max())
            raise LawError(f"Restored from its saved tensors, a module differs by {apart:.3g}: it keeps something beside them.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def every_weight_is_trained(plugin: Network) -> None:
    """In training a loss reaches every parameter: one that is used nowhere is a layer that was forgotten."""
    for shape in _ranks(plugin):
        for classes in (None, _CLASSES):
            trial = Trial(shape, _moved(_built(plugin, shape, classes)).train(), classes)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                out = _called(trial.module, trial.x, trial.level, trial.labels)
            if not out.requires_grad:
                raise LawError("The output has no derivative in the parameters.", str(trial))
            (out * _normal(_ROWS, *shape, seed=2)).sum().backward()
            for name, p in trial.module.named_parameters():
                if p.requires_grad and (p.grad is None or (p.ndim > 1 and not p.grad.any())):
                    raise LawError(f"Nothing depends on the parameter '{name}'.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def derivative_is_that_of_the_output(plugin: Network) -> None:
    """Its derivative in the input, which guides and sliced losses take, is that of differences of the output."""
    for trial in _trials(plugin):
        if trial.classes is not None:
            continue
        x, level, along, other = trial.x.requires_grad_(), trial.level, trial.x.sin(), _normal(_ROWS, *trial.shape, seed=3)
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
            out = trial.module(x, level)
            slope = torch.autograd.grad((out * other).sum(), x)[0] if out.requires_grad else torch.zeros_like(x)
        found = float((slope * along).sum())
        ends = [float((trial(x.detach() + h * along, level).double() * other).sum()) for h in (_STEP, -_STEP)]
        wanted = (ends[0] - ends[1]) / (2 * _STEP)
        size = float((slope * along).flatten(1).sum(1).abs().sum()) + abs(wanted)
        if not abs(found - wanted) <= 0.1 * size:
            raise LawError(f"The derivative along a direction is {found:.4g}, and differences give {wanted:.4g}.", str(trial))


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def learns_what_depends_on_the_level(plugin: Network) -> None:
    """In some steps of Adam it learns to return its input times a function of the noise level: a third of the error goes, at least.

    Inputs have one direction alone, which few hidden features can pass on.
    """
    for shape in _firsts(plugin):
        module = _built(plugin, shape, None)
        optimizer, left = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], _RATE), 1.0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            for k in range(_STEPS):
                x, level, wanted = _wanted(shape, 2 * k + 10)
                optimizer.zero_grad()
                (module.train()(x, level) - wanted).square().mean().backward()
                optimizer.step()
                if k % _LOOK == _LOOK - 1:
                    left = _left(module.eval(), shape)
                    if left < _LEFT:
                        break
        if not left < _LEFT:
            raise LawError(f"After {_STEPS} steps {left:.3g} of the squared error is left.", f"rows of shape {shape}")


def _wanted(shape: tuple[int, ...], seed: int, count: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    amount, level = _normal(count, *[1] * len(shape), seed=seed), _normal(count, seed=seed + 1)
    x = amount * _normal(*shape, seed=1)
    return x, level, x * (1.5 * level).cos().reshape(-1, *[1] * len(shape))


def _left(module: Any, shape: tuple[int, ...]) -> float:
    x, level, wanted = _wanted(shape, 2, 64)
    with torch.no_grad():
        return float((module(x, level) - wanted).square().mean() / wanted.square().mean())


@ARCHITECTURE_LAWS.law(excuses=_takes_nothing)
def sized_once(plugin: Network) -> None:
    """A network that is sized for the data is not changed by being sized again, and keeps what was given."""
    for shape in _ranks(plugin):
        for rows in _ROW_COUNTS:
            found = plugin.sized(shape, rows)
            if type(found) is not type(plugin):
                raise LawError(f"sized({shape}, {rows}) returned a {type(found).__name__}.")
            if found.sized(shape, rows) != found:
                raise LawError(f"Sized twice for {rows} rows of shape {shape}, it is {found.sized(shape, rows).spec}, not {found.spec}.")
            for key, value in plugin.parameters().items():
                if value is not None and found.parameters()[key] != value:
                    raise LawError(f"sized replaces {key}={value}, which is given, by {found.parameters()[key]}.")
            if (reason := found.refuses(shape)) is not None:
                raise LawError(f"Sized for {rows} rows of shape {shape}, it {reason}.")
