"""Run folders of earlier formats hold today's state under other names."""

from typing import Any

import pytest
import torch

from sdezoo.data.encoding import Encoding
from sdezoo.store.upgrade import upgrade_state


@pytest.mark.parametrize("types", [{}, {"types": ["int64", "float64"]}], ids=["without types", "with types"])
def test_the_affine_map_becomes_an_encoding(types: dict[str, list[str]]) -> None:
    old: dict[str, Any] = {"step": 3, "map": {"scale": [2.0, 0.1], "shift": [0.0, -1e-300]}, "held_out": 0.5, **types}
    new = upgrade_state(old)
    assert new.keys() == {"step", "encoding", "validation_loss"}
    scale, shift = (torch.tensor(values, dtype=torch.float64) for values in old["map"].values())
    expected = Encoding.affine(scale, shift, tuple(types.get("types", [])))
    assert Encoding.from_json(new["encoding"]).types == expected.types
    x = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])
    assert torch.equal(Encoding.from_json(new["encoding"]).encode(x), expected.encode(x))
    assert upgrade_state(new) == new
    assert "encoding" not in upgrade_state({**old, "map": "damaged"})
