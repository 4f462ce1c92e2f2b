"""What a loss, a sampler or an output parameterization asks of a process: declared once, checked when objects are composed."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar, get_args

from sdezoo.errors import CompositionError
from sdezoo.process.affine import AffineSDE
from sdezoo.process.interpolant import Interpolant
from sdezoo.process.process import Conditional, Denoised, Process, Supervised
from sdezoo.process.sde import ForwardSDE, Stationary

P = TypeVar("P", bound=Process)

_IN_WORDS: dict[type[Process], str] = {
    Process: "a process",
    Supervised: "a process that says what its network learns",
    Conditional: "a process whose conditional score is known",
    ForwardSDE: "an SDE (a drift and a diffusion)",
    Denoised: "a process whose network learns a denoiser",
    Interpolant: "data mixed with noise of some law (an interpolant)",
    Stationary: "an SDE whose reversal from its stationary law is known exactly",
    AffineSDE: "an affine SDE (Gaussian in its coordinates)",
}


class Requirement(Generic[P]):
    """Generic over the capability it needs: `class Heun(Sampler[ForwardSDE])` sets `requires` for people and for pyright alike."""

    requires: ClassVar[type[Process]] = Process

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            for argument in get_args(base):
                if isinstance(argument, type) and issubclass(argument, Process):
                    cls.requires = argument

    def refuses(self, sde: Process) -> str | None:
        """Why this does not work with `sde`, as a phrase that follows its name (`needs …`); None where it does."""
        if isinstance(sde, self.requires):
            return None
        return f"needs {_IN_WORDS.get(self.requires, f'the process {self.requires.title()}')}"

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
    if isinstance(sde, AffineSDE) and sde.multiplicative:
        return None
    return "needs an SDE on positive data with multiplicative noise"
