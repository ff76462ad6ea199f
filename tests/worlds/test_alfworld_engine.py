"""The ALFWorld engine: golden traces recorded from the official engine, and checks by brute force."""

from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld import Game, load_game, load_games
from rwml.worlds.alfworld.facts import GameFacts
from rwml.worlds.alfworld.goal import PREDICATES, compile_goal, read_tree, write_tree

WriteKitchen = Callable[..., Path]

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
    ("go to countertop 1", "You arrive at countertop 1. On the countertop 1, you see a butterknife 1, a desklamp 1, and "
     "a plate 1.", 0),
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


def wander(game: Game, steps: int, seed: int) -> Iterator[str]:
    """Play random admissible commands, verb first; yields each before it is played."""
    rng = random.Random(seed)
    for _ in range(steps):
        by_verb: dict[str, list[str]] = {}
        for command in game.admissible_commands:
            by_verb.setdefault(command.split()[0], []).append(command)
        command = rng.choice(by_verb[rng.choice(sorted(by_verb))])
        yield command
        game.step(command)


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


def test_real_game_trace_is_the_official_one(official_games: dict[str, Path]) -> None:
    game = load_game(official_games[LETTUCE])
    assert game.reset().endswith("a stoveburner 1, and a toaster 1.\n\nYour task is to: put some lettuce on countertop.")
    for command, observation, reward in LETTUCE_TRACE:
        assert game.step(command) == (observation, reward, reward == 1), command
    assert len(game.admissible_commands) == 36
    assert [command for command in game.admissible_commands if not command.startswith("go to")] == [
        "clean lettuce 2 with sinkbasin 1", "examine drawer 2", "examine lettuce 2", "examine sinkbasin 1", "help",
        "inventory", "look", "move lettuce 2 to sinkbasin 1", "open drawer 2",
    ]  # fmt: skip


def test_walkthroughs_of_real_games_win(official_games: dict[str, Path]) -> None:
    kinds = {name.split("/")[1].split("-")[0] for name in official_games}
    assert len(kinds) == 6
    for name, path in official_games.items():
        game = load_game(path.parent)
        assert game.task in game.reset()
        rewards = [game.step(command)[1] for command in game.walkthrough]
        assert rewards == [0] * (len(rewards) - 1) + [1], name


def test_going_to_a_receptacle_at_the_start_and_to_one_with_two_places(write_kitchen: WriteKitchen) -> None:
    from tests_worlds_kitchen import KITCHEN  # type: ignore[import-not-found]

    del KITCHEN


def test_commands_must_be_written_exactly(write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen())
    game.reset()
    for command in ("Go to fridge 1", "go to  fridge 1", "go to fridge", "go fridge 1", "go to fridge 1 now", "", "look around",
                    "open fridge 1", "take apple 2 from countertop 1", "put apple 2 in/on countertop 1"):  # fmt: skip
        assert game.step(command) == ("Nothing happens.", 0, False), command
    assert game.step(" go to fridge 1\n")[0] == "You arrive at fridge 1. The fridge 1 is closed."


def test_admissible_commands_are_exactly_those_that_do_something(write_kitchen: WriteKitchen) -> None:
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


# Goals ----------------------------------------------------------------------------------------------------------

GOALS = [
    "(and (exists (?r - receptacle) (exists (?o1 - object) (and (objectType ?o1 AppleType) (inReceptacle ?o1 ?r) "
    "(receptacleType ?r CounterTopType) (exists (?o2 - object) (and (not (= ?o1 ?o2)) (objectType ?o2 AppleType) "
    "(inReceptacle ?o2 ?r)))))))",
    "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?ot DeskLampType) "
    "(toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) (inReceptacle ?ot ?r))) "
    "(exists (?o - object ?a - agent) (and (objectType ?o AppleType) (holds ?a ?o))))",
    "(forall (?r - receptacle) (imply (openable ?r) (opened ?r)))",
    "(exists (?o - object) (and (not (isHot ?o)) (or (isSliced ?o) (isCool ?o)) (not (exists (?r - receptacle) "
    "(inReceptacle ?o ?r)))))",
    "(and (inReceptacle Mug_bar_1 Microwave_bar_1) (not (inReceptacle Mug_bar_1 Sink_bar_1_bar_SinkBasin)))",
    "(exists (?o - object ?l1 - location ?l2 - location) (and (not (= ?l1 ?l2)) (objectAtLocation ?o ?l1) "
    "(exists (?a - agent) (atLocation ?a ?l2)) (not (exists (?a - agent) (holdsAny ?a)))))",
    "(exists (?x - object ?y - object) (and (inReceptacleObject ?x ?y) (isReceptacleObject ?y)))",
    "(not (exists (?o - object) (and (pickupable ?o) (isOn ?o))))",
    "()",
]  # fmt: skip


def brute_force(tree: Any, facts: GameFacts, bound: dict[str, Any]) -> bool:
    """Check a goal by trying every assignment, one quantifier at a time."""
    if not tree:
        return True
    head, rest = tree[0], tree[1:]
    if head in ("and", "or"):
        return (all if head == "and" else any)(brute_force(part, facts, bound) for part in rest)
    if head == "not":
        return not brute_force(rest[0], facts, bound)
    if head == "imply":
        return not brute_force(rest[0], facts, bound) or brute_force(rest[1], facts, bound)
    if head in ("exists", "forall"):
        words = rest[0]
        pairs = [(words[i], words[i + 2]) for i in range(0, len(words), 3)]
        values = [range(facts.count(sort)) for _, sort in pairs]
        names = [name for name, _ in pairs]
        tries = (brute_force(rest[1], facts, bound | dict(zip(names, v, strict=True))) for v in itertools.product(*values))
        return any(tries) if head == "exists" else all(tries)
    args = tuple(bound[w] if w in bound else int(w.split(":")[1]) if ":" in w else w for w in rest)
    return args[0] == args[1] if head == "=" else args in set(facts.rows(head, (None,) * len(args))) | set(
        facts.rows(head, args))


@pytest.mark.parametrize("goal", GOALS)
def test_goals_agree_with_brute_force_in_every_state(goal: str, write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen(goal=goal))
    tree = read_tree(game.spec.goal)
    seen = set()
    for seed in range(3):
        game.reset()
        for _ in wander(game, 60, seed):
            assert game.won == brute_force(tree, GameFacts(game), {})
            seen.add(game.won)
    assert goal in ("()", GOALS[6], GOALS[7]) or seen == {True, False}


def test_facts_of_every_predicate_agree_between_patterns(write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen())
    game.reset()
    sizes = {"object": 8, "receptacle": 6, "location": 5, "agent": 1}
    kinds = {"otype": {k for row in game.spec.object_types for k in row},
             "rtype": {k for row in game.spec.receptacle_types for k in row}}  # fmt: skip
    for _ in wander(game, 30, 0):
        facts = GameFacts(game)
        assert {sort: facts.count(sort) for sort in sizes} == sizes
        for name, predicate in PREDICATES.items():
            values = [sorted(kinds[s]) if s in kinds else range(sizes[s]) for s in predicate.sorts]
            true = {row for row in itertools.product(*values) if facts.holds(name, row)}
            for free in itertools.product((True, False), repeat=len(values)):
                if any(f and s in kinds for f, s in zip(free, predicate.sorts, strict=True)):
                    continue
                for row in true:
                    pattern = tuple(None if f else v for f, v in zip(free, row, strict=True))
                    wanted = {r for r in true if all(p is None or p == v for p, v in zip(pattern, r, strict=True))}
                    assert set(facts.rows(name, pattern)) == wanted, (name, pattern)


@pytest.mark.parametrize(
    ("goal", "problem"),
    [
        ("(exists (?o - object) (checked ?o))", "play keeps no 'checked'"),
        ("(exists (?o - object) (isHot ?x))", "the variable ?x is not declared"),
        ("(exists (?l - location) (isHot ?l))", "mixes sorts"),
        ("(exists (?o - otype) (isHot ?o))", "variables of sort 'otype' are not known"),
        ("(exists (?o) (isHot ?o))", "has no sort"),
        ("(not)", "'not' takes 1 parts, not 0"),
        ("(inReceptacle Mug_bar_1)", "'inreceptacle' takes 2 parts, not 1"),
        ("((and))", "is no condition"),
    ],
)
def test_goals_that_cannot_be_checked_are_refused(goal: str, problem: str, write_kitchen: WriteKitchen) -> None:
    with pytest.raises(RwmlError) as caught:
        load_game(write_kitchen(goal=goal))
    assert problem in caught.value.what


def test_trees_survive_writing() -> None:
    text = "(and (a ?x) (exists (?x - o) (b ?x c)) ())"
    assert write_tree(read_tree(f"; a remark (\n  {text.upper()}")) == text
    for torn in ("(and (a)", "a b", "())", ""):
        with pytest.raises(ValueError):
            read_tree(torn)
    assert compile_goal("(and)").reached(None)  # type: ignore[arg-type]


# Files ----------------------------------------------------------------------------------------------------------


def test_missing_truncated_and_foreign_files(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    good = write_kitchen()
    text = good.read_text()
    cases = {
        "missing": (None, "No such file"),
        "truncated": (text[: len(text) // 2], "it ends early or is no JSON"),
        "empty": ("", "it ends early or is no JSON"),
        "list": ("[1, 2]", "it has no text 'pddl_domain'"),
        "half": (json.dumps({"pddl_domain": "", "pddl_problem": ""}), "it has no text 'grammar'"),
        "torn problem": (text.replace("(:goal", "(:goal ("), "brackets are not closed"),
        "no goal": (text.replace("(:goal", "(:gaol"), "it has no (:goal ...)"),
        "nowhere": (text.replace("(atLocation agent1 loc_bar_0)", ""), "its agent is at 0 locations"),
        "older": (text.replace("move {o} to {r}", "put {o} in/on {r}"),
                  "writes the command of PutObject as 'put {o} in/on {r}', not 'move {o} to {r}'"),
        "new action": (text.replace("(:action help", "(:action dance () ) (:action help"), "missing or unknown: dance"),
        "no task": (text.replace("Your task is to: ", ""), "its grammar has no task"),
    }  # fmt: skip
    for name, (content, problem) in cases.items():
        path = tmp_path / name / "game.tw-pddl"
        path.parent.mkdir()
        if content is not None:
            path.write_text(content)
        with pytest.raises(RwmlError) as caught:
            load_game(path)
        assert problem in caught.value.what, name
        assert str(path) in caught.value.what
        assert caught.value.fix


def test_help_and_tools_are_read_from_the_file(write_kitchen: WriteKitchen) -> None:
    data = json.loads(write_kitchen().read_text())
    grammar = data["grammar"].replace('"Ask."', '"#help.feedback#"')
    rule = '\n{"help.feedback": [{"rhs": "\\nSay:\\n  look"}]}'
    game = load_game(write_kitchen(grammar=grammar + rule, domain=data["pddl_domain"].replace("FridgeType", "DrawerType")))
    game.reset()
    assert game.step("help")[0] == "Say:\n  look"
    for command in ("go to countertop 1", "take apple 2 from countertop 1"):
        game.step(command)
    assert "cool apple 2 with drawer 2" in game.admissible_commands


def test_the_engine_imports_nothing_heavy() -> None:
    code = "import sys, rwml.worlds.alfworld.cache as c; print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Cache ----------------------------------------------------------------------------------------------------------


def fields_of(game: Game) -> dict[str, Any]:
    spec = game.spec
    return {name: getattr(spec, name) for name in spec.__slots__ if name != "tables"}


def test_cache_gives_back_the_same_games(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    paths = [write_kitchen(goal=goal) for goal in GOALS]
    cache, ticks = tmp_path / "sub" / "games.cache", []
    first = load_games([path.parent for path in paths], cache, progress=lambda done, total: ticks.append((done, total)))
    assert (first.parsed, first.reused, first.rebuilt) == (9, 0, "there was no cache yet")
    assert ticks == [(number, 9) for number in range(1, 10)]
    second = load_games(paths, cache)
    assert [fields_of(game) for game in second] == [fields_of(load_game(path)) for path in paths]
    assert (second.parsed, second.reused, second.rebuilt) == (0, 9, "")
    assert second[3].spec is second[3].spec is second[3:4][0].spec
    assert second[-1].spec.goal == "()"
    assert list(cache.parent.iterdir()) == [cache]


def test_cache_follows_changed_and_missing_files(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    paths = [write_kitchen() for _ in range(3)]
    cache = tmp_path / "games.cache"
    load_games(paths, cache)
    paths[1].write_text(paths[1].read_text().replace("put a hot apple", "place a hot apple"))
    games = load_games(paths, cache)
    assert [game.task for game in games] == ["put a hot apple in fridge.", "place a hot apple in fridge.", games[0].task]
    assert (games.parsed, games.reused) == (1, 2)
    assert load_games(paths, cache)[1].task == "place a hot apple in fridge."
    status = paths[2].stat()
    os.utime(paths[2], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert load_games(paths, cache).parsed == 1
    paths[0].unlink()
    with pytest.raises(RwmlError, match="there is no game file"):
        load_games(paths, cache)


def test_damaged_caches_are_made_anew(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    paths = [write_kitchen(goal=goal) for goal in GOALS[:4]]
    cache = tmp_path / "games.cache"
    load_games(paths, cache)
    whole = cache.read_bytes()
    wanted = [fields_of(load_game(path)) for path in paths]
    damaged = "the cache is truncated or damaged"
    later = whole.replace(b'"version": 1', b'"version": 9', 1)
    middle = whole.index(b"\n") + 20
    for content, reason in [
        (b"", damaged), (whole[:30], damaged), (whole[:middle], damaged), (whole[:-1], damaged), (whole + b"x", damaged),
        (later, "it is rwml-alfworld-games version 9, not rwml-alfworld-games version 1"), (b"PK\x03\x04" * 40, damaged),
        (whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :], damaged),
    ]:  # fmt: skip
        cache.write_bytes(content)
        games = load_games(paths, cache)
        assert (games.rebuilt, games.parsed) == (reason, 4)
        assert [fields_of(game) for game in games] == wanted
        assert load_games(paths, cache).rebuilt == ""
    cache.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    games = load_games(paths, cache)
    assert [fields_of(game) for game in games] == wanted
    assert (games.rebuilt, games.parsed, games.reused) == ("", 1, 3)


def test_games_without_cache_are_parsed_when_asked_for(tmp_path: Path, write_kitchen: WriteKitchen) -> None:
    games = load_games([write_kitchen(), tmp_path / "gone.tw-pddl"])
    assert games[0].task == "put a hot apple in fridge."
    with pytest.raises(RwmlError, match="cannot read the game file"):
        games[1]
