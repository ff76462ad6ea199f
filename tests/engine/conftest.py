"""A small model that answers badly, and small scenes to play in."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwml.core.types import Transition
from rwml.play.rollout import play_actor, seats_for
from rwml.worlds.transitions import transitions_of
from rwml.models.language_model import Mind, load_mind
from rwml.worlds.base import World
from rwml.worlds.registry import get_world


@pytest.fixture(scope="session")
def world() -> World:
    return get_world("alfworld", size="tiny", num_train=8, num_valid_seen=2, num_valid_unseen=2, num_scenes=12)


@pytest.fixture
def mind(mind_folder: Path) -> Mind:
    """A fresh copy each time: some tests train it."""
    return load_mind(mind_folder, device="cpu")


@pytest.fixture(scope="session")
def rows(world: World) -> list[Transition]:
    """The transitions of three noisy episodes of at most five steps, in order."""
    episodes = play_actor(world, seats_for(world.tasks("train")[:3], 1, seed=0), "noisy", 5)
    return [row for episode in episodes for row in transitions_of(episode, world, "train")]
