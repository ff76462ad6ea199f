"""A checksum of a whole parquet file inside of it: those of parquet itself cover its pages, not its footer."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import BinaryIO

SEAL_KEY = b"rwml.sha256"
OPEN_SEAL = b"0" * 64
"""The value of `SEAL_KEY` in the metadata until `seal` is called, and while the file is hashed."""

# In the footer a key is followed by the mark of a text field and the length of that text.
_BEFORE = SEAL_KEY + b"\x18\x40"
_TAIL = 8  # the length of the footer, and PAR1
_CHUNK = 1 << 20


def seal(handle: BinaryIO) -> None:
    """Put the hash of a parquet file, just written with `{SEAL_KEY: OPEN_SEAL}` in its metadata, into it."""
    handle.flush()
    place, found = _seal_of(handle)
    assert place is not None and found == OPEN_SEAL, "the file was written without a place for its hash"
    digest = _digest(handle, place)
    handle.seek(place)
    handle.write(digest)
    handle.seek(0, io.SEEK_END)


def is_whole(path: Path) -> bool:
    """Whether a file is as it was sealed; True as well for one without a seal."""
    with path.open("rb") as handle:
        place, found = _seal_of(handle)
        return place is None or found == _digest(handle, place)


def _seal_of(handle: BinaryIO) -> tuple[int | None, bytes]:
    """The place of the hash in the file, and the hash; None if there is no seal."""
    size = handle.seek(0, io.SEEK_END)
    handle.seek(max(0, size - _TAIL))
    length = int.from_bytes(handle.read(4), "little")
    start = size - _TAIL - length
    if start < 0:
        return None, b""
    handle.seek(start)
    footer = handle.read(length)
    at = footer.rfind(_BEFORE)
    inner = at + len(_BEFORE)
    return (start + inner, footer[inner : inner + len(OPEN_SEAL)]) if at >= 0 else (None, b"")


def _digest(handle: BinaryIO, place: int) -> bytes:
    digest, left = hashlib.sha256(), place
    handle.seek(0)
    while left:
        chunk = handle.read(min(left, _CHUNK))
        digest.update(chunk)
        left -= len(chunk)
    digest.update(OPEN_SEAL)
    handle.seek(place + len(OPEN_SEAL))
    digest.update(handle.read())
    return digest.hexdigest().encode()
