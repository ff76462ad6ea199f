"""Both baselines by hand, on rows small enough to answer by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rwml.core.types import Transition
from rwml.play.rollout import play_built_in, seats_for
from rwml.world_models.baselines import BASELINES, MostFrequent, baseline_answers, copy_last
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of


class Masked:
    """A world as far as a baseline asks it: answers of tools are asked for without their digits."""

    def target(self, kind: str, observation: str) -> str:
        return "".join("#" if c.isdigit() else c for c in observation) if kind == "tool" else observation


def row(action: str, next_state: str, *history: str, kind: str = "text", split: str = "train") -> Transition:
    return Transition(
        id=f"{action}/{len(history)}", episode="e", task="t", split=split, step=len(history) // 2, opening="o",
        history=history, action=action, next_state=next_state, kind=kind, verb=action.split()[0], valid=True,
        knowable=True,
    )  # fmt: skip


@pytest.fixture
def masked() -> Any:
    return Masked()


def test_copy_last_takes_the_last_identical_action(masked: Any) -> None:
    told = ("look", "A pen.", "open box", "It is empty.", "look", "Nothing.", "open bin", "A can.")
    assert copy_last(masked, row("look", "?", *told)) == "Nothing."
    assert copy_last(masked, row("open box", "?", *told)) == "It is empty."
    assert copy_last(masked, row("open  box", "?", *told)) is None, "another text is another action"
    assert copy_last(masked, row("A can.", "?", *told)) is None, "observations are no actions"
    assert copy_last(masked, row("look", "?")) is None


def test_copy_last_answers_in_the_form_that_is_asked_for(masked: Any) -> None:
    told = ("get_user 7", '{"age": 42}', "Hello 1", "Hi 2")
    assert copy_last(masked, row("get_user 7", "?", *told, kind="tool")) == '{"age": ##}'
    assert copy_last(masked, row("Hello 1", "?", *told, kind="user")) == "Hi 2"


def test_most_frequent_by_hand() -> None:
    training = [
        row("go a", "Nothing happens."), row("go b", "A desk."), row("go c", "A desk."),
        row("open a", "A pen."), row("open b", "A can."),
        row("take a", "Nothing happens."), row("take b", "Nothing happens."),
        row("find 1", "{}", kind="tool"),
    ]  # fmt: skip
    frequent = MostFrequent(training)
    assert frequent.answer(row("go z", "?")) == "A desk."
    assert frequent.answer(row("open z", "?")) == "A pen.", "once each: the first seen"
    assert frequent.answer(row("close z", "?")) == "Nothing happens.", "3 of the 7 texts"
    assert frequent.answer(row("close z", "?", kind="tool")) == "{}"
    assert frequent.answer(row("go z", "?", kind="tool")) == "{}", "this verb was never a tool's"
    assert frequent.answer(row("go z", "?", kind="user")) is None
    assert MostFrequent([]).answer(row("go z", "?")) is None


def test_dropped_rows_count_and_other_splits_do_not(masked: Any) -> None:
    training = [replace(row("go a", "easy"), kept=False, reason="too easy")] * 2
    training += [row("go b", "hard")] + [row("go c", "held out", split="valid")] * 5
    asked = [row("go z", "?", "go z", "seen"), row("go y", "?")]
    answers = baseline_answers(masked, training, asked)
    assert answers == {"copy_last": ["seen", None], "most_frequent": ["easy", "easy"]}
    assert tuple(answers) == BASELINES


def test_copies_of_real_games_are_those_of_a_forward_scan(world: World) -> None:
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, seed=0), "noisy:0.9", 15)
    repeated = 0
    for episode in episodes:
        last: dict[str, str] = {}
        for row, step in zip(transitions_of(episode, world, "train"), episode.steps, strict=True):
            assert copy_last(world, row) == last.get(step.action)
            repeated += step.action in last
            last[step.action] = step.observation
    assert 10 < repeated < sum(len(episode.steps) for episode in episodes)
