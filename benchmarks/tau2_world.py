"""Time our tau2-bench world against the official gym on the same tasks and calls, in one run.

Both play telecom in solo mode, which needs no user model: reset, some look-ups, the task's reference actions, done.
Each step is given as text (a JSON tool call); the time of done, with the evaluation in it, counts as the others'. Ours
parses the text and calls the tool in a session over shared databases. The official gym
(`tau2.gym.gym_agent.AgentGymEnv`) hands it to an orchestrator in its own thread and waits for that in turns of up to
10 ms. It reads all 2,285 tasks in every reset, and again for the `info` of every step: what is compared is its best
case, with `_get_task` cached; one reset without the cache is shown beside it. Observations and rewards of both are
compared as they are timed.

Import: a fresh process up to the first session (official: up to the gym's class), with the memory it then holds; the
domain's databases are in ours. Times are wall-clock, because the gym's waits are part of a step; medians over repeats.
The last line is `ratio: N`, steps per second of ours over the official gym's.

    python benchmarks/tau2_world.py --tasks 10
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from rwml.core.tool_calls import ToolCall, call_text
from rwml.core.types import Task
from rwml.worlds.tau2.package import DATA_VARIABLE, available, load
from rwml.worlds.tau2.tasks import TaskRecord, task, tasks
from rwml.worlds.tau2.wording import task_name
from rwml.worlds.tau2.world import Tau2World

LOOKS = (
    ToolCall("check_status_bar", {}),
    ToolCall("check_network_status", {}),
    ToolCall("run_speed_test", {}),
    ToolCall("get_details_by_id", {"id": "C1001"}),
    ToolCall("get_data_usage", {"customer_id": "C1001", "line_id": "L1001"}),
    ToolCall("check_app_status", {"app_name": "messaging"}),
)
DONE = call_text([ToolCall("done", {})])
MEMORY = """
import os
pages = int(open("/proc/self/statm").read().split()[1])
print(time.time() - start, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
"""
OURS = f"""
import time; start = time.time()
from rwml.worlds.tau2.domain import get_domain
from rwml.worlds.tau2.tasks import task_ids
get_domain("NAME", solo=NAME_SOLO).start(task_ids("NAME", "base")[0])
{MEMORY}"""
THEIRS = f"""
import time; start = time.time()
from tau2.gym.gym_agent import AgentGymEnv
{MEMORY}"""


def import_cost(code: str, repeats: int) -> dict[str, float]:
    """Seconds and megabytes of a fresh process that runs `code`; medians."""
    runs = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        runs.append([float(value) for value in done.stdout.split()[-2:]])
    seconds, megabytes = (statistics.median(column) for column in zip(*runs, strict=True))
    return {"s": seconds, "mb": megabytes}


def script(record: TaskRecord) -> list[str]:
    """The texts of the calls that both sides play."""
    actions = (record.answers or {}).get("actions") or ()
    return [call_text([call]) for call in (*LOOKS, *(ToolCall(a["name"], a["arguments"]) for a in actions))]


def play_ours(world: Tau2World, record: TaskRecord, texts: list[str]) -> tuple[float, float, list[str], float]:
    """Seconds of the reset, seconds of the steps, observations, reward."""
    env = world.env()
    start = time.perf_counter()
    env.reset(Task(task_name("telecom", record.id, solo=True), world.name, "test", "telecom-solo"))
    reset = time.perf_counter() - start
    seen = [env.step(text).observation for text in texts]
    reward = env.step(DONE).reward
    return reset, time.perf_counter() - start - reset, seen, reward


class Gym:
    """The official gym, quiet, with its tasks cached."""

    def __init__(self) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        module = load("gym.gym_agent")
        official_task = load("data_model.tasks").Task

        class Cached(module.AgentGymEnv):  # type: ignore[misc, name-defined]
            def _get_task(self) -> Any:
                record = task("telecom", self.task_id)
                return official_task(
                    id=record.id,
                    user_scenario=record.scenario,
                    ticket=record.ticket,
                    initial_state=record.initial_state,
                    evaluation_criteria=record.answers,
                )

        self._plain, self._cached = module.AgentGymEnv, Cached

    def play(self, record: TaskRecord, texts: list[str]) -> tuple[float, float, list[str], float]:
        """As `play_ours`."""
        env = self._cached(domain="telecom", task_id=record.id, solo_mode=True)
        start = time.perf_counter()
        env.reset()
        reset = time.perf_counter() - start
        seen = [env.step(text)[0].removeprefix("tool: ") for text in texts]
        reward = env.step(DONE)[1]
        return reset, time.perf_counter() - start - reset, seen, reward

    def plain_reset_s(self, record: TaskRecord) -> float:
        """Seconds of one reset as it comes, without the cache."""
        env = self._plain(domain="telecom", task_id=record.id, solo_mode=True)
        start = time.perf_counter()
        env.reset()
        seconds = time.perf_counter() - start
        env.step(DONE)
        return seconds


def compare(records: list[TaskRecord], repeats: int) -> dict[str, Any]:
    """Rates of both sides over the same plays, and how many observations and rewards differ."""
    gym, world = Gym(), Tau2World()
    texts = {record.id: script(record) for record in records}
    ours = {record.id: [play_ours(world, record, texts[record.id]) for _ in range(repeats)] for record in records}
    theirs = {}
    for number, record in enumerate(records):
        theirs[record.id] = gym.play(record, texts[record.id])
        print(f"{number + 1}/{len(records)} tasks", file=sys.stderr, flush=True)
    differences = 0
    for record in records:
        _, _, seen, reward = ours[record.id][-1]
        _, _, other, other_reward = theirs[record.id]
        differences += sum(a != b for a, b in zip(seen, other, strict=True)) + (reward != other_reward)
    steps = sum(len(texts[record.id]) for record in records)
    our_resets = sum(statistics.median(run[0] for run in ours[record.id]) for record in records)
    our_steps = sum(statistics.median(run[1] for run in ours[record.id]) for record in records)
    return {
        "tasks": len(records),
        "steps": steps,
        "differences": differences,
        "ours": {"resets_per_s": len(records) / our_resets, "steps_per_s": steps / our_steps},
        "official": {
            "resets_per_s": len(records) / sum(theirs[record.id][0] for record in records),
            "steps_per_s": steps / sum(theirs[record.id][1] for record in records),
            "plain_reset_s": gym.plain_reset_s(records[0]),
        },
    }


def show(result: dict[str, Any]) -> None:
    ours, official = result["ours"], result["official"]
    print(f"{'':16}{'official':>12}{'ours':>12}{'ratio':>10}")
    for name in ("resets_per_s", "steps_per_s"):
        print(f"{name:16}{official[name]:12.1f}{ours[name]:12.0f}{ours[name] / official[name]:10.0f}")
    for name, key in (("import_s", "s"), ("memory_mb", "mb")):
        theirs, mine = result["import"]["official"][key], result["import"]["telecom"][key]
        print(f"{name:16}{theirs:12.2f}{mine:12.2f}{theirs / mine:10.1f}")
    for name in ("airline", "retail"):
        cost = result["import"][name]
        print(f"ours with {name}: import {cost['s']:.2f} s, {cost['mb']:.0f} MB")
    print(f"one reset of the official gym without a cache of tasks: {official['plain_reset_s']:.1f} s")
    print(f"{result['tasks']} tasks, {result['steps']} steps, {result['differences']} observations or rewards differ")
    print(f"ratio: {result['ratio']:.0f}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10, help="tasks that both sides play")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--data", type=Path, help=f"folder that holds tau2/domains (default: ${DATA_VARIABLE})")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/tau2_world.json"))
    options = parser.parse_args(arguments)
    if options.data:
        os.environ[DATA_VARIABLE] = str(options.data)
    if available():
        parser.error(available())
    imports = {"official": import_cost(THEIRS, min(options.repeats, 3))}
    for name in ("airline", "retail", "telecom"):
        code = OURS.replace("NAME_SOLO", str(name == "telecom")).replace("NAME", name)
        imports[name] = import_cost(code, options.repeats)
    records = tasks("telecom", "base")[: options.tasks]
    result = {**compare(records, options.repeats), "import": imports}
    result["ratio"] = result["ours"]["steps_per_s"] / result["official"]["steps_per_s"]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
