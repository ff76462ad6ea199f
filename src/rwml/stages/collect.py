"""`rwml collect`: rollouts of the target model in the world (RWML, step 1) -> episodes/*.parquet."""

from __future__ import annotations

from collections import Counter

from rwml.core.manifest import Run
from rwml.core.progress import progress
from rwml.core.store import Parts
from rwml.core.types import Episode
from rwml.engine.rollout import play_seats, seats_for
from rwml.engine.setup import load_player, load_world
from rwml.engine.trainer import generator_for


def run(run: Run) -> None:
    """Play every task `rollouts_per_task` times; each part of `episodes_in_flight` is written when done."""
    recipe = run.recipe
    config = recipe.collect
    with run.stage("collect", reads=[], sections=["world", "model", "collect"]) as stage:
        world = load_world(recipe)
        tasks = world.tasks(config.split)
        seats = seats_for(tasks[: config.num_tasks or len(tasks)], config.rollouts_per_task, recipe.seed)
        size = config.episodes_in_flight
        chunks = [seats[i : i + size] for i in range(0, len(seats), size)]
        parts = Parts(run.folder / "episodes")
        player = load_player(recipe, config.temperature, config.max_new_tokens, recipe.world.max_steps)

        with progress("collect", total=len(seats), unit="episode") as bar:
            for index, chunk in enumerate(chunks):
                if not parts.done(index):
                    generator = generator_for(recipe.seed, "collect", index)
                    played = play_seats(world, chunk, config.policy, player, recipe.world.max_steps, generator)
                    parts.write(index, played, Episode)
                bar.advance(len(chunk))
        count_episodes(stage.counts, parts.read(Episode, len(chunks)))


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
