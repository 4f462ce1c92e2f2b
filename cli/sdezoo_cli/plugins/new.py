"""`sdezoo new`: write a working plugin package to start from."""

from __future__ import annotations

import ast
import importlib.util
import keyword
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from sdezoo_cli.printing import say

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class _Kind:
    registry: str
    """Key in `REGISTRIES`."""
    article: str
    use: str
    """A command that uses such a plugin, up to its name."""


_KINDS = {
    "sde": _Kind("sdes", "an", "sdezoo train --sde"),
    "loss": _Kind("losses", "a", "sdezoo train --loss"),
    "sampler": _Kind("samplers", "a", "sdezoo sample RUN --out samples.png --sampler"),
    "guide": _Kind("guides", "a", "sdezoo sample RUN --out samples.png --guide"),
    "optimizer": _Kind("optimizers", "an", "sdezoo train --optimizer"),
}


def _listed(forms: dict[str, str]) -> str:
    return "; ".join(f"{form}, {what}" for form, what in forms.items())


SDE_FORMS = {
    "affine": "Gaussian in some coordinates",
    "sde": "given by drift and diffusion only",
    "interpolant": "data mixed with noise of any distribution",
    "conditional": "an SDE whose transition density is known",
}
"""Values of `--kind`, with their descriptions. Each has a template of the same name."""


def new(
    kind: Annotated[str, typer.Argument(help="sde, loss, sampler, guide or optimizer.", show_default=False)],
    name: Annotated[str, typer.Argument(help="Name of the plugin in kebab case, for example my-process.", show_default=False)],
    into: Annotated[Path, typer.Option(help="Parent folder of the new package.")] = Path(),
    form: Annotated[
        str | None,
        typer.Option(
            "--kind", metavar="|".join(SDE_FORMS), help=f"Kind of SDE: {_listed(SDE_FORMS)}. Default: affine.", show_default=False
        ),
    ] = None,
) -> None:
    """Write a plugin package with tests, ready to install.  Example: sdezoo new sde my-process"""
    from sdezoo.errors import ParameterError, PluginError
    from sdezoo.zoo.spec import suggestion

    if kind not in _KINDS:
        raise PluginError(f"There is no template for a plugin of kind '{kind}'.", suggestion(kind, _KINDS))
    if form is not None and kind != "sde":
        raise ParameterError(f"--kind applies to an sde only, not to a {kind}.", "Omit --kind.")
    if form is not None and form not in SDE_FORMS:
        raise ParameterError(f"There is no template for an sde of kind '{form}'.", suggestion(form, SDE_FORMS))
    texts = _texts(kind, name, (form or "affine") if kind == "sde" else kind)
    folder = into / f"sdezoo-{name}"
    _write(folder, texts)
    say(
        f"Wrote the {kind} '{name}'. It works as it is; change it into yours:\n"
        + "".join(f"  {folder / path}\n" for path in texts)
        + "Next steps:\n"
        + f"  cd {shlex.quote(str(folder))} && pip install -e '.[test]'\n"
        + "  pytest\n"
        + f"  sdezoo check {name}\n"
    )


def _texts(kind: str, name: str, template: str) -> dict[str, str]:
    """The files of the package, path to text, the plugin module first."""
    from sdezoo.errors import PluginError
    from sdezoo.zoo.registry import REGISTRIES

    made, registry, remedy = _KINDS[kind], REGISTRIES[_KINDS[kind].registry], "Choose another name."
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        raise PluginError(f"'{name}' is not a name in kebab case.", "Use lower-case letters, digits and hyphens, for example my-process.")
    cls, module = "".join(part.capitalize() for part in name.split("-")), f"sdezoo_{name.replace('-', '_')}"
    if name in registry.names():
        raise PluginError(
            f"{made.article.capitalize()} {registry.kind} '{name}' exists already, in {registry.entries(name)[0].provider}.", remedy
        )
    if importlib.util.find_spec(module):
        raise PluginError(f"A Python module '{module}' is installed already.", remedy)
    words = {
        "kind": kind,
        "kinds": made.registry,
        "group": registry.group,
        "article": made.article.capitalize(),
        "noun": registry.kind,
        "name": name,
        "cls": cls,
        "module": module,
        "distribution": f"sdezoo-{name}",
        "use": f"{made.use} {name}",
    }
    plugin = _filled(f"{template}.py", words)
    if keyword.iskeyword(name) or keyword.iskeyword(cls) or cls in _imported(plugin):
        raise PluginError(f"'{name}' or its class name {cls} is already taken in Python or in the plugin module.", remedy)
    return {
        f"{module}.py": plugin,
        "tests/test_laws.py": _filled("test_laws.py", words),
        "pyproject.toml": _filled("pyproject.toml", words),
        "README.md": _filled("README.md", words),
        ".gitignore": _filled("gitignore", words),
    }


def _filled(template: str, words: dict[str, str]) -> str:
    return Template((_TEMPLATES / f"{template}.template").read_text(encoding="utf-8")).substitute(words)


def _imported(text: str) -> set[str]:
    statements = (node for node in ast.parse(text).body if isinstance(node, ast.Import | ast.ImportFrom))
    return {alias.asname or alias.name for statement in statements for alias in statement.names}


def _write(folder: Path, texts: dict[str, str]) -> None:
    """Write all files or none; never overwrite."""
    from sdezoo.errors import RunError

    if os.path.lexists(folder):
        raise RunError(f"'{folder}' exists already.", "Choose another name or --into, or move it away.")
    if not folder.parent.is_dir():
        raise RunError(f"The folder '{folder.parent}' does not exist.", "Create it first, or choose another --into.")
    try:
        with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
            whole = Path(beside) / folder.name
            for path, text in texts.items():
                (whole / path).parent.mkdir(parents=True, exist_ok=True)
                (whole / path).write_text(text, encoding="utf-8")
            whole.rename(folder)
    except OSError as error:
        raise RunError(f"'{folder}' cannot be written: {error.strerror or error}.", "Choose another --into.") from error
