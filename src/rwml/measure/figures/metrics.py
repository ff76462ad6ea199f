"""Measures of world models and policies, with bootstrap intervals; all are defined in `docs/reference/evaluate.md`.

Pure functions from records to plain dictionaries that `json.dumps` accepts as they are. Rows of one task are
not independent, so every interval resamples tasks (`measure/figures/bootstrap.py`). Shape suffixes: `_N` rows,
`_M` measures.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import compress

import numpy as np
from numpy.typing import NDArray

from rwml.core.errors import RwmlError
from rwml.core.files import Json
from rwml.core.text import UNPARSED_DISTANCE, same_text
from rwml.core.types import Episode, PredictedState, StopReason, Transition
from rwml.measure.figures.bootstrap import bootstrap_mean, column_intervals

WORLD_MODEL_MEASURES = ("exact", "within", "reward", "distance", "unparsed", "truncated")
"""Columns of a world-model table, in order; see `docs/reference/evaluate.md`."""

SUCCESS_MEASURES = (
    "success", "return", "steps", "steps_won", "invalid", "inefficient", "invalid_or_inefficient", "invalid_calls",
)  # fmt: skip
"""Columns of a table of episodes that have an interval."""


def within_gap(prediction: PredictedState, tau_d: float) -> bool:
    """Whether the sim-to-real gap is small: parsed and `distance < tau_d` (RWML, step 4)."""
    return prediction.next_state is not None and prediction.distance < tau_d


def world_model_summary(
    transitions: Iterable[Transition],
    predictions: Iterable[PredictedState],
    tau_d: float,
    *,
    seeds: Iterable[int] | None = None,
    num_samples: int = 2000,
    seed: int = 0,
) -> Json:
    """Accuracy of a world model's answers, overall and by verb, knowable, valid, kind and seed.

    seeds: the seed of each prediction, aligned (for `by_seed`). A prediction counts once however many others
    answer the same transition. RwmlError if one answers a transition that is not among them.
    """
    known = {transition.id: transition for transition in transitions}
    answers = list(predictions)
    asked = [transition_of(prediction, known) for prediction in answers]
    values_NM = np.array([_marks(t, p, tau_d) for t, p in zip(asked, answers, strict=True)], dtype=float).reshape(
        -1, len(WORLD_MODEL_MEASURES)
    )
    clusters = [cluster_of(t.split, t.task) for t in asked]

    def group(rows: list[int]) -> Json:
        return _world_model_group(values_NM[rows], [clusters[i] for i in rows], num_samples, seed)

    def table(labels: Sequence[str]) -> Json:
        rows = _rows_by(labels)
        return {label: group(rows[label]) for label in sorted(rows)}

    return {
        "overall": _world_model_group(values_NM, clusters, num_samples, seed),
        "by_verb": table([t.verb for t in asked]),
        "by_knowable": table(["yes" if t.knowable else "no" for t in asked]),
        "by_valid": table(["yes" if t.valid else "no" for t in asked]),
        "by_kind": table([t.kind for t in asked]),
        "by_seed": table([] if seeds is None else [str(value) for value in seeds]),
    }


def success_summary(
    episodes: Iterable[Episode],
    inefficient: Callable[[str], bool],
    *,
    seeds: Iterable[int] | None = None,
    num_samples: int = 2000,
    seed: int = 0,
) -> Json:
    """Success and decision quality of a policy's episodes, overall and by split, task kind and seed.

    inefficient: the world's judgement on an admitted action (`World.inefficient`). seeds: the seed of each
    episode, aligned; by default the one in the record.
    """
    played = list(episodes)
    labels = [str(e.seed) for e in played] if seeds is None else [str(value) for value in seeds]
    assert len(labels) == len(played), "one seed per episode"
    has_tools = any_tools(played)

    def group(rows: Sequence[int]) -> Json:
        return success_group(
            [played[i] for i in rows], inefficient, has_tools=has_tools, num_samples=num_samples, seed=seed
        )

    def table(names: Sequence[str]) -> Json:
        rows = _rows_by(names)
        return {name: group(rows[name]) for name in sorted(rows)}

    return {
        "overall": group(range(len(played))),
        "by_split": table([e.task.split for e in played]),
        "by_task_kind": table([e.task.kind for e in played]),
        "by_seed": table(labels),
    }


def any_tools(episodes: Iterable[Episode]) -> bool:
    """Whether the world has tools: in a world of texts an action that cannot be read was no call."""
    return any(step.kind != "text" for e in episodes for step in e.steps)


def cluster_of(split: str, task: str) -> str:
    return f"{split}/{task}"


def _rows_by(labels: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        rows[label].append(i)
    return rows


def transition_of(prediction: PredictedState, known: Mapping[str, Transition]) -> Transition:
    try:
        return known[prediction.transition]
    except KeyError:
        raise RwmlError(
            f"a prediction answers transition '{prediction.transition}', which is not a held-out one",
            "an answer without its truth cannot be scored, and leaving it out would change the figures",
            "delete the run's evaluation/ folder and run `rwml evaluate` again",
        ) from None


def _marks(transition: Transition, prediction: PredictedState, tau_d: float) -> tuple[float, ...]:
    """One row of WORLD_MODEL_MEASURES."""
    answer = prediction.next_state
    return (
        float(same_text(answer, transition.next_state)),
        float(within_gap(prediction, tau_d)),
        prediction.reward,
        UNPARSED_DISTANCE if answer is None else prediction.distance,
        float(answer is None),
        float(prediction.truncated),
    )


def world_model_group(
    asked: Sequence[Transition], answers: Sequence[PredictedState], tau_d: float, num_samples: int, seed: int
) -> Json:
    """One row of a table of `world_model_summary`: answer i is to transition i."""
    values_NM = np.array([_marks(t, p, tau_d) for t, p in zip(asked, answers, strict=True)], dtype=float).reshape(
        -1, len(WORLD_MODEL_MEASURES)
    )
    return _world_model_group(values_NM, [cluster_of(t.split, t.task) for t in asked], num_samples, seed)


def _world_model_group(values_NM: NDArray[np.float64], clusters: Sequence[str], num_samples: int, seed: int) -> Json:
    measured = column_intervals(values_NM, clusters, num_samples, seed)
    group: Json = {"n": len(clusters), "clusters": len(set(clusters))}
    return group | {name: interval.as_json() for name, interval in zip(WORLD_MODEL_MEASURES, measured, strict=True)}


def success_group(
    episodes: Sequence[Episode],
    inefficient: Callable[[str], bool],
    *,
    has_tools: bool,
    num_samples: int,
    seed: int,
) -> Json:
    """One row of a table of `success_summary`. has_tools: whether the world has tool calls at all."""
    clusters = [cluster_of(e.task.split, e.task.id) for e in episodes]
    won = [i for i, e in enumerate(episodes) if e.success]
    steps = [(step, cluster) for e, cluster in zip(episodes, clusters, strict=True) for step in e.steps]
    of_action = [cluster for _, cluster in steps]
    invalid = [not (step.parsed and step.valid) for step, _ in steps]
    calls = [has_tools and (step.kind == "tool" or not step.parsed) for step, _ in steps]
    looking = [not bad and inefficient(step.action) for bad, (step, _) in zip(invalid, steps, strict=True)]

    def measure(values: Sequence[float], groups: Sequence[str]) -> Json:
        return bootstrap_mean(values, groups, num_samples, seed).as_json()

    lengths = [len(e.steps) for e in episodes]
    returns = [sum(step.reward for step in e.steps) for e in episodes]
    sound = [math.isfinite(value) for value in returns]
    stops = Counter(e.stop.value for e in episodes)
    return {
        "n": len(episodes),
        "clusters": len(set(clusters)),
        "success": measure([float(e.success) for e in episodes], clusters),
        "return": measure(list(compress(returns, sound)), list(compress(clusters, sound))),
        "steps": measure(lengths, clusters),
        "steps_won": measure([lengths[i] for i in won], [clusters[i] for i in won]),
        "invalid": measure(invalid, of_action),
        "invalid_calls": measure(list(compress(invalid, calls)), list(compress(of_action, calls))),
        "inefficient": measure(looking, of_action),
        "invalid_or_inefficient": measure([a or b for a, b in zip(invalid, looking, strict=True)], of_action),
        "actions": len(steps),
        "calls": sum(calls),
        "unparsed": sum(not step.parsed for step, _ in steps),
        "truncated": sum(step.truncated for step, _ in steps),
        "errors": sum(bool(e.error) for e in episodes),
        "returns_not_finite": len(sound) - sum(sound),
        "stops": {reason.value: stops[reason.value] for reason in StopReason},
    }
