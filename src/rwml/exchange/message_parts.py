"""Tool calls, and contents in parts, in the forms in which other programs write them down.

A form that is not known is never read as another one: its message becomes an `UnreadableError`, or its call one without
an action.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rwml.core.call_forms.call_values import CALL_JSON
from rwml.core.text import nested_too_deep, sound
from rwml.core.tool_calls import ToolCall, call_text


class UnreadableError(Exception):
    """A part of a log that cannot be read. reason: one of a few, for counting. detail: of this case."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}" if detail else reason)


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call in a message. action: canonical text, "" where the call cannot be read; text: as logged."""

    id: str
    name: str
    action: str
    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """A tool's response. call_id, name: of the call that it answers, "" where the log does not say."""

    text: str
    call_id: str = ""
    name: str = ""
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Thought:
    """An agent's reasoning."""

    text: str


Part = str | Thought | Call | Result

_NAMES = ("name", "tool_name", "toolName")
_ARGUMENTS = ("arguments", "args", "input", "parameters")
_IDS = ("call_id", "tool_call_id", "toolCallId", "toolUseId", "id")
# Keys beside the arguments of a call; a call with another key, and without arguments, is of an unknown form.
_BESIDE = frozenset(
    {*_NAMES, *_IDS, "type", "index", "function", "requestor", "error", "status", "state", "cache_control"}
)
_RESULT_IDS = ("tool_call_id", "tool_use_id", "toolCallId", "toolUseId", "call_id", "id")
_RESULT_VALUES = ("content", "output", "result", "response")
_TEXT_TYPES = (None, "text", "input_text", "output_text", "refusal")
_THOUGHT_TYPES = ("thinking", "reasoning", "redacted_thinking", "thought", "think")
_CALL_TYPES = ("tool_use", "server_tool_use", "tool_call", "function_call")
_MEDIA = ("image", "image_url", "input_image", "audio", "audio_url", "input_audio", "video", "video_url", "file",
          "input_file", "document", "media", "resource")  # fmt: skip
_NO_CONTENT = ("step_start", "source", "source_url", "source_document")
_KEYED = {"toolUse": _CALL_TYPES[0], "functionCall": _CALL_TYPES[0]} | {
    "toolResult": "tool_result",
    "functionResponse": "tool_result",
}
_SURROGATE = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
_REPLACED = "characters that are not Unicode, in JSON within a text"


def call_of(value: dict[str, Any], counts: Counter[str]) -> Call:
    """A call as OpenAI, Anthropic, Vercel, LangChain, Bedrock, Gemini or tau2 write it."""
    inner = value.get("function")
    fields = inner if isinstance(inner, dict) else value
    name = next((fields[key] for key in _NAMES if key in fields), inner)
    given = [fields[key] for key in _ARGUMENTS if fields.get(key) not in (None, "", {})]
    call_id = next((str(value[key]) for key in _IDS if value.get(key)), "")
    known = any(key in fields for key in _ARGUMENTS) or set(fields) <= _BESIDE
    arguments = given[0] if given else {}
    shown = arguments if isinstance(arguments, str) else _json(arguments)
    if not known:
        shown = _json(fields)
    sure = known and all(other == arguments for other in given)
    action = _action(name, arguments, counts) if sure else ""
    return Call(call_id, name if isinstance(name, str) else "", action, sound(f"{name} {shown}"))


def _action(name: Any, arguments: Any, counts: Counter[str]) -> str:
    """Canonical text of a call; "" if it has no name, or if its arguments are not a JSON object."""
    try:
        if isinstance(arguments, str):
            arguments = CALL_JSON.decode(arguments) if arguments.strip() else {}
        if not isinstance(name, str) or not name.strip() or not isinstance(arguments, dict):
            return ""
        if nested_too_deep(arguments):
            return ""
        written = call_text([ToolCall(name.strip(), arguments)])
        replaced = sound(written)
        counts[_REPLACED] += replaced != written
    except (ValueError, RecursionError):
        return ""
    return replaced


def result_text(text: str, counts: Counter[str]) -> str:
    """A tool's response whose JSON escapes, too, are characters."""
    replaced = _SURROGATE.sub(lambda found: found.group() if len(found.group()) > 6 else "\\ufffd", text)
    counts[_REPLACED] += replaced != text
    return replaced


def parts_of(content: list[Any], counts: Counter[str]) -> list[Part]:
    """The parts of a message; UnreadableError for one of an unknown kind."""
    return [part for value in content for part in _part(value, counts)]


def _part(value: Any, counts: Counter[str]) -> Iterator[Part]:
    if isinstance(value, str):
        yield value
        return
    if not isinstance(value, dict):
        raise UnreadableError("a message's content is not a text", short(value))
    keyed = next((key for key in _KEYED if isinstance(value.get(key), dict)), "")
    kind = _KEYED[keyed] if keyed else value.get("type")
    kind = kind.replace("-", "_") if isinstance(kind, str) else kind
    fields = value[keyed] if keyed else value
    text = next((fields[key] for key in ("text", "refusal") if isinstance(fields.get(key), str)), None)
    if text is not None and kind in _TEXT_TYPES:
        yield Thought(text) if fields.get("thought") is True else text
    elif kind in _THOUGHT_TYPES:
        thoughts = (fields.get(key) for key in ("thinking", "reasoning", "text"))
        yield Thought(next((thought for thought in thoughts if isinstance(thought, str)), ""))
    elif kind in _CALL_TYPES:
        yield call_of(fields, counts)
    elif isinstance(kind, str) and (kind.endswith("tool_result") or kind == "function_call_output"):
        yield result_of(fields, counts)
    elif isinstance(kind, str) and (kind.startswith("tool_") or kind == "dynamic_tool"):
        yield from _shown_call(fields, kind, counts)
    elif kind in _MEDIA:
        counts[f"parts that are not text: {kind}"] += 1
        yield f"[{kind}]"
    elif kind not in _NO_CONTENT:
        if not isinstance(kind, str):
            raise UnreadableError("a message's content is not a text", short(value))
        raise UnreadableError("a part of an unknown kind", short(kind))


def _shown_call(value: dict[str, Any], kind: str, counts: Counter[str]) -> Iterator[Part]:
    """A call of Vercel's UI messages, with its result once it is there."""
    inner = value.get("toolInvocation")
    fields = inner if isinstance(inner, dict) else value
    if not fields.get("toolCallId"):
        raise UnreadableError("a part of an unknown kind", short(kind))
    named = {"toolName": kind.removeprefix("tool_")} if kind.startswith("tool_") and inner is None else {}
    call = call_of({key: fields[key] for key in (*_NAMES, *_ARGUMENTS, *_IDS) if key in fields} | named, counts)
    yield call
    state = str(fields.get("state"))
    if state == "output-error":
        yield Result(str(fields.get("errorText") or ""), call.id, call.name, failed=True)
    elif any(key in fields for key in ("output", "result")):
        yield result_of(fields, counts)


def result_of(value: dict[str, Any], counts: Counter[str], id_keys: tuple[str, ...] = _RESULT_IDS) -> Result:
    """A response as the forms of `call_of` write it, or a whole message of the role `tool`."""
    key = next((key for key in _RESULT_VALUES if key in value), "")
    if not key and any(isinstance(value.get(other), str) for other in ("text", "message", "body", "value")):
        raise UnreadableError("a tool's response has no content", f"its keys: {', '.join(value)[:80]}")
    inner, failed = value.get(key), bool(value.get("error") or value.get("is_error") or value.get("isError"))
    if isinstance(inner, dict) and set(inner) == {"type", "value"} and isinstance(inner["type"], str):  # Vercel
        failed = failed or inner["type"].startswith("error")
        inner = inner["value"]
    text = _result_value(inner, counts)
    failed = failed or value.get("status") == "error" or text.startswith("Error:")
    name = next((str(value[key]) for key in _NAMES if value.get(key)), "")
    return Result(text, next((str(value[key]) for key in id_keys if value.get(key)), ""), name, failed)


def _result_value(value: Any, counts: Counter[str]) -> str:
    if value is None or value == []:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        try:
            own: Counter[str] = Counter()
            parts = [{"text": _json(p["json"])} if isinstance(p, dict) and set(p) == {"json"} else p for p in value]
            texts = parts_of(parts, own)
            if all(isinstance(text, str) for text in texts):
                counts += own
                return "\n".join(str(text) for text in texts if text)
        except UnreadableError:
            pass
    return _json(value)  # a response that was logged as the value it is


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def short(value: Any) -> str:
    """A value in a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
