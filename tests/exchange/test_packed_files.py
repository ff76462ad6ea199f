"""Packed, damaged, foreign and binary files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from rwml.exchange import packed_files
from rwml.exchange.importer import Imported, check_paths, import_files
from rwml.exchange.packed_files import Source

LOGS = [
    {
        "messages": [
            {"role": "user", "content": f"Hello {number}"},
            {"role": "assistant", "content": "How?"},
            {"role": "user", "content": "Fast."},
        ]
    }
    for number in range(3)
]
TEXT = "\n".join(json.dumps(log) for log in LOGS).encode()


def zstd(data: bytes) -> bytes:
    return bytes(pyarrow.compress(data, codec="zstd", asbytes=True))


def take(path: Path, data: bytes) -> Imported:
    path.write_bytes(data)
    done: list[int] = []
    imported = import_files(check_paths([path]), done.append)
    (counts,) = imported.files
    assert counts.items == counts.episodes + counts.rejected
    assert sum(done) == len(data)
    assert all(part >= 0 for part in done)
    return imported


def reasons(imported: Imported) -> list[tuple[str, str]]:
    return [(item.item, item.reason) for item in imported.rejected]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_packed_lines(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    imported = take(tmp_path / "logs", pack(TEXT))
    assert reasons(imported) == []
    assert [episode.opening for episode in imported.episodes] == [f"User: Hello {number}" for number in range(3)]


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_a_packed_file_that_breaks_off_is_said_to_do_so(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    imported = take(tmp_path / "logs", pack(TEXT)[:-9])
    assert ("end of the file", "the file breaks off") in reasons(imported)


def test_members_of_gzip_one_after_another_are_one_file(tmp_path: Path) -> None:
    assert len(take(tmp_path / "x.gz", gzip.compress(TEXT + b"\n") + gzip.compress(TEXT)).episodes) == 6


def test_a_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_files, "ALWAYS_BYTES", 200_000)
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(TEXT + b"\n" + b" " * 50_000_000))
    with Source(path) as source:
        read = sum(iter(lambda: len(source.read(4096) or b""), 0))
        assert source.problem is not None
        assert source.problem.detail == "it unpacks to over 250 times its size"
    assert read < 14_000_000
    imported = take(path, path.read_bytes())
    assert len(imported.episodes) == 3
    assert reasons(imported) == [("end of the file", "the file breaks off")]


def parquet(rows: list[dict[str, Any]], path: Path) -> bytes:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path.read_bytes()


def test_rows_of_parquet_lose_the_nulls_that_columns_add(tmp_path: Path) -> None:
    given = {"f": {"x": 1}, "g": {"y": 2}}
    calls = [{"function": {"name": name, "arguments": given[name]}, "id": name} for name in given]
    messages = [
        {"role": "user", "content": "Go."},
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "f", "content": "one"},
        {"role": "tool", "tool_call_id": "g", "content": "two"},
    ]
    rows = [{"messages": messages, "success": True}, {"messages": []}]
    imported = take(tmp_path / "x", parquet(rows, tmp_path / "made"))
    assert [step.action for step in imported.episodes[0].steps] == [
        '{"name": "f", "arguments": {"x": 1}}',
        '{"name": "g", "arguments": {"y": 2}}',
    ]
    assert imported.episodes[0].success
    assert reasons(imported) == [("row 2", "a record without messages")]


def test_parquet_that_is_cut_short_is_one_rejected_item(tmp_path: Path) -> None:
    whole = parquet(LOGS, tmp_path / "made")
    assert len(take(tmp_path / "x", whole).episodes) == 3
    assert reasons(take(tmp_path / "y", whole[:-20])) == [("file", "parquet that cannot be read")]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04" + bytes(100), "a zip archive: unpack it"),
        (b"ARROW1\0\0" + bytes(100), "an Arrow file"),
        (b"SQLite format 3\0" + bytes(100), "a database"),
        (bytes(range(256)) * 4 + bytes(200), "bytes that are not text"),
    ],
)
def test_files_that_are_not_logs_are_named_and_not_read_line_by_line(tmp_path: Path, data: bytes, words: str) -> None:
    imported = take(tmp_path / "x", data)
    assert reasons(imported) == [("file", "no log file")]
    assert words in imported.rejected[0].detail


def test_a_zero_byte_in_one_line_costs_that_line(tmp_path: Path) -> None:
    imported = take(tmp_path / "x", TEXT.replace(b"Hello 1", b"Hel\0lo 1"))
    assert [episode.opening for episode in imported.episodes] == ["User: Hello 0", "User: Hello 2"]
    assert reasons(imported) == [("line 2", "no JSON")]
