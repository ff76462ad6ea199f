"""What can be known from the texts: by hand, and beside whole games."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from alfworld_games import play, specs
from rwml.worlds.alfworld.beliefs import Beliefs, knowable, read_action, read_list, write_list
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.policies import make_policy

OPENING = (
    "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see "
    "a countertop 1, a drawer 2, a drawer 1, and a fridge 1.\n\nYour task is to: put a cool apple in countertop."
)
# (action, observation, whether it is foreseen): None = it is not.
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


def test_what_a_player_can_tell():
    beliefs, history = Beliefs(OPENING), []
    assert beliefs.receptacles == ("countertop 1", "drawer 2", "drawer 1", "fridge 1")
    for action, observation, foreseen in COURSE:
        assert beliefs.predict(action) == (observation if foreseen else None), action
        assert knowable(OPENING, history, action, observation) is bool(foreseen)
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
    outcomes = Counter()
    for size in ("small", "official"):
        for index, spec in enumerate(specs(size, 40, shared=False)):
            game, policy = Game(spec), make_policy(name, index)
            observation = game.reset()
            beliefs, rng = Beliefs(observation), random.Random(index)
            for _ in range(40):
                # Now and then an action that is not admissible, which the player does not know of.
                action = policy.act(observation, game.admissible_commands)
                wild = f"{rng.choice(('open', 'close', 'examine', 'use', 'go to'))} {rng.choice(beliefs.receptacles)}"
                for tried in [action] if rng.random() < 0.8 else [wild, action]:
                    prediction = beliefs.predict(tried)
                    observation, _, _ = game.step(tried)
                    beliefs.read(tried, observation)
                    outcomes["none" if prediction is None else "right" if prediction == observation else "wrong"] += 1
    assert outcomes["wrong"] == 0
    assert outcomes["right"] > 800
    assert outcomes["none"] > 200


def test_shared_spots_are_the_only_surprise():
    outcomes = Counter()
    for index, spec in enumerate(specs("official", 30)):
        _, history, _ = play(spec, "random", index)
        opening = Game(spec).reset()
        beliefs = Beliefs(opening)
        for action, observation in zip(history[::2], history[1::2], strict=True):
            prediction = beliefs.predict(action)
            if prediction not in (None, observation):
                assert prediction == "Nothing happens."
            outcomes[prediction is None or prediction == observation] += 1
            beliefs.read(action, observation)
    assert outcomes[False] < 0.05 * outcomes[True]
