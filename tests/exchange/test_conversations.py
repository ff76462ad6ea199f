"""Messages cut into steps: every turn that a log can take, by hand."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rwml.core.types import Step
from rwml.exchange.conversations import Conversation, cut
from rwml.exchange.messages import read_messages

A = '{"name": "a", "arguments": {"x": 1}}'
B = '{"name": "b", "arguments": {}}'


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: Any, *calls: dict[str, Any]) -> dict[str, Any]:
    return {"role": "assistant", "content": text} | ({"tool_calls": list(calls)} if calls else {})


def calls(name: str, arguments: Any, call_id: str = "") -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(text: Any, call_id: str | None = None, **more: Any) -> dict[str, Any]:
    return {"role": "tool", "content": text} | ({} if call_id is None else {"tool_call_id": call_id}) | more


def conversation(*messages: Any) -> tuple[Conversation, dict[str, int]]:
    counts: Counter[str] = Counter()
    read, broken = read_messages(messages, counts)
    assert broken is None
    return cut(read, counts), dict(+counts)


def test_a_dialogue_with_a_call() -> None:
    found, counts = conversation(
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": "Be brief."},
        user("My line is dead."),
        says(None, calls("a", '{"x": 1}', "c1")),
        tool('{"y": 2}', "c1"),
        says("Is it on?"),
        user("No."),
        user("Now it is."),
        says("Good bye."),
    )
    assert found.rules == "Be kind.\n\nBe brief."
    assert found.before == (("user", "My line is dead."),)
    assert found.steps == (
        Step(A, A, '{"y": 2}', "tool"),
        Step("Is it on?", "Is it on?", "No.\nNow it is.", "user"),
    )
    assert counts == {"messages with no next state": 1}


def test_a_greeting_belongs_to_the_opening_and_an_agent_that_begins_to_work_does_not() -> None:
    found, counts = conversation(says("Hi!"), user("Help."), says("How?"), user("Fast."))
    assert found.before == (("assistant", "Hi!"), ("user", "Help."))
    assert [step.action for step in found.steps] == ["How?"]
    assert counts == {}
    found, counts = conversation(says("I begin."), says(None, calls("b", "")), tool("done"))
    assert found.before == ()
    assert found.steps == (Step(B, f"I begin.\n{B}", "done", "tool"),)
    assert counts == {"words beside tool calls": 1}


def test_calls_of_one_message_are_steps_of_their_own_with_their_own_responses() -> None:
    message = says("I look.", calls("a", '{"x": 1}', "c1"), calls("b", "{}", "c2"))
    expected = (Step(A, f"I look.\n{A}", "one", "tool"), Step(B, B, "two", "tool"))
    for responses in ([tool("one", "c1"), tool("two", "c2")], [tool("two", "c2"), tool("one", "c1")]):
        assert conversation(user("Go."), message, *responses)[0].steps == expected


def test_responses_without_ids_belong_to_the_calls_in_order_and_those_with_unknown_ids_to_none() -> None:
    message = says("", calls("a", '{"x": 1}', "c1"), calls("b", "{}", "c2"))
    found, _ = conversation(user("Go."), message, tool("one"), tool("two"))
    assert [step.observation for step in found.steps] == ["one", "two"]
    found, counts = conversation(user("Go."), message, tool("lost", "c9"), tool("two", "c2"), tool("again", "c2"))
    assert [(step.action, step.observation) for step in found.steps] == [(B, "two")]
    assert counts == {"responses to no call": 2, "calls without a response": 1}
    found, counts = conversation(tool("early", "c0"), user("Go."), message, tool("one", "c1"), tool("two", "c2"))
    assert len(found.steps) == 2
    assert counts == {"responses to no call": 1}


def test_calls_that_share_an_id_are_answered_in_order() -> None:
    message = says(None, calls("a", '{"x": 1}', "call_0"), calls("b", "{}", "call_0"))
    found, _ = conversation(user("Go."), message, tool("one", "call_0"), tool("two", "call_0"))
    assert [(step.action, step.observation) for step in found.steps] == [(A, "one"), (B, "two")]


def test_arguments_that_cannot_be_read_leave_a_step_without_an_action() -> None:
    for arguments in ("{x: 1", "[1]", '"x"', "nan", 7, '{"x": NaN}'):
        found, counts = conversation(user("Go."), says(None, calls("a", arguments, "c")), tool("Error: what?", "c"))
        (step,) = found.steps
        assert (step.action, step.parsed, step.valid) == ("", False, False)
        assert step.text.startswith("a ")
        assert step.observation == "Error: what?"
        assert counts == {"calls with unreadable arguments": 1}


def test_arguments_in_the_forms_that_servers_write() -> None:
    for arguments in ("", "{}", None, {}):
        assert conversation(user("Go."), says(None, calls("b", arguments)), tool("ok"))[0].steps[0].action == B
    for arguments in ('{"x": 1}', {"x": 1}, ' {"x":1}\n'):
        assert conversation(user("Go."), says(None, calls("a", arguments)), tool("ok"))[0].steps[0].action == A
    line_end = conversation(user("Go."), says(None, calls("a", '{"x": "1\n2"}')), tool("ok"))[0].steps[0]
    assert line_end.action == '{"name": "a", "arguments": {"x": "1\\n2"}}'


def test_the_older_form_of_calls() -> None:
    old = {"role": "assistant", "content": None, "function_call": {"name": "a", "arguments": '{"x": 1}'}}
    found, _ = conversation(user("Go."), old, {"role": "function", "name": "a", "content": "ok"})
    assert found.steps == (Step(A, A, "ok", "tool"),)


def test_errors_are_invalid_steps() -> None:
    for response in (tool("Error: no line", "c"), tool("no", "c", error=True), tool("no", "c", is_error=True)):
        (step,) = conversation(user("Go."), says(None, calls("b", "", "c")), response)[0].steps
        assert (step.parsed, step.valid) == (True, False)
    assert conversation(user("Go."), says(None, calls("b", "")), tool("No error."))[0].steps[0].valid


def test_a_user_who_speaks_unasked_stands_in_the_history_without_a_question() -> None:
    found, counts = conversation(
        user("Go."), says(None, calls("b", "", "c")), tool("ok", "c"), user("And?"), says("Yes.")
    )
    assert found.steps[1] == Step("", "", "And?", "user", parsed=False, valid=False)
    assert counts == {"user messages that answer no message": 1, "messages with no next state": 1}


def test_words_in_a_row_are_one_message_and_thoughts_are_kept_in_the_text_alone() -> None:
    thinking = says("One.") | {"reasoning_content": "Hm."}
    found, _ = conversation(user("Go."), thinking, says("Two."), user("Three."))
    assert found.steps == (Step("One.\nTwo.", "<think>Hm.</think>\nOne.\nTwo.", "Three.", "user"),)


def test_contents_in_parts() -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "image_url", "image_url": {}}, "two"]
    found, counts = conversation(user(parts), says([{"type": "text", "text": "Hm?"}]), user([]), user("Yes."))
    assert found.before == (("user", "One\n[image_url]\ntwo"),)
    assert found.steps == (Step("Hm?", "Hm?", "Yes.", "user"),)
    assert counts == {"parts that are not text: image_url": 1, "empty messages": 1}


def test_responses_that_are_values_or_empty() -> None:
    message = says(None, calls("a", '{"x": 1}', "1"), calls("b", "{}", "2"), calls("b", "{}", "3"))
    responses = (tool({"y": "ü"}, "1"), tool("", "2"), tool([1, 2], "3"))
    found, counts = conversation(user("Go."), message, *responses)
    assert [step.observation for step in found.steps] == ['{"y": "ü"}', "(empty)", "[1, 2]"]
    assert counts == {"empty tool responses": 1}


def test_system_messages_on_the_way_are_counted() -> None:
    found, counts = conversation(user("Go."), says("Hm?"), {"role": "system", "content": "Hurry."}, user("Yes."))
    assert found.steps == (Step("Hm?", "Hm?", "Yes.", "user"),)
    assert counts == {"system messages in mid-conversation": 1}


def test_what_a_user_of_tau2_does_by_himself_is_not_what_the_agent_sees() -> None:
    messages = (
        user("Go."),
        says("Turn it off."),
        user(None) | {"tool_calls": [{"id": "u", "name": "off", "arguments": {}, "requestor": "user"}]},
        {"role": "tool", "id": "u", "content": "off", "requestor": "user", "error": False},
        user("It is off."),
    )
    found, counts = conversation(*messages)
    assert found.steps == (Step("Turn it off.", "Turn it off.", "It is off.", "user"),)
    assert counts == {"tool calls of users and their responses": 2}


def test_reading_stops_at_the_first_message_that_is_none() -> None:
    bad: list[tuple[Any, str]] = [
        ("hello", "a message is not an object"),
        ({"content": "hello"}, "a message has no known role"),
        ({"role": "wizard", "content": "hello"}, "a message has no known role"),
        ({"role": ["user"], "content": "hello"}, "a message has no known role"),
        ({"role": "user", "content": 7}, "a message's content is not a text"),
        ({"role": "user", "content": [7]}, "a message's content is not a text"),
        ({"role": "assistant", "content": "", "tool_calls": {"a": 1}}, "tool_calls is not a list of objects"),
        ({"role": "assistant", "content": "", "tool_calls": [None]}, "tool_calls is not a list of objects"),
    ]
    for message, reason in bad:
        read, broken = read_messages([user("Go."), says("Hm?"), user("Yes."), message, user("Lost.")], Counter())
        assert [m.text for m in read] == ["Go.", "Hm?", "Yes."]
        assert broken is not None
        assert (broken.reason, broken.detail[:10]) == (reason, "message 3:")
