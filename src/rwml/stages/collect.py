"""`rwml collect`: rollouts of the target model in the world (RWML, step 1), or imported ones -> episodes/*.parquet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rwml.core.errors import RwmlError
from rwml.core.progress import progress
from rwml.core.records import Parts
from rwml.core.run import Run, Stage
from rwml.core.seeds import generator_for, seed_of
from rwml.core.types import Episode
from rwml.exchange.episode_folder import imported_episodes
from rwml.loading import load_policy, load_world
from rwml.playing.failures import count_failures, failures, refuse_if_all_failed, say_failures
from rwml.playing.policies import play_seats
from rwml.playing.rollout import seats_for
from rwml.worlds.answers import tasks_of


def run(run: Run) -> None:
    """Play every task `rollouts_per_task` times; each part of `episodes_in_flight` is written when done.

    With `collect.episodes`, take the imported episodes of the split instead. RwmlError if every episode that was played
    failed; they are kept in episodes/ with their reasons.
    """
    logs = run.recipe.collect.episodes
    reads = [Path(logs).expanduser().resolve()] if logs else []
    if logs:
        imported_episodes(logs)  # its error says how to make them
    with run.stage("collect", reads=reads, sections=["world", "model", "collect"]) as stage:
        parts = Parts(stage.folder / "episodes")
        episodes = _take(stage, parts) if logs else _play(stage, parts)
        count_episodes(stage.counts, episodes)
        if not logs:
            reasons = failures(episodes)
            count_failures(stage.counts, reasons)
            say_failures("collect", reasons, len(episodes))
            refuse_if_all_failed(episodes, "then play them again: `rwml run RECIPE --force collect`")


def _play(stage: Stage, parts: Parts) -> list[Episode]:
    recipe, config = stage.recipe, stage.recipe.collect
    world = load_world(recipe)
    tasks = tasks_of(world, config.split)
    if not tasks:
        raise RwmlError(
            f"the world {world.name} has no tasks to play in the split '{config.split}'",
            "episodes come from playing tasks, or from logs",
            "name another collect.split or world, or set collect.episodes to a folder that `rwml import` made",
        )
    seats = seats_for(tasks[: config.num_tasks], config.rollouts_per_task, seed_of(recipe.seed, "collect"))
    size = config.episodes_in_flight
    chunks = [seats[i : i + size] for i in range(0, len(seats), size)]
    policy = load_policy(recipe, config.policy)

    with progress("collect", total=len(seats), unit="episode") as bar:
        for index, chunk in enumerate(chunks):
            if not parts.done(index):
                generator = generator_for(recipe.seed, "collect", index)
                played = play_seats(world, chunk, policy, generator)
                parts.write(index, played, Episode)
            bar.advance(len(chunk))
    return parts.read(Episode, len(chunks))


def _take(stage: Stage, parts: Parts) -> list[Episode]:
    """Imported episodes of the split and of the recipe's world, as whole tasks. Held-out tasks keep their split."""
    config, name = stage.recipe.collect, load_world(stage.recipe).name
    episodes = imported_episodes(config.episodes)
    of_world = [episode for episode in episodes if episode.task.world == name]
    of_split = [episode for episode in of_world if episode.task.split == config.split]
    tasks = list(dict.fromkeys(episode.task.id for episode in of_split))
    chosen = set(tasks[: config.num_tasks])
    taken = [episode for episode in of_split if episode.task.id in chosen]
    if not taken:
        others = sorted({f"{episode.task.world}/{episode.task.split}" for episode in episodes})
        raise RwmlError(
            f"'{config.episodes}' holds no episodes of the world {name} in the split '{config.split}'",
            "there would be nothing to train on",
            f"it holds {', '.join(others)}: set world.name and collect.split to one of them",
        )
    size = config.episodes_in_flight
    with progress("collect", total=len(taken), unit="episode") as bar:
        for index, start in enumerate(range(0, len(taken), size)):
            parts.write(index, taken[start : start + size], Episode)
            bar.advance(len(taken[start : start + size]))
    stage.counts["imported, of other splits"] = len(of_world) - len(of_split)
    stage.counts["imported, of other worlds"] = len(episodes) - len(of_world)
    stage.counts["imported, beyond num_tasks"] = len(of_split) - len(taken)
    return taken


def count_episodes(counts: dict[str, float], episodes: list[Episode]) -> None:
    """Note in a stage's counts what the episodes hold, failed, unparsed and truncated ones included."""
    counts["episodes"] = len(episodes)
    counts["won"] = sum(episode.success for episode in episodes)
    for reason, number in sorted(Counter(episode.stop.value for episode in episodes).items()):
        counts[f"stopped by {reason}"] = number
    steps = [step for episode in episodes for step in episode.steps]
    counts["steps"] = len(steps)
    counts["unparsed actions"] = sum(not step.parsed for step in steps)
    counts["invalid actions"] = sum(step.parsed and not step.valid for step in steps)
    counts["truncated answers"] = sum(step.truncated for step in steps)
