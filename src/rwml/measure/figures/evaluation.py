"""From the records of all arms to `eval.json`: every arm's tables, and the paired differences between arms.

Its schema is in `docs/evaluate.md`, its measures are in `measure/figures/metrics.py`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rwml.core.types import Episode, PredictedState, Transition
from rwml.measure.figures.bootstrap import CONFIDENCE, compare
from rwml.measure.figures.metrics import (
    Json,
    cluster_of,
    success_summary,
    transition_of,
    within_gap,
    world_model_summary,
)

SCHEMA_VERSION = 2
"""Of `eval.json`."""


class SeedPredictions(NamedTuple):
    """All world-model answers of one arm to one split under one seed."""

    arm: str
    split: str
    seed: int
    predictions: Sequence[PredictedState]


class SeedEpisodes(NamedTuple):
    """All episodes of one arm on one split under one seed."""

    arm: str
    split: str
    seed: int
    episodes: Sequence[Episode]


def evaluate_arms(
    answers: Sequence[SeedPredictions],
    plays: Sequence[SeedEpisodes],
    transitions: Sequence[Transition],
    tau_d: float,
    inefficient: Callable[[str], bool],
    *,
    world_model_pair: tuple[str, str] = ("model", "world_model"),
    success_pair: tuple[str, str] = ("model", "policy"),
    baselines: Sequence[str] = (),
    num_samples: int = 2000,
    seed: int = 0,
) -> Json:
    """All of `eval.json` (its schema: `docs/evaluate.md`).

    The pairs name the arms (before, after) of the two headline differences, over all splits pooled; a figure
    whose arms were not both measured is None in `summary`. tau_d: in the unit of `PredictedState.distance`.
    baselines: arms of `answers` that the world model is compared with; where the second arm of its pair was not
    measured, the first one is compared.
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
    contender = world_model_pair[1] if within[world_model_pair[1]] else world_model_pair[0]
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
        "baselines": {
            name: _against_baseline(answers, (name, contender), known, tau_d, num_samples, seed) for name in baselines
        },
        "arms": arms,
    }


def _by_split(groups: Sequence[Any]) -> dict[str, list[Any]]:
    splits: dict[str, list[Any]] = defaultdict(list)
    for group in groups:
        splits[group.split].append(group)
    return {"all": list(groups), **splits} if groups else {}


def _answers_summary(
    groups: Sequence[SeedPredictions], transitions: Sequence[Transition], tau_d: float, num_samples: int, seed: int
) -> Json:
    predictions = [prediction for group in groups for prediction in group.predictions]
    seeds = [group.seed for group in groups for _ in group.predictions]
    return world_model_summary(transitions, predictions, tau_d, seeds=seeds, num_samples=num_samples, seed=seed)


def _plays_summary(
    groups: Sequence[SeedEpisodes], inefficient: Callable[[str], bool], num_samples: int, seed: int
) -> Json:
    episodes = [episode for group in groups for episode in group.episodes]
    seeds = [group.seed for group in groups for _ in group.episodes]
    return success_summary(episodes, inefficient, seeds=seeds, num_samples=num_samples, seed=seed)


_Key = tuple[str, int, str, int]
_Rows = dict[_Key, tuple[float, str]]


def _within_rows(answers: Sequence[SeedPredictions], arm: str, known: Mapping[str, Transition], tau_d: float) -> _Rows:
    return _answer_rows(answers, arm, known, lambda prediction: float(within_gap(prediction, tau_d)))


def _answer_rows(
    answers: Sequence[SeedPredictions],
    arm: str,
    known: Mapping[str, Transition],
    measure: Callable[[PredictedState], float],
) -> _Rows:
    """(split, seed, transition, how many answers it had before) -> (measure, cluster)."""
    rows: _Rows = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    for group in answers:
        for prediction in group.predictions if group.arm == arm else ():
            key = (group.split, group.seed, prediction.transition)
            task = transition_of(prediction, known).task
            rows[(*key, seen[key])] = (measure(prediction), cluster_of(group.split, task))
            seen[key] += 1
    return rows


def _won_rows(plays: Sequence[SeedEpisodes], arm: str) -> _Rows:
    """(split, seed, task, how many episodes it had before) -> (success, cluster)."""
    rows: _Rows = {}
    seen: Counter[tuple[str, int, str]] = Counter()
    for group in plays:
        for episode in group.episodes if group.arm == arm else ():
            key = (group.split, group.seed, episode.task.id)
            rows[(*key, seen[key])] = (float(episode.success), cluster_of(group.split, episode.task.id))
            seen[key] += 1
    return rows


def _differences(rows: Mapping[str, _Rows], pair: tuple[str, str], num_samples: int, seed: int) -> Json:
    """{"all": ..., split: ...}; empty where one of the two arms has no rows."""
    before, after = rows[pair[0]], rows[pair[1]]
    if not before or not after:
        return {}
    by_split = _compare_by(before, after, lambda key: key[0], num_samples, seed)
    return {"all": compare(before, after, num_samples, seed), **by_split}


def _compare_by(before: _Rows, after: _Rows, label: Callable[[_Key], str], num_samples: int, seed: int) -> Json:
    """`compare` for the rows of each label, in the order of their first row."""
    result: Json = {}
    for name in dict.fromkeys(label(key) for key in (*before, *after)):
        its_before = {key: row for key, row in before.items() if label(key) == name}
        its_after = {key: row for key, row in after.items() if label(key) == name}
        result[name] = compare(its_before, its_after, num_samples, seed)
    return result


def _against_baseline(
    answers: Sequence[SeedPredictions],
    pair: tuple[str, str],
    known: Mapping[str, Transition],
    tau_d: float,
    num_samples: int,
    seed: int,
) -> Json:
    """A baseline (`before`) against a world model (`after`): `within` and `reward`, all rows and by split and kind."""
    measures: dict[str, Callable[[PredictedState], float]] = {
        "within": lambda prediction: float(within_gap(prediction, tau_d)),
        "reward": lambda prediction: prediction.reward,
    }
    result: Json = {"arm": pair[1]}
    for name, measure in measures.items():
        before, after = (_answer_rows(answers, arm, known, measure) for arm in pair)
        result[name] = {
            "all": compare(before, after, num_samples, seed),
            "by_split": _compare_by(before, after, lambda key: key[0], num_samples, seed),
            "by_kind": _compare_by(before, after, lambda key: known[key[2]].kind, num_samples, seed),
        }
    return result
