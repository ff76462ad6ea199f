"""Records as parquet, resumable parts, and the metrics log. The plain files under them: `core/files.py`."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from rwml.core.columns import places
from rwml.core.columns.codec import PLACED, fields_of, is_placed, optional, row_decoder, row_encoder
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
    "stream_records",
    "sweep",
    "write_json",
    "write_records",
]

T = TypeVar("T")

# Raised when a field of that record, or of one nested in it, is added, removed or changes its meaning.
SCHEMA_VERSIONS = {"Task": 1, "Step": 1, "Episode": 1, "Transition": 2, "PredictedState": 1}


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
    # It holds the whole history in every row.
    ("Transition", 1): Upgrade("Transition"),
}
"""{(name, schema version) of an older record: how it is read}."""

_RECORD_KEY, _VERSION_KEY = b"rwml.record", b"rwml.schema_version"


# A file is written and read a few rows at a time: one row may be an episode of some megabytes.
_MOST_ROWS, _FEW_BYTES, _GROUP_BYTES = 128, 2**24, 2**25


def write_records(path: str | Path, records: Iterable[T], cls: type[T]) -> None:
    """Write frozen dataclasses of one class as parquet, atomically; equal records give equal bytes.

    Records of a generator are written as they come, so that a file may be larger than the memory.
    """
    import pyarrow.parquet

    version = str(SCHEMA_VERSIONS.get(cls.__name__, 1)).encode()
    columns = schema(cls, {_RECORD_KEY: cls.__name__.encode(), _VERSION_KEY: version, SEAL_KEY: OPEN_SEAL})
    with atomic_file(path) as handle:
        with pyarrow.parquet.ParquetWriter(handle, columns, compression="zstd", write_page_checksum=True) as writer:
            for group in _row_groups(map(row_encoder(cls), records), columns):
                writer.write_table(group)
        seal(handle)


def _row_groups(rows: Iterator[dict[str, Any]], columns: Any) -> Iterator[Any]:
    """Tables of at least so many bytes, up to the last one."""
    import pyarrow

    tables: list[Any] = []
    size, number = 0, 8
    while few := list(islice(rows, number)):
        tables.append(pyarrow.Table.from_pylist(few, schema=columns))
        size += tables[-1].nbytes
        number = _few(tables[-1].nbytes, len(few))
        if size >= _GROUP_BYTES:
            yield pyarrow.concat_tables(tables)
            tables, size = [], 0
    if tables:
        yield pyarrow.concat_tables(tables)


def _few(size: int, rows: int) -> int:
    """How many rows to take at a time, where `rows` of them have that many bytes."""
    return max(1, min(_MOST_ROWS, _FEW_BYTES * rows // max(1, size)))


def read_records(path: str | Path, cls: type[T]) -> list[T]:
    """Read what `write_records` wrote, also under an older schema that `UPGRADES` names.

    RwmlError for a missing, truncated, foreign or newer file, and for an older one that no upgrade reads.
    """
    return list(stream_records(path, cls))


def stream_records(path: str | Path, cls: type[T]) -> Iterator[T]:
    """The records of a file one by one; errors as of `read_records`, the last of them after the first records."""
    import pyarrow
    import pyarrow.parquet

    path = Path(path)
    if not path.is_file():
        raise missing_file(path)
    try:
        if not is_whole(path):
            raise ValueError("its content does not fit its checksum")
        with pyarrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            upgrade = _upgrade(metadata, cls)
            if upgrade is None:
                _check_schema(path, metadata, cls)
            decode = row_decoder(cls)
            groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
            number = _few(sum(group.total_byte_size for group in groups), file.metadata.num_rows)
            for few in file.iter_batches(number):
                for row in few.to_pylist():
                    yield decode(row if upgrade is None else upgrade.row(row, cls))
    except (pyarrow.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RwmlError(
            f"'{path}' cannot be read as parquet: {error}",
            "it is damaged, cut short or was not written by rwml",
            "remove it and run the stage that writes it again",
        ) from None


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


def schema(cls: type, metadata: dict[bytes, bytes] | None = None) -> Any:
    """The pyarrow schema of files that hold `cls`."""
    import pyarrow

    fields = []
    for name, kind, nullable in _columns(cls):
        placed = zip(places.COLUMNS, (kind, pyarrow.int64(), pyarrow.int64()), strict=True)
        columns = placed if name == PLACED and is_placed(cls) else [(name, kind)]
        fields += [pyarrow.field(column, its, nullable=nullable) for column, its in columns]
    return pyarrow.schema(fields, metadata=metadata)


def _columns(cls: type) -> list[tuple[str, Any, bool]]:
    return [(name, _arrow_type(optional(hint)[0]), optional(hint)[1]) for name, hint in fields_of(cls)]


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

    def write(self, i: int, records: Iterable[T], cls: type[T]) -> None:
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


def open_zstd(handle: Any) -> Any:
    """The unpacked bytes of an open zstd file, as a file; OSError where they are damaged."""
    import pyarrow

    return pyarrow.CompressedInputStream(pyarrow.PythonFile(handle, mode="r"), "zstd")


def foreign_rows(path: str | Path) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file that another program wrote, one by one; ValueError where it is damaged."""
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=64):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise ValueError(str(error)) from None
