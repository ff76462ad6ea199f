"""Stages go new -> running -> done; what changed runs again, what was cut off continues, what is newer is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import rwml
from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.records import Parts, file_hash, folder_hash, read_json, write_json, write_records
from rwml.core.run import CHAIN, OUTPUTS, Run, read_manifest
from rwml.core.types import PredictedState, Task


def _recipe(out: Path, **sections: Any) -> Recipe:
    return parse_recipe({"name": "r", "out": str(out / "run"), **sections})


def _collect(run: Run, text: str = "x") -> bool:
    with run.stage("collect", sections=["world", "collect"]) as stage:
        write_records(run.folder / "episodes" / "00000.parquet", [Task(text, "w", "train", "k")], Task)
        stage.counts["episodes"] = 1
        return stage.resumed


def _transitions(run: Run) -> None:
    with run.stage("transitions", reads=[run.folder / "episodes"], sections=["transitions"]):
        write_json(run.folder / "transitions.parquet", 1)


def test_a_stage_that_ends_well_is_done_with_all_its_facts(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path, seed=5))
    assert (run.state("collect"), run.is_done("collect")) == ("new", False)
    _collect(run)
    _transitions(run)
    assert run.is_done("collect")
    assert run.is_done("transitions")
    assert list(run.summary()) == ["collect", "transitions"]
    record = read_json(run.folder / "manifest.json")["stages"]["transitions"]
    episodes = folder_hash(run.folder / "episodes")
    assert record["inputs"] == {"episodes": episodes}
    assert record["outputs"] == {"transitions.parquet": file_hash(run.folder / "transitions.parquet")}
    assert (record["state"], record["seed"], record["attempts"], record["error"]) == ("done", 5, 1, "")
    assert record["versions"]["rwml"] == rwml.__version__
    assert record["versions"]["python"].startswith("3.")
    assert record["seconds"] >= 0
    assert record["peak_rss_mb"] > 10
    assert run.summary()["collect"]["counts"] == {"episodes": 1}
    assert read_json(run.folder / "recipe.json") == run.recipe.model_dump(mode="json")


def test_done_stages_stay_done_in_the_next_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _collect(Run.open(_recipe(tmp_path)))
    again = Run.open(_recipe(tmp_path))
    assert again.is_done("collect")
    assert capsys.readouterr().err == ""
    (again.folder / "episodes" / "00000.parquet").unlink()
    (again.folder / "episodes").rmdir()
    assert not again.is_done("collect")


def test_a_changed_section_makes_the_stage_and_all_later_ones_stale(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path))
    _collect(run)
    _transitions(run)
    said: list[str] = []
    same = Run.open(_recipe(tmp_path, train_wm={"epochs": 9}), said.append)
    assert same.is_done("transitions")
    assert said == []
    changed = Run.open(_recipe(tmp_path, transitions={"history_steps": 3}), said.append)
    assert changed.is_done("collect")
    assert changed.state("transitions") == "stale"
    assert said[0].endswith("settings for transitions changed since the last run; these run again: transitions")
    _transitions(changed)
    Run.open(_recipe(tmp_path, seed=1), said.append)
    assert said[1].endswith("these run again: collect, transitions")


def test_a_stage_may_depend_on_one_setting_of_a_section(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path))
    with run.stage("collect", sections=["world", "train_wm.reward"]):
        (run.folder / "episodes").mkdir()
    assert Run.open(_recipe(tmp_path, train_wm={"epochs": 9})).is_done("collect")
    table = {"reward": {"tool": "rouge"}}
    assert Run.open(_recipe(tmp_path, train_wm=table)).state("collect") == "stale"


def test_a_stage_does_not_read_what_another_recipe_made(tmp_path: Path) -> None:
    _collect(Run.open(_recipe(tmp_path)))
    changed = Run.open(_recipe(tmp_path, collect={"rollouts_per_task": 9}))
    with pytest.raises(RwmlError, match="transitions reads 'episodes', and collect, which writes it, is stale"):
        with changed.stage("transitions", reads=[changed.folder / "episodes"]):
            pass
    assert changed.state("transitions") == "new"
    # Files that no stage of this folder wrote are the user's own.
    (changed.folder / "transitions.parquet").touch()
    with changed.stage("filter", reads=["transitions.parquet"]):
        (changed.folder / "filtered.parquet").touch()


def test_peeking_marks_nothing(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path))
    _collect(run)
    before = {path: path.read_bytes() for path in run.folder.glob("*.json")}
    assert Run.peek(_recipe(tmp_path)).is_done("collect")
    other = Run.peek(_recipe(tmp_path, collect={"rollouts_per_task": 9}))
    assert (other.state("collect"), other.is_done("collect")) == ("stale", False)
    assert {path: path.read_bytes() for path in run.folder.glob("*.json")} == before
    assert not Run.peek(_recipe(tmp_path / "none")).folder.exists()


def test_running_a_stage_again_clears_its_files_and_makes_later_ones_stale(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path))
    _collect(run)
    _transitions(run)
    run.metrics.append({"stage": "collect", "step": 1})
    run.metrics.append({"stage": "transitions", "step": 1})
    (run.folder / "episodes" / "left").write_text("over")
    assert _collect(run, "y") is False
    assert os.listdir(run.folder / "episodes") == ["00000.parquet"]
    assert run.metrics.read() == [{"stage": "transitions", "step": 1}]
    assert run.state("transitions") == "stale"
    assert not run.is_done("transitions")


def test_invalidate_takes_a_stage_and_those_after_it(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path))
    _collect(run)
    _transitions(run)
    assert run.invalidate("transitions") == ["transitions"]
    assert run.is_done("collect")
    assert run.invalidate("collect") == ["collect", "transitions"]
    with pytest.raises(RwmlError, match="no stage 'colect'") as caught:
        run.invalidate("colect")
    assert "did you mean 'collect'?" in caught.value.fix


def test_a_failed_stage_keeps_its_message_and_is_resumed(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path))
    with pytest.raises(ZeroDivisionError), run.stage("collect", sections=["collect"]):
        Parts(run.folder / "episodes").write(0, [Task("a", "w", "train", "k")], Task)
        raise ZeroDivisionError("over nothing")
    record = run.summary()["collect"]
    assert (record["state"], record["error"]) == ("failed", "over nothing")
    with Run.open(_recipe(tmp_path)).stage("collect", sections=["collect"]) as stage:
        assert stage.resumed
        assert Parts(run.folder / "episodes").done(0)
    assert read_manifest(run.folder)["stages"]["collect"]["attempts"] == 2
    # Not resumed when the settings differ: the parts of another run must not mix in.
    with pytest.raises(ZeroDivisionError), run.stage("collect", sections=["collect"]):
        raise ZeroDivisionError
    changed = Run.open(_recipe(tmp_path, collect={"rollouts_per_task": 9}))
    with changed.stage("collect", sections=["collect"]) as stage:
        assert not stage.resumed
        assert not (run.folder / "episodes").exists()
        Parts(run.folder / "episodes").write(0, [], Task)


def test_a_missing_input_says_what_to_run(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path))
    with pytest.raises(RwmlError, match="episodes' does not exist"):
        _transitions(run)
    assert run.state("transitions") == "new"


@pytest.mark.parametrize(("key", "value"), [("rwml", "99.0.0"), ("format", 99)])
def test_a_run_folder_of_a_newer_version_is_refused(tmp_path: Path, key: str, value: object) -> None:
    run = Run.open(_recipe(tmp_path))
    _collect(run)
    manifest = read_json(run.folder / "manifest.json")
    write_json(run.folder / "manifest.json", manifest | {key: value})
    before = file_hash(run.folder / "manifest.json")
    with pytest.raises(RwmlError, match="was written by a newer rwml") as caught:
        Run.open(_recipe(tmp_path))
    assert "upgrade rwml" in caught.value.fix
    assert file_hash(run.folder / "manifest.json") == before


def test_two_processes_cannot_work_in_one_folder(tmp_path: Path) -> None:
    Run.open(_recipe(tmp_path))
    script = (
        "import sys\nfrom rwml.core.recipe.recipe import parse_recipe\nfrom rwml.core.run import Run\n"
        "Run.open(parse_recipe({'name': 'r', 'out': sys.argv[1]}))\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"another process (id {os.getpid()}) is working in" in done.stderr


def test_outputs_follow_the_chain() -> None:
    assert CHAIN == ("collect", "transitions", "filter", "train_wm", "train_policy", "evaluate", "report")
    assert len({name for names in OUTPUTS.values() for name in names}) == sum(map(len, OUTPUTS.values()))


KILLED = """
import os, signal, sys, time
from rwml.core import run as manifest
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.run import Run
from rwml.core.progress import progress
from rwml.core.records import Parts
from rwml.core.types import PredictedState

manifest.NOTE_EVERY_S = 0.0
run = Run.open(parse_recipe({"name": "r", "out": sys.argv[1]}))
with run.stage("collect", sections=["collect"]) as stage, progress("x", 4) as bar:
    parts = Parts(run.folder / "episodes")
    for i in range(4):
        if not parts.done(i):
            parts.write(i, [PredictedState(f"t{i}", "text", None, distance=i / 3, reward=1.0)], PredictedState)
            run.metrics.append({"stage": "collect", "step": i})
            time.sleep(0.1)
        bar.advance()
        if i == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
    stage.counts["parts"] = 4
"""


@pytest.mark.slow
def test_kill_9_and_the_same_command_end_in_the_same_files(tmp_path: Path) -> None:
    def go(name: str, kill_at: int) -> int:
        command = [sys.executable, "-c", KILLED, str(tmp_path / name), str(kill_at)]
        return subprocess.run(command, check=False).returncode

    assert go("whole", -1) == 0
    assert go("cut", 0) == -9
    cut = read_manifest(tmp_path / "cut")["stages"]["collect"]
    assert (cut["state"], cut["seconds"] >= 0.1, cut["peak_rss_mb"] > 10) == ("running", True, True)
    assert go("cut", 2) == -9
    assert go("cut", -1) == 0
    assert folder_hash(tmp_path / "cut" / "episodes") == folder_hash(tmp_path / "whole" / "episodes")
    assert file_hash(tmp_path / "cut" / "metrics.jsonl") == file_hash(tmp_path / "whole" / "metrics.jsonl")
    record = read_manifest(tmp_path / "cut")["stages"]["collect"]
    assert (record["state"], record["attempts"], record["counts"]) == ("done", 3, {"parts": 4})
    assert record["seconds"] >= 0.4  # a tenth for each part, whichever attempt wrote it
    states = Parts(tmp_path / "cut" / "episodes").read(PredictedState, 4)
    assert [state.transition for state in states] == ["t0", "t1", "t2", "t3"]


def test_a_stage_reads_what_it_declared_and_nothing_else(tmp_path: Path) -> None:
    run = Run.open(_recipe(tmp_path, collect={"num_tasks": 5}), say=lambda text: None)
    with run.stage("collect", sections=["world", "collect.num_tasks"]) as stage:
        assert stage.recipe.seed == run.recipe.seed
        assert stage.recipe.world is run.recipe.world
        assert stage.recipe.collect.num_tasks == 5
        for name in ("model", "train_wm", "name", "out"):
            with pytest.raises(AssertionError, match=rf"the stage collect reads '{name}'.* add '{name}'"):
                getattr(stage.recipe, name)
        with pytest.raises(AssertionError, match=r"reads 'collect\.split'.* add 'collect\.split'"):
            _ = stage.recipe.collect.split
        with pytest.raises(AssertionError, match="reads 'overridden'"):
            stage.recipe.overridden(("seed=3",))
        (run.folder / "episodes").mkdir()
    for wrong, message in (["wrold"], "no section 'wrold'"), (["collect.num_task"], r"\[collect\] has no key"):
        with pytest.raises(AssertionError, match=message), run.stage("transitions", sections=wrong):
            pass


def test_keys_without_effect_leave_a_stage_done(tmp_path: Path) -> None:
    judge = {"base_url": "http://a/v1", "model": "m"}
    run = Run.open(_recipe(tmp_path, judge=judge), say=lambda text: None)
    with run.stage("collect", sections=["judge"]) as stage:
        assert stage.recipe.judge.base_url == "http://a/v1"
        (run.folder / "episodes").mkdir()
    elsewhere = {"base_url": "http://b/v1", "api_key_env": "KEY", "max_concurrency": 2, "timeout_s": 5.0}
    assert Run.peek(_recipe(tmp_path, judge=judge | elsewhere)).is_done("collect")
    assert not Run.peek(_recipe(tmp_path, judge=judge | {"model": "n"})).is_done("collect")
