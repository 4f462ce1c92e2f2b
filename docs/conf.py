"""Configuration of the documentation, built by `make docs`."""

import re
from importlib import import_module
from importlib.metadata import version as installed
from pathlib import Path
from pkgutil import iter_modules
from shlex import quote
from textwrap import indent
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from sphinx.util.logging import getLogger
from sphinx.writers.html5 import HTML5Translator

from sdezoo.learning.paths.observed import LearnedSDE
from sdezoo.process.bridge import Bridge
from sdezoo.process.process import Process
from sdezoo.zoo.composition import defaults, support_in_words
from sdezoo.zoo.registry import SDES

project = "sdezoo"
author = "The sdezoo authors"
copyright = "2026, The sdezoo authors"  # noqa: A001
release = version = installed("sdezoo")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_copybutton"]
exclude_patterns = ["_build", "jupyter_execute"]
default_role = "code"

html_theme = "furo"
html_math_renderer = "mathml"
html_title = f"sdezoo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist"]
myst_heading_anchors = 3

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_output_stderr = "remove"
nb_execution_in_temp = True

autodoc_member_order = "bysource"
autodoc_typehints = "both"
autodoc_typehints_description_target = "documented_params"
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
        cards = [self._card(name, built.get(name)) for name in SDES.names()]
        return self.parse_text_to_nodes(".. container:: cards\n\n" + indent("\n\n".join(cards), "   "))

    def _card(self, name: str, sde: Process | None) -> str:
        here = Path(self.env.srcdir)
        page = self._page(here, name)
        drawn = [
            f".. image:: /{file.relative_to(here).as_posix()}\n   :alt: Paths of {name}" for file in here.glob(f"pictures/*/{name}.png")
        ]
        title = f":doc:`{name} <{page}>`" if page else f"**{name}**"
        summary = SDES.summary(name)[0]
        words = re.sub(
            r"(`[^`]*`)|(--[\w-]+)|([*|_\\])", lambda found: found[1] or (f"`{found[2]}`" if found[2] else f"\\{found[3]}"), summary
        )
        data = f"Data: {support_in_words(sde.support)}." if sde else ""
        parts = [*drawn, title, words, data, f".. code-block:: console\n\n   $ {self._command(name, summary, sde)}"]
        return ".. container:: card\n\n" + indent("\n\n".join(filter(None, parts)), "   ")

    @staticmethod
    def _page(here: Path, name: str) -> str | None:
        """The page whose title names the process."""
        for file in sorted(here.glob("zoo/*/*.md")):
            if file.stem == name or f"`{name}`" in file.read_text(encoding="utf-8").partition("\n")[0]:
                return f"/{file.relative_to(here).with_suffix('').as_posix()}"
        return None

    def _command(self, name: str, summary: str, sde: Process | None) -> str:
        """What trains it: by the spec string of its summary if it has no defaults, and between two data sets if it has two ends. What is
        learned of paths is trained by its task."""
        if issubclass(SDES.load(name), LearnedSDE):
            return "sdezoo train --task paths --data FILE"
        given = re.search(rf"{name}:[^\s.]+", summary)
        spec = given[0] if given and sde is None else name
        return f"sdezoo train --sde {quote(spec)} --data FILE" + (" --target OTHER" if isinstance(sde, Bridge) else "")


def shapes(*docstring: Any) -> None:
    """In `(N, *event)` the star is no emphasis."""
    lines: list[str] = docstring[-1]
    outside = re.split(r"(`[^`]*`)", "\n".join(lines))
    outside[::2] = [re.sub(r"\*(?=\w+\))", r"\\*", text) for text in outside[::2]]
    lines[:] = "".join(outside).split("\n")


def without_words(_app: Sphinx, _kind: str, name: str, member: Any, *_: Any) -> bool | None:
    """Leave out what scikit-learn adds to an estimator for its metadata routing, and fields of tuples, which `Args:` describes."""
    field = str(getattr(member, "__doc__", "")).startswith("Alias for field number")
    return True if field or re.fullmatch(r"set_\w+_request", name) else None


def with_source(app: Sphinx) -> list[Any]:
    """Leave out of the index of sources what has none, such as `builtins`: its link would lead nowhere."""
    modules = getattr(app.env, "_viewcode_modules", {})
    for name in [name for name, source in modules.items() if not source]:
        del modules[name]
    return []


def mathml(translator: HTML5Translator, node: nodes.math | nodes.math_block) -> None:
    """Write a formula as MathML, which browsers draw without a script and without a network."""
    block = isinstance(node, nodes.math_block)
    try:
        # TeX takes single digits as arguments, `\tfrac12`; docutils takes the whole number.
        formula = tex2mathml(re.sub(r"(\\[tdc]?frac)\s*(\d)\s*(\d)", r"\1{\2}{\3}", node.astext()), as_block=block)
    except MathError as error:
        getLogger(__name__).warning("This formula cannot be written as MathML: %s", error, location=node)
        raise nodes.SkipNode from error
    translator.body.append(f'<div class="formula">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("modules", Modules)
    app.add_directive("gallery", Gallery)
    app.connect("autodoc-process-docstring", shapes)
    app.connect("autodoc-skip-member", without_words)
    app.connect("html-collect-pages", with_source, priority=400)
    app.add_html_math_renderer("mathml", (mathml, None), (mathml, None))
