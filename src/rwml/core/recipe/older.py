"""Recipes as older versions wrote them: keys that moved are read under their new names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rwml.core.recipe.sections import TrainPolicyConfig

MOVED = {
    "train_wm.spin_rounds": "train_wm.spin.rounds",
    "train_wm.spin_beta": "train_wm.spin.beta",
}
"""{old key: new key}."""


def in_todays_words(data: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's data, from TOML or recipe.json, with every key of an older version under its new name.

    An old key stays if the new key is present as well, and is then refused as unknown: otherwise one value would be
    lost. `train_policy.max_steps` was a second limit next to `steps`; the smaller of the two becomes `steps`. Counts
    that were 0 for "all" are read by the sections themselves.
    """
    renewed = _copied(data)
    for old, new in MOVED.items():
        section, _, key = old.partition(".")
        if isinstance(renewed.get(section), dict) and key in renewed[section] and not _has(renewed, new):
            _set(renewed, new, renewed[section].pop(key))
    policy = renewed.get("train_policy")
    if isinstance(policy, dict) and "max_steps" in policy:
        limit, steps = policy.pop("max_steps"), policy.get("steps", TrainPolicyConfig().steps)
        if limit not in (0, None, "all"):
            policy["steps"] = min(limit, steps) if isinstance(limit, int) and isinstance(steps, int) else limit
    return renewed


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _has(data: Mapping[str, Any], key: str) -> bool:
    value: Any = data
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False
        value = value[part]
    return True


def _set(data: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    section: Any = data
    for part in parents:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            return  # reading the recipe says what is wrong with this section
    section[last] = value
