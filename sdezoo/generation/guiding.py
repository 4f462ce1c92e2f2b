"""Guides of a trained model: which stand around which, and what they know."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdezoo.data.dataset import Data
from sdezoo.errors import CompositionError, DataError, ParameterError
from sdezoo.learning.model import Model
from sdezoo.learning.paths.simulated import is_simulated
from sdezoo.sampling.guide import Guide, Reference
from sdezoo.sampling.sampler import Sampler
from sdezoo.store.restoring import Trained
from sdezoo.zoo.registry import GUIDES


@dataclass(frozen=True, eq=False)
class Guides:
    """The guides of one command.

    Args:
        guides: from the inside to the outside.
        data: reads the training data of the run.
        observed: arrays by name, in the user's units: what was observed of the samples; None: nothing.
    """

    guides: tuple[Guide, ...] = ()
    data: Callable[[], Data] | None = None
    observed: Mapping[str, Tensor] | None = None
    _kept: dict[Any, dict[Any, Any]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        specs: Sequence[str],
        trained: Trained,
        data: Callable[[], Data] | None = None,
        observed: Mapping[str, Tensor] | None = None,
    ) -> Guides:
        """Build guides, and check that they fit the model and each other.

        Args:
            specs: spec strings, from the inside to the outside. The one that turns to a class is put inside all others.
            trained: the model.
            data: reads the training data of the run; None: there are none.
            observed: see `Guides`.

        Raises:
            SdezooError: if a guide is unknown, does not fit the process, or excludes another, or if what was observed is missing, or does
                not fit.
        """
        guides = [GUIDES.build(spec) for spec in specs]
        if guides and is_simulated(trained.model):
            raise ParameterError("Paths are simulated by the SDE that was learned, and nothing steers them.", "Leave out the guides.")
        for guide in guides:
            guide.require(trained.model.sde)
        twice = [name for name, count in Counter(guide.title() for guide in guides).items() if count > 1]
        if twice:
            raise ParameterError(f"The guide '{twice[0]}' is given twice.", "Give it once, with another weight.")
        turning = [guide.title() for guide in guides if guide.conditions]
        if len(turning) > 1:
            raise CompositionError(f"'{turning[0]}' and '{turning[1]}' both turn to the class that is asked for.", "Give one of them.")
        if data is None and (hungry := [guide.title() for guide in guides if guide.needs_rows]):
            raise ParameterError(
                f"'{hungry[0]}' needs the training rows, and there are none here.", "Sample from a run folder, or a model just fitted."
            )
        seeing = [guide for guide in guides if guide.observes]
        if seeing and observed is None:
            raise ParameterError(f"'{seeing[0].title()}' needs what was observed of the samples.", "Give it: --observed.")
        if observed is not None and not seeing:
            raise ParameterError(
                "No guide takes what was observed of the samples.",
                "Give --guide inpaint, or leave out --observed.",
            )
        taken = {name for guide in seeing for name in guide.observes}
        if unknown := [name for name in observed or () if name not in taken]:
            listed = ", ".join(f"'{guide.title()}' takes {' and '.join(guide.observes)}" for guide in seeing)
            raise DataError(f"No guide takes the observed array {unknown[0]}; {listed}.", "Rename it, or leave it out.")
        return cls(tuple(sorted(guides, key=lambda guide: not guide.conditions)), data, observed)

    @property
    def specs(self) -> tuple[str, ...]:
        """Spec strings of the guides, from the inside to the outside."""
        return tuple(guide.full_spec for guide in self.guides)

    def refuse_without_label(self, classes: int | None) -> None:
        """Check that no guide needs a label.

        Args:
            classes: number of classes of the model; None: it is unconditional.

        Raises:
            CompositionError: if one does, and the model is unconditional.
            ParameterError: if one does otherwise.
        """
        if turning := [guide for guide in self.guides if guide.conditions]:
            if classes is None:
                raise CompositionError(
                    f"'{turning[0].title()}' guides to a class, and this model is unconditional.",
                    "Train one with --condition labels, or leave out --guide.",
                )
            raise ParameterError(f"'{turning[0].title()}' has no label to guide to.", "Give a class: --label.")

    @property
    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, of what was observed; empty: nothing."""
        if self.observed is None:
            return ""
        digest = hashlib.sha256()
        for name, array in sorted(self.observed.items()):
            digest.update(f"{name} {tuple(array.shape)}".encode())
            digest.update(array.contiguous().numpy().data)
        return digest.hexdigest()

    def check(self, trained: Trained, sampler: Sampler, steps: int, rows: int) -> None:
        """Check that what was observed fits the model, for all rows at once.

        Args:
            trained: the model.
            sampler: the sampler of the samples.
            steps: its steps.
            rows: number of samples.

        Raises:
            SdezooError: if it does not.
        """
        for guide in self.guides:
            if guide.observes:
                every = range(min(rows, max((len(array) for array in (self.observed or {}).values() if array.ndim), default=1)))
                like = torch.empty(())
                alone = Guides((guide,), self.data, self.observed)
                alone.model(trained, sampler, steps, 0, None, like, every)

    def model(
        self, trained: Trained, sampler: Sampler, steps: int, seed: int, labels: Tensor | None, like: Tensor, indices: Sequence[int] = ()
    ) -> Model[Any]:
        """Put the guides around a model, for one batch.

        Args:
            trained: the model.
            sampler: the sampler of the samples, with which pilots are drawn.
            steps: its steps.
            seed: seed of the samples.
            labels: classes of the rows, `(B,)`; None: no label.
            like: gives dtype and device.
            indices: indices of the samples, `B` of them.
        """

        def rows(label: int | None) -> Tensor:
            assert self.data, "checked by `of`"
            data = self.data()
            x = data.train if label is None or data.train_labels is None else data.train[data.train_labels == label]
            return trained.encoding.encode(x).to(like.device)

        def at(depth: int, labels: Tensor | None, indices: Sequence[int]) -> Model[Any]:
            if depth == 0:
                bare = labels is None or any(guide.conditions for guide in self.guides)
                return trained.model if bare else trained.model.condition_on(labels)
            key = (depth, sampler, steps, seed)
            reference = Reference(
                lambda given, which: at(depth - 1, given, which),
                sampler,
                steps,
                trained.encoded_event,
                seed=seed,
                rows=rows if self.data else None,
                labels=labels,
                like=like,
                kept=self._kept.setdefault(key, {}),
                observed=self.observed,
                indices=indices,
                encoding=trained.encoding,
                features=trained.model.network_features,
            )
            return self.guides[depth - 1].around(at(depth - 1, labels, indices), reference)

        return at(len(self.guides), labels, indices)


NO_GUIDES = Guides()
