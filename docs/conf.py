"""Configuration of the documentation, built by `make docs`."""

import re
from importlib import import_module
from importlib.metadata import version as installed
from pkgutil import iter_modules
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

project = "sdezoo"
author = "The sdezoo authors"
copyright = "2026, The sdezoo authors"  # noqa: A001
release = version = installed("sdezoo")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "jupyter_execute"]
default_role = "code"

html_theme = "furo"
html_title = f"sdezoo {release}"

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 100
napoleon_numpy_docstring = False


class Modules(SphinxDirective):
    """`.. modules:: PACKAGE`: the reference of every module of a package, so that none has to be listed."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = self.arguments[0]
        names = [f"{package}.{module.name}" for module in iter_modules(import_module(package).__path__)]
        return self.parse_text_to_nodes("\n".join(f".. rubric:: {name}\n\n.. automodule:: {name}\n" for name in names))


def shapes(*docstring: Any) -> None:
    """In `(N, *event)` the star is no emphasis."""
    lines: list[str] = docstring[-1]
    outside = re.split(r"(`[^`]*`)", "\n".join(lines))
    outside[::2] = [re.sub(r"\*(?=\w+\))", r"\\*", text) for text in outside[::2]]
    lines[:] = "".join(outside).split("\n")


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("modules", Modules)
    app.connect("autodoc-process-docstring", shapes)
