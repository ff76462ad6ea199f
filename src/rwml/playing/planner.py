"""Plans: actions that were tried in imagination before they are played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rwml.core.types import Episode


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions for a task, and the imagined episode that speaks for them.

    wins: the imagined episode was won. candidates: how many were imagined; winning: how many of those were won.
    """

    actions: tuple[str, ...]
    wins: bool
    episode: Episode
    candidates: int
    winning: int


def best_of(episodes: Sequence[Episode]) -> Plan:
    """The plan of the best imagined episode: won before not won, then whole before broken off, then the shortest; ties
    go to the first. An episode is broken off if an answer of the world model could not be read."""
    assert episodes, "a plan is chosen from at least one episode"
    best = max(episodes, key=lambda episode: (episode.success, _whole(episode), -len(episode.steps)))
    actions = tuple(step.action for step in best.steps if step.parsed)
    return Plan(actions, best.success, best, len(episodes), sum(episode.success for episode in episodes))


def _whole(episode: Episode) -> bool:
    return not episode.error and all(step.observation for step in episode.steps)
