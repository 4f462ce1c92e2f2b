"""`sdezoo cite`: print the papers behind plugins and runs."""

from __future__ import annotations

from typing import Annotated

import typer

from sdezoo_cli.options import Plugins, load_plugins
from sdezoo_cli.printing import say


def cite(
    names: Annotated[list[str], typer.Argument(metavar="RUN|NAME…", help="Run folders, and names of plugins, such as gbm.")],
    plugin: Plugins = None,
) -> None:
    """Print the BibTeX of the papers behind a run, or behind plugins.  Example: sdezoo cite runs/demo dpmpp-2m

    A run stands for its process, loss, network and task; add the sampler that you used.
    """
    load_plugins(plugin)
    from sdezoo.runs.citations import cite

    for entry, users in cite(names).items():
        say(f"% {', '.join(users)}\n{entry}\n\n" if entry else f"% no paper: {', '.join(users)}\n\n")
