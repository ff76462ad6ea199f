"""Documented edits by hand, on a schema, and on real transitions."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from rwml.core.text import same_text
from rwml.core.types import Transition
from rwml.measure import edits
from rwml.measure.edits import HARMLESS, WRONG, Vocabulary
from rwml.playing.rollout import play_built_in, seats_for
from rwml.rewards.named_things import named_things
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

DESK = "You arrive at desk 1. On the desk 1, you see a mug 2, and a pen 3."
WORDS = Vocabulary(things=("bowl", "desk", "mug", "pen"), fields=())
NOTHING = "Nothing happens."


@pytest.fixture(scope="module")
def real(world: World) -> list[Transition]:
    """All transitions of eight noisy episodes of at most twelve steps."""
    episodes = play_built_in(world, seats_for(world.tasks("train"), 1, seed=0), "noisy", 12)
    return [row for episode in episodes for row in transitions_of(episode, world, "train")]


def test_edits_by_hand() -> None:
    assert edits.white_space("a b.", WORDS) == "a  b.\n"
    assert edits.order(DESK, WORDS) == "You arrive at desk 1. On the desk 1, you see a pen 3, and a mug 2."
    assert edits.articles(DESK, WORDS) == "You arrive at desk 1. On desk 1, you see mug 2, and pen 3."
    assert edits.number("You turn on the lamp 9.", WORDS) == "You turn on the lamp 10."
    assert edits.number("It costs 12 dollars and 3 cents.", WORDS) in (
        "It costs 13 dollars and 3 cents.", "It costs 12 dollars and 4 cents.",
    )  # fmt: skip
    assert edits.number("$99", WORDS) == "$100"
    # One desk, wherever it is named; of the others only those words that the text does not have.
    assert edits.thing("On the desk 1, you see nothing. The desk 1 is old.", Vocabulary(("desk", "pen"), ())) == (
        "On the pen 1, you see nothing. The pen 1 is old."
    )
    assert edits.missing(DESK, WORDS) in (
        "You arrive at desk 1. On the desk 1, you see a mug 2.",
        "You arrive at desk 1. On the desk 1, you see a pen 3.",
    )
    assert edits.added(DESK, WORDS) == "You arrive at desk 1. On the desk 1, you see a mug 2, a pen 3, and a bowl 1."
    assert (
        edits.added("In it, you see a pen 3.", Vocabulary(("mug", "pen"), ())) == "In it, you see a pen 3, and a mug 1."
    )
    assert edits.state("The fridge 1 is closed.", WORDS) == "The fridge 1 is open."
    assert edits.state("You turn on the desklamp 1.", WORDS) == "You turn off the desklamp 1."


def test_an_edit_without_anything_to_change_is_none() -> None:
    edited = {name: edit(NOTHING, WORDS) for name, edit in (HARMLESS | WRONG).items()}
    assert {name for name, text in edited.items() if text is not None} == {"white space"}
    assert edits.missing("In it, you see a pen 3.", WORDS) is None
    assert edits.order("In it, you see a pen 3.", WORDS) is None
    assert edits.thing(DESK, Vocabulary(("desk", "mug", "pen"), ())) is None


def test_edits_of_a_schema_by_hand() -> None:
    string, integer = {"type": "string"}, {"type": "integer"}
    schema = {"type": "object", "properties": {"id": string, "total": string}}
    text = json.dumps(schema)
    words = Vocabulary.of([text, json.dumps({"type": "object", "properties": {"note": string}})])
    assert words.fields == ("id", "note", "total")
    made = {name: edit(text, words) for name, edit in (HARMLESS | WRONG).items()}
    assert made["articles"] is made["number"] is None
    assert json.loads(made["list order"] or "") == schema
    assert (made["list order"] or "").index("total") < (made["list order"] or "").index("id")
    fields = {name: json.loads(made[name] or "")["properties"] for name in WRONG if made[name]}
    assert fields["missing thing"] in ({"id": string}, {"total": string})
    assert fields["added thing"] == {"id": string, "total": string, "note": string}
    assert fields["thing"] in ({"id": string, "note": string}, {"note": string, "total": string})
    assert fields["state"] in ({"id": integer, "total": string}, {"id": string, "total": integer})


def test_edits_of_real_next_states_change_what_they_say(real: list[Transition]) -> None:
    texts = sorted({row.next_state for row in real})
    words = Vocabulary.of(texts)
    seen: Counter[str] = Counter()
    for text in texts:
        names, counts = named_things(text), Counter(text.replace(",", "").replace(".", "").split())
        for kind, edit in (HARMLESS | WRONG).items():
            changed = edit(text, words)
            if changed is None:
                continue
            seen[kind] += 1
            after = named_things(changed)
            assert same_text(changed, text) == (kind == "white space")
            if kind == "list order":
                assert (names, counts) == (after, Counter(changed.replace(",", "").replace(".", "").split()))
            elif kind in ("articles", "state"):
                assert names == after
            elif kind == "missing thing":
                assert len(_items(text)) == len(_items(changed)) + 1
            elif kind == "added thing":
                assert len(_items(text)) == len(_items(changed)) - 1
                assert len(after - names) == 1
            elif kind in ("number", "thing"):
                assert len(names - after) == 1
    assert min(seen[kind] for kind in HARMLESS | WRONG) >= 5


def _items(text: str) -> list[str]:
    return [part for part in text.replace(".", " ").replace(",", " ").split() if part in ("a", "an")]


def test_numbers_of_many_digits_and_deep_json_are_edited_or_left() -> None:
    vocabulary = Vocabulary(("mug", "pen"), ("id", "name"))
    assert WRONG["number"]("mug " + "9" * 5000, vocabulary) == "mug " + "9" * 4982 + "1" + "0" * 18
    assert WRONG["number"]("room 007", vocabulary) == "room 8"
    assert HARMLESS["list order"]('{"a": 1, "b": ' + "[" * 90 + "]" * 90 + "}", vocabulary) is not None
    for depth in (101, 900, 5000):
        text = '{"a": 1, "b": ' + "[" * depth + "]" * depth + "}"
        assert HARMLESS["list order"](text, vocabulary) is None
        assert WRONG["missing thing"](text, vocabulary) is None
