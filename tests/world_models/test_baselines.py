"""Both baselines by hand, on rows small enough to answer by eye."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rwml.core.seeds import generator_for
from rwml.core.types import Transition
from rwml.playing.rollout import play_built_in, seats_for
from rwml.world_models.baselines import BASELINES, CopyLast, MostFrequent
from rwml.world_models.world_model import Materials, make_world_model
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
    history = ("look", "A pen.", "open box", "It is empty.", "look", "Nothing.", "open bin", "A can.")
    assert CopyLast(masked).next_state(row("look", "?", *history)) == "Nothing."
    assert CopyLast(masked).next_state(row("open box", "?", *history)) == "It is empty."
    assert CopyLast(masked).next_state(row("open  box", "?", *history)) is None, "another text is another action"
    assert CopyLast(masked).next_state(row("A can.", "?", *history)) is None, "observations are no actions"
    assert CopyLast(masked).next_state(row("look", "?")) is None


def test_copy_last_answers_in_the_form_that_is_asked_for(masked: Any) -> None:
    history = ("get_user 7", '{"age": 42}', "Hello 1", "Hi 2")
    assert CopyLast(masked).next_state(row("get_user 7", "?", *history, kind="tool")) == '{"age": ##}'
    assert CopyLast(masked).next_state(row("Hello 1", "?", *history, kind="user")) == "Hi 2"


def test_most_frequent_by_hand() -> None:
    training = [
        row("go a", "Nothing happens."), row("go b", "A desk."), row("go c", "A desk."),
        row("open a", "A pen."), row("open b", "A can."),
        row("take a", "Nothing happens."), row("take b", "Nothing happens."),
        row("find 1", "{}", kind="tool"),
    ]  # fmt: skip
    frequent = MostFrequent(training)
    assert frequent.next_state(row("go z", "?")) == "A desk."
    assert frequent.next_state(row("open z", "?")) == "A pen.", "once each: the first seen"
    assert frequent.next_state(row("close z", "?")) == "Nothing happens.", "3 of the 7 texts"
    assert frequent.next_state(row("close z", "?", kind="tool")) == "{}"
    assert frequent.next_state(row("go z", "?", kind="tool")) == "{}", "this verb was never a tool's"
    assert frequent.next_state(row("go z", "?", kind="user")) is None
    assert MostFrequent([]).next_state(row("go z", "?")) is None


def test_dropped_rows_count_and_other_splits_do_not(masked: Any) -> None:
    training = [replace(row("go a", "easy"), kept=False, reason="too easy")] * 2
    training += [row("go b", "hard")] + [row("go c", "held out", split="valid")] * 5
    asked = [row("go z", "?", "go z", "seen"), row("go y", "?")]
    models = [make_world_model(name, Materials(masked, training)) for name in BASELINES]
    groups = {model.name: model.predict([row.query for row in asked], 2, generator_for("x")) for model in models}
    answers = {name: [[state.next_state for state in group] for group in of_model] for name, of_model in groups.items()}
    assert answers == {"copy_last": [["seen"] * 2, [None] * 2], "most_frequent": [["easy"] * 2] * 2}
    assert [state.reason for [state, _] in groups["copy_last"]] == ["", "unknown"]
    assert tuple(answers) == BASELINES


def test_copies_of_real_games_are_those_of_a_forward_scan(world: World) -> None:
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, seed=0), "noisy:0.9", 15)
    repeated = 0
    for episode in episodes:
        last: dict[str, str] = {}
        for of_step, step in zip(transitions_of(episode, world, "train"), episode.steps, strict=True):
            assert CopyLast(world).next_state(of_step.query) == last.get(step.action)
            repeated += step.action in last
            last[step.action] = step.observation
    assert 10 < repeated < sum(len(episode.steps) for episode in episodes)
