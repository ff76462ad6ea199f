"""Calls, responses and parts in the forms of many programs, each with its value; unknown forms are refused or empty."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from rwml.exchange.message_parts import (
    Call,
    Result,
    Thought,
    UnreadableError,
    call_of,
    parts_of,
    result_of,
    result_text,
)

ACTION = '{"name": "f", "arguments": {"x": 1}}'


@pytest.mark.parametrize(
    "value",
    [
        {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}},
        {"id": "c", "function": {"name": "f", "arguments": {"x": 1}}},
        {"id": "c", "name": "f", "arguments": {"x": 1}, "requestor": "assistant"},
        {"id": "c", "name": "f", "args": {"x": 1}, "type": "tool_call"},
        {"id": "c", "type": "tool_use", "name": "f", "input": {"x": 1}},
        {"toolCallId": "c", "toolName": "f", "input": {"x": 1}},
        {"toolUseId": "c", "name": "f", "input": {"x": 1}},
        {"call_id": "c", "id": "item", "name": "f", "arguments": '{"x": 1}'},
        {"id": "c", "name": "f", "parameters": {"x": 1}},
        {"id": "c", "name": "f", "args": {"x": 1}, "arguments": {}},
    ],
)
def test_forms_of_calls(value: dict[str, Any]) -> None:
    call = call_of(value, Counter())
    assert (call.id, call.name, call.action) == ("c", "f", ACTION)


@pytest.mark.parametrize(
    "value",
    [
        {"name": "f", "kwargs": {"x": 1}},
        {"name": "f", "payload": {"x": 1}},
        {"type": "custom", "custom": {"name": "f", "input": "text"}},
        {"name": "f", "args": {"x": 1}, "arguments": {"x": 2}},
        {"name": "f", "args": [1]},
        {"name": "f", "args": {"x": [[]]} | {"y": float("nan")}},
        {"arguments": {"x": 1}},
        {"function": {"name": "f", "arguments": '{"x": ' + "[" * 200 + "]" * 200 + "}"}},
        {"function": {"name": "f", "arguments": '{"x": ' + "7" * 5000 + "}"}},
        {"function": {"name": "f", "arguments": '{"x": ' + "[" * 5000}},
    ],
)
def test_what_is_no_call_of_a_known_form_has_no_action(value: dict[str, Any]) -> None:
    call = call_of(value, Counter())
    assert call.action == ""
    assert call.text


def test_half_characters_in_json_within_a_text_are_replaced_and_counted() -> None:
    counts: Counter[str] = Counter()
    given = {"name": "f", "arguments": '{"x": "\\ud83d", "y": "\\ud83c\\udf1e"}'}
    assert call_of(given, counts).action == '{"name": "f", "arguments": {"x": "\ufffd", "y": "🌞"}}'
    assert result_text('{"\\ud83d": 1, "a": "\\ud83c\\udf1e"}', counts) == '{"\\ufffd": 1, "a": "\\ud83c\\udf1e"}'
    assert result_text("plain", counts) == "plain"
    assert counts == {"characters that are not Unicode, in JSON within a text": 2}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ({"tool_call_id": "c", "name": "f", "content": "one"}, Result("one", "c", "f")),
        ({"tool_use_id": "c", "content": [{"type": "text", "text": "one"}]}, Result("one", "c")),
        ({"tool_use_id": "c", "is_error": True, "content": "no"}, Result("no", "c", failed=True)),
        ({"toolCallId": "c", "toolName": "f", "output": {"type": "json", "value": [1]}}, Result("[1]", "c", "f")),
        ({"toolCallId": "c", "output": {"type": "error-text", "value": "no"}}, Result("no", "c", failed=True)),
        ({"toolCallId": "c", "result": {"x": 1}}, Result('{"x": 1}', "c")),
        ({"toolUseId": "c", "status": "error", "content": [{"json": {"x": 1}}]}, Result('{"x": 1}', "c", failed=True)),
        ({"call_id": "c", "output": "one"}, Result("one", "c")),
        ({"content": [1, 2]}, Result("[1, 2]")),
        ({"content": [{"type": "gold", "text": "x"}]}, Result('[{"type": "gold", "text": "x"}]')),
        ({"content": None}, Result("")),
        ({"content": "Error: no"}, Result("Error: no", failed=True)),
    ],
)
def test_forms_of_responses(value: dict[str, Any], result: Result) -> None:
    assert result_of(value, Counter()) == result


def test_a_response_under_a_key_of_no_form_is_not_an_empty_one() -> None:
    with pytest.raises(UnreadableError, match="no content"):
        result_of({"tool_call_id": "c", "text": "one"}, Counter())


def test_parts_in_their_order() -> None:
    counts: Counter[str] = Counter()
    call = Call("c", "f", ACTION, 'f {"x": 1}')
    parts = [
        "one",
        {"type": "output_text", "text": "two"},
        {"text": "three"},
        {"type": "thinking", "thinking": "hm"},
        {"type": "reasoning", "text": "so"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
        {"toolUse": {"toolUseId": "c", "name": "f", "input": {"x": 1}}},
        {"functionCall": {"id": "c", "name": "f", "args": {"x": 1}}},
        {"type": "tool-result", "toolCallId": "c", "output": {"type": "text", "value": "four"}},
        {"functionResponse": {"name": "f", "response": {"y": 2}}},
        {"type": "tool-f", "toolCallId": "c", "state": "output-available", "input": {"x": 1}, "output": "five"},
        {"type": "tool-invocation", "toolInvocation": {"toolCallId": "c", "toolName": "f", "args": {"x": 1}}},
        {"type": "step-start"},
        {"type": "image_url", "image_url": {}},
    ]
    assert parts_of(parts, counts) == [
        "one", "two", "three", Thought("hm"), Thought("so"), call, call, call, Result("four", "c"),
        Result('{"y": 2}', "", "f"), call, Result("five", "c"), call, "[image_url]"
    ]  # fmt: skip
    assert +counts == {"parts that are not text: image_url": 1}


@pytest.mark.parametrize("part", [{"type": "widget", "text": "x"}, {"type": "tool-f"}, {"x": 1}, 7, None, {"type": 3}])
def test_parts_of_no_known_kind_are_refused(part: Any) -> None:
    with pytest.raises(UnreadableError):
        parts_of([part], Counter())
