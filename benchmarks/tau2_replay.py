"""Replay the reference actions of tau2-bench's tasks in our world and score them in both: ours and the official one.

For every task of a domain's base split (and with --full for all 2,285 of telecom): the reference actions, their first
half, and the actions with one thing wrong (an argument replaced, by the value that another task's call of the tool has
or by nonsense; if no action has an argument, an action left out; if no action is left, one too many). Telecom is
played in solo mode and with the user's calls made by the user. Every response is compared with that of an official
environment that is played alongside, and every reward and its parts with the official `evaluate_simulation` with
`EvaluationType.ALL` on the same messages. Assertions that need a language model as judge are left out of the official
task first (40 tasks of retail), so that no model is called; the rest of the reward is compared.

Times are wall-clock per episode: ours from the reset to the reward, the official one for the evaluation alone. The last
line is `differences: N`, over rewards, their parts and responses.

    python benchmarks/tau2_replay.py --out runs/benchmarks/tau2_replay.json
    python benchmarks/tau2_replay.py --full --domains telecom
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rwml.core.tool_calls import ToolCall
from rwml.worlds.tau2.domain import get_domain
from rwml.worlds.tau2.package import DATA_VARIABLE, available, load
from rwml.worlds.tau2.scoring import Score, score
from rwml.worlds.tau2.tasks import DOMAINS, TaskRecord, tasks

Action = Mapping[str, Any]


@dataclass
class Play:
    """One replay in our world: (requestor, call, response, error) of every call, what was said, and the score."""

    calls: list[tuple[str, ToolCall, str, bool]]
    said: list[str]
    score: Score
    seconds: float


@dataclass
class Row:
    """One line of the table."""

    episodes: int = 0
    calls: int = 0
    ours: float = 0.0
    official: float = 0.0
    ours_s: float = 0.0
    official_s: float = 0.0
    wrong_rewards: int = 0
    wrong_responses: int = 0
    examples: list[str] = field(default_factory=list)


def spoiled(
    actions: Sequence[Action], others: Sequence[Action], writes: Mapping[str, bool], rng: random.Random
) -> list[Action]:
    """`actions` with one thing wrong, in a call that writes if one does. others: of all tasks of the domain."""
    if not actions:
        return [rng.choice([other for other in others if writes[other["name"]]])]
    places = [number for number, action in enumerate(actions) if action["arguments"]]
    places = [number for number in places if writes[actions[number]["name"]]] or places
    if not places:
        gone = rng.randrange(len(actions))
        return [action for number, action in enumerate(actions) if number != gone]
    place = rng.choice(places)
    action = actions[place]
    name = rng.choice(sorted(action["arguments"]))
    value = action["arguments"][name]
    elsewhere = [other["arguments"][name] for other in others if other["name"] == action["name"]]
    elsewhere = [other for other in elsewhere if other != value]
    changed = rng.choice(elsewhere) if elsewhere and rng.random() < 0.6 else nonsense(value)
    return [*actions[:place], {**action, "arguments": {**action["arguments"], name: changed}}, *actions[place + 1 :]]


def nonsense(value: Any) -> Any:
    """Something else than `value`, mostly of its type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return value[:-1] + ("x" if value[-1:] != "x" else "y")
    if isinstance(value, list):
        return value[:-1] if value else ["x"]
    return None


def variants(
    record: TaskRecord, others: Sequence[Action], writes: Mapping[str, bool], spoils: int
) -> Iterator[tuple[str, list[Action]]]:
    """The replays of one task: name and actions."""
    actions = list((record.answers or {}).get("actions") or ())
    rng = random.Random(zlib.crc32(record.id.encode()))
    yield "reference", actions
    yield "first half", actions[: len(actions) // 2]
    for _ in range(spoils):
        yield "one thing wrong", spoiled(actions, others, writes, rng)


def play(domain_name: str, record: TaskRecord, actions: Sequence[Action], *, solo: bool, says_infos: bool) -> Play:
    """Replay `actions` in our world. says_infos: the agent says what the task wants to be said."""
    start = time.perf_counter()
    session = get_domain(domain_name, solo=solo).start(record.id)
    calls: list[tuple[str, ToolCall, str, bool]] = []
    for action in actions:
        requestor = "assistant" if solo else action.get("requestor") or "assistant"
        call = ToolCall(action["name"], dict(action["arguments"]))
        calls.append((requestor, call, *session.call(call.name, call.arguments, requestor)))
    said = [f"It is {info}." for info in ((record.answers or {}).get("communicate_info") or ()) if says_infos]
    result = score(session, [(requestor, call) for requestor, call, _, _ in calls], said, ended_properly=True)
    return Play(calls, said, result, time.perf_counter() - start)


class Official:
    """The official environments and evaluator. One per process."""

    def __init__(self) -> None:
        # Else litellm asks the network for prices when it is imported.
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        self.messages = load("data_model.message")
        self.simulation = load("data_model.simulation")
        self.evaluator = load("evaluator.evaluator")
        self.registry = load("registry").registry
        self._task = load("data_model.tasks").Task
        self._kit = load("domains.telecom.user_tools").TelecomUserTools
        self._vpn = self._kit.default_vpn_details.model_copy()

    def fresh(self) -> None:
        """Undo what an earlier play left on the class of the user's tools, as in a fresh process."""
        self._kit.default_vpn_details = self._vpn.model_copy()

    def task(self, record: TaskRecord) -> Any:
        """The official record of a task, without assertions that need a judge."""
        answers = {**(record.answers or {}), "nl_assertions": None}
        return self._task(
            id=record.id,
            user_scenario=record.scenario,
            ticket=record.ticket or None,
            initial_state=record.initial_state,
            evaluation_criteria=answers,
        )

    def responses(self, domain: str, task: Any, calls: Sequence[tuple[str, ToolCall]], *, solo: bool) -> list[Any]:
        """(content, error) of every call, played in an official environment."""
        self.fresh()
        environment = self.registry.get_env_constructor(domain)(solo_mode=solo)
        state = task.initial_state
        environment.set_state(
            initialization_data=state.initialization_data if state else None,
            initialization_actions=state.initialization_actions if state else None,
            message_history=(state.message_history if state else None) or [],
        )
        answers = []
        for requestor, call in calls:
            response = environment.get_response(
                self.messages.ToolCall(name=call.name, arguments=call.arguments, requestor=requestor)
            )
            answers.append((response.content, response.error))
        return answers

    def trajectory(self, played: Play) -> list[Any]:
        """The official messages of a play: each call with its response, then what was said."""
        kinds = {"assistant": self.messages.AssistantMessage, "user": self.messages.UserMessage}
        messages: list[Any] = []
        for number, (requestor, call, content, error) in enumerate(played.calls):
            made = self.messages.ToolCall(id=str(number), name=call.name, arguments=call.arguments, requestor=requestor)
            messages.append(kinds[requestor](role=requestor, tool_calls=[made]))
            messages.append(
                self.messages.ToolMessage(
                    id=str(number), role="tool", content=content, requestor=requestor, error=error
                )
            )
        return [*messages, *(self.messages.AssistantMessage(role="assistant", content=text) for text in played.said)]

    def evaluate(self, domain: str, task: Any, played: Play, *, solo: bool) -> tuple[float, dict[str, float]]:
        """The official reward and its parts."""
        self.fresh()
        run = self.simulation.SimulationRun(
            id="replay",
            task_id=task.id,
            start_time="",
            end_time="",
            duration=0.0,
            termination_reason=self.simulation.TerminationReason.AGENT_STOP,
            messages=self.trajectory(played),
        )
        kind = self.evaluator.EvaluationType.ALL
        info = self.evaluator.evaluate_simulation(run, task, kind, solo_mode=solo, domain=domain)
        parts = {part.value: reward for part, reward in (info.reward_breakdown or {}).items()}
        parts.pop("NL_ASSERTION", None)
        return info.reward, parts


def compare(row: Row, official: Official, domain: str, record: TaskRecord, played: Play, *, solo: bool) -> None:
    """Add one replay to its row of the table."""
    task = official.task(record)
    calls = [(requestor, call) for requestor, call, _, _ in played.calls]
    theirs = official.responses(domain, task, calls, solo=solo)
    start = time.perf_counter()
    reward, parts = official.evaluate(domain, task, played, solo=solo)
    row.official_s += time.perf_counter() - start
    row.episodes += 1
    row.calls += len(played.calls)
    row.ours += played.score.reward
    row.ours_s += played.seconds
    row.official += reward
    for (requestor, call, content, error), other in zip(played.calls, theirs, strict=True):
        if (content, error) != other:
            row.wrong_responses += 1
            row.examples.append(f"{record.id}: {requestor} {call}: {(content, error)} != {other}")
    if (played.score.reward, dict(played.score.parts)) != (reward, parts):
        row.wrong_rewards += 1
        row.examples.append(f"{record.id}: {played.score} != {reward} {parts}")


def replay(domain: str, split: str, limit: int, spoils: int, official: Official, *, solo: bool) -> dict[str, Row]:
    """All replays of one domain and mode; rows by variant."""
    records = tasks(domain, split)
    others = [action for record in records for action in (record.answers or {}).get("actions") or ()]
    writes = {**get_domain(domain, solo=solo).user_writes, **get_domain(domain, solo=solo).agent_writes}
    rows: dict[str, Row] = {}
    start = time.perf_counter()
    for number, record in enumerate(records[:limit]):
        for name, actions in variants(record, others, writes, spoils):
            played = play(domain, record, actions, solo=solo, says_infos=name != "first half")
            compare(rows.setdefault(name, Row()), official, domain, record, played, solo=solo)
        if (number + 1) % 10 == 0 or number + 1 == len(records[:limit]):
            wrong = sum(row.wrong_rewards + row.wrong_responses for row in rows.values())
            passed = time.perf_counter() - start
            line = f"{domain}{' solo' * solo} {split}: {number + 1}/{len(records[:limit])} tasks, {wrong} differences"
            print(f"{line}, {passed:.0f} s", file=sys.stderr, flush=True)
    return rows


def show(table: dict[str, dict[str, Row]]) -> int:
    """Print the table; return the number of differences."""
    print(f"{'':22}{'replay':18}{'episodes':>9}{'calls':>7}{'mean reward':>20}{'ms/episode':>18}{'different':>22}")
    print(f"{'':56}{'ours':>10}{'official':>10}{'ours':>8}{'official':>10}{'rewards':>11}{'responses':>11}")
    for place, rows in table.items():
        for name, row in rows.items():
            n = max(row.episodes, 1)
            rewards = f"{row.ours / n:10.3f}{row.official / n:10.3f}"
            times = f"{row.ours_s / n * 1e3:8.2f}{row.official_s / n * 1e3:10.1f}"
            wrong = f"{row.wrong_rewards:11}{row.wrong_responses:11}"
            print(f"{place:22}{name:18}{row.episodes:9}{row.calls:7}{rewards}{times}{wrong}")
    every = [row for rows in table.values() for row in rows.values()]
    for example in [example for row in every for example in row.examples][:10]:
        print(example[:600])
    return sum(row.wrong_rewards + row.wrong_responses for row in every)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    parser.add_argument("--full", action="store_true", help="all 2,285 tasks of telecom (in solo mode) beside the base")
    parser.add_argument("--limit", type=int, default=10**9, help="tasks per domain and split")
    parser.add_argument("--wrong", type=int, default=2, help="replays with one thing wrong per task")
    parser.add_argument("--data", type=Path, help=f"folder that holds tau2/domains (default: ${DATA_VARIABLE})")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/tau2_replay.json"))
    options = parser.parse_args(arguments)
    if options.data:
        os.environ[DATA_VARIABLE] = str(options.data)
    if available():
        parser.error(available())
    official = Official()
    runs = [(domain, False, "base") for domain in options.domains]
    if "telecom" in options.domains:
        runs.append(("telecom", True, "base"))
        if options.full:
            runs.append(("telecom", True, "full"))
    table = {
        f"{domain}{' solo' * solo} {split}": replay(domain, split, options.limit, options.wrong, official, solo=solo)
        for domain, solo, split in runs
    }
    differences = show(table)
    plain = {place: {name: vars(row) for name, row in rows.items()} for place, rows in table.items()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"rows": plain, "differences": differences}, indent=1) + "\n", encoding="utf-8")
    print(f"differences: {differences}")
    return int(differences > 0)


if __name__ == "__main__":
    sys.exit(main())
