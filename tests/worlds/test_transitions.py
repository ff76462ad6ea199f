"""An episode cut into transitions, by hand."""

from __future__ import annotations

from rwml.core.types import Episode, Step, StopReason, Task, Transition
from rwml.worlds.chat_world import ChatLogs
from rwml.worlds.transitions import transitions_of

CALL = '{"name": "get", "arguments": {"id": 1}}'
EPISODE = Episode(
    "e", Task("t", "chat", "train", "chat"), "logs", 0, 0, "Be kind.",
    (
        Step("Hello.", "Hello.", "Hi, my id is 1.", kind="user"),
        Step("", "<broken", "What?", kind="user", parsed=False),
        Step(CALL, CALL, '{"name": "Ann"}', kind="tool", valid=False),
        Step(CALL, CALL, '{"name": "Ann"}', kind="tool"),
        Step("Bye.", "Bye.", "", kind="user"),
    ),
    StopReason.SUCCESS, True,
)  # fmt: skip
SCHEMA = '{"type": "object", "properties": {"name": {"type": "string"}}}'


def test_parsed_and_answered_steps_are_transitions() -> None:
    hello, first, second = transitions_of(EPISODE, ChatLogs(), "valid_seen")
    assert hello == Transition(
        "e@0", "e", "t", "valid_seen", 0, "Be kind.", (), "Hello.", "Hi, my id is 1.", "user", "message",
        valid=True, knowable=False,
    )  # fmt: skip
    past = ("Hello.", "Hi, my id is 1.", "", "What?")
    assert (first.id, first.step, first.history, first.action) == ("e@2", 2, past, CALL)
    assert (first.next_state, first.kind, first.verb) == (SCHEMA, "tool", "get")
    assert (first.valid, first.knowable) == (False, False)
    assert second.history == (*past, CALL, '{"name": "Ann"}'), "the history shows what was really observed"
    assert (second.id, second.next_state, second.valid, second.knowable) == ("e@3", SCHEMA, True, True)


def test_a_window_cuts_the_history_and_not_what_is_knowable() -> None:
    rows = list(transitions_of(EPISODE, ChatLogs(), "train", history_steps=1))
    assert [row.history for row in rows] == [(), ("", "What?"), (CALL, '{"name": "Ann"}')]
    assert [row.knowable for row in rows] == [False, False, True]


def test_rows_may_begin_later_in_the_episode() -> None:
    (row,) = transitions_of(EPISODE, ChatLogs(), "train", first=3)
    assert row == list(transitions_of(EPISODE, ChatLogs(), "train"))[2]
