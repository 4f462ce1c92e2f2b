"""The capability that a loss, a sampler or an output parameterization needs: declared once, checked when objects are composed."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar, get_args

from sdezoo.errors import CompositionError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.interpolant import SelfDecomposable
from sdezoo.process.process import Process
from sdezoo.process.sde import MatrixSDE

P = TypeVar("P", bound=Process)


class Requirement(Generic[P]):
    """A part that needs a capability of the process, its first type argument: `class Heun(Sampler[ForwardSDE])` sets `requires`."""

    requires: ClassVar[type[Process]] = Process
    """The capability: a class of processes."""

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base)[:1]:
                if isinstance(argument, type) and issubclass(argument, Process):
                    cls.requires = argument

    def refuses(self, sde: Process) -> str | None:
        """Why this does not work with `sde`, as a phrase that follows its name (`needs …`). None: it works."""
        if isinstance(sde, self.requires):
            return None
        return f"needs {vars(self.requires).get('in_words') or f'the process {self.requires.title()}'}"

    def require(self, sde: Process) -> None:
        """Check that this works with `sde`.

        Raises:
            CompositionError: if it does not, with the reason from `refuses`.
        """
        reason = self.refuses(sde)
        if reason:
            title = getattr(self, "name", "") or type(self).__name__
            raise CompositionError(f"'{title}' {reason}; '{sde.title()}' is not one.", "Choose a process that fits, or replace this part.")


def needs_multiplicative(sde: Process) -> str | None:
    """The phrase of `refuses` for parts that use the Hyvärinen score `x ∘ ∇ log p`. None: `sde` has one."""
    return None if sde.multiplicative else "needs an SDE on positive data with multiplicative noise"


def needs_number_noise(sde: Process) -> str | None:
    """The phrase of `refuses` for parts that multiply noise by one number for each entry. None: `sde` has such noise."""
    return "needs an SDE whose noise is a number for each entry" if isinstance(sde, MatrixSDE) else None


def needs_exact_increments(sde: Process) -> str | None:
    """The phrase of `refuses` for parts that draw increments of noise. None: those of `sde` are exact, or it has none."""
    reason = sde.inexact_increments if isinstance(sde, SelfDecomposable) else None
    return f"needs {reason}" if reason else None


def as_affine(sde: Process, what: str) -> AffineSDE:
    """Return `sde`, checked to be affine.

    Args:
        sde: a process.
        what: the part that needs an affine process, as the subject of the error message.

    Raises:
        CompositionError: if `sde` is not affine.
    """
    if not isinstance(sde, AffineSDE):
        raise CompositionError(f"{what} needs an affine SDE; '{sde.title()}' is not one.", "Choose an affine process.")
    return sde
