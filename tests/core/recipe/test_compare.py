"""The arms of a comparison: what is refused when the recipe is read, and which of them run."""

from __future__ import annotations

from typing import Any

import pytest

from made import BASE, BOTH, POLICY, RWML, compare_recipe
from rwml.core.errors import RwmlError


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
        ([BASE, RWML, {**POLICY, "compute": "rwml"}], "compute = 'rwml' does not fit", "its own number of steps"),
    ],
)
def test_a_wrong_arm_is_refused_when_the_recipe_is_read(arms: list[dict[str, Any]], what: str, fix: str) -> None:
    with pytest.raises(RwmlError) as caught:
        compare_recipe(*arms)
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_seed_that_is_named_twice_is_refused() -> None:
    with pytest.raises(RwmlError, match="names a seed twice"):
        compare_recipe(BASE, seeds=[0, 1, 0])


def test_the_arms_that_run() -> None:
    equal = {**POLICY, "name": "equal", "compute": "both", "enabled": False}
    whole = compare_recipe(RWML, {**equal}, BASE, BOTH).compare
    assert [arm.name for arm in whole.chosen()] == ["base", "rwml", "both"]
    # An arm brings the base arm and the one that sets its cost, which runs before it.
    assert [arm.name for arm in whole.chosen(["equal"])] == ["base", "both", "equal"]
    with pytest.raises(RwmlError, match="no arm 'rmwl'"):
        whole.chosen(["rmwl"])


def test_an_override_on_a_run_folder_is_checked_as_one_on_a_file() -> None:
    recipe = compare_recipe({"name": "base", "stages": []})
    with pytest.raises(RwmlError, match="names the arm 'nope'"):
        recipe.overridden(("compare.base=nope",))
