"""What one arm did under one seed, and its rows. Two arms are compared row by row.

A row is one answer to a transition or one episode of a task. Its key identifies it in every arm, its value is the
measurement, and its cluster is the task that intervals resample.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from rwml.core.files import Json
from rwml.core.types import Episode, PredictedState, Transition
from rwml.measure.figures.bootstrap import compare
from rwml.measure.figures.metrics import cluster_of, transition_of, within_gap

T = TypeVar("T")


class SeedPredictions(NamedTuple):
    """All world-model answers of one arm to one split under one evaluation seed."""

    arm: str
    split: str
    seed: int
    predictions: Sequence[PredictedState]


class SeedEpisodes(NamedTuple):
    """All episodes of one arm on one split under one evaluation seed."""

    arm: str
    split: str
    seed: int
    episodes: Sequence[Episode]


@dataclass(frozen=True, slots=True)
class ArmEvaluation:
    """One arm examined under one training seed. transitions: those that its answers are to, of that seed."""

    arm: str
    seed: int
    answers: Sequence[SeedPredictions]
    plays: Sequence[SeedEpisodes]
    transitions: Sequence[Transition]


class RowKey(NamedTuple):
    """Names a row in every arm. item: the id of the transition or task; repeat: how many of its rows come before."""

    training_seed: int
    split: str
    seed: int
    item: str
    repeat: int


Rows = dict[RowKey, tuple[float, str]]
"""key -> (value, cluster)."""


def won_rows(evaluations: Iterable[ArmEvaluation]) -> Rows:
    """Success of every episode of one arm."""
    rows: Rows = {}
    seen: Counter[tuple[int, str, int, str]] = Counter()
    for evaluation in evaluations:
        for group in evaluation.plays:
            for episode in group.episodes:
                key = (evaluation.seed, group.split, group.seed, episode.task.id)
                cluster = cluster_of(group.split, episode.task.id)
                rows[RowKey(*key, seen[key])] = (float(episode.success), cluster)
                seen[key] += 1
    return rows


def answer_rows(evaluations: Iterable[ArmEvaluation], measure: Callable[[PredictedState], float]) -> Rows:
    """A measure of every answer of one arm. RwmlError for an answer to a transition that its evaluation lacks."""
    rows: Rows = {}
    seen: Counter[tuple[int, str, int, str]] = Counter()
    for evaluation in evaluations:
        known = {transition.id: transition for transition in evaluation.transitions}
        for group in evaluation.answers:
            for prediction in group.predictions:
                key = (evaluation.seed, group.split, group.seed, prediction.transition)
                cluster = cluster_of(group.split, transition_of(prediction, known).task)
                rows[RowKey(*key, seen[key])] = (measure(prediction), cluster)
                seen[key] += 1
    return rows


def within_rows(evaluations: Iterable[ArmEvaluation], tau_d: float) -> Rows:
    """Whether every answer of one arm is within `tau_d` of the real next state."""
    return answer_rows(evaluations, lambda prediction: float(within_gap(prediction, tau_d)))


def differences(before: Rows, after: Rows, num_samples: int, seed: int = 0) -> Json:
    """{"all" | split: D}: the paired difference of two arms (`compare`); empty if one of them has no rows."""
    if not before or not after:
        return {}
    by_split = differences_by(before, after, lambda key: key.split, num_samples, seed)
    return {"all": compare(before, after, num_samples, seed), **by_split}


def differences_by(before: Rows, after: Rows, label: Callable[[RowKey], str], num_samples: int, seed: int = 0) -> Json:
    """{label: D} of the rows of each label, in the order of their first row."""
    return {
        name: compare(its_before, its_after, num_samples, seed)
        for name, (its_before, its_after) in _by_label(before, after, label).items()
    }


def _by_label(before: Rows, after: Rows, label: Callable[[RowKey], str]) -> dict[str, tuple[Rows, Rows]]:
    groups: dict[str, tuple[Rows, Rows]] = {}
    for side, rows in enumerate((before, after)):
        for key, row in rows.items():
            groups.setdefault(label(key), ({}, {}))[side][key] = row
    return groups


def by_split(items: Sequence[T], split_of: Callable[[T], str]) -> dict[str, list[T]]:
    """{"all": every item, split: its items}, splits in the order of their first item; empty for no items."""
    return {"all": list(items), **grouped(items, split_of)} if items else {}


def grouped(items: Iterable[T], label: Callable[[T], str]) -> dict[str, list[T]]:
    """Items by label, in the order of their first item."""
    groups: dict[str, list[T]] = defaultdict(list)
    for item in items:
        groups[label(item)].append(item)
    return dict(groups)
