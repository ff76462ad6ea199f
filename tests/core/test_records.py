"""Records come back as they went; what is newer, torn or foreign is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from rwml.core import records as store
from rwml.core.errors import RwmlError
from rwml.core.records import MetricsLog, Parts, read_records, write_records
from rwml.core.run_folder.sealed_parquet import SEAL_KEY
from rwml.core.types import Episode, History, PredictedState, Step, StopReason, Task, Transition

TASK = Task("pick/1", "alfworld", "train", "pick")
EPISODES = [
    Episode(
        f"e{n}",
        TASK,
        "random",
        n,
        10 + n,
        "You are in a room.\nNaïve “quotes” \u2028 and 日本語",
        tuple(Step(f"go {i}", "<action>", f"at {i}", reward=0.1 * i, valid=i != 2) for i in range(n)),
        StopReason.STEP_LIMIT if n else StopReason.ERROR,
        n == 3,
        "" if n else "broke",
    )
    for n in range(4)
]
TRANSITION = Transition(
    "t1", "e1", "pick/1", "train", 3, "open", ("go", "at"), "take", "you take", "text", "take", True, False
)


def test_records_come_back_equal_and_typed(tmp_path: Path) -> None:
    write_records(tmp_path / "e.parquet", EPISODES, Episode)
    back = read_records(tmp_path / "e.parquet", Episode)
    assert back == EPISODES
    assert back[0].stop is StopReason.ERROR
    assert isinstance(back[3].steps, tuple)
    assert isinstance(back[3].steps[0], Step)


def test_optional_fields_empty_tuples_and_no_rows(tmp_path: Path) -> None:
    predictions = [
        PredictedState("t1", "x", None, distance=2.0),
        PredictedState("t1", "x", "you take", distance=0.0, reward=1.0),
    ]
    write_records(tmp_path / "p.parquet", predictions, PredictedState)
    assert read_records(tmp_path / "p.parquet", PredictedState) == predictions
    rows = [TRANSITION, replace(TRANSITION, history=(), kept=False, reason="too easy", pass_rate=0.3)]
    write_records(tmp_path / "t.parquet", rows, Transition)
    assert read_records(tmp_path / "t.parquet", Transition) == rows
    write_records(tmp_path / "none.parquet", [], Episode)
    assert read_records(tmp_path / "none.parquet", Episode) == []


def test_the_columns_are_the_fields_with_a_place_for_the_history() -> None:
    columns = store.schema(Transition)
    assert columns.names[5:10] == ["opening", "history_new", "history_start", "history_stop", "action"]
    assert "history" not in columns.names
    assert [str(columns.field(n).type) for n in range(6, 9)] == ["list<item: string>", "int64", "int64"]
    nullable = [field.name for field in store.schema(PredictedState) if field.nullable]
    assert nullable == ["next_state"]


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    write_records(tmp_path / "a.parquet", EPISODES, Episode)
    write_records(tmp_path / "b.parquet", [replace(episode) for episode in EPISODES], Episode)
    write_records(tmp_path / "c.parquet", EPISODES[:3], Episode)
    hashes = [store.file_hash(tmp_path / f"{name}.parquet") for name in "abc"]
    assert hashes[0] == hashes[1] != hashes[2]


def test_a_newer_schema_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(store.SCHEMA_VERSIONS, "Episode", 7)
    write_records(tmp_path / "e.parquet", EPISODES, Episode)
    monkeypatch.setitem(store.SCHEMA_VERSIONS, "Episode", 6)
    with pytest.raises(RwmlError, match="written by a newer rwml: its Episode records have schema 7, this one's 6"):
        read_records(tmp_path / "e.parquet", Episode)
    monkeypatch.setitem(store.SCHEMA_VERSIONS, "Episode", 8)
    with pytest.raises(RwmlError, match="written by an older rwml"):
        read_records(tmp_path / "e.parquet", Episode)


def test_foreign_truncated_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "e.parquet"
    write_records(path, EPISODES, Episode)
    with pytest.raises(RwmlError, match="holds Episode records, not Transition"):
        read_records(path, Transition)
    pyarrow.parquet.write_table(pyarrow.table({"id": ["x"]}), tmp_path / "foreign.parquet")
    with pytest.raises(RwmlError, match="holds no rwml records, not Episode"):
        read_records(tmp_path / "foreign.parquet", Episode)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RwmlError, match="cannot be read as parquet"):
        read_records(path, Episode)
    with pytest.raises(RwmlError, match="there is no file"):
        read_records(tmp_path / "none.parquet", Episode)


def long_rows(steps: int, size: int) -> Iterator[Transition]:
    for episode in ("e1", "e2"):
        past: list[str] = []
        for n in range(steps):
            answer = f"{episode} {n} ".ljust(size, "x")
            row = replace(TRANSITION, id=f"{episode}@{n}", episode=episode, step=n, action=f"go {n}", next_state=answer)
            yield replace(row, history=History(past, 0, 2 * n), opening="o" * size)
            past += [f"go {n}", answer]


def test_a_file_of_long_histories_grows_with_their_length_and_comes_back(tmp_path: Path) -> None:
    """The square of it would be 2 x 200 x 200 / 2 x 3000 bytes = 120 MB before compression, and 1,000 times the texts
    of one row."""
    write_records(tmp_path / "t.parquet", long_rows(200, 3000), Transition)
    file = pyarrow.parquet.ParquetFile(tmp_path / "t.parquet")
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    assert sum(group.total_byte_size for group in groups) < 3 * 2 * 200 * 3000
    back = read_records(tmp_path / "t.parquet", Transition)
    assert back == list(long_rows(200, 3000))
    assert len({id(row.history.texts) for row in back if isinstance(row.history, History)}) == 2
    assert len({id(row.opening) for row in back}) == 1
    write_records(tmp_path / "again.parquet", back, Transition)
    assert store.file_hash(tmp_path / "again.parquet") == store.file_hash(tmp_path / "t.parquet")


def test_what_is_larger_than_a_row_group_is_written_and_read_in_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "_FEW_BYTES", 2**14)
    monkeypatch.setattr(store, "_GROUP_BYTES", 2**16)
    write_records(tmp_path / "t.parquet", long_rows(60, 1000), Transition)
    assert pyarrow.parquet.ParquetFile(tmp_path / "t.parquet").metadata.num_row_groups > 3
    assert read_records(tmp_path / "t.parquet", Transition) == list(long_rows(60, 1000))
    first = next(store.stream_records(tmp_path / "t.parquet", Transition))
    assert first == next(long_rows(60, 1000))


def test_a_place_outside_the_episode_is_refused(tmp_path: Path) -> None:
    write_records(tmp_path / "t.parquet", [TRANSITION], Transition)
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet")
    at = table.column_names.index("history_stop")
    wrong = table.set_column(at, table.field(at), pyarrow.array([5]))
    unsealed = {key: value for key, value in table.schema.metadata.items() if key != SEAL_KEY}
    wrong = wrong.replace_schema_metadata(unsealed)
    pyarrow.parquet.write_table(wrong, tmp_path / "t.parquet")
    with pytest.raises(RwmlError, match="the history 0:5 of 2 texts"):
        read_records(tmp_path / "t.parquet", Transition)


def test_parts_and_read_episodes(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "episodes")
    parts.write(1, EPISODES[2:], Episode)
    assert (parts.done(0), parts.done(1)) == (False, True)
    with pytest.raises(RwmlError, match=r"00000\.parquet"):
        store.read_episodes(parts.folder)
    parts.write(0, EPISODES[:2], Episode)
    assert parts.read(Episode, 2) == store.read_episodes(parts.folder) == EPISODES
    with pytest.raises(RwmlError, match="there is no file"):
        store.read_episodes(tmp_path / "none")


def test_latest_checkpoint_is_the_highest_step(tmp_path: Path) -> None:
    assert store.latest_checkpoint(tmp_path) is None
    for step in (5, 1000, 200):
        (tmp_path / f"checkpoint-{step}").mkdir()
    assert store.latest_checkpoint(tmp_path) == tmp_path / "checkpoint-1000"


def test_metrics_log_drops_a_torn_line_and_rewinds_one_stage(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    assert log.read() == []
    rows = [{"stage": s, "step": i, "x": 0.5} for s in ("wm", "policy") for i in (1, 2, 3)]
    for row in rows:
        log.append(row)
    log.append({"stage": "wm", "note": "line\u2028separator"})
    assert log.read() == [*rows, {"stage": "wm", "note": "line\u2028separator"}]
    assert path.read_text().split("\n")[0] == '{"stage": "wm", "step": 1, "x": 0.5}'
    with path.open("ab") as handle:
        handle.write(b'{"stage": "wm", "st')
    whole = path.read_bytes()
    log = MetricsLog(path)
    assert len(log.read()) == 7
    assert path.read_bytes() == whole
    log.mend()
    assert path.read_bytes() == whole[: whole.rfind(b"\n") + 1]
    assert len(log.read()) == 7
    log.rewind("wm", 1)
    assert log.read() == [rows[0], *rows[3:]]
    log.rewind("wm", -1)
    assert log.read() == rows[3:]
    path.write_text("{broken\n")
    with pytest.raises(RwmlError, match="line 1 is not JSON"):
        MetricsLog(path).read()


@pytest.mark.parametrize(
    "line", [b"\xff", b"[1]", b"3", b"null", b'{"step": "2"}', b"[" * 100_000, b"1" * 5000, b"\0\0\0\0", b"{"]
)
def test_a_damaged_line_of_metrics_is_named(tmp_path: Path, line: bytes) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"stage": "a", "step": 1})
    log.path.write_bytes(log.path.read_bytes() + line + b"\n")
    with pytest.raises(RwmlError, match=r"metrics\.jsonl', line 2 is not JSON as it was written: ") as caught:
        log.rewind("a", 1)
    assert "put back a copy of the file, or remove the line" in caught.value.fix
