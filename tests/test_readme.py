"""What the README shows works as shown."""

import ast
import re
from pathlib import Path

import pytest

from sdezoo import SDES, TrainingConfig, load_file, sde_laws, train
from sdezoo.zoo.composition import table
from sdezoo.zoo.registry import REGISTRIES

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- tests/test_readme.py runs this -->\n```python\n(.*?)```", README, re.DOTALL)
PARTS, PROCESS, USE = EXAMPLES


def lines(*examples: str) -> int:
    return len([line for example in examples for line in example.splitlines() if line.strip()])


def test_the_example_runs() -> None:
    scope: dict[str, object] = {}
    exec(PARTS, scope)
    assert scope["wines"].shape == (1000, 13)  # pyright: ignore[reportAttributeAccessIssue]
    assert lines(PARTS) <= 20


def test_the_process_of_your_own_trains_and_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_sde.py").write_text(PROCESS, encoding="utf-8")
    assert lines(PROCESS, USE) <= 20
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {}
    try:
        exec(USE, scope)
        assert scope["points"].shape == (1000, 2)  # pyright: ignore[reportAttributeAccessIssue]
        assert 0.3 < scope["points"].std() < 0.7  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        SDES.remove("ornstein-uhlenbeck")


def test_the_process_of_your_own_trains_by_its_spec(tmp_path: Path) -> None:
    file = tmp_path / "my_sde.py"
    file.write_text(PROCESS, encoding="utf-8")
    assert load_file(file) == ["ornstein-uhlenbeck"]
    try:
        result = train(TrainingConfig(sde="ornstein-uhlenbeck:k=2.5", data="wine", steps=2, out=str(tmp_path / "run")))
        assert "ornstein-uhlenbeck:k=2.5" in (result.checkpoint / "state.json").read_text()
    finally:
        SDES.remove("ornstein-uhlenbeck")


def test_the_process_of_your_own_is_what_it_states(tmp_path: Path) -> None:
    file = tmp_path / "my_sde.py"
    file.write_text(PROCESS, encoding="utf-8")
    load_file(file)
    try:
        (law,) = [law for law in sde_laws("ornstein-uhlenbeck") if law.__name__ == "stated-equation"]
        law()
    finally:
        SDES.remove("ornstein-uhlenbeck")


@pytest.mark.parametrize("example", EXAMPLES, ids=["parts", "process", "use"])
def test_the_examples_import_the_public_face_alone(example: str) -> None:
    public = {"sdezoo", *(f"sdezoo.{face}" for face in REGISTRIES)}
    imported = [node.module or "" for node in ast.walk(ast.parse(example)) if isinstance(node, ast.ImportFrom)]
    assert "sdezoo" in imported
    assert {module for module in imported if module.startswith("sdezoo")} <= public


def test_the_table_is_what_the_registry_says() -> None:
    shown = README.partition("<!-- composition -->\n")[2].partition("\n<!-- /composition -->")[0]
    assert shown == table()
