"""Tables: what people and machines read, and where it was measured."""

import json
from importlib.metadata import version

import torch

from sdezoo.bench import table
from sdezoo.bench.table import Table, machine

EXAMPLE = Table(
    "Speed",
    {"name": "", "added_us": ".1f", "unused": ".1f", "note": ""},
    [{"name": "a", "added_us": 12.34}, {"name": "bcd", "note": "none"}],
)


def test_a_table_shows_the_columns_that_hold_something():
    assert EXAMPLE.text().splitlines() == ["Speed", "  name  added us  note", "  a         12.3", "  bcd             none"]


def test_a_table_is_json():
    assert json.loads(json.dumps(EXAMPLE.record(), allow_nan=False)) == {"title": "Speed", "rows": [dict(row) for row in EXAMPLE.rows]}


def test_the_machine_is_described(monkeypatch):
    monkeypatch.setattr(table, "_LIBRARIES", ("torch", "no-such-library"))
    found = machine()
    assert found["cpus"] >= 1
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert found["torch"] == version("torch")
    assert found["no-such-library"] is None
