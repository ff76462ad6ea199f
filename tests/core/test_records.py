"""Files are whole or not there; records come back as they went; what is newer, torn or foreign is refused."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow.parquet
import pytest

from rwml.core import records as store
from rwml.core.errors import RwmlError
from rwml.core.records import MetricsLog, Parts, atomic_folder, read_json, read_records, write_json, write_records
from rwml.core.types import Episode, PredictedState, Step, StopReason, Task, Transition

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


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    with pytest.raises(ZeroDivisionError), store.atomic_file(tmp_path / "a.json") as handle:
        handle.write(b"half")
        raise ZeroDivisionError
    assert read_json(tmp_path / "a.json") == {"x": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_json_is_sorted_and_strict(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": float("nan"), "a": (1, StopReason.ERROR), "p": Path("x")})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1,\n    "error"\n  ],\n  "b": null,\n  "p": "x"\n}\n'
    (tmp_path / "a.json").write_text('{"a": ')
    with pytest.raises(RwmlError, match="is not JSON"):
        read_json(tmp_path / "a.json")


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "model"
    with atomic_folder(target) as folder:
        (folder / "old").write_text("1")
    with pytest.raises(ZeroDivisionError), atomic_folder(target) as folder:
        (folder / "new").write_text("2")
        raise ZeroDivisionError
    assert os.listdir(target) == ["old"]
    with atomic_folder(target) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "new").write_text("2")
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")) == [
        "model",
        "model/sub",
        "model/sub/new",
    ]


def test_sweep_finishes_what_was_committed_and_removes_the_rest(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name, text in (("model", "old"), (".model.ready", "new"), ("a", "old"), (".a.partial", "half")):
        (run / name).mkdir(parents=True)
        (run / name / "weights").write_text(text)
    (run / "model" / "extra").write_text("of the old one")
    (run / ".b.json.123.partial").write_text("half")
    store.sweep(run)
    assert sorted(os.listdir(run)) == ["a", "model"]
    assert os.listdir(run / "model") == ["weights"]
    assert (run / "model" / "weights").read_text() == "new"
    assert (run / "a" / "weights").read_text() == "old"


def test_folder_hash_sees_names_and_contents_and_no_unfinished_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    first = store.folder_hash(tmp_path)
    (tmp_path / ".y.1.partial").write_text("half")
    assert store.folder_hash(tmp_path) == first
    (tmp_path / "x").write_text("2")
    second = store.folder_hash(tmp_path)
    (tmp_path / "x").rename(tmp_path / "z")
    assert len({first, second, store.folder_hash(tmp_path)}) == 3
    # sha256 of the three bytes "abc", from FIPS 180-2
    (tmp_path / "abc").write_bytes(b"abc")
    assert store.file_hash(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


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


def _write_until_full(path: Path) -> None:
    """Write a file of noise that grows until the disk or the limit is reached; the first error leaves."""
    for size in range(12, 26):
        with store.atomic_file(path) as handle:
            handle.write(os.urandom(2**size))


def test_a_full_disk_is_said_plainly_and_the_old_file_stays(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        with pytest.raises(RwmlError, match="the disk is full") as caught:
            _write_until_full(disk / "a.bin")
        assert "free some space" in caught.value.fix
        assert os.listdir(disk) == ["a.bin"]
        assert (disk / "a.bin").stat().st_size in {2**size for size in range(12, 18)}
        with pytest.raises(RwmlError, match="the disk is full"), atomic_folder(disk / "model") as folder:
            (folder / "weights").write_bytes(bytes(2**20))
        assert os.listdir(disk) == ["a.bin"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_size_limit_is_said_plainly(tmp_path: Path) -> None:
    """As under a quota: the same path for a user without root."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(RwmlError, match="the disk is full"):
            _write_until_full(tmp_path / "a.bin")
        with pytest.raises(RwmlError, match="the disk is full"):
            write_json(tmp_path / "b.json", list(range(100_000)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(tmp_path) == ["a.bin"]
    assert (tmp_path / "a.bin").stat().st_size == 2**16


def test_libraries_that_hide_the_errno_are_understood(tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match="the disk is full"), atomic_folder(tmp_path / "model"):
        raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


@dataclass(frozen=True)
class _Number:
    value: int


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """kill -9 in the middle of a write, in a process of its own."""
    path = tmp_path / "n.parquet"
    write_records(path, [_Number(1)], _Number)
    script = (
        "import os, signal, sys\n"
        "from rwml.core.records import atomic_file\n"
        "with atomic_file(sys.argv[1]) as handle:\n"
        "    handle.write(b'half'); handle.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert read_records(path, _Number) == [_Number(1)]
    assert len(os.listdir(tmp_path)) == 2
    store.sweep(tmp_path)
    assert os.listdir(tmp_path) == ["n.parquet"]
