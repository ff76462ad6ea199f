"""A chat template whose generation prompt opens the thought: labels, answers and play against text written by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from made import teach
from rwml.core.prompts import parse_next_state
from rwml.core.types import Transition
from rwml.measure.retention import _state_span
from rwml.models.chat import ChatFormat
from rwml.models.language_model import LanguageModel, load_language_model
from rwml.models.sampling.local import LocalSampler, local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.models.tiny import TEMPLATE
from rwml.playing.demonstrations import conversation, expert_episodes
from rwml.playing.rollout import LanguageModelPolicy, seats_for
from rwml.train.batches import label_trees
from rwml.world_models.language import LanguageWorldModel, label_ids, question_ids
from rwml.worlds.base import World

pytestmark = pytest.mark.slow  # trains a model for every case

OPENED = TEMPLATE.replace("'<|assistant|>' }}{% endif %}", "'<|assistant|><think>\\n' }}{% endif %}")
GREEDY = SamplingParams(max_new_tokens=40, temperature=0.0)
# What the model writes after `<think>\n` (after nothing), and what is read of it; TAG for the tag. The last one is read
# as it stands, but not where it is cut off before its end.
OPENED_SAYINGS: dict[str, str] = {
    "maybe <TAG>look</TAG>.\n</think>\n\n<TAG>inventory</TAG>": "inventory",
    "</think><TAG>inventory</TAG>": "inventory",
    "so <TAG>look</TAG>": "look",
}
CLOSED_SAYINGS: dict[str, str] = {
    "<think>maybe <TAG>look</TAG>.</think><TAG>inventory</TAG>": "inventory",
    "<TAG>inventory</TAG>": "inventory",
    "<think>so <TAG>look</TAG>": "look",
}


@pytest.fixture(params=["opened", "plain"])
def chosen(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def lm(model_folder: Path, chosen: str) -> LanguageModel:
    """The small model under a template that opens the thought, and under its own."""
    lm = load_language_model(model_folder, device="cpu")
    if chosen == "opened":
        lm.tokenizer.chat_template = OPENED
    return replace(lm, chat=ChatFormat(lm.tokenizer))


@pytest.fixture
def sayings(chosen: str) -> Callable[[str], dict[str, str]]:
    found = OPENED_SAYINGS if chosen == "opened" else CLOSED_SAYINGS
    return lambda tag: {text.replace("TAG", tag): said for text, said in found.items()}


def text_of(lm: LanguageModel, ids: list[int]) -> str:
    return str(lm.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def cut_before_the_stop(lm: LanguageModel, said: dict[str, str]) -> SamplingParams:
    """Room for the last saying, and none for the token that ends it."""
    return replace(GREEDY, max_new_tokens=len(lm.chat.text(list(said)[2])))


def test_a_label_goes_on_where_the_question_ends(
    lm: LanguageModel, world: World, rows: list[Transition], chosen: str
) -> None:
    prompts = world.prompts("brief")
    think = "<think>\n</think>" if chosen == "opened" else "<think></think>"
    for row in rows:
        question, label = question_ids(lm.chat, prompts, row), label_ids(lm.chat, row)
        message = text_of(lm, question + label).rpartition("<|assistant|>")[2]
        assert message == f"{think}<next_state>{row.next_state}</next_state><|end|>"
        assert parse_next_state(lm.chat.message_of(lm.chat.decode(label))) == row.next_state.strip()
        start, stop = _state_span(lm.chat, label)
        assert text_of(lm, label[start:stop]) == row.next_state
        [tree] = label_trees(lm, prompts, [row])
        assert tree.ids[tree.w_ce > 0].tolist() == label


def test_next_states_are_read_after_the_thought(
    lm: LanguageModel, world: World, rows: list[Transition], sayings: Callable[[str], dict[str, str]]
) -> None:
    prompts, said = world.prompts("brief"), sayings("next_state")
    asked = [row for row in rows if row.step == 0]
    assert len(asked) == len(said) == 3
    stop = lm.chat.to_user[:1]
    pairs = zip(asked, said, strict=True)
    teach(lm.model, [(question_ids(lm.chat, prompts, row), lm.chat.text(text) + stop) for row, text in pairs])
    sampler = local_sampler(lm)
    model = LanguageWorldModel(lm, sampler, prompts, GREEDY, 1000)
    queries = [row.query for row in asked]
    states = [state for [state] in model.predict(queries, 1, torch.Generator())]
    assert [(state.text, state.next_state) for state in states] == list(said.items())
    short = replace(model, params=cut_before_the_stop(lm, said))
    [[cut]] = short.predict(queries[2:], 1, torch.Generator())
    assert (cut.text, cut.next_state, cut.truncated) == (list(said)[2], None, True)


def test_actions_are_played_after_the_thought(
    lm: LanguageModel, world: World, sayings: Callable[[str], dict[str, str]]
) -> None:
    """One step each; then two steps with room for two tokens only, which may end inside the thought."""
    prompts, said, chat = world.prompts("brief"), sayings("action"), lm.chat
    seats = seats_for(world.tasks("train")[:3], 1, seed=0)
    openings = [world.env().reset(seat.task, seat.seed) for seat in seats]
    starts = [chat.opening(prompts.agent, opening) + chat.ask() for opening in openings]
    answers = [chat.text(text) + chat.to_user[:1] for text in said]
    teach(lm.model, list(zip(starts, answers, strict=True)))
    sampler = LocalSampler(lm.model, chat.stop_ids)
    games = LanguageModelPolicy(lm, sampler, prompts, GREEDY, 1, 1000).play(world, seats, torch.Generator())
    steps = [game.episode.steps[0] for game in games]
    assert [(step.text, step.action) for step in steps] == list(said.items())
    cut_short = LanguageModelPolicy(lm, sampler, prompts, cut_before_the_stop(lm, said), 1, 1000)
    [cut] = cut_short.play(world, seats[2:], torch.Generator())[0].episode.steps
    assert (cut.text, cut.parsed, cut.truncated) == (list(said)[2], False, True)
    for game in games[:2]:
        ids, [message] = conversation(chat, prompts, game.episode)
        assert text_of(lm, ids) == text_of(lm, game.ids)
        assert text_of(lm, ids[message.start : message.stop]) == game.episode.steps[0].text + "<|end|>"

    short = replace(GREEDY, max_new_tokens=2)
    for game in LanguageModelPolicy(lm, sampler, prompts, short, 2, 1000).play(world, seats, torch.Generator()):
        assert game.episode.steps[0].truncated
        ids, messages = conversation(chat, prompts, game.episode)
        assert text_of(lm, ids) == text_of(lm, game.ids)
        assert messages == []


def test_a_demonstration_goes_on_where_the_prompt_ends(lm: LanguageModel, world: World, chosen: str) -> None:
    prompts = world.prompts("brief")
    [shown] = expert_episodes(world, lm.chat, prompts, world.tasks("train")[:1], seed=0, max_steps=1)
    message = text_of(lm, conversation(lm.chat, prompts, shown)[0]).rpartition("<|assistant|>")[2]
    opened = "<think>\n" if chosen == "opened" else "<think>"
    assert message == shown.steps[0].text.replace("<think>", opened) + "<|end|>"
