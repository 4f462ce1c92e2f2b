"""What a loss, a sampler or an output parameterization asks of a process: declared once, checked when objects are composed."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar, get_args

from sdezoo.errors import CompositionError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.process import Process

P = TypeVar("P", bound=Process)


class Requirement(Generic[P]):
    """Generic over the capability it needs, its first type argument: `class Heun(Sampler[ForwardSDE])` sets `requires`; pyright knows."""

    requires: ClassVar[type[Process]] = Process

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base)[:1]:
                if isinstance(argument, type) and issubclass(argument, Process):
                    cls.requires = argument

    def refuses(self, sde: Process) -> str | None:
        """Why this does not work with `sde`, as a phrase that follows its name (`needs …`); None where it does."""
        if isinstance(sde, self.requires):
            return None
        return f"needs {vars(self.requires).get('in_words') or f'the process {self.requires.title()}'}"

    def require(self, sde: Process) -> None:
        """Check `sde` once.

        Raises:
            CompositionError: with the reason of `refuses`.
        """
        reason = self.refuses(sde)
        if reason:
            title = getattr(self, "name", "") or type(self).__name__
            raise CompositionError(
                f"'{title}' {reason}; '{sde.title()}' is not one.", "Choose a process that fits, or something else for it."
            )


def needs_multiplicative(sde: Process) -> str | None:
    """The phrase for whatever is written in terms of the Hyvärinen score `x ∘ ∇ log p`; None where `sde` offers it."""
    return None if sde.multiplicative else "needs an SDE on positive data with multiplicative noise"


def as_affine(sde: Process, what: str) -> AffineSDE:
    """`sde`, for `what` works with affine processes alone.

    Raises:
        CompositionError: where it is not affine.
    """
    if not isinstance(sde, AffineSDE):
        raise CompositionError(f"{what} needs an affine SDE; '{sde.title()}' is not one.", "Choose a process that is.")
    return sde
