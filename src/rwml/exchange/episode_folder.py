"""A folder of episodes that `rwml import` made of logs, as later stages read it."""

from __future__ import annotations

from pathlib import Path

from rwml.core.errors import RwmlError
from rwml.core.records import Parts, read_episodes
from rwml.core.types import Episode


def imported_episodes(folder: str | Path, split: str | None = None) -> list[Episode]:
    """The episodes of a folder that `rwml import` wrote, in order: all, or those whose task is of a split.

    folder: `OUT/episodes`, or `OUT` itself. RwmlError if it holds no episode at all.
    """
    folder = Path(folder).expanduser()
    folder = folder / "episodes" if (folder / "episodes").is_dir() else folder
    if not Parts(folder).count():
        raise RwmlError(
            f"'{folder}' holds no imported episodes",
            "they are used instead of episodes that the model plays",
            "make them with `rwml import FILES --out FOLDER`, and set collect.episodes to FOLDER/episodes",
        )
    return [episode for episode in read_episodes(folder) if split is None or episode.task.split == split]
