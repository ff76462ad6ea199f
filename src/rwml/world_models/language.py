"""The world model in the place of the world: courses of real actions in which its own answers become the history.

What the real world did with the same actions is known, so every imagined step has a real one to stand beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from rwml.core.text import same_text
from rwml.core.types import Episode, Transition
from rwml.measure.figures.bootstrap import bootstrap_mean, compare
from rwml.measure.figures.metrics import cluster_of
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import Sampler, SamplingParams
from rwml.rewards.rewards import KindReward
from rwml.world_models.questions import Answer, ask, question_ids
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

UNPARSED, CONTEXT, BEFORE = "unparsed", "context limit", "ended before"
"""Why an imagined step has no next state: the answer could not be read, the question no longer fits, or one of the
steps before it had none."""


@dataclass(frozen=True, slots=True)
class Walk:
    """A stretch of an episode: its steps [start, stop) are imagined, those before `start` are told as they were."""

    episode: Episode
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Imagined:
    """One imagined step. row: the real transition; depth: 1 for the first step of its walk that has an action.

    answer: the imagined next state, None where there is none, with the reason in `ended`.
    """

    row: Transition
    depth: int
    answer: str | None
    ended: str = ""


@dataclass(frozen=True, slots=True)
class WorldModel:
    """A model that is asked for next states, and the limits within which it is asked.

    history_steps: H of the questions, None = all. max_context: tokens of question and answer together.
    in_flight: questions that are sampled at a time.
    """

    lm: LanguageModel
    sampler: Sampler
    world: World
    prompts_style: str
    params: SamplingParams
    max_context: int
    history_steps: int | None = None
    in_flight: int = 128

    def rows(self, episode: Episode) -> dict[int, Transition]:
        """The episode's transitions by step; steps without a parsed action, or without an answer, have none."""
        split = episode.task.split
        return {row.step: row for row in transitions_of(episode, self.world, split, self.history_steps)}

    def fits(self, row: Transition) -> bool:
        """Whether question and answer fit into the context."""
        prompts = self.world.prompts(self.prompts_style)
        return len(question_ids(self.lm.chat, prompts, row)) + self.params.max_new_tokens <= self.max_context

    def answers(self, rows: Sequence[Transition], generator: torch.Generator) -> list[Answer]:
        """One answer to each question."""
        prompts, done = self.world.prompts(self.prompts_style), list[Answer]()
        for start in range(0, len(rows), self.in_flight):
            part = rows[start : start + self.in_flight]
            groups = ask(self.lm, self.sampler, prompts, part, 1, self.params, generator)
            done += [group[0] for group in groups]
        return done

    def one_step(self, rows: Sequence[Transition], generator: torch.Generator) -> dict[str, Imagined]:
        """What is predicted from the real history, by transition id."""
        fitting = [row for row in rows if self.fits(row)]
        given = dict(zip((row.id for row in fitting), self.answers(fitting, generator), strict=True))
        return {row.id: _step(row, 1, given.get(row.id)) for row in rows}

    def imagine(
        self, walks: Sequence[Walk], generator: torch.Generator, known: Mapping[str, Imagined] | None = None
    ) -> list[list[Imagined]]:
        """All walks side by side, one depth at a time; for each its imagined steps in order.

        known: answers that were given to the same questions already (`one_step`); first steps are looked up there.
        A step of the policy that held no action stays in the history as it was: nothing is predicted for it. A walk
        whose answer cannot be read cannot go on; its later steps are there without an answer.
        """
        paths = [_Path(walk, self.rows(walk.episode)) for walk in walks]
        while True:
            asked = [(path, row) for path in paths if (row := path.next_question(self.history_steps)) is not None]
            if not asked:
                return [path.done for path in paths]
            new: list[tuple[_Path, Transition]] = []
            for path, row in asked:
                if known is not None and path.depth == 1 and row.id in known:
                    path.take(known[row.id])
                elif self.fits(row):
                    new.append((path, row))
                else:
                    path.take(_step(path.rows[row.step], path.depth, None))
            given = self.answers([row for _, row in new], generator)
            for (path, row), answer in zip(new, given, strict=True):
                path.take(_step(path.rows[row.step], path.depth, answer))


def _step(row: Transition, depth: int, answer: Answer | None) -> Imagined:
    if answer is None:
        return Imagined(row, depth, None, CONTEXT)
    return Imagined(row, depth, answer.next_state, "" if answer.next_state is not None else UNPARSED)


class _Path:
    """A walk under way: what it was told so far, really and then in imagination."""

    def __init__(self, walk: Walk, rows: Mapping[int, Transition]) -> None:
        self.steps, self.rows, self.stop = walk.episode.steps, rows, walk.stop
        self.at = walk.start
        self.told = [text for step in self.steps[: walk.start] for text in (step.action, step.observation)]
        self.done: list[Imagined] = []
        self.depth = 1

    def next_question(self, history_steps: int | None) -> Transition | None:
        """The question at the next step that has one, with the history as imagined; None at the end of the walk."""
        while self.at < self.stop and self.at not in self.rows:
            step = self.steps[self.at]
            self.told += [step.action, step.observation]
            self.at += 1
        if self.at >= self.stop:
            return None
        if self.done and self.done[-1].ended:
            self._give_up()
            return None
        kept = self.told[-2 * history_steps :] if history_steps else self.told
        return replace(self.rows[self.at], history=tuple(kept))

    def take(self, step: Imagined) -> None:
        """Go on with what was imagined."""
        self.done.append(step)
        self.told += [step.row.action, step.answer or ""]
        self.at, self.depth = self.at + 1, self.depth + 1

    def _give_up(self) -> None:
        for at in range(self.at, self.stop):
            if at in self.rows:
                self.done.append(Imagined(self.rows[at], self.depth, None, BEFORE))
                self.depth += 1
        self.at = self.stop


def measure_rollouts(
    model: WorldModel,
    reward: KindReward,
    tau_d: float,
    episodes: Sequence[Episode],
    depth: int,
    generator: torch.Generator,
    num_samples: int = 2000,
) -> dict[str, Any]:
    """How far imagined courses keep to the real ones, at depth 1 ... `depth` (docs/measures.md defines every figure).

    Episodes are cut into stretches of `depth` steps. Within one, the model reads its own answers as the history; beside
    each imagined step stands what the same model predicts from the real history there (`one_step`), so that their
    difference is what the imagined history costs and nothing else. Means have intervals over tasks.
    """
    walks = [
        Walk(episode, start, min(start + depth, len(episode.steps)))
        for episode in episodes
        for start in range(0, len(episode.steps), depth)
    ]
    every = [row for episode in episodes for row in model.rows(episode).values()]
    single = model.one_step(every, generator)
    courses = model.imagine(walks, generator, single)
    dreamt = [step for course in courses for step in course]
    figures = _figures(reward, tau_d, dreamt)
    alone = _figures(reward, tau_d, [single[step.row.id] for step in dreamt])
    numbers = {d: [n for n, step in enumerate(dreamt) if step.depth == d] for d in range(1, depth + 1)}
    whole = [course for course in courses if len(course) == depth]
    right = dict(zip(((step.row.id, step.depth) for step in dreamt), figures["within"], strict=True))
    return {
        "depth": depth,
        "tau_d": tau_d,
        "episodes": len(episodes),
        "steps": len(dreamt),
        "by_depth": {
            str(d): _at_depth(dreamt, rows, figures, alone, num_samples) for d, rows in numbers.items() if rows
        },
        "steps_right": bootstrap_mean(
            [_leading([right[step.row.id, step.depth] for step in course]) for course in whole],
            [_cluster(course[0]) for course in whole],
            num_samples,
        ).as_json(),
        "ended": dict(Counter(step.ended for step in dreamt if step.ended)),
    }


def _figures(reward: KindReward, tau_d: float, steps: Sequence[Imagined]) -> dict[str, list[float]]:
    distances_N, _ = reward.score([step.answer for step in steps], [step.row for step in steps])
    return {
        "exact": [float(same_text(step.answer, step.row.next_state)) for step in steps],
        "within": (np.asarray(distances_N) < tau_d).astype(float).tolist(),
        "distance": np.asarray(distances_N).astype(float).tolist(),
    }


def _at_depth(
    steps: Sequence[Imagined],
    numbers: Sequence[int],
    imagined: Mapping[str, Sequence[float]],
    alone: Mapping[str, Sequence[float]],
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

    drift = {name: compare(keyed(alone[name]), keyed(imagined[name]), num_samples) for name in ("exact", "within")}
    return {"n": len(numbers), **means(imagined), "one_step": means(alone), "difference": drift}


def _leading(right: Sequence[float]) -> int:
    """How many come before the first that is not right."""
    return next((n for n, one in enumerate(right) if not one), len(right))


def _cluster(step: Imagined) -> str:
    return cluster_of(step.row.split, step.row.task)
