"""What is read of a model's answer, by hand: tags outside the thought, closed or not."""

from __future__ import annotations

import pytest

from rwml.core.prompts import (
    action_text,
    next_state_text,
    parse_action,
    parse_next_state,
    split_tools,
    tools_block,
)

# An answer with TAG for the tag, and what it says, finished or cut off.
READ: dict[str, str | None] = {
    "<TAG>a</TAG>": "a",
    "<think>hm</think><TAG> a\n</TAG>": "a",
    "<think>\n\n</think>\n\n<TAG>a</TAG> So be it.": "a",
    "<think><TAG>b</TAG> or <TAG>c</TAG>?</think><TAG>a</TAG>": "a",
    "<think>It shows <think>.</think><TAG>a</TAG>": "a",
    "<TAG>a</TAG><think>or <TAG>b</TAG>?</think>": "a",
    "<think>hm</think><TAG>It shows <think>.</TAG>": "It shows <think>.",
    "<think><TAG>b</TAG></think>": None,
    "<think>hm <TAG>b</TAG> <TAG>c</TAG>": None,
    "<think>": None,
    "hm</think><TAG>a</TAG>": "a",
    "<TAG>b</TAG>?</think><TAG>a</TAG>": None,
    "<TAG>a</TAG><TAG>a</TAG>": None,
    "<think>hm</think><TAG> </TAG>": None,
    "<think>hm</think><TAG>a": None,
    "": None,
}


# An answer whose thought nothing closes, and what it says where it is finished; cut off, only what stood before it.
OPEN: dict[str, tuple[str | None, str | None]] = {
    "<think><TAG>b</TAG>": ("b", None),
    "<think>find mug<TAG>go to desk 1</TAG>": ("go to desk 1", None),
    "Well. <think>\nPerhaps <TAG>b</TAG>\n": ("b", None),
    "<TAG>a</TAG><think>or <TAG>b</TAG>?": (None, "a"),
    "<TAG>a</TAG><think>or": ("a", "a"),
}


@pytest.mark.parametrize("truncated", [False, True])
@pytest.mark.parametrize("answer", READ)
def test_an_answer_stands_outside_the_thought(answer: str, truncated: bool) -> None:
    assert parse_action(answer.replace("TAG", "action"), truncated=truncated) == READ[answer]
    assert parse_next_state(answer.replace("TAG", "next_state"), truncated=truncated) == READ[answer]


@pytest.mark.parametrize("answer", OPEN)
def test_a_draft_in_a_thought_that_was_cut_off_is_no_answer(answer: str) -> None:
    for truncated in (False, True):
        assert parse_action(answer.replace("TAG", "action"), truncated=truncated) == OPEN[answer][truncated]
        assert parse_next_state(answer.replace("TAG", "next_state"), truncated=truncated) == OPEN[answer][truncated]


@pytest.mark.parametrize("thought", ["", "known", "maybe <action>b</action> <next_state>b</next_state>"])
def test_what_is_written_is_read_back(thought: str) -> None:
    assert parse_action(action_text("go", thought)) == parse_action(action_text("go")) == "go"
    assert parse_next_state(next_state_text("A desk.", thought)) == "A desk."


def test_a_block_of_tools_is_cut_off_an_opening_again() -> None:
    block = tools_block([{"name": "größe"}, {"name": "b"}])
    lines = '{"name": "größe"}\n{"name": "b"}'
    assert block == f"<tools>\n{lines}\n</tools>"
    assert split_tools(f"{block}\n\nBe kind.\n\nUser: Hi") == (lines, "Be kind.\n\nUser: Hi")
    for opening in ("", "Be kind.", block, f"First.\n{block}\n\nBe kind.", "<tools>\n{}\nBe kind."):
        assert split_tools(opening) == ("", opening)
