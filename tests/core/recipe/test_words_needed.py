"""What a recipe asks for beyond being read is found before anything of it is used, in its arms too."""

from __future__ import annotations

from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.recipe.words_needed import check_words

JUDGE = {"base_url": "http://judge.org/v1", "model": "m"}
ARMS = [{"name": "base"}, {"name": "a", "stages": ["train_wm"], "set": {"train_wm.reward": {"tool": "arm:Reward"}}}]


@pytest.mark.parametrize(
    ("data", "place", "name"),
    [
        ({"world": {"name": "os:system", "options": {"command": "false"}}}, "world.name", "os:system"),
        ({"model": {"sampler": "mine:Sampler"}}, "model.sampler", "mine:Sampler"),
        ({"model": {"trust_remote_code": True, "path": "org/name"}}, "model.path", "org/name"),
        ({"train_wm": {"reward": "mine:Reward"}}, "train_wm.reward", "mine:Reward"),
        ({"train_wm": {"reward": {"tool": "exact", "user": "mine:Reward"}}}, "train_wm.reward", "mine:Reward"),
        ({"evaluate": {"baselines": ["copy_last", "mine:Model"]}}, "evaluate.baselines", "mine:Model"),
        ({"measure": {"held_out": [{}, {"name": "mine:World"}]}}, "measure.held_out", "mine:World"),
        ({"compare": {"arms": ARMS}}, "train_wm.reward", "arm:Reward"),
    ],
)
def test_code_needs_a_word(data: dict[str, Any], place: str, name: str) -> None:
    recipe = parse_recipe({"name": "r", **data})
    with pytest.raises(RwmlError, match=f"{place} = '{name}'") as error:
        check_words(recipe)
    assert f"--allow-code {name}" in error.value.fix
    allow(code=[name])
    check_words(recipe)


@pytest.mark.parametrize(
    "data",
    [
        {"train_wm": {"reward": "judge"}},
        {"train_wm": {"reward": {"user": "judge_graded"}}},
        {"train_policy": {"method": "sft", "episodes": "reflections"}},
        {"compare": {"arms": [ARMS[0], {**ARMS[1], "set": {"train_wm.reward": "judge"}}]}},
    ],
)
def test_a_judge_elsewhere_needs_a_word(data: dict[str, Any]) -> None:
    for judge, word in ((JUDGE, {"hosts": ["judge.org"]}), (JUDGE | {"api_key_env": "K"}, {"keys": ["K@judge.org"]})):
        recipe = parse_recipe({"name": "r", "judge": judge, **data})
        with pytest.raises(RwmlError, match=r"judge.base_url would send .* to http://judge.org, which you have not"):
            check_words(recipe)
        allow(**word)
        check_words(recipe)


def test_what_asks_nobody_needs_no_word() -> None:
    check_words(parse_recipe({"name": "r", "judge": JUDGE | {"api_key_env": "HOME"}}))
    here = {"base_url": "http://localhost:8000/v1", "model": "m"}
    check_words(parse_recipe({"name": "r", "judge": here, "train_wm": {"reward": "judge"}}))
    check_words(parse_recipe({"name": "r", "collect": {"policy": "noisy:0.3"}, "evaluate": {"baselines": ["engine"]}}))
