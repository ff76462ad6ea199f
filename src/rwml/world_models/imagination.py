"""Courses of real actions in which a world model's own answers become the history.

What the real world did with the same actions is known, so every imagined step has a real one to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rwml.core.types import Episode, PredictedState, Query, Transition
from rwml.world_models.world_model import WorldModel, first_of_each
from rwml.worlds.base import World
from rwml.worlds.transitions import newest, transitions_of

if TYPE_CHECKING:
    import torch

BEFORE = "ended before"
"""Why an imagined step has no next state, besides the reasons of `PredictedState`: an earlier step had none."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A stretch of an episode: its steps [start, stop) are imagined, those before `start` are given as they were."""

    episode: Episode
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Imagined:
    """One imagined step. row: the real transition; depth: 1 for the first step of its walk that has an action.

    next_state: the imagined text, None without one; `ended` then says why.
    """

    row: Transition
    depth: int
    next_state: str | None
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Imagination:
    """A world model that walks along episodes of a world. history_steps: H of the queries, None = all."""

    model: WorldModel
    world: World
    history_steps: int | None = None

    def rows(self, episode: Episode) -> dict[int, Transition]:
        """The episode's transitions by step. A step without a parsed action or without an answer has no transition."""
        split = episode.task.split
        return {row.step: row for row in transitions_of(episode, self.world, split, self.history_steps)}

    def one_step(self, rows: Sequence[Transition], generator: torch.Generator) -> dict[str, Imagined]:
        """What is predicted from the real history, by transition id."""
        states = self._predict([row.query for row in rows], generator)
        return {row.id: _step(row, 1, state) for row, state in zip(rows, states, strict=True)}

    def imagine(
        self, walks: Sequence[Walk], generator: torch.Generator, known: Mapping[str, Imagined] | None = None
    ) -> list[list[Imagined]]:
        """All walks side by side, one depth at a time; for each its imagined steps in order.

        known: answers that were given to the same queries already (`one_step`); first steps are looked up there.
        A step of the policy that held no action stays in the history as it was: nothing is predicted for it. A walk
        ends with the first answer that has no next state; its later steps are kept, without an answer.
        """
        paths = [_Path(walk, self.rows(walk.episode)) for walk in walks]
        while True:
            asked = [(path, query) for path in paths if (query := path.next_query(self.history_steps)) is not None]
            if not asked:
                return [path.done for path in paths]
            new: list[tuple[_Path, Query]] = []
            for path, query in asked:
                if known is not None and path.depth == 1 and query.id in known:
                    path.take(known[query.id])
                else:
                    new.append((path, query))
            states = self._predict([query for _, query in new], generator)
            for (path, query), state in zip(new, states, strict=True):
                path.take(_step(path.rows[query.step], path.depth, state))

    def _predict(self, queries: Sequence[Query], generator: torch.Generator) -> list[PredictedState]:
        return first_of_each(self.model.predict(queries, 1, generator)) if queries else []


def _step(row: Transition, depth: int, state: PredictedState) -> Imagined:
    return Imagined(row, depth, state.next_state, state.reason)


class _Path:
    """A walk under way: the history so far, first the real one, then the imagined one."""

    def __init__(self, walk: Walk, rows: Mapping[int, Transition]) -> None:
        self.steps, self.rows, self.stop = walk.episode.steps, rows, walk.stop
        self.at = walk.start
        self.history = [text for step in self.steps[: walk.start] for text in (step.action, step.observation)]
        self.done: list[Imagined] = []
        self.depth = 1

    def next_query(self, history_steps: int | None) -> Query | None:
        """The query at the next step that has one, with the history as imagined; None at the end of the walk."""
        while self.at < self.stop and self.at not in self.rows:
            step = self.steps[self.at]
            self.history += [step.action, step.observation]
            self.at += 1
        if self.at >= self.stop:
            return None
        if self.done and self.done[-1].ended:
            self._give_up()
            return None
        return replace(self.rows[self.at].query, history=newest(self.history, history_steps))

    def take(self, step: Imagined) -> None:
        """Continue with the imagined next states."""
        self.done.append(step)
        self.history += [step.row.action, step.next_state or ""]
        self.at, self.depth = self.at + 1, self.depth + 1

    def _give_up(self) -> None:
        for at in range(self.at, self.stop):
            if at in self.rows:
                self.done.append(Imagined(self.rows[at], self.depth, None, BEFORE))
                self.depth += 1
        self.at = self.stop
