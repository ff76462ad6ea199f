"""The bytes of a log file: plain, or unpacked from gzip, bzip2, xz or zstd; and what other files are."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from rwml.core.records import open_zstd
from rwml.exchange.message_parts import UnreadableError

_HEAD = 8
_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive: unpack it, and name the files in it",
    b"7z\xbc\xaf": "a 7z archive: unpack it, and name the files in it",
    b"ARROW1": "an Arrow file: write it as parquet or as JSON lines",
    b"SQLite f": "a database: write its records as JSON lines",
    b"%PDF": "a PDF",
}
PARQUET = b"PAR1"
MOST_TIMES, ALWAYS_BYTES = 250, 256 * 1024 * 1024
"""A file that unpacks to more than this many times its size, and to more than that many bytes, is not read further."""


class Source(io.RawIOBase):
    """The unpacked bytes of a file, up to its end or its first fault. problem: that fault, once it was reached.

    UnreadableError for a file that is not text, and is not packed in a form that is known.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.problem: UnreadableError | None = None
        self.size, self._given = path.stat().st_size, 0
        self._file = path.open("rb")
        head = self._file.read(_HEAD)
        self._file.seek(0)
        foreign = next((name for mark, name in _FOREIGN.items() if head.startswith(mark)), "")
        self.packed = next((name for mark, name in _PACKED.items() if head.startswith(mark)), "")
        if foreign:
            self.close()
            raise UnreadableError("no log file", f"it is {foreign}")
        self._bytes: Any = _unpacked(self._file, self.packed)

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a part of the buffer; 0 at the end, which is also where the file is damaged."""
        if self.problem:
            return 0
        try:
            data = self._bytes.read(min(len(buffer), 1 << 16))
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            self.problem = UnreadableError("the file breaks off", f"{self.packed or 'read'}: {error or 'cut short'}")
            return 0
        self._given += len(data)
        if self.packed and self._given > max(ALWAYS_BYTES, MOST_TIMES * self.size):
            self.problem = UnreadableError("the file breaks off", f"it unpacks to over {MOST_TIMES} times its size")
            return 0
        buffer[: len(data)] = data
        return len(data)

    def place(self) -> int:
        """How many bytes of the file itself were read."""
        return self.size if self._file.closed else self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _unpacked(file: BinaryIO, packed: str) -> Any:
    if packed == "gzip":
        return gzip.GzipFile(fileobj=file)
    if packed == "bzip2":
        return bz2.BZ2File(file)
    if packed == "xz":
        return lzma.LZMAFile(file)
    return open_zstd(file) if packed == "zstd" else file
