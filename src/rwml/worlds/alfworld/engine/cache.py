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
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import GameSpec, game_path, read_game

FORMAT = "rwml-alfworld-games"
VERSION = 1  # raise it whenever GameSpec or the rules in parse.py change

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
    rebuilt: why the cache as a whole was not used ("" when it was, or when none was asked for).
    unsaved: why the cache could not be written ("" when it was, or needed not be); the games are fine all the same.
    """

    def __init__(self, paths: Sequence[Path], content: _Content | None, rows: Sequence[_Row | None]) -> None:
        self.paths = list(paths)
        self.reused = self.parsed = 0
        self.rebuilt = content.problem if content else ""
        self.unsaved = ""
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
        spec = self._specs[place]
        if spec is None:
            row, content = self._rows[place], self._content
            if row is not None and content is not None:
                spec = content.pool.decode(content.records[row.offset : row.offset + row.length], row.checksum)
            if spec is None:
                self.parsed += 1
                spec = read_game(self.paths[place])
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
    again, whole. A missing or broken game file is an RwmlError; an unwritable cache is not (`Games.unsaved`).
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
        games.spec(place)
        if progress is not None:
            progress(done, len(missing))
    if missing:
        blobs = {key: (content.records[row.offset : row.offset + row.length], row) for key, row in content.rows.items()}
        for place in missing:
            blob = content.pool.encode(games.spec(place))
            blobs[keys[place]] = (blob, _Row(*stamps[place], 0, len(blob), zlib.crc32(blob)))
        try:
            _write(Path(cache), content.pool, blobs)
        except (RwmlError, OSError) as error:
            games.unsaved = error.what if isinstance(error, RwmlError) else str(error)
    return games


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise RwmlError(
            f"there is no game file {path} ({error.strerror})",
            "every ALFWorld task is played from its game.tw-pddl",
            "check the path, or point ALFWORLD_DATA at the folder that holds json_2.1.1 (`alfworld-download` makes it)",
        ) from error
    return status.st_size, status.st_mtime_ns


def _current(row: _Row | None, stamp: tuple[int, int]) -> _Row | None:
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
