"""The built-in policies: what they solve, how they follow their seed, what they think."""

from __future__ import annotations

import os
import random
from collections import Counter
from pathlib import Path

import pytest

from alfworld_games import play, specs
from rwml.core.errors import RwmlError
from rwml.worlds.alfworld.engine.parse import read_game
from rwml.worlds.alfworld.policies import Goal, make_policy, read_goal
from rwml.worlds.alfworld.scenes import KINDS


@pytest.mark.parametrize(
    ("sentence", "goal"),
    [
        ("put a mug in desk.", Goal("mug", "desk")),
        ("put some mug on desk.", Goal("mug", "desk")),
        ("look at book under the desklamp.", Goal("book", lamp="desklamp")),
        ("examine the book with the desklamp.", Goal("book", lamp="desklamp")),
        ("put a clean mug in coffeemachine.", Goal("mug", "coffeemachine", "clean")),
        ("clean some mug and put it in desk.", Goal("mug", "desk", "clean")),
        ("put a hot egg in fridge.", Goal("egg", "fridge", "heat")),
        ("heat some egg and put it in fridge.", Goal("egg", "fridge", "heat")),
        ("put a cool egg in microwave.", Goal("egg", "microwave", "cool")),
        ("cool some egg and put it in microwave.", Goal("egg", "microwave", "cool")),
        ("put two newspaper in drawer.", Goal("newspaper", "drawer", count=2)),
        ("find two newspaper and put them in drawer.", Goal("newspaper", "drawer", count=2)),
        ("tidy up.", None),
    ],
)
def test_task_sentences_are_read(sentence, goal):
    assert read_goal(f"You see things.\n\nYour task is to: {sentence}") == goal


@pytest.mark.parametrize(("size", "limit", "mean"), [("tiny", 12, 7), ("small", 16, 7.5), ("official", 50, 9.5)])
def test_expert_solves_all_kinds_of_generated_games(size, limit, mean):
    wins, steps = Counter(), []
    for index, spec in enumerate(specs(size, 60)):
        game, history, _ = play(spec, "expert", index)
        wins[KINDS[index % 6]] += game.won
        steps.append(len(history) // 2)
    assert wins == dict.fromkeys(KINDS, 10)
    assert max(steps) <= limit
    assert sum(steps) / len(steps) == pytest.approx(mean, abs=1)


def test_noisy_expert_recovers_from_its_random_actions():
    results = [play(spec, "noisy", index) for index, spec in enumerate(specs("small", 60))]
    assert sum(game.won for game, _, _ in results) >= 57
    tries = [thought == "try" for _, _, thoughts in results for thought in thoughts]
    assert sum(tries) / len(tries) == pytest.approx(0.35, abs=0.06)


def test_policies_follow_their_seed():
    spec = specs("small", 1)[0]
    for name in ("random", "expert", "noisy"):
        assert play(spec, name, 3)[1] == play(spec, name, 3)[1]
    assert play(spec, "random", 3)[1] != play(spec, "random", 4)[1]
    assert play(spec, "noisy:0", 3)[1] == play(spec, "expert", 3)[1]
    assert set(play(spec, "noisy:1", 3)[2]) == {"try"}


def test_thoughts_are_short_and_few():
    found = {thought for index, spec in enumerate(specs("medium", 60)) for thought in play(spec, "noisy", index)[2]}
    heads = {thought.split()[0] for thought in found}
    assert heads == {"find", "take", "put", "clean", "heat", "cool", "use", "open", "drop", "try"}
    assert all(len(thought.split()) <= 2 and not any(sign.isdigit() for sign in thought) for thought in found)


@pytest.mark.parametrize(
    ("name", "words"), [("exprt", "did you mean 'expert'"), ("noisy:two", "share"), ("noisy:1.5", "share")]
)
def test_unknown_policies_are_refused(name, words):
    with pytest.raises(RwmlError) as caught:
        make_policy(name, 0)
    assert words in str(caught.value)


@pytest.mark.skipif("ALFWORLD_DATA" not in os.environ, reason="needs the official games")
def test_expert_wins_official_games():
    paths = sorted((Path(os.environ["ALFWORLD_DATA"]) / "json_2.1.1" / "train").glob("*/*/game.tw-pddl"))
    chosen = random.Random(3).sample(paths, min(60, len(paths)))
    results = [play(read_game(path), "expert", index) for index, path in enumerate(chosen)]
    assert sum(game.won for game, _, _ in results) >= 0.95 * len(chosen)
