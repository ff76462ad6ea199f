"""All worlds by name. A world is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.worlds.base import World

# name: module and class. The class takes the recipe's `world.options` as keywords.
WORLDS = {"alfworld": ("rwml.worlds.alfworld.world", "AlfWorld")}


def get_world(name: str, **options: Any) -> World:
    """Make a world; RwmlError names the nearest one if there is no such world, and what is wrong with an option."""
    if name not in WORLDS:
        raise RwmlError(
            f"there is no world '{name}'", "a world says which tasks are played, and how", nearest(name, WORLDS)
        )
    module, kind = WORLDS[name]
    world: World = getattr(import_module(module), kind)(**options)
    return world
