"""The Inception network of published FIDs, if it is installed and its weights are on the disk. Nothing is downloaded.

torchmetrics reads the weights from a pickle. Only the published file is passed to it, verified by its SHA-256.
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
"""File name under which torchmetrics keeps the weights, in torch's checkpoint folder."""

SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""Checksum of the published weights."""

_CHUNK = 32


class Inception:
    """Features `(n, 2048)` of torchmetrics' Inception-v3.

    Raises:
        RunError: if the weights are not on the disk or are not the published ones, or torchmetrics cannot be loaded.
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
        """Return the features, `(n, 2048)`, of images `(n, C, H, W)` in [0, 1].

        Images of fewer than three channels are taken as grey: their first channel is repeated. Of more channels the first three are used.
        """
        coloured = images.float() if images.shape[1] >= 3 else images[:, :1].float().expand(-1, 3, -1, -1)
        pixels = (coloured[:, :3].clamp(0, 1) * 255).round().to(torch.uint8)
        with torch.no_grad():
            return torch.cat([self._net(part) for part in pixels.split(_CHUNK)]).double().numpy()
