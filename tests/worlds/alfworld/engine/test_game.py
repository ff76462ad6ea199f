"""The ALFWorld engine: golden traces recorded from the official engine, and checks by brute force."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld import Game, load_game

WriteKitchen = Callable[..., Path]
Wander = Callable[[Game, int, int], Iterator[str]]

# (command, observation, reward), as the official engine (alfworld 0.4.2, textworld 1.7.0) answered in this kitchen.
KITCHEN_TRACE = [
    ("look", "You are in the middle of a room. Looking quickly around you, you see nothing.", 0),
    ("go to countertop 1", "You arrive at countertop 1. On the countertop 1, you see a apple 2, a desklamp 1, and a "
     "plate 1.", 0),
    ("look", "You are facing the countertop 1, and drawer 2. Next to it, you see nothing.", 0),
    ("take apple 2 from countertop 1", "You pick up the apple 2 from the countertop 1.", 0),
    ("open drawer 2", "You open the drawer 2. The drawer 2 is open. In it, you see a butterknife 1.", 0),
    ("move apple 2 to drawer 2", "Nothing happens.", 0),
    ("move apple 2 to countertop 1", "You move the apple 2 to the countertop 1.", 0),
    ("take butterknife 1 from drawer 2", "You pick up the butterknife 1 from the drawer 2.", 0),
    ("look", "You are facing the countertop 1, and drawer 2. Next to it, you see nothing.", 0),
    ("slice apple 2 with butterknife 1", "You sliced the apple 2 with the butterknife 1.", 0),
    ("move butterknife 1 to countertop 1", "You move the butterknife 1 to the countertop 1.", 0),
    ("look", "You are facing the countertop 1, and drawer 2. Next to it, you see a butterknife 1.", 0),
    ("take apple 2 from countertop 1", "You pick up the apple 2 from the countertop 1.", 0),
    ("examine apple 2", "This is a sliced apple 2.", 0),
    ("use desklamp 1", "You turn on the desklamp 1.", 0),
    ("use desklamp 1", "You turn on the desklamp 1.", 0),
    ("examine desklamp 1", "Nothing happens.", 0),
    ("go to drawer 2", "Nothing happens.", 0),
    ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see a mug 1.", 0),
    ("clean apple 2 with sinkbasin 1", "You clean the apple 2 using the sinkbasin 1.", 0),
    ("examine apple 2", "This is a clean sliced apple 2.", 0),
    ("heat apple 2 with microwave 1", "You heat the apple 2 using the microwave 1.", 0),
    ("examine apple 2", "This is a hot and clean sliced apple 2.", 0),
    ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.", 0),
    ("cool apple 2 with fridge 1", "You cool the apple 2 using the fridge 1.", 0),
    ("examine apple 2", "This is a cool and clean sliced apple 2.", 0),
    ("go to microwave 1", "You arrive at microwave 1. The microwave 1 is closed.", 0),
    ("heat apple 2 with microwave 1", "You heat the apple 2 using the microwave 1.", 0),
    ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.", 0),
    ("move apple 2 to fridge 1", "Nothing happens.", 0),
    ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see a apple 1.", 0),
    ("move apple 2 to fridge 1", "You move the apple 2 to the fridge 1.", 1),
    ("help", "Ask.", 1),
    ("say hello", "Nothing happens.", 1),
    ("take apple 2 from fridge 1", "You pick up the apple 2 from the fridge 1.", 0),
    ("go to countertop 1", "You arrive at countertop 1. On the countertop 1, you see a butterknife 1, a desklamp 1, "
     "and a plate 1.", 0),
    ("move apple 2 to countertop 1", "You move the apple 2 to the countertop 1.", 0),
    ("take plate 1 from countertop 1", "You pick up the plate 1 from the countertop 1.", 0),
    ("examine plate 1", "This is a normal plate 1. In it, you see a spoon 1.", 0),
    ("inventory", "You are carrying: a plate 1.", 0),
    ("go to microwave 1", "You arrive at microwave 1. The microwave 1 is closed.", 0),
    ("open microwave 1", "You open the microwave 1. The microwave 1 is open. In it, you see a mug 1.", 0),
    ("move plate 1 to sinkbasin 1", "You move the plate 1 to the sinkbasin 1.", 0),
    ("take mug 1 from sinkbasin 1", "You pick up the mug 1 from the sinkbasin 1.", 0),
    ("look", "You are facing the microwave 1, and sinkbasin 1. Next to it, you see nothing.", 0),
    ("move mug 1 to microwave 1", "You move the mug 1 to the microwave 1.", 0),
    ("examine microwave 1", "The microwave 1 is open. In it, you see a mug 1.", 0),
    ("look", "You are facing the microwave 1, and sinkbasin 1. Next to it, you see a mug 1.", 0),
    ("go to drawer 1", "You arrive at drawer 1. The drawer 1 is open. In it, you see nothing.", 0),
]  # fmt: skip

LETTUCE = "train/pick_and_place_simple-Lettuce-None-CounterTop-25/trial_T20190907_000052_389529"
LETTUCE_TRACE = [
    ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed.", 0),
    ("open fridge 1", "You open the fridge 1. The fridge 1 is open. In it, you see a apple 2, a apple 1, a egg 1, a "
     "lettuce 1, a plate 2, and a potato 3.", 0),
    ("take lettuce 1 from fridge 1", "You pick up the lettuce 1 from the fridge 1.", 0),
    ("examine lettuce 1", "This is a cold lettuce 1.", 0),
    ("cool lettuce 1 with fridge 1", "You cool the lettuce 1 using the fridge 1.", 0),
    ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see a cup 2, and a lettuce 2.", 0),
    ("clean lettuce 1 with sinkbasin 1", "You clean the lettuce 1 using the sinkbasin 1.", 0),
    ("examine lettuce 1", "This is a cool and clean lettuce 1.", 0),
    ("open drawer 2", "You open the drawer 2. The drawer 2 is open. In it, you see a spoon 2.", 0),
    ("move lettuce 1 to sinkbasin 1", "You move the lettuce 1 to the sinkbasin 1.", 0),
    ("take lettuce 2 from sinkbasin 1", "You pick up the lettuce 2 from the sinkbasin 1.", 0),
    ("go to coffeemachine 1", "You arrive at coffeemachine 1. On the coffeemachine 1, you see nothing.", 0),
    ("go to countertop 1", "Nothing happens.", 0),
    ("look", "You are facing the coffeemachine 1, and countertop 1. Next to it, you see nothing.", 0),
    ("move lettuce 2 to countertop 1", "You move the lettuce 2 to the countertop 1.", 1),
    ("take lettuce 2 from countertop 1", "You pick up the lettuce 2 from the countertop 1.", 0),
    ("go to sinkbasin 1", "You arrive at sinkbasin 1. On the sinkbasin 1, you see a cup 2, and a lettuce 1.", 0),
    ("close drawer 2", "You close the drawer 2.", 0),
]  # fmt: skip


def every_command(game: Game) -> Iterator[str]:
    """Every command that the templates can make of the game's names."""
    objects, receptacles = game.spec.object_names, game.spec.receptacle_names
    yield from ("look", "inventory", "help")
    for name in receptacles:
        yield from (f"go to {name}", f"open {name}", f"close {name}", f"examine {name}")
    for name in objects:
        yield from (f"examine {name}", f"use {name}")
    for name, place in itertools.product(objects, receptacles):
        yield from (f"take {name} from {place}", f"move {name} to {place}")
        yield from (f"{verb} {name} with {place}" for verb in ("clean", "heat", "cool"))
    yield from (f"slice {name} with {knife}" for name, knife in itertools.product(objects, objects))


def test_kitchen_trace_is_the_official_one(write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen())
    assert game.reset() == (
        "-= Welcome to TextWorld, ALFRED! =-\n\nYou are in the middle of a room. Looking quickly around you, you see a "
        "countertop 1, a drawer 2, a drawer 1, a fridge 1, a microwave 1, and a sinkbasin 1.\n\n"
        "Your task is to: put a hot apple in fridge."
    )
    assert game.task == "put a hot apple in fridge."
    assert game.walkthrough == ["go to countertop 1"]
    for command, observation, reward in KITCHEN_TRACE:
        assert game.step(command) == (observation, reward, reward == 1), command
        assert game.won == (reward == 1)
    assert game.admissible_commands == [
        "close drawer 1", "examine drawer 1", "go to countertop 1", "go to drawer 2", "go to fridge 1",
        "go to microwave 1", "go to sinkbasin 1", "help", "inventory", "look",
    ]  # fmt: skip


@pytest.mark.slow
def test_real_game_trace_is_the_official_one(official_games: dict[str, Path]) -> None:
    game = load_game(official_games[LETTUCE])
    assert game.reset().endswith(
        "a stoveburner 1, and a toaster 1.\n\nYour task is to: put some lettuce on countertop."
    )
    for command, observation, reward in LETTUCE_TRACE:
        assert game.step(command) == (observation, reward, reward == 1), command
    assert len(game.admissible_commands) == 36
    assert [command for command in game.admissible_commands if not command.startswith("go to")] == [
        "clean lettuce 2 with sinkbasin 1", "examine drawer 2", "examine lettuce 2", "examine sinkbasin 1", "help",
        "inventory", "look", "move lettuce 2 to sinkbasin 1", "open drawer 2",
    ]  # fmt: skip


@pytest.mark.slow
def test_walkthroughs_of_real_games_win(official_games: dict[str, Path]) -> None:
    kinds = {name.split("/")[1].split("-")[0] for name in official_games}
    assert len(kinds) == 6
    for name, path in official_games.items():
        game = load_game(path.parent)
        assert game.task in game.reset()
        rewards = [game.step(command)[1] for command in game.walkthrough]
        assert rewards == [0] * (len(rewards) - 1) + [1], name


def test_a_start_at_receptacles_and_a_receptacle_with_three_places(write_kitchen: WriteKitchen) -> None:
    problem = json.loads(write_kitchen().read_text())["pddl_problem"].replace(
        "(atLocation agent1 loc_bar_0)",
        "(atLocation agent1 loc_bar_1) (receptacleAtLocation Fridge_bar_1 loc_bar_1) "
        "(receptacleAtLocation Fridge_bar_1 loc_bar_4)",
    )
    game = load_game(write_kitchen(problem=problem))
    facing = "You are facing the countertop 1, drawer 2, and fridge 1. Next to it, you see nothing."
    assert facing in game.reset()
    assert "go to fridge 1" in game.admissible_commands
    assert "open fridge 1" in game.admissible_commands
    for command, observation in [
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
        ("look", "You are facing the fridge 1. Next to it, you see nothing."),
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
        ("look", facing),
        ("go to drawer 1", "You arrive at drawer 1. The drawer 1 is open. In it, you see nothing."),
        ("go to fridge 1", "You arrive at fridge 1. The fridge 1 is closed."),
        ("look", facing),
    ]:
        assert game.step(command) == (observation, 0, False)


def test_commands_must_be_written_exactly(write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen())
    game.reset()
    for command in ("Go to fridge 1", "go to  fridge 1", "go to fridge", "go fridge 1", "go to fridge 1 now", "",
                    "look around", "open fridge 1", "take apple 2 from countertop 1",
                    "put apple 2 in/on countertop 1"):  # fmt: skip
        assert game.step(command) == ("Nothing happens.", 0, False), command
    assert game.step(" go to fridge 1\n")[0] == "You arrive at fridge 1. The fridge 1 is closed."


def test_admissible_commands_are_exactly_those_that_do_something(write_kitchen: WriteKitchen, wander: Wander) -> None:
    for seed in range(4):
        game = load_game(write_kitchen())
        game.reset()
        for _ in wander(game, 40, seed):
            does = {command for command in every_command(game) if game.clone().step(command)[0] != "Nothing happens."}
            assert game.admissible_commands == sorted(does)


def test_clones_and_games_of_one_spec_go_their_own_ways(write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen())
    game.reset()
    for command in ("go to countertop 1", "take apple 2 from countertop 1"):
        game.step(command)
    twin, other = game.clone(), Game(game.spec)
    other.reset()
    assert twin.step("move apple 2 to countertop 1")[0] == "You move the apple 2 to the countertop 1."
    assert game.step("inventory")[0] == "You are carrying: a apple 2."
    assert other.step("inventory")[0] == "You are not carrying anything."
    listed = game.admissible_commands
    listed.clear()
    assert game.admissible_commands


def test_step_before_reset_is_refused(write_kitchen: WriteKitchen) -> None:
    with pytest.raises(RwmlError, match="step before reset"):
        load_game(write_kitchen()).step("look")


def test_help_and_tools_are_read_from_the_file(write_kitchen: WriteKitchen) -> None:
    data = json.loads(write_kitchen().read_text())
    grammar = data["grammar"].replace('"Ask."', '"#help.feedback#"')
    rule = '\n{"help.feedback": [{"rhs": "\\nSay:\\n  look"}]}'
    domain = data["pddl_domain"].replace("FridgeType", "DrawerType")
    game = load_game(write_kitchen(grammar=grammar + rule, domain=domain))
    game.reset()
    assert game.step("help")[0] == "Say:\n  look"
    for command in ("go to countertop 1", "take apple 2 from countertop 1"):
        game.step(command)
    assert "cool apple 2 with drawer 2" in game.admissible_commands


def test_the_engine_imports_nothing_heavy() -> None:
    code = (
        "import sys, rwml.worlds.alfworld.engine.cache; print(sorted({'torch', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
