"""Imagined rollouts against real ones: how far a world model's own answers carry as its history."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from rwml.core.text import same_text
from rwml.core.types import Episode
from rwml.measure.figures.bootstrap import bootstrap_mean, compare
from rwml.measure.figures.metrics import cluster_of
from rwml.rewards.rewards import KindReward
from rwml.world_models.imagination import Imagination, Imagined, Walk


def measure_rollouts(
    imagination: Imagination,
    reward: KindReward,
    episodes: Sequence[Episode],
    depth: int,
    generator: torch.Generator,
    num_samples: int = 2000,
) -> dict[str, Any]:
    """How far imagined courses keep to the real ones, at depth 1 ... `depth` (see docs/reference/measure.md).

    Episodes are cut into stretches of `depth` steps. Within one, the model reads its own answers as the history; each
    imagined step is compared with the same model's prediction from the real history (`one_step`). Their difference is
    the cost of the imagined history alone. Means have intervals over tasks. reward: with the threshold by which a next
    state counts as right.
    """
    tau_d = reward.tau_d
    walks = [
        Walk(episode, start, min(start + depth, len(episode.steps)))
        for episode in episodes
        for start in range(0, len(episode.steps), depth)
    ]
    every = [row for episode in episodes for row in imagination.rows(episode).values()]
    single = imagination.one_step(every, generator)
    courses = imagination.imagine(walks, generator, single)
    steps = [step for course in courses for step in course]
    figures = _figures(reward, tau_d, steps)
    one_step = _figures(reward, tau_d, [single[step.row.id] for step in steps])
    numbers = {d: [n for n, step in enumerate(steps) if step.depth == d] for d in range(1, depth + 1)}
    whole = [course for course in courses if len(course) == depth]
    right = dict(zip(((step.row.id, step.depth) for step in steps), figures["within"], strict=True))
    return {
        "depth": depth,
        "tau_d": tau_d,
        "episodes": len(episodes),
        "steps": len(steps),
        "by_depth": {
            str(d): _at_depth(steps, rows, figures, one_step, num_samples) for d, rows in numbers.items() if rows
        },
        "steps_right": bootstrap_mean(
            [_leading([right[step.row.id, step.depth] for step in course]) for course in whole],
            [_cluster(course[0]) for course in whole],
            num_samples,
        ).as_json(),
        "ended": dict(Counter(step.ended for step in steps if step.ended)),
    }


def _figures(reward: KindReward, tau_d: float, steps: Sequence[Imagined]) -> dict[str, list[float]]:
    distances_N, _ = reward.score([step.next_state for step in steps], [step.row for step in steps])
    return {
        "exact": [float(same_text(step.next_state, step.row.next_state)) for step in steps],
        "within": (np.asarray(distances_N) < tau_d).astype(float).tolist(),
        "distance": np.asarray(distances_N).astype(float).tolist(),
    }


def _at_depth(
    steps: Sequence[Imagined],
    numbers: Sequence[int],
    imagined: Mapping[str, Sequence[float]],
    one_step: Mapping[str, Sequence[float]],
    num_samples: int,
) -> dict[str, Any]:
    clusters = [_cluster(steps[n]) for n in numbers]

    def keyed(values: Sequence[float]) -> dict[int, tuple[float, str]]:
        return {n: (values[n], cluster) for n, cluster in zip(numbers, clusters, strict=True)}

    def means(figures: Mapping[str, Sequence[float]]) -> dict[str, Any]:
        return {
            name: bootstrap_mean([values[n] for n in numbers], clusters, num_samples).as_json()
            for name, values in figures.items()
        }

    drift = {name: compare(keyed(one_step[name]), keyed(imagined[name]), num_samples) for name in ("exact", "within")}
    return {"n": len(numbers), **means(imagined), "one_step": means(one_step), "difference": drift}


def _leading(right: Sequence[float]) -> int:
    """How many come before the first that is not right."""
    return next((n for n, value in enumerate(right) if not value), len(right))


def _cluster(step: Imagined) -> str:
    return cluster_of(step.row.split, step.row.task)
