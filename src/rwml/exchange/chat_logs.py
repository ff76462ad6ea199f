"""Chat logs as OpenAI's interfaces have them: records with `messages`, or bare lists of messages."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from rwml.core.types import StopReason, Task
from rwml.exchange.conversations import UnreadableError, cut, read_messages
from rwml.exchange.log_files import Item, Log
from rwml.worlds.tool_world import opening

WORLD = "chat"


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
    values = record.get("messages")
    if not isinstance(values, list) or not values:
        raise UnreadableError("a record without messages", f"its keys: {', '.join(record) or 'none'}")
    messages, broken = read_messages(values, counts)
    conversation = cut(messages, counts)
    whole = opening(_tools(record), conversation.rules, conversation.before)
    stop, success = _outcome(record, counts)
    return Log(
        Task(_task(record, whole), WORLD, _word(record, "split", ""), WORLD),
        policy=_word(record, "model", "log"),
        seed=0,
        name=_word(record, "id", ""),
        simulation="",
        opening=whole if briefing else opening([], "", conversation.before),
        steps=conversation.steps,
        stop=stop,
        success=success,
        broken=item.problem or broken,
    )


def _word(record: dict[str, Any], key: str, default: str) -> str:
    value = record.get(key)
    if value is None or value == "":
        return default
    if isinstance(value, (str, int)):
        return str(value)
    raise UnreadableError(f"{key} is not a text", repr(value)[:80])


def _task(record: dict[str, Any], opening: str) -> str:
    digest = hashlib.sha256(opening.encode()).hexdigest()
    return _word(record, "task", f"{WORLD}-{digest[:12]}")


def _tools(record: dict[str, Any]) -> list[dict[str, Any]]:
    """OpenAI schemas; those of the older key `functions`, which lack the frame, are given one."""
    given = record.get("tools") or record.get("functions") or []
    if not isinstance(given, list) or not all(isinstance(tool, dict) for tool in given):
        raise UnreadableError("tools is not a list of objects", type(given).__name__)
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in given]


def _outcome(record: dict[str, Any], counts: Counter[str]) -> tuple[StopReason, bool]:
    stated = next((record[key] for key in ("success", "reward") if record.get(key) is not None), None)
    counts["outcomes that are not stated"] += stated is None
    if isinstance(stated, bool):
        success = stated
    else:
        success = isinstance(stated, (int, float)) and stated >= 1 - 1e-6
    return (StopReason.SUCCESS if success else StopReason.FAILURE), success
