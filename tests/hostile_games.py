"""Game files mutated by a seed, and what comes of them; small in the tests, and at any size from a benchmark."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from typing import Any, NamedTuple

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import parse_game

STEPS = 5
_WORDS = (
    "(", ")", "()", "(not", "and", "exists", "forall", "?a ?b ?c ?d ?e - object", "- object", "object", "9" * 5000,
    "o:0", "o:-5", "r:x", "\ud83d", "\\u12", '"', "\\", "\x00", "{", "}", ":goal", ":init", "canContain",
    "(canContain a)",
    "(= a 1)", "(or", "imply", "(" * 2000, "(not " * 300 + ")" * 300, "[" * 3000,
)  # fmt: skip
_GOALS = (
    "(forall (?a ?b ?c ?d ?e - object) (or (not (isClean ?a)) (= ?b ?c) (= ?d ?e)))",
    "(forall (?a ?b ?c ?d ?e - object) (or (not (isClean ?a)) (isHot ?e)))",
    "(exists (?a ?b ?c ?d ?e ?f - object) (not (= ?a ?a)))",
    "(imply (isHot Mug_bar_1) (forall (?l - location ?m - location ?n - location ?p - location) (atLocation a ?l)))",
    "(not " * 40 + "()" + ")" * 40,
    "(and " + "() " * 140 + ")",
)


class Outcome(NamedTuple):
    """What came of `files` mutated files: games that were played, and files that were refused. slowest: seconds."""

    files: int
    games: int
    refused: int
    slowest: float


def mutated(text: str, seed: int) -> str:
    """One or a few faults in a game file: in its bytes, or in one of its texts."""
    rng = random.Random(seed)
    if rng.random() < 0.3:
        return _text(text, rng)
    data = json.loads(text)
    key = rng.choice(sorted(data))
    if key == "pddl_problem" and rng.random() < 0.4:
        head, _, _ = data[key].partition("(:goal")
        data[key] = f"{head}(:goal {rng.choice(_GOALS)}))"
    elif isinstance(data[key], str) and rng.random() < 0.9:
        data[key] = _text(data[key], rng)
    else:
        data[key] = rng.choice([None, 7, [], {}, [1], "", True])
    return json.dumps(data)


def _text(text: str, rng: random.Random) -> str:
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randrange(len(text) + 1)
        stop = min(len(text), start + rng.choice((0, 1, 1, 5, 40)))
        piece = text[start:stop]
        put = rng.choice(["", rng.choice(_WORDS), piece * 2, piece[::-1], chr(rng.randrange(32, 400))])
        text = text[:start] + put + text[stop:]
    return text[: rng.randrange(len(text) + 1)] if rng.random() < 0.1 else text


def tried(text: str, files: int, seed: int = 0) -> Outcome:
    """Mutate a game file `files` times, and play what is a game. An error that is no RwmlError is raised."""
    games, slowest = 0, 0.0
    for number in range(files):
        started = time.process_time()
        with suppress(RwmlError):
            _play(mutated(text, seed * 1_000_003 + number), random.Random(number))
            games += 1
        slowest = max(slowest, time.process_time() - started)
    return Outcome(files, games, files - games, slowest)


def _play(text: str, rng: random.Random) -> None:
    game = Game(parse_game(text))
    game.reset().encode()
    for _ in range(STEPS):
        commands: list[Any] = game.admissible_commands
        game.step(rng.choice(commands) if commands else "look")[0].encode()
