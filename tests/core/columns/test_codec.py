"""Columns of records, and what is shared in memory when they are read."""

from __future__ import annotations

from rwml.core.columns.codec import fields_of, is_placed, optional, row_decoder, row_encoder
from rwml.core.types import Episode, History, PredictedState, Step, StopReason, Task, Transition

TEXTS = ["go", "at 1", "take", "you take"]
ROWS = [
    Transition(f"e@{n}", "e", "t", "train", n, "open", tuple(TEXTS[: 2 * n]), "go", "at 1", "text", "go", True, False)
    for n in range(3)
]


def test_a_field_is_known_by_its_type_and_whether_it_may_be_none() -> None:
    hints = dict(fields_of(PredictedState))
    assert list(hints)[:3] == ["transition", "text", "next_state"]
    assert (optional(hints["text"]), optional(hints["next_state"])) == ((str, False), (str, True))
    assert optional(dict(fields_of(Transition))["history"]) == (tuple[str, ...], False)
    assert is_placed(Transition) and not is_placed(Episode)


def test_rows_hold_each_text_once_and_come_back() -> None:
    encode, decode = row_encoder(Transition), row_decoder(Transition)
    rows = [encode(row) for row in ROWS]
    assert [row["history_new"] for row in rows] == [[], TEXTS[:2], TEXTS[2:]]
    assert [(row["history_start"], row["history_stop"]) for row in rows] == [(0, 0), (0, 2), (0, 4)]
    back = [decode(row) for row in rows]
    assert back == ROWS
    first, last = (row.history for row in back[1:])
    assert isinstance(first, History) and isinstance(last, History)
    assert first.texts is last.texts
    assert back[0].next_state is last[1] or back[2].next_state is last[1], "the next state is a text of the history"


def test_a_row_with_its_whole_history_is_read_and_shares_it() -> None:
    whole = [{name: getattr(row, name) for name in Transition.__slots__} for row in ROWS]
    decode = row_decoder(Transition)
    # As from a file: equal texts of two rows are two objects.
    back = [decode(row | {"history": ["".join(list(text)) for text in row["history"]]}) for row in whole]
    assert back == ROWS
    assert isinstance(back[1].history, History) and isinstance(back[2].history, History)
    assert back[1].history.texts is back[2].history.texts


def test_equal_texts_of_one_record_are_one_object() -> None:
    step = Step("look around", "look around", "you see")
    episode = Episode("e", Task("t", "w", "s", "k"), "p", 0, 0, "open", (step,), StopReason.FAILURE, False)
    row = row_encoder(Episode)(episode)
    row["steps"] = [row["steps"][0] | {"text": "".join(list("look around"))}]
    back = row_decoder(Episode)(row)
    assert back == episode and back.stop is StopReason.FAILURE
    assert back.steps[0].text is back.steps[0].action
