"""Examining arms: the same held-out tasks and transitions for each, asked and played under the same seeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from rwml.core.errors import RwmlError
from rwml.core.progress import Bar
from rwml.core.recipe.sections import EvaluateConfig
from rwml.core.records import Parts, read_records, write_records
from rwml.core.seeds import generator_for, lot, numpy_for, seed_of
from rwml.core.types import Episode, PredictedState, Task, Transition
from rwml.exchange.episode_folder import imported_episodes
from rwml.measure.figures.arm_rows import SeedEpisodes, SeedPredictions
from rwml.playing.policies import Policy, play_seats
from rwml.playing.rollout import seats_for
from rwml.rewards.rewards import KindReward
from rwml.world_models.world_model import WorldModel, first_of_each, scored
from rwml.worlds.answers import tasks_of
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

PREDICTIONS_IN_FLIGHT = 128


@dataclass(frozen=True, slots=True)
class ExamSetup:
    """What every arm of a run is examined by.

    seed: of the run. history_steps: H of the held-out transitions, None = all. imported: folder of the episodes that
    they are cut from; "" = they are played. collector: the policy that also collected (the model before training).
    too_long: ids of the rows that the model cannot read and answer.
    """

    world: World
    config: EvaluateConfig
    seed: int
    history_steps: int | None
    episodes_in_flight: int
    imported: str
    collector: Policy
    too_long: Callable[[Sequence[Transition]], frozenset[str]]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """What every arm is examined on, by split. long: number of transitions that the model cannot read, left out."""

    tasks: dict[str, list[Task]]
    transitions: dict[str, list[Transition]]
    long: int

    @property
    def rows(self) -> list[Transition]:
        """The transitions of all splits, in their order."""
        return [row for rows in self.transitions.values() for row in rows]

    @property
    def sizes(self) -> tuple[int, int]:
        """Numbers of questions and games for one arm under one evaluation seed."""
        return len(self.rows), sum(map(len, self.tasks.values()))


def held_out(setup: ExamSetup, folder: Path, draw: int | None = None) -> HeldOut:
    """The held-out tasks and transitions; transitions that are cut already are read back from `folder`.

    draw: seed of the draw of `evaluate.num_tasks` tasks; None = the run's. RwmlError for splits without a transition.
    """
    splits = setup.config.splits
    tasks = {split: _tasks(setup, split, setup.seed if draw is None else draw) for split in splits}
    cut = {split: _transitions(setup, folder, split, tasks[split]) for split in splits}
    long = setup.too_long([row for rows in cut.values() for row in rows])
    transitions = {split: [row for row in rows if row.id not in long] for split, rows in cut.items()}
    if not any(transitions.values()):
        raise RwmlError(
            f"the splits {', '.join(splits)} hold no transition to examine by",
            "a world model is measured by its answers to them",
            "set evaluate.splits to splits that the world has tasks of, or the imported episodes belong to",
        )
    return HeldOut(tasks, transitions, len(long))


def _tasks(setup: ExamSetup, split: str, draw: int) -> list[Task]:
    tasks = tasks_of(setup.world, split)
    wanted = setup.config.num_tasks
    if not wanted or wanted >= len(tasks):
        return tasks
    picked = numpy_for(draw, "evaluate", "tasks", split).permutation(len(tasks))[:wanted]
    return [tasks[index] for index in sorted(picked)]


def _transitions(setup: ExamSetup, folder: Path, split: str, tasks: Sequence[Task]) -> list[Transition]:
    """Held-out transitions: whole episodes, until there are as many as wanted."""
    wanted = setup.config.num_transitions
    path = folder / f"transitions-{split}.parquet"
    if path.exists():
        return read_records(path, Transition)
    rows: list[Transition] = []
    for episode in _episodes(setup, split, tasks):
        rows.extend(transitions_of(episode, setup.world, split, setup.history_steps))
        if wanted and len(rows) >= wanted:
            break
    write_records(path, rows, Transition)
    return rows


def _episodes(setup: ExamSetup, split: str, tasks: Sequence[Task]) -> Iterator[Episode]:
    """The episodes that held-out transitions are cut from: the imported ones of the world and split, or else one of
    every task."""
    if setup.imported:
        episodes = [e for e in imported_episodes(setup.imported, split) if e.task.world == setup.world.name]
        # The order of logs carries meaning; the first ones of this order are a fair sample.
        yield from sorted(episodes, key=lambda episode: lot(episode.task.id))
        return
    seats = seats_for(tasks, 1, seed_of(setup.seed, "evaluate", "transitions"))
    for index, chunk in enumerate(_chunks(seats, setup.episodes_in_flight)):
        generator = generator_for(setup.seed, "evaluate", "transitions", split, index)
        yield from play_seats(setup.world, chunk, setup.collector, generator)


@dataclass(frozen=True, slots=True)
class Examinee:
    """One arm: a world model, and its policy (None: the arm does not play). load: makes both, when the first unfinished
    part needs them.
    """

    name: str
    load: Callable[[], tuple[WorldModel, Policy | None]]


class Examiner:
    """Examines arms of a run. Every part that is done lies in the arm's folder and is not done again."""

    def __init__(self, setup: ExamSetup, items: HeldOut, reward: KindReward, bar: Bar | None = None) -> None:
        self.setup, self.items, self.reward, self.bar = setup, items, reward, bar

    def examine(
        self, examinee: Examinee, folder: Path, *, plays: bool = True
    ) -> tuple[list[SeedPredictions], list[SeedEpisodes]]:
        """One answer to every transition and, with `plays`, one episode of every task, under each evaluation seed.

        folder: of the arm.
        """
        arm = _Arm(self, examinee, folder)
        answers: list[SeedPredictions] = []
        episodes: list[SeedEpisodes] = []
        for split in self.setup.config.splits:
            for seed in self.setup.config.seeds:
                answers.append(SeedPredictions(examinee.name, split, seed, arm.predict(split, seed)))
                if plays and self.items.tasks[split]:
                    episodes.append(SeedEpisodes(examinee.name, split, seed, arm.play(split, seed)))
        return answers, episodes

    def advance(self, items: int) -> None:
        """Move the progress bar on."""
        if self.bar is not None:
            self.bar.advance(items)


class _Arm:
    """One arm under examination."""

    def __init__(self, examiner: Examiner, examinee: Examinee, folder: Path) -> None:
        self._examiner, self._setup, self._folder = examiner, examiner.setup, folder
        self._examinee = examinee

    @cached_property
    def _loaded(self) -> tuple[WorldModel, Policy | None]:
        return self._examinee.load()

    def predict(self, split: str, seed: int) -> list[PredictedState]:
        """One scored answer to every transition of a split."""
        parts = Parts(self._folder / f"predictions-{split}-{seed}")
        chunks = list(_chunks(self._examiner.items.transitions[split], PREDICTIONS_IN_FLIGHT))
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                # The same numbers for every arm: a difference between arms is not a difference in luck.
                generator = generator_for(self._setup.seed, "evaluate", "ask", split, seed, index)
                parts.write(index, self._scored(chunk, generator), PredictedState)
            self._examiner.advance(len(chunk))
        return parts.read(PredictedState, len(chunks))

    def _scored(self, rows: Sequence[Transition], generator: torch.Generator) -> list[PredictedState]:
        model, _ = self._loaded
        states = first_of_each(model.predict([row.query for row in rows], 1, generator))
        distances, rewards = self._examiner.reward.score([state.next_state for state in states], rows)
        return [scored(*figures) for figures in zip(states, distances, rewards, strict=True)]

    def play(self, split: str, seed: int) -> list[Episode]:
        """One episode of every task of a split."""
        parts = Parts(self._folder / f"episodes-{split}-{seed}")
        seats = seats_for(self._examiner.items.tasks[split], 1, seed_of("evaluate", seed))
        chunks = list(_chunks(seats, self._setup.episodes_in_flight))
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                generator = generator_for(self._setup.seed, "evaluate", "play", split, seed, index)
                _, policy = self._loaded
                assert policy is not None, "only arms with a policy play"
                parts.write(index, play_seats(self._setup.world, chunk, policy, generator), Episode)
            self._examiner.advance(len(chunk))
        return parts.read(Episode, len(chunks))


def baseline_predictions(
    examiner: Examiner, models: Mapping[str, Callable[[], WorldModel]], folder: Path
) -> list[SeedPredictions]:
    """Answers of further world models, by name, to the same transitions; each has a folder of its name in `folder`."""
    predictions: list[SeedPredictions] = []
    for name, make in models.items():
        answers, _ = examiner.examine(Examinee(name, partial(_asked_only, make)), folder / name, plays=False)
        predictions += answers
    return predictions


def _asked_only(make: Callable[[], WorldModel]) -> tuple[WorldModel, None]:
    return make(), None


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
