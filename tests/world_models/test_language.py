"""A language model as a world model: against plain sampling and parsing, and where a question does not fit."""

from __future__ import annotations

import pytest
import torch

from rwml.core.prompts import parse_next_state
from rwml.core.recipe.recipe import ModelConfig
from rwml.core.types import Transition
from rwml.loading import sampler_of
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SamplingParams
from rwml.world_models.language import LanguageWorldModel, question_ids
from rwml.world_models.world_model import CONTEXT, UNPARSED
from rwml.worlds.base import World

PARAMS = SamplingParams(max_new_tokens=24)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


@pytest.fixture
def model(lm: LanguageModel, world: World) -> LanguageWorldModel:
    return LanguageWorldModel(lm, sampler_of(lm, ModelConfig()), world.prompts("brief"), PARAMS, 400)


def test_states_are_what_the_sampler_writes(model: LanguageWorldModel, rows: list[Transition]) -> None:
    queries = [row.query for row in rows[:6]]
    questions = [question_ids(model.lm.chat, model.prompts, query) for query in queries]
    groups = model.predict(queries, 3, generator())
    for query, question, group, completions in zip(
        queries, questions, groups, model.sampler.sample(questions, 3, PARAMS, generator()), strict=True
    ):
        for state, completion in zip(group, completions, strict=True):
            assert (state.transition, state.ids, state.truncated) == (query.id, completion.ids, completion.truncated)
            assert state.text == model.lm.chat.decode(completion.ids)
            assert state.next_state == parse_next_state(state.text, truncated=completion.truncated)
            assert state.reason == ("" if state.next_state is not None else UNPARSED)
            assert (state.prompt_tokens, state.completion_tokens) == (len(question), len(completion.ids))
    assert any(state.next_state for group in groups for state in group)
    assert groups == model.predict(queries, 3, generator()), "the generator is the only source of chance"


def test_a_question_that_does_not_fit_has_no_answer_and_changes_no_other(
    model: LanguageWorldModel, rows: list[Transition]
) -> None:
    queries = [row.query for row in rows[:4]]
    lengths = [len(question_ids(model.lm.chat, model.prompts, query)) for query in queries]
    longest = max(range(4), key=lengths.__getitem__)
    limit = max(length for n, length in enumerate(lengths) if n != longest) + PARAMS.max_new_tokens
    assert lengths[longest] + PARAMS.max_new_tokens > limit
    narrow = LanguageWorldModel(model.lm, model.sampler, model.prompts, PARAMS, limit)
    groups = narrow.predict(queries, 2, generator())
    assert [(state.next_state, state.reason, state.prompt_tokens) for state in groups[longest]] == [
        (None, CONTEXT, lengths[longest])
    ] * 2
    others = [n for n in range(4) if n != longest]
    alone = model.predict([queries[n] for n in others], 2, generator())
    assert [groups[n] for n in others] == alone
    assert narrow.predict([], 2, generator()) == []
