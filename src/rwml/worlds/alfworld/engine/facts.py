"""The state of a `Game` as a goal reads it: true facts by predicate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from rwml.worlds.alfworld.engine.goal import Value
from rwml.worlds.alfworld.engine.parse import PROPERTIES, GameSpec

Pattern = tuple[Value | None, ...]
_TREATED = {"isclean": "clean", "ishot": "hot", "iscool": "cool", "ison": "on", "istoggled": "toggled",
            "issliced": "sliced"}  # fmt: skip


class GameState(Protocol):
    """What goals read of a game in play: numbers and masks as in its spec, and masks of the objects in each state."""

    spec: GameSpec
    location: int
    held: int
    opened: int
    contents: list[tuple[int, ...]]
    places: list[tuple[int, ...]]
    clean: int
    hot: int
    cool: int
    on: int
    toggled: int
    sliced: int


class GameFacts:
    """`goal.Facts` over the present state of a game."""

    __slots__ = ("game",)

    def __init__(self, game: GameState) -> None:
        self.game = game

    def count(self, sort: str) -> int:
        spec = self.game.spec
        counts = {"object": len(spec.object_names), "receptacle": len(spec.receptacle_names)}
        return counts.get(sort, spec.num_locations if sort == "location" else 1)

    def holds(self, predicate: str, args: tuple[Value, ...]) -> bool:
        return any(True for _ in self.rows(predicate, args))

    def rows(self, predicate: str, pattern: Pattern) -> Iterable[tuple[Value, ...]]:
        if predicate in PROPERTIES:
            return _bits(self._mask(predicate), pattern[0])
        game = self.game
        if predicate == "inreceptacle":
            return _inverse(game.contents, pattern)
        if predicate == "objecttype":
            return _typed(game.spec.object_types, pattern)
        if predicate == "receptacletype":
            return _typed(game.spec.receptacle_types, pattern)
        if predicate in ("opened", "openable"):
            return _bits(game.opened if predicate == "opened" else game.spec.openable, pattern[0])
        if predicate == "receptacleatlocation":
            return _direct(game.spec.receptacle_locations, pattern)
        if predicate == "objectatlocation":
            return _direct(game.places, pattern)
        if predicate == "inreceptacleobject":
            return (row for row in game.spec.inner if _agrees(row, pattern))
        return (row for row in self._agent(predicate) if _agrees(row, pattern))

    def _mask(self, predicate: str) -> int:
        treated = _TREATED.get(predicate)
        mask: int = self.game.spec.mask(predicate) if treated is None else getattr(self.game, treated)
        return mask

    def _agent(self, predicate: str) -> list[tuple[Value, ...]]:
        game = self.game
        if predicate == "atlocation":
            return [(0, game.location)]
        if game.held < 0:
            return []
        return [(0, game.held)] if predicate == "holds" else [(0,)]


def _agrees(row: tuple[Value, ...], pattern: Pattern) -> bool:
    return all(want is None or want == have for want, have in zip(pattern, row, strict=True))


def _bits(mask: int, number: Value | None) -> Iterator[tuple[Value, ...]]:
    if number is not None:
        if int(number) >= 0 and mask >> int(number) & 1:
            yield (number,)
        return
    while mask:
        low = mask & -mask
        yield (low.bit_length() - 1,)
        mask ^= low


def _direct(values: Iterable[tuple[int, ...]], pattern: Pattern) -> Iterator[tuple[Value, ...]]:
    """Rows (i, v) for v in values[i]."""
    first, second = pattern
    for number, members in enumerate(values):
        if first is None or first == number:
            for member in members:
                if second is None or second == member:
                    yield number, member


def _inverse(values: Iterable[tuple[int, ...]], pattern: Pattern) -> Iterator[tuple[Value, ...]]:
    """Rows (v, i) for v in values[i]."""
    for number, member in _direct(values, (pattern[1], pattern[0])):
        yield member, number


def _typed(types: tuple[tuple[str, ...], ...], pattern: Pattern) -> Iterator[tuple[Value, ...]]:
    """Rows (i, kind) for a kind, which goals always name, in types[i]."""
    number, kind = pattern
    if number is None:
        for member, kinds in enumerate(types):
            if kind in kinds:
                yield member, str(kind)
    elif int(number) >= 0 and kind in types[int(number)]:
        yield number, str(kind)
