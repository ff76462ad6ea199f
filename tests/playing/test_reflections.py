"""Reflections by a server on loopback: what it is asked, and what becomes of each of its answers."""

from __future__ import annotations

import itertools
import re
import socket
from dataclasses import replace

import pytest

from fuzz_servers import MATE, MODES, Mode, raw_server
from rwml.core.recipe.sections import JudgeConfig
from rwml.core.types import Episode, Step
from rwml.models.language_model import LanguageModel
from rwml.playing.demonstrations import expert_episodes
from rwml.playing.reflections import CUT_OFF, EMPTY, MARKED, Reflection, question, reflect, reflected
from rwml.worlds.base import World

BLOCK = re.compile(r"^\[([^\]]+)\]\n", re.MULTILINE)


@pytest.fixture
def expert(lm: LanguageModel, world: World) -> list[Episode]:
    return expert_episodes(world, lm.chat, world.prompts("brief"), world.tasks("train")[:2], seed=0, max_steps=30)


def test_the_question_by_hand(expert: list[Episode]) -> None:
    steps = (Step("open box", "", "It is empty."), Step("take pen", "", "You have it."))
    episode = replace(expert[0], opening="Find the pen.", steps=steps)
    asked = question(episode, 1, [Step("look", "", "A room.")])
    assert asked.split("\n\n", 1)[1].rpartition("\n\n")[0] == (
        "[start]\nFind the pen.\n[action]\nopen box\n[seen]\nIt is empty.\n\n"
        "[the action taken now]\ntake pen\n[what it leads to]\nYou have it.\n"
        "[another possible action]\nlook\n[what it would lead to]\nA room."
    )
    assert "what the other actions lack" in asked
    alone = question(episode, 0, [])
    assert "other actions" not in alone
    assert "[another possible action]" not in alone


@pytest.mark.slow
def test_other_actions_are_shown_with_what_they_really_lead_to(
    lm: LanguageModel,
    world: World,
    expert: list[Episode],
    chat_server,  # type: ignore[no-untyped-def]
) -> None:
    chat_server.answer = lambda messages: "I do this."
    config = JudgeConfig(base_url=chat_server.url, model="a-writer", temperature=0.5, max_new_tokens=77)
    reflections = reflect(world, lm.chat, expert, config, 2, seed=0)
    assert [(r.episode, r.step) for r in reflections] == [(e.id, n) for e in expert for n in range(len(e.steps))]
    assert {(a["model"], a["temperature"], a["max_tokens"]) for a in chat_server.asked} == {("a-writer", 0.5, 77)}
    asked = {request["messages"][0]["content"] for request in chat_server.asked}
    tried = 0
    for episode in expert:
        for number, step in enumerate(episode.steps):
            [text] = [a for a in asked if f"\n{episode.opening}\n" in a and len(BLOCK.findall(a)) == 7 + 2 * number]
            blocks = BLOCK.split(text)[1:]
            shown = list(zip(blocks[::2], (body.strip() for body in blocks[1::2]), strict=True))
            taken = shown.index(("the action taken now", step.action))
            assert shown[taken + 1] == ("what it leads to", step.observation)
            for (_, action), (_, result) in zip(shown[taken + 2 :: 2], shown[taken + 3 :: 2], strict=True):
                env = world.env()
                env.reset(episode.task, episode.seed)
                for past in episode.steps[:number]:
                    env.step(past.action)
                assert action in env.admissible
                assert action != step.action
                assert result.split("\n\nWrite")[0].strip() == env.step(action).observation.strip()
                tried += 1
    assert tried == 2 * len(reflections)
    assert {r.alternatives for r in reflections} == {2}


@pytest.mark.slow
def test_what_becomes_of_each_answer(
    lm: LanguageModel,
    world: World,
    expert: list[Episode],
    chat_server,  # type: ignore[no-untyped-def]
) -> None:
    """One answer of each sort, by the number of the step; failed ones are kept with their reason."""
    answers: dict[int, tuple[str | int, str, str]] = {
        0: ("It is near.", "It is near.", ""),
        1: ("<think>hm</think> It is far.\n", "It is far.", ""),
        2: (400, "", "HTTP 400"),
        3: (" \n", "", EMPTY),
        4: ("I write <action>look</action> now.", "", MARKED),
        5: ("one two three four five six", "", CUT_OFF),
        6: ("The end.<|end|>", "", MARKED),
    }
    prompts = world.prompts("brief")
    [long] = [episode for episode in expert if len(episode.steps) == max(len(e.steps) for e in expert)][:1]
    assert len(long.steps) >= len(answers), "every sort comes up"
    chat_server.answer = lambda messages: answers.get(messages[0]["content"].count("[seen]"), answers[0])[0]
    config = JudgeConfig(base_url=chat_server.url, model="w", max_new_tokens=5)
    reflections = reflect(world, lm.chat, [long], config, 0, seed=0)
    expected = [answers.get(number, answers[0]) for number in range(len(long.steps))]
    assert [(r.thought, r.failure) for r in reflections] == [(thought, failure) for _, thought, failure in expected]
    assert reflections[2].error.startswith('HTTP 400: {"error": "refused"}')
    words = {
        request["messages"][0]["content"]: len(request["messages"][0]["content"].split())
        for request in chat_server.asked
    }
    assert reflections[1].prompt_tokens == words[question(long, 1, [])]
    assert [r.completion_tokens for r in reflections[:3]] == [3, 4, 0]

    [with_thoughts, other] = reflected(lm.chat, prompts, [long, replace(long, id="other")], reflections)
    assert other.steps == long.steps
    assert [step.text for step in with_thoughts.steps] == [
        f"<think>{thought}</think><action>{step.action}</action>"
        for (_, thought, _), step in zip(expected, long.steps, strict=True)
    ]


def test_nothing_is_asked_about_nothing(lm: LanguageModel, world: World) -> None:
    """No episode, no request: no server runs."""
    config = JudgeConfig(base_url="http://127.0.0.1:9/v1", model="w")
    assert reflect(world, lm.chat, [], config, 3, seed=0) == []
    assert Reflection("e", 0, "", "ReadTimeout: slow", 0, 0, 0).failure == "ReadTimeout"


def test_broken_answers_cost_their_own_step_alone(lm: LanguageModel, world: World, expert: list[Episode]) -> None:
    sorts = ["content is list", MATE, "half of a surrogate pair", "count 1e23 of 4", "deep lists", MATE]
    order = itertools.cycle(sorts)

    def in_turn(connection: socket.socket) -> None:
        MODES[next(order)].react(connection)

    with raw_server(otherwise=Mode(in_turn)) as server:
        config = JudgeConfig(base_url=server.url, model="m", max_concurrency=1)
        reflections = reflect(world, lm.chat, expert[:1], config, 0, seed=0)
    assert len(reflections) == len(expert[0].steps) > 3
    assert reflections[0].failure == "not a chat completion (content is no text)"
    for number, reflection in enumerate(reflections):
        is_sound = sorts[number % len(sorts)] == MATE
        assert (reflection.thought, bool(reflection.error)) == (("yes", False) if is_sound else ("", True))
        assert max(reflection.prompt_tokens, reflection.completion_tokens) == 0
