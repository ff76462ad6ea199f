"""Logs of every form that `rwml import` reads, changed at random: each item is kept or rejected, and nothing raises.

`mutated(COUNT, FOLDER, seed)` is what the tests call at small size, and a benchmark at large.
"""

from __future__ import annotations

import bz2
import copy
import gzip
import io
import json
import lzma
import random
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rwml.core.tool_calls import calls_of
from rwml.exchange.importer import UNFORESEEN, Imported, check_paths, import_files
from rwml.worlds.chat_world import ChatLogs
from rwml.worlds.transitions import transitions_of

MOST_S = 5.0

CALL = {"id": "a", "type": "function", "function": {"name": "count", "arguments": '{"item": "lamp"}'}}
USER, ANSWER = {"role": "user", "content": "How many lamps?"}, {"role": "user", "content": "Yes, ten."}
OPENAI = [
    {"role": "system", "content": "Be kind."},
    USER,
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "a", "content": '{"left": [4, {"\\ud83d": 1}]}'},
    {"role": "assistant", "content": "<think>hm</think>Four. More?", "reasoning_content": "So."},
    ANSWER,
]
ANTHROPIC = [
    USER,
    {
        "role": "assistant",
        "content": [
            {"type": "thinking", "thinking": "hm"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t", "name": "count", "input": {"item": "lamp"}},
        ],
    },
    {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "4"}]}],
    },
    {"role": "assistant", "content": "Four."},
    ANSWER,
]
VERCEL = [
    USER,
    {
        "role": "assistant",
        "content": [{"type": "tool-call", "toolCallId": "v", "toolName": "count", "input": {"item": "lamp"}}],
    },
    {
        "role": "tool",
        "content": [
            {"type": "tool-result", "toolCallId": "v", "toolName": "count", "output": {"type": "json", "value": [4]}}
        ],
    },
    {
        "role": "assistant",
        "parts": [
            {"type": "step-start"},
            {"type": "tool-count", "toolCallId": "w", "state": "output-available", "input": {}, "output": {"n": 1}},
            {"type": "text", "text": "One."},
        ],
    },
    ANSWER,
]
LANGCHAIN = [
    {"type": "human", "content": "How many?"},
    {"type": "ai", "content": "", "tool_calls": [{"name": "count", "args": {"item": "lamp"}, "id": "l"}]},
    {"type": "tool", "name": "count", "tool_call_id": "l", "content": "Error: no", "status": "error"},
    {"type": "ai", "data": {"content": "None."}},
    {"type": "human", "content": "Oh."},
]
SHAREGPT = [
    {"from": "human", "value": "How many?"},
    {"from": "function_call", "value": '{"name": "count", "arguments": {"item": "lamp"}}'},
    {"from": "observation", "value": "4"},
    {"from": "gpt", "value": 'Four.<tool_call>{"name": "order", "arguments": {}}</tool_call>'},
    {"from": "human", "value": "<tool_response>ok</tool_response>"},
    {"from": "gpt", "value": "Done."},
    {"from": "human", "value": "Good."},
]
TAU2_CALL = {"id": "c", "name": "count", "arguments": {"item": "lamp"}, "requestor": "assistant"}
TAU2_MESSAGES = [
    {"role": "assistant", "content": "Hi!"},
    USER,
    {"role": "assistant", "content": None, "tool_calls": [TAU2_CALL]},
    {"role": "tool", "id": "c", "content": '{"left": 4}', "requestor": "assistant", "error": False},
    {"role": "assistant", "content": "Four."},
    ANSWER,
]
TAU2 = {
    "info": {"environment_info": {"domain_name": "shop", "policy": "Sell."}, "agent_info": {"llm": "m"}},
    "tasks": [{"id": "1", "user_scenario": {"instructions": {"known_info": "You are Ann. You are called Ann."}}}],
    "simulations": [
        {
            "id": f"s{number}",
            "task_id": "1",
            "messages": TAU2_MESSAGES,
            "reward_info": {"reward": 1.0},
            "termination_reason": "user_stop",
            "seed": number,
        }
        for number in range(3)
    ],
}
DOCUMENTS: dict[str, list[Any]] = {
    "chat": [{"messages": OPENAI, "tools": [{"type": "function", "function": {"name": "count"}}], "success": True}],
    "anthropic": [{"system": "Sell.", "messages": ANTHROPIC, "tools": [{"name": "count", "input_schema": {}}]}],
    "vercel": [{"messages": VERCEL, "reward": "1.0"}],
    "langchain": [{"messages": LANGCHAIN}],
    "sharegpt": [{"conversations": SHAREGPT, "system": "Sell.", "tools": "[]"}],
    "tau-bench": [{"task_id": 3, "reward": 1.0, "traj": OPENAI, "trial": 0, "info": {}}],
    "tau2": [TAU2],
    "text": [{"messages": json.dumps(OPENAI), "tools": json.dumps([{"name": "count"}]), "success": "no"}],
    "requests": [{"messages": OPENAI[:end]} for end in range(1, len(OPENAI) + 1)],
}
"""Records of each form: a file is their JSON lines, or one JSON document."""

DEEP: Any = 1
for _ in range(150):
    DEEP = [DEEP]
HOSTILE: list[Any] = [None, True, 0, -1, 3.5, 10**400, 1e308, float("inf"), float("nan"), "", " ", "\ud83d", "\x1b[31m",
                      "{", "[" * 3000, "1" * 5000, "<tool_call>", "<think>", "</think>", "[f(x=1)]", "a" * 10_000, [],
                      {}, [[]], {"a": None}, [None], {"\ud83d": 1}, DEEP, '{"a": "\\ud83d"}', "9" * 4400]  # fmt: skip
KEYS = ["role", "content", "messages", "tool_calls", "function", "arguments", "args", "input", "name", "id", "type",
        "text", "value", "from", "parts", "simulations", "info", "tasks", "traj", "task_id", "reward", "tools",
        "system", "termination_reason", "requestor", "error", "data", "output", "tool_messages",
        "toolInvocation"]  # fmt: skip


@dataclass
class Outcome:
    """What became of mutated files. faults: file number and what went wrong; kept: by the form that they came from."""

    files: int = 0
    items: int = 0
    episodes: int = 0
    rejected: int = 0
    slowest_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    kept: dict[str, int] = field(default_factory=dict)


def mutated(count: int, folder: Path, seed: int = 0, most_s: float = MOST_S) -> Outcome:
    """Import `count` mutated files one by one; faults are exceptions, files slower than most_s, items that are neither
    kept nor rejected, and texts that cannot be written."""
    outcome, draw = Outcome(), random.Random(seed)
    for number in range(count):
        form = draw.choice(sorted(DOCUMENTS))
        path = folder / f"{form}.json"
        path.write_bytes(_content(form, draw))
        start = time.perf_counter()
        try:
            imported = import_files(check_paths([path]))
            problems = _problems(imported)
        except Exception as error:
            problems = [f"{type(error).__name__}: {str(error)[:200]}"]
        else:
            outcome.kept[form] = outcome.kept.get(form, 0) + len(imported.episodes)
            (counts,) = imported.files
            outcome.items += counts.items
            outcome.episodes += counts.episodes
            outcome.rejected += counts.rejected
        seconds = time.perf_counter() - start
        outcome.slowest_s = max(outcome.slowest_s, seconds)
        problems += [f"{seconds:.1f} s"] if seconds > most_s else []
        outcome.faults += [f"file {number} ({form}): {problem}" for problem in problems]
        outcome.files += 1
    return outcome


def _problems(imported: Imported) -> list[str]:
    (counts,) = imported.files
    found = []
    if counts.items != counts.episodes + counts.rejected or not counts.items:
        found.append(f"{counts.items} items, {counts.episodes} kept, {counts.rejected} rejected")
    if len(imported.rejected) != counts.rejected + counts.broken or len(imported.episodes) != counts.episodes:
        found.append("the counts are not those of the lists")
    found += [f"{r.reason}: {r.detail}" for r in imported.rejected if r.reason == UNFORESEEN]
    for rejected in imported.rejected:
        json.dumps(asdict(rejected), ensure_ascii=False).encode("utf-8", "backslashreplace")
    world = ChatLogs()
    for episode in imported.episodes:
        json.dumps([asdict(row) for row in transitions_of(episode, world, "train")], ensure_ascii=False).encode()
        json.dumps(asdict(episode), ensure_ascii=False).encode()
        actions = [step.action for step in episode.steps if step.kind == "tool" and step.action]
        found += [f"no canonical call: {action[:80]}" for action in actions if not calls_of(action)]
    return found


def _content(form: str, draw: random.Random) -> bytes:
    records = copy.deepcopy(DOCUMENTS[form])
    for _ in range(draw.choice([0, 1, 1, 2, 5])):
        _change(records, draw)
    if draw.random() < 0.3:
        records += copy.deepcopy(DOCUMENTS[draw.choice(sorted(DOCUMENTS))])
    style = draw.randrange(4)
    if style == 0:
        text = json.dumps(records, ensure_ascii=draw.random() < 0.5)
    elif style == 1:
        text = "".join(json.dumps(record, indent=1) for record in records)
    else:
        text = "\n".join(json.dumps(record, ensure_ascii=draw.random() < 0.5) for record in records)
    data = text.encode("utf-8", "surrogatepass")
    for _ in range(draw.choice([0, 0, 0, 1, 3])):
        data = _damaged(data, draw)
    pack = draw.choice([None, None, None, None, gzip.compress, bz2.compress, lzma.compress, _parquet])
    if pack is not None:
        data = pack(data)
        if draw.random() < 0.5:
            data = _damaged(data, draw)
    return data


def _parquet(data: bytes) -> bytes:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.table({"messages": [data.decode("utf-8", "replace"), json.dumps(OPENAI)], "success": ["x", None]})
    written = io.BytesIO()
    pyarrow.parquet.write_table(table, written)
    return written.getvalue()


def _change(records: list[Any], draw: random.Random) -> None:
    """Change one place of the JSON: another value, key, order, or the value as its text."""
    holders: list[Any] = []
    level: list[Any] = [records]
    while level:
        holders += level
        inner = [value for holder in level for value in (holder.values() if isinstance(holder, dict) else holder)]
        level = [value for value in inner if isinstance(value, (dict, list)) and value]
    holder = draw.choice(holders)
    place = draw.choice(sorted(holder, key=str)) if isinstance(holder, dict) else draw.randrange(len(holder))
    kind = draw.randrange(6)
    if kind == 0 and holder is not records:
        del holder[place]
    elif kind == 1 and isinstance(holder, dict):
        holder[draw.choice(KEYS)] = holder.pop(place)
    elif kind == 2 and isinstance(holder, list):
        holder.insert(draw.randrange(len(holder) + 1), copy.deepcopy(draw.choice(holder)))
    elif kind == 3 and holder[place] is not DEEP:
        holder[place] = json.dumps(holder[place]) if draw.random() < 0.5 else [holder[place]]
    else:
        holder[place] = copy.deepcopy(draw.choice(HOSTILE))


def _damaged(data: bytes, draw: random.Random) -> bytes:
    at, length = draw.randrange(len(data) + 1), draw.randrange(1, 40)
    kind = draw.randrange(5)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + data[at + length :]
    if kind == 2:
        return data[:at] + draw.randbytes(length) + data[at:]
    if kind == 3:
        return data[:at] + draw.choice([b"\n", b"\0", b"\xed\xa0\xbd", b"\\ud83d", b'"', b"}", b"]", b"["]) + data[at:]
    return data[:at] + bytes([data[at] ^ 1 << draw.randrange(8)]) + data[at + 1 :] if at < len(data) else data + data
