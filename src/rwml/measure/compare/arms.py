"""An arm of a comparison as an ordinary recipe: which stages it takes, under which settings, and at which cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rwml.core.recipe.compare import ArmConfig
from rwml.core.recipe.recipe import Recipe


def data_stages(recipe: Recipe, arm: ArmConfig) -> tuple[str, ...]:
    """The stages before training whose files this arm's training reads, in order. recipe: the arm's own. These stages
    count to the arm's cost; the base arm needs them only for the evaluation.
    """
    if "train_wm" in arm.stages and not recipe.train_wm.branches:
        return ("collect", "transitions", "filter")
    policy = recipe.train_policy
    own = "train_policy" in arm.stages and policy.method == "sft" and policy.episodes == "own"
    return ("collect",) if own else ()


def arm_recipe(recipe: Recipe, arm: ArmConfig, seed: int, steps: int = 0) -> Recipe:
    """The plain recipe of an arm under one seed, in its own folder. steps: of policy training, for an arm with the
    budget of another one.
    """
    folder = str(recipe.folder / f"s{seed}" / arm.name).replace("{", "{{").replace("}", "}}")
    settings: dict[str, Any] = {**arm.set, "seed": seed, "out": folder, "name": f"{recipe.name}-s{seed}-{arm.name}"}
    if steps:
        settings["train_policy.steps"] = steps
    return recipe.with_settings(settings, f"arm '{arm.name}'")


def equal_steps(reference: Mapping[str, float], reference_steps: int) -> int:
    """How many steps of policy training cost what a whole arm cost, by that arm's own price of a step; rounded up.

    reference: cost of each of its stages, `train_policy` among them, in tokens or seconds.
    """
    price = reference["train_policy"] / reference_steps
    assert price > 0, "policy training has a cost"
    return max(1, math.ceil(sum(reference.values()) / price - 1e-9))
