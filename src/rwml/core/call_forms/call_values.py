"""A tool call as a value: out of JSON objects of several key names, and out of parameters in tags."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from rwml.core.text import nested_too_deep


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of one tool. arguments: a JSON object, in the order in which they were given."""

    name: str
    arguments: dict[str, Any]


class UnreadableCallError(Exception):
    """The message means to call tools, but its calls cannot be read."""


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Models write line ends into strings as they are.
CALL_JSON = json.JSONDecoder(strict=False, parse_constant=_no_number)

_NAME_KEYS = ("name", "tool_name")
_ARGUMENT_KEYS = ("arguments", "parameters", "args")
_MARKED_ARGUMENT_KEYS = (*_ARGUMENT_KEYS, "input")
_OTHER_KEYS = frozenset({"function", "id", "type", "index", "tool_call_id"})
_CALL_KEYS = _OTHER_KEYS.union(_NAME_KEYS, _ARGUMENT_KEYS)
_PYTHON_WORDS = {"True": True, "False": False, "None": None}


def call_of(value: Any, *, marked: bool) -> ToolCall | None:
    """A JSON value as a call; None if it is not a call. marked: it stands where only a call can stand, so that it may
    omit its arguments or name them otherwise.

    UnreadableCallError for a call whose arguments are not an object, or stand under a key that no form has.
    """
    if not isinstance(value, dict):
        return None
    if not marked and not set(value) <= _CALL_KEYS:
        return None  # such as the schema of a tool
    function = value.get("function")
    fields = function if isinstance(function, dict) else value
    name = next((fields[key] for key in _NAME_KEYS if key in fields), function)
    keys = [key for key in (_MARKED_ARGUMENT_KEYS if marked else _ARGUMENT_KEYS) if key in fields]
    if not isinstance(name, str) or not name.strip() or not (keys or marked):
        return None
    if not keys and not set(fields) <= _CALL_KEYS:
        raise UnreadableCallError
    return ToolCall(name.strip(), object_of(fields[keys[0]] if keys else None))


def object_of(value: Any) -> dict[str, Any]:
    """Arguments as a JSON object: itself, its text, or nothing at all."""
    if value is None or value == "":
        return {}
    if isinstance(value, str):
        try:
            value = CALL_JSON.decode(value)
        except ValueError:
            raise UnreadableCallError from None
    if not isinstance(value, dict) or nested_too_deep(value):
        raise UnreadableCallError
    return value


def tagged_value(text: str) -> Any:
    """A parameter in tags carries no type: what reads as JSON (or True, False, None) is that, the rest is text."""
    text = text.removeprefix("\n").removesuffix("\n")
    try:
        return _PYTHON_WORDS[text] if text in _PYTHON_WORDS else CALL_JSON.decode(text)
    except ValueError:
        return text


def tagged_parameters(body: str, opening: str, middle: str, closing: str) -> dict[str, Any]:
    """Arguments in tags: `opening` KEY `middle` VALUE `closing`, over and over, with only white space between them.

    It searches for each tag once, from left to right, and is linear in the length of `body` therefore.
    """
    given: dict[str, Any] = {}
    at = _past_space(body, 0)
    while at < len(body):
        end_of_key = body.find(middle, at + len(opening))
        end = body.find(closing, end_of_key + len(middle)) if end_of_key >= 0 else -1
        if end < 0 or not body.startswith(opening, at):
            raise UnreadableCallError
        key, text = body[at + len(opening) : end_of_key].strip(), body[end_of_key + len(middle) : end]
        if not key or key in given or any(mark in key for mark in "<>\n") or opening in text:
            raise UnreadableCallError
        given[key] = tagged_value(text)
        at = _past_space(body, end + len(closing))
    return given


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
