"""Text embeddings kept by text hash: in memory, or in one append-only file that survives a kill at any moment.

File: magic, width E, then chunks of `count, crc32, count keys of 16 bytes, count x E float32`. Vectors are stored as
they were computed, so one that is read back is bit-identical to what was first returned; half precision would halve
the file and move every distance by about 1e-5. A chunk is taken as a whole or, torn by a kill, not at all.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rwml.core.errors import RwmlError
from rwml.core.files import make_parent, refuse_special, write_guard

MAGIC = b"RWMLVEC1"
KEY_BYTES = 16
_HEADER = struct.Struct("<8sI")
_CHUNK = struct.Struct("<II")

Floats = NDArray[np.float32]


def text_key(text: str) -> bytes:
    """16 bytes that identify a text. Lone surrogates (a model can write them) are allowed."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=KEY_BYTES).digest()


class VectorStore:
    """Keys to float32 vectors of one width. Not thread-safe; several processes may share one file.

    path: None = in memory. Raises RwmlError for a file of another format or width, a full disk, a folder that may not
    be written to. dropped_bytes: what a killed writer had left half written and was cut off.
    """

    def __init__(self, path: Path | None, width: int) -> None:
        self.path, self.width = path, width
        self.dropped_bytes = 0
        self._offsets: dict[bytes, int] = {}
        self._end = 0
        if path is None:
            self._file: io.FileIO | io.BytesIO = io.BytesIO()
        else:
            with write_guard(path):
                make_parent(path)
                refuse_special(path)
                path.touch()
                self._file = io.FileIO(path, "r+")
        with self._locked():
            self._catch_up()

    def __contains__(self, key: bytes) -> bool:
        return key in self._offsets

    def __len__(self) -> int:
        return len(self._offsets)

    def get(self, keys: Sequence[bytes]) -> Floats:
        """Vectors of known keys, [N, E]. Raises KeyError for an unknown one."""
        out = np.empty((len(keys), self.width), dtype=np.float32)
        for row, key in enumerate(keys):
            self._file.seek(self._offsets[key])
            out[row] = np.frombuffer(self._file.read(4 * self.width), dtype="<f4")
        return out

    def add(self, keys: Sequence[bytes], vectors_NE: Floats) -> None:
        """Append one chunk; all of it is there after a kill, or nothing."""
        assert vectors_NE.shape == (len(keys), self.width), (vectors_NE.shape, len(keys), self.width)
        payload = b"".join(keys) + np.ascontiguousarray(vectors_NE, dtype="<f4").tobytes()
        with self._locked():
            self._catch_up()
            start = self._end
            self._append(_CHUNK.pack(len(keys), zlib.crc32(payload)) + payload)
        self._index(keys, start)

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self.path is None:
            yield
            return
        fcntl.flock(self._file.fileno(), fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_UN)

    def _append(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            with write_guard(self.path or Path("memory")):
                self._file.seek(self._end)
                while view:
                    view = view[self._file.write(view) :]
        except BaseException:
            self._file.truncate(self._end)
            raise
        self._end += len(data)

    def _catch_up(self) -> None:
        """Read what the file holds beyond the known end (all of it at first; later, what other processes added)."""
        size = self._file.seek(0, io.SEEK_END)
        if self._end == 0:
            if size < _HEADER.size:
                self._drop(size)
                self._append(_HEADER.pack(MAGIC, self.width))
                return
            self._check_header()
        while self._end < size:
            count, payload = self._read_chunk(size)
            if payload is None:
                self._drop(size)
                return
            start = self._end
            self._end += _CHUNK.size + len(payload)
            self._index((payload[i : i + KEY_BYTES] for i in range(0, count * KEY_BYTES, KEY_BYTES)), start, count)

    def _check_header(self) -> None:
        self._file.seek(0)
        magic, width = _HEADER.unpack(self._file.read(_HEADER.size))
        if magic != MAGIC or width != self.width:
            raise RwmlError(
                f"'{self.path}' is not an embedding cache of this version (magic {magic!r}, width {width})",
                f"{MAGIC!r} with width {self.width} is needed; another file would give wrong distances",
                "remove that file (it will be computed again), or use the version of rwml that wrote it",
            )
        self._end = _HEADER.size

    def _read_chunk(self, size: int) -> tuple[int, bytes | None]:
        """Count and payload of the chunk at the known end; None if the chunk is torn."""
        self._file.seek(self._end)
        if size - self._end < _CHUNK.size:
            return 0, None
        count, checksum = _CHUNK.unpack(self._file.read(_CHUNK.size))
        length = count * (KEY_BYTES + 4 * self.width)
        if size - self._end - _CHUNK.size < length:
            return 0, None
        payload = self._file.read(length)
        return count, payload if zlib.crc32(payload) == checksum else None

    def _drop(self, size: int) -> None:
        self.dropped_bytes += size - self._end
        self._file.truncate(self._end)

    def _index(self, keys: Iterable[bytes], chunk_start: int, count: int | None = None) -> None:
        keys = list(keys)
        assert count is None or count == len(keys)
        first = chunk_start + _CHUNK.size + len(keys) * KEY_BYTES
        for row, key in enumerate(keys):
            # The first vector of a text stays: a run that began with it continues with it.
            self._offsets.setdefault(key, first + row * 4 * self.width)
