"""Arms over training seeds: means and spreads over seeds, and paired differences between arms.

Pure functions from records to plain dictionaries; schema: `docs/reference/compare.md`. An `ArmEvaluation` is one arm
under one training seed. Intervals resample tasks (`bootstrap.py`): all seeds play the same tasks, so a task keeps its
rows of every seed together.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from rwml.core.files import Json
from rwml.core.types import Episode, PredictedState, Transition
from rwml.measure.figures.arm_rows import ArmEvaluation, Rows, by_split, differences, grouped
from rwml.measure.figures.metrics import (
    SUCCESS_MEASURES,
    WORLD_MODEL_MEASURES,
    any_tools,
    success_group,
    transition_of,
    world_model_group,
)

T = TypeVar("T")


def arm_figures(
    evaluations: Sequence[ArmEvaluation], tau_d: float, inefficient: Callable[[str], bool], num_samples: int = 2000
) -> Json:
    """{"success": {"all" | split: {measure: M}}, "world_model": ..., "world_model_by_action": ...} of one arm.

    The groups of `world_model_by_action` are "admitted" and "refused": one stock answer to every refused action can
    hide all other answers. M: {"mean", "low", "high", "n", "clusters", "sd", "by_seed"}: over all rows of all seeds,
    with the interval over tasks; sd is the standard deviation (n - 1) of the means of the seeds, None for fewer than
    two.
    """
    assert len({evaluation.arm for evaluation in evaluations}) <= 1, "one arm at a time"
    played = [(s.seed, p.split, episode) for s in evaluations for p in s.plays for episode in p.episodes]
    has_tools = any_tools(episode for _, _, episode in played)
    asked: list[tuple[int, str, tuple[Transition, PredictedState]]] = []
    for evaluation in evaluations:
        known = {transition.id: transition for transition in evaluation.transitions}
        for group in evaluation.answers:
            asked += [(evaluation.seed, group.split, (transition_of(p, known), p)) for p in group.predictions]

    def of_episodes(episodes: Sequence[Episode], samples: int) -> Json:
        return success_group(episodes, inefficient, has_tools=has_tools, num_samples=samples, seed=0)

    def of_answers(pairs: Sequence[tuple[Transition, PredictedState]], samples: int) -> Json:
        return world_model_group([t for t, _ in pairs], [p for _, p in pairs], tau_d, samples, 0)

    by_action = grouped(asked, lambda row: "admitted" if row[2][0].valid else "refused")
    return {
        "success": _measured(by_split(played, _split), of_episodes, SUCCESS_MEASURES, num_samples),
        "world_model": _measured(by_split(asked, _split), of_answers, WORLD_MODEL_MEASURES, num_samples),
        "world_model_by_action": _measured(by_action, of_answers, WORLD_MODEL_MEASURES, num_samples),
    }


def _split(row: tuple[int, str, object]) -> str:
    return row[1]


def _measured(
    groups: Mapping[str, Sequence[tuple[int, str, T]]],
    measure: Callable[[Sequence[T], int], Json],
    names: Sequence[str],
    num_samples: int,
) -> Json:
    """{group: {name: M}} of rows (training seed, split, item)."""
    result: Json = {}
    for label, rows in groups.items():
        whole = measure([item for _, _, item in rows], num_samples)
        # One sample: of a single seed only the mean is used.
        seeds = {s: measure([item for seed, _, item in rows if seed == s], 1) for s in sorted({row[0] for row in rows})}
        result[label] = {
            name: whole[name] | spread({seed: group[name]["mean"] for seed, group in seeds.items()}) for name in names
        }
    return result


def spread(by_seed: Mapping[int, float | None]) -> Json:
    """{"sd", "by_seed"} of the means of the seeds; sd with n - 1, None for fewer than two seeds that have a mean."""
    means = [value for value in by_seed.values() if value is not None]
    return {
        "sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        "by_seed": {str(seed): value for seed, value in by_seed.items()},
    }


def mean_and_spread(by_seed: Mapping[int, float | None]) -> Json:
    """{"mean", "sd", "by_seed"} of one figure of each seed; mean over the seeds that have it, None if no seed has."""
    known = [value for value in by_seed.values() if value is not None]
    return {"mean": statistics.fmean(known) if known else None, **spread(by_seed)}


def contrast(before: Rows, after: Rows, num_samples: int = 2000) -> Json:
    """{"all" | split: D}: the paired difference of two arms, with {"sd", "by_seed"} of the seeds' differences.

    D as in docs/reference/evaluate.md. Only rows that both arms have are compared; empty if they share no row.
    """
    return {
        split: difference | spread(_seed_differences(before, after, split))
        for split, difference in differences(before, after, num_samples).items()
        if difference["n"]
    }


def _seed_differences(before: Rows, after: Rows, split: str) -> dict[int, float]:
    gaps: dict[int, list[float]] = {}
    for key, (value, _) in before.items():
        if key in after and split in ("all", key.split):
            gaps.setdefault(key.training_seed, []).append(after[key][0] - value)
    return {seed: float(np.mean(gaps[seed])) for seed in sorted(gaps)}
