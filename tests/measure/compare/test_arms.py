"""Which recipe and stages an arm comes to, and what it may spend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from made import BASE, BOTH, POLICY, RWML, compare_recipe
from rwml.measure.compare.arms import arm_recipe, data_stages, equal_steps


def test_the_recipe_that_an_arm_comes_to() -> None:
    arm = {**BOTH, "set": {"train_wm.method": "sft", "filter.keep_probability": 0.5}}
    whole = compare_recipe(BASE, arm)
    found = arm_recipe(whole, whole.compare.arm("both"), 3)
    assert (found.seed, found.folder, found.name) == (3, Path("runs/x/s3/both"), "x-s3-both")
    assert (found.train_wm.method, found.filter.keep_probability) == ("sft", 0.5)
    assert found.compare.arms == ()
    same = {"seed": 3, "name": found.name, "out": found.out}
    changed = {"train_wm.method": "sft", "filter.keep_probability": 0.5}
    assert found == whole.with_settings(same | changed)
    assert whole.train_wm.method == "rwml"
    assert arm_recipe(whole, whole.compare.arm("both"), 3, steps=77).train_policy.steps == 77


@pytest.mark.parametrize(
    ("arm", "expected"),
    [
        (BASE, ()),
        (RWML, ("collect", "transitions", "filter")),
        (POLICY, ()),
        (BOTH, ("collect", "transitions", "filter")),
        ({**POLICY, "set": {"train_policy.start": "model", "train_policy.method": "sft"}}, ("collect",)),
        (
            {
                **POLICY,
                "set": {
                    "train_policy.start": "model", "train_policy.method": "sft", "train_policy.episodes": "expert",
                },
            },
            (),
        ),
        ({**RWML, "set": {"train_wm.method": "sft", "train_wm.branches": 2}}, ()),
    ],
)  # fmt: skip
def test_the_data_that_an_arm_needs_and_pays_for(arm: dict[str, Any], expected: tuple[str, ...]) -> None:
    arms = [BASE] if arm["name"] == "base" else [BASE, arm]
    whole = compare_recipe(*arms)
    found = whole.compare.arm(arm["name"])
    assert data_stages(arm_recipe(whole, found, 0), found) == expected


def test_equal_compute_by_hand() -> None:
    # 32 steps cost 240: 7.5 each. All of the other arm costs 18 + 60 + 132 + 240 = 450: 60 steps.
    reference = {"collect": 18.0, "filter": 60.0, "train_wm": 132.0, "train_policy": 240.0}
    assert equal_steps(reference, 32) == 60
    assert equal_steps(reference | {"filter": 61.0}, 32) == 61
    assert equal_steps({"train_policy": 240.0}, 32) == 32
