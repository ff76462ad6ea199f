"""Conversations of every form of log, as the steps that they become."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from mutated_logs import ANSWER, USER
from rwml.core.types import Step
from rwml.exchange.conversations import cut
from rwml.exchange.messages import is_message, read_messages

COUNT = '{"name": "count", "arguments": {"item": "lamp"}}'
ORDER = '{"name": "order", "arguments": {}}'


def steps(*messages: Any) -> tuple[list[tuple[str, str, str]], dict[str, int]]:
    """(action, observation, kind) of each step, and the counts."""
    counts: Counter[str] = Counter()
    read, broken = read_messages(messages, counts)
    assert broken is None
    return [(step.action, step.observation, step.kind) for step in cut(read, counts).steps], dict(+counts)


def says(text: Any, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | more


def test_calls_and_responses_as_parts_of_messages() -> None:
    use = {"type": "tool_use", "id": "t", "name": "count", "input": {"item": "lamp"}}
    result = {"type": "tool_result", "tool_use_id": "t", "content": "4"}
    found, counts = steps(USER, says([use]), {"role": "user", "content": [result, {"type": "text", "text": "Well?"}]},
                          says("Four."), ANSWER)  # fmt: skip
    assert found == [(COUNT, "4", "tool"), ("", "Well?", "user"), ("Four.", "Yes, ten.", "user")]
    assert counts == {"user messages that answer no message": 1}
    call = {"type": "tool-call", "toolCallId": "v", "toolName": "count", "input": {"item": "lamp"}}
    response = {"type": "tool-result", "toolCallId": "v", "output": {"type": "json", "value": {"n": 4}}}
    assert steps(USER, says([call]), {"role": "tool", "content": [response]})[0] == [(COUNT, '{"n": 4}', "tool")]


def test_a_message_that_holds_a_call_and_its_response_is_both() -> None:
    shown = {"type": "tool-count", "toolCallId": "w", "state": "result", "input": {"item": "lamp"}, "output": 4}
    message = {"role": "assistant", "parts": [shown, {"type": "text", "text": "Four."}]}
    assert steps(USER, message, ANSWER)[0] == [(COUNT, "4", "tool"), ("Four.", "Yes, ten.", "user")]


def test_calls_in_the_text_and_responses_in_tags() -> None:
    written = f"<think>hm</think>I look.<tool_call>{COUNT}</tool_call><tool_call>{ORDER}</tool_call>"
    both = "<tool_response>4</tool_response>\n<tool_response>\nok\n</tool_response>"
    counts: Counter[str] = Counter()
    read, _ = read_messages([USER, says(written), {"role": "user", "content": both}, says("Four."), ANSWER], counts)
    assert cut(read, counts).steps == (
        Step(COUNT, f"<think>hm</think>\nI look.\n{COUNT}", "4", "tool"),
        Step(ORDER, ORDER, "ok", "tool"),
        Step("Four.", "Four.", "Yes, ten.", "user"),
    )
    assert steps(USER, says('[count(item="lamp")]'), {"role": "ipython", "content": "4"})[0] == [(COUNT, "4", "tool")]


def test_calls_in_the_text_that_cannot_be_read_are_no_words_to_the_user() -> None:
    broken = says('<tool_call>{"name": "count", "arguments": {</tool_call>')
    found, counts = steps(USER, broken, {"role": "tool", "content": "what?"}, says("Oh."), ANSWER)
    assert found == [("", "what?", "tool"), ("Oh.", "Yes, ten.", "user")]
    assert counts == {"calls with unreadable arguments": 1}
    found, counts = steps(USER, broken, ANSWER, says("Oh."), ANSWER)
    assert found == [("", "Yes, ten.", "user"), ("Oh.", "Yes, ten.", "user")]
    assert counts == {"calls without a response": 1, "user messages that answer no message": 1}


def test_calls_that_are_written_twice_are_made_once() -> None:
    call = {"id": "a", "function": {"name": "count", "arguments": '{"item": "lamp"}'}}
    both = says(f"<tool_call>{COUNT}</tool_call>", tool_calls=[call])
    found, counts = steps(USER, both, {"role": "tool", "content": "4"})
    assert found == [(COUNT, "4", "tool")]
    assert counts == {"calls that are written twice": 1}


@pytest.mark.parametrize("text", ["<think>hm</think>Four.", "hm</think>Four.", "[THINK]hm[/THINK]\nFour."])
def test_thoughts_in_the_content(text: str) -> None:
    read, _ = read_messages([USER, says(text), ANSWER], Counter())
    assert (read[1].text, read[1].thought) == ("Four.", "hm")


def test_the_names_of_langchain_sharegpt_and_openai_responses() -> None:
    langchain = [
        {"type": "human", "content": "Go."},
        {"type": "ai", "data": {"content": "", "tool_calls": [{"name": "count", "args": {"item": "lamp"}, "id": "l"}]}},
        {"type": "tool", "tool_call_id": "l", "content": "4", "status": "error"},
        {"type": "ai", "content": "", "invalid_tool_calls": [{"name": "order", "args": "{", "id": "m"}]},
        {"type": "tool", "tool_call_id": "m", "content": "what?"},
    ]
    assert steps(*langchain)[0] == [(COUNT, "4", "tool"), ("", "what?", "tool")]
    sharegpt = [
        {"from": "human", "value": "Go."},
        {"from": "function_call", "value": COUNT},
        {"from": "observation", "value": "4"},
        {"from": "gpt", "value": "Four."},
        {"from": "human", "value": "Good."},
    ]
    assert steps(*sharegpt)[0] == [(COUNT, "4", "tool"), ("Four.", "Good.", "user")]
    responses = [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Go."}]},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "id": "fc", "call_id": "r", "name": "count", "arguments": '{"item": "lamp"}'},
        {"type": "function_call_output", "call_id": "r", "output": "4"},
    ]
    assert steps(*responses)[0] == [(COUNT, "4", "tool")]


def test_calls_are_found_by_id_over_messages_then_by_name_then_in_order() -> None:
    def call(call_id: str, name: str) -> dict[str, Any]:
        return says(None, tool_calls=[{"id": call_id, "function": {"name": name, "arguments": "{}"}}])

    def tool(text: str, **more: str) -> dict[str, Any]:
        return {"role": "tool", "content": text} | more

    f, g = '{"name": "f", "arguments": {}}', '{"name": "g", "arguments": {}}'
    for first, second in (({"tool_call_id": "1"}, {"tool_call_id": "2"}), ({"name": "f"}, {"name": "g"})):
        for responses in ([tool("one", **first), tool("two", **second)], [tool("two", **second), tool("one", **first)]):
            found, counts = steps(USER, call("1", "f"), call("2", "g"), *responses)
            assert (found, counts) == ([(f, "one", "tool"), (g, "two", "tool")], {})
    found, _ = steps(USER, call("1", "f"), call("2", "g"), tool("one"), tool("two"))
    assert found == [(f, "one", "tool"), (g, "two", "tool")]
    late = [call("1", "f"), ANSWER, tool("one", tool_call_id="1")]
    assert steps(USER, *late)[0] == [("", "Yes, ten.", "user"), (f, "one", "tool")]
    # A call that nothing answered does not get the response of a later one.
    found, counts = steps(USER, call("1", "f"), ANSWER, call("2", "g"), tool("two"))
    assert found[1:] == [(g, "two", "tool")]
    assert counts["calls without a response"] == 1
    found, counts = steps(USER, call("1", "f"), tool("two", name="g"))
    assert (found, counts["responses to no call"]) == ([], 1)
    assert steps(USER, call("1", "f"), tool("one", tool_call_id="9", name="f"))[0] == [(f, "one", "tool")]


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({"role": "user", "text": "Hello"}, "a message has no content"),
        ({"role": "tool", "text": "4"}, "a tool's response has no content"),
        (USER | {"content": [{"type": "tool_use", "name": "f", "input": {}}]}, "a message holds what its role cannot"),
        ({"role": "assistant", "content": [{"type": "widget"}]}, "a part of an unknown kind"),
        ({"role": "wizard", "from": "gpt", "content": "x"}, "a message has no known role"),
        ({"role": "assistant", "content": "", "tool_calls": "{"}, "tool_calls is not a list of objects"),
    ],
)
def test_messages_of_no_known_form_end_the_log(message: dict[str, Any], reason: str) -> None:
    read, broken = read_messages([USER, message, ANSWER], Counter())
    assert len(read) == 1
    assert broken is not None
    assert broken.reason == reason


def test_what_is_a_message_and_what_a_record() -> None:
    assert is_message(USER)
    assert is_message({"from": "human", "value": "x"})
    assert is_message({"role": "wizard"})
    assert not is_message({"messages": [], "role": "user"})
    assert not is_message({"type": "log"})
    assert not is_message([USER])
