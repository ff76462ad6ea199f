"""Measures of world models and policies, with bootstrap intervals; all are defined in `docs/evaluate.md`.

Pure functions from records to plain dictionaries that `json.dumps` accepts as they are. Rows of one task are
not independent, so every interval resamples tasks (`core/bootstrap.py`). Shape suffixes: `_N` rows,
`_M` measures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rwml.core.bootstrap import (
    CONFIDENCE,
    Interval,
    bootstrap_mean,
    column_intervals,
    compare,
    paired_difference,
)
from rwml.core.errors import RwmlError
from rwml.core.types import Episode, Prediction, StopReason, Transition

SCHEMA_VERSION = 1
UNPARSED_DISTANCE = 2.0
"""The largest value of `1 - cos`, given to an answer that could not be read."""

__all__ = [
    "WORLD_MODEL_MEASURES", "Answers", "Interval", "Plays", "bootstrap_mean", "compare", "evaluate_arms",
    "paired_difference", "same_text", "success_summary", "within_gap", "world_model_summary",
]  # fmt: skip

Json = dict[str, Any]


class Answers(NamedTuple):
    """All world-model answers of one arm to one split under one seed."""

    arm: str
    split: str
    seed: int
    predictions: Sequence[Prediction]


class Plays(NamedTuple):
    """All episodes of one arm on one split under one seed."""

    arm: str
    split: str
    seed: int
    episodes: Sequence[Episode]


def same_text(a: str, b: str) -> bool:
    """Whether two texts are equal once every run of whitespace is one space and the ends are stripped."""
    return a.split() == b.split()


def within_gap(prediction: Prediction, tau_d: float) -> bool:
    """Whether the sim-to-real gap is small: parsed and `distance < tau_d` (RWML, step 4)."""
    return prediction.answer is not None and prediction.distance < tau_d


def world_model_summary(
    transitions: Iterable[Transition],
    predictions: Iterable[Prediction],
    tau_d: float,
    *,
    seeds: Iterable[int] | None = None,
    num_samples: int = 2000,
    seed: int = 0,
) -> Json:
    """Accuracy of a world model's answers, overall and by verb, knowable, valid, kind and seed.

    seeds: the seed of each prediction, aligned (for `by_seed`). A prediction counts once however many others
    answer the same transition. RwmlError if one answers a transition that is not there.
    """
    known = {transition.id: transition for transition in transitions}
    answers = list(predictions)
    asked = [_transition_of(prediction, known) for prediction in answers]
    values_NM = np.array(
        [_marks(t, p, tau_d) for t, p in zip(asked, answers, strict=True)], dtype=float
    ).reshape(-1, len(WORLD_MODEL_MEASURES))
    clusters = [_cluster(t.split, t.task) for t in asked]

    def group(rows: list[int]) -> Json:
        return _world_model_group(values_NM[rows], [clusters[i] for i in rows], num_samples, seed)

    def table(labels: Sequence[str]) -> Json:
        rows = _rows_by(labels)
        return {label: group(rows[label]) for label in sorted(rows)}

    return {
        "overall": _world_model_group(values_NM, clusters, num_samples, seed),
        "by_verb": table([t.verb for t in asked]),
        "by_knowable": table([_yes(t.knowable) for t in asked]),
        "by_valid": table([_yes(t.valid) for t in asked]),
        "by_kind": table([t.kind for t in asked]),
        "by_seed": table([] if seeds is None else [str(value) for value in seeds]),
    }


WORLD_MODEL_MEASURES = ("exact", "within", "distance", "unparsed", "truncated")
"""Columns of a world-model table, in order; see `docs/evaluate.md`."""


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

    def table(names: Sequence[str]) -> Json:
        rows = _rows_by(names)
        return {
            name: _success_group([played[i] for i in rows[name]], inefficient, num_samples, seed)
            for name in sorted(rows)
        }

    return {
        "overall": _success_group(played, inefficient, num_samples, seed),
        "by_split": table([e.task.split for e in played]),
        "by_task_kind": table([e.task.kind for e in played]),
        "by_seed": table(labels),
    }


def evaluate_arms(
    answers: Sequence[Answers],
    plays: Sequence[Plays],
    transitions: Sequence[Transition],
    tau_d: float,
    inefficient: Callable[[str], bool],
    *,
    world_model_pair: tuple[str, str] = ("model", "world_model"),
    success_pair: tuple[str, str] = ("model", "policy"),
    num_samples: int = 2000,
    seed: int = 0,
) -> Json:
    """All of `eval.json` (its schema: `docs/evaluate.md`).

    The pairs name the arms (before, after) of the two headline differences, over all splits pooled; a figure
    whose arms were not both measured is None in `summary`. tau_d: in the unit of `Prediction.distance`.
    """
    arms: Json = {}
    for arm in dict.fromkeys([a.arm for a in answers] + [p.arm for p in plays]):
        its_answers = [a for a in answers if a.arm == arm]
        its_plays = [p for p in plays if p.arm == arm]
        arms[arm] = {
            "world_model": {
                split: _answers_summary(group, transitions, tau_d, num_samples, seed)
                for split, group in _by_split(its_answers).items()
            },
            "success": {
                split: _plays_summary(group, inefficient, num_samples, seed)
                for split, group in _by_split(its_plays).items()
            },
        }
    known = {transition.id: transition for transition in transitions}
    within = {arm: _within_rows(answers, arm, known, tau_d) for arm in world_model_pair}
    won = {arm: _won_rows(plays, arm) for arm in success_pair}
    differences = {
        "world_model": _differences(within, world_model_pair, num_samples, seed),
        "success": _differences(won, success_pair, num_samples, seed),
    }
    summary = {name: by_split.get("all") for name, by_split in differences.items()}
    if summary["world_model"] is not None:
        summary["world_model"] = {**summary["world_model"], "tau_d": tau_d}
    return {
        "schema_version": SCHEMA_VERSION,
        "tau_d": tau_d,
        "confidence": CONFIDENCE,
        "bootstrap_samples": num_samples,
        "splits": list(dict.fromkeys([a.split for a in answers] + [p.split for p in plays])),
        "seeds": sorted({a.seed for a in answers} | {p.seed for p in plays}),
        "pairs": {"world_model": list(world_model_pair), "success": list(success_pair)},
        "summary": summary,
        "differences": differences,
        "arms": arms,
    }


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _cluster(split: str, task: str) -> str:
    return f"{split}/{task}"


def _rows_by(labels: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        rows[label].append(i)
    return rows


def _transition_of(prediction: Prediction, known: Mapping[str, Transition]) -> Transition:
    try:
        return known[prediction.transition]
    except KeyError:
        raise RwmlError(
            f"a prediction answers transition '{prediction.transition}', which is not a held-out one",
            "an answer without its truth cannot be scored, and leaving it out would change the figures",
            "delete the run's evaluation/ folder and run `rwml evaluate` again",
        ) from None


def _marks(transition: Transition, prediction: Prediction, tau_d: float) -> tuple[float, ...]:
    """One row of WORLD_MODEL_MEASURES."""
    answer = prediction.answer
    return (
        float(answer is not None and same_text(answer, transition.next_state)),
        float(within_gap(prediction, tau_d)),
        UNPARSED_DISTANCE if answer is None else prediction.distance,
        float(answer is None),
        float(prediction.truncated),
    )


def _world_model_group(
    values_NM: NDArray[np.float64], clusters: Sequence[str], num_samples: int, seed: int
) -> Json:
    measured = column_intervals(values_NM, clusters, num_samples, seed)
    group: Json = {"n": len(clusters), "clusters": len(set(clusters))}
    return group | {
        name: interval.as_json() for name, interval in zip(WORLD_MODEL_MEASURES, measured, strict=True)
    }


def _success_group(
    episodes: Sequence[Episode], inefficient: Callable[[str], bool], num_samples: int, seed: int
) -> Json:
    clusters = [_cluster(e.task.split, e.task.id) for e in episodes]
    won = [i for i, e in enumerate(episodes) if e.success]
    steps = [(step, cluster) for e, cluster in zip(episodes, clusters, strict=True) for step in e.steps]
    of_action = [cluster for _, cluster in steps]
    invalid = [not (step.parsed and step.valid) for step, _ in steps]
    looking = [not bad and inefficient(step.action) for bad, (step, _) in zip(invalid, steps, strict=True)]

    def measure(values: Sequence[float], groups: Sequence[str]) -> Json:
        return bootstrap_mean(values, groups, num_samples, seed).as_json()

    lengths = [len(e.steps) for e in episodes]
    stops = Counter(e.stop.value for e in episodes)
    return {
        "n": len(episodes),
        "clusters": len(set(clusters)),
        "success": measure([float(e.success) for e in episodes], clusters),
        "return": measure([sum(step.reward for step in e.steps) for e in episodes], clusters),
        "steps": measure(lengths, clusters),
        "steps_won": measure([lengths[i] for i in won], [clusters[i] for i in won]),
        "invalid": measure(invalid, of_action),
        "inefficient": measure(looking, of_action),
        "invalid_or_inefficient": measure([a or b for a, b in zip(invalid, looking, strict=True)], of_action),
        "actions": len(steps),
        "unparsed": sum(not step.parsed for step, _ in steps),
        "truncated": sum(step.truncated for step, _ in steps),
        "errors": sum(bool(e.error) for e in episodes),
        "stops": {reason.value: stops[reason.value] for reason in StopReason},
    }


def _by_split(groups: Sequence[Any]) -> dict[str, list[Any]]:
    splits: dict[str, list[Any]] = defaultdict(list)
    for group in groups:
        splits[group.split].append(group)
    return {"all": list(groups), **splits} if groups else {}


def _answers_summary(
    groups: Sequence[Answers], transitions: Sequence[Transition], tau_d: float, num_samples: int, seed: int
) -> Json:
    predictions = [prediction for group in groups for prediction in group.predictions]
    seeds = [group.seed for group in groups for _ in group.predictions]
    return world_model_summary(
        transitions, predictions, tau_d, seeds=seeds, num_samples=num_samples, seed=seed
    )


def _plays_summary(
    groups: Sequence[Plays], inefficient: Callable[[str], bool], num_samples: int, seed: int
) -> Json:
    episodes = [episode for group in groups for episode in group.episodes]
    seeds = [group.seed for group in groups for _ in group.episodes]
    return success_summary(episodes, inefficient, seeds=seeds, num_samples=num_samples, seed=seed)


_Rows = dict[tuple[str, int, str, int], tuple[float, str]]


def _within_rows(
    answers: Sequence[Answers], arm: str, known: Mapping[str, Transition], tau_d: float
) -> _Rows:
    """(split, seed, transition, how many answers it had before) -> (within tau_d, cluster)."""
    rows: _Rows = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    for group in answers:
        for prediction in group.predictions if group.arm == arm else ():
            key = (group.split, group.seed, prediction.transition)
            task = _transition_of(prediction, known).task
            rows[(*key, seen[key])] = (float(within_gap(prediction, tau_d)), _cluster(group.split, task))
            seen[key] += 1
    return rows


def _won_rows(plays: Sequence[Plays], arm: str) -> _Rows:
    """(split, seed, task, how many episodes it had before) -> (success, cluster)."""
    rows: _Rows = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    for group in plays:
        for episode in group.episodes if group.arm == arm else ():
            key = (group.split, group.seed, episode.task.id)
            rows[(*key, seen[key])] = (float(episode.success), _cluster(group.split, episode.task.id))
            seen[key] += 1
    return rows


def _differences(rows: Mapping[str, _Rows], pair: tuple[str, str], num_samples: int, seed: int) -> Json:
    """{"all": ..., split: ...}; empty where one of the two arms has no rows."""
    before, after = rows[pair[0]], rows[pair[1]]
    if not before or not after:
        return {}
    splits = dict.fromkeys(key[0] for key in (*before, *after))
    result = {"all": compare(before, after, num_samples, seed)}
    for split in splits:
        its_before = {key: row for key, row in before.items() if key[0] == split}
        its_after = {key: row for key, row in after.items() if key[0] == split}
        result[split] = compare(its_before, its_after, num_samples, seed)
    return result
