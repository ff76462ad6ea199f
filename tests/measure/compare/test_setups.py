"""What an arm is examined and measured by follows from the recipe, and costs no model until it is used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.measure.compare.setups import exam_setup, examinee_of, measure_setup


def chat_recipe(**sections: Any) -> Recipe:
    return parse_recipe({"name": "r", "out": "runs/r", "world": {"name": "chat"}, **sections})


@pytest.mark.parametrize(
    "sections", [{"seed": 7}, {"transitions": {"history_steps": 3}}, {"model": {"path": "elsewhere"}}]
)
def test_kept_measures_are_of_the_settings_that_they_depend_on(sections: dict[str, Any]) -> None:
    assert measure_setup(chat_recipe(**sections)).depends_on != measure_setup(chat_recipe()).depends_on


def test_kept_measures_outlive_a_change_of_training() -> None:
    longer = chat_recipe(train_wm={"max_steps": 7}, train_policy={"learning_rate": 1e-3})
    assert longer != chat_recipe()
    assert measure_setup(longer).depends_on == measure_setup(chat_recipe()).depends_on


def test_an_exam_is_set_up_before_its_model_is_there(tmp_path: Path) -> None:
    recipe = chat_recipe(model={"path": str(tmp_path / "not-there")}, seed=7, transitions={"history_steps": 3})
    setup, examinee = exam_setup(recipe), examinee_of(recipe, "model", None)
    assert (setup.seed, setup.history_steps, setup.world.name, examinee.name) == (7, 3, "chat", "model")
    with pytest.raises(RwmlError, match="not-there"):
        examinee.load()
