"""Thousands of games at once: decoded on demand from one compact file that is made at the first start.

The file is a line of JSON (format, version, size and checksum of the index), a compressed index (a row per game file,
and the pool of texts and short tuples that games have in common), and one compressed JSON record per game, which names
them by their place in the pool. It is derived from the game files and never trusted beyond them: a row
counts only while the size and time stamp of its game file are the same, a record only while its checksum is right, and
a file that is truncated, foreign or of another version is made again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from sys import intern
from typing import Any, NamedTuple, overload

from rwml.core.errors import RwmlError
from rwml.core.files import atomic_file
from rwml.worlds.alfworld.engine.game import Game, read_playable
from rwml.worlds.alfworld.engine.parse import GameSpec, game_path

FORMAT = "rwml-alfworld-games"
VERSION = 2  # raise it whenever GameSpec or the rules in parse.py change

_FIELDS = tuple(item.name for item in fields(GameSpec) if item.name != "tables")
_POOLED = {"task", "help", "goal"}
_POOLED_ITEMS = {
    "walkthrough", "object_names", "object_types", "object_locations", "receptacle_names", "receptacle_types",
    "receptacle_locations", "contents", "inner",
}  # fmt: skip


class _Row(NamedTuple):
    """Where the record of a game file lies, and what the file looked like when it was parsed."""

    size: int
    mtime_ns: int
    offset: int
    length: int
    checksum: int


class Games(Sequence[Game]):
    """Games by position, in the order of the paths. Each access gives a new `Game` on a spec that is kept.

    reused: how many records of the cache were good; parsed: how many games had to be parsed from their files.
    broken: the places of the files that were to be parsed at once and are no games; asking for one raises its error.
    rebuilt: why the cache as a whole was not used ("" when it was, or when none was asked for).
    unsaved: why the cache could not be written ("" when it was, or needed not be); the games are fine all the same.
    """

    def __init__(self, paths: Sequence[Path], content: _Content | None, rows: Sequence[_Row | None]) -> None:
        self.paths = list(paths)
        self.reused = self.parsed = 0
        self.rebuilt = content.problem if content else ""
        self.unsaved = ""
        self.broken: dict[int, RwmlError] = {}
        self._content, self._rows = content, rows
        self._specs: list[GameSpec | None] = [None] * len(self.paths)

    def __len__(self) -> int:
        return len(self.paths)

    @overload
    def __getitem__(self, place: int) -> Game: ...
    @overload
    def __getitem__(self, place: slice) -> list[Game]: ...
    def __getitem__(self, place: int | slice) -> Game | list[Game]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        return Game(self.spec(place))

    def spec(self, place: int) -> GameSpec:
        """The parsed game at a position; decoded at the first call. Raises RwmlError if the file is not a game."""
        if place in self.broken:
            raise self.broken[place]
        spec = self._specs[place]
        if spec is None:
            row, content = self._rows[place], self._content
            if row is not None and content is not None:
                spec = content.pool.decode(content.records[row.offset : row.offset + row.length], row.checksum)
            if spec is None:
                self.parsed += 1
                spec = read_playable(self.paths[place])
            else:
                self.reused += 1
            self._specs[place] = spec
        return spec


def load_games(
    paths: Sequence[str | Path],
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Games:
    """Open games (files, or folders with a game.tw-pddl), through the file `cache` if one is given.

    Without a cache each game is parsed when it is first asked for. With one, games that it lacks, or whose files have
    changed, are parsed now (about 5 ms each; `progress(done, total)` is called after each) and the cache is written
    again, whole. A missing or broken game file is an RwmlError when its game is asked for, and none of the others
    suffers (`Games.broken`). An unwritable cache is no error (`Games.unsaved`).
    """
    files = [game_path(path) for path in paths]
    if cache is None:
        return Games(files, None, [None] * len(files))
    stamps = [_stamp(path) for path in files]
    content = _read(Path(cache))
    keys = [str(path.absolute()) for path in files]
    rows = [_current(content.rows.get(key), stamp) for key, stamp in zip(keys, stamps, strict=True)]
    games = Games(files, content, rows)
    missing = [place for place, row in enumerate(rows) if row is None]
    for done, place in enumerate(missing, start=1):
        try:
            games.spec(place)
        except RwmlError as error:
            games.broken[place] = error
        if progress is not None:
            progress(done, len(missing))
    missing = [place for place in missing if place not in games.broken]
    if missing:
        blobs = {key: (content.records[row.offset : row.offset + row.length], row) for key, row in content.rows.items()}
        for place in missing:
            blob = content.pool.encode(games.spec(place))
            stamp = stamps[place]
            assert stamp is not None, "a file without a stamp is broken"
            blobs[keys[place]] = (blob, _Row(*stamp, 0, len(blob), zlib.crc32(blob)))
        try:
            _write(Path(cache), content.pool, blobs)
        except (RwmlError, OSError) as error:
            games.unsaved = error.what if isinstance(error, RwmlError) else str(error)
    return games


def _stamp(path: Path) -> tuple[int, int] | None:
    """What a file looks like from outside; None for one that is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _current(row: _Row | None, stamp: tuple[int, int] | None) -> _Row | None:
    return row if row is not None and (row.size, row.mtime_ns) == stamp else None


class _Pool:
    """Texts and tuples by number, each kept once."""

    def __init__(self, values: Sequence[Any] = ()) -> None:
        self.values = [_freeze(value) for value in values]
        self._numbers = {value: number for number, value in enumerate(self.values)}

    def number(self, value: Any) -> int:
        number = self._numbers.setdefault(value, len(self.values))
        if number == len(self.values):
            self.values.append(value)
        return number

    def encode(self, spec: GameSpec) -> bytes:
        values = []
        for name in _FIELDS:
            value = getattr(spec, name)
            if name in _POOLED:
                value = self.number(value)
            elif name in _POOLED_ITEMS:
                value = [self.number(item) for item in value]
            values.append(value)
        return zlib.compress(json.dumps(values, separators=(",", ":")).encode(), 6)

    def decode(self, blob: bytes, checksum: int) -> GameSpec | None:
        """The spec in a record, or None when the record is damaged."""
        if zlib.crc32(blob) != checksum:
            return None
        fetch = self.values.__getitem__
        values = []
        for name, value in zip(_FIELDS, json.loads(zlib.decompress(blob)), strict=True):
            if name in _POOLED:
                value = fetch(value)
            elif name in _POOLED_ITEMS:
                value = tuple(map(fetch, value))
            elif value.__class__ is list:
                value = tuple(value)
            values.append(value)
        return GameSpec(*values)


def _freeze(value: Any) -> Any:
    if value.__class__ is list:
        return tuple([_freeze(item) for item in value])
    return intern(value) if value.__class__ is str else value


class _Content(NamedTuple):
    """A cache file as read. problem: why it is empty ("" when it is not)."""

    rows: dict[str, _Row]
    pool: _Pool
    records: bytes
    problem: str


def _read(cache: Path) -> _Content:
    def unusable(problem: str) -> _Content:
        return _Content({}, _Pool(), b"", problem)

    try:
        data = cache.read_bytes()
    except FileNotFoundError:
        return unusable("there was no cache yet")
    except OSError as error:
        return unusable(f"the cache cannot be read ({error.strerror})")
    line, _, rest = data.partition(b"\n")
    try:
        head = json.loads(line)
        if head["format"] != FORMAT or head["version"] != VERSION:
            return unusable(f"it is {head['format']} version {head['version']}, not {FORMAT} version {VERSION}")
        if head["fields"] != list(_FIELDS):
            return unusable("its records have other fields than games have now")
        packed, records = rest[: head["index_bytes"]], rest[head["index_bytes"] :]
        if zlib.crc32(packed) != head["index_checksum"] or len(records) != head["record_bytes"]:
            return unusable("the cache is truncated or damaged")
        index = json.loads(zlib.decompress(packed))
    except (ValueError, KeyError, TypeError, zlib.error):
        return unusable("the cache is truncated or damaged")
    return _Content({key: _Row(*row) for key, row in index["rows"].items()}, _Pool(index["pool"]), records, "")


def _write(cache: Path, pool: _Pool, blobs: dict[str, tuple[bytes, _Row]]) -> None:
    rows, offset = {}, 0
    for key, (blob, row) in blobs.items():
        rows[key] = row._replace(offset=offset)
        offset += len(blob)
    packed = zlib.compress(json.dumps({"rows": rows, "pool": pool.values}, separators=(",", ":")).encode(), 6)
    head = {"format": FORMAT, "version": VERSION, "fields": _FIELDS, "index_bytes": len(packed),
            "index_checksum": zlib.crc32(packed), "record_bytes": offset}  # fmt: skip
    with atomic_file(cache) as file:
        file.write(json.dumps(head).encode() + b"\n" + packed)
        file.writelines(blob for blob, _ in blobs.values())
