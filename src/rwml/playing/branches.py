"""Branched transitions: what other actions would have led to at every step of expert episodes (IWM).

Early experience: Zhang et al. 2025, arXiv 2510.08558, implicit world modelling; the row IWM of RWML's tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from rwml.core.errors import RwmlError
from rwml.core.seeds import random_for, seed_of
from rwml.core.types import Episode, History, Step, Task, Transition
from rwml.playing.rollout import acted, play_built_in, seats_for
from rwml.worlds.answers import SoundEnv, WorldFailed
from rwml.worlds.base import BuiltInPolicy, World
from rwml.worlds.transitions import transitions_of

_MARK = "/branch"  # in the id of a branched transition, before its number
_TRIES = 4


def branched_transitions(
    world: World, tasks: Sequence[Task], count: int, seed: int, max_steps: int, history_steps: int | None = None
) -> list[Transition]:
    """The transitions of one expert episode per task, and at each step those of up to `count` other actions.

    An expert's transition is followed by those of the other actions from the same state: same history, episode and
    step. Other actions are distinct. They are drawn uniformly from those that the world admits; if it cannot list them,
    the world's "random" policies propose them. If fewer are possible, fewer are tried. An action that a world does not
    answer gives no transition, and a world that fails in a replay gives no more of that episode's. The same arguments
    give the same rows, task by task.

    Raises RwmlError for a world without an expert, and for one whose answers a replay does not repeat.
    """
    if "expert" not in world.policies():
        raise RwmlError(
            f"the world {world.name} has no built-in expert (its policies: {', '.join(world.policies()) or 'none'})",
            "branches hang off the steps of expert episodes",
            "set train_wm.branches = 0, or take a world that has one (`rwml worlds list`)",
        )
    rows: list[Transition] = []
    for episode in play_built_in(world, seats_for(tasks, 1, seed_of(seed, "branches")), "expert", max_steps):
        rows += _of_episode(world, episode, count, seed, history_steps)
    return rows


def is_branch(row: Transition) -> bool:
    """Whether a transition came of another action than the expert's."""
    return _MARK in row.id.rpartition("@")[2]


def other_steps(world: World, episode: Episode, count: int, seed: int) -> list[list[Step]]:
    """The outcomes of up to `count` other actions at each step of an expert's episode.

    Returns one list per step. `branched_transitions` says which actions they are and what raises. An action without an
    observation has "". After a step at which the world fails the lists are empty. With count 0 nothing is played, and
    no world is refused.
    """
    if not count:
        return [[] for _ in episode.steps]
    if not episode.steps:
        return []
    tried: list[list[Step]] = []
    with suppress(WorldFailed):
        _walk(world, episode, count, seed, tried)
    return tried + [[] for _ in episode.steps[len(tried) :]]


def _walk(world: World, episode: Episode, count: int, seed: int, tried: list[list[Step]]) -> None:
    """Fill `tried`, step by step."""
    walk, aside = SoundEnv(world.env), SoundEnv(world.env)
    seen = walk.reset(episode.task, episode.seed)
    policies = [] if walk.admissible else _random_policies(world, episode.task, count, seed)
    for number, step in enumerate(episode.steps):
        listed = [action for action in walk.admissible if action != step.action]
        draw = random_for(seed, "branches", episode.task.id, number)
        others = _proposed(policies, seen, step.action) if policies else draw.sample(listed, min(count, len(listed)))
        tried.append([_try(aside, episode, number, action) for action in others])
        seen = _replay(walk, episode, number)


def _of_episode(world: World, episode: Episode, count: int, seed: int, history_steps: int | None) -> list[Transition]:
    expert = {row.step: row for row in transitions_of(episode, world, "train", history_steps)}
    seen = [text for step in episode.steps for text in (step.action, step.observation)]
    rows: list[Transition] = []
    for number, branches in enumerate(other_steps(world, episode, count, seed)):
        rows += [expert[number]] if number in expert else []
        for place, branch in enumerate(branches):
            twin = replace(episode, steps=(*episode.steps[:number], branch))
            for row in transitions_of(twin, world, "train", history_steps, first=number):
                # The branches of an episode share its texts, as its own rows do.
                history = History(seen, 2 * number - len(row.history), 2 * number)
                rows.append(replace(row, id=f"{row.id}{_MARK}{place}", history=history))
    return rows


def _random_policies(world: World, task: Task, count: int, seed: int) -> list[BuiltInPolicy]:
    return [world.policy("random", seed_of(seed, "branches", task.id, place)) for place in range(count)]


def _proposed(policies: Sequence[BuiltInPolicy], seen: str, taken: str) -> list[str]:
    """One action of each policy, distinct and not the expert's; a policy without such an action is passed over."""
    proposed: list[str] = []
    for policy in policies:
        tries = (acted(policy, seen, ()) for _ in range(_TRIES))
        proposed += next(([action] for action in tries if action not in (taken, *proposed)), [])
    return proposed


def _try(env: SoundEnv, episode: Episode, number: int, action: str) -> Step:
    """What the world answers to another action at step `number`; "" if it fails, as it may at nonsense."""
    env.reset(episode.task, episode.seed)
    for earlier in range(number):
        _replay(env, episode, earlier)
    try:
        result = env.step(action)
    except WorldFailed:
        return Step(action, action, "", valid=False)
    return Step(action, action, result.observation, result.kind, valid=result.valid, reward=result.reward)


def _replay(env: SoundEnv, episode: Episode, number: int) -> str:
    """Plays an episode's step again; returns its observation, RwmlError if that is not the one it had."""
    step = episode.steps[number]
    again = env.step(step.action).observation
    if again != step.observation:
        raise RwmlError(
            f"task {episode.task.id}: '{step.action}' at step {number} was answered '{step.observation[:80]}', and "
            f"'{again[:80]}' in a replay with the same seed",
            "a branch is tried in the state that the expert was in, and only a replay leads there",
            "make the world's answers depend on task, seed and actions only, or set train_wm.branches = 0 "
            "(for reflections: train_policy.alternatives = 0)",
        )
    return again
