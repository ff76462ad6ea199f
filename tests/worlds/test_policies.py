"""What can be known from the texts, and the built-in policies."""

from __future__ import annotations

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld.beliefs import Beliefs, knowable, read_action, read_list, write_list
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import GameSpec, parse_game, read_game
from rwml.worlds.alfworld.pddl import write_game
from rwml.worlds.alfworld.policies import Goal, make_policy, read_goal
from rwml.worlds.alfworld.scenes import KINDS, SceneConfig, plan_game

OPENING = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
    "a countertop 1, a drawer 2, a drawer 1, and a fridge 1.\n\nYour task is to: put a cool apple in countertop."
)
# (action, observation, whether it could be predicted): None = not predicted.
COURSE = [
    ("look", "You are in the middle of a room. Looking quickly around you, you see nothing.", True),
    ("go to countertop 1", "You arrive at countertop 1. On the countertop 1, you see a knife 1, and a apple 2.", None),
    ("examine countertop 1", "On the countertop 1, you see a apple 2, and a knife 1.", True),
    ("open drawer 2", "Nothing happens.", True),
    ("take apple 2 from countertop 1", "You pick up the apple 2 from the countertop 1.", True),
    ("take knife 1 from countertop 1", "Nothing happens.", True),
    ("inventory", "You are carrying: a apple 2.", True),
    ("go to drawer 2", "You arrive at drawer 2. The drawer 2 is closed.", True),
    ("open drawer 2", "You open the drawer 2. The drawer 2 is open. In it, you see a spoon 1.", None),
    ("open drawer 2", "Nothing happens.", True),
    ("move apple 2 to drawer 2", "Nothing happens.", True),
    ("look", "You are facing the drawer 2, and drawer 1. Next to it, you see nothing.", None),
    ("look", "You are facing the drawer 2, and drawer 1. Next to it, you see nothing.", True),
    ("go to drawer 1", "Nothing happens.", True),
    ("examine drawer 1", "The drawer 1 is closed.", True),
    ("close drawer 2", "You close the drawer 2.", True),
    ("open drawer 2", "You open the drawer 2. The drawer 2 is open. In it, you see a spoon 1.", True),
    ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.", True),
    ("heat apple 2 with fridge 1", "Nothing happens.", True),
    ("cool apple 2 with fridge 1", "You cool the apple 2 using the fridge 1.", True),
    ("examine apple 2", "This is a cold apple 2.", True),
    ("examine spoon 1", "Nothing happens.", True),
    ("go to drawer 1", "You arrive at drawer 1. The drawer 1 is closed.", True),
    ("help", "You can say: ...", None),
    ("help", "You can say: ...", True),
    ("dance", "Nothing happens.", True),
    ("go to countertop 1", "You arrive at countertop 1. On the countertop 1, you see a knife 1.", True),
    ("move apple 2 to countertop 1", "You move the apple 2 to the countertop 1.", True),
    ("examine countertop 1", "On the countertop 1, you see a apple 2, and a knife 1.", True),
    ("look", "You are facing the countertop 1. Next to it, you see nothing.", None),
    ("take knife 1 from countertop 1", "You pick up the knife 1 from the countertop 1.", True),
    ("slice apple 2 with knife 1", "You sliced the apple 2 with the knife 1.", True),
    ("use apple 2", "Nothing happens.", True),
]  # fmt: skip


def specs(size: str, num_games: int, seed: int = 1, *, shared: bool = True) -> list[GameSpec]:
    config = SceneConfig(size, seed)
    plans = [plan_game(config, "train", index) for index in range(num_games)]
    if not shared:
        plans = [one for one in plans if len(one.scene.places) == len(one.scene.receptacles) + 1]
    return [parse_game(json.dumps(write_game(plan))) for plan in plans]


def play(spec: GameSpec, name: str, seed: int, max_steps: int = 50) -> tuple[Game, list[str], list[str]]:
    """Return the game, (action, observation, ...), and the thoughts."""
    game, policy = Game(spec), make_policy(name, seed)
    observation = game.reset()
    history, thoughts = [], []
    while not game.won and len(history) < 2 * max_steps:
        action = policy.act(observation, game.admissible_commands)
        observation, _, _ = game.step(action)
        history += [action, observation]
        thoughts.append(policy.thought())
    return game, history, thoughts


def test_what_a_player_can_tell():
    beliefs, history = Beliefs(OPENING), []
    assert beliefs.receptacles == ("countertop 1", "drawer 2", "drawer 1", "fridge 1")
    for action, observation, predicted in COURSE:
        assert beliefs.predict(action) == (observation if predicted else None), action
        assert knowable(OPENING, history, action, observation) is bool(predicted)
        assert not knowable(OPENING, history, action, observation + " And more.")
        beliefs.read(action, observation)
        history += [action, observation]
    assert beliefs.contents == {
        "countertop 1": {"apple 2"},
        "drawer 2": {"spoon 1"},
        "drawer 1": None,
        "fridge 1": None,
    }
    assert beliefs.held == "knife 1"
    assert beliefs.states == {("apple 2", "cool"), ("apple 2", "sliced")}
    assert beliefs.beside["drawer 1"] == {"drawer 1", "drawer 2"}


def test_a_drawer_without_a_door_is_learned():
    beliefs = Beliefs(OPENING)
    beliefs.read("go to drawer 2", "You arrive at drawer 2. On the drawer 2, you see nothing.")
    assert beliefs.predict("open drawer 2") == "Nothing happens."
    assert beliefs.predict("examine drawer 2") == "On the drawer 2, you see nothing."


def test_an_answer_to_another_action_teaches_only_what_it_shows():
    beliefs = Beliefs(OPENING)
    beliefs.read("take apple 1 from fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see a egg 1.")
    assert beliefs.held == ""
    assert beliefs.contents["fridge 1"] == {"egg 1"}


def test_lists_are_read_and_written_in_the_order_of_the_game():
    text = "a pen 11, a pen 2, a pencil 1, a plate 1, a pot 1, a potato 3, and a sinkbasin 1"
    names = read_list(text)
    assert names == ["pen 11", "pen 2", "pencil 1", "plate 1", "pot 1", "potato 3", "sinkbasin 1"]
    assert write_list(reversed(names)) == text
    assert (read_list("nothing"), write_list([]), write_list(["egg 1"])) == ([], "nothing", "a egg 1")


@pytest.mark.parametrize(
    ("action", "parts"),
    [
        ("go to desk 1", ("go to", "desk 1", "")),
        (" take mug 12 from desk 1 ", ("take", "mug 12", "desk 1")),
        ("slice egg 1 with knife 2", ("slice", "egg 1", "knife 2")),
        ("look", ("look", "", "")),
        ("look at desk 1", None),
        ("take mug 1 to desk 1", None),
        ("take mug 1", None),
        ("go to desk", None),
        ("open desk 1 with mug 1", None),
        ("", None),
    ],
)
def test_commands_are_read(action, parts):
    assert read_action(action) == parts


@pytest.mark.parametrize("name", ["random", "noisy"])
def test_predictions_are_right_where_no_spot_is_shared(name):
    predictions = Counter()
    for size in ("small", "official"):
        for index, spec in enumerate(specs(size, 40, shared=False)):
            game, policy = Game(spec), make_policy(name, index)
            observation = game.reset()
            beliefs, rng = Beliefs(observation), random.Random(index)
            for _ in range(40):
                # Now and then an action that is not admissible, which the player does not know of.
                action = policy.act(observation, game.admissible_commands)
                wild = f"{rng.choice(('open', 'close', 'examine', 'use', 'go to'))} {rng.choice(beliefs.receptacles)}"
                for one in [action] if rng.random() < 0.8 else [wild, action]:
                    prediction = beliefs.predict(one)
                    observation, _, _ = game.step(one)
                    beliefs.read(one, observation)
                    predictions[
                        "none" if prediction is None else "right" if prediction == observation else "wrong"
                    ] += 1
    assert predictions["wrong"] == 0
    assert predictions["right"] > 800
    assert predictions["none"] > 200


def test_shared_spots_are_the_only_surprise():
    predictions = Counter()
    for index, spec in enumerate(specs("official", 30)):
        _, history, _ = play(spec, "random", index)
        opening = Game(spec).reset()
        beliefs = Beliefs(opening)
        for action, observation in zip(history[::2], history[1::2], strict=True):
            prediction = beliefs.predict(action)
            if prediction not in (None, observation):
                assert prediction == "Nothing happens."
            predictions[prediction is None or prediction == observation] += 1
            beliefs.read(action, observation)
    assert predictions[False] < 0.05 * predictions[True]


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
