"""Branched transitions against environments that are played by hand; worlds that list nothing, fail or forget."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.types import Task, Transition
from rwml.playing.branches import branched_transitions, is_branch, other_steps
from rwml.playing.rollout import play_built_in, seats_for
from rwml.worlds.base import BuiltInPolicy, Env, Prompts, StepResult, World
from rwml.worlds.transitions import transitions_of

MAX_STEPS = 6


@pytest.fixture(scope="module")
def branched(world: World) -> list[Transition]:
    return branched_transitions(world, world.tasks("train")[:3], 2, 5, MAX_STEPS)


def test_the_experts_rows_are_those_of_its_episodes(world: World, branched: list[Transition]) -> None:
    episodes = play_built_in(world, seats_for(world.tasks("train")[:3], 1, 5), "expert", MAX_STEPS)
    own = [row for episode in episodes for row in transitions_of(episode, world, "train")]
    assert [row for row in branched if not is_branch(row)] == own
    assert len(own) >= 9


def test_every_branch_is_what_the_world_answers(world: World, branched: list[Transition]) -> None:
    """In an environment that is led there by the history's actions, the expert's row first, the branches behind it."""
    seeds = {seat.task.id: seat for seat in seats_for(world.tasks("train")[:3], 1, 5)}
    env = world.env()
    for (_, step), group in groupby(branched, key=lambda row: (row.episode, row.step)):
        expert, *branches = group
        assert not is_branch(expert)
        assert all(is_branch(row) for row in branches)
        assert len(branches) == 2
        assert len({expert.action, *(row.action for row in branches)}) == 3
        for row in branches:
            assert (row.history, row.opening, row.task, row.split) == (
                expert.history,
                expert.opening,
                expert.task,
                "train",
            )
            seat = seeds[row.task]
            assert row.opening == env.reset(seat.task, seat.seed)
            for action, observation in zip(row.history[::2], row.history[1::2], strict=True):
                assert env.step(action).observation == observation
            assert len(row.history) == 2 * step
            assert row.action in env.admissible
            answer = env.step(row.action)
            assert (row.next_state, row.kind, row.valid) == (answer.observation, "text", True)
            assert row.verb == world.verb(row.action)
    assert len({row.id for row in branched}) == len(branched)


def test_the_same_arguments_give_the_same_rows_task_by_task(world: World, branched: list[Transition]) -> None:
    tasks = world.tasks("train")[:3]
    one_by_one = [row for task in tasks for row in branched_transitions(world, [task], 2, 5, MAX_STEPS)]
    assert one_by_one == branched
    other = branched_transitions(world, tasks, 2, 6, MAX_STEPS)
    assert [row.action for row in other if is_branch(row)] != [row.action for row in branched if is_branch(row)]


def test_a_history_window_cuts_branches_as_it_cuts_the_others(world: World, branched: list[Transition]) -> None:
    short = branched_transitions(world, world.tasks("train")[:3], 2, 5, MAX_STEPS, history_steps=1)
    assert [row.history for row in short] == [row.history[-2:] for row in branched]
    assert [row.next_state for row in short] == [row.next_state for row in branched]


def test_no_more_branches_than_other_actions(world: World) -> None:
    rows = branched_transitions(world, world.tasks("train")[:1], 1000, 5, 2)
    task = world.tasks("train")[0]
    seat = seats_for([task], 1, 5)[0]
    env = world.env()
    env.reset(task, seat.seed)
    expert, *branches = [row for row in rows if row.step == 0]
    assert sorted([expert.action, *(row.action for row in branches)]) == sorted(env.admissible)


# A corridor of numbered doors: the expert opens them in order, and nothing is listed.


@dataclass
class Corridor:
    """A world without a list of actions. broken: it answers by the number of resets; fails: opening door 9 raises."""

    broken: bool = False
    fails: bool = False
    names: tuple[str, ...] = ("random", "expert")
    name: str = "corridor"
    resets: list[int] = field(default_factory=list)

    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def tasks(self, split: str) -> list[Task]:
        return [Task("corridor/1", self.name, split, "doors")]

    def env(self) -> Env:
        return Doors(self)

    def policies(self) -> tuple[str, ...]:
        return self.names

    def policy(self, name: str, seed: int) -> BuiltInPolicy:
        return Opener(name, random.Random(seed))

    def prompts(self, style: str) -> Prompts:
        return Prompts("", "", "What comes of {action}?")

    def verb(self, action: str) -> str:
        return action.split()[0]

    def inefficient(self, action: str) -> bool:
        return False

    def world_model_opening(self, task: Task, opening: str) -> str:
        return f"{opening} Nobody is here."

    def target(self, kind: str, observation: str) -> str:
        return observation.upper()

    def knowable(self, opening: str, history: Sequence[str], action: str, next_state: str) -> bool:
        return len(history) > 2


class Doors:
    def __init__(self, world: Corridor) -> None:
        self.world = world
        self.opened: list[str] = []

    def reset(self, task: Task, seed: int = 0) -> str:
        self.world.resets.append(seed)
        self.opened = []
        return "A corridor."

    def step(self, action: str) -> StepResult:
        if self.world.fails and action == "open 9":
            raise ValueError("there is no door 9")
        self.opened.append(action)
        done = len(self.opened) == 3
        result = "" if done else f"{' and '.join(self.opened)} now."
        return StepResult(result + (f" {len(self.world.resets)}" if self.world.broken else ""), 0.0, done, True, "tool")

    @property
    def admissible(self) -> Sequence[str]:
        return ()

    @property
    def success(self) -> bool:
        return self.opened == ["open 1", "open 2", "open 3"]


@dataclass
class Opener:
    name: str
    draw: random.Random
    turn: int = 0

    def act(self, observation: str, admissible: Sequence[str]) -> str:
        self.turn += 1
        return f"open {self.turn if self.name == 'expert' else self.draw.choice((1, 2, 3, 9))}"

    def thought(self) -> str:
        return ""


def corridor_rows(world: Any, count: int = 3) -> list[Transition]:
    return branched_transitions(world, world.tasks("train"), count, 0, 10)


def test_where_nothing_is_listed_random_policies_propose() -> None:
    rows = corridor_rows(Corridor())
    expert = [row for row in rows if not is_branch(row)]
    # The third step ends the episode, and nothing answers it: no transition of the expert's, and no branch either.
    assert [(row.action, row.next_state) for row in expert] == [
        ("open 1", "OPEN 1 NOW."),
        ("open 2", "OPEN 1 AND OPEN 2 NOW."),
    ]
    for step, others in ((0, {"open 2", "open 3", "open 9"}), (1, {"open 1", "open 3", "open 9"})):
        branches = [row for row in rows if is_branch(row) and row.step == step]
        assert {row.action for row in branches} <= others
        assert len({row.action for row in branches}) == len(branches) >= 2
        before = "OPEN 1 AND " if step else ""
        assert all(row.next_state == f"{before}{row.action.upper()} NOW." for row in branches)
        assert {(row.opening, row.kind) for row in branches} == {("A corridor. Nobody is here.", "tool")}
        assert {row.history for row in branches} == {expert[step].history}
    assert {row.step for row in rows} == {0, 1}


def test_an_action_at_which_the_world_fails_is_left_out() -> None:
    whole, failing = corridor_rows(Corridor()), corridor_rows(Corridor(fails=True))
    assert "open 9" in {row.action for row in whole}
    assert failing == [row for row in whole if row.action != "open 9"]


def test_a_world_that_answers_a_replay_otherwise_is_refused() -> None:
    with pytest.raises(RwmlError, match=r"'open 1' at step 0 was answered 'open 1 now\. 1', and 'open 1 now\. \d'"):
        corridor_rows(Corridor(broken=True))


def test_without_other_actions_no_world_is_replayed_or_refused() -> None:
    world = Corridor(broken=True)
    [episode] = play_built_in(world, seats_for(world.tasks("train"), 1, 0), "expert", MAX_STEPS)
    before = list(world.resets)
    assert other_steps(world, episode, 0, 0) == [[], [], []]
    assert world.resets == before
    with pytest.raises(RwmlError, match=r"train_policy\.alternatives = 0"):
        other_steps(world, episode, 1, 0)


def test_a_world_without_an_expert_is_refused() -> None:
    with pytest.raises(RwmlError, match=r"no built-in expert \(its policies: random\)"):
        corridor_rows(Corridor(names=("random",)))


def test_branches_cover_the_actions_evenly(world: World) -> None:
    """Over 300 seeds, the first other action at the first step: each of n comes up 300/n times, within 4 deviations."""
    task = world.tasks("train")[0]
    drawn = Counter(branched_transitions(world, [task], 1, seed, 1)[1].action for seed in range(300))
    env = world.env()
    env.reset(task, 0)
    others = len(env.admissible) - 1
    assert len(drawn) == others
    share = 1 / others
    assert max(abs(n - 300 * share) for n in drawn.values()) < 4 * (300 * share * (1 - share)) ** 0.5
