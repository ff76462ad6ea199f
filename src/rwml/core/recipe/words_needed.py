"""What a recipe asks for beyond being read: code that is not rwml's, servers, keys. Nothing is imported to find out."""

from __future__ import annotations

from collections.abc import Iterator

from rwml.core.guard.trust import Server, check_code, check_server
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.reward_names import may_ask_judge
from rwml.core.registry import is_code


def check_words(recipe: Recipe) -> None:
    """RwmlError where the recipe, or an arm of its comparison, needs a word that the user has not given.

    It is the first thing that every verb does with a recipe that it works on. Policies are looked up later, by the
    world that may know them; they need the same word (`core/registry.py`).
    """
    recipes = [recipe]
    recipes += [recipe.with_settings(arm.set) for arm in recipe.compare.arms if arm.set]
    check_code(dict.fromkeys(named for one in recipes for named in _code(one)))
    for one in recipes:
        asks = may_ask_judge(one.train_wm.reward) or one.train_policy.asks_judge
        if asks and one.judge.base_url:
            place = "judge.base_url"
            check_server(place, Server.of(place, one.judge.base_url, one.judge.api_key_env))


def _code(recipe: Recipe) -> Iterator[tuple[str, str]]:
    if recipe.model.trust_remote_code:
        yield "model.trust_remote_code = true with model.path", recipe.model.path
    reward = recipe.train_wm.reward
    named = [("world.name", recipe.world.name), ("model.sampler", recipe.model.sampler)]
    named += [("train_wm.reward", name) for name in ([reward] if isinstance(reward, str) else reward.values())]
    named += [("evaluate.baselines", name) for name in recipe.evaluate.baselines]
    named += [("measure.held_out", one.name) for one in recipe.measure.held_out]
    yield from ((place, name) for place, name in named if is_code(name))
