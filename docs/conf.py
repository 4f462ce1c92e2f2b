"""Configuration of the documentation, built by `make docs`."""

import re
from importlib import import_module
from importlib.metadata import version as installed
from pathlib import Path
from pkgutil import iter_modules
from textwrap import indent
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from sdezoo.zoo.composition import defaults, support_in_words
from sdezoo.zoo.registry import SDES

project = "sdezoo"
author = "The sdezoo authors"
copyright = "2026, The sdezoo authors"  # noqa: A001
release = version = installed("sdezoo")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "jupyter_execute"]
default_role = "code"

html_theme = "furo"
html_title = f"sdezoo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
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


class Gallery(SphinxDirective):
    """`.. gallery::`: a card for every process that is installed: its paths, what it is, for which data, and how to train it."""

    def run(self) -> list[nodes.Node]:
        built = dict(defaults(SDES))
        cards = [self._card(name, support_in_words(built[name].support) if name in built else None) for name in SDES.names()]
        return self.parse_text_to_nodes(".. container:: cards\n\n" + indent("\n\n".join(cards), "   "))

    def _card(self, name: str, support: str | None) -> str:
        here = Path(self.env.srcdir)
        page = next((f"/{page}" for page in (f"zoo/{name}", name) if (here / f"{page}.md").is_file()), None)
        picture = (
            f".. image:: /zoo/{name}.png\n   :alt: Paths of {name}, forward and reverse" if (here / "zoo" / f"{name}.png").is_file() else ""
        )
        title = f":doc:`{name} <{page}>`" if page else f"**{name}**"
        words = re.sub(r"([*`|_\\])", r"\\\1", SDES.summary(name)[0])
        choice = f" --sde {name}" if support else ""
        command = f".. code-block:: console\n\n   $ sdezoo train{choice} --data FILE"
        parts = [picture, title, words, f"Data: {support}." if support else "Data: the columns of a table, each part its own.", command]
        return ".. container:: card\n\n" + indent("\n\n".join(filter(None, parts)), "   ")


def shapes(*docstring: Any) -> None:
    """In `(N, *event)` the star is no emphasis."""
    lines: list[str] = docstring[-1]
    outside = re.split(r"(`[^`]*`)", "\n".join(lines))
    outside[::2] = [re.sub(r"\*(?=\w+\))", r"\\*", text) for text in outside[::2]]
    lines[:] = "".join(outside).split("\n")


def metadata(_app: Sphinx, _kind: str, name: str, *_: Any) -> bool | None:
    """Leave out what scikit-learn adds to an estimator for its metadata routing."""
    return True if re.fullmatch(r"set_\w+_request", name) else None


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("modules", Modules)
    app.add_directive("gallery", Gallery)
    app.connect("autodoc-process-docstring", shapes)
    app.connect("autodoc-skip-member", metadata)
