"""Arms over training seeds: means and spreads over seeds, and paired differences between arms.

Pure functions from records to plain dictionaries; the schema is in `docs/compare.md`. An `ArmEvaluation` is one arm
under one training seed. Intervals resample tasks (`bootstrap.py`): all seeds play the same tasks, so a task keeps its
rows of every seed together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from rwml.core.types import Episode, PredictedState, Transition
from rwml.measure.figures.bootstrap import compare
from rwml.measure.figures.evaluation import SeedEpisodes, SeedPredictions
from rwml.measure.figures.metrics import (
    Json,
    any_tools,
    cluster_of,
    success_group,
    transition_of,
    within_gap,
    world_model_group,
)

T = TypeVar("T")

SUCCESS_MEASURES = (
    "success", "return", "steps", "steps_won", "invalid", "inefficient", "invalid_or_inefficient", "invalid_calls",
)  # fmt: skip
ANSWER_MEASURES = ("exact", "within", "reward", "distance", "unparsed", "truncated")


@dataclass(frozen=True, slots=True)
class ArmEvaluation:
    """One arm examined under one training seed. transitions: those that its answers are to, of that seed."""

    arm: str
    seed: int
    answers: Sequence[SeedPredictions]
    plays: Sequence[SeedEpisodes]
    transitions: Sequence[Transition]


def arm_figures(
    evaluations: Sequence[ArmEvaluation], tau_d: float, inefficient: Callable[[str], bool], num_samples: int = 2000
) -> Json:
    """{"success": {"all" | split: {measure: M}}, "world_model": ..., "world_model_by_action": ...} of one arm; the last
    has "admitted" and "refused" in the place of splits, for a single answer to all that is refused can hide the others.

    M: {"mean", "low", "high", "n", "clusters", "sd", "by_seed"}: over all rows of all seeds, with the interval over
    tasks; sd is the standard deviation (n - 1) of the means of the seeds, None for fewer than two.
    """
    assert len({evaluation.arm for evaluation in evaluations}) <= 1, "one arm at a time"
    played = [(s.seed, p.split, e) for s in evaluations for p in s.plays for e in p.episodes]
    has_tools = any_tools(episode for _, _, episode in played)
    asked: list[tuple[int, str, tuple[Transition, PredictedState]]] = []
    for evaluation in evaluations:
        known = {transition.id: transition for transition in evaluation.transitions}
        for group in evaluation.answers:
            asked += [(evaluation.seed, group.split, (transition_of(p, known), p)) for p in group.predictions]

    def of_episodes(episodes: Sequence[Episode], samples: int) -> Json:
        return success_group(episodes, inefficient, has_tools, samples, 0)

    def of_answers(pairs: Sequence[tuple[Transition, PredictedState]], samples: int) -> Json:
        return world_model_group([t for t, _ in pairs], [p for _, p in pairs], tau_d, samples, 0)

    return {
        "success": _by_split(played, of_episodes, SUCCESS_MEASURES, num_samples),
        "world_model": _by_split(asked, of_answers, ANSWER_MEASURES, num_samples),
        "world_model_by_action": _by_split(
            [(seed, "admitted" if pair[0].valid else "refused", pair) for seed, _, pair in asked],
            of_answers, ANSWER_MEASURES, num_samples, pooled=False,
        ),
    }  # fmt: skip


def _by_split(
    rows: Sequence[tuple[int, str, T]],
    measure: Callable[[Sequence[T], int], Json],
    names: Sequence[str],
    num_samples: int,
    pooled: bool = True,
) -> Json:
    result: Json = {}
    for split in [*["all"] * pooled, *dict.fromkeys(split for _, split, _ in rows)] if rows else []:
        here = [(seed, item) for seed, of, item in rows if split in ("all", of)]
        whole = measure([item for _, item in here], num_samples)
        # One sample: of a single seed the mean alone is used.
        seeds = {s: measure([i for seed, i in here if seed == s], 1) for s in sorted({seed for seed, _ in here})}
        result[split] = {
            name: whole[name] | spread({seed: group[name]["mean"] for seed, group in seeds.items()}) for name in names
        }
    return result


def spread(by_seed: Mapping[int, float | None]) -> Json:
    """{"sd", "by_seed"} of the means of the seeds; sd with n - 1, None for fewer than two seeds that have a mean."""
    there = [value for value in by_seed.values() if value is not None]
    return {
        "sd": float(np.std(there, ddof=1)) if len(there) > 1 else None,
        "by_seed": {str(seed): value for seed, value in by_seed.items()},
    }


Rows = dict[tuple[int, str, int, str, int], tuple[float, str]]
"""(training seed, split, evaluation seed, task or transition, how many before) -> (value, cluster)."""


def won_rows(evaluations: Iterable[ArmEvaluation]) -> Rows:
    """Success of every episode of one arm."""
    rows: Rows = {}
    seen: Counter[tuple[int, str, int, str]] = Counter()
    for evaluation in evaluations:
        for group in evaluation.plays:
            for episode in group.episodes:
                key = (evaluation.seed, group.split, group.seed, episode.task.id)
                rows[(*key, seen[key])] = (float(episode.success), cluster_of(group.split, episode.task.id))
                seen[key] += 1
    return rows


def within_rows(evaluations: Iterable[ArmEvaluation], tau_d: float) -> Rows:
    """Whether every answer of one arm is within `tau_d` of the real next state."""
    rows: Rows = {}
    seen: Counter[tuple[int, str, int, str]] = Counter()
    for evaluation in evaluations:
        known = {transition.id: transition for transition in evaluation.transitions}
        for group in evaluation.answers:
            for prediction in group.predictions:
                key = (evaluation.seed, group.split, group.seed, prediction.transition)
                task = transition_of(prediction, known).task
                rows[(*key, seen[key])] = (float(within_gap(prediction, tau_d)), cluster_of(group.split, task))
                seen[key] += 1
    return rows


def contrast(before: Rows, after: Rows, num_samples: int = 2000) -> Json:
    """{"all" | split: D}: the paired difference of two arms, with {"sd", "by_seed"} of the seeds' differences.

    D as in `eval.json` (docs/evaluate.md). Only rows that both arms have are compared; empty where there is none.
    """
    shared = [key for key in before if key in after]
    result: Json = {}
    for split in ["all", *dict.fromkeys(key[1] for key in shared)] if shared else []:
        ours, theirs = ({key: row for key, row in rows.items() if split in ("all", key[1])} for rows in (before, after))
        by_seed: dict[int, float | None] = {}
        for seed in sorted({key[0] for key in shared if split in ("all", key[1])}):
            gaps = [theirs[key][0] - ours[key][0] for key in ours if key[0] == seed and key in theirs]
            by_seed[seed] = float(np.mean(gaps)) if gaps else None
        result[split] = compare(ours, theirs, num_samples) | spread(by_seed)
    return result


def verdict(difference: Json) -> str:
    """What the data support, of a D of `contrast`.

    `up` or `down`: the interval excludes zero and every seed has that sign; `seeds`: it does, but the seeds do not
    agree; `unsure`: the interval holds zero; `unknown`: there is no interval.
    """
    low, high = difference["interval"]
    if low is None or high is None:
        return "unknown"
    if low <= 0 <= high:
        return "unsure"
    sign = 1 if low > 0 else -1
    seeds: Mapping[str, float | None] = difference["by_seed"]
    agree = all(value is not None and not math.isclose(value, 0) and value * sign > 0 for value in seeds.values())
    return {1: "up", -1: "down"}[sign] if agree else "seeds"
