"""Only a folder that rwml made, or an empty one, is written in; and by one process, inside of it alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.files import write_json
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.records import MetricsLog
from rwml.core.run import CHAIN, Run
from rwml.core.run_folder.claim import claim, lock, own
from rwml.core.run_folder.manifest import IMPORT, RUN, read_manifest


def contents(folder: Path) -> dict[str, bytes | str]:
    """{path: bytes, or where a link leads}."""
    return {
        path.relative_to(folder).as_posix(): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def _open(folder: Path) -> Run:
    return Run.open(parse_recipe({"name": "r", "out": str(folder)}), say=lambda text: None)


THEIRS = ["policy/mine.txt", "recipe.json", ".draft.partial", "sub/.x.ready", "episodes/tv.txt"]


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("holds", [RUN, IMPORT])
def test_a_folder_of_somebody_else_is_refused_and_left_as_it_is(tmp_path: Path, name: str, holds: str) -> None:
    path = tmp_path / "project" / name
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(RwmlError, match="was not made by rwml and is not empty: it holds ") as caught:
        claim(tmp_path / "project", holds)
    assert caught.value.what.endswith(name.split("/")[0])
    assert "files in it would be replaced" in caught.value.why
    assert "empty or not there yet" in caught.value.fix
    assert contents(tmp_path) == {f"project/{name}": b"{}"}


@pytest.mark.parametrize(
    "manifest", ['{"name": "app", "version": "1"}', "[]", '{"format": 2, "rwml": 1, "stages": {}}', "{", "\0\0"]
)
def test_a_manifest_of_another_program_makes_no_run_folder(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "mine.txt").write_text("kept")
    with pytest.raises(RwmlError, match=r"manifest\.json"):
        _open(tmp_path)
    assert contents(tmp_path) == {"manifest.json": manifest.encode(), "policy/mine.txt": b"kept"}


def test_a_new_folder_an_empty_one_and_one_that_was_just_begun_are_taken(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".lock").write_text("77")
    (tmp_path / "begun" / ".manifest.json.77.partial").write_text("{")
    for name in ("new/deep", "empty", "begun"):
        run = _open(tmp_path / name)
        assert sorted(contents(run.folder)) == [".lock", "manifest.json", "recipe.json"]
        assert run.state("collect") == "new"


def test_opening_sweeps_what_rwml_wrote_and_nothing_else(tmp_path: Path) -> None:
    folder = _open(tmp_path / "run").folder
    theirs = ["notes/.draft.partial", "notes/.x.ready", ".notes.partial", "notes/x"]
    ours = [".eval.json.12.partial", "episodes/.00001.parquet.7.partial", "policy/.final.partial/weights"]
    for name in theirs + ours:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    _open(folder)
    left = contents(folder).keys() - {".lock", "manifest.json", "recipe.json"}
    assert left == set(theirs)
    assert (folder / "notes/x").read_text() == "notes/x"


def test_a_run_and_an_import_do_not_share_a_folder(tmp_path: Path) -> None:
    claim(tmp_path / "logs", IMPORT)
    with pytest.raises(RwmlError, match="holds an import, not a run") as caught:
        claim(tmp_path / "logs", RUN)
    assert f"collect.episodes to '{tmp_path}/logs/episodes'" in caught.value.fix
    claim(tmp_path / "run", RUN)
    with pytest.raises(RwmlError, match="is a run folder") as caught:
        claim(tmp_path / "run", IMPORT)
    assert "still count as done" in caught.value.why
    assert (read_manifest(tmp_path / "logs")["holds"], read_manifest(tmp_path / "run")["holds"]) == (IMPORT, RUN)


def test_imports_and_comparisons_of_an_older_rwml_are_taken(tmp_path: Path) -> None:
    write_json(tmp_path / "old" / "import.json", {"rwml": "0.1.0", "episodes": 1, "files": []})
    claim(tmp_path / "old", IMPORT)
    run = _open(tmp_path / "compared" / "s0" / "base")
    with run.stage("collect"):
        (run.folder / "episodes").mkdir()
    own(tmp_path / "compared")
    assert read_manifest(tmp_path / "compared")["holds"] == RUN
    write_json(tmp_path / "theirs" / "import.json", {"episodes": 1})
    with pytest.raises(RwmlError, match="not made by rwml"):
        claim(tmp_path / "theirs", IMPORT)


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    claim(tmp_path / "run")
    code = "import sys, pathlib; from rwml.core.run_folder.claim import claim; claim(pathlib.Path(sys.argv[1]))"
    other = subprocess.run([sys.executable, "-c", code, tmp_path / "run"], capture_output=True, text=True, check=False)
    assert other.returncode == 1
    assert f"another process (id {os.getpid()}) is working in" in other.stderr


def test_links_in_a_run_folder_are_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "victim").write_text("victim")
    _open(folder)
    for name, write in {
        "episodes": lambda run: write_json(run.folder / "episodes" / "x.json", 1),
        "cache": lambda run: write_json(run.cache_folder / "deep" / "x.json", 1),
        "s0": lambda run: lock(run.folder / "s0"),
        "policy": lambda run: write_json(run.folder / "policy" / "a" / "b" / "c.json", 1),
    }.items():
        (folder / name).symlink_to(outside)
        with pytest.raises(RwmlError, match=f"'{folder / name}' is a link, to '{outside}'"):
            write(_open(folder))
        (folder / name).unlink()
    (folder / "metrics.jsonl").symlink_to(outside / "victim")
    with pytest.raises(RwmlError, match=r"metrics\.jsonl' is a link") as caught:
        MetricsLog(folder / "metrics.jsonl").append({"stage": "collect", "step": 1})
    assert caught.value.fix.startswith("remove it")
    assert contents(outside) == {"victim": b"victim"}


def test_a_lock_that_is_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    _open(tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "strange", ignore=shutil.ignore_patterns(".lock"))
    (tmp_path / "victim").write_text("victim")
    (tmp_path / "strange" / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(RwmlError, match=r"\.lock' is a link"):
        _open(tmp_path / "strange")
    (tmp_path / "strange" / ".lock").unlink()
    os.mkfifo(tmp_path / "strange" / ".lock")
    with pytest.raises(RwmlError, match=r"\.lock' is not a plain file"):
        _open(tmp_path / "strange")
    assert (tmp_path / "victim").read_text() == "victim"


def test_a_file_a_long_name_and_a_file_on_the_way_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with pytest.raises(RwmlError, match=r"cannot write .*: Not a directory"):
        claim(tmp_path / "file")
    with pytest.raises(RwmlError, match=r"cannot write .*: Not a directory"):
        claim(tmp_path / "file" / "run")
    with pytest.raises(RwmlError, match=r"cannot write .*: File name too long") as caught:
        claim(tmp_path / ("x" * 300))
    assert "shorter path" in caught.value.fix
    with pytest.raises(RwmlError, match="it holds a NUL"):
        claim(Path("a\0b"))
    assert contents(tmp_path) == {"file": b"kept"}


@pytest.mark.parametrize("moment", ["before a write", "at the end"])
@pytest.mark.parametrize("again", [False, True])
def test_a_folder_that_is_removed_ends_the_stage_and_is_not_made(tmp_path: Path, moment: str, again: bool) -> None:
    run = _open(tmp_path / "run")
    with pytest.raises(RwmlError, match="was removed or moved while this process worked in it"), run.stage(CHAIN[0]):
        write_json(run.folder / "episodes" / "0.json", 0)
        shutil.rmtree(run.folder)
        if again:
            run.folder.mkdir()
        if moment == "before a write":
            write_json(run.folder / "episodes" / "1.json", 1)
    assert os.listdir(tmp_path) == (["run"] if again else [])
    assert contents(tmp_path) == {}
    assert _open(tmp_path / "run").state("collect") == "new", "the next command begins from nothing"
