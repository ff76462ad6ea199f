"""`rwml import` as a person uses it, and a run that continues with what it made."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.records import read_episodes, read_json, read_records
from rwml.core.run import Run
from rwml.core.types import Transition
from rwml.exchange.episode_folder import imported_episodes
from rwml.stages import collect
from rwml.stages import import_logs as import_
from rwml.stages.pipeline import run_all

pytestmark = pytest.mark.slow  # runs stages on imported logs, and the command line

FORM = '{"type": "object", "properties": {"sky": {"type": "string"}}}'


def record(task: str, split: str = "train", **more: Any) -> str:
    call = {"id": "1", "type": "function", "function": {"name": "sky", "arguments": '{"town": "Ulm"}'}}
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": f"How is {task}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": '{"sky": "blue"}'},
        {"role": "assistant", "content": "Blue. More?"},
        {"role": "user", "content": "No."},
    ]
    return json.dumps({"messages": messages, "task": task, "split": split, "success": True} | more)


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Four good records of three tasks, one of them held out, and two broken ones."""
    path = tmp_path / "logs.jsonl"
    lines = [
        record("a"),
        "{",
        record("b"),
        record("a"),
        record("c", "test"),
        json.dumps({"messages": [{"role": "user"}]}),
    ]
    path.write_text("\n".join(lines))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """All but the manifest, which says that it is an import, and the lock."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in folder.rglob("*")
        if p.is_file() and p.name not in ("manifest.json", ".lock")
    }


def test_what_an_import_leaves(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = import_.run([logs], out)
    assert sorted(contents(out)) == ["episodes/00000.parquet", "import.json", "rejected.jsonl", "transitions.parquet"]
    assert read_json(out / "import.json") == summary
    expected = {
        "episodes": 4,
        "tasks": 3,
        "successes": 4,
        "episodes by split": {"test": 1, "train": 3},
        "episodes by domain": {"chat": 4},
        "episodes by stop reason": {"success": 4},
        "transitions": 8,
        "transitions by kind": {"tool": 4, "user": 4},
        "transitions by tool": {"sky": 4},
        "transitions knowable from the history": 0,
        "tool errors": 0,
        "rejected": {"no JSON": 1, "no action with a next state": 1},
        "left out": {},
        "notes": [],
    }
    assert {key: summary[key] for key in expected} == expected
    assert summary["files"] == [{"path": str(logs), "items": 6, "episodes": 4, "broken": 0, "rejected": 2}]
    rejected = [json.loads(line) for line in (out / "rejected.jsonl").read_text().splitlines()]
    assert [(item["item"], item["text"].strip()) for item in rejected] == [
        ("line 2", "{"),
        ("line 6", '{"messages": [{"role": "user"}]}'),
    ]
    rows = read_records(out / "transitions.parquet", Transition)
    assert [(row.kind, row.verb, row.next_state) for row in rows[:2]] == [
        ("tool", "sky", FORM),
        ("user", "message", "No."),
    ]
    assert rows[1].history == ('{"name": "sky", "arguments": {"town": "Ulm"}}', '{"sky": "blue"}')
    assert [row.split for row in rows] == ["train"] * 6 + ["test"] * 2
    assert len(imported_episodes(out, "test")) == 1
    assert imported_episodes(out) == imported_episodes(out / "episodes") == read_episodes(out / "episodes")


def test_an_import_without_briefing(logs: Path, tmp_path: Path) -> None:
    import_.run([logs], tmp_path / "full")
    import_.run([logs], tmp_path / "brief", briefing=False)
    full, brief = (imported_episodes(tmp_path / name) for name in ("full", "brief"))
    assert full[0].opening == "Be kind.\n\nUser: How is a?"
    assert brief[0].opening == "User: How is a?"
    assert [e.task for e in full] == [e.task for e in brief]


def test_tasks_that_state_their_split_are_not_held_out(logs: Path, tmp_path: Path) -> None:
    assert import_.run([logs], tmp_path / "out", hold_out=0.99)["episodes by split"] == {"test": 1, "train": 3}
    with pytest.raises(RwmlError, match="hold-out is 1"):
        import_.run([logs], tmp_path / "out", hold_out=1.0)


def test_the_same_import_again_leaves_the_same_bytes_and_replaces_an_older_one(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_.run([logs], out)
    before = contents(out)
    other = tmp_path / "other.jsonl"
    other.write_text(record("z"))
    (out / "mine.txt").write_text("kept")
    assert import_.run([other], out)["episodes"] == 1
    assert [e.task.id for e in imported_episodes(out)] == ["z"]
    import_.run([logs], out)
    assert contents(out) == before | {"mine.txt": b"kept"}


def test_an_import_does_not_replace_a_run_nor_the_files_of_others(logs: Path, tmp_path: Path) -> None:
    run = Run.open(parse_recipe({"name": "r", "out": str(tmp_path / "run")}))
    with run.stage("collect"):
        (run.folder / "episodes").mkdir()
        (run.folder / "episodes" / "mine").write_text("played")
    with pytest.raises(RwmlError, match="is a run folder") as caught:
        import_.run([logs], run.folder)
    assert "the stages after them would still count as done" in caught.value.why
    assert (run.folder / "episodes" / "mine").read_text() == "played"
    with pytest.raises(RwmlError, match=r"was not made by rwml and is not empty: it holds logs\.jsonl"):
        import_.run([logs], logs.parent)


def test_an_import_is_one_writer(logs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    import_.run([logs], out)
    code = "import sys; from rwml.stages.import_logs import run; run([sys.argv[1]], sys.argv[2])"
    other = subprocess.run([sys.executable, "-c", code, logs, out], capture_output=True, text=True, check=False)
    assert f"is working in '{out}'" in other.stderr


@pytest.mark.slow
def test_an_import_that_is_killed_is_simply_given_again(logs: Path, tmp_path: Path) -> None:
    many = tmp_path / "many.jsonl"
    many.write_text("\n".join(record(f"t{number}") for number in range(3000)))
    out, whole = tmp_path / "out", tmp_path / "whole"
    import_.run([logs], out)
    command = [sys.executable, "-m", "rwml.cli", "import", str(many), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while (out / "import.json").exists() and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    import_.run([many], out)
    import_.run([many], whole)
    assert contents(out) == contents(whole)


def test_an_import_of_nothing_says_why_and_leaves_no_episodes(logs: Path, tmp_path: Path) -> None:
    out, bad = tmp_path / "out", tmp_path / "bad.jsonl"
    import_.run([logs], out)
    bad.write_text("}\n\n]\nhello")
    with pytest.raises(RwmlError, match=r"no JSON \(3\)"):
        import_.run([bad], out)
    assert sorted(contents(out)) == ["import.json", "rejected.jsonl"]
    with pytest.raises(RwmlError, match="no imported episodes"):
        imported_episodes(out)


def test_the_command(logs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rwml.cli", "import", str(logs), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "4 episodes of 3 tasks, 4 solved",
        "8 transitions (4 tool, 4 user)",
        f"2 rejected, 0 broken off: {tmp_path / 'out' / 'rejected.jsonl'}",
        "  no JSON (1), no action with a next state (1)",
        f"to train on them: rwml run RECIPE collect.episodes={tmp_path / 'out' / 'episodes'}",
    ]
    assert "import: " in done.stderr
    missing = subprocess.run([*command[:4], "nowhere", *command[5:]], capture_output=True, text=True, check=False)
    assert missing.returncode == 2
    assert "there is no file 'nowhere'" in missing.stderr


def _recipe(tmp_path: Path, **collect_keys: Any) -> Recipe:
    return parse_recipe(
        {
            "name": "r",
            "out": str(tmp_path / "run"),
            "world": {"name": "chat"},
            "collect": {"episodes": str(tmp_path / "out" / "episodes"), "episodes_in_flight": 2} | collect_keys,
            "transitions": {"valid_fraction": 0.0},
        }
    )


def test_a_run_takes_the_episodes_of_its_split_and_goes_on(logs: Path, tmp_path: Path) -> None:
    import_.run([logs], tmp_path / "out")
    run = Run.open(_recipe(tmp_path))
    run_all(run, until="transitions")
    episodes = read_episodes(run.folder / "episodes")
    assert episodes == imported_episodes(tmp_path / "out", "train")
    counts = run.summary()["collect"]["counts"]
    assert {key: counts[key] for key in counts if key.startswith("imported")} == {
        "imported, of other splits": 1,
        "imported, of other worlds": 0,
        "imported, beyond num_tasks": 0,
    }
    assert (counts["episodes"], counts["won"], counts["steps"]) == (3, 3, 6)
    rows = read_records(run.folder / "transitions.parquet", Transition)
    ours = read_records(tmp_path / "out" / "transitions.parquet", Transition)
    assert rows == [row for row in ours if row.split == "train"]


def test_a_run_takes_whole_tasks(logs: Path, tmp_path: Path) -> None:
    import_.run([logs], tmp_path / "out")
    run = Run.open(_recipe(tmp_path, num_tasks=1))
    collect.run(run)
    assert [e.task.id for e in read_episodes(run.folder / "episodes")] == ["a", "a"]
    assert run.summary()["collect"]["counts"]["imported, beyond num_tasks"] == 1


def test_a_run_says_what_is_wrong_with_its_episodes(logs: Path, tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match="rwml import FILES"):
        collect.run(Run.open(_recipe(tmp_path)))
    import_.run([logs], tmp_path / "out")
    with pytest.raises(
        RwmlError, match=r"no episodes of the world chat in the split 'valid'.*\n.*\n.*chat/test, chat/train"
    ):
        collect.run(Run.open(_recipe(tmp_path, split="valid")))
    with pytest.raises(RwmlError, match=r"collect\.episodes"):
        collect.run(Run.open(_recipe(tmp_path, episodes="")))
