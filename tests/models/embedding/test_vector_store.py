"""The file of vectors: cut anywhere, changed, written by two processes that are killed, on a full disk."""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rwml.core.errors import RwmlError
from rwml.models.embedding.vector_store import VectorStore, text_key


def rows(*values: float) -> np.ndarray:
    return np.array([[value, -value, 0.1 * value] for value in values], dtype=np.float32)


def test_a_file_cut_anywhere_keeps_the_whole_chunks(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    store = VectorStore(path, 3)
    ends = [path.stat().st_size]
    for number in range(3):
        store.add([text_key(f"{number}a"), text_key(f"{number}b")], rows(number, number + 0.5))
        ends.append(path.stat().st_size)
    store.close()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        again = VectorStore(path, 3)
        chunks = sum(end <= cut for end in ends[1:])
        assert len(again) == 2 * chunks
        assert again.dropped_bytes == cut - (ends[chunks] if cut >= ends[0] else 0)
        again.add([text_key("new")], rows(7))
        again.close()
        last = VectorStore(path, 3)
        assert last.dropped_bytes == 0
        known = [text_key(f"{number}a") for number in range(chunks)]
        assert last.get([*known, text_key("new")]).tolist() == rows(*range(chunks), 7).tolist()
        last.close()


def test_a_changed_byte_drops_its_chunk_and_what_follows(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    store = VectorStore(path, 3)
    store.add([text_key("a")], rows(1))
    size = path.stat().st_size
    store.add([text_key("b")], rows(2))
    store.close()
    data = bytearray(path.read_bytes())
    data[size + 20] ^= 1
    path.write_bytes(data)
    again = VectorStore(path, 3)
    assert text_key("a") in again
    assert text_key("b") not in again
    assert again.dropped_bytes == len(data) - size
    again.close()


WRITER = """
import sys, numpy as np
from pathlib import Path
from rwml.models.embedding.vector_store import VectorStore, text_key
store = VectorStore(Path(sys.argv[1]), 8)
for n in range(10**9):
    name = f"{sys.argv[2]}/{n}"
    store.add([text_key(name), text_key(name + "!")], np.full((2, 8), n, dtype=np.float32))
    if n == 20:
        print("going", flush=True)
"""


def test_two_writers_killed_in_the_act_lose_nothing_whole(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], stdout=subprocess.PIPE) for name in "ab"
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"going\n"
    for writer in writers:
        writer.kill()
        writer.communicate()
    store = VectorStore(path, 8)
    total = 0
    for name in "ab":
        count = next(number for number in itertools.count() if text_key(f"{name}/{number}") not in store)
        assert count >= 21
        total += 2 * count
        keys = [text_key(f"{name}/{number}") for number in range(count)]
        assert store.get(keys)[:, 3].tolist() == list(range(count))
    assert len(store) == total  # no gaps, no halves
    store.close()


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    VectorStore(path, 3).close()
    with pytest.raises(RwmlError, match="is not an embedding cache of this version") as error:
        VectorStore(path, 4)
    assert "remove that file" in error.value.fix
    path.write_bytes(b"RWMLVEC9" + path.read_bytes()[8:])
    with pytest.raises(RwmlError, match="RWMLVEC9"):
        VectorStore(path, 3)
    assert path.read_bytes()[:8] == b"RWMLVEC9"


def test_a_full_disk_is_reported_and_leaves_the_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    store = VectorStore(path, 3)
    store.add([text_key("a")], rows(1))
    size = path.stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 25, limits[1]))
    try:
        with pytest.raises(RwmlError, match="the disk is full"):
            store.add([text_key("b")], rows(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size == size
    assert text_key("b") not in store
    store.add([text_key("b")], rows(3))
    assert store.get([text_key("a"), text_key("b")]).tolist() == rows(1, 3).tolist()
    store.close()
