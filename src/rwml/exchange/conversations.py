"""Conversations of an agent with tools and a user, cut into the steps of an episode."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rwml.core.tool_calls import ToolCall, call_text
from rwml.core.types import Step

NO_RESPONSE = "(empty)"  # as played episodes have it
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"} | {
    "tool": "tool",
    "function": "tool",  # of the older form, with `function_call` in the assistant's message
}

Role = Literal["system", "user", "assistant", "tool"]


class UnreadableError(Exception):
    """A part of a log that cannot be read. reason: one of a few, for counting. detail: of this case."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call in a message. action: canonical text, "" where the arguments cannot be read; text: as logged."""

    id: str
    action: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message. call_id, failed: of a tool's response; thought: an agent's reasoning, where it was logged."""

    role: Role
    text: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    failed: bool = False
    thought: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """rules: the system messages before the agent's first action. before: (role, text) of the others before it."""

    rules: str
    before: tuple[tuple[str, str], ...]
    steps: tuple[Step, ...]


def read_messages(
    values: Sequence[Any], counts: Counter[str], id_key: str = "tool_call_id"
) -> tuple[list[Message], UnreadableError | None]:
    """Messages as OpenAI and tau2 write them, up to the first unreadable one, and the fault of that one.

    id_key: the key of a tool message that holds its call's id. counts: receives what is left out: empty messages, and a
    user's own tool calls with their responses (tau2), which the agent does not see.
    """
    messages: list[Message] = []
    for number, value in enumerate(values):
        try:
            messages += _read(value, counts, id_key)
        except UnreadableError as error:
            return messages, UnreadableError(error.reason, f"message {number}: {error.detail}")
    return messages, None


def _read(value: Any, counts: Counter[str], id_key: str) -> Iterator[Message]:
    if not isinstance(value, dict):
        raise UnreadableError("a message is not an object", type(value).__name__)
    if isinstance(value.get("tool_messages"), list):  # tau2's bundle of responses
        for inner in value["tool_messages"]:
            yield from _read(inner, counts, id_key)
        return
    role = _ROLES.get(value["role"]) if isinstance(value.get("role"), str) else None
    if role is None:
        raise UnreadableError("a message has no known role", f"role is {_short(value.get('role'))}")
    if value.get("requestor") == "user" or (role == "user" and value.get("tool_calls")):
        counts["tool calls of users and their responses"] += 1
        return
    text = _text(value.get("content"), role, counts)
    if role == "tool":
        call_id = value.get(id_key)
        failed = bool(value.get("error") or value.get("is_error")) or text.startswith("Error:")
        counts["empty tool responses"] += not text.strip()
        yield Message("tool", text if text.strip() else NO_RESPONSE, (), str(call_id or ""), failed)
        return
    calls = tuple(_calls(value)) if role == "assistant" else ()
    if not text.strip() and not calls:
        counts["empty messages"] += 1
        return
    thought = next((t for key in ("reasoning_content", "reasoning") if isinstance(t := value.get(key), str)), "")
    yield Message(role, text.strip(), calls, thought=thought.strip())  # type: ignore[arg-type]


def _text(content: Any, role: str, counts: Counter[str]) -> str:
    """A message's text: the string, or the text parts of a list; parts of another kind leave `[kind]`."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    if parts and all(isinstance(part, (str, dict)) for part in parts):
        texts = [part if isinstance(part, str) else _part(part) for part in parts]
        if all(text is not None for text in texts):
            counts["parts that are not text"] += sum(isinstance(p, dict) and _part_text(p) is None for p in parts)
            return "\n".join(text for text in texts if text)
    if role == "tool":  # a response that was logged as the value it is
        return json.dumps(content, ensure_ascii=False)
    if content == []:
        return ""
    raise UnreadableError("a message's content is not a text", _short(content))


def _part_text(part: dict[str, Any]) -> str | None:
    return next((part[key] for key in ("text", "refusal") if isinstance(part.get(key), str)), None)


def _part(part: dict[str, Any]) -> str | None:
    text = _part_text(part)
    if text is None and isinstance(part.get("type"), str):
        return f"[{part['type']}]"
    return text


def _calls(value: dict[str, Any]) -> Iterator[Call]:
    given = value.get("tool_calls") or ([value["function_call"]] if value.get("function_call") else [])
    if not isinstance(given, list) or not all(isinstance(call, dict) for call in given):
        raise UnreadableError("tool_calls is not a list of objects", _short(given))
    for call in given:
        function = call.get("function") if isinstance(call.get("function"), dict) else call
        name, arguments = function.get("name"), function.get("arguments")
        text = f"{name} {arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)}"
        yield Call(str(call.get("id") or ""), _action(name, arguments), text)


def _action(name: Any, arguments: Any) -> str:
    """Canonical text of a call; "" if it has no name, or if its arguments are not a JSON object."""
    try:
        if isinstance(arguments, str):
            # Agents write line ends into JSON strings as they are.
            arguments = json.loads(arguments, strict=False) if arguments.strip() else {}
        given = {} if arguments is None else arguments
        if not isinstance(name, str) or not name.strip() or not isinstance(given, dict):
            return ""
        return call_text([ToolCall(name.strip(), given)])
    except (ValueError, RecursionError):
        return ""


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def cut(messages: Sequence[Message], counts: Counter[str]) -> Conversation:
    """The steps of a conversation: one for each tool call with its response, one for each message that the user
    answers.

    The text of a step holds what the agent says with its calls, or before them without an answer. A call whose
    arguments cannot be read is a step without an action (parsed = False), and so is what a user says without being
    asked; no transition is cut from them, but the history of later ones holds them. counts: such cases, and what was
    left out, are added.
    """
    start = _first_action(messages)
    head = [message for message in messages[:start] if message.role != "tool"]
    counts["responses to no call"] += start - len(head)
    rules = "\n\n".join(message.text for message in head if message.role == "system")
    before = tuple((message.role, message.text) for message in head if message.role != "system")
    return Conversation(rules, before, tuple(_Cutter(messages[start:], counts).steps()))


def _first_action(messages: Sequence[Message]) -> int:
    """The index of the agent's first message that is not a greeting: a text without calls before the user speaks."""
    heard = False
    for number, message in enumerate(messages):
        heard = heard or message.role == "user"
        later = (m.role for m in messages[number + 1 :] if m.role == "user" or m.calls)
        greeting = not heard and not message.calls and next(later, "") == "user"
        if message.role == "assistant" and not greeting:
            return number
    return len(messages)


class _Cutter:
    """Walks through the messages. words: the agent's, which nothing has answered yet; thoughts: before them."""

    def __init__(self, messages: Sequence[Message], counts: Counter[str]) -> None:
        self.messages, self.counts = messages, counts
        self.words: list[str] = []
        self.thoughts: list[str] = []

    def steps(self) -> Iterator[Step]:
        at = 0
        while at < len(self.messages):
            message = self.messages[at]
            at += 1
            if message.role == "assistant":
                self.words += [message.text] if message.text else []
                self.thoughts += [message.thought] if message.thought else []
                if message.calls:
                    end = self._run(at, "tool")
                    yield from self._called(message.calls, self.messages[at:end])
                    at = end
            elif message.role == "user":
                end = self._run(at, "user")
                yield self._answered("\n".join(m.text for m in self.messages[at - 1 : end]))
                at = end
            elif message.role == "tool":
                self.counts["responses to no call"] += 1
            else:
                self.counts["system messages in mid-conversation"] += 1
        self.counts["messages with no next state"] += bool(self.words)

    def _run(self, start: int, role: Role) -> int:
        """The end of the messages of that role from `start` on."""
        while start < len(self.messages) and self.messages[start].role == role:
            start += 1
        return start

    def _written(self, action: str) -> str:
        thought = "\n".join(self.thoughts)
        parts = [f"<think>{thought}</think>" if thought else "", *self.words, action]
        self.words, self.thoughts = [], []
        return "\n".join(part for part in parts if part)

    def _answered(self, observation: str) -> Step:
        action = "\n".join(self.words)
        self.words = []
        if not action:
            self.counts["user messages that answer no message"] += 1
        return Step(action, self._written(action), observation, "user", parsed=bool(action), valid=bool(action))

    def _called(self, calls: Sequence[Call], responses: Sequence[Message]) -> Iterator[Step]:
        self.counts["words beside tool calls"] += bool(self.words)
        answers: dict[int, Message] = {}
        for response in responses:
            number = _asked(calls, answers.keys(), response.call_id)
            if number is None:
                self.counts["responses to no call"] += 1
            else:
                answers[number] = response
        self.counts["calls without a response"] += len(calls) - len(answers)
        for number in sorted(answers):
            call, answer = calls[number], answers[number]
            parsed = bool(call.action)
            self.counts["calls with unreadable arguments"] += not parsed
            valid = parsed and not answer.failed
            yield Step(call.action, self._written(call.action or call.text), answer.text, "tool", parsed, valid)


def _asked(calls: Sequence[Call], answered: Any, call_id: str) -> int | None:
    """The call that a response belongs to: the call of its id, or the first open call if one of the two has no id."""
    still_open = [number for number in range(len(calls)) if number not in answered]
    same = (number for number in still_open if calls[number].id == call_id)
    unnamed = (number for number in still_open if not call_id or not calls[number].id)
    return next(same, next(unnamed, None))
