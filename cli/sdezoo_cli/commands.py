"""The commands of `sdezoo`, and how Typer is to show them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version as installed
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sdezoo.errors import printable
from sdezoo_cli.printing import say

COMMANDS: Mapping[str, str] = {
    **{name: f"runs.{name}" for name in ("train", "sample", "impute", "paths", "evaluate", "report", "advise", "export")},
    "list": "plugins.list_plugins",
    **{name: f"plugins.{name}" for name in ("show", "check", "cite", "verify", "new", "bench")},
}
"""The module of each command, whose function has the same name, in the order of the help. Only a command that is called is imported."""


class _Commands(TyperGroup):
    """The commands; what Typer says of a wrong argument is made printable, since the argument may be the name of somebody's file."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        with _printable_errors():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        with _printable_errors():
            return super().invoke(ctx)


@contextmanager
def _printable_errors() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if hasattr(error, "format_message"):  # an error of Typer's, or of click's: versions differ
            error.message = printable(error.message)  # pyright: ignore[reportAttributeAccessIssue]
        raise


@contextmanager
def _printable_warnings() -> Iterator[None]:
    """Make the warnings of libraries printable."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda *args, **kwargs: printable(before(*args, **kwargs))
    try:
        yield
    finally:
        warnings.formatwarning = before


def application(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """Build the command line.

    Args:
        names: the commands that it knows, keys of `COMMANDS`.

    Returns:
        The Typer application, a group of commands even if there is one.
    """
    app = typer.Typer(
        name="sdezoo",
        cls=_Commands,
        help="Score-based generative models in which the noise process is a plugin.",
        no_args_is_help=True,
        add_completion=False,
        epilog="Add --debug to any command to see the traceback of an error.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_group)
    for name in names:
        module = COMMANDS[name]
        app.command(name)(getattr(import_module(f"sdezoo_cli.{module}"), module.rpartition(".")[2]))
    return app


def _print_version(asked: bool) -> None:
    if asked:
        say(f"sdezoo {installed('sdezoo')}\n")
        raise typer.Exit


def _group(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    # Typer makes a group of a single command only if there is a callback. Its help is that of the application.
    pass


def run(arguments: list[str]) -> None:
    """Run the command line and exit.

    Args:
        arguments: what follows `sdezoo`.

    Raises:
        SdezooError: for a user's mistake.
    """
    named = arguments[:1]
    with _printable_warnings():
        application(named if named and named[0] in COMMANDS else COMMANDS)(args=arguments)
