"""The documentation knows every law."""

from pathlib import Path

import pytest

from sdezoo.conformance.laws.loss_laws import LOSS_LAWS
from sdezoo.conformance.laws.sampler_laws import SAMPLER_LAWS
from sdezoo.conformance.laws.sde_laws import SDE_LAWS
from sdezoo.conformance.steering.architecture_laws import ARCHITECTURE_LAWS
from sdezoo.conformance.steering.guide_laws import GUIDE_LAWS
from sdezoo.conformance.steering.optimizer_laws import OPTIMIZER_LAWS

TEXT = (Path(__file__).parents[2] / "docs" / "laws.md").read_text(encoding="utf-8")
SECTIONS = {
    "Processes": SDE_LAWS,
    "Losses": LOSS_LAWS,
    "Samplers": SAMPLER_LAWS,
    "Guides": GUIDE_LAWS,
    "Optimizers": OPTIMIZER_LAWS,
    "Networks": ARCHITECTURE_LAWS,
}


@pytest.mark.parametrize("section", SECTIONS)
def test_every_law_is_explained(section):
    text = TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    listed = [name.strip(" `") for row in text.splitlines() if row.startswith("| `") for name in row.split("|")[1].split(",")]
    assert sorted(listed) == sorted(law.name for law in SECTIONS[section].laws)


@pytest.mark.parametrize("suite", SECTIONS.values(), ids=SECTIONS)
def test_every_law_states_itself(suite):
    for law in suite.laws:
        assert law.statement.endswith("."), law.name
    assert len({law.name for law in suite.laws}) == len(suite.laws)
