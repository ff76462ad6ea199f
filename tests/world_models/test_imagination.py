"""Imagined courses: whose history is read, and against asking step by step."""

from __future__ import annotations

from dataclasses import replace

import torch

from made import Scripted, hand_episode
from rwml.core.recipe.recipe import ModelConfig
from rwml.loading import sampler_of
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.rollout import play_built_in, seats_for
from rwml.world_models.imagination import BEFORE, Imagination, Walk
from rwml.world_models.language import LanguageWorldModel
from rwml.world_models.world_model import CONTEXT, UNPARSED
from rwml.worlds.base import World

GREEDY = SamplingParams(max_new_tokens=24, temperature=0.0)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_history_is_real_before_the_walk_and_imagined_in_it(world: World) -> None:
    real = hand_episode(("a", "A"), ("b", "B"), ("", "Nothing."), ("c", "C"), ("d", "D"))
    asker = Scripted(lambda query, truth: truth.lower(), [real], world)
    (course,) = Imagination(asker, world).imagine([Walk(real, 1, 5)], generator())
    assert [query.history for query in asker.asked] == [
        ("a", "A"),
        ("a", "A", "b", "b", "", "Nothing."),
        ("a", "A", "b", "b", "", "Nothing.", "c", "c"),
    ]
    assert [(step.depth, step.next_state, step.row.next_state) for step in course] == [
        (1, "b", "B"),
        (2, "c", "C"),
        (3, "d", "D"),
    ]
    assert course[2].row.history == ("a", "A", "b", "B", "", "Nothing.", "c", "C"), "the record is the real one"
    short = Scripted(lambda query, truth: truth.lower(), [real], world)
    Imagination(short, world, history_steps=1).imagine([Walk(real, 1, 5)], generator())
    assert [query.history for query in short.asked] == [("a", "A"), ("", "Nothing."), ("c", "c")]


def test_a_walk_ends_where_an_answer_cannot_be_read(world: World, lm: LanguageModel) -> None:
    real = hand_episode(("a", "A"), ("b", "B"), ("c", "C"), ("d", "D"))
    asker = Scripted(lambda query, truth: None if query.action == "b" else truth, [real], world)
    (course,) = Imagination(asker, world).imagine([Walk(real, 0, 4)], generator())
    assert [(step.next_state, step.ended) for step in course] == [
        ("A", ""),
        (None, UNPARSED),
        (None, BEFORE),
        (None, BEFORE),
    ]
    assert [query.action for query in asker.asked] == ["a", "b"]
    narrow = LanguageWorldModel(lm, sampler_of(lm, ModelConfig()), world.prompts("brief"), GREEDY, max_context=1)
    (course,) = Imagination(narrow, world).imagine([Walk(real, 0, 2)], generator())
    assert [step.ended for step in course] == [CONTEXT, BEFORE]


def test_a_real_model_imagines_what_it_says_when_asked_step_by_step(lm: LanguageModel, world: World) -> None:
    model = LanguageWorldModel(lm, sampler_of(lm, ModelConfig()), world.prompts("brief"), GREEDY, 400)
    imagination = Imagination(model, world)
    episodes = play_built_in(world, seats_for(world.tasks("train")[:3], 1, 0), "noisy", 4)
    walks = [Walk(one, start, len(one.steps)) for one, start in zip(episodes, (0, 1, 0), strict=True)]
    courses = imagination.imagine(walks, generator())
    for walk, course in zip(walks, courses, strict=True):
        rows = imagination.rows(walk.episode)
        history = [text for step in walk.episode.steps[: walk.start] for text in (step.action, step.observation)]
        for number, step in enumerate(course):
            query = replace(rows[walk.start + number].query, history=tuple(history))
            [[state]] = model.predict([query], 1, generator())
            if step.ended == BEFORE:
                break
            assert step.next_state == state.next_state
            history += [query.action, step.next_state or ""]
    assert any(step.next_state for course in courses for step in course)
