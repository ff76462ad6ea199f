"""`rwml transitions`: episodes -> `(s_<=t, a_t, s_{t+1})` rows (RWML, step 2) -> transitions.parquet."""

from __future__ import annotations

from collections import Counter

from rwml.core.errors import RwmlError
from rwml.core.progress import progress
from rwml.core.records import read_episodes, write_records
from rwml.core.run import Run
from rwml.core.seeds import share_of
from rwml.core.types import Transition
from rwml.loading import load_world
from rwml.playing.failures import say_failures
from rwml.worlds.transitions import transitions_of


def run(run: Run) -> None:
    """Cut every episode into transitions; a share of the tasks is set aside as split `valid`, with all its rows.

    RwmlError if there is no row.
    """
    with run.stage("transitions", reads=[run.folder / "episodes"], sections=["world", "transitions"]) as stage:
        world, config = load_world(stage.recipe), stage.recipe.transitions
        episodes = read_episodes(stage.folder / "episodes")
        rows: list[Transition] = []
        failed: list[str] = []
        with progress("transitions", total=len(episodes), unit="episode") as bar:
            for episode in episodes:
                split = _split(episode.task.id, config.valid_fraction)
                rows.extend(transitions_of(episode, world, split, config.history_steps, failed=failed))
                bar.advance(1)
        write_records(stage.folder / "transitions.parquet", rows, Transition)
        stage.counts["transitions"] = len(rows)
        stage.counts["knowable from the history"] = sum(row.knowable for row in rows)
        for split, number in sorted(Counter(row.split for row in rows).items()):
            stage.counts[f"split {split}"] = number
        stage.counts["unparsed actions left out"] = sum(not s.parsed for e in episodes for s in e.steps)
        stage.counts["last steps that nothing answered"] = sum(not s.observation for e in episodes for s in e.steps)
        stage.counts["failed episodes"] = sum(bool(e.error) for e in episodes)
        stage.counts["steps that the world failed to describe"] = len(failed)
        say_failures("transitions", Counter(failed), len(rows) + len(failed), "steps")
        if not rows:
            steps = sum(len(episode.steps) for episode in episodes)
            unread = stage.counts["unparsed actions left out"]
            why = f"the world failed to describe {len(failed)} of them, and {unread} have no readable action"
            raise RwmlError(
                f"{len(episodes)} episodes with {steps} steps gave no transition: {why}",
                "there is nothing to learn from",
                "see the counts of collect (`rwml report RECIPE`), mend what they name, and collect again "
                "(`rwml run RECIPE --force collect`)",
            )


def _split(task_id: str, valid_fraction: float) -> str:
    return "valid" if share_of("valid", task_id) < valid_fraction else "train"
