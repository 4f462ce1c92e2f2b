"""Papers: every built-in plugin that cites one names it, and every entry can be read."""

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import sdezoo_plugins
from sdezoo.errors import PluginError
from sdezoo.runs.citations import cite, entries, read
from sdezoo.zoo.registry import REGISTRIES, SDES

KINDS = ("sdes", "losses", "samplers", "networks")
BUILT_IN = [(kind, name) for kind in KINDS for name in REGISTRIES[kind].names() if REGISTRIES[kind].entries(name)[0].provider == "sdezoo"]
BUILT_IN += [("tasks", "latent-paths"), ("tasks", "paths")]
FILE = Path(sdezoo_plugins.__file__).parent / "references.bib"
CITED = re.compile(r"\d{4}\.\d{5}|\((19|20)\d\d\)|[A-Z]\w+ (19|20)\d\d\b")


def docstring(kind, name):
    spec = importlib.util.find_spec(REGISTRIES[kind].entries(name)[0].module)
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


@pytest.mark.parametrize(("kind", "name"), BUILT_IN)
def test_who_cites_a_paper_names_it(kind, name):
    text, papers = docstring(kind, name), entries(REGISTRIES[kind], name)
    assert bool(papers) or not CITED.search(text)
    numbers = re.findall(r"\d{4}\.\d{5}", text)
    assert not numbers or any(numbers[0] in paper for paper in papers)


def test_entries_are_bibtex():
    """Balanced braces, one key each, and the fields without which no style can print an entry."""
    text = FILE.read_text(encoding="utf-8")
    parts = read(text)
    assert len(parts) == len(re.findall(r"^@", text, re.MULTILINE))
    for key, part in parts.items():
        assert re.fullmatch(r"@(article|book)\{[a-z]+\d{4}[a-z]+,\n(  \w+ = \{.*\},\n)*  \w+ = \{.*\}\n\}", part), key
        assert part.count("{") == part.count("}"), key
        fields = re.findall(r"^  (\w+) = ", part, re.MULTILINE)
        assert {"title", "author", "year"} <= set(fields), key
        assert len(fields) == len(set(fields)), key


def test_no_entry_is_unused():
    used = {paper for kind, name in BUILT_IN for paper in entries(REGISTRIES[kind], name)}
    assert used == set(read(FILE.read_text(encoding="utf-8")).values())


def test_papers_that_plugins_share_are_printed_once():
    found = cite(["gbm:sigma=0.8", "mult-dsm", "dale-langevin"])
    assert list(found.values()) == [["gbm", "mult-dsm", "dale-langevin"]]


def test_parts_of_a_product_are_cited():
    assert ["vp"] in cite(["product:gbm[price],(vp:beta_max=5)[age]"]).values()


def test_a_file_brings_its_papers(tmp_path):
    source = '''
from dataclasses import dataclass
from sdezoo_plugins.sdes.affine.vp import VP

@dataclass(frozen=True)
class Mine(VP):
    """Mine."""
    papers = ("@misc{me2020, title = {Mine}}", "%s")
'''
    file = tmp_path / "mine.py"
    file.write_text(source % "beside1999it")
    (tmp_path / "references.bib").write_text("@misc{other,\n}\n\n@misc{beside1999it,\n  title = {It}\n}\n")
    from sdezoo.zoo.registry import load_file

    load_file(file)
    try:
        assert entries(SDES, "mine") == ["@misc{me2020, title = {Mine}}", "@misc{beside1999it,\n  title = {It}\n}"]
        file.write_text(source % "nobody")
        load_file(file)
        with pytest.raises(PluginError, match="nobody"):
            entries(SDES, "mine")
    finally:
        SDES.remove("mine")


def test_a_run_stands_for_its_parts(tmp_path):
    (tmp_path / "config.yaml").write_text("task: score\ndata: spirals\nsde: vp\nloss: dsm\nnet: mlp\n")
    found = cite([str(tmp_path), "ddim"])
    assert {name for users in found.values() for name in users} == {"vp", "dsm", "mlp", "ddim"}


def test_a_run_on_paths_stands_for_its_task(tmp_path):
    (tmp_path / "config.yaml").write_text("data: paths.npz\ntask: latent-paths:size=2\n")
    assert any("2105.13493" in entry and users == ["latent-paths"] for entry, users in cite([str(tmp_path)]).items())
