"""What follows from a `GameSpec` and is needed at every step: names, neighbours, ready-made command texts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from sys import intern

from rwml.worlds.alfworld.engine.parse import GameSpec, shared


def listing(words: Sequence[str]) -> str:
    """The game's way to list things: `a, and b`, or `nothing`."""
    if not words:
        return "nothing"
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + ", and " + words[-1]


class Tables:
    """Derived from one spec, shared by its games; kept small, as there may be one for each of thousands of games.

    receptacles_at: per location, its receptacles in the order of their ids. by_name: the same, ordered by name.
    receptacles: number by name. articled: "a <name>" per object. go: (command, locations) per receptacle, sorted.
    pickupable, cleanable, ...: masks over objects. holders: mask of the objects that can hold others.
    """

    __slots__ = (
        "articled",
        "by_name",
        "cleanable",
        "coolable",
        "go",
        "heatable",
        "holders",
        "pickupable",
        "receptacles",
        "receptacles_at",
        "sliceable",
        "toggleable",
    )

    def __init__(self, spec: GameSpec) -> None:
        names, places = spec.receptacle_names, spec.receptacle_locations
        self.receptacles_at, self.by_name = _neighbours(names, places, spec.num_locations)
        self.receptacles = _numbers(names)
        self.articled = tuple(intern(f"a {name}") for name in spec.object_names)
        self.go = _go_commands(names, places)
        self.pickupable, self.cleanable = spec.mask("pickupable"), spec.mask("cleanable")
        self.heatable, self.coolable = spec.mask("heatable"), spec.mask("coolable")
        self.toggleable, self.sliceable = spec.mask("toggleable"), spec.mask("sliceable")
        self.holders = spec.mask("isreceptacleobject")

    def go_commands(self, location: int) -> list[str]:
        """The sorted `go to` commands at a location: every receptacle that can be found elsewhere."""
        only = (location,)
        return [command for command, places in self.go if places != only]


def tables_of(spec: GameSpec) -> Tables:
    """The tables of a spec; made once."""
    if not spec.tables:
        spec.tables.append(Tables(spec))
    tables: Tables = spec.tables[0]
    return tables


_Groups = tuple[tuple[int, ...], ...]


@lru_cache(maxsize=4096)
def _neighbours(names: tuple[str, ...], places: _Groups, num_locations: int) -> tuple[_Groups, _Groups]:
    receptacles_at: list[list[int]] = [[] for _ in range(num_locations)]
    for receptacle, locations in enumerate(places):
        for location in locations:
            receptacles_at[location].append(receptacle)
    by_name = (tuple(sorted(members, key=names.__getitem__)) for members in receptacles_at)
    return shared(tuple(shared(tuple(members)) for members in receptacles_at)), shared(tuple(map(shared, by_name)))


@lru_cache(maxsize=4096)
def _numbers(names: tuple[str, ...]) -> dict[str, int]:
    return {name: number for number, name in enumerate(names)}


@lru_cache(maxsize=4096)
def _go_commands(names: tuple[str, ...], places: _Groups) -> tuple[tuple[str, tuple[int, ...]], ...]:
    pairs = (shared((intern(f"go to {name}"), at)) for name, at in zip(names, places, strict=True) if at)
    return tuple(sorted(pairs))
