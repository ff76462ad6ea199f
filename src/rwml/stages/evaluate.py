"""`rwml evaluate`: what model, world model, policy and baselines do on held-out tasks -> eval.json, evaluation/."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rwml.core.arms import Answers, Plays, evaluate_arms
from rwml.core.errors import RwmlError
from rwml.core.files import write_json
from rwml.core.manifest import Run
from rwml.core.progress import progress
from rwml.core.store import Parts, read_records, write_records
from rwml.core.types import Episode, Prediction, Task, Transition
from rwml.engine.baselines import BASELINES, baseline_answers
from rwml.engine.imported import imported_episodes
from rwml.engine.predict import Answer, ask, too_long
from rwml.engine.rewards import KindReward
from rwml.engine.rollout import ModelPlayer, play_seats, seats_for
from rwml.engine.setup import load_model, load_player, load_reward, load_world, player_of, training_tau_d
from rwml.engine.trainer import generator_for
from rwml.engine.transitions import transitions_of
from rwml.models.hf import load_chat
from rwml.models.sampler import SamplingParams

# arm: the stage that makes it, and where its checkpoint lies.
TRAINED = {"world_model": ("train_wm", "world_model/final"), "policy": ("train_policy", "policy/final")}
PREDICTIONS_IN_FLIGHT = 128


def run(run: Run) -> None:
    """Ask and play the model and every arm that is trained, on the same held-out transitions, tasks and seeds.

    The baselines are asked as well, always. Where the world has no task to play, only the world models are measured.
    """
    recipe, config = run.recipe, run.recipe.evaluate
    # A checkpoint of a stage that is stale belongs to other settings.
    done = {arm: run.folder / path for arm, (stage, path) in TRAINED.items() if run.is_done(stage)}
    arms: dict[str, Path | None] = {"model": None, **done}
    reads = [run.folder / "transitions.parquet", *done.values()]
    if recipe.collect.episodes:
        reads.append(Path(recipe.collect.episodes).expanduser().resolve())
    scored_by = ["train_wm.reward", "train_wm.tau_d"]
    sections = ["world", "model", "embedding", "collect", "transitions", "evaluate", *scored_by]
    with run.stage("evaluate", reads=reads, sections=sections) as stage:
        tau_d = config.tau_d or training_tau_d(run)
        reward = load_reward(run, tau_d)
        tasks = {split: _tasks(run, split) for split in config.splits}
        transitions, long = _readable(run, {split: _transitions(run, split, tasks[split]) for split in config.splits})
        rows = [row for split in config.splits for row in transitions[split]]
        _refuse_nothing(run, rows)
        asked, played = (sum(map(len, held.values())) * len(arms) * len(config.seeds) for held in (transitions, tasks))
        answers: list[Answers] = []
        plays: list[Plays] = []
        with progress("evaluate", total=asked + played, unit="item") as bar:
            for arm, path in arms.items():
                examiner = _Examiner(run, arm, path, reward, bar)
                for split in config.splits:
                    for seed in config.seeds:
                        answers.append(Answers(arm, split, seed, examiner.ask(split, seed, transitions[split])))
                        if tasks[split]:
                            plays.append(Plays(arm, split, seed, examiner.play(split, seed, tasks[split])))
        guesses = _baselines(run, transitions, reward)
        samples = config.bootstrap_samples
        inefficient = load_world(recipe).inefficient
        figures = evaluate_arms(
            answers + guesses, plays, rows, tau_d, inefficient, baselines=BASELINES, num_samples=samples
        )
        write_json(run.folder / "eval.json", figures)
        stage.counts |= {"transitions asked": asked, "episodes played": played}
        stage.counts["transitions longer than model.max_context_tokens, not asked"] = long
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
    """Held-out transitions: whole episodes, until there are as many as wanted."""
    recipe, wanted = run.recipe, run.recipe.evaluate.num_transitions
    path = run.folder / "evaluation" / f"transitions-{split}.parquet"
    if path.exists():
        return read_records(path, Transition)
    world = load_world(recipe)
    rows: list[Transition] = []
    for episode in _episodes(run, split, tasks):
        rows.extend(transitions_of(episode, world, split, recipe.transitions.history_steps))
        if wanted and len(rows) >= wanted:
            break
    write_records(path, rows, Transition)
    return rows


def _readable(run: Run, held_out: Mapping[str, list[Transition]]) -> tuple[dict[str, list[Transition]], int]:
    """The rows that the model can read and answer, the same for every arm; and how many it cannot."""
    model, rows = run.recipe.model, [row for rows in held_out.values() for row in rows]
    chat, prompts = load_chat(model.path, model.trust_remote_code), load_world(run.recipe).prompts(model.prompts)
    long = too_long(chat, prompts, rows, run.recipe.evaluate.max_new_tokens, model.max_context_tokens)
    return {split: [row for row in rows if row.id not in long] for split, rows in held_out.items()}, len(long)


def _episodes(run: Run, split: str, tasks: Sequence[Task]) -> Iterator[Episode]:
    """The episodes that held-out transitions are cut from: the imported ones of the world and split, or else one of
    every task, played by the policy that also collected (the model before training)."""
    recipe, steps = run.recipe, run.recipe.world.max_steps
    if recipe.collect.episodes:
        name = load_world(recipe).name
        there = [e for e in imported_episodes(recipe.collect.episodes, split) if e.task.world == name]
        # Logs stand in an order that means something; the first ones of this order are a fair sample.
        yield from sorted(there, key=lambda episode: hashlib.sha256(episode.task.id.encode()).digest())
        return
    player = load_player(recipe, recipe.collect.temperature, recipe.collect.max_new_tokens, steps)
    for index, chunk in enumerate(_chunks(seats_for(tasks, 1, recipe.seed), recipe.collect.episodes_in_flight)):
        generator = generator_for(recipe.seed, "evaluate", "transitions", split, index)
        yield from play_seats(load_world(recipe), chunk, recipe.evaluate.collect_policy, player, steps, generator)


def _refuse_nothing(run: Run, rows: Sequence[Transition]) -> None:
    if not rows:
        splits = ", ".join(run.recipe.evaluate.splits)
        raise RwmlError(
            f"there is no held-out transition in the splits {splits}",
            "a world model is measured by its answers to them",
            "set evaluate.splits to splits that the world has tasks of, or the imported episodes belong to",
        )


def _baselines(run: Run, transitions: Mapping[str, Sequence[Transition]], reward: KindReward) -> list[Answers]:
    """Every baseline's answers, asked once and entered under every seed, so that each row of a model has a partner."""
    training = read_records(run.folder / "transitions.parquet", Transition)
    result: list[Answers] = []
    for split, rows in transitions.items():
        told = baseline_answers(load_world(run.recipe), training, rows)
        for name, texts in told.items():
            given = [Answer((), (), text or "", text, False) for text in texts]
            predictions = _scored(reward, rows, given)
            write_records(run.folder / "evaluation" / name / f"predictions-{split}.parquet", predictions, Prediction)
            result += [Answers(name, split, seed, predictions) for seed in run.recipe.evaluate.seeds]
    return result


def _scored(reward: KindReward, rows: Sequence[Transition], given: Sequence[Answer]) -> list[Prediction]:
    """Answers with their distances and rewards; the same for models and baselines."""
    distances, rewards = reward.score([answer.next_state for answer in given], rows)
    return [
        Prediction(row.id, answer.text, answer.next_state, float(distance), float(points), answer.truncated)
        for row, answer, distance, points in zip(rows, given, distances, rewards, strict=True)
    ]


class _Examiner:
    """One arm under examination; every part that is done lies in evaluation/<arm>/ and is not done again."""

    def __init__(self, run: Run, arm: str, path: Path | None, reward: KindReward, bar: Any) -> None:
        recipe, config = run.recipe, run.recipe.evaluate
        self.recipe, self.arm, self.path, self.reward, self.bar = recipe, arm, path, reward, bar
        self.folder = run.folder / "evaluation" / arm
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
        return _scored(self.reward, chunk, [group[0] for group in groups])

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
