"""What the README shows works as shown."""

import re
from pathlib import Path

from sdezoo import SDES
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.zoo.composition import table
from sdezoo.zoo.registry import load_file

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"<!-- tests/test_readme.py runs this -->\n```python\n(.*?)```", README, re.DOTALL)


def test_the_example_runs() -> None:
    scope: dict[str, object] = {}
    exec(EXAMPLES[0], scope)
    assert scope["wines"].shape == (1000, 13)  # pyright: ignore[reportAttributeAccessIssue]
    assert len([line for line in EXAMPLES[0].splitlines() if line.strip()]) <= 20


def test_the_process_of_your_own_trains(tmp_path: Path) -> None:
    file = tmp_path / "my_sde.py"
    file.write_text(EXAMPLES[1], encoding="utf-8")
    assert len([line for line in EXAMPLES[1].splitlines() if line.strip()]) <= 10
    assert load_file(file) == ["ornstein-uhlenbeck"]
    try:
        result = train(TrainingConfig(sde="ornstein-uhlenbeck:k=2.5", data="wine", steps=2, out=str(tmp_path / "run")))
        assert "ornstein-uhlenbeck:k=2.5" in (result.checkpoint / "state.json").read_text()
    finally:
        SDES.remove("ornstein-uhlenbeck")


def test_the_table_is_what_the_registry_says() -> None:
    shown = README.partition("<!-- composition -->\n")[2].partition("\n<!-- /composition -->")[0]
    assert shown == table()
