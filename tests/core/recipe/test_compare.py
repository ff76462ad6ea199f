"""The arms of a comparison: what is refused when the recipe is read, and which recipe and stages an arm comes to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.compare import arm_recipe, data_stages, equal_steps
from rwml.core.recipe.recipe import Recipe, parse_recipe

BASE: dict[str, Any] = {"name": "base"}
RWML: dict[str, Any] = {"name": "rwml", "stages": ["train_wm"]}
POLICY: dict[str, Any] = {"name": "policy", "stages": ["train_policy"], "set": {"train_policy.start": "model"}}
BOTH: dict[str, Any] = {"name": "both", "stages": ["train_wm", "train_policy"]}


def recipe(*arms: dict[str, Any], **compare: Any) -> Recipe:
    return parse_recipe({"name": "x", "out": "runs/x", "compare": {"arms": [*arms], **compare}})


@pytest.mark.parametrize(
    ("arms", "what", "fix"),
    [
        ([BASE, {**RWML, "stage": ["train_wm"]}], "unknown key 'compare.arms.stage'", "did you mean 'stages'?"),
        ([BASE, {**RWML, "stages": ["train-wm"]}], "compare.arms.1.stages.0 = 'train-wm'", "allowed value"),
        ([BASE, {**RWML, "set": {"train_wm.epoch": 1}}], "unknown key 'train_wm.epoch'", "did you mean 'epochs'?"),
        ([BASE, {**RWML, "set": {"train_wm": {"epochs": 1}}}], "the whole section 'train_wm'", '"train_wm.key" ='),
        ([BASE, {**RWML, "set": {"evaluate.seeds": [1]}}], "'evaluate.seeds', which an arm cannot", "an arm sets"),
        ([BASE, {**RWML, "set": {"seed": 1}}], "'seed', which an arm cannot change", "whole recipe"),
        ([BASE, {**RWML, "set": {"train_wm.epochs": 0}}], "train_wm.epochs = 0 is not valid", "allowed value"),
        ([BASE, RWML, RWML], "two arms are called 'rwml'", "another name"),
        ([BASE, {**RWML, "name": "evaluation"}], "called 'evaluation'", "another name"),
        ([RWML], "names the arm 'base', which is not there", "known: rwml"),
        ([BASE, {**RWML, "against": ["bas"]}], "names the arm 'bas'", "did you mean 'base'?"),
        ([BASE, {**RWML, "stages": []}], "stages = []", "at least one stage"),
        ([{**BASE, "set": {"train_wm.epochs": 1}}], "set = {'train_wm.epochs': 1}", "no settings"),
        ([BASE, {**POLICY, "set": {}}], "from the world model, which this arm does not train", '"train_policy.start"'),
        ([BASE, RWML, {**POLICY, "compute": "rwml"}], "compute = 'rwml' does not fit", "steps of its own"),
    ],
)
def test_a_wrong_arm_is_refused_when_the_recipe_is_read(arms: list[dict[str, Any]], what: str, fix: str) -> None:
    with pytest.raises(RwmlError) as caught:
        recipe(*arms)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_seed_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RwmlError, match="names a seed twice"):
        recipe(BASE, seeds=[0, 1, 0])


def test_the_arms_that_run() -> None:
    equal = {**POLICY, "name": "equal", "compute": "both", "enabled": False}
    whole = recipe(RWML, {**equal}, BASE, BOTH).compare
    assert [arm.name for arm in whole.chosen()] == ["base", "rwml", "both"]
    # An arm brings the base arm and the one that sets its cost, which runs before it.
    assert [arm.name for arm in whole.chosen(["equal"])] == ["base", "both", "equal"]
    with pytest.raises(RwmlError, match="no arm 'rmwl'"):
        whole.chosen(["rmwl"])


def test_the_recipe_that_an_arm_comes_to() -> None:
    arm = {**BOTH, "set": {"train_wm.method": "sft", "filter.keep_probability": 0.5}}
    whole = recipe(BASE, arm)
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
    whole = recipe(*arms)
    found = whole.compare.arm(arm["name"])
    assert data_stages(arm_recipe(whole, found, 0), found) == expected


def test_equal_compute_by_hand() -> None:
    # 32 steps cost 240: 7.5 each. All of the other arm costs 18 + 60 + 132 + 240 = 450: 60 steps.
    reference = {"collect": 18.0, "filter": 60.0, "train_wm": 132.0, "train_policy": 240.0}
    assert equal_steps(reference, 32) == 60
    assert equal_steps(reference | {"filter": 61.0}, 32) == 61
    assert equal_steps({"train_policy": 240.0}, 32) == 32
