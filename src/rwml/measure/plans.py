"""Whole plans played in imagination: does a plan that wins there win in the real world?

A plan is the actions of an episode, so its real outcome is known. The world model gets the opening and the actions, and
writes every observation. Two facts are read out of its words alone: which actions were refused, and (if the world is a
`ReadsWins`) whether the task was done.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch

from rwml.core.text import same_text
from rwml.core.types import Episode, Transition
from rwml.measure.figures.bootstrap import bootstrap_mean
from rwml.measure.figures.metrics import cluster_of
from rwml.playing.policies import ActionsPolicy, play_seats
from rwml.playing.rollout import Seat
from rwml.world_models.imagination import Imagination, Imagined, Walk
from rwml.worlds.answers import WorldFailed, a_flag, answered
from rwml.worlds.base import ReadsWins, World

LEFT_OUT = "one step left out"
"""Source of the plans that `leave_one_out` makes."""


def leave_one_out(world: World, episode: Episode, generator: torch.Generator) -> Episode:
    """The episode's actions without a random one of them, played in the real world: often a plan that barely fails.

    Needs an episode of at least two steps. A world that fails makes a failed episode.
    """
    actions = [step.action for step in episode.steps if step.parsed]
    assert len(actions) > 1, "a plan of one step cannot be shortened"
    del actions[int(torch.randint(len(actions), (1,), generator=generator))]
    seat = Seat(episode.task, episode.rollout, episode.seed)
    [played] = play_seats(world, [seat], ActionsPolicy(tuple(actions), LEFT_OUT), generator)
    return replace(played, id=f"{episode.id}-1")


def measure_plans(
    imagination: Imagination,
    plans: Mapping[str, Sequence[Episode]],
    generator: torch.Generator,
    num_samples: int = 2000,
) -> dict[str, Any]:
    """Plans in imagination against the same plans in reality (see docs/reference/measure.md).

    plans: episodes by their source, whose actions are played again in imagination from their real opening. Failed
    episodes and those without a step are not plans; they are counted. Returns `by_source` with an entry for each source
    and for "all", `refusals` (the next states that count as a refusal: those that came with refused actions only), and
    `left_out`.
    """
    usable = {source: [e for e in group if e.steps and not e.error] for source, group in plans.items()}
    usable = {source: group for source, group in usable.items() if group}
    episodes = [episode for group in usable.values() for episode in group]
    courses = imagination.imagine([Walk(episode, 0, len(episode.steps)) for episode in episodes], generator)
    refusals = _refusals([row for episode in episodes for row in imagination.rows(episode).values()])
    rows = [
        _Plan(episode, course, refusals, imagination.world) for episode, course in zip(episodes, courses, strict=True)
    ]
    groups: dict[str, list[_Plan]] = {"all": rows}
    for source, group in usable.items():
        ids = {id(episode) for episode in group}
        groups[source] = [row for row in rows if id(row.episode) in ids]
    return {
        "by_source": {source: _source(group, num_samples) for source, group in groups.items()},
        "refusals": sorted(refusals),
        "left_out": sum(len(group) for group in plans.values()) - len(episodes),
    }


def _refusals(rows: Sequence[Transition]) -> frozenset[str]:
    admitted = {row.next_state for row in rows if row.valid}
    return frozenset(row.next_state for row in rows if not row.valid) - admitted


class _Plan:
    """A plan with its two courses."""

    def __init__(self, episode: Episode, course: Sequence[Imagined], refusals: frozenset[str], world: World) -> None:
        self.episode, self.course = episode, course
        self.cluster = cluster_of(episode.task.split, episode.task.id)
        self.refused = [not step.row.valid for step in course]
        self.claimed_refused = [step.next_state in refusals for step in course]
        self.win_in_real = self.win_in_imagined = self.win_in_granted = None
        if isinstance(world, ReadsWins):
            real = [text for step in episode.steps for text in (step.action, step.observation)]
            imagined = [
                text for step in course if step.next_state is not None for text in (step.row.action, step.next_state)
            ]
            self.win_in_real = _reads_win(world, episode, lambda: real)
            self.win_in_imagined = _reads_win(world, episode, lambda: imagined)
            granted = world.granted
            self.win_in_granted = _reads_win(
                world, episode, lambda: [text for s in course for text in (s.row.action, granted(s.row.action))]
            )

    @property
    def complete(self) -> bool:
        """Whether imagination came to the end of the plan."""
        return not any(step.ended for step in self.course)


def _reads_win(world: ReadsWins, episode: Episode, exchanges: Callable[[], list[str]]) -> bool | None:
    """What the world reads; None, which is counted as unreadable, where it fails."""
    with suppress(WorldFailed):
        return answered("the win", lambda: world.reads_win(episode.opening, exchanges()), _flag_or_none)
    return None


def _flag_or_none(what: str, value: object) -> bool | None:
    return None if value is None else a_flag(what, value)


def _source(plans: Sequence[_Plan], num_samples: int) -> dict[str, Any]:
    steps = [(plan, n) for plan in plans for n in range(len(plan.course))]
    clusters = [plan.cluster for plan in plans]
    of_step = [plan.cluster for plan, _ in steps]
    right = [same_text(plan.course[n].next_state, plan.course[n].row.next_state) for plan, n in steps]
    whole = [all(same_text(step.next_state, step.row.next_state) for step in plan.course) for plan in plans]
    readable = [plan for plan in plans if plan.win_in_real is not None]
    truth, where = [plan.episode.success for plan in readable], [plan.cluster for plan in readable]

    def wins(read: Callable[[_Plan], bool | None]) -> dict[str, Any] | None:
        return confusion(truth, [bool(read(plan)) for plan in readable], where, num_samples) if readable else None

    return {
        "plans": len(plans),
        "actions": len(steps),
        "exact": bootstrap_mean(right, of_step, num_samples).as_json(),
        "whole_plan_exact": bootstrap_mean(whole, clusters, num_samples).as_json(),
        "refused": confusion(
            [plan.refused[n] for plan, n in steps], [plan.claimed_refused[n] for plan, n in steps], of_step, num_samples
        ),
        "executable": confusion(
            [not any(plan.refused) for plan in plans],
            [plan.complete and not any(plan.claimed_refused) for plan in plans],
            clusters,
            num_samples,
        ),
        "wins": wins(lambda plan: plan.win_in_imagined),
        "wins_if_all_is_admitted": wins(lambda plan: plan.win_in_granted),
        "wins_read_from_real_text": wins(lambda plan: plan.win_in_real),
        "unreadable": len(plans) - len(readable),
        "ended": dict(Counter(step.ended for plan in plans for step in plan.course if step.ended)),
    }


def confusion(
    truth: Sequence[bool], claimed: Sequence[bool], clusters: Sequence[str], num_samples: int = 2000
) -> dict[str, Any]:
    """How well `claimed` agrees with `truth`, each a flag per item.

    precision: share of the claimed items that are true. recall: share of the true items that are claimed. false_alarm:
    share of the false items that are claimed. gap: recall - false_alarm, 0 for a claim that ignores the truth. The
    first three have intervals over clusters; a mean over no items is None.
    """

    def share(values: Sequence[bool], among: Sequence[bool]) -> dict[str, Any]:
        kept = [(float(v), c) for v, a, c in zip(values, among, clusters, strict=True) if a]
        return bootstrap_mean([v for v, _ in kept], [c for _, c in kept], num_samples).as_json()

    false = [not true for true in truth]
    recall, false_alarm = share(claimed, truth), share(claimed, false)
    known = recall["mean"] is not None and false_alarm["mean"] is not None
    return {
        "n": len(truth),
        "true": sum(truth),
        "said": sum(claimed),
        "both": sum(t and s for t, s in zip(truth, claimed, strict=True)),
        "precision": share(truth, claimed),
        "recall": recall,
        "false_alarm": false_alarm,
        "gap": recall["mean"] - false_alarm["mean"] if known else None,
    }
