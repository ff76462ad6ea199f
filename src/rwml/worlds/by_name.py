"""All worlds by name: ours, those of installed packages (entry points `rwml.worlds`), your own as `module:Class`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rwml.core.errors import RwmlError, nearest
from rwml.core.guard.trust import check_server
from rwml.core.registry import Registry
from rwml.worlds.answers import reason_of
from rwml.worlds.base import AsksServers, World

WORLDS: Registry[Callable[..., World]] = Registry(
    "world",
    "rwml.worlds",
    {"alfworld": "rwml.worlds.alfworld.world", "tau2": "rwml.worlds.tau2.world", "chat": "rwml.worlds.chat_world"},
    [name for name, member in vars(World).items() if inspect.isfunction(member) and not name.startswith("_")],
)
register = WORLDS.register
"""`@register("boxes")` above a class enters it; a recipe's `world.options` are the keywords that it is made with."""


class NotMade(RwmlError):
    """The constructor of a world raised an error of its own."""


def get_world(name: str, **options: Any) -> World:
    """Make a world by a name of `WORLDS`, or by a "module:Class" that the user has allowed.

    RwmlError names the nearest world or option, and the methods that a class of your own lacks.
    """
    make = WORLDS.get(name)
    if inspect.isabstract(make):
        missing = ", ".join(sorted(getattr(make, "__abstractmethods__", ())))
        raise RwmlError(f"the world {name} has no {missing}", "a world lists tasks and makes environments", "write it")
    parameters = inspect.signature(make).parameters
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        for key in options.keys() - parameters.keys():
            known = f"{nearest(key, parameters)}; world.options={{}} drops all options that a recipe sets"
            raise RwmlError(f"the world {name} has no option '{key}'", "it would change nothing", known)
    try:
        return make(**options)
    except RwmlError:
        raise
    except (Exception, SystemExit) as error:  # whatever the constructor of a world raises
        raise NotMade(
            f"{name} cannot be made: {reason_of(error)}",
            "a world is made before anything is played or learnt in it",
            "mend its __init__, or the options that it is given (world.options)",
        ) from error


def world_of(name: str, options: Mapping[str, Any]) -> World:
    """The world that a recipe names. RwmlError, before anything is sent, if it would ask a server that the user has not
    allowed."""
    world = get_world(name, **options)
    for server in world.servers() if isinstance(world, AsksServers) else ():
        check_server(f"the world {name}", server)
    return world
