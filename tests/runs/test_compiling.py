"""A network that cannot be compiled is one sentence, in training as in sampling."""

from pathlib import Path

import pytest
import torch

from sdezoo.data.dataset import Data
from sdezoo.errors import RunError
from sdezoo.runs.train import train
from sdezoo.training.config import TrainingConfig
from sdezoo.training.loop import Training


def test_training_says_that_the_network_cannot_be_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo.exc import TorchDynamoException

    def fails(*_: object, **__: object) -> None:
        raise TorchDynamoException("no compiler\nand a long story")

    monkeypatch.setattr(Training, "run", fails)
    x = torch.rand(40, 2) + 1
    config = TrainingConfig.build(
        {"net": "mlp:width=8,depth=1", "steps": 2, "out": str(tmp_path / "run"), "compile": True, "device": "cpu"}
    )
    with pytest.raises(RunError, match=r"cannot be compiled here \(no compiler\)\. .*leave out --compile"):
        train(config, data=Data(x[:30], x[30:], "points"))
