"""Read a `game.tw-pddl` file into a `GameSpec`: everything about a game that play does not change."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from sys import intern
from typing import Any

from rwml.core.errors import RwmlError
from rwml.core.text import as_unicode, is_unicode, shortened
from rwml.worlds.alfworld.engine.goal import LETTERS, PREDICATES, Tree, compile_goal, read_tree, write_tree
from rwml.worlds.alfworld.engine.rules import Tools, broken, read_domain, read_grammar

GAME_FILE = "game.tw-pddl"
# The largest official file has 140,000 characters and 73 objects.
MAX_CHARACTERS, MAX_ENTITIES = 4_000_000, 1_000
_ARITY = {"cancontain": 2, **{name: len(predicate.sorts) for name, predicate in PREDICATES.items()}}

# Object properties that play reads; each becomes one bit mask over the objects.
PROPERTIES = (
    "pickupable", "cleanable", "heatable", "coolable", "toggleable", "sliceable", "isreceptacleobject",
    "isclean", "ishot", "iscool", "ison", "istoggled", "issliced",
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class GameSpec:
    """One game as written in its file: immutable, and shared by all games that are played from it.

    Objects, receptacles and locations are numbered in the order of their sorted ids, which is the order of every
    list that the game prints. Masks are integers with bit i for object i (or receptacle i).

    receptacle_locations, object_locations: numbers of the locations of each receptacle and object.
    fits: per object, the mask of the receptacles whose type may contain it (`canContain`).
    contents: per receptacle, the objects in it, ascending; an object may be in several.
    inner: pairs (object, holder) of `inReceptacleObject`.
    sinks, microwaves, fridges, knives: masks of the receptacles (and objects) that clean, heat, cool (and slice).
    goal: the goal as normalised text; entities are replaced by `o:3`, `r:0`, `l:5`, `a:0`.
    start, held: location of the agent, object in hand (-1: none).
    """

    task: str
    help: str
    walkthrough: tuple[str, ...]
    goal: str
    object_names: tuple[str, ...]
    object_types: tuple[tuple[str, ...], ...]
    object_locations: tuple[tuple[int, ...], ...]
    masks: tuple[int, ...]
    fits: tuple[int, ...]
    receptacle_names: tuple[str, ...]
    receptacle_types: tuple[tuple[str, ...], ...]
    receptacle_locations: tuple[tuple[int, ...], ...]
    openable: int
    opened: int
    contents: tuple[tuple[int, ...], ...]
    inner: tuple[tuple[int, int], ...]
    sinks: int
    microwaves: int
    fridges: int
    knives: int
    num_locations: int
    start: int
    held: int
    tables: list[Any] = field(default_factory=list, repr=False)  # filled by the first Game that plays this spec

    def mask(self, name: str) -> int:
        """Bit mask of the objects with one of `PROPERTIES` at the start."""
        return self.masks[PROPERTIES.index(name)]


def game_path(path: str | Path) -> Path:
    """Return the path of the game file: `path` itself, or the one in the folder `path`."""
    path = Path(path)
    return path / GAME_FILE if path.is_dir() else path


def read_game(path: str | Path) -> GameSpec:
    """Parse the game file at `path` (or in the folder `path`). Raises RwmlError if the file is not a game."""
    path = game_path(path)
    try:
        # A pipe or a device has no end, and would be read for ever.
        if path.exists() and not path.is_file():
            raise no_game(path, "it is not a file")
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise no_game(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise no_game(path, f"not a text file ({error.reason})") from error
    return parse_game(text, as_unicode(str(path)))


def no_game(path: Path, reason: str) -> RwmlError:
    """The error for a path that no game can be read from."""
    return RwmlError(
        f"cannot read the game file {as_unicode(str(path))}: {reason}",
        "every ALFWorld task is played from its game.tw-pddl",
        "check the path, or point ALFWORLD_DATA at the folder that holds json_2.1.1 (`alfworld-download` makes it)",
    )


def parse_game(text: str, where: str = "game") -> GameSpec:
    """Parse the text of a game file. `where` names it in errors. RwmlError: it is no game, or larger than any game."""
    if len(text) > MAX_CHARACTERS:
        raise broken(where, f"it has more than {MAX_CHARACTERS:,} characters")
    try:
        data = json.loads(text)
    except ValueError as error:
        raise broken(where, f"it ends early or is not JSON ({error})") from error
    except RecursionError as error:
        raise broken(where, "its JSON is nested too deep") from error
    for key in ("pddl_domain", "pddl_problem", "grammar"):
        if not isinstance(data, dict) or not isinstance(data.get(key), str):
            raise broken(where, f"it has no text {key!r}")
        if not is_unicode(data[key]):
            raise broken(where, f"its {key} holds half a character, which no file can keep")
    tools = read_domain(data["pddl_domain"], where)
    task, help_text = read_grammar(data["grammar"], where)
    walkthrough = data.get("walkthrough") or []
    if not isinstance(walkthrough, list) or not all(isinstance(step, str) for step in walkthrough):
        raise broken(where, "its walkthrough is not a list of texts")
    try:
        sections = _sections(data["pddl_problem"])
    except ValueError as error:
        raise broken(where, f"its pddl_problem cannot be read ({error})") from error
    spec = _build(sections, tools, where)
    return GameSpec(task, help_text, tuple(map(intern, walkthrough)), *spec)


def _sections(problem: str) -> dict[str, list[Any]]:
    """Split a PDDL problem into its parts by name (`:objects`, `:init`, `:goal`)."""
    tree = read_tree(problem)
    if not isinstance(tree, list) or not tree or tree[0] != "define":
        raise ValueError("it does not begin with (define ...)")
    parts = {part[0]: part[1:] for part in tree[1:] if isinstance(part, list) and part and isinstance(part[0], str)}
    for name in (":objects", ":init", ":goal"):
        if name not in parts:
            raise ValueError(f"it has no ({name} ...)")
    return parts


_Rows = list[tuple[str, ...]]


class _Facts:
    """The ground facts of `:init`, by predicate, without duplicates."""

    def __init__(self, init: list[Any], where: str) -> None:
        self.rows: dict[str, set[tuple[str, ...]]] = {}
        for fact in init:
            # `(= (total-cost) 0)` sets a number and `(not (p))` says what silence says too: neither is a fact.
            # A part that is a list cannot be hashed, which tells both apart from facts.
            if isinstance(fact, list) and fact and fact[0] != "=":
                with suppress(TypeError):
                    self.rows.setdefault(fact[0], set()).add(tuple(fact[1:]))
        for predicate, parts in _ARITY.items():
            odd = next((row for row in self[predicate] if len(row) != parts), None)
            if odd is not None:
                raise broken(where, f"a fact of its {predicate!r} has {len(odd)} parts, not {parts}")

    def __getitem__(self, predicate: str) -> set[tuple[str, ...]]:
        return self.rows.get(predicate, set())

    def entities(self) -> set[str]:
        return set().union(*(row for rows in self.rows.values() for row in rows))


def _sorts(objects: list[Any]) -> dict[str, str]:
    """Map each declared entity to its sort, from `a b - sort c - sort`."""
    sorts: dict[str, str] = {}
    waiting: list[str] = []
    words = iter(objects)
    for word in words:
        if word == "-":
            sort = str(next(words, ""))
            sorts.update(dict.fromkeys(waiting, sort))
            waiting = []
        else:
            waiting.append(str(word))
    return sorts


def _names(entities: Iterable[str]) -> dict[str, str]:
    """Number the entities of one name, counting down over their sorted ids."""
    stems = {}
    for entity in sorted(entities):
        stem, bar, _ = entity.partition("_bar_")
        stems[entity] = (stem + "basin" * ("basin" in entity), bool(bar))
    left = Counter(stem for stem, numbered in stems.values() if numbered)
    names = {}
    for entity, (stem, numbered) in stems.items():
        names[entity] = intern(f"{stem} {left[stem]}" if numbered else f"{stem} ")
        left[stem] -= numbered
    return names


@lru_cache(maxsize=65536)
def shared(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Keep one copy of tuples that most games have in common."""
    return row


def _build(sections: dict[str, list[Any]], tools: Tools, where: str) -> tuple[Any, ...]:
    """Return the fields of GameSpec from `goal` on."""
    facts = _Facts(sections[":init"], where)
    sorts = _sorts(sections[":objects"])
    present = facts.entities()
    ids = {sort: sorted(entity for entity in present if sorts.get(entity) == sort) for sort in LETTERS}
    for sort, members in ids.items():
        if len(members) > MAX_ENTITIES:
            raise broken(where, f"it has {len(members):,} things of the sort {sort!r}, more than {MAX_ENTITIES:,}")
    index = {entity: place for members in ids.values() for place, entity in enumerate(members)}
    objects, receptacles = ids["object"], ids["receptacle"]
    names = _names(present)

    def rows(predicate: str, *kinds: str) -> _Rows:
        return sorted(row for row in facts[predicate] if tuple(map(sorts.get, row)) == kinds)

    def group(members: list[str], pairs: _Rows, *, numbered: bool) -> tuple[tuple[Any, ...], ...]:
        values: dict[str, list[Any]] = {member: [] for member in members}
        for key, value in pairs:
            values[key].append(index[value] if numbered else intern(value))
        return shared(tuple(shared(tuple(row)) for row in values.values()))

    def mask(predicate: str, sort: str) -> int:
        return sum(1 << index[row[0]] for row in rows(predicate, sort))

    inside = [(r, o) for o, r in rows("inreceptacle", "object", "receptacle")]
    start, held = _agent(index, where, rows("atlocation", "agent", "location"), rows("holds", "agent", "object"))
    object_types = group(objects, rows("objecttype", "object", "otype"), numbered=False)
    receptacle_types = group(receptacles, rows("receptacletype", "receptacle", "rtype"), numbered=False)
    return (
        _link_goal(sections[":goal"], sorts, index, where),
        shared(tuple(names[entity] for entity in objects)),
        object_types,
        group(objects, rows("objectatlocation", "object", "location"), numbered=True),
        tuple(mask(name, "object") for name in PROPERTIES),
        shared(_fits(object_types, receptacle_types, facts["cancontain"])),
        shared(tuple(names[entity] for entity in receptacles)),
        receptacle_types,
        group(receptacles, rows("receptacleatlocation", "receptacle", "location"), numbered=True),
        mask("openable", "receptacle"),
        mask("opened", "receptacle"),
        group(receptacles, sorted(inside), numbered=True),
        tuple((index[o], index[holder]) for o, holder in rows("inreceptacleobject", "object", "object")),
        *(_of_types(receptacle_types, kinds) for kinds in (tools.clean, tools.heat, tools.cool)),
        _of_types(object_types, tools.slice),
        len(ids["location"]),
        start,
        held,
    )


def _agent(index: dict[str, int], where: str, at: _Rows, holds: _Rows) -> tuple[int, int]:
    """Number of the agent's location, and of the object in its hand (-1: none)."""
    if len(at) != 1 or len(holds) > 1:
        raise broken(where, f"its agent is at {len(at)} locations and holds {len(holds)} objects")
    return index[at[0][1]], index[holds[0][1]] if holds else -1


def _of_types(types: Iterable[tuple[str, ...]], wanted: frozenset[str]) -> int:
    return sum(1 << number for number, kinds in enumerate(types) if not wanted.isdisjoint(kinds))


def _fits(
    object_types: tuple[tuple[str, ...], ...],
    receptacle_types: tuple[tuple[str, ...], ...],
    can_contain: set[tuple[str, ...]],
) -> tuple[int, ...]:
    """Per object, the mask of receptacles with a `canContain` pair for one of their types and one of its own."""
    accepts: dict[str, int] = {}
    for place, types in enumerate(receptacle_types):
        for kind in types:
            accepts[kind] = accepts.get(kind, 0) | 1 << place
    by_type: dict[str, int] = {}
    for receptacle_type, object_type in can_contain:
        by_type[object_type] = by_type.get(object_type, 0) | accepts.get(receptacle_type, 0)
    fits = []
    for types in object_types:
        total = 0
        for kind in types:
            total |= by_type.get(kind, 0)
        fits.append(total)
    return tuple(fits)


def _link_goal(goal: list[Any], sorts: dict[str, str], index: dict[str, int], where: str) -> str:
    """Replace the entities in the goal by their numbers, and make sure that play can check it."""
    if len(goal) != 1:
        raise broken(where, "its goal is not one condition")

    def link(node: Tree) -> Tree:
        if isinstance(node, str):
            letter = LETTERS.get(sorts.get(node, ""))
            if letter is None and node.partition(":")[0] in LETTERS.values():
                raise ValueError(f"{shortened(node, 60)!r} is not declared")
            return node if letter is None else f"{letter}:{index.get(node, -1)}"
        return [link(part) for part in node]

    try:
        text = intern(write_tree(link(goal[0])))
        compile_goal(text)
    except ValueError as error:
        raise broken(where, f"its goal cannot be checked ({error})") from error
    return text
