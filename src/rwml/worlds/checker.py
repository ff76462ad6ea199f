"""The contract of `worlds/base.py` as a program: what it returns is a list of violations, empty for a sound world."""

from __future__ import annotations

from collections.abc import Iterator

from rwml.core.seeds import random_for
from rwml.core.types import Task
from rwml.worlds.base import Env, StepResult, World

NONSENSE = "sing a song to the moon 7"
_SAMPLED = 6  # states per task in which every admissible action is tried


def check_world(
    world: World, split: str, policy: str, num_tasks: int, max_steps: int = 50, min_success: float = 0.9
) -> list[str]:
    """Check `num_tasks` tasks of a split, played by the built-in policy of that name.

    min_success: least share of the tasks that the policy must solve within `max_steps`.
    """
    found = list(_check_lists(world, split))
    tasks = world.tasks(split)[:num_tasks]
    if not tasks:
        return [*found, f"{split}: no tasks"]
    solved = 0
    for task in tasks:
        first = _play(world, task, policy, max_steps)
        found += _check_play(world, task, first)
        if _play(world, task, policy, max_steps) != first:
            found.append(f"{task.id}: the same seed plays differently")
        found += _check_actions(world, task, [action for action, _ in first[1]])
        solved += first[2]
    if solved < min_success * len(tasks):
        found.append(f"{split}: {policy} solves {solved} of {len(tasks)} tasks, fewer than {min_success:.0%}")
    return found


_Play = tuple[str, list[tuple[str, StepResult]], bool]


def _play(world: World, task: Task, policy_name: str, max_steps: int) -> _Play:
    env, policy = world.env(), world.policy(policy_name, seed=7)
    opening = observation = env.reset(task, seed=7)
    steps: list[tuple[str, StepResult]] = []
    for _ in range(max_steps):
        action = policy.act(observation, env.admissible)
        result = env.step(action)
        steps.append((action, result))
        observation = result.observation
        if result.terminated:
            break
    return opening, steps, env.success


def _check_lists(world: World, split: str) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name in world.splits():
        tasks = world.tasks(name)
        if tasks != world.tasks(name):
            yield f"{name}: tasks() changes its order"
        for task in tasks:
            if task.split != name or task.world != world.name or not task.kind:
                yield f"{task.id}: says split {task.split!r}, world {task.world!r}, kind {task.kind!r}"
            if task.id in seen:
                yield f"{task.id}: listed twice, in {seen[task.id]} and {name}"
            seen[task.id] = name
    if split not in world.splits():
        yield f"{split}: not among the splits {world.splits()}"
    for style in ("full", "brief"):
        if "{action}" not in world.prompts(style).question:
            yield f"prompts({style!r}): the question does not hold {{action}}"


def _check_play(world: World, task: Task, play: _Play) -> Iterator[str]:
    opening, steps, success = play
    if not opening.strip():
        yield f"{task.id}: empty opening"
    if opening not in world.world_model_opening(task, opening):
        yield f"{task.id}: world_model_opening leaves out what the player read"
    history: list[str] = []
    for number, (action, result) in enumerate(steps):
        if not result.observation.strip() and not result.terminated:
            yield f"{task.id}: step {number} ({action}) has an empty observation"
        if result.terminated and number + 1 < len(steps):
            yield f"{task.id}: play goes on after termination at step {number}"
        if result.valid and world.verb(action) == "invalid":
            yield f"{task.id}: '{action}' is admitted but has no verb"
        target = world.target(result.kind, result.observation)
        if result.observation.strip() and not target.strip():
            yield f"{task.id}: step {number} ({action}) has an empty target"
        if not isinstance(world.knowable(opening, history, action, target), bool):
            yield f"{task.id}: knowable answers no truth value at step {number}"
        history += [action, result.observation]
    if success and not steps[-1][1].terminated:
        yield f"{task.id}: solved, but not terminated"


def _replay(env: Env, task: Task, actions: list[str]) -> None:
    env.reset(task, seed=7)
    for action in actions:
        env.step(action)


def _check_actions(world: World, task: Task, actions: list[str]) -> Iterator[str]:
    """Try nonsense, and every admissible action, in sampled states of a play (its last step left out)."""
    env = world.env()
    depths = range(len(actions))
    for depth in sorted(random_for(task.id).sample(depths, min(_SAMPLED, len(depths)))):
        _replay(env, task, actions[:depth])
        listed = list(env.admissible)
        if len(set(listed)) < len(listed):
            yield f"{task.id}: an action is listed twice at step {depth}"
        result = env.step(NONSENSE)
        if result.valid or result.terminated:
            yield f"{task.id}: nonsense is valid={result.valid}, terminated={result.terminated} at step {depth}"
        if list(env.admissible) != listed:
            yield f"{task.id}: nonsense changes the admissible actions at step {depth}"
        for action in listed:
            _replay(env, task, actions[:depth])
            if not env.step(action).valid:
                yield f"{task.id}: '{action}' is listed at step {depth} but not valid"
