"""Files and folders are whole or not there, whoever is killed and however full the disk is; and their hashes."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.files import (
    atomic_file,
    atomic_folder,
    file_hash,
    folder_hash,
    link,
    read_json,
    read_sealed,
    sweep,
    write_json,
    write_sealed,
)
from rwml.core.types import StopReason


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"x": object()})
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "a.json") as handle:
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
    sweep(run)
    assert sorted(os.listdir(run)) == ["a", "model"]
    assert os.listdir(run / "model") == ["weights"]
    assert (run / "model" / "weights").read_text() == "new"
    assert (run / "a" / "weights").read_text() == "old"


def test_folder_hash_sees_names_and_contents_and_no_unfinished_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("1")
    first = folder_hash(tmp_path)
    (tmp_path / ".y.1.partial").write_text("half")
    assert folder_hash(tmp_path) == first
    (tmp_path / "x").write_text("2")
    second = folder_hash(tmp_path)
    (tmp_path / "x").rename(tmp_path / "z")
    assert len({first, second, folder_hash(tmp_path)}) == 3
    # sha256 of the three bytes "abc", from FIPS 180-2
    (tmp_path / "abc").write_bytes(b"abc")
    assert file_hash(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")


def _write_until_full(path: Path) -> None:
    """Write a file of noise that grows until the disk or the limit is reached; the first error leaves."""
    for size in range(12, 26):
        with atomic_file(path) as handle:
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


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """kill -9 in the middle of a write, in a process of its own."""
    path = tmp_path / "n.json"
    write_json(path, {"value": 1})
    script = (
        "import os, signal, sys\n"
        "from rwml.core.files import atomic_file\n"
        "with atomic_file(sys.argv[1]) as handle:\n"
        "    handle.write(b'half'); handle.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert done.returncode == -9
    assert read_json(path) == {"value": 1}
    assert len(os.listdir(tmp_path)) == 2
    sweep(tmp_path)
    assert os.listdir(tmp_path) == ["n.json"]


def test_a_second_place_does_not_follow_what_is_written_to_the_first(tmp_path: Path) -> None:
    first, second = tmp_path / "one" / "file", tmp_path / "two" / "file"
    write_json(first, 1)
    link(first, second)
    assert first.stat().st_ino == second.stat().st_ino
    link(first, second)  # again: two names of one file already
    link(tmp_path / "one", tmp_path / "three")
    with atomic_file(first) as handle:
        handle.write(b"2")
    assert read_json(first) == 2
    assert read_json(second) == read_json(tmp_path / "three" / "file") == 1
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []


def test_a_sealed_object_is_read_as_it_was_written_or_refused(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None, float("inf")], "a": {"ü": "half \ud83d"}}
    write_sealed(tmp_path / "x.json", value)
    assert read_sealed(tmp_path / "x.json") == {"b": [1, 2.5, None, None], "a": {"ü": "half \ud83d"}}
    text = (tmp_path / "x.json").read_text()
    (tmp_path / "x.json").write_text(text.replace("2.5", "3.5"))
    with pytest.raises(RwmlError, match=r"x\.json' is damaged: its content does not fit its checksum") as caught:
        read_sealed(tmp_path / "x.json", "do that")
    assert caught.value.fix == "do that"
    (tmp_path / "x.json").write_text("[1]")
    with pytest.raises(RwmlError, match="it is not a JSON object"):
        read_sealed(tmp_path / "x.json")
    (tmp_path / "x.json").write_text('{"old": 1}')
    assert read_sealed(tmp_path / "x.json") == {"old": 1}, "older files have no checksum"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"1" * 5000, b"{", b"", bytes(30)])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(RwmlError, match=r"x\.json' is not JSON: ") as caught:
        read_json(tmp_path / "x.json")
    assert "run the stage that writes it again" in caught.value.fix


def test_sweeping_looks_at_the_names_that_are_given(tmp_path: Path) -> None:
    for name in (".a.json.3.partial", "a/.b.ready", ".c.partial", "c/.d.partial", "a/.e.7.partial"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    sweep(tmp_path, {"a", "a.json"})
    left = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    assert left == [".c.partial", "a/b", "c/.d.partial"]
    (tmp_path / "link").symlink_to(tmp_path / "c")
    sweep(tmp_path / "link")
    assert (tmp_path / "c/.d.partial").exists(), "a link is not followed"


def test_a_link_with_the_name_of_an_unfinished_file_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("kept")
    (tmp_path / f".x.json.{os.getpid()}.partial").symlink_to(tmp_path / "victim")
    write_json(tmp_path / "x.json", 1)
    assert (tmp_path / "victim").read_text() == "kept"
    assert not (tmp_path / "x.json").is_symlink()
    assert (tmp_path / "x.json").read_text() == "1\n"
