"""The messages of a log: OpenAI's form, and those of Anthropic, Vercel, LangChain, ShareGPT, tau-bench and tau2."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rwml.core.call_forms.call_values import CALL_JSON
from rwml.core.tool_calls import call_text, read_message
from rwml.exchange.message_parts import (
    Call,
    Part,
    Result,
    Thought,
    UnreadableError,
    call_of,
    parts_of,
    result_of,
    result_text,
    short,
)

NO_RESPONSE = "(empty)"  # as played episodes have it

Role = Literal["system", "user", "assistant", "tool"]

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "reasoning": "assistant",
    "tool": "tool",
    "function": "tool",  # of the older form, with `function_call` in the assistant's message
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call_output": "tool",
}
_ROLE_KEYS = ("role", "from", "type")
_CONTENT_KEYS = ("content", "value", "parts")
_OTHER_CONTENT = ("text", "message", "output", "body")
_THOUGHT_KEYS = ("reasoning_content", "reasoning", "thinking")
_RESPONSE_OPEN, _RESPONSE_CLOSE = "<tool_response>", "</tool_response>"


@dataclass(frozen=True, slots=True)
class Message:
    """One message. call_id, name, failed: of a tool's response; thought: an agent's reasoning, where it was logged."""

    role: Role
    text: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    failed: bool = False
    thought: str = ""
    name: str = ""


def is_message(value: Any) -> bool:
    """Whether a JSON value is a message, and not a whole record."""
    if not isinstance(value, dict) or any(key in value for key in ("messages", "conversations", "traj")):
        return False
    return _role(value) is not None or "role" in value


def read_messages(
    values: Sequence[Any], counts: Counter[str], id_key: str = ""
) -> tuple[list[Message], UnreadableError | None]:
    """The messages up to the first unreadable one, and the fault of that one.

    id_key: the one key of a tool message that holds its call's id, where it is known. counts: receives what is left
    out: empty messages, and a user's own tool calls with their responses (tau2), which the agent does not see.
    """
    messages: list[Message] = []
    for number, value in enumerate(values):
        try:
            messages += _read(value, counts, id_key)
        except UnreadableError as error:
            return messages, UnreadableError(error.reason, f"message {number}: {error.detail}")
    return messages, None


def _role(value: dict[str, Any]) -> Role | None:
    named = next((value[key] for key in _ROLE_KEYS if value.get(key) is not None), None)
    return _ROLES.get(named.lower()) if isinstance(named, str) else None


def _read(value: Any, counts: Counter[str], id_key: str) -> Iterator[Message]:
    if not isinstance(value, dict):
        raise UnreadableError("a message is not an object", type(value).__name__)
    if isinstance(value.get("tool_messages"), list):  # tau2's bundle of responses
        for inner in value["tool_messages"]:
            if isinstance(inner, dict) and isinstance(inner.get("tool_messages"), list):
                raise UnreadableError("a message has no known role", "a bundle within a bundle")
            yield from _read(inner, counts, id_key)
        return
    role = _role(value)
    if isinstance(value.get("data"), dict) and "role" not in value:  # LangChain's envelope
        value = value["data"]
    if role is None:
        raise UnreadableError("a message has no known role", f"role is {short(value.get('role'))}")
    if value.get("requestor") == "user" or (role == "user" and value.get("tool_calls")):
        counts["tool calls of users and their responses"] += 1
        return
    if role == "tool":
        yield from _responses(value, counts, id_key)
        return
    parts = _parts(value, counts)
    yield from _agent(value, parts, counts) if role == "assistant" else _others(role, parts, counts)


def _parts(value: dict[str, Any], counts: Counter[str]) -> list[Part]:
    """What a message holds: its text, or its parts in their order."""
    key = next((key for key in _CONTENT_KEYS if value.get(key) is not None), "")
    content = value.get(key) if key else None
    if content is None:
        other = next((key for key in _OTHER_CONTENT if isinstance(value.get(key), str) and value[key].strip()), "")
        if other:
            raise UnreadableError("a message has no content", f"its text is under '{other}'")
        return []
    if isinstance(content, str):
        return [content]
    if isinstance(content, list):
        return parts_of(content, counts)
    raise UnreadableError("a message's content is not a text", short(content))


def _responses(value: dict[str, Any], counts: Counter[str], id_key: str) -> Iterator[Message]:
    """The responses in a message of the role `tool`: one, or one for each part that is a response."""
    if "value" in value and "content" not in value:  # ShareGPT
        value = value | {"content": value["value"]}
    content = value.get("content")
    if isinstance(content, list) and any(isinstance(part, dict) for part in content):
        try:
            parts = parts_of(content, Counter())
        except UnreadableError:
            parts = []  # a list that is the response itself
        if parts and all(isinstance(part, Result) for part in parts):
            for part in parts_of(content, counts):
                if isinstance(part, Result):
                    yield from _responded(part, counts)
            return
    yield from _responded(result_of(value, counts, *(((id_key,),) if id_key else ())), counts)


def _responded(result: Result, counts: Counter[str]) -> Iterator[Message]:
    wrapped, rest = _unwrapped(result.text)
    for text in wrapped if wrapped and not rest else [result.text]:
        counts["empty tool responses"] += not text.strip()
        shown = result_text(text, counts) if text.strip() else NO_RESPONSE
        failed = result.failed or text.startswith("Error:")
        yield Message("tool", shown, (), result.call_id, failed, name=result.name)


def _unwrapped(text: str) -> tuple[list[str], str]:
    """The responses that stand in tags of their own in a text, and what is left of it."""
    inside: list[str] = []
    rest: list[str] = []
    at = 0
    while (start := text.find(_RESPONSE_OPEN, at)) >= 0:
        end = text.find(_RESPONSE_CLOSE, start)
        if end < 0:
            break
        rest.append(text[at:start])
        inside.append(text[start + len(_RESPONSE_OPEN) : end].strip())
        at = end + len(_RESPONSE_CLOSE)
    return inside, "".join([*rest, text[at:]]).strip()


def _others(role: Role, parts: list[Part], counts: Counter[str]) -> Iterator[Message]:
    """A message of the user or the system; the responses in it come first, as the agent had to wait for them."""
    texts: list[str] = []
    found = False
    for part in parts:
        if isinstance(part, Result) and role == "user":
            found = True
            yield from _responded(part, counts)
        elif isinstance(part, str):
            wrapped, rest = _unwrapped(part) if role == "user" else ([], part)
            found = found or bool(wrapped)
            for text in wrapped:
                yield from _responded(Result(text), counts)
            texts.append(rest)
        else:
            raise UnreadableError("a message holds what its role cannot", f"{role}: {type(part).__name__.lower()}")
    text = "\n".join(text for text in texts if text).strip()
    if text:
        yield Message(role, text)
    else:
        counts["empty messages"] += not found


def _agent(value: dict[str, Any], parts: list[Part], counts: Counter[str]) -> Iterator[Message]:
    """An agent's message, cut after each response that it holds itself."""
    if value.get("type") == "function_call" or value.get("from") == "function_call":
        parts = _written_calls(value, parts, counts)
    thought = next((t for key in _THOUGHT_KEYS if isinstance(t := value.get(key), str)), "")
    rest: list[Part] = [Thought(thought), *parts, *_listed_calls(value, counts)]
    found = False
    while rest:
        end = next((number for number, part in enumerate(rest) if isinstance(part, Result)), len(rest))
        message = _said(rest[:end], counts)
        if message.text or message.calls or message.thought:
            found = True
            yield message
        for part in rest[end : end + 1]:
            if isinstance(part, Result):
                yield from _responded(part, counts)
        rest = rest[end + 1 :]
    counts["empty messages"] += not found


def _said(parts: list[Part], counts: Counter[str]) -> Message:
    """Words, thoughts and calls of an agent. Calls and thoughts within the words are read as a model's own are."""
    text = "\n".join(part for part in parts if isinstance(part, str) and part).strip()
    thoughts = [part.text.strip() for part in parts if isinstance(part, Thought)]
    calls = [part for part in parts if isinstance(part, Call)]
    spoken = read_message(text)
    if spoken is None:
        if not calls:
            calls, text = [Call("", "", "", text)], ""
    else:
        text = spoken.message
        thoughts.append(spoken.thoughts)
        counts["calls that are written twice"] += len(spoken.calls) if calls else 0
        if not calls:
            calls = [Call("", call.name, call_text([call]), "") for call in spoken.calls]
    return Message("assistant", text, tuple(calls), thought="\n".join(thought for thought in thoughts if thought))


def _listed_calls(value: dict[str, Any], counts: Counter[str]) -> Iterator[Call]:
    """The calls beside the content."""
    more = value.get("additional_kwargs")
    given = value.get("tool_calls") or (more.get("tool_calls") if isinstance(more, dict) else None) or []
    if value.get("function_call"):
        given = given or [value["function_call"]]
    if isinstance(given, str):
        try:
            given = json.loads(given)
        except (ValueError, RecursionError):
            raise UnreadableError("tool_calls is not a list of objects", "a text that is not JSON") from None
    broken = value.get("invalid_tool_calls") or []
    for listed in (given, broken):
        if not isinstance(listed, list) or not all(isinstance(call, dict) for call in listed):
            raise UnreadableError("tool_calls is not a list of objects", short(listed))
    yield from (call_of(call, counts) for call in [*given, *broken])


def _written_calls(value: dict[str, Any], parts: list[Part], counts: Counter[str]) -> list[Part]:
    """The call that an item of its own is: OpenAI's Responses have its fields, ShareGPT has it as a JSON text."""
    if not parts:
        return [call_of(value, counts)]
    text = "\n".join(part for part in parts if isinstance(part, str))
    try:
        written = CALL_JSON.decode(text)
    except (ValueError, RecursionError):
        return [Call("", "", "", text)]
    listed = written if isinstance(written, list) else [written]
    if not listed or not all(isinstance(call, dict) for call in listed):
        return [Call("", "", "", text)]
    return [call_of(call, counts) for call in listed]
