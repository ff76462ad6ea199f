"""Random answers, observations and JSON, by a seed, through everything that reads such texts: no exception, no hang."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from functools import partial

from fuzz_recipes import faults_of
from rwml.core.prompts import parse_action, parse_next_state, split_tools
from rwml.core.text import same_text
from rwml.core.tool_calls import calls_of, parse_message
from rwml.measure.edits import HARMLESS, WRONG, Vocabulary
from rwml.models.chat_tools import read_tools
from rwml.reports.escapes import csv_cell, label, latex, markdown
from rwml.reports.formats import word_difference
from rwml.rewards.judge import read_score
from rwml.rewards.named_things import named_things
from rwml.rewards.text_rewards import ExactReward, F1Reward, RougeReward
from rwml.worlds.alfworld.beliefs import knowable, read_action, read_list
from rwml.worlds.alfworld.outcome import granted, reads_win
from rwml.worlds.schema import mask_response

PIECES = (
    "<think>", "</think>", "<next_state>", "</next_state>", "<action>", "</action>", "<tool_call>", "</tool_call>",
    "[TOOL_CALLS]", "<|python_tag|>", '{"name": "f", "arguments": {"a": 1}}', '{"name": "f"', "```json\n", "```",
    "Score: ", "0.5", "1e999", "NaN", "-Infinity", "9" * 5000, "{", "[", "}" * 3, "]" * 3, '"', "\\", "\\ud83d", "\n",
    " " * 50, "\x00", "\x1b[31m", "\ud83d", "\u202e", "é", "中文", "🙂", "desk 1", "a mug 2, and a ", "go to ", "take ",
    "On the desk 1, you see ", "You are in the middle of a room.", "Your task is to: put a mug in desk.", "$", "=1+1",
    "|", "<b>", "[" * 3000, '{"a":' * 3000, "[" * 400 + "]" * 400, "<tool_call>" * 200, "a b " * 300, "x" * 3000,
    "user@x.y, " * 100, "1,200.50 ",
)  # fmt: skip
KEYS = ("id", "name", "a", "item_id", "001", "some key", "\ud83d", "", "1" * 20, "type", "properties", "anyOf")

RULES = [*HARMLESS.values(), *WRONG.values()]


def random_text(draw: random.Random) -> str:
    """Some pieces, of which the last may be repeated many times."""
    pieces = [draw.choice(PIECES) for _ in range(draw.randrange(8))]
    if pieces and draw.random() < 0.1:
        pieces += [pieces[-1]] * draw.choice((3, 300))
    return "".join(pieces)[:400_000]


def random_json(draw: random.Random, depth: int = 5) -> object:
    """A value of JSON: of every type, with keys that are data and keys that are names."""
    kind = draw.random() if depth else 0.0
    if kind < 0.4:
        return draw.choice((None, True, 0, -1, 2**70, 1.5, float("nan"), float("inf"), "", "x", "\ud83d", 10**400))
    if kind < 0.7:
        return [random_json(draw, depth - 1) for _ in range(draw.choice((0, 1, 2, 5, 40 if depth > 3 else 3)))]
    keys = [draw.choice(KEYS) + draw.choice(("", str(n), f" {n}")) for n in range(draw.choice((0, 1, 3, 18)))]
    return {key: key if draw.random() < 0.1 else random_json(draw, depth - 1) for key in keys}


def calls_on(text: str, other: str) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every reader with a text; `other` is what it may be compared with."""
    plain: tuple[Callable[[str], object], ...] = (
        parse_action, parse_next_state, parse_message, calls_of, split_tools, read_tools, mask_response, named_things,
        read_action, read_list, granted, markdown, latex, csv_cell, label,
    )  # fmt: skip
    yield from ((reader.__name__, partial(reader, text)) for reader in plain)
    yield "read_score", partial(read_score, text, graded=True)
    yield "same_text", partial(same_text, text, other)
    yield "word_difference", partial(word_difference, text, other)
    for reward in (ExactReward, F1Reward, RougeReward):
        yield reward.__name__, partial(reward().score, [text, other, None], [other, text, text])
    yield "knowable", partial(knowable, other, [text, other], "go to desk 1", text)
    yield "reads_win", partial(reads_win, text, [other, text])
    vocabulary = Vocabulary(("mug", "pen"), ("id", "name"))
    yield from ((f"edit {rule.__name__}", partial(rule, text, vocabulary)) for rule in RULES)
    yield "Vocabulary.of", partial(Vocabulary.of, [text, other])


def answer_faults(number: int, seed: int = 0, limit_s: float = 5.0) -> tuple[int, list[str]]:
    """The number of calls on `number` random texts and JSON documents, and what went wrong in them."""
    draw, calls, faults, other = random.Random(seed), 0, list[str](), ""
    for count in range(number):
        text = random_text(draw) if draw.random() < 0.5 else json.dumps(random_json(draw))
        for name, call in calls_on(text, other):
            calls += 1
            faults += [f"{count} {name}: {fault}" for fault in faults_of(call, limit_s)]
        other = text
    return calls, faults
