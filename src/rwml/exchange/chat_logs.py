"""Chat logs: records with `messages` (OpenAI, Anthropic, Vercel, LangChain), `conversations` (ShareGPT) or `traj`
(tau-bench v1), or bare lists of messages."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from rwml.core.types import StopReason, Task
from rwml.exchange.conversations import cut
from rwml.exchange.log_files import Item, Log, parse_json
from rwml.exchange.message_parts import UnreadableError, parts_of
from rwml.exchange.messages import read_messages
from rwml.exchange.stated_outcomes import stated_success
from rwml.worlds.tool_world import opening

WORLD = "chat"
_TRAJECTORY = "traj"
_LISTS = ("messages", "conversations", _TRAJECTORY)
_SCHEMAS = ("parameters", "input_schema", "inputSchema")


def log_of(item: Item, counts: Counter[str], *, briefing: bool = True) -> Log:
    """A record as a log; UnreadableError if nothing can be learned from it. counts: see `cut`. briefing: the opening
    holds tools and system messages.

    Without `task`, logs with the same opening count as plays of one task, and stay in one split.
    """
    record = {"messages": item.value} if isinstance(item.value, list) else item.value
    if not isinstance(record, dict):
        raise UnreadableError("a record is not an object", type(record).__name__)
    if {"termination_reason", "task_id"} <= record.keys():
        raise UnreadableError(
            "a tau2 simulation without its results file", "give the folder's results.json, which has the policy"
        )
    key, values = _messages(record)
    messages, broken = read_messages(values, counts)
    conversation = cut(messages, counts)
    rules = "\n\n".join(part for part in (_system(record), conversation.rules) if part)
    whole = opening(_tools(record, counts), rules, conversation.before)
    success = stated_success(record, ("success", "reward"), counts)
    return Log(
        Task(_tau_bench_task(record, rules) if key == _TRAJECTORY else _task(record, whole), WORLD,
             _word(record, "split", ""), WORLD),
        policy=_word(record, "model", "log"),
        seed=0,
        name=_word(record, "id", ""),
        simulation="",
        opening=whole if briefing else opening([], "", conversation.before),
        steps=conversation.steps,
        stop=StopReason.SUCCESS if success else StopReason.FAILURE,
        success=success,
        broken=item.problem or broken,
        messages=tuple(messages),
    )  # fmt: skip


def _messages(record: dict[str, Any]) -> tuple[str, list[Any]]:
    """The key that holds the record's messages, and the messages."""
    key = next((key for key in _LISTS if record.get(key)), "")
    values = _unpacked(record.get(key), key) if key else None
    if not isinstance(values, list) or not values:
        raise UnreadableError("a record without messages", f"its keys: {', '.join(record)[:200] or 'none'}")
    return key, values


def _unpacked(value: Any, key: str) -> Any:
    """A value, also if it is kept as its JSON text; a text that is not JSON is itself."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)[0]
    except UnreadableError as error:
        raise UnreadableError(f"{key} is a text that is not JSON", error.detail) from None


def _word(record: dict[str, Any], key: str, default: str) -> str:
    value = record.get(key)
    if value is None or value == "":
        return default
    if isinstance(value, (str, int)) and not isinstance(value, bool):
        return str(value)
    raise UnreadableError(f"{key} is not a text", repr(value)[:80])


def _task(record: dict[str, Any], opening: str) -> str:
    return _word(record, "task", f"{WORLD}-{_digest(opening)}")


def _tau_bench_task(record: dict[str, Any], rules: str) -> str:
    """The task of a trajectory: its number, within the domain whose policy it holds, because files do not name it."""
    return f"tau-bench-{_digest(rules)}/{_word(record, 'task_id', 'unknown')}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _system(record: dict[str, Any]) -> str:
    """Rules beside the messages (Anthropic, ShareGPT): a text, or text parts."""
    given = record.get("system")
    parts = parts_of(given, Counter()) if isinstance(given, list) else [given or ""]
    if not all(isinstance(part, str) for part in parts):
        raise UnreadableError("system is not a text", repr(given)[:80])
    return "\n".join(str(part) for part in parts).strip()


def _tools(record: dict[str, Any], counts: Counter[str]) -> list[dict[str, Any]]:
    """The schemas in OpenAI's form: those of the older key `functions`, of Anthropic and of Vercel are put into it."""
    given = record.get("tools") or record.get("functions") or []
    try:
        given = _unpacked(given, "tools") or []
    except UnreadableError as error:
        raise UnreadableError("tools is not a list of objects", f"a text that is not JSON: {error.detail}") from None
    if isinstance(given, dict) and not {"name", "function"} & given.keys():  # Vercel: by name
        given = [value | {"name": name} if isinstance(value, dict) else value for name, value in given.items()]
    if not isinstance(given, list) or not all(isinstance(tool, dict) for tool in given):
        raise UnreadableError("tools is not a list of objects", type(given).__name__)
    return [schema for tool in given if (schema := _schema(tool, counts))]


def _schema(tool: dict[str, Any], counts: Counter[str]) -> dict[str, Any] | None:
    if isinstance(tool.get("function"), dict):
        return tool
    fields = tool["toolSpec"] if isinstance(tool.get("toolSpec"), dict) else tool
    if not isinstance(fields.get("name"), str):  # such as a search that the server does by itself
        counts["tools without a schema"] += 1
        return None
    function = {key: value for key, value in fields.items() if key not in (*_SCHEMAS[1:], "type")}
    given = next((fields[key] for key in _SCHEMAS if key in fields), None)
    if given is not None:
        inner = given.get("json") if isinstance(given, dict) and set(given) == {"json"} else given
        function["parameters"] = inner
    return {"type": "function", "function": function}

