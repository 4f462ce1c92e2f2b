"""Networks that `torch.compile` cannot compile: one sentence in place of the compiler's traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sdezoo.errors import RunError


def refusal(error: Exception) -> RunError:
    """Build the error for a network that cannot be compiled.

    Args:
        error: what the compiler raised.
    """
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or [type(error).__name__]
    return RunError(
        f"The network cannot be compiled here ({lines[0].rstrip('.')}).",
        "Install what is missing, such as a C++ compiler (g++), or leave out --compile.",
    )


@contextmanager
def compiling(compiled: bool) -> Iterator[None]:
    """Turn errors of the compiler in the block into `refusal`.

    Args:
        compiled: whether a network is compiled; else the compiler is not loaded.

    Raises:
        RunError: if the network cannot be compiled.
    """
    if not compiled:
        yield
        return
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        raise refusal(error) from error
