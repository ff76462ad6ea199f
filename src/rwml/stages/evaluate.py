"""`rwml evaluate`: what the model, the world model and the policy do on held-out games -> eval.json, evaluation/."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rwml.core.files import write_json
from rwml.core.manifest import Run
from rwml.core.metrics import Answers, Plays, evaluate_arms
from rwml.core.progress import progress
from rwml.core.store import Parts, read_records, write_records
from rwml.core.types import Episode, Prediction, Task, Transition
from rwml.engine.predict import Answer, ask
from rwml.engine.rewards import EmbeddingReward
from rwml.engine.rollout import ModelPlayer, play_seats, seats_for
from rwml.engine.setup import load_embedder, load_model, load_player, load_world, player_of, training_tau_d
from rwml.engine.trainer import generator_for
from rwml.engine.transitions import transitions_of
from rwml.models.sampler import SamplingParams

# arm: the stage that makes it, and where its checkpoint lies.
TRAINED = {"world_model": ("train_wm", "world_model/final"), "policy": ("train_policy", "policy/final")}
PREDICTIONS_IN_FLIGHT = 128


def run(run: Run) -> None:
    """Ask and play the model and every arm that is trained, on the same held-out transitions, tasks and seeds."""
    recipe, config = run.recipe, run.recipe.evaluate
    # A checkpoint of a stage that is stale belongs to other settings.
    done = {arm: run.folder / path for arm, (stage, path) in TRAINED.items() if run.is_done(stage)}
    arms: dict[str, Path | None] = {"model": None, **done}
    reads = list(done.values())
    sections = ["world", "model", "embedding", "collect", "transitions", "evaluate"]
    with run.stage("evaluate", reads=reads, sections=sections) as stage:
        tau_d = config.tau_d or training_tau_d(run)
        tasks = {split: _tasks(run, split) for split in config.splits}
        transitions = {split: _transitions(run, split, tasks[split]) for split in config.splits}
        asked = sum(len(rows) for rows in transitions.values()) * len(arms) * len(config.seeds)
        played = sum(len(rows) for rows in tasks.values()) * len(arms) * len(config.seeds)
        answers: list[Answers] = []
        plays: list[Plays] = []
        with progress("evaluate", total=asked + played, unit="item") as bar:
            for arm, path in arms.items():
                examiner = _Examiner(run, arm, path, tau_d, bar)
                for split in config.splits:
                    for seed in config.seeds:
                        answers.append(Answers(arm, split, seed, examiner.ask(split, seed, transitions[split])))
                        plays.append(Plays(arm, split, seed, examiner.play(split, seed, tasks[split])))
        rows = [row for split in config.splits for row in transitions[split]]
        inefficient = load_world(recipe).inefficient
        figures = evaluate_arms(answers, plays, rows, tau_d, inefficient, num_samples=config.bootstrap_samples)
        write_json(run.folder / "eval.json", figures)
        stage.counts |= {"transitions asked": asked, "episodes played": played}
        stage.counts["unparsed answers"] = sum(p.answer is None for a in answers for p in a.predictions)
        stage.counts["failed episodes"] = sum(bool(e.error) for p in plays for e in p.episodes)


def _tasks(run: Run, split: str) -> list[Task]:
    tasks = load_world(run.recipe).tasks(split)
    wanted = run.recipe.evaluate.num_tasks
    if not wanted or wanted >= len(tasks):
        return tasks
    picked = np.random.default_rng(run.recipe.seed).permutation(len(tasks))[:wanted]
    return [tasks[index] for index in sorted(picked)]


def _transitions(run: Run, split: str, tasks: Sequence[Task]) -> list[Transition]:
    """Held-out transitions of the policy that also collected (the model before training): whole episodes."""
    recipe, config = run.recipe, run.recipe.evaluate
    path = run.folder / "evaluation" / f"transitions-{split}.parquet"
    if path.exists():
        return read_records(path, Transition)
    world, steps = load_world(recipe), recipe.world.max_steps
    player = load_player(recipe, recipe.collect.temperature, recipe.collect.max_new_tokens, steps)
    wanted = config.num_transitions or len(tasks) * steps
    rows: list[Transition] = []
    for index, chunk in enumerate(_chunks(seats_for(tasks, 1, recipe.seed), recipe.collect.episodes_in_flight)):
        generator = generator_for(recipe.seed, "evaluate", "transitions", split, index)
        for episode in play_seats(world, chunk, config.collect_policy, player, steps, generator):
            if len(rows) < wanted:
                rows.extend(transitions_of(episode, world, split, recipe.transitions.history_steps))
        if len(rows) >= wanted:
            break
    write_records(path, rows, Transition)
    return rows


class _Examiner:
    """One arm under examination; every part that is done lies in evaluation/<arm>/ and is not done again."""

    def __init__(self, run: Run, arm: str, path: Path | None, tau_d: float, bar: Any) -> None:
        recipe, config = run.recipe, run.recipe.evaluate
        self.recipe, self.arm, self.path, self.bar = recipe, arm, path, bar
        self.folder = run.folder / "evaluation" / arm
        self.reward = EmbeddingReward(load_embedder(recipe.embedding, run.cache_folder), tau_d)
        self.params = SamplingParams(config.max_new_tokens, config.world_model_temperature)
        self.world = load_world(recipe)
        self._player: ModelPlayer | None = None

    @property
    def player(self) -> ModelPlayer:
        """Loaded when the first part that is not done asks for it."""
        if self._player is None:
            config = self.recipe.evaluate
            mind = load_model(self.recipe.model, self.path)
            params = SamplingParams(config.max_new_tokens, config.temperature)
            self._player = player_of(self.recipe, mind, params, self.recipe.world.max_steps, self.arm)
        return self._player

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
        groups = ask(self.player.mind, self.player.sampler, self.player.prompts, chunk, 1, self.params, generator)
        given: list[Answer] = [group[0] for group in groups]
        distances, rewards = self.reward.score([a.next_state for a in given], [row.next_state for row in chunk])
        return [
            Prediction(row.id, answer.text, answer.next_state, float(distance), float(reward), answer.truncated)
            for row, answer, distance, reward in zip(chunk, given, distances, rewards, strict=True)
        ]

    def play(self, split: str, seed: int, tasks: Sequence[Task]) -> list[Episode]:
        """One episode of every task."""
        parts = Parts(self.folder / f"episodes-{split}-{seed}")
        chunks = list(_chunks(seats_for(tasks, 1, seed), self.recipe.collect.episodes_in_flight))
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                generator = generator_for(self.recipe.seed, "evaluate", "play", split, seed, index)
                played = self.player.play(self.world, chunk, generator)
                parts.write(index, [p.episode for p in played], Episode)
            self.bar.advance(len(chunk))
        return parts.read(Episode, len(chunks))


def _chunks(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
