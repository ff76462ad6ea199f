"""What each cheat answers, by hand."""

from __future__ import annotations

from rwml.core.types import Transition
from rwml.measure.cheats import cheat_answers

NOTHING = "Nothing happens."


def transition(next_state: str, action: str = "go to desk 1", history: tuple[str, ...] = ()) -> Transition:
    return Transition("e@0", "e", "t", "train", 0, "opening", history, action, next_state, "text", "go", True, True)


def test_cheats_by_hand() -> None:
    first = transition("On the desk 1, you see a pen 1.", "go to desk 1", ("look", "You see a room."))
    second = transition(NOTHING, "open desk 1", ("go to desk 1", NOTHING))
    rows = [first, second, second, second]
    answers = cheat_answers(rows, rows)
    assert answers["empty"] == [None] * 4
    assert answers["copied observation"] == ["You see a room.", *[NOTHING] * 3]
    assert answers["echoed action"][0] == "go to desk 1"
    assert answers["most frequent"] == [NOTHING] * 4
    assert answers["longest"] == [first.next_state] * 4
    assert "will describe the contents of desk 1" in str(answers["will describe"][0])
    assert answers["will describe"][1] == "The observation will describe the contents of desk 1 in detail."
    assert answers["the six most frequent"] == [f"{NOTHING} {first.next_state}"] * 4
    assert answers["most frequent of the verb"] == [NOTHING] * 4
