"""Verbs, targets and knowability in worlds of tools and users."""

from __future__ import annotations

import json

import pytest

from rwml.core.tool_calls import ToolCall, call_text
from rwml.core.types import Task
from rwml.worlds import tool_world
from rwml.worlds.base import Env, Prompts
from rwml.worlds.tool_world import ToolWorld


def call(*pairs: tuple[str, dict[str, object]]) -> str:
    return call_text([ToolCall(name, dict(arguments)) for name, arguments in pairs])


LINE_1, LINE_2 = call(("get_line", {"id": "L1"})), call(("get_line", {"id": "L2"}))
ANSWER_1, ANSWER_2 = '{"id": "L1", "used": 3.2}', '{"id": "L2", "used": 8.7}'
FORM = json.dumps({"type": "object", "properties": {"id": {"type": "string"}, "used": {"type": "number"}}})


def test_an_opening_in_its_order() -> None:
    tools = [{"type": "function", "function": {"name": "größe"}}, {"type": "function", "function": {"name": "b"}}]
    text = tool_world.opening(tools, "Be kind.\n", [("assistant", "Hi!"), ("user", "Help\nme ")], "Mend it.")
    assert text == (
        '<tools>\n{"type": "function", "function": {"name": "größe"}}\n'
        '{"type": "function", "function": {"name": "b"}}\n</tools>\n\n'
        "Be kind.\n\nTicket: Mend it.\n\nAgent: Hi!\n\nUser: Help\nme"
    )
    assert tool_world.opening([], "Be kind.", []) == "Be kind."
    assert tool_world.opening([], "", []) == ""


def test_verbs() -> None:
    assert tool_world.verb(LINE_1) == "get_line"
    assert tool_world.verb(call(("pay", {}), ("get_line", {"id": "L1"}))) == "pay"
    assert tool_world.verb("Which line is it?") == "message"
    assert tool_world.verb(" ") == "invalid"


def test_targets() -> None:
    assert tool_world.target("tool", ANSWER_1) == FORM
    assert tool_world.target("tool", "Error: no such line") == "Error: no such line"
    assert tool_world.target("user", ANSWER_1) == ANSWER_1


@pytest.mark.parametrize(
    ("history", "action", "target", "answer"),
    [
        ([], LINE_1, FORM, False),
        ([LINE_1, ANSWER_1], LINE_1, "Error: gone", True),  # the same call: whatever it answers now
        ([LINE_1, ANSWER_1], LINE_2, FORM, True),  # the same tool, and the same form
        ([LINE_1, ANSWER_1], LINE_2, "Error: no such line", False),  # the same tool, another form
        ([call(("get_bill", {"id": "L1"})), ANSWER_1], LINE_1, FORM, False),  # another tool
        (["Which line?", "L1"], LINE_1, FORM, False),
        ([call(("pay", {}), ("get_line", {"id": "L1"})), "ok\n" + ANSWER_1], LINE_1, "Error: gone", True),
        ([LINE_1, ANSWER_1], call(("get_line", {"id": "L1"}), ("pay", {})), "x", False),  # one of two was never made
        (["Which line?", "L1"], "Which line?", "L1", False),  # a user may answer anything
    ],
)
def test_what_the_history_shows(history: list[str], action: str, target: str, answer: bool) -> None:
    assert tool_world.knowable("opening", history, action, target) is answer


def test_the_order_of_arguments_makes_no_other_call() -> None:
    one, two = call(("t", {"a": 1, "b": 2})), call(("t", {"b": 2, "a": 1}))
    assert one != two
    assert tool_world.knowable("", [one, "yes"], two, "no")


def test_a_world_of_tools_masks_and_reads_calls() -> None:
    class Desk(ToolWorld):
        texts = Prompts("", "", "{action}?", "calls")

        def tasks(self, split: str) -> list[Task]:
            return []

        def env(self) -> Env:
            raise NotImplementedError

    desk, call = Desk(), '{"name": "get", "arguments": {}}'
    assert (desk.verb(call), desk.verb("Hello")) == ("get", "message")
    assert desk.target("tool", '{"a": 1}') == '{"type": "object", "properties": {"a": {"type": "integer"}}}'
    assert desk.knowable("", [call, "yes"], call, "yes") is True
    assert desk.knowable("", [], call, "yes") is False
    assert (desk.splits(), desk.policies()) == ((), ())
    assert desk.prompts("brief").actions == "calls"
