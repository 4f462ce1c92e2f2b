"""The command `sdezoo`: registers the subcommands and prints errors."""

from __future__ import annotations

import sys

import typer

from sdezoo.errors import SdezooError
from sdezoo_cli.bench import bench
from sdezoo_cli.check import check
from sdezoo_cli.evaluate import evaluate
from sdezoo_cli.list_plugins import list_plugins
from sdezoo_cli.new import new
from sdezoo_cli.sample import sample
from sdezoo_cli.show import show
from sdezoo_cli.train import train
from sdezoo_cli.verify import verify

app = typer.Typer(
    name="sdezoo",
    help="Score-based generative models in which the noise process is a plugin.",
    no_args_is_help=True,
    add_completion=False,
    epilog="Add --debug to any command to see the traceback of an error.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(train)
app.command()(sample)
app.command()(evaluate)
app.command("list")(list_plugins)
app.command()(show)
app.command()(check)
app.command()(verify)
app.command()(new)
app.command()(bench)


def main() -> None:
    """Run the command line. An `SdezooError` prints two sentences on standard error and exits with code 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments)
    except SdezooError as error:
        if len(arguments) < len(sys.argv) - 1:
            raise
        sys.stderr.write(f"Error: {error.problem}\n       {error.remedy}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
