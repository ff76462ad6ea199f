"""The tau2 world: options, episodes, what ends them; with the official package where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.tool_calls import ToolCall, call_text
from rwml.core.types import Task
from rwml.playing.rollout import play_built_in, seats_for
from rwml.worlds.by_name import get_world
from rwml.worlds.checker import check_world
from rwml.worlds.tau2 import package
from rwml.worlds.tau2.policies import make_policy
from rwml.worlds.tau2.users import recorded_users
from rwml.worlds.tau2.world import NOBODY, NOT_YOURS, UNREADABLE, Tau2World
from rwml.worlds.transitions import transitions_of

REASON = package.available()
official = pytest.mark.skipif(bool(REASON), reason=REASON)
STATUS = call_text([ToolCall("check_status_bar", {})])
DONE = call_text([ToolCall("done", {})])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"domains": ["telekom"]}, "'telekom'"),
        ({"domains": ["retail"]}, "only telecom can be played without a user"),
        ({"solo": False}, "user is ''"),
        ({"solo": True, "user": "openai/x"}, "solo is true and user is 'openai/x'"),
        ({"solo": False, "user": "replay"}, "0 user_files"),
        ({"briefing": "short"}, "'short'"),
        ({"users": "x"}, "no option 'users'"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(RwmlError) as caught:
        get_world("tau2", **options)
    assert said in str(caught.value)


def test_a_world_of_imported_episodes_needs_nothing_official() -> None:
    world = Tau2World(domains=("retail",), solo=False, play=False)
    assert world.tasks("test") == []
    with pytest.raises(RwmlError, match="play is false"):
        world.env()


def test_policies_are_named() -> None:
    for name in ("expert:0.1", "noisy:2", "noisy:x", "genius"):
        with pytest.raises(RwmlError):
            make_policy(name, 0, [])


@pytest.fixture(scope="module")
def world() -> Tau2World:
    if REASON:
        pytest.skip(REASON)
    return Tau2World()


@official
def test_the_contract_holds_and_the_technician_solves_what_can_be_solved(world: Tau2World) -> None:
    assert (len(world.tasks("train")), len(world.tasks("test"))) == (74, 40)
    assert check_world(world, "test", "expert", num_tasks=40, max_steps=25, min_success=1.0) == []


@official
def test_splits_of_the_full_set_hold_no_test_task_back(world: Tau2World) -> None:
    full = Tau2World(telecom_tasks="full")
    assert len(full.tasks("train")) == 2285 - 40
    assert not {task.id for task in full.tasks("train")} & {task.id for task in full.tasks("test")}
    assert full.tasks("test") == world.tasks("test")


@official
def test_the_opening_holds_tools_policy_and_ticket_and_no_answer(world: Tau2World) -> None:
    task = world.tasks("train")[0]
    opening = world.env().reset(task)
    tools = [json.loads(line)["function"]["name"] for line in opening.split("</tools>")[0].splitlines()[1:]]
    assert len(tools) == 44
    assert {"done", "toggle_roaming", "get_customer_by_phone"} <= set(tools)
    assert "Ticket: The user is experiencing issues" in opening
    _, task_id = world.domain(task)
    for hidden in (task_id, "assert_", "env_assertions", "toggle_roaming_0", "turn_roaming_off"):
        assert hidden not in opening
    assert opening == world.world_model_opening(task, opening)
    brief = Tau2World(briefing="none").env().reset(task)
    assert brief.startswith("Ticket: ")


@official
def test_what_cannot_be_done_is_an_error_that_changes_nothing(world: Tau2World) -> None:
    env = world.env()
    env.reset(world.tasks("train")[0])
    before = env.step(STATUS).observation
    for action, said in (
        ("", UNREADABLE),
        ("Hello, how are you?", NOBODY),
        (call_text([ToolCall("no_such_tool", {})]), "Error: Tool 'no_such_tool' not found."),
        (call_text([ToolCall("get_customer_by_phone", {})]), "Error: "),
    ):
        result = env.step(action)
        assert (result.valid, result.terminated, result.reward) == (False, False, 0.0)
        assert result.observation.startswith(said)
    assert env.step(STATUS).observation == before
    assert not env.success


@official
def test_ten_errors_end_an_episode_unless_the_limit_is_off() -> None:
    for limit, over in ((10, 9), (3, 2), (0, None)):
        env = Tau2World(max_errors=limit).env()
        env.reset(Tau2World().tasks("train")[0])
        ended = [env.step("").terminated for _ in range(12)]
        assert (ended.index(True) if any(ended) else None) == over
        assert not env.success


@official
def test_several_calls_in_one_message_are_answered_in_order(world: Tau2World) -> None:
    env = world.env()
    env.reset(world.tasks("train")[0])
    both = env.step(call_text([ToolCall("check_vpn_status", {}), ToolCall("check_wifi_calling_status", {})]))
    assert both.observation == "VPN is turned OFF.\nWi-Fi Calling is currently turned OFF."
    assert both.kind == "tool"


@official
def test_done_at_once_ends_without_reward_and_is_no_transition(world: Tau2World) -> None:
    env = world.env()
    env.reset(world.tasks("train")[0])
    result = env.step(DONE)
    assert (result.terminated, result.reward, env.success) == (True, 0.0, False)
    episode = play_built_in(world, seats_for(world.tasks("train")[:1], 1, 0), "expert", 40)[0]
    rows = list(transitions_of(episode, world, "train"))
    assert episode.success
    assert len(rows) == len(episode.steps) - 1
    assert {row.kind for row in rows} == {"tool"}
    first = rows[0]
    assert first.verb == "get_customer_by_phone"
    assert json.loads(first.next_state)["properties"]["phone_number"] == {"type": "string"}
    assert "John Smith" in rows[1].history[1]  # what was observed stands in the history as it was


@official
def test_a_replayed_user_speaks_in_order_and_the_agent_cannot_end_the_dialogue(tau2_simulations) -> None:  # type: ignore[no-untyped-def]
    path = tau2_simulations / "retail_default_gpt-4.1.json"
    world = Tau2World(domains=("retail",), solo=False, user="replay", user_files=(str(path),))
    tasks = [task for split in world.splits() for task in world.tasks(split)]
    assert len(tasks) == 40
    assert {task.kind for task in tasks} == {"retail (replayed user)"}
    simulation = json.loads(path.read_text())["simulations"][0]
    task = next(task for task in tasks if task.id == f"retail/{simulation['task_id']}")
    said = [message["content"] for message in simulation["messages"] if message["role"] == "user"]
    env = world.env()
    assert env.reset(task).endswith(f"Agent: Hi! How can I help you today?\n\nUser: {said[0]}")
    assert env.step("I am done. ###STOP###").observation == NOT_YOURS
    for words in said[1:]:
        result = env.step("One moment, please.")
        assert (result.observation, result.kind) == (words, "user")
    assert result.terminated  # the last recorded words are the user's stop
    assert not env.success  # nothing was done for the user


def _replay(world: Tau2World, tasks: dict[str, Task], simulation: dict[str, Any]) -> float:
    """The reward of a recorded agent's messages, played again."""
    env = world.env()
    env.reset(tasks[f"{world.domains[0]}/{simulation['task_id']}"])
    for message in simulation["messages"][1:]:
        if message["role"] == "assistant":
            calls = [ToolCall(call["name"], call["arguments"]) for call in message["tool_calls"] or ()]
            result = env.step(call_text(calls) if calls else message["content"])
    assert result.terminated
    return result.reward


@official
def test_the_recorded_agent_earns_its_recorded_reward(tau2_simulations) -> None:  # type: ignore[no-untyped-def]
    """Real simulations played again, call by call and word by word. Task 29 has other reference actions by now."""
    path = tau2_simulations / "airline_default_gpt-4.1.json"
    world = Tau2World(domains=("airline",), solo=False, user="replay", user_files=(str(path),), max_errors=0)
    tasks = {task.id: task for split in world.splits() for task in world.tasks(split)}
    rewards = {}
    simulations = json.loads(path.read_text())["simulations"]
    for simulation in simulations:
        rewards[simulation["task_id"]] = (_replay(world, tasks, simulation), simulation["reward_info"]["reward"])
    assert len(rewards) == 20
    assert {id: pair for id, pair in rewards.items() if pair[0] != pair[1]} == {"29": (0.0, 1.0)}


@official
def test_recorded_telecom_dialogues_earn_their_recorded_reward(tau2_simulations) -> None:  # type: ignore[no-untyped-def]
    """The device calls of the user among those that the reward asks for."""
    path = tau2_simulations / "telecom_default_gpt-4.1.json"
    world = Tau2World(domains=("telecom",), solo=False, user="replay", user_files=(str(path),), max_errors=0)
    tasks = {task.id: task for split in world.splits() for task in world.tasks(split)}
    rewards = []
    for simulation in json.loads(path.read_text())["simulations"]:
        rewards.append((_replay(world, tasks, simulation), simulation["reward_info"]["reward"]))
    assert [pair for pair in rewards if pair[0] != pair[1]] == []
    assert sum(reward for reward, _ in rewards) == 18


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"simulations": 3}', '{"simulations": [7]}', "[" * 100_000, "9" * 5000]
)
def test_files_of_simulations_that_cannot_be_read_are_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "simulations.json"
    path.write_text(text)
    with pytest.raises(RwmlError) as caught:
        recorded_users([str(path)])
    assert caught.value.what.startswith(f"'{path}' is not a file of tau2 simulations: ")
    assert "user_files" in caught.value.fix
