"""The Inception network of published FIDs, where it is installed and its weights are on the disk: nothing is downloaded.

torchmetrics reads these weights from a pickle. It is handed no other file than the published one, by its SHA-256.
"""

from __future__ import annotations

import hashlib
from importlib import import_module
from pathlib import Path

import torch
from torch import Tensor

from sdezoo.errors import RunError
from sdezoo.evaluation.rows import FloatArray

WEIGHTS = "weights-inception-2015-12-05-6726825d.pth"
"""The name under which torchmetrics keeps them, in torch's own folder of checkpoints."""

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Of the published weights."""

_CHUNK = 32


class Inception:
    """Features `(n, 2048)` of torchmetrics' Inception-v3.

    Raises:
        RunError: where the weights are not on the disk, or others than those published, or torchmetrics cannot be loaded.
    """

    def __init__(self) -> None:
        path = Path(torch.hub.get_dir()) / "checkpoints" / WEIGHTS
        if not path.is_file():
            raise RunError(
                f"There are no Inception weights '{path}', and nothing is downloaded.", "Put them there, or use --features classifier."
            )
        if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
            raise RunError(f"'{path}' does not hold the published Inception weights.", "Replace it, or use --features classifier.")
        try:
            source = import_module("torchmetrics.image.fid")
            self._net = source.NoTrainInceptionV3(
                name="inception-v3-compat", features_list=["2048"], feature_extractor_weights_path=str(path)
            )
        except (ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise RunError(
                f"torchmetrics with its image metrics cannot be loaded ({reason}).",
                'Install it: pip install "sdezoo[inception]", with a torchvision built for this torch.',
            ) from error

    def features(self, images: Tensor) -> FloatArray:
        """Features of images `(n, C, H, W)` in [0, 1]; grey ones are repeated as red, green and blue, of four channels three are taken."""
        coloured = images.float() if images.shape[1] >= 3 else images[:, :1].float().expand(-1, 3, -1, -1)
        pixels = (coloured[:, :3].clamp(0, 1) * 255).round().to(torch.uint8)
        with torch.no_grad():
            return torch.cat([self._net(part) for part in pixels.split(_CHUNK)]).double().numpy()
