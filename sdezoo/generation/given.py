"""Conditions on the columns of a table: exact values and intervals, and samples that meet them.

Exact values are conditions on the coordinates of an affine process, met by a particle filter (`sdezoo.sampling.conditioning`).
Intervals are met by rejection: rows are drawn until one lies inside, and follow exactly the distribution of the model's samples inside.
With both, the filter draws among the particles inside.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from sdezoo.data.column_types import NumberType
from sdezoo.data.conversion import from_numbers
from sdezoo.errors import CompositionError, DataError, ParameterError, RunError, shortened
from sdezoo.generation.conditions import Values, conditions
from sdezoo.learning.model import Model
from sdezoo.process.affine import AffineSDE
from sdezoo.process.noise import mix
from sdezoo.sampling.conditioning import PARTICLES, ParticleFilter
from sdezoo.sampling.sampler import Callback, Sampler
from sdezoo.store.restoring import Trained

STEPS = 50
"""Default number of steps of the particle filter."""
_PILOT, _PILOT_STEPS, _PILOT_SEED = 1024, 20, 0x50494C4F54
_TRIES, _FILTERED = 1000, 20
"""Most draws for a row in an interval: samples, and populations of the particle filter."""
_SPAN = 2**28
"""Draw `r` of sample `i` has the key `i + r · _SPAN`."""
_WIDEST = 4096
"""Most rows drawn at once by rejection."""
_RAREST = 1e-8
"""A value is refused if the model's samples are as far out with a smaller probability."""


@dataclass(frozen=True, eq=False)
class Given:
    """What is given of the rows of a table.

    Args:
        x: rows `(N, columns)`, float32, in the user's units; any value where nothing is known. Sample `i` gets row `i` modulo `N`.
        known: which cells are given exactly, bool `(N, columns)`.
        low: smallest value of each column, float64 `(columns,)`; −∞: any.
        high: largest value of each column, float64 `(columns,)`; ∞: any.
        particles: number of particles of a sample.
        complete: whether no cell of a sample may be missing.
    """

    x: Tensor
    known: Tensor
    low: Tensor
    high: Tensor
    particles: int = PARTICLES
    complete: bool = False

    @classmethod
    def of(cls, given: Values | Sequence[str], trained: Trained) -> Given:
        """Build from conditions that hold for all samples.

        Args:
            given: conditions, see `conditions`.
            trained: the model.

        Raises:
            SdezooError: if a condition is malformed, or the data are not a table.
        """
        names = column_names(trained)
        x, low = torch.zeros(1, len(names)), torch.full((len(names),), -math.inf, dtype=torch.float64)
        known, high = torch.zeros(1, len(names), dtype=torch.bool), -low
        types = trained.encoding.types
        for name, least, most in conditions(given, names, types):
            i = names.index(name)
            kind = types[i] if types else None
            whole = kind is not None and (kind.whole or not isinstance(kind, NumberType))
            if whole and least > -math.inf and math.ceil(least) > most:
                raise DataError(f"The column '{name}' holds whole numbers or times, and none of these.", "Give one, or a wider interval.")
            if least == most and isinstance(kind, NumberType) and not whole and kind.step:
                _check_lattice(name, least, kind)
            if least == most and (not whole or isinstance(trained.model.sde, AffineSDE)):
                x[0, i], known[0, i] = torch.tensor(least, dtype=torch.float64).float(), True
                if whole and float(x[0, i]) != least:
                    raise DataError(f"The value of '{name}' has too many digits for float32.", "Give an interval LOW..HIGH.")
            else:
                low[i], high[i] = least, most
        return cls(x, known, low, high)

    @classmethod
    def cells(cls, x: Tensor) -> Given:
        """Build from rows with holes.

        Args:
            x: rows `(N, columns)`, float32, in the user's units; NaN where a cell is missing.
        """
        edge = torch.full((x.shape[1],), math.inf, dtype=torch.float64)
        return cls(x, ~x.isnan(), -edge, edge, complete=True)

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what is given."""
        digest = hashlib.sha256(f"{tuple(self.x.shape)} {self.particles}".encode())
        for part in (self.x, self.known, self.low, self.high):
            digest.update(part.contiguous().numpy().data)
        return digest.hexdigest()

    @cached_property
    def incomplete(self) -> list[int]:
        """Indices of the rows of `x` with a cell that is not given exactly, increasing."""
        return (~self.known.all(1)).nonzero().flatten().tolist()

    @property
    def exact(self) -> bool:
        """Whether a cell is given exactly."""
        return bool(self.known.any())

    def inside(self, x: Tensor) -> Tensor:
        """Whether rows lie in the intervals: final rows `(n, columns)` to bool `(n,)`."""
        values = x.cpu().double()
        found = (values >= self.low) & (values <= self.high)
        allowed = torch.full_like(found, True) if not self.complete else ~values.isnan()
        return torch.where(self.low.isinf() & self.high.isinf(), allowed, found).all(1)

    def restored(self, x: Tensor, rows: Sequence[int]) -> Tensor:
        """Put the given values in their cells.

        Args:
            x: final rows `(n, columns)`.
            rows: indices of the samples, `n` of them.
        """
        at = torch.tensor([row % len(self.x) for row in rows])
        return torch.where(self.known[at], self.x[at], x)


def _check_lattice(name: str, value: float, kind: NumberType) -> None:
    step, scale = kind.unit
    if abs(round(value * scale / step) * step / scale - value) > 1e-9 * max(1.0, abs(value)):
        raise DataError(
            f"The column '{name}' holds multiples of {step / scale:g}, and {value:g} is none.", "Give one, or an interval LOW..HIGH."
        )


def column_names(trained: Trained) -> tuple[str, ...]:
    """Names of the columns of a model's data; x0, x1, … if unnamed.

    Args:
        trained: the model.

    Raises:
        CompositionError: if the data are not a table.
    """
    state = trained.state
    if len(state.event) != 1:
        raise CompositionError(f"Rows of shape {tuple(state.event)} have no columns.", "Give conditions to models of tables.")
    return tuple(state.columns) or tuple(f"x{i}" for i in range(state.event[0]))


@dataclass(frozen=True, eq=False)
class ConditionalDraw:
    """The drawing of samples that meet conditions.

    Args:
        trained: the model, on `device`.
        sampler: the sampler for rejection.
        given: the conditions.
        steps: steps of the sampler, or of the particle filter.
        seed: the seed.
        device: device of the model; None: CPU.
    """

    trained: Trained
    sampler: Sampler
    given: Given
    steps: int
    seed: int
    device: torch.device | None = None
    effective: list[float] = field(default_factory=list)
    """The smallest effective number of particles of each sample drawn so far."""

    def check(self) -> None:
        """Check that the exact values can be given.

        Raises:
            CompositionError: if the process is not affine.
            ParameterError: if there are fewer than two steps.
            DataError: if a value lies outside the support, cannot be given alone, or hardly any sample is as far out.
        """
        if not self.given.exact:
            return
        if not isinstance(self.trained.model.sde, AffineSDE):
            raise CompositionError(
                f"'{self.trained.model.sde.title()}' is not affine, and so takes no exact values.",
                "Give an interval COLUMN=LOW..HIGH, or train a model with --sde auto.",
            )
        if self.steps < 2:
            raise ParameterError(f"steps={self.steps} is too small to sample given values.", "Give steps at least 2.")
        self._check()

    def sample(self, model: Callable[[Sequence[int]], Model[Any]], rows: Sequence[int], callback: Callback) -> Tensor:
        """Draw one batch in the domain of the process.

        Args:
            model: maps indices of samples, which may repeat, to the model for them.
            rows: indices of the samples.
            callback: called after every step.

        Returns:
            Encoded rows `(n, *encoded event)`, float32 on `device`.

        Raises:
            DataError: if an interval is so rare that no row in it was found.
            SupportError: if the sampler leaves the support.
        """
        return self._filtered(model, rows, callback) if self.given.exact else self._rejected(model, rows, callback)

    def _filtered(self, model: Callable[[Sequence[int]], Model[Any]], rows: Sequence[int], callback: Callback) -> Tensor:
        at = torch.tensor([row % len(self.given.x) for row in rows])
        known, encoded = self._encoded[0][at], self._encoded[1][at]
        mask = self._entries(self.given.known[at])
        out, left = torch.where(known, encoded, 0.0).to(self._like), list(range(len(rows)))
        for r in range(_FILTERED):
            indices = [rows[i] for i in left]
            drawn = self.filter.sample(
                model, encoded[left], mask[left], self.steps, mix(self.seed, r) if r else self.seed, indices,
                accept=self._accepted, like=self._like, callback=None if r else callback,
            )  # fmt: skip
            chosen = torch.tensor(left)[drawn.found]
            out[chosen.to(out.device)] = torch.where(
                known[chosen].to(out.device), out[chosen.to(out.device)], drawn.x[drawn.found.to(out.device)]
            )
            self.effective.extend(drawn.effective[drawn.found].tolist())
            left = [i for i, found in zip(left, drawn.found.tolist(), strict=True) if not found]
            if not left:
                return out
        raise self._none(_FILTERED * self.given.particles)

    def _rejected(self, model: Callable[[Sequence[int]], Model[Any]], rows: Sequence[int], callback: Callback) -> Tensor:
        out = torch.empty(len(rows), *self.trained.encoded_event, device=self.device)
        left, tried, inside, together = list(range(len(rows))), 0, 0, 1
        done = 0
        while left and done < _TRIES:
            together = min(together, _TRIES - done, max(1, _WIDEST // len(left)))
            tries = range(done, done + together)
            who = [rows[i] for i in left for _ in tries]
            keys = [rows[i] + r * _SPAN for i in left for r in tries]
            x = self.sampler.sample(model(who), (len(who), *self.trained.encoded_event), self.steps, self.seed, rows=keys, like=self._like)
            accepted = self._accepted(x).reshape(len(left), together)
            tried, inside = tried + accepted.numel(), inside + int(accepted.sum())
            found = accepted.any(1)
            first = accepted.int().argmax(1) + torch.arange(len(left)) * together
            out[torch.tensor(left)[found].to(out.device)] = x[first[found].to(x.device)]
            left = [i for i, hit in zip(left, found.tolist(), strict=True) if not hit]
            done += together
            together *= 2
        if left:
            raise self._none(tried, inside)
        callback(self.steps, out, torch.tensor(0.0))
        return out

    def _none(self, tried: int, inside: int = 0) -> DataError:
        share = f"{inside} of {tried}" if inside else f"none of {tried}"
        return DataError(f"Rows of the model hardly ever meet the conditions: {share} did.", "Give wider intervals.")

    def _accepted(self, x: Tensor) -> Tensor:
        return self.given.inside(self.trained.encoding.decode(x.cpu()))

    @property
    def _like(self) -> Tensor:
        return torch.empty((), device=self.device)

    @cached_property
    def pilot(self) -> Tensor:
        """Unconditional samples of the model, encoded `(1024, *encoded event)`."""
        shape = (_PILOT, *self.trained.encoded_event)
        return self.sampler.sample(self.trained.model, shape, _PILOT_STEPS, _PILOT_SEED, like=self._like).cpu()

    @cached_property
    def filter(self) -> ParticleFilter:
        """The particle filter for exact values."""
        self.check()
        return ParticleFilter.measured(self.trained.model.sde, self.pilot, self.given.particles)

    @cached_property
    def _encoded(self) -> tuple[Tensor, Tensor]:
        """Which encoded columns are known, and the encoded rows, with those of a sample where nothing is known."""
        encoding, known = self.trained.encoding, self.given.known
        filled = torch.where(known, self.given.x, self._usual)
        found = self._known(known)
        return found, torch.where(found, encoding.encode(filled), self.pilot[:1])

    def _entries(self, known: Tensor) -> Tensor:
        """Entries of the state that follow from given cells: bool `(n, columns)` to `(n, *state)`."""
        return self.trained.model.sde.known_entries(self._known(known))

    def _known(self, given: Tensor) -> Tensor:
        """Encoded columns that follow from given cells, and the marks "not missing" if no cell may be missing."""
        found = self.trained.encoding.known(given)
        if not self.given.complete:
            return found
        return found | torch.tensor([output.mark for output in self.trained.encoding.outputs(given.shape[1])])

    @cached_property
    def _usual(self) -> Tensor:
        """A value of each column that is not missing, of the first sample that has one."""
        rows = self.trained.encoding.decode(self.pilot)
        first = (~rows.isnan()).int().argmax(0, keepdim=True)
        return rows.gather(0, first)

    def _shown(self, column: int, value: float) -> str:
        """A value as users write it."""
        names = column_names(self.trained)
        row = torch.zeros(1, len(names))
        row[0, column] = value
        try:
            return str(from_numbers(row, names, self.trained.encoding.types).column(column).cast(pa.string())[0].as_py())
        except RunError:  # a date that no calendar has
            return f"{value:g}, as a code,"

    def _check(self) -> None:
        names, sde, known = column_names(self.trained), self.trained.model.sde, self.given.known
        self._check_categories()
        found, encoded = self._encoded
        allowed = sde.support.check(encoded)
        refused = found & ~encoded.isfinite() | (found & ~allowed if allowed.shape == found.shape else ~allowed[:, None])
        sources = self.trained.encoding.sources(len(names))
        if refused.any():
            row, place = refused.nonzero()[0].tolist()
            column = sources[place]
            value = self._shown(column, float(self.given.x[row, column]))
            count = int(refused.sum())
            raise DataError(
                f"{count} given value{'s lie' if count > 1 else ' lies'} outside the support of the model, the first is {value} in column "
                f"'{names[column]}'.",
                f"Give values like those of the data, such as {self._shown(column, float(self._usual[0, column]))}.",
            )
        entries, usual = self._entries(known), self._usual[0]
        for i in known.any(0).nonzero().flatten().tolist():
            rows = known[:, i]
            if i not in sources:
                if (self.given.x[rows, i] != usual[i]).any():
                    raise DataError(
                        f"The column '{names[i]}' is always {self._shown(i, float(usual[i]))}, so another value has probability 0.",
                        "Leave it out.",
                    )
                continue
            without = known.clone()
            without[:, i] = False
            if not (entries & ~self._entries(without)).flatten(1).any(1)[rows].all():
                raise DataError(
                    f"A value of '{names[i]}' alone does not fix any coordinate, because the column is tied to others.",
                    "Give the columns that it is tied to as well, or an interval.",
                )
            if len(known) == 1 and i not in self.trained.encoding.categories:
                self._check_rarity(names[i], i)

    def _check_categories(self) -> None:
        """Refuse values of categories that the data did not have, numbers that were trained as categories among them."""
        for i, values in self.trained.encoding.category_values.items():
            given = self.given.x[self.given.known[:, i], i].double()
            unknown = given[(~torch.isin(given, torch.tensor(values, dtype=torch.float64))) & ~given.isnan()]
            if len(unknown):
                raise DataError(
                    f"The column '{column_names(self.trained)[i]}' is one of categories, and the data do not have the value "
                    f"{self._shown(i, float(unknown[0]))}.",
                    f"Give one of {shortened(self._shown(i, value) for value in values)}, or an interval LOW..HIGH that holds some.",
                )

    def _check_rarity(self, name: str, column: int) -> None:
        sde = self.trained.model.sde
        alone = torch.zeros_like(self.given.known)
        alone[:, column] = True
        mask = self._entries(alone)[0].flatten()
        z, samples = (sde.encode(x.double()).flatten(1)[:, mask] for x in (self._encoded[1], self.pilot))
        beyond = (z < samples.amin(0)) | (z > samples.amax(0))
        away = float(((z - samples.mean(0)).abs() / samples.std(0).clamp_min(1e-12) * beyond).amax()) if mask.any() else 0.0
        chance = math.erfc(away / math.sqrt(2))
        if chance < _RAREST:
            value = float(self.given.x[0, column])
            often = f"less than one row in 10^{math.floor(-math.log10(chance))}" if chance > 0 else "no row"
            raise DataError(
                f"{name}={self._shown(column, value)} is {away:.1f} standard deviations from the samples of the model, where {often} lies.",
                "Give a value that occurs in the data.",
            )
