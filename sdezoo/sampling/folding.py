"""Folding: reduce a sampler's steps, before the loop, to network calls and linear combinations.

Every exponential integrator, and every discretization of an affine process, takes steps that are *linear* in the state, in the
network's outputs and in the noise. Everything else depends on the times alone. A sampler writes such a step as its formula reads.
`fold` runs the formula once per step, in float64 on the CPU, with `Linear` expressions in place of tensors. What remains of a step
is::

    input = Σ_i a_i r_i + b,      r_j = network(input) or noise,      z = Σ_i c_i r_i + d

with registers `r_i`, which hold only what later operations need. The coefficients are known before the loop: numbers, or tensors
that broadcast against an event if the process or the moments of the data differ between columns. No step computes a coefficient
or synchronizes with the device.

A step that is not linear is not folded and runs as written. Both ways differ by rounding alone.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sdezoo.learning.model import Model
from sdezoo.learning.output import Call
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import Noise

Number = float | Tensor


class Stepping(Protocol):
    """Anything with a sampler's `step`."""

    def step(self, model: Model[Any], z: Any, t: Tensor, s: Tensor, noise: Any, memory: Any) -> tuple[Any, Any]:
        """Take one step, from `z` at `t` to `s < t`; see `Sampler.step`."""
        ...


class NotLinearError(TypeError):
    """An operation on a `Linear` that is not linear."""


class Linear:
    """A linear expression `Σ_i coefficient_i register_i + constant`, shaped like a state; the registers have no values yet.

    Supports sums, differences, and multiplication and division by known numbers or tensors.

    Args:
        terms: coefficient of each register.
        constant: the constant term.
        shape: shape of a state, `(B, *state)`.
        tape: the recording that it belongs to; expressions of different tapes do not combine.

    Raises:
        NotLinearError: for any other operation.
    """

    dtype = torch.float64
    device = torch.device("cpu")

    def __init__(self, terms: dict[int, Number], constant: Number, shape: torch.Size, tape: object = None) -> None:
        self.terms, self.constant, self.shape, self.tape = terms, constant, shape, tape

    def _with(self, terms: dict[int, Number], constant: Number) -> Linear:
        return Linear(terms, constant, self.shape, self.tape)

    def _known(self, value: Any) -> Number:
        if isinstance(value, Tensor):
            if value.ndim >= self.ndim:
                raise NotLinearError("numbers for each row")
            return value.item() if value.ndim == 0 else value.double().cpu()
        if isinstance(value, (int, float)):
            return value
        raise NotLinearError(type(value).__name__)

    def __add__(self, other: Any) -> Linear:
        if not isinstance(other, Linear):
            return self._with(self.terms, self.constant + self._known(other))
        if other.tape is not self.tape:
            raise NotLinearError("an expression of another run")
        terms = dict(self.terms)
        for register, coefficient in other.terms.items():
            terms[register] = terms[register] + coefficient if register in terms else coefficient
        return self._with(terms, self.constant + other.constant)

    def __mul__(self, other: Any) -> Linear:
        factor = self._known(other)
        return self._with({register: coefficient * factor for register, coefficient in self.terms.items()}, self.constant * factor)

    def __neg__(self) -> Linear:
        return self * -1.0

    def __sub__(self, other: Any) -> Linear:
        return self + -other

    def __rsub__(self, other: Any) -> Linear:
        return -self + other

    def __truediv__(self, other: Any) -> Linear:
        return self * (1 / torch.as_tensor(self._known(other), dtype=torch.float64))

    __radd__, __rmul__ = __add__, __mul__

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Number of dimensions, including the batch."""
        return len(self.shape)

    def __getattr__(self, name: str) -> Any:
        raise NotLinearError(name)

    def __bool__(self) -> bool:
        raise NotLinearError("bool")

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Linear:
        operation = _OPERATIONS.get(func.__name__)
        if operation is None or kwargs:
            raise NotLinearError(func.__name__)
        return operation(*args)


def _refuse(what: str) -> Linear:
    raise NotLinearError(what)


_OPERATIONS: dict[str, Callable[..., Linear]] = {
    "add": lambda a, b: b + a if isinstance(b, Linear) else a + b,
    "sub": lambda a, b: -b + a if isinstance(b, Linear) else a - b,
    "rsub": lambda a, b: b - a,
    "mul": lambda a, b: b * a if isinstance(b, Linear) else a * b,
    "div": lambda a, b: a / b if isinstance(a, Linear) else _refuse("1/z"),
    "neg": lambda a: -a,
}


class _Sum(NamedTuple):
    """`Σ_i coefficient_i register_i + constant`, in the state's dtype and on its device.

    The first coefficient is a tensor, or None for 1: torch multiplies by a 0-dim tensor in half the time of a Python number.
    """

    register: int
    coefficient: Tensor | None
    others: tuple[tuple[int, Number], ...]
    constant: Tensor | None

    @property
    def registers(self) -> list[int]:
        return [self.register, *(register for register, _ in self.others)]

    @property
    def size(self) -> int:
        factors = (self.coefficient, self.constant, *(factor for _, factor in self.others))
        return sum(factor.numel() for factor in factors if isinstance(factor, Tensor))

    def of(self, values: dict[int, Tensor]) -> Tensor:
        register, coefficient, others, constant = self
        total, owned = values[register], False
        if coefficient is not None:
            total, owned = torch.mul(total, coefficient), True
        for register, factor in others:
            value = values[register]
            if isinstance(factor, Tensor):
                total = total.addcmul_(value, factor) if owned else torch.addcmul(total, value, factor)
            else:
                total = total.add_(value, alpha=factor) if owned else torch.add(total, value, alpha=factor)
            owned = True
        return total if constant is None else total + constant


class _Operation(NamedTuple):
    """Fills a register with a sum, with the network's `call` on that sum, or, if `argument` is None, with noise."""

    register: int
    argument: _Sum | None
    call: Call | None
    event: tuple[int, ...]
    freed: list[int]
    """Registers that no later operation reads."""

    @property
    def size(self) -> int:
        """Total number of entries of its coefficients."""
        return self.argument.size if self.argument else 0


class Folded:
    """The folded steps of a time grid, see `fold`. The last operation of a step leaves the state.

    If coefficients differ between the entries of an event and there are many, the steps are not stored. Every run writes them again,
    a few at a time, so that memory does not grow with the number of steps.

    Args:
        write: yields the operations of each step.
    """

    def __init__(self, write: Callable[[], Iterator[list[_Operation]]]) -> None:
        self._write = write
        self._steps: list[list[_Operation]] | None = []
        size = 0
        for step in write():
            size += sum(operation.size for operation in step)
            if size > _KEPT_NUMBERS:
                self._steps = None
            elif self._steps is not None:
                self._steps.append(step)

    @property
    def steps(self) -> Iterator[list[_Operation]]:
        """Yield the operations of each step."""
        return iter(self._steps) if self._steps is not None else self._write()

    def run(self, z: Tensor, noise: Noise) -> Iterator[Tensor]:
        """Yield the state after each step from `z`.

        Args:
            z: first state, `(B, *state)`.
            noise: source of random numbers, keyed by sample.
        """
        values, value = {0: z}, z
        for step in self.steps:
            for register, argument, call, event, freed in step:
                if argument is None:
                    value = noise.normal(z, (len(z), *event))
                else:
                    value = argument.of(values)
                    if call is not None:
                        value = call(value)
                values[register] = value
                for old in freed:
                    del values[old]
            yield value


def fold(sampler: Stepping, model: Model[Any], times: Tensor, z: Tensor) -> Folded | None:
    """Fold the steps of `sampler` along `times`.

    The result holds for every batch size. Numbers that the model holds, such as the moments of the data, are fixed at this point.

    Args:
        sampler: the sampler, or any other object with its `step`.
        model: the score model, as the sampler sees it.
        times: the time grid, float64, `(N + 1,)`.
        z: a state, `(B, *state)`; gives shape, dtype and device.

    Returns:
        The folded steps; None if the process is not affine or a step is not linear.
    """
    if not isinstance(model.sde, AffineSDE):
        return None
    like, owner = torch.empty_like(z, device="meta"), weakref.ref(model)

    def write() -> Iterator[list[_Operation]]:
        tape, here = _Tape(like, z.device), owner()
        assert here is not None, "a fold is only run with its model"
        recorded = here.intercept_network(tape.through)
        state, memory = tape.state, None
        for k, (t, s) in enumerate(pairwise(times.unbind()), start=1):
            state, memory = sampler.step(recorded, state, t, s, tape, memory)
            state = tape.close(state, memory)
            if k % _SEGMENT == 0 or k == len(times) - 1:
                yield from tape.cut(state, memory)

    try:
        return Folded(write)
    except Exception:  # the formula uses what a `Linear` lacks; if that is an error, running the step as written reports it better
        return None


class _Tape(Noise):
    """Records what a step asks for; passed to the step as its source of noise."""

    def __init__(self, like: Tensor, device: torch.device) -> None:
        self._like, self._device, self._steps, self._operations, self._count = like, device, [], [], 0
        self._held: set[int] = set()
        self.state = self._register()

    def _register(self) -> Linear:
        self._count += 1
        return Linear({self._count - 1: 1.0}, 0.0, self._like.shape, self)

    def through(self, call: Call) -> Callable[[Any], Any]:
        """Return a stand-in for the network's `call` that records it instead of making it."""

        def written(argument: Linear) -> Linear:
            return self._filled(argument, call)

        return written

    def normal(self, like: Any, shape: Sequence[int] | None = None) -> Any:
        rows, *event = like.shape if shape is None else shape
        if rows != len(self._like):
            raise NotLinearError("noise that is not drawn row by row")
        return self._filled(event=tuple(event))

    def draw(self, fn: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        raise NotLinearError("draw")

    def close(self, state: Linear, memory: Any) -> Linear:
        """End a step: make `state` a register, and any expression in `memory` that would grow from step to step."""
        for held in _linear(memory):
            if len(held.terms) > _TERMS:
                held.terms, held.constant = self._filled(held).terms, 0.0
        end = self._filled(state)
        self._steps.append(self._operations)
        self._operations = []
        return end

    def _filled(self, argument: Linear | None = None, call: Call | None = None, event: tuple[int, ...] = ()) -> Linear:
        self._operations.append(_Operation(self._count, None if argument is None else self._sum(argument), call, event, []))
        return self._register()

    def _sum(self, expression: Linear) -> _Sum:
        terms = [
            (register, self._factor(c) if isinstance(c, Tensor) else c)
            for register, c in expression.terms.items()
            if isinstance(c, Tensor) or c
        ]
        terms = terms or [(next(iter(expression.terms)), 0.0)]  # a sum has the shape of a state
        # A sum that begins with a coefficient of 1 costs one operation less.
        terms.sort(key=lambda term: isinstance(term[1], Tensor) or term[1] != 1)
        (register, first), *others = terms
        constant = expression.constant
        return _Sum(
            register,
            None if not isinstance(first, Tensor) and first == 1 else self._factor(first),
            tuple(others),
            self._factor(constant) if isinstance(constant, Tensor) or constant else None,
        )

    def _factor(self, value: Number) -> Tensor:
        # 0-dim CPU tensors combine with tensors on any device: a step copies nothing.
        return value.to(self._device, self._like.dtype) if isinstance(value, Tensor) else torch.tensor(value, dtype=self._like.dtype)

    def cut(self, state: Linear, memory: Any) -> list[list[_Operation]]:
        """Return the steps since the last cut; each register is freed after its last use, unless `state` or `memory` holds it."""
        held = {register for expression in (state, *_linear(memory)) for register in expression.terms}
        used = set(held)
        for step in reversed(self._steps):
            for operation in reversed(step):
                last = {operation.register, *(operation.argument.registers if operation.argument else ())} - used
                operation.freed.extend(last)
                used |= last
        self._steps[0][0].freed.extend(self._held - used)
        self._held = held
        steps, self._steps = self._steps, []
        return steps


def _linear(memory: Any) -> Iterator[Linear]:
    """Yield the expressions in `memory`, which may nest them in tuples and lists only."""
    if isinstance(memory, Linear):
        yield memory
    elif isinstance(memory, (tuple, list)):
        for part in memory:
            yield from _linear(part)
    elif not isinstance(memory, (Tensor, int, float, str, type(None))):
        raise NotLinearError(type(memory).__name__)


class _Folds:
    """Cache of the last few folds, oldest first, for the next batch.

    Models are compared by identity, since equal ones may hold other numbers. The cache keeps no model alive.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[weakref.ref[Any], tuple[Any, ...], Folded | None]] = []

    def forget(self) -> None:
        """Empty the cache."""
        self._kept = []

    def get(self, sampler: Stepping, model: Model[Any], times: Tensor, z: Tensor) -> Folded | None:
        """Return the result of `fold`, cached if possible."""
        key = (sampler, model.sde, model.version, tuple(times.tolist()), z.shape[1:], z.dtype, z.device)
        self._kept = [entry for entry in self._kept if entry[0]() is not None]
        for owner, known, folded in self._kept:
            if owner() is model and known == key:
                return folded
        folded = fold(sampler, model, times, z)
        self._kept = [*self._kept, (weakref.ref(model), key, folded)][-_KEPT:]
        return folded


_KEPT = 8
_KEPT_NUMBERS = 2**18
_SEGMENT = 32
_TERMS = 3
FOLDS = _Folds()
