"""What all world models share: answers without chance, scored answers, and how one is made by its name."""

from __future__ import annotations

import math

import pytest

from rwml.core.errors import RwmlError
from rwml.core.types import PredictedState, Query
from rwml.world_models.baselines import CopyLast
from rwml.world_models.world_model import (
    UNKNOWN,
    WORLD_MODELS,
    Materials,
    first_of_each,
    lacks,
    make_world_model,
    repeated,
    scored,
)
from rwml.worlds.base import World

QUERY = Query("e@3", "A room.", (), "look")


def test_a_world_model_without_chance_repeats_its_answer() -> None:
    assert repeated(QUERY, "A desk.", 3) == [PredictedState("e@3", "A desk.", "A desk.")] * 3
    assert repeated(QUERY, None, 2) == [PredictedState("e@3", "", None, reason=UNKNOWN)] * 2
    assert repeated(QUERY, "A desk.", 0) == []


def test_the_first_answer_of_each_query() -> None:
    groups = [[PredictedState(name, "", None), PredictedState(name, "x", "x")] for name in "ab"]
    assert first_of_each(groups) == [PredictedState("a", "", None), PredictedState("b", "", None)]


def test_a_scored_answer_has_figures_and_no_token_ids() -> None:
    state = PredictedState("e@3", "t", "s", truncated=True, prompt_tokens=5, completion_tokens=2, ids=(7, 8))
    assert math.isinf(state.distance)
    kept = scored(state, 0.25, 1)
    assert kept == PredictedState(
        "e@3", "t", "s", truncated=True, distance=0.25, reward=1.0, prompt_tokens=5, completion_tokens=2
    )
    assert (type(kept.distance), type(kept.reward)) == (float, float)


def test_world_models_are_made_by_name(world: World) -> None:
    assert {"language", "copy_last", "most_frequent", "beliefs", "engine"} <= set(WORLD_MODELS.names())
    model = make_world_model("copy_last", Materials(world))
    assert (type(model), model.name) == (CopyLast, "copy_last")
    with pytest.raises(RwmlError, match="copy_lst") as caught:
        make_world_model("copy_lst", Materials(world))
    assert "did you mean 'copy_last'" in str(caught.value)


def test_what_a_world_model_lacks_is_named(world: World) -> None:
    with pytest.raises(RwmlError) as caught:
        make_world_model("language", Materials(world))
    assert caught.value.what == "the world model 'language' needs a language model"
    assert str(caught.value) == str(lacks("language", "a language model", "name one in the section [model]"))
