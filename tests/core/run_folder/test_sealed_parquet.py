"""A parquet file with one changed bit anywhere is refused, or gives the same records."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from made import transition
from rwml.core.errors import RwmlError
from rwml.core.records import read_records, write_records
from rwml.core.run_folder.sealed_parquet import OPEN_SEAL, SEAL_KEY, is_whole
from rwml.core.types import Transition

# Texts that look like a seal change nothing.
ROWS = [transition(f"t{i} {SEAL_KEY.decode()}\x18@{OPEN_SEAL.decode()}", f"k{i % 3}") for i in range(20)]


def test_a_changed_byte_anywhere_is_seen(tmp_path: Path) -> None:
    path, draw = tmp_path / "x.parquet", random.Random(3)
    write_records(path, ROWS, Transition)
    assert read_records(path, Transition) == ROWS
    whole = path.read_bytes()
    same = 0
    for place in {*draw.sample(range(len(whole)), 300), *range(len(whole) - 200, len(whole))}:
        data = bytearray(whole)
        data[place] ^= 1 << draw.randrange(8)
        path.write_bytes(data)
        try:
            found = read_records(path, Transition)
        except RwmlError:
            continue
        assert found == ROWS, place
        same += 1
    assert same < 30, "only a byte of the name of the seal may change, and nothing is read by that"


def test_a_cut_and_a_zeroed_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_records(path, ROWS, Transition)
    whole = path.read_bytes()
    for data in (b"", whole[:4], whole[: len(whole) // 2], whole[:-1], bytes(len(whole)), b"PAR1" * 3):
        path.write_bytes(data)
        with pytest.raises(RwmlError, match="cannot be read as parquet") as caught:
            read_records(path, Transition)
        assert "run the stage that writes it again" in caught.value.fix


def test_a_file_without_a_seal_is_whole(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"x": [1, 2]}), tmp_path / "x.parquet")
    assert is_whole(tmp_path / "x.parquet")
