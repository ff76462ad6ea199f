"""Examining checkpoints: the same held-out tasks and transitions for each, asked and played under the same seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.progress import Bar
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import Parts, read_records, write_records
from rwml.core.seeds import generator_for, lot, numpy_for, seed_of
from rwml.core.types import Episode, Prediction, Task, Transition
from rwml.exchange.imported import imported_episodes
from rwml.loading import load_model, load_policy, load_world, policy_of
from rwml.measure.figures.evaluation import SeedEpisodes, SeedPredictions
from rwml.models.language_model import load_chat
from rwml.models.sampling.sampler import SamplingParams
from rwml.play.policies import play_seats
from rwml.play.rollout import LanguageModelPolicy, seats_for
from rwml.rewards.rewards import KindReward
from rwml.world_models.baselines import baseline_answers
from rwml.world_models.questions import Answer, ask, too_long
from rwml.worlds.transitions import transitions_of

PREDICTIONS_IN_FLIGHT = 128


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


def held_out(recipe: Recipe, folder: Path, draw: int | None = None) -> HeldOut:
    """The recipe's held-out tasks and transitions; transitions that are cut already are read back from `folder`.

    draw: seed of the draw of `evaluate.num_tasks` tasks; None = the recipe's. RwmlError where no transition is there.
    """
    tasks = {split: _tasks(recipe, split, recipe.seed if draw is None else draw) for split in recipe.evaluate.splits}
    cut = {split: _transitions(recipe, folder, split, tasks[split]) for split in recipe.evaluate.splits}
    transitions, long = _readable(recipe, cut)
    if not any(transitions.values()):
        raise RwmlError(
            f"there is no held-out transition in the splits {', '.join(recipe.evaluate.splits)}",
            "a world model is measured by its answers to them",
            "set evaluate.splits to splits that the world has tasks of, or the imported episodes belong to",
        )
    return HeldOut(tasks, transitions, long)


def _tasks(recipe: Recipe, split: str, draw: int) -> list[Task]:
    tasks = load_world(recipe).tasks(split)
    wanted = recipe.evaluate.num_tasks
    if not wanted or wanted >= len(tasks):
        return tasks
    picked = numpy_for(draw, "evaluate", "tasks", split).permutation(len(tasks))[:wanted]
    return [tasks[index] for index in sorted(picked)]


def _transitions(recipe: Recipe, folder: Path, split: str, tasks: Sequence[Task]) -> list[Transition]:
    """Held-out transitions: whole episodes, until there are as many as wanted."""
    wanted = recipe.evaluate.num_transitions
    path = folder / f"transitions-{split}.parquet"
    if path.exists():
        return read_records(path, Transition)
    world = load_world(recipe)
    rows: list[Transition] = []
    for episode in _episodes(recipe, split, tasks):
        rows.extend(transitions_of(episode, world, split, recipe.transitions.history_steps))
        if wanted and len(rows) >= wanted:
            break
    write_records(path, rows, Transition)
    return rows


def _readable(recipe: Recipe, cut: Mapping[str, list[Transition]]) -> tuple[dict[str, list[Transition]], int]:
    """The rows that the model can read and answer, the same for every arm; and how many it cannot."""
    model, rows = recipe.model, [row for rows in cut.values() for row in rows]
    chat, prompts = load_chat(model.path, model.trust_remote_code), load_world(recipe).prompts(model.prompts)
    long = too_long(chat, prompts, rows, recipe.evaluate.max_new_tokens, model.max_context_tokens)
    return {split: [row for row in rows if row.id not in long] for split, rows in cut.items()}, len(long)


def _episodes(recipe: Recipe, split: str, tasks: Sequence[Task]) -> Iterator[Episode]:
    """The episodes that held-out transitions are cut from: the imported ones of the world and split, or else one of
    every task, played by the policy that also collected (the model before training)."""
    if recipe.collect.episodes:
        name = load_world(recipe).name
        there = [e for e in imported_episodes(recipe.collect.episodes, split) if e.task.world == name]
        # Logs stand in an order that means something; the first ones of this order are a fair sample.
        yield from sorted(there, key=lambda episode: lot(episode.task.id))
        return
    policy = load_policy(recipe, recipe.evaluate.collect_policy)
    for index, chunk in enumerate(
        _chunks(seats_for(tasks, 1, seed_of(recipe.seed, "evaluate", "transitions")), recipe.collect.episodes_in_flight)
    ):
        generator = generator_for(recipe.seed, "evaluate", "transitions", split, index)
        yield from play_seats(load_world(recipe), chunk, policy, generator)


def ask_baselines(
    recipe: Recipe,
    folder: Path,
    training: Sequence[Transition],
    transitions: Mapping[str, Sequence[Transition]],
    reward: KindReward,
) -> list[SeedPredictions]:
    """Every baseline's answers, asked once and entered under every seed, so that each row of a model has a partner.

    They are written to `folder`/<baseline>/predictions-<split>.parquet.
    """
    result: list[SeedPredictions] = []
    for split, rows in transitions.items():
        told = baseline_answers(load_world(recipe), training, rows)
        for name, texts in told.items():
            given = [Answer((), text or "", text, False) for text in texts]
            predictions = _scored(reward, rows, given)
            write_records(folder / name / f"predictions-{split}.parquet", predictions, Prediction)
            result += [SeedPredictions(name, split, seed, predictions) for seed in recipe.evaluate.seeds]
    return result


def _scored(reward: KindReward, rows: Sequence[Transition], given: Sequence[Answer]) -> list[Prediction]:
    """Answers with their distances and rewards; the same for models and baselines."""
    distances, rewards = reward.score([answer.next_state for answer in given], rows)
    return [
        Prediction(row.id, answer.text, answer.next_state, float(distance), float(points), answer.truncated)
        for row, answer, distance, points in zip(rows, given, distances, rewards, strict=True)
    ]


class Examiner:
    """One arm under examination; every part that is done lies in its folder and is not done again.

    path: its checkpoint, None for the recipe's model; folder: for its answers and episodes.
    """

    def __init__(self, recipe: Recipe, arm: str, path: Path | None, folder: Path, reward: KindReward, bar: Bar) -> None:
        config = recipe.evaluate
        self.recipe, self.arm, self.path, self.folder = recipe, arm, path, folder
        self.reward, self.bar = reward, bar
        self.params = SamplingParams(config.max_new_tokens, config.world_model_temperature)
        self.world = load_world(recipe)
        self._policy: LanguageModelPolicy | None = None

    @property
    def policy(self) -> LanguageModelPolicy:
        """Loaded when the first part that is not done asks for it."""
        if self._policy is None:
            config = self.recipe.evaluate
            lm = load_model(self.recipe.model, self.path)
            params = SamplingParams(config.max_new_tokens, config.temperature)
            self._policy = policy_of(self.recipe, lm, params, self.recipe.world.max_steps, self.arm)
        return self._policy

    def sit(self, items: HeldOut) -> tuple[list[SeedPredictions], list[SeedEpisodes]]:
        """One answer to every transition and one episode of every task, under each evaluation seed."""
        answers: list[SeedPredictions] = []
        plays: list[SeedEpisodes] = []
        for split in self.recipe.evaluate.splits:
            for seed in self.recipe.evaluate.seeds:
                answers.append(SeedPredictions(self.arm, split, seed, self.ask(split, seed, items.transitions[split])))
                if items.tasks[split]:
                    plays.append(SeedEpisodes(self.arm, split, seed, self.play(split, seed, items.tasks[split])))
        return answers, plays

    def ask(self, split: str, seed: int, transitions: Sequence[Transition]) -> list[Prediction]:
        """One answer to every transition."""
        parts = Parts(self.folder / f"predictions-{split}-{seed}")
        chunks = list(_chunks(transitions, PREDICTIONS_IN_FLIGHT))
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                parts.write(index, self._predictions(chunk, (split, seed, index)), Prediction)
            self.bar.advance(len(chunk))
        return parts.read(Prediction, len(chunks))

    def _predictions(self, chunk: Sequence[Transition], key: tuple[object, ...]) -> list[Prediction]:
        # The same numbers for every arm, so that a difference between arms is no difference in luck.
        generator = generator_for(self.recipe.seed, "evaluate", "ask", *key)
        groups = ask(self.policy.lm, self.policy.sampler, self.policy.prompts, chunk, 1, self.params, generator)
        return _scored(self.reward, chunk, [group[0] for group in groups])

    def play(self, split: str, seed: int, tasks: Sequence[Task]) -> list[Episode]:
        """One episode of every task."""
        parts = Parts(self.folder / f"episodes-{split}-{seed}")
        chunks = list(_chunks(seats_for(tasks, 1, seed_of("evaluate", seed)), self.recipe.collect.episodes_in_flight))
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                generator = generator_for(self.recipe.seed, "evaluate", "play", split, seed, index)
                played = self.policy.play(self.world, chunk, generator)
                parts.write(index, [p.episode for p in played], Episode)
            self.bar.advance(len(chunk))
        return parts.read(Episode, len(chunks))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
