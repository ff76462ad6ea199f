"""Goals of ALFWorld games: joins against brute force, in every state of a tour and of random play."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld import Game, load_game
from rwml.worlds.alfworld.engine.facts import GameFacts
from rwml.worlds.alfworld.engine.goal import PREDICATES, compile_goal, read_tree, write_tree

WriteKitchen = Callable[..., Path]
Wander = Callable[[Game, int, int], Iterator[str]]

GOALS = [  # each is true in some states of the play below and false in others
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
    "(exists (?o - object ?l1 - location ?l2 - location) (and (not (= ?l1 ?l2)) (objectAtLocation ?o ?l1) (isHot ?o) "
    "(exists (?a - agent) (atLocation ?a ?l2)) (exists (?a - agent) (holdsAny ?a))))",
    "(exists (?x - object ?y - object ?z - object) (and (inReceptacleObject ?x ?y) (isReceptacleObject ?y) (isOn ?z) "
    "(not (= ?x ?z))))",
]
CONSTANT = {"()": True, "(and)": True, "(or)": False, "(exists (?o - object) (= ?o Apple_bar_2))": True,
            "(exists (?o - object ?r - receptacle) (= ?o ?r))": False,
            "(exists (?x - object ?y - object) (inReceptacleObject ?x ?x))": False}  # fmt: skip
TOUR = (
    "go to fridge 1", "open fridge 1", "take apple 1 from fridge 1", "go to countertop 1",
    "move apple 1 to countertop 1", "use desklamp 1", "open drawer 2", "take butterknife 1 from drawer 2",
    "slice apple 1 with butterknife 1", "move butterknife 1 to countertop 1", "take apple 2 from countertop 1",
    "go to microwave 1", "open microwave 1", "clean apple 2 with sinkbasin 1", "heat apple 2 with microwave 1",
    "move apple 2 to microwave 1", "take mug 1 from sinkbasin 1", "go to drawer 1", "close drawer 1",
)  # fmt: skip


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
        pairs = [(rest[0][place], rest[0][place + 2]) for place in range(0, len(rest[0]), 3)]
        choices = itertools.product(*(range(facts.count(sort)) for _, sort in pairs))
        named = (dict(zip([name for name, _ in pairs], choice, strict=True)) for choice in choices)
        tries = (brute_force(rest[1], facts, bound | choice) for choice in named)
        return any(tries) if head == "exists" else all(tries)
    args = tuple(bound[word] if word in bound else int(word[2:]) if ":" in word else word for word in rest)
    return args[0] == args[1] if head == "=" else facts.holds(head, args)


@pytest.mark.parametrize("goal", GOALS)
def test_goals_agree_with_brute_force_in_every_state(goal: str, write_kitchen: WriteKitchen, wander: Wander) -> None:
    """`won` is only worked out again after a change that the goal reads, and must be right all the same."""
    game = load_game(write_kitchen(goal=goal))
    tree = read_tree(game.spec.goal)
    seen = set()
    for seed in range(2):
        game.reset()
        for command in TOUR:
            answer, reward, done = game.step(command)
            assert answer != "Nothing happens."
            assert (reward, done) == (int(game.won), game.won)
            assert game.won == brute_force(tree, GameFacts(game), {}), command
            seen.add(game.won)
        for _ in wander(game, 40, seed):
            assert game.won == brute_force(tree, GameFacts(game), {})
            seen.add(game.won)
    assert seen == {True, False}


@pytest.mark.parametrize(("goal", "truth"), CONSTANT.items())
def test_goals_that_never_change(goal: str, truth: bool, write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen(goal=goal))
    game.reset()
    assert game.won is truth
    assert game.step("look")[1:] == (int(truth), truth)


def test_facts_agree_between_patterns(write_kitchen: WriteKitchen) -> None:
    game = load_game(write_kitchen())
    game.reset()
    sizes = {"object": 8, "receptacle": 6, "location": 5, "agent": 1}
    types: dict[str, list[Any]] = {
        "otype": sorted({kind for kinds in game.spec.object_types for kind in kinds}),
        "rtype": sorted({kind for kinds in game.spec.receptacle_types for kind in kinds}),
    }
    seen = set()
    for command in TOUR:
        game.step(command)
        facts = GameFacts(game)
        assert {sort: facts.count(sort) for sort in sizes} == sizes
        for name, predicate in PREDICATES.items():
            values: list[list[Any]] = [types.get(sort) or [*range(sizes[sort])] for sort in predicate.sorts]
            true = {row for row in itertools.product(*values) if facts.holds(name, row)}
            seen |= {name} if true else set()
            # Types are always named in a goal, so they are never free.
            free = [(True, False) if sort in sizes else (False,) for sort in predicate.sorts]
            for holes in itertools.product(*free):
                for row in itertools.product(*values):
                    pattern = tuple(None if hole else value for hole, value in zip(holes, row, strict=True))
                    wanted = {r for r in true if all(p in (None, v) for p, v in zip(pattern, r, strict=True))}
                    assert set(facts.rows(name, pattern)) == wanted, (name, pattern)
    assert seen == set(PREDICATES)


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
        ("((and))", "is not a condition"),
    ],
)
def test_goals_that_cannot_be_checked_are_refused(goal: str, problem: str, write_kitchen: WriteKitchen) -> None:
    with pytest.raises(RwmlError) as caught:
        load_game(write_kitchen(goal=goal))
    assert problem in caught.value.what


def test_joins_begin_where_most_is_bound() -> None:
    """A goal over two free variables must ask for the rows of one object, never for all pairs."""
    asked: list[tuple[str, tuple[Any, ...]]] = []

    class OneApple:
        def rows(self, predicate: str, pattern: tuple[Any, ...]) -> list[tuple[Any, ...]]:
            asked.append((predicate, pattern))
            known: dict[str, list[tuple[Any, ...]]] = {
                "objecttype": [(4, "appletype")],
                "inreceptacle": [(4, 2), (4, 3)],
            }
            return known[predicate]

        def holds(self, predicate: str, args: tuple[Any, ...]) -> bool:
            asked.append((predicate, args))
            return True

        def count(self, sort: str) -> int:
            raise AssertionError("nothing here needs to range over a whole sort")

    goal = compile_goal(
        "(exists (?o - object ?r - receptacle) (and (inreceptacle ?o ?r) (ishot ?o) (objecttype ?o appletype) "
        "(receptacletype ?r fridgetype)))"
    )
    assert goal.reached(OneApple())
    assert asked == [
        ("objecttype", (None, "appletype")),
        ("ishot", (4,)),
        ("inreceptacle", (4, None)),
        ("receptacletype", (2, "fridgetype")),
    ]


def test_trees_survive_writing() -> None:
    text = "(and (a ?x) (exists (?x - o) (b ?x c)) ())"
    assert write_tree(read_tree(f"; a remark (\n  {text.upper()}")) == text
    for torn in ("(and (a)", "a b", "())", ""):
        with pytest.raises(ValueError):
            read_tree(torn)
