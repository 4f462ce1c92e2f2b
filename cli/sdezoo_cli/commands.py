"""The commands of `sdezoo`, and how Typer is to show them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer
from typer.core import TyperGroup

from sdezoo.errors import printable
from sdezoo_cli.advise import advise
from sdezoo_cli.bench import bench
from sdezoo_cli.check import check
from sdezoo_cli.cite import cite
from sdezoo_cli.evaluate import evaluate
from sdezoo_cli.export import export
from sdezoo_cli.impute import impute
from sdezoo_cli.list_plugins import list_plugins
from sdezoo_cli.new import new
from sdezoo_cli.panels import TRAINING, in_panels
from sdezoo_cli.paths import paths
from sdezoo_cli.report import report
from sdezoo_cli.sample import sample
from sdezoo_cli.show import show
from sdezoo_cli.train import train
from sdezoo_cli.verify import verify


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


app = typer.Typer(
    name="sdezoo",
    cls=_Commands,
    help="Score-based generative models in which the noise process is a plugin.",
    no_args_is_help=True,
    add_completion=False,
    epilog="Add --debug to any command to see the traceback of an error.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(in_panels(train, TRAINING))
app.command()(sample)
app.command()(impute)
app.command()(paths)
app.command()(evaluate)
app.command()(report)
app.command()(advise)
app.command()(export)
app.command("list")(list_plugins)
app.command()(show)
app.command()(check)
app.command()(cite)
app.command()(verify)
app.command()(new)
app.command()(bench)


def run(arguments: list[str]) -> None:
    """Run the command line and exit.

    Args:
        arguments: what follows `sdezoo`.

    Raises:
        SdezooError: for a user's mistake.
    """
    with _printable_warnings():
        app(args=arguments)
