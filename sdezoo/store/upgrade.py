"""Run folders of earlier formats: the names that have changed since, so that an old run opens, samples and resumes.

Formats 2 and 3 are read. Format 4 renamed settings and entries of the state; what they mean did not change. It holds the encoding of
the data as a list of codecs, where there was the one affine map, and the types of columns beside it.
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
    """The settings of a run's `config.yaml` under today's names.

    Args:
        values: what the file holds. A file of an earlier format holds every setting, `warm_up` among them; others stay as they are.
    """
    if "warm_up" not in values:
        return dict(values)
    renamed = {_SETTINGS.get(key, key): value for key, value in values.items()}
    if renamed.get("net") == "mlp":  # its width was fixed then, and follows the data now
        renamed["net"] = "mlp:width=256"
    return {key: _upgraded_spec(value) for key, value in renamed.items()}


def upgrade_state(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a `state.json` of an earlier format holds, under today's names; today's comes back as it is."""
    renamed = {_STATE.get(key, key): _upgraded_spec(value) for key, value in values.items()}
    if isinstance(affine := renamed.pop(_MAP, None), Mapping):
        renamed["encoding"] = {"codecs": [{"codec": "affine", **affine}], "types": renamed.pop(_TYPES, [])}
    return renamed


def _upgraded_spec(value: Any) -> Any:
    """Spec strings once called a choice after the authors of arXiv 2510.02730; it is called `paper`."""
    if not isinstance(value, str):
        return value
    return value.replace("weighting=authors", "weighting=paper").replace("preset=authors", "preset=paper")
