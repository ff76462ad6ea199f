"""`rwml measure` on a small run: its figures, that they are kept, the table, and mistakes on the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import made
from rwml.cli import app
from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe
from rwml.core.run import Run
from rwml.measure.plans import LEFT_OUT
from rwml.measure.weight_change import measure_weight_change
from rwml.stages.measure import outcome, run
from rwml.stages.pipeline import run_all

pytestmark = pytest.mark.slow  # runs whole pipelines

MEASURE = {**made.MEASURE, "policies": ["model", "expert", "nobody"]}


@pytest.fixture(scope="module")
def folder(mini: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is trained and measured."""
    place = tmp_path_factory.mktemp("run") / "mini"
    corpus = place.with_name("corpus.txt")
    corpus.write_text("You open the drawer 1.\n\nA pen is in the drawer 2.")
    recipe = mini(
        place, measure={**MEASURE, "corpus": str(corpus)}, filter={"enabled": False}, train_wm={"max_steps": 2}
    )
    run_all(Run.open(recipe), until="train-policy")
    run(place)
    return place


def test_everything_is_measured(folder: Path, model_folder: Path) -> None:
    result = json.loads((folder / "measures.json").read_text())
    assert list(result["arms"]) == ["model", "policy", "world_model"]
    for arm, figures in result["arms"].items():
        assert sorted(figures) == ["held_out", "plans", "rollouts", "text"], arm
        assert sorted(figures["plans"]["by_source"]) == sorted(
            {"all", "model", "expert"} | {LEFT_OUT} & set(figures["plans"]["by_source"])
        )
        assert list(figures["rollouts"]["by_depth"]) == ["1", "2"]
        assert figures["text"]["passages"] == 2
        [held_out] = figures["held_out"].values()
        assert held_out["n"] == 4
        assert figures["rollouts"]["episodes"] == 4
        assert "rows" not in json.dumps(figures)
    [label] = result["arms"]["model"]["held_out"]
    assert label == "1 alfworld tiny valid_unseen"
    for arm in ("world_model", "policy"):
        for name, measured in {"text": ["text"], "held_out": ["held_out", label]}.items():
            before, after = result["arms"]["model"], result["arms"][arm]
            change = result["retention"][arm]
            for key in measured:
                before, after, change = before[key], after[key], change[key]
            assert change["loss"]["difference"] == pytest.approx(after["loss"]["mean"] - before["loss"]["mean"]), name
    weights = measure_weight_change(model_folder, folder / "world_model" / "final")
    assert result["weight_change"]["world_model"] == json.loads(json.dumps(weights))
    assert 0 < weights["share"] <= 1
    assert sorted(result["weight_change"]) == ["policy", "policy, from world_model", "world_model"]


def test_what_is_measured_is_kept(folder: Path) -> None:
    parts = {path: path.stat().st_mtime_ns for path in (folder / "measures").rglob("*") if path.is_file()}
    assert len(parts) >= 3 * 4 + 2
    assert "rows" in json.loads(next(path for path in parts if path.name.startswith("text-")).read_text())
    before = (folder / "measures.json").read_bytes()
    lost = next(path for path in parts if path.name.startswith("text-") and path.parent.name == "policy")
    lost.unlink()
    run(folder)
    assert (folder / "measures.json").read_bytes() == before
    assert {path for path, then in parts.items() if path.stat().st_mtime_ns != then} == {lost}


def test_another_setting_measures_what_depends_on_it_anew(folder: Path) -> None:
    parts = {path for path in (folder / "measures").rglob("*") if path.is_file()}
    changed = run(folder, ("measure.depth=1",))
    assert list(changed["arms"]["policy"]["rollouts"]["by_depth"]) == ["1"]
    new = {path for path in (folder / "measures").rglob("*") if path.is_file()} - parts
    assert sorted(path.name.split("-")[0] for path in new) == ["rollouts"] * 3
    assert list(run(folder)["arms"]["policy"]["rollouts"]["by_depth"]) == ["1", "2"]


def test_the_run_itself_is_left_as_it_is(folder: Path) -> None:
    def contents() -> dict[Path, tuple[int, bytes]]:
        own = {folder / "measures.json", folder / ".lock"}
        files = {path for path in folder.rglob("*") if path.is_file()} - own
        inside = {path for place in ("measures", "cache") for path in (folder / place).rglob("*")}
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files - inside}

    killed = folder / "measures" / "model" / ".text-0.json.1.partial"
    killed.write_text("{")
    before = contents()
    assert {folder / "recipe.json", folder / "manifest.json", folder / "metrics.jsonl"} <= set(before)
    run(folder, ("measure.depth=1",))
    assert contents() == before
    assert not killed.exists()


def test_a_run_that_another_process_works_in_is_refused(folder: Path, tmp_path: Path) -> None:
    busy = tmp_path / "busy"
    shutil.copytree(folder, busy, ignore=shutil.ignore_patterns(".lock"))
    holds = (
        "import pathlib, sys; from rwml.core.run_folder.claim import lock; "
        "lock(pathlib.Path(sys.argv[1])); print(); input()"
    )
    command = [sys.executable, "-c", holds, str(busy)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(RwmlError, match="another process") as error:
            run(busy)
        other.communicate(b"\n")
    assert str(other.pid) in error.value.what


def test_the_table(folder: Path) -> None:
    result = run(folder)
    lines = outcome(result).splitlines()
    assert lines[0].split() == ["model", "world_model", "policy"]
    text = next(line for line in lines if line.startswith("plain text: loss"))
    assert text.split()[-3:] == [f"{result['arms'][arm]['text']['loss']['mean']:.3f}" for arm in lines[0].split()]
    change = next(line for line in lines if line.startswith("world_model  "))
    assert change.split()[1] == f"{result['weight_change']['world_model']['share']:.1%}"
    assert all(len(line) <= 130 for line in lines)


def test_a_run_that_was_moved_is_measured_where_it_lies(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "moved {here}"
    shutil.copytree(folder, moved, ignore=shutil.ignore_patterns(".lock"))
    (moved / "measures.json").unlink()
    recipe = (moved / "recipe.json").read_bytes()
    done = CliRunner().invoke(app, ["measure", str(moved)])
    assert done.exit_code == 0, done.output
    assert "plain text: loss" in done.output
    assert (moved / "measures.json").read_bytes() == (folder / "measures.json").read_bytes()
    assert (moved / "recipe.json").read_bytes() == recipe


def test_mistakes_are_explained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RwmlError) as no_run:
        run(tmp_path)
    assert "is not a run folder" in no_run.value.what
    with pytest.raises(RwmlError) as other:
        run(folder, ("train_wm.epochs=3",))
    assert "'train_wm.epochs=3' is not a setting of the section [measure]" in other.value.what
    with pytest.raises(RwmlError) as unknown:
        run(folder, ("measure.dept=3",))
    assert "did you mean 'depth'?" in unknown.value.fix
