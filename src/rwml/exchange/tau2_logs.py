"""Simulation files of tau2-bench, as its `tau2 run` writes them, understood without the package itself."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

from rwml.core.files import read_json
from rwml.core.types import StopReason, Task
from rwml.exchange.conversations import cut
from rwml.exchange.log_files import Item, Log
from rwml.exchange.message_parts import UnreadableError
from rwml.exchange.messages import read_messages
from rwml.exchange.stated_outcomes import stated_success
from rwml.worlds.tau2 import wording
from rwml.worlds.tool_world import opening

# Reasons that are neither an end by user or agent, nor a limit, are errors, with the reason as their text.
_LIMITS = {"max_steps": StopReason.STEP_LIMIT, "context_window_exceeded": StopReason.CONTEXT_LIMIT}
_ENDS = ("user_stop", "agent_stop")
_DOMAIN = re.compile(r"\w[\w.\-]{0,100}")
_RULED_OUT = "too_many_errors"  # the benchmark's own rule ends the episode: a failure, as a player sees it


def log_of(item: Item, counts: Counter[str], *, briefing: bool = True) -> Log:
    """A simulation as a log; UnreadableError if nothing can be learned from it. counts: see `cut`. briefing: the
    opening holds tools and policy."""
    simulation, results = item.value, item.results
    assert results is not None
    if not isinstance(simulation, dict):
        raise UnreadableError("a simulation is not an object", type(simulation).__name__)
    environment = _dict(results.info.get("environment_info"))
    domain = environment.get("domain_name")
    if not isinstance(domain, str) or simulation.get("task_id") is None:
        raise UnreadableError("a simulation without domain or task", f"domain {domain!r}")
    if not isinstance(simulation.get("messages"), list):
        detail = "it has ticks (voice)" if simulation.get("ticks") else "messages is not a list"
        raise UnreadableError("a simulation without messages", detail)
    messages, broken = read_messages(simulation["messages"], counts, id_key="id")
    conversation = cut(messages, counts)
    agent, task_id = _dict(results.info.get("agent_info")), str(simulation["task_id"])
    solo = _is_solo(results.info)
    task = results.tasks.get(task_id, {})
    ticket = str(task.get("ticket") or "") if solo else ""
    if solo and not ticket:
        raise UnreadableError("a solo simulation without its ticket", f"the file has no task '{task_id}' with one")
    policy = str(simulation.get("policy") or environment.get("policy") or "")
    rules = "\n\n".join(part for part in (policy, conversation.rules) if part)
    tools = _tools(environment.get("tool_defs"))
    text = opening(tools if briefing else [], rules if briefing else "", conversation.before, ticket)
    if not solo:
        text = wording.with_identity(text, wording.identity(_known_info(task)))
    split = official_split(domain, task_id)
    stop, success, error = _outcome(simulation, counts)
    name, kind = wording.task_name(domain, task_id, solo=solo), wording.domain_name(domain, solo=solo)
    return Log(
        Task(name, "tau2", split or "", kind),
        policy=str(agent.get("llm") or agent.get("implementation") or "log"),
        seed=seed if isinstance(seed := simulation.get("seed"), int) and abs(seed) < 2**63 else 0,
        name="",
        simulation=str(simulation.get("id") or ""),
        opening=text,
        steps=conversation.steps,
        stop=stop,
        success=success,
        error=error,
        broken=broken,
        notes=() if split else (_no_splits(domain),),
    )


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _is_solo(info: dict[str, Any]) -> bool:
    agent, user = _dict(info.get("agent_info")), _dict(info.get("user_info"))
    return "solo" in str(agent.get("implementation")) or user.get("implementation") == "dummy_user"


def _known_info(task: dict[str, Any]) -> str:
    instructions = _dict(_dict(task.get("user_scenario")).get("instructions"))
    return str(instructions.get("known_info") or "")


def _tools(definitions: Any) -> list[dict[str, Any]]:
    """OpenAI schemas of the tools' signatures, which are kept by name."""
    tools = []
    for name, signature in _dict(definitions).items():
        fields = _dict(signature)
        function = {"name": name, "description": fields.get("doc") or "", "parameters": fields.get("params") or {}}
        tools.append({"type": "function", "function": function})
    return tools


def _outcome(simulation: dict[str, Any], counts: Counter[str]) -> tuple[StopReason, bool, str]:
    success = stated_success(_dict(simulation.get("reward_info")), ("reward",), counts)
    reason = str(simulation.get("termination_reason"))
    if reason in _LIMITS:
        return _LIMITS[reason], success, ""
    if reason in _ENDS:
        return (StopReason.SUCCESS if success else StopReason.FAILURE), success, ""
    if reason == _RULED_OUT:
        return StopReason.FAILURE, success, ""
    return StopReason.ERROR, success, f"tau2 ended the simulation: {reason}"


def official_split(domain: str, task_id: str) -> str | None:
    """`train`, `test`, or `other` for a task of neither; None where the data folder has no splits of the domain."""
    # A log names the domain, and only the name of a folder is looked up.
    splits = _splits(os.environ.get("TAU2_DATA_DIR", ""), domain) if _DOMAIN.fullmatch(domain) else None
    if splits is None:
        return None
    return next((name for name in ("test", "train") if task_id in splits.get(name, ())), "other")


@lru_cache(maxsize=64)
def _splits(data: str, domain: str) -> dict[str, frozenset[str]] | None:
    path = Path(data) / "tau2" / "domains" / domain / "split_tasks.json"
    if not data or not path.is_file():
        return None
    splits = read_json(path)
    if not isinstance(splits, dict) or not {"train", "test"} <= splits.keys():
        return None
    return {name: frozenset(map(str, ids)) for name, ids in splits.items()}


def _no_splits(domain: str) -> str:
    return (
        f"the official splits of {domain} were not found, so tasks of its test split may be trained on; set "
        "TAU2_DATA_DIR to the folder that holds tau2/domains to keep them apart"
    )
