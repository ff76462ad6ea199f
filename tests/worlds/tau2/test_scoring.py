"""Rewards beside the official evaluators, on reference actions, parts of them, wrong ones, and real agents' play."""

from __future__ import annotations

import dataclasses
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from rwml.core.tool_calls import ToolCall
from rwml.worlds.tau2.domain import Domain, get_domain
from rwml.worlds.tau2.package import load
from rwml.worlds.tau2.scoring import Score, score
from rwml.worlds.tau2.session import Session
from rwml.worlds.tau2.tasks import TaskRecord, task, tasks

Call = tuple[str, str, Mapping[str, Any]]
ENDED = {"agent_stop", "user_stop"}


def reference(record: TaskRecord, *, solo: bool) -> list[Call]:
    actions = (record.answers or {}).get("actions") or ()
    return [
        ("assistant" if solo else action.get("requestor", "assistant"), action["name"], action["arguments"])
        for action in actions
    ]


def play(domain: Domain, record: TaskRecord, calls: Sequence[Call]) -> tuple[Session, list[tuple[str, ToolCall]], list]:
    """A session after `calls`; the calls as `score` takes them; the official messages of the same play."""
    messages = load("data_model.message")
    session = domain.start(record.id)
    made, trajectory = [], []
    for number, (requestor, name, arguments) in enumerate(calls):
        content, error = session.call(name, arguments, requestor)  # type: ignore[arg-type]
        made.append((requestor, ToolCall(name, dict(arguments))))
        kind = messages.AssistantMessage if requestor == "assistant" else messages.UserMessage
        call = messages.ToolCall(id=str(number), name=name, arguments=dict(arguments), requestor=requestor)
        trajectory.append(kind(role=requestor, tool_calls=[call]))
        trajectory.append(
            messages.ToolMessage(id=str(number), role="tool", content=content, requestor=requestor, error=error)
        )
    return session, made, trajectory


def official(domain: Domain, record: TaskRecord, trajectory: list[Any]) -> dict[str, float]:
    """The parts of the official reward that no judge is needed for, by the official evaluators."""
    official_task = load("data_model.tasks").Task.model_validate(
        {"id": record.id, "user_scenario": record.scenario, "initial_state": record.initial_state,
         "evaluation_criteria": record.answers}
    )  # fmt: skip
    environment = load("evaluator.evaluator_env").EnvironmentEvaluator.calculate_reward(
        load(f"domains.{domain.name}.environment").get_environment, official_task, trajectory, domain.solo
    )
    found = {part.value: value for part, value in environment.reward_breakdown.items()}
    for part, name in (("ACTION", "ActionEvaluator"), ("COMMUNICATE", "CommunicateEvaluator")):
        if part in (record.answers or {})["reward_basis"]:
            module = load(f"evaluator.evaluator_{part.lower()}")
            found[part] = getattr(module, name).calculate_reward(official_task, trajectory).reward
    return found


CASES = {
    # One that books, one that must do nothing, and one that the agent has something to say in.
    "airline": (("14", "reference"), ("14", "half"), ("0", "reference"), ("0", "wrong"), ("7", "said")),
    "retail": (("0", "reference"), ("0", "half"), ("5", "reference"), ("5", "wrong")),
}


def spoil(calls: Sequence[Call]) -> list[Call]:
    """The last call with one of its values replaced; without calls, a needless one."""
    if not calls:
        return [("assistant", "send_certificate", {"user_id": "emma_kim_9957", "amount": 50})]
    requestor, name, arguments = calls[-1]
    first = next(iter(arguments))
    return [*calls[:-1], (requestor, name, {**arguments, first: "#W0000000"})]


@pytest.mark.parametrize("name", CASES)
def test_rewards_are_the_official_ones(name: str, tau2_official: Path) -> None:
    domain, messages = get_domain(name, solo=False), load("data_model.message")
    rewards = []
    for task_id, variant in CASES[name]:
        record = task(name, task_id)
        calls = reference(record, solo=False)
        calls = {"half": calls[: len(calls) // 2], "wrong": spoil(calls)}.get(variant, calls)
        said = [f"That is ${info}." for info in (record.answers or {})["communicate_info"] if variant == "said"]
        session, made, trajectory = play(domain, record, calls)
        trajectory += [messages.AssistantMessage(role="assistant", content=text) for text in said]
        ours = score(session, made, said, ended_properly=True)
        assert ours.parts == official(domain, record, trajectory), (task_id, variant)
        rewards.append(ours.reward)
    assert 0.0 in rewards and 1.0 in rewards


@pytest.mark.parametrize("solo", [False, True])
def test_rewards_of_telecom_are_the_official_ones(solo: bool, tau2_official: Path) -> None:
    domain = get_domain("telecom", solo=solo)
    rewards = Counter[float]()
    some = random.Random(3).sample(tasks("telecom", "full"), 8)
    with_action = [record for record in tasks("telecom", "base") if "ACTION" in (record.answers or {})["reward_basis"]]
    for record in [*some, *with_action[:2]]:
        calls = reference(record, solo=solo)
        for variant in (calls, calls[: len(calls) // 2], calls[1:]):
            session, made, trajectory = play(domain, record, variant)
            ours = score(session, made, [], ended_properly=True)
            assert ours.parts == official(domain, record, trajectory), record.id
            rewards[ours.reward] += 1
    assert rewards[1.0] >= 10 and rewards[0.0] >= 10


def test_every_reference_scores_one_and_no_telecom_task_scores_for_nothing(tau2_official: Path) -> None:
    judged = Counter[str]()
    idle = Counter[str]()
    for name, solo in (("airline", False), ("retail", False), ("telecom", True)):
        domain = get_domain(name, solo=solo)
        for record in tasks(name, "base"):
            session = domain.start(record.id)
            for requestor, tool, arguments in reference(record, solo=solo):
                session.call(tool, arguments, requestor)  # type: ignore[arg-type]
            made = [
                (requestor, ToolCall(tool, dict(arguments)))
                for requestor, tool, arguments in reference(record, solo=solo)
            ]
            said = list((record.answers or {}).get("communicate_info") or ())
            ours = score(session, made, said, ended_properly=True)
            assert (ours.reward, ours.note) == (1.0, ""), record.id
            judged[name] += ours.needs_judge
            nothing = score(domain.start(record.id), [], [], ended_properly=True)
            idle[name] += nothing.reward == 1.0 and not nothing.needs_judge
    assert judged == {"airline": 0, "retail": 40, "telecom": 0}
    assert idle == {"airline": 23, "retail": 6, "telecom": 0}


def test_recorded_rewards_of_real_agents_are_given_again(tau2_official: Path, tau2_simulations: Path) -> None:
    """Where the task's answers are still those of the recording."""
    counts = Counter[str]()
    for path in sorted(tau2_simulations.glob("*.json")):
        recorded = json.loads(path.read_text(encoding="utf-8"))
        domain = get_domain(path.name.split("_")[0], solo="_solo_" in path.name)
        keys = {record["id"]: record["evaluation_criteria"] for record in recorded["tasks"]}
        for simulation in recorded["simulations"]:
            session = domain.start(simulation["task_id"])
            calls, said = [], []
            for message in simulation["messages"]:
                for call in message.get("tool_calls") or ():
                    session.call(call["name"], call["arguments"], call["requestor"])
                    calls.append((call["requestor"], ToolCall(call["name"], call["arguments"])))
                if message["role"] == "assistant":
                    said.append(message["content"] or "")
            reason = simulation["termination_reason"]
            ours = score(session, calls, said, ended_properly=reason in ENDED, reason=reason)
            theirs = simulation["reward_info"]
            parts = theirs["reward_breakdown"] or {}
            key, answers = keys[session.task.id], session.task.answers or {}
            if any(
                _plain(key[name]) != _plain(answers[name]) for name in ("actions", "env_assertions") if name in answers
            ):
                counts["other answers"] += 1
            elif reason not in ENDED:
                assert (ours.reward, theirs["reward"]) == (0.0, 0.0)
                assert ours.note == f"not ended by agent or user: {reason}"
                counts["not ended"] += 1
            else:
                common = ours.parts.keys() & parts.keys()
                assert common and {part: ours.parts[part] for part in common} == {part: parts[part] for part in common}
                counts["same"] += 1
    assert counts == {"same": 167, "not ended": 6, "other answers": 7}


def _plain(entries: Sequence[Mapping[str, Any]] | None) -> list[str]:
    return [json.dumps([entry.get("name"), entry.get("func_name"), entry["arguments"]]) for entry in entries or ()]


def with_answers(session: Session, **answers: Any) -> Session:
    """The session of a task whose answers are changed (the end state of the reference is the task's own)."""
    session.task = dataclasses.replace(session.task, answers={**(session.task.answers or {}), **answers})
    return session


def test_parts_worked_by_hand(tau2_official: Path) -> None:
    domain = get_domain("retail", solo=False)

    def parts(calls: Sequence[ToolCall] = (), said: Sequence[str] = (), **answers: Any) -> Score:
        session = with_answers(domain.start("0"), **answers)
        return score(session, [("assistant", call) for call in calls], said, ended_properly=True)

    def act(made: Mapping[str, Any], wanted: Mapping[str, Any], compare: list[str] | None) -> float:
        actions = [{"name": "f", "arguments": wanted, "compare_args": compare}]
        return parts([ToolCall("f", dict(made))], reward_basis=["ACTION"], actions=actions).reward

    assert act({"a": 1, "b": 2}, {"a": 1, "b": 2}, None) == 1.0
    assert act({"a": 1}, {"a": 1, "b": 2}, None) == 1.0, "compared are the arguments that were given"
    assert act({"a": 1, "b": 3}, {"a": 1, "b": 2}, None) == 0.0
    assert act({"a": 1, "b": 3}, {"a": 1, "b": 2}, ["a"]) == 1.0
    assert act({"b": 2}, {"a": 1, "b": 2}, ["a"]) == 0.0
    assert act({"z": 0}, {"a": 1}, []) == 1.0

    def say(*said: str) -> float:
        return parts(said=said, reward_basis=["COMMUNICATE"], communicate_info=["Gold", "1628"]).reward

    assert say("You pay $1,628.", "You are a GOLD member.") == 1.0
    assert say("You pay $1,628.") == 0.0
    assert parts(said=["1,628"], reward_basis=["COMMUNICATE"], communicate_info=["1,628"]).reward == 0.0, (
        "commas are taken out of what is said, not of what is wanted"
    )
    judged = parts(reward_basis=["DB", "NL_ASSERTION"], nl_assertions=["The agent is kind."])
    assert (judged.reward, judged.parts, judged.needs_judge) == (0.0, {"DB": 0.0}, True)
    assert parts(reward_basis=["NL_ASSERTION"], nl_assertions=[]) == Score(1.0)
    assert parts(reward_basis=["DB"], actions=None, env_assertions=None) == Score(1.0)
    unrunnable = [{"env_type": "assistant", "func_name": "assert_nothing", "arguments": {}, "assert_value": True}]
    broken = parts(reward_basis=["ENV_ASSERTION"], env_assertions=unrunnable)
    assert broken.parts == {"ENV_ASSERTION": 0.0}
    assert broken.note.startswith("assert_nothing could not be run: ")


def test_an_episode_that_did_not_end_is_worth_nothing_and_says_why(tau2_official: Path) -> None:
    session = get_domain("airline", solo=False).start("0")
    assert score(session, [], [], ended_properly=True).reward == 1.0
    assert score(session, [], [], ended_properly=False) == Score(0.0, note="not ended by agent or user")
    late = score(session, [], [], ended_properly=False, reason="step_limit")
    assert late == Score(0.0, note="not ended by agent or user: step_limit")
    session.task = dataclasses.replace(session.task, answers=None)
    assert score(session, [], [], ended_properly=True) == Score(1.0, note="the task has no criteria")
