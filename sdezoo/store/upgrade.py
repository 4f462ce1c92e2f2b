"""Upgrade run folders of earlier formats, so that old runs load, sample and resume.

Formats 2 and 3 are supported. Format 4 renamed settings and entries of the state without changing their meaning. It also stores the
encoding as a list of codecs with the column types, in place of a single affine map.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SETTINGS = {
    "times": "noise_levels",
    "drop": "label_dropout",
    "warm_up": "warmup_steps",
    "clip": "grad_clip_norm",
    "ema": "ema_half_life_images",
}
_STATE = {"held_out": "validation_loss"}
_MAP, _TYPES = "map", "types"


def upgrade_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the settings of an older `config.yaml` to their current names.

    Args:
        values: the contents of the file. Files of earlier formats contain every setting, so they are recognized by `warm_up`; all other
            files are returned unchanged.
    """
    if "warm_up" not in values:
        return dict(values)
    renamed = {_SETTINGS.get(key, key): value for key, value in values.items()}
    if renamed.get("net") == "mlp":  # its width was fixed then, and follows the data now
        renamed["net"] = "mlp:width=256"
    return {key: _upgraded_spec(value) for key, value in renamed.items()}


def upgrade_state(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the entries of an older `state.json` to the current format; those of a current file are returned unchanged.

    Args:
        values: the contents of the file.
    """
    renamed = {_STATE.get(key, key): _upgraded_spec(value) for key, value in values.items()}
    if isinstance(affine := renamed.pop(_MAP, None), Mapping):
        renamed["encoding"] = {"codecs": [{"codec": "affine", **affine}], "types": renamed.pop(_TYPES, [])}
    return renamed


def _upgraded_spec(value: Any) -> Any:
    """Rename `authors` in older spec strings to `paper`; both stand for arXiv 2510.02730."""
    if not isinstance(value, str):
        return value
    return value.replace("weighting=authors", "weighting=paper").replace("preset=authors", "preset=paper")
