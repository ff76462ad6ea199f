"""Records as parquet, resumable parts, and the metrics log. The plain files under them: `core/files.py`."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from rwml.core.errors import RwmlError
from rwml.core.files import (
    appending,
    atomic_file,
    atomic_folder,
    file_hash,
    folder_hash,
    missing_file,
    plain,
    read_json,
    sweep,
    write_json,
)
from rwml.core.run_folder.sealed_parquet import OPEN_SEAL, SEAL_KEY, is_whole, seal
from rwml.core.types import Episode

__all__ = [
    "SCHEMA_VERSIONS",
    "MetricsLog",
    "Parts",
    "atomic_file",
    "atomic_folder",
    "file_hash",
    "folder_hash",
    "latest_checkpoint",
    "read_episodes",
    "read_json",
    "read_records",
    "sweep",
    "write_json",
    "write_records",
]

T = TypeVar("T")

# Raised when a field of that record, or of one nested in it, is added, removed or changes its meaning.
SCHEMA_VERSIONS = {"Task": 1, "Step": 1, "Episode": 1, "Transition": 1, "PredictedState": 1}


@dataclasses.dataclass(frozen=True, slots=True)
class Upgrade:
    """How rows of an older record become the present record of that name.

    renamed: {old field: new field}. added: {new field: value} for new fields without a default in the class. dropped:
    old fields without a successor.
    """

    record: str
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)
    added: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dropped: tuple[str, ...] = ()

    def row(self, row: Mapping[str, Any], cls: type) -> dict[str, Any]:
        """A row with the fields of `cls`."""
        defaults = {
            field.name: field.default for field in dataclasses.fields(cls) if field.default is not dataclasses.MISSING
        }
        old = {self.renamed.get(name, name): value for name, value in row.items() if name not in self.dropped}
        return {**defaults, **self.added, **old}


UPGRADES: dict[tuple[str, int], Upgrade] = {
    ("Prediction", 1): Upgrade("PredictedState", renamed={"answer": "next_state"}),
}
"""{(name, schema version) of an older record: how it is read}."""

_RECORD_KEY, _VERSION_KEY = b"rwml.record", b"rwml.schema_version"


def write_records(path: str | Path, records: Sequence[T], cls: type[T]) -> None:
    """Write frozen dataclasses of one class as parquet, atomically; equal records give equal bytes."""
    import pyarrow
    import pyarrow.parquet

    fields = [pyarrow.field(name, kind, nullable=nullable) for name, kind, nullable in _columns(cls)]
    metadata = {
        _RECORD_KEY: cls.__name__.encode(),
        _VERSION_KEY: str(SCHEMA_VERSIONS.get(cls.__name__, 1)).encode(),
        SEAL_KEY: OPEN_SEAL,
    }
    encode = _encoder(typing.cast(Any, cls))
    rows = [encode(record) for record in records]
    table = pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(fields, metadata=metadata))
    with atomic_file(path) as handle:
        pyarrow.parquet.write_table(table, handle, compression="zstd", write_page_checksum=True)
        seal(handle)


def read_records(path: str | Path, cls: type[T]) -> list[T]:
    """Read what `write_records` wrote, also under an older schema that `UPGRADES` names.

    RwmlError for a missing, truncated, foreign or newer file, and for an older one that no upgrade reads.
    """
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    if not path.is_file():
        raise missing_file(path)
    try:
        if not is_whole(path):
            raise ValueError("its content does not fit its checksum")
        table = pyarrow.parquet.read_table(path, partitioning=None, page_checksum_verification=True)
        return _decoded(path, table, cls)
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RwmlError(
            f"'{path}' cannot be read as parquet: {error}",
            "it is damaged, cut short or was not written by rwml",
            "remove it and run the stage that writes it again",
        ) from None


def _decoded(path: Path, table: Any, cls: type[T]) -> list[T]:
    decode, rows = _decoder(typing.cast(Any, cls)), table.to_pylist()
    metadata = table.schema.metadata or {}
    upgrade = _upgrade(metadata, cls)
    if upgrade is None:
        _check_schema(path, metadata, cls)
        return [decode(row) for row in rows]
    return [decode(upgrade.row(row, cls)) for row in rows]


def _upgrade(metadata: Mapping[bytes, bytes], cls: type) -> Upgrade | None:
    """How a file of an older schema becomes `cls`; None for the present schema and for an unknown one."""
    name, version = (metadata.get(key, b"").decode() for key in (_RECORD_KEY, _VERSION_KEY))
    upgrade = UPGRADES.get((name, int(version))) if version.isdigit() else None
    return upgrade if upgrade is not None and upgrade.record == cls.__name__ else None


def _check_schema(path: Path, metadata: Mapping[bytes, bytes], cls: type) -> None:
    name, version = metadata.get(_RECORD_KEY, b"").decode(), metadata.get(_VERSION_KEY, b"").decode()
    if name != cls.__name__:
        raise RwmlError(
            f"'{path}' holds {name or 'no rwml'} records, not {cls.__name__}",
            "its columns mean something else",
            "point the recipe at the right file, or run the stage that writes it again",
        )
    known = SCHEMA_VERSIONS.get(name, 1)
    if version != str(known):
        newer = not version.isdigit() or int(version) > known
        raise RwmlError(
            f"'{path}' was written by {'a newer' if newer else 'an older'} rwml: "
            f"its {name} records have schema {version or 'unknown'}, this one's {known}",
            "fields may have another meaning there",
            "upgrade rwml, or use another run folder" if newer else "run the stage that writes it again",
        )


@cache
def _fields(cls: type) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _optional(hint: Any) -> tuple[Any, bool]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(hint) if arg is not type(None)]
        assert len(inner) == 1, f"records hold X or X | None, not {hint}"
        return inner[0], True
    return hint, False


def _columns(cls: type) -> list[tuple[str, Any, bool]]:
    return [(name, _arrow_type(_optional(hint)[0]), _optional(hint)[1]) for name, hint in _fields(cls)]


def _arrow_type(hint: Any) -> Any:
    import pyarrow

    if typing.get_origin(hint) is tuple:
        return pyarrow.list_(_arrow_type(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint):
        return pyarrow.struct([pyarrow.field(n, k, nullable=null) for n, k, null in _columns(typing.cast(type, hint))])
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return pyarrow.string()
    plain = {str: pyarrow.string(), bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    assert hint in plain, f"no column type for {hint}"
    return plain[hint]


@cache
def _encoder(hint: Any) -> Callable[[Any], Any]:
    hint, _ = _optional(hint)
    if typing.get_origin(hint) is tuple:
        encode = _encoder(typing.get_args(hint)[0])
        return lambda values: [encode(value) for value in values]
    if dataclasses.is_dataclass(hint):
        fields = [(name, _encoder(inner)) for name, inner in _fields(typing.cast(type, hint))]
        return lambda record: {name: encode(getattr(record, name)) for name, encode in fields}
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return str
    return lambda value: value


@cache
def _decoder(hint: Any) -> Callable[[Any], Any]:
    hint, optional = _optional(hint)
    if optional:
        decode = _decoder(hint)
        return lambda value: None if value is None else decode(value)
    if typing.get_origin(hint) is tuple:
        decode = _decoder(typing.get_args(hint)[0])
        return lambda values: tuple(decode(value) for value in values)
    if dataclasses.is_dataclass(hint):
        made: Any = hint
        fields = [(name, _decoder(inner)) for name, inner in _fields(made)]
        return lambda row: made(**{name: decode(row[name]) for name, decode in fields})
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return hint
    return lambda value: value


class Parts:
    """Numbered parquet parts of one folder. A killed stage repeats only its last, unfinished part."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, i: int) -> Path:
        """Where part `i` lies."""
        return self.folder / f"{i:05d}.parquet"

    def done(self, i: int) -> bool:
        """Whether part `i` exists; it is then whole."""
        return self.path(i).is_file()

    def write(self, i: int, records: Sequence[T], cls: type[T]) -> None:
        """Write part `i`."""
        write_records(self.path(i), records, cls)

    def read(self, cls: type[T], count: int) -> list[T]:
        """The records of parts 0 .. count-1, in order."""
        return [record for i in range(count) for record in read_records(self.path(i), cls)]

    def read_all(self, cls: type[T]) -> list[T]:
        """The records of the parts that are there, in order, whether or not others are missing."""
        return [record for path in self._paths() for record in read_records(path, cls)]

    def count(self) -> int:
        """How many parts are there."""
        return len(self._paths())

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("[0-9]*.parquet"))


def read_episodes(folder: str | Path) -> list[Episode]:
    """All episodes of a folder of parts, in order; RwmlError for a folder without parts, or with one missing."""
    parts = Parts(folder)
    if not parts.count():
        raise missing_file(parts.path(0))
    return parts.read(Episode, parts.count())


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The `checkpoint-STEP` folder of the highest step, or None."""
    return max(Path(folder).glob("checkpoint-[0-9]*"), key=lambda p: int(p.name.split("-")[1]), default=None)


class MetricsLog:
    """`metrics.jsonl`: one JSON object a line, appended. A last line that a kill tore is not read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def mend(self) -> None:
        """Drop a last line that a kill tore; for the one process that writes, before it does."""
        data = self.path.read_bytes() if self.path.is_file() else b""
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with atomic_file(self.path) as handle:
                handle.write(data[:whole])

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one line. `stage` (str) and `step` (int) are the keys that `rewind` knows."""
        line = json.dumps(plain(row), sort_keys=True, ensure_ascii=False, allow_nan=False)
        with appending(self.path) as handle:
            handle.write(line.encode("utf-8", "backslashreplace") + b"\n")

    def rewind(self, stage: str, step: int) -> None:
        """Drop that stage's lines after `step`, and those without a step, as it resumes from there."""
        rows = self.read()
        kept = [r for r in rows if r.get("stage") != stage or ("step" in r and r["step"] <= step)]
        if len(kept) < len(rows):
            with atomic_file(self.path) as handle:
                for row in kept:
                    handle.write(json.dumps(row, sort_keys=True, ensure_ascii=False).encode() + b"\n")

    def read(self) -> list[dict[str, Any]]:
        """All lines, oldest first; an empty list without a file."""
        if not self.path.is_file():
            return []
        rows = []
        for number, line in enumerate(self.path.read_bytes().split(b"\n")[:-1], start=1):
            try:
                row = json.loads(line)
                if not isinstance(row, dict) or not isinstance(row.get("step", 0), int):
                    raise ValueError("it is not an object, or its step is not a number")
            except (ValueError, RecursionError) as error:
                raise RwmlError(
                    f"'{self.path}', line {number} is not JSON as it was written: {error}",
                    "the curves are drawn from it",
                    "put back a copy of the file, or remove the line",
                ) from None
            rows.append(row)
        return rows
