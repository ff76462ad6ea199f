"""The official reward of a played episode, computed from the session's live state.

The official evaluator loads two databases, replays the trajectory in one and the reference actions in the other, and
compares hashes of the whole. Here the live session is the replayed one, the reference's end state is computed once per
task, and only records that either has touched are compared. Judged assertions are never judged: `Score.needs_judge`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from rwml.core.tool_calls import ToolCall
from rwml.worlds.tau2.domain import get_domain
from rwml.worlds.tau2.package import load
from rwml.worlds.tau2.records import changes, same_records
from rwml.worlds.tau2.session import Session


@dataclass(frozen=True, slots=True)
class Score:
    """Reward of one episode, as the official `evaluate_simulation` with `EvaluationType.ALL` gives it.

    reward: the product of `parts`, 0 or 1; 0 without parts where the episode did not end properly.
    parts: 0 or 1 for each part of the task's reward basis: "DB", "ENV_ASSERTION", "ACTION", "COMMUNICATE".
    needs_judge: the official reward has one more factor, from assertions in natural language that a language model
        judges; `reward` is that of the remaining parts, an upper bound of the official one.
    note: why the reward is what it is where `parts` do not say it; "" otherwise.
    """

    reward: float
    parts: Mapping[str, float] = field(default_factory=dict)
    needs_judge: bool = False
    note: str = ""


def score(
    session: Session,
    calls: Iterable[tuple[str, ToolCall]],
    messages: Iterable[str],
    *,
    ended_properly: bool,
    reason: str = "",
) -> Score:
    """Score the episode that was played in `session`, which may be played on.

    calls: (requestor, call) of all calls made, in order, failed ones included. messages: what the agent said to the
    user, a greeting included. ended_properly: the agent or the user ended it; else the reward is 0 (step limits,
    errors, aborts), as the official one is, and the note gives `reason`.
    """
    answers = session.task.answers
    if not ended_properly:
        return Score(0.0, note=f"not ended by agent or user{': ' + reason if reason else ''}")
    if answers is None:
        return Score(1.0, note="the task has no criteria")
    basis = answers.get("reward_basis", ("DB", "COMMUNICATE"))
    parts: dict[str, float] = {}
    notes: list[str] = []
    session.environment.sync_tools()
    if answers.get("actions") is not None or answers.get("env_assertions") is not None:
        if "DB" in basis:
            parts["DB"] = float(_same_end_state(session))
        if "ENV_ASSERTION" in basis:
            parts["ENV_ASSERTION"] = float(_assertions_hold(session, answers.get("env_assertions") or (), notes))
    past_calls, past_texts = _past(session)
    if "ACTION" in basis:
        made = [*past_calls, *((call.name, call.arguments) for _, call in calls)]
        parts["ACTION"] = float(all(_was_made(action, made) for action in answers.get("actions") or ()))
    if "COMMUNICATE" in basis:
        texts = [text.lower().replace(",", "") for text in (*past_texts, *messages) if text.strip()]
        needed = answers.get("communicate_info") or ()
        parts["COMMUNICATE"] = float(all(any(info.lower() in text for text in texts) for info in needed))
    needs_judge = "NL_ASSERTION" in basis and bool(answers.get("nl_assertions"))
    return Score(math.prod(parts.values()), parts, needs_judge, "; ".join(notes))


def _same_end_state(session: Session) -> bool:
    """Whether the databases are as the reference actions leave them (part DB)."""
    records, hashes = _reference(session.task.domain, session.data, session.task.id)
    if session.tables:
        return same_records(session.tables, records) and session.environment.get_user_db_hash() == hashes[1]
    return (session.environment.get_db_hash(), session.environment.get_user_db_hash()) == hashes


@lru_cache(maxsize=4096)
def _reference(
    name: str, data: Path, task_id: str
) -> tuple[Mapping[tuple[str, str], str | None], tuple[str | None, str | None]]:
    """The end state of the reference actions: touched records, and the hashes of agent's and user's database.

    The agent's hash is None where touched records say it all. Reference actions that fail are passed over, and nothing
    is synchronised after them, as in the official evaluator.
    """
    session = get_domain(name, data.parents[1], solo=False).start(task_id)
    environment = session.environment
    writes = {**session.access.user_writes, **session.access.agent_writes}
    for action in (session.task.answers or {}).get("actions") or ():
        if not writes.get(action["name"], True):
            continue
        try:
            environment.make_tool_call(
                tool_name=action["name"], requestor=action.get("requestor") or "assistant", **action["arguments"]
            )
        except Exception:  # the official evaluator continues, too
            continue
    agent_hash = None if session.tables else environment.get_db_hash()
    return changes(session.tables), (agent_hash, environment.get_user_db_hash())


def _assertions_hold(session: Session, assertions: Sequence[Mapping[str, Any]], notes: list[str]) -> bool:
    """Whether all assertions on the environments hold (part ENV_ASSERTION); one that cannot be run does not."""
    kind = load("data_model.tasks").EnvAssertion
    hold = True
    for assertion in assertions:
        try:
            met = session.environment.run_env_assertion(kind.model_validate(assertion), raise_assertion_error=False)
        except Exception as error:
            met = False
            notes.append(f"{assertion['func_name']} could not be run: {error}")
        hold = hold and met
    return hold


def _past(session: Session) -> tuple[list[tuple[str, Mapping[str, Any]]], list[str]]:
    """Calls and the agent's texts in the messages that come before the first turn; they count as the episode's."""
    messages = (session.task.initial_state or {}).get("message_history") or ()
    calls = [(call["name"], call["arguments"]) for message in messages for call in message.get("tool_calls") or ()]
    return calls, [message.get("content") or "" for message in messages if message["role"] == "assistant"]


def _was_made(action: Mapping[str, Any], made: Iterable[tuple[str, Mapping[str, Any]]]) -> bool:
    """Whether one of the calls is the reference action: its name, and equal values of `compare_args` (of the call's own
    arguments where that is null)."""
    compared = action.get("compare_args")
    for name, arguments in made:
        if name == action["name"]:
            names = arguments.keys() if compared is None else compared
            given = {key: value for key, value in arguments.items() if key in names}
            wanted = {key: value for key, value in action["arguments"].items() if key in names}
            if given == wanted:
                return True
    return False
