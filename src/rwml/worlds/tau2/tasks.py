"""Tasks and splits of tau2-bench, read from the data folder alone; the official package is not needed for them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.text import array_elements
from rwml.worlds.tau2.package import GET_DATA, data_folder

DOMAINS = ("airline", "retail", "telecom")


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task of one domain.

    ticket: the problem in words, for an agent without a user; "" if the domain has none. known_info: the user's
    identity and the facts that the user may state, without the intent. splits: names of the splits that the task is in.
    scenario: what the user simulator reads: persona, and instructions with the user's intent. user_tools: names of the
    tools that the user has; None for all of the domain's. initial_state: data, calls and messages that come before the
    first turn; None for none. answers: the answer key (reference actions, assertions, what must be said, reward basis):
    never put it in a prompt.
    """

    id: str
    domain: str
    ticket: str
    known_info: str
    splits: tuple[str, ...]
    scenario: Mapping[str, Any]
    user_tools: tuple[str, ...] | None
    initial_state: Mapping[str, Any] | None
    answers: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class _File:
    """The text of a domain's tasks, and where each of them lies in it: a seventh of the parsed tasks' memory."""

    text: str
    place: Mapping[str, tuple[int, int]]
    splits: Mapping[str, frozenset[str]]


def splits(domain: str, folder: str | Path | None = None) -> tuple[str, ...]:
    """Names of a domain's splits: "train", "test" and "base"; telecom has "small" and "full" too."""
    return tuple(_file(domain, data_folder(folder)).splits)


def task_ids(domain: str, split: str, folder: str | Path | None = None) -> tuple[str, ...]:
    """Ids of a split's tasks in the order of the domain's task file; RwmlError names the nearest split."""
    file = _file(domain, data_folder(folder))
    if split not in file.splits:
        raise RwmlError(
            f"{domain} of tau2-bench has no split '{split}'",
            "tasks are trained and tested on by split",
            nearest(split, file.splits),
        )
    wanted = file.splits[split]
    return tuple(id for id in file.place if id in wanted)


def task(domain: str, task_id: str, folder: str | Path | None = None) -> TaskRecord:
    """One task by its id; RwmlError names the nearest id."""
    return _task(domain, task_id, data_folder(folder))


def tasks(domain: str, split: str, folder: str | Path | None = None) -> list[TaskRecord]:
    """All tasks of a split, in the order of `task_ids`."""
    return [task(domain, id, folder) for id in task_ids(domain, split, folder)]


@lru_cache(maxsize=512)
def _task(domain: str, task_id: str, domains: Path) -> TaskRecord:
    file = _file(domain, domains)
    if task_id not in file.place:
        close = difflib.get_close_matches(task_id, file.place, n=1, cutoff=0.5)
        raise RwmlError(
            f"{domain} of tau2-bench has no task '{task_id}'",
            "an episode plays one task of the domain's task file",
            f"did you mean '{close[0]}'?" if close else "check the task file",
        )
    start, end = file.place[task_id]
    raw = json.loads(file.text[start:end])
    instructions = raw["user_scenario"]["instructions"]
    known = instructions.get("known_info") if isinstance(instructions, dict) else None
    only = raw.get("user_tools")
    return TaskRecord(
        id=task_id,
        domain=domain,
        ticket=raw.get("ticket") or "",
        known_info=known or "",
        splits=tuple(name for name, ids in file.splits.items() if task_id in ids),
        scenario=raw["user_scenario"],
        user_tools=None if only is None else tuple(only),
        initial_state=raw.get("initial_state"),
        answers=raw.get("evaluation_criteria"),
    )


@lru_cache(maxsize=8)
def _file(domain: str, domains: Path) -> _File:
    if domain not in DOMAINS:
        raise RwmlError(
            f"tau2-bench has no domain '{domain}' here",
            "tasks, tools and policies belong to one",
            nearest(domain, DOMAINS),
        )
    path, split_path = domains / domain / "tasks.json", domains / domain / "split_tasks.json"
    for needed in (path, split_path):
        if not needed.is_file():
            raise RwmlError(f"{needed} is not there", "the tasks of the domain are read from it", GET_DATA)
    text = path.read_text(encoding="utf-8")
    try:
        place = {record["id"]: (start, end) for record, start, end in array_elements(text, text.find("[") + 1)}
    except json.JSONDecodeError as error:
        raise RwmlError(f"{path} is not JSON: {error}", "the tasks of the domain are read from it", GET_DATA) from error
    names = json.loads(split_path.read_text(encoding="utf-8"))
    unknown = [id for ids in names.values() for id in ids if id not in place]
    if unknown:
        raise RwmlError(
            f"{split_path} names {len(unknown)} tasks that {path.name} has not, '{unknown[0]}' among them",
            "splits of another version would be trained and tested on",
            GET_DATA,
        )
    return _File(text, place, {name: frozenset(ids) for name, ids in names.items()})
