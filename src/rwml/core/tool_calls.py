"""Tool calls: how a model writes them, how they are read back, and the one text in which they are kept.

An agent's message is either tool calls or a message to the user. Kept calls have one line each,
`{"name": ..., "arguments": {...}}`; everything else is a message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one tool. arguments: a JSON object, in the order in which they were given."""

    name: str
    arguments: dict[str, Any]


def call_text(calls: Sequence[ToolCall]) -> str:
    """Canonical text, one line per call. Raises ValueError or TypeError where an argument is not a JSON value."""
    return "\n".join(
        json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False, allow_nan=False)
        for call in calls
    )


def calls_of(action: str) -> tuple[ToolCall, ...]:
    """The calls of a canonical text, the inverse of `call_text`; () for a message, or if any line is not a call."""
    calls = []
    for line in action.split("\n"):
        if not line.startswith('{"name": "'):
            return ()
        try:
            fields = json.loads(line)
            call = ToolCall(fields["name"], fields["arguments"])
            if not isinstance(call.arguments, dict) or call_text([call]) != line:
                return ()
        except (ValueError, KeyError, RecursionError):
            return ()
        calls.append(call)
    return tuple(calls)


def parse_message(text: str) -> str | None:
    """Canonical action of a model's text: its calls, or else its message; None if neither can be read.

    Thinking is left out: `<think>...</think>`, and all before a lone `</think>`. Calls are read as
    `<tool_call>{...}</tool_call>` (Hermes, Qwen), `<function=name><parameter=key>value</parameter></function>` (Qwen3
    Coder), `[TOOL_CALLS] [...]` (Mistral), `<|python_tag|>{...}` (Llama), and as JSON without a mark (with both a name
    and arguments) that begins a line or a code fence. Calls win over the text around them. A mark that no whole call
    follows, or a list that is not all calls, makes the message unreadable: a part
    of the calls is never executed.
    """
    try:
        message, calls = _Reader(text).read()
        action = call_text(calls) if calls else message
        action.encode()  # a JSON escape can smuggle in half a surrogate pair, which no file or tokenizer takes
    except (_Unreadable, ValueError, RecursionError):
        return None
    return action or None


class _Unreadable(Exception):
    """The message means to call tools, but its calls cannot be read."""


_MARKS = re.compile(
    r"<think>|</?tool_call>|<function=|<parameter=|</function>|</parameter>|\[TOOL_CALLS\]|<\|python_tag\|>"
    r"|^[ \t]*(?:```\w*\s*)?(?=\{|\[(?!TOOL_CALLS\]))",
    re.MULTILINE,
)
_FUNCTION = re.compile(r"\s*<function=([^<>\n]+)>(.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"\s*<parameter=([^<>\n]+)>(.*?)</parameter>\s*", re.DOTALL)
_MISTRAL_NAME = re.compile(r"\s*([\w.\-]+)\s*(?:\[CALL_ID\][^\[]*)?(?:\[ARGS\])?\s*(?=\{)")
_BEGINS_AS_CALL = re.compile(r'\s*(?:\[\s*)?\{\s*"(?:name|arguments|parameters|function|type"\s*:\s*"function)"')
_CALL_KEYS = frozenset({"name", "arguments", "parameters", "function", "id", "type", "index"})
_PYTHON_WORDS = {"True": True, "False": False, "None": None}


class _Reader:
    """Reads a text from left to right; what a call or a thought takes up is not searched for marks again."""

    def __init__(self, text: str) -> None:
        before, close, after = text.partition("</think>")
        self.text = after if close and "<think>" not in before else text
        self.at = 0
        self.message_parts: list[str] = []
        self.calls: list[ToolCall] = []

    def read(self) -> tuple[str, list[ToolCall]]:
        """The message without thinking and marks, and the calls."""
        while match := _MARKS.search(self.text, self.at):
            self.message_parts.append(self.text[self.at : match.start()])
            start, self.at = self.at, match.end()
            mark = match.group()
            if mark == "<think>":
                self._expect_after("</think>")
            elif mark == "<tool_call>":
                self._hermes()
            elif mark == "<function=":
                self.at = match.start()
                self._function()
            elif mark == "[TOOL_CALLS]":
                self._mistral()
            elif mark == "<|python_tag|>":
                self._marked_values()
            elif mark.startswith("<"):
                raise _Unreadable  # a closing without an opening
            else:
                self._unmarked(match.start())
            assert self.at > start
        return "".join([*self.message_parts, self.text[self.at :]]).strip(), self.calls

    def _expect_after(self, closing: str) -> None:
        end = self.text.find(closing, self.at)
        if end < 0:
            raise _Unreadable
        self.at = end + len(closing)

    def _skip_space(self) -> str:
        """Move to the next character that is not white space and return it; "" at the end."""
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        return self.text[self.at : self.at + 1]

    def _value(self) -> Any:
        self._skip_space()
        value, self.at = _JSON.raw_decode(self.text, self.at)
        return value

    def _hermes(self) -> None:
        if self._skip_space() == "<":
            self._function()
        else:
            self._add_marked(self._value())
        if self._skip_space():  # the end of the text may replace the last closing tag
            if not self.text.startswith("</tool_call>", self.at):
                raise _Unreadable
            self.at += len("</tool_call>")

    def _function(self) -> None:
        match = _FUNCTION.match(self.text, self.at)
        if not match:
            raise _Unreadable
        name, body = match.group(1).strip(), match.group(2)
        self.at = match.end()
        given = _object(body) if body.lstrip().startswith("{") else _parameters(body)
        self.calls.append(ToolCall(name, given))

    def _mistral(self) -> None:
        match = _MISTRAL_NAME.match(self.text, self.at)
        if match:
            self.at = match.end()
            self._add_marked({"name": match.group(1), "arguments": self._value()})
        else:
            self._marked_values()

    def _marked_values(self) -> None:
        """One or more JSON values after a mark that nothing closes."""
        self._add_marked(self._value())
        while self._next() == "value":
            self._add_marked(self._value())
        if self._next() == "rest":
            raise _Unreadable

    def _next(self) -> Literal["value", "rest", "text"]:
        """What follows a JSON value: another value, a rest (the value was incomplete), or text (or nothing)."""
        at = self.at
        while at < len(self.text) and (self.text[at].isspace() or self.text[at] == ";"):
            at += 1
        if self.text.startswith(("{", "["), at) and not self.text.startswith("[TOOL_CALLS]", at):
            self.at = at
            return "value"
        return "rest" if self.text.startswith(tuple('}],:"'), at) else "text"

    def _add_marked(self, value: Any) -> None:
        calls = [_call(item, marked=True) for item in _items(value)]
        if not calls or None in calls:
            raise _Unreadable
        self.calls += [call for call in calls if call]

    def _unmarked(self, start: int) -> None:
        """JSON at the head of a line: calls, or else a part of the message."""
        calls: list[ToolCall | None] = []
        try:
            calls += [_call(item, marked=False) for item in _items(self._value())]
            while self._next() == "value":
                calls += [_call(item, marked=False) for item in _items(self._value())]
        except (ValueError, RecursionError):
            if any(calls) or _BEGINS_AS_CALL.match(self.text, self.at):
                raise _Unreadable from None
            self.at += 1
        read = [call for call in calls if call]
        if read and (len(read) < len(calls) or self._next() == "rest"):
            raise _Unreadable
        self.calls += read
        self.message_parts.append(self.text[start : self.at])


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _call(value: Any, *, marked: bool) -> ToolCall | None:
    """A JSON value as a call; None if it is not a call. Only a marked call may omit its arguments."""
    if not isinstance(value, dict):
        return None
    if not marked and not set(value) <= _CALL_KEYS:
        return None  # such as the schema of a tool
    fields = value.get("function")
    if not isinstance(fields, dict):
        fields = value
    name = fields.get("name")
    given = next((fields[key] for key in ("arguments", "parameters") if key in fields), None if marked else ...)
    if not isinstance(name, str) or not name.strip() or given is ...:
        return None
    return ToolCall(name.strip(), _object(given))


def _object(value: Any) -> dict[str, Any]:
    """Arguments as a JSON object: itself, its text, or nothing at all."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = _JSON.decode(value)
        except ValueError:
            raise _Unreadable from None
    if not isinstance(value, dict):
        raise _Unreadable
    return value


def _parameters(body: str) -> dict[str, Any]:
    """Arguments in tags. They carry no types: what reads as JSON (or True, False, None) is that, the rest is text."""
    given: dict[str, Any] = {}
    at = 0
    for match in _PARAMETER.finditer(body):
        key, text = match.group(1).strip(), match.group(2)
        if match.start() != at or key in given or "<parameter=" in text:
            raise _Unreadable
        at = match.end()
        text = text.removeprefix("\n").removesuffix("\n")
        try:
            given[key] = _PYTHON_WORDS[text] if text in _PYTHON_WORDS else _JSON.decode(text)
        except ValueError:
            given[key] = text
    if body[at:].strip():
        raise _Unreadable
    return given


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Models write line ends into strings as they are.
_JSON = json.JSONDecoder(strict=False, parse_constant=_no_number)
