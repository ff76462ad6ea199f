"""Game files of a stranger: each is played, or refused by name in a moment; and a seeded test over mutated ones."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile_games import mutated, tried
from rwml.core.errors import RwmlError
from rwml.worlds.alfworld import load_game, load_games
from rwml.worlds.alfworld.engine.parse import MAX_CHARACTERS, MAX_ENTITIES, game_path, parse_game

WriteKitchen = Callable[..., Path]
DEEP = 3000
# True of the eight objects, which takes 8 ** 5 = 32,768 bindings to see.
FIVE = "(forall (?a ?b ?c ?d ?e - object) (or (not (isClean ?a)) (= ?b ?c) (= ?d ?e)))"


def refusal(path: Path) -> str:
    with pytest.raises(RwmlError) as caught:
        load_game(path)
    assert str(path) in caught.value.what
    assert "alfworld-download" in caught.value.fix
    return caught.value.what


def rewritten(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def nested(depth: int) -> str:
    return "(not " * depth + "(exists (?o - object) (isHot ?o))" + ")" * depth


@pytest.mark.parametrize(
    ("goal", "problem"),
    [
        (nested(DEEP), "brackets are nested deeper than 64"),
        (f"(isHot o:{'9' * 5000})", "is not declared"),
        ("(isHot o:0)", "'o:0' is not declared"),
        ("(isHot Cup_bar_7)", "'cup_bar_7' is no object of this game"),
        (f"(and {'(exists (?o - object) (isHot ?o))' * 40})", "words and brackets, more than 300"),
        (FIVE, "after 20,000 bindings"),
        ("(exists (?a ?b ?c ?d ?e - object) (and (not (= ?a ?b)) (isHot ?c) (isCool ?d) (isSliced ?e)))", ""),
    ],
)
def test_goals_beyond_the_bounds_are_refused(goal: str, problem: str, write_kitchen: WriteKitchen) -> None:
    path = write_kitchen(goal=goal)
    if problem:
        assert problem in refusal(path)
    else:
        assert load_game(path).reset()


def test_a_goal_that_explodes_later_is_an_error_of_that_step(write_kitchen: WriteKitchen) -> None:
    """Whether an apple is held decides the goal at once until one is."""
    game = load_game(write_kitchen(goal=f"(and (exists (?x - object ?y - agent) (holds ?y ?x)) {FIVE})"))
    game.reset()
    for command in ("go to countertop 1", "look"):
        assert game.step(command)[1:] == (0, False)
    with pytest.raises(RwmlError, match="not decided after 20,000 bindings"):
        game.step("take apple 2 from countertop 1")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("(canContain FridgeType MugType)", "(canContain FridgeType MugType AppleType)", "has 3 parts, not 2"),
        ("(canContain FridgeType MugType)", "(canContain)", "a fact of its 'cancontain' has 0 parts, not 2"),
        ("(openable Fridge_bar_1)", "(openable Fridge_bar_1 Fridge_bar_1)", "a fact of its 'openable' has 2 parts"),
        ("put a hot apple", "put a hot \\\\ud83d apple", "half a character"),
        ("put a hot apple", "put a hot \\\\uZZ apple", "a text of its grammar cannot be read"),
        ("put a hot apple", "put a hot \\ud83d apple", "its grammar holds half a character"),
        ("Spoon_bar_1", "Spoon_bar_\\udc80", "its pddl_problem holds half a character"),
        ('["go to countertop 1"]', "[1]", "its walkthrough is not a list of texts"),
        ('["go to countertop 1"]', "[" * DEEP + "]" * DEEP, "nested too deep"),
        ('["go to countertop 1"]', "9" * 5000, "is not JSON"),
    ],
)
def test_faults_of_a_file_are_named(old: str, new: str, problem: str, write_kitchen: WriteKitchen) -> None:
    assert problem in refusal(rewritten(write_kitchen(), old, new))


def test_files_without_an_end_and_too_large_ones_are_not_read(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    pipe = tmp_path / "pipe" / "game.tw-pddl"
    pipe.parent.mkdir()
    os.mkfifo(pipe)
    assert "it is not a file" in refusal(pipe)
    large = write_kitchen()
    large.write_text(large.read_text() + " " * MAX_CHARACTERS)
    assert "it has more than 4,000,000 characters" in refusal(large)
    crowd = " ".join(f"(isHot Apple_bar_{n})" for n in range(3, MAX_ENTITIES + 3))
    declared = " ".join(f"Apple_bar_{n} - object" for n in range(3, MAX_ENTITIES + 3))
    path = rewritten(write_kitchen(), "(isCool Apple_bar_2)", crowd)
    rewritten(path, "agent1 - agent", f"agent1 - agent {declared}")
    assert "1,008 things of the sort 'object', more than 1,000" in refusal(path)


def test_one_broken_file_among_many_is_refused_alone(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    paths = [write_kitchen() for _ in range(4)]
    paths[1].write_text(paths[1].read_text()[:500])
    rewritten(paths[2], "(exists", nested(DEEP).replace("(exists", "(forall") + " (exists")
    cache = tmp_path / "games.cache"
    for parsed in (4, 2):
        games = load_games(paths, cache)
        assert (games.parsed, [*games.broken]) == (parsed, [1, 2])
        assert [games[place].task for place in (0, 3)] == ["put a hot apple in fridge."] * 2
        for place in (1, 2):
            with pytest.raises(RwmlError, match=str(paths[place])):
                games[place]


def test_mutated_files_are_played_or_refused(write_kitchen: WriteKitchen) -> None:
    """`tried` raises on anything but a whole game or an RwmlError, and `slowest` is in seconds of processor time."""
    text = game_path(write_kitchen()).read_text()
    outcome = tried(text, 400, seed=5)
    assert outcome.games + outcome.refused == outcome.files == 400
    assert outcome.games > 40
    assert outcome.refused > 40
    assert outcome.slowest < 5
    assert mutated(text, 3) == mutated(text, 3) != text
    assert json.loads(text)["walkthrough"] == list(parse_game(text).walkthrough)


def test_a_path_that_is_no_utf8_is_named_by_its_escape(tmp_path: Path) -> None:
    for made in (tmp_path / "gone_\udce9", tmp_path / "cut_\udce9"):
        if made.name.startswith("cut"):
            made.write_text("{")
        with pytest.raises(RwmlError) as caught:
            load_game(made)
        assert rf"{made.name[:-1]}\udce9" in caught.value.what
        caught.value.what.encode()
