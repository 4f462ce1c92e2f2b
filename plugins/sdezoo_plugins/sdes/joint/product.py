"""The product: processes side by side, each on its own columns of a table.

`product:gbm[price;area],jacobi[share],vp[temperature]` runs `gbm` on the columns `price` and `area`, and so on, with independent noise.
Columns are given by name, or by number if none has it as its name (`03` is a number too), separated by semicolons; each column is in one
part. A part whose spec has commas stands in parentheses: `product:(gbm:mu=0,sigma=1)[price],vp[temperature]`. The state holds the states of
the parts, one after the other. Drift, diffusion and score are those of the parts.

Affine parts are one part: each gives the coordinates of its columns, `x = φ_i(z_i)`, and all coordinates get the same noise::

    z_t = z_0 + √v ε,      v(t) = (σ_max/r)² (r^{2t} − 1)

A part's own noise schedule is not used: affine processes in standardized coordinates differ only in their noise level `σ/α` as a function
of time, and this is one function for all. Columns on the real line are standardized by the encoding of the data, the others by their
part. If all parts are affine, so is the product: every fast sampler, the likelihood and the fitted prior apply.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

import torch
from annotated_types import Gt
from torch import Tensor
from torch.distributions.constraints import Constraint

from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.parameters import Positive
from sdezoo.process.affine import AffineSDE, Coefficients, leading_spread
from sdezoo.process.differentiation import kept
from sdezoo.process.noise import Noise
from sdezoo.process.process import Conditional, Process, Shape
from sdezoo.process.sde import ForwardSDE, MatrixSDE
from sdezoo_plugins.sdes.joint.side_by_side import Columns, Part, SideBySide, ordered, part
from sdezoo_plugins.sdes.shared.exploding import TERMINAL, exploding


@dataclass(frozen=True)
class _Parts(Process):
    """Processes, each with its own columns of a table."""

    positional: ClassVar[str | None] = "parts"

    parts: tuple[str, ...]
    """Processes with their columns by name or number, `SPEC[column;column]`; a spec with commas in parentheses."""
    sigma_max: Positive | None = None
    """Terminal standard deviation of the noise in the coordinates of affine parts; None: four times their leading principal standard
    deviation."""
    growth: Annotated[float, Gt(1)] = 50.0
    """`r`, the growth of this noise: its scale near `t = 0` is `sigma_max / r`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        columns = [column for each in self.named for column in each.columns]
        for column in columns:
            if columns.count(column) > 1:
                raise ParameterError(f"{self.title()}: the column '{column}' is in two parts.", "Give each column once.")

    @cached_property
    def named(self) -> list[Part]:
        """The parts as they are written."""
        return [part(text) for text in self.parts]

    @cached_property
    def given(self) -> list[Part]:
        """The parts with their columns by number. Until `for_columns` has looked up names, columns count in the order of the parts."""
        if all(column.isdecimal() for each in self.named for column in each.columns):
            return self.named
        places = map(str, itertools.count())
        return [each._replace(columns=tuple(itertools.islice(places, len(each.columns)))) for each in self.named]

    @property
    def support(self) -> Constraint:
        return Columns([(each.process.support, each.numbers) for each in self.given])

    @property
    def row_shape(self) -> Shape:
        return (sum(len(each.columns) for each in self.given),)

    def rounds_up(self, event: Sequence[int]) -> Tensor:
        found = torch.zeros(tuple(event), dtype=torch.bool)
        for each in self.given:
            found[..., each.numbers] = each.process.rounds_up((len(each.columns),))
        return found

    def findings(self, names: Sequence[str]) -> tuple[str, ...]:
        return tuple(phrase for each in self.given for phrase in each.process.findings([names[number] for number in each.numbers]))

    def for_columns(self, names: Sequence[str], sources: Sequence[int]) -> Self:
        named = {name: i for i, name in enumerate(names)}
        given = [column for each in self.named for column in each.columns]
        numbers = {column: named.get(column, int(column) if column.isdecimal() else len(names)) for column in given}
        if unknown := [column for column in given if numbers[column] >= len(names)]:
            raise DataError(f"There is no column '{unknown[0]}' for '{self.title()}'.", f"Choose from: {', '.join(names)}.")
        used = {numbers[column] for column in given}
        if missing := [names[i] for i in sorted(set(sources) - used)]:
            raise DataError(f"The column '{missing[0]}' is in no part of '{self.title()}'.", f"Add it to one, such as vp[{missing[0]}].")
        parts = []
        for each in self.named:
            found = tuple(str(k) for column in each.columns for k, source in enumerate(sources) if source == numbers[column])
            parts += [each._replace(columns=found).written] if found else []
        return replace(self, parts=tuple(parts))


@dataclass(frozen=True)
class Product(_Parts, ForwardSDE, Conditional):
    """Processes side by side, each on its own columns of a table: product:gbm[price;area],vp[temperature]."""

    def __new__(cls, parts: tuple[str, ...], **others: Any) -> Any:  # noqa: ANN401
        affine = isinstance(parts, tuple) and all(isinstance(part(text).process, AffineSDE) for text in parts)
        return _AffineProduct(parts, **others) if affine else super().__new__(cls)

    def __getnewargs__(self) -> tuple[tuple[str, ...]]:
        """What `__new__` asks for when a model is copied, as the moving average of its weights does."""
        return (self.parts,)

    def __post_init__(self) -> None:
        super().__post_init__()
        for process in (each.process for each in self.given):
            if not (isinstance(process, ForwardSDE) and isinstance(process, Conditional)):
                raise ParameterError(
                    f"{self.title()}: '{process.title()}' is not an SDE with a known score.", "Choose another process for its columns."
                )
            if isinstance(process, MatrixSDE):
                raise ParameterError(
                    f"{self.title()}: the noise of '{process.title()}' is a matrix, which a product cannot apply.",
                    "Choose another process for its columns.",
                )

    @cached_property
    def merged(self) -> list[Part]:
        """The parts, with all affine ones as the first."""
        affine = [each for each in self.given if isinstance(each.process, AffineSDE)]
        if not affine:
            return self.given
        columns = tuple(column for each in affine for column in each.columns)
        places = map(str, itertools.count())
        inner = tuple(each._replace(columns=tuple(itertools.islice(places, len(each.columns)))).written for each in affine)
        together = Part(_AffineProduct(inner, self.sigma_max, self.growth), columns)
        return [together, *(each for each in self.given if not isinstance(each.process, AffineSDE))]

    def adapted(self, x0: Tensor) -> Self:
        found = self
        for each in self.merged:
            process = each.process.adapted(x0[:, each.numbers])
            if isinstance(process, _AffineProduct):
                parts = [p._replace(columns=tuple(each.columns[n] for n in p.numbers)) for p in process.given]
                found = replace(found, sigma_max=process.sigma_max)
            else:
                parts = [each._replace(process=process)]
            known = {p.columns: p.written for p in parts}
            found = replace(found, parts=tuple(known.get(p.columns, p.written) for p in found.given))
        return found

    @property
    def t_span(self) -> tuple[float, float]:
        spans = [each.process.t_span for each in self.merged]
        return max(lo for lo, _ in spans), min(hi for _, hi in spans)

    @property
    def reflecting_boundary(self) -> bool:
        return any(each.process.reflecting_boundary for each in self.merged)

    @property
    def entrywise_noise(self) -> bool:
        return all(each.process.entrywise_noise for each in self.merged)

    def state_shape(self, shape: Sequence[int]) -> Shape:
        return *shape[:-1], sum(each.size for each in self.merged)

    def encode(self, x: Tensor, noise: Noise) -> Tensor:
        return torch.cat([each.process.encode(x[:, each.numbers], noise) for each in self.merged], -1)

    def decode(self, z: Tensor) -> Tensor:
        return self._joined(lambda process, state: process.decode(state), z)[..., self._order.to(z.device)]

    def decode_unchecked(self, z: Tensor) -> Tensor:
        return self._joined(lambda process, state: process.decode_unchecked(state), z)[..., self._order.to(z.device)]

    def log_abs_det(self, z: Tensor, x: Tensor) -> Tensor:
        return torch.stack([each.process.log_abs_det(state, x[:, each.numbers]) for each, state in self._split(z)]).sum(0)

    def network_input(self, z: Tensor, t: Tensor) -> Tensor:
        return self._joined(lambda process, state: process.network_input(state, t), z)

    def network_input_shape(self, event: Sequence[int]) -> Shape:
        return (sum(each.seen for each in self.merged),)

    def score_from_output(self, s: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """The score of each part. The output of a part is in units of the part's own noise."""
        outputs = s.split([each.seen for each in self.merged], -1)
        pairs = zip(self._split(z), outputs, strict=True)
        return torch.cat([p.process.score_from_output(one * self._relative(p, t, one), state, t) for (p, state), one in pairs], -1)

    def score_error_weighting(self, z: Tensor, t: Tensor) -> Tensor:
        return torch.cat([p.process.score_error_weighting(u, t) / self._relative(p, t, u) ** 2 for p, u in self._split(z)], -1)

    def scale(self, t: Tensor) -> Tensor:
        """That of the first part."""
        return self.merged[0].process.scale(t)

    def drift(self, z: Tensor, t: Tensor) -> Tensor:
        return self._joined(lambda process, state: process.drift(state, t).expand_as(state), z)

    def diffusion(self, z: Tensor, t: Tensor) -> Tensor:
        return self._joined(lambda process, state: process.diffusion(state, t).to(state).expand_as(state), z)

    def divergence(self, z: Tensor, t: Tensor) -> Tensor:
        return self._joined(lambda process, state: process.divergence(state, t).expand_as(state), z)

    def noise_shape(self, shape: Sequence[int]) -> Shape:
        for each in self.merged:
            if each.process.noise_shape((1, each.size)) != (1, each.size):
                raise CompositionError(
                    f"The entries of '{each.process.title()}' share their noise, which a product cannot.", "Choose another process."
                )
        return tuple(shape)

    def ggt(self, z: Tensor, t: Tensor, s: Tensor) -> Tensor:
        return torch.cat([p.process.ggt(u, t, score) for (p, u), (_, score) in zip(self._split(z), self._split(s), strict=True)], -1)

    def project(self, proposal: Tensor, z: Tensor) -> Tensor:
        pairs = zip(self._split(proposal), self._split(z), strict=True)
        return torch.cat([p.process.project(new, old) for (p, new), (_, old) in pairs], -1)

    def perturb(self, x0: Tensor, t: Tensor, noise: Noise) -> Tensor:
        return torch.cat([each.process.perturb(x0[:, each.numbers], t, noise) for each in self.merged], -1)

    def prior(self, shape: Sequence[int], noise: Noise, like: Tensor) -> Tensor:
        return torch.cat([each.process.prior((shape[0], len(each.columns)), noise, like) for each in self.merged], -1)

    def log_prob(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        return torch.cat([each.process.log_prob(state, x0[:, each.numbers], t) for each, state in self._split(z)], -1)

    def score(self, z: Tensor, x0: Tensor, t: Tensor) -> Tensor:
        return torch.cat([each.process.score(state, x0[:, each.numbers], t) for each, state in self._split(z)], -1)

    def _split(self, z: Tensor) -> list[tuple[Part, Tensor]]:
        return list(zip(self.merged, z.split([each.size for each in self.merged], -1), strict=True))

    def _joined(self, fn: Callable[[Any, Tensor], Tensor], z: Tensor) -> Tensor:
        return torch.cat([fn(each.process, state) for each, state in self._split(z)], -1)

    def _relative(self, each: Part, t: Tensor, like: Tensor) -> Tensor:
        return (self.scale(t) / each.process.scale(t)).to(like)

    @cached_property
    def _order(self) -> Tensor:
        numbers = [number for each in self.merged for number in each.numbers]
        return kept(tuple(sorted(range(len(numbers)), key=numbers.__getitem__)), torch.int64)


@dataclass(frozen=True)
class _AffineProduct(_Parts, AffineSDE):
    """A product of affine processes: their coordinates side by side, with one noise level."""

    name: ClassVar[str] = "product"

    def adapted(self, x0: Tensor) -> Self:
        if self.sigma_max is not None:
            return self
        parts = (each._replace(process=each.process.adapted(x0[:, each.numbers])).written for each in self.given)
        measured = replace(self, parts=tuple(parts))
        return replace(measured, sigma_max=TERMINAL * leading_spread(measured.encode(x0)))

    @cached_property
    def coordinates(self) -> SideBySide:  # pyright: ignore[reportIncompatibleMethodOverride]
        return SideBySide([(each.process.coordinates, each.numbers) for each in self.given], self.support)

    @cached_property
    def column_spread(self) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        places = self.coordinates.places
        spread = [1.0] * sum(map(len, places))
        for each, place in zip(self.given, places, strict=True):
            for k, number in zip(place, each.process.column_spread.expand(len(place)), strict=True):
                spread[k] = float(number)
        return kept(tuple(spread))

    def known_entries(self, known: Tensor) -> Tensor:
        """Those of each part, in its own columns."""
        parts = [each.process.known_entries(known[:, each.numbers]) for each in self.given]
        return ordered(parts, self.coordinates.places)

    def decode(self, z: Tensor) -> Tensor:
        """The columns of each part, with its own checks."""
        states = zip(self.given, self.coordinates.places, strict=True)
        return ordered([each.process.decode(z[:, place]) for each, place in states], [each.numbers for each in self.given])

    def coefficients(self, t: Tensor) -> Coefficients:
        return exploding(t, (self.sigma_max or TERMINAL) / self.growth, self.growth)
