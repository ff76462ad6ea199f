"""All worlds by name. A world is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from inspect import Parameter, signature
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.worlds.base import World

# name: module and class. The class takes the recipe's `world.options` as keywords.
WORLDS = {
    "alfworld": ("rwml.worlds.alfworld.world", "AlfWorld"),
    "tau2": ("rwml.worlds.tau2.world", "Tau2World"),
    "chat": ("rwml.worlds.chat", "ChatLogs"),
}


def get_world(name: str, **options: Any) -> World:
    """Make a world: one of `WORLDS`, or your own class as "module:Class", which must be importable.

    RwmlError names the nearest one if there is no such world, and what is wrong with an option.
    """
    module, _, kind = name.partition(":")
    if not kind:
        if name not in WORLDS:
            raise RwmlError(
                f"there is no world '{name}'", "a world says which tasks are played, and how", nearest(name, WORLDS)
            )
        module, kind = WORLDS[name]
    try:
        make = getattr(import_module(module), kind)
    except (ImportError, AttributeError) as error:
        raise RwmlError(
            f"world '{name}' cannot be imported: {error}",
            "a world of your own is a class in a module that Python finds",
            "write module:Class, and put the module's folder on PYTHONPATH",
        ) from None
    taken = signature(make).parameters
    if not any(parameter.kind is Parameter.VAR_KEYWORD for parameter in taken.values()):
        for key in options.keys() - taken.keys():
            raise RwmlError(f"the world {name} has no option '{key}'", "it would change nothing", nearest(key, taken))
    world: World = make(**options)
    return world
