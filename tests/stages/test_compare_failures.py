"""What a comparison survives: settings tried on one arm, an arm that fails, an interrupt; and what it then shows."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, parse_recipe, recipe_toml
from rwml.core.records import read_json
from rwml.measure.compare.results import figures as compare_figures
from rwml.stages import compare

pytestmark = pytest.mark.slow  # a comparison is many pipelines

BASE: dict[str, Any] = {"name": "base"}
SFT: dict[str, Any] = {"name": "wm_sft", "stages": ["train_wm"], "set": {"train_wm.method": "sft"}}
POLICY: dict[str, Any] = {"name": "policy", "stages": ["train_policy"], "set": {"train_policy.start": "model"}}
EQUAL: dict[str, Any] = POLICY | {"name": "equal", "compute": "policy"}
BROKEN: dict[str, Any] = POLICY | {
    "name": "broken", "set": {"train_policy.start": "model", "train_policy.split": "nowhere"}
}  # fmt: skip


@pytest.fixture(scope="module")
def made(mini: Callable[..., Recipe]) -> Callable[..., Recipe]:
    def make(folder: Path, arms: list[dict[str, Any]], seeds: tuple[int, ...] = (0,), **sections: Any) -> Recipe:
        small: dict[str, Any] = {
            "train_wm": {"max_steps": 2}, "train_policy": {"steps": 2, "tasks_per_step": 2},
            "evaluate": {"num_transitions": 4}, "filter": {"enabled": False},
        }  # fmt: skip
        merged = {name: small.get(name, {}) | sections.get(name, {}) for name in small | sections}
        data = mini(folder, **merged).model_dump(mode="json")
        return parse_recipe(data | {"compare": {"seeds": list(seeds), "arms": arms, "num_examples": 2}})

    return make


def test_a_setting_tried_on_one_arm_leaves_no_trace_in_the_others(made: Callable[..., Recipe], tmp_path: Path) -> None:
    arms = [BASE, SFT, POLICY, EQUAL]
    recipe = made(tmp_path / "run", arms)
    compare.run(recipe)
    before = read_json(recipe.folder / "compare.json")
    assert all(arm["seeds"] == [0] for arm in before["arms"].values())
    trained = [path for name in ("policy", "equal") for path in (recipe.folder / "s0" / name).rglob("*")]
    stamps = {path: path.stat().st_mtime_ns for path in trained if path.is_file()}
    other = made(tmp_path / "run", arms, train_policy={"learning_rate": 1e-4})
    assert compare.run(other, ["wm_sft"]) is not None
    after = read_json(recipe.folder / "compare.json")["arms"]
    assert after["policy"]["missing"] == {"0": "train_policy is not done"}
    assert after["equal"]["missing"] == {"0": "policy is not done"}
    assert after["equal"]["measures"] == after["equal"]["weight_change"] == {}
    compare.run(recipe, ["base"])
    assert read_json(recipe.folder / "compare.json")["arms"] == before["arms"]
    assert {path: path.stat().st_mtime_ns for path in trained if path.is_file()} == stamps


def test_how_often_the_bootstrap_draws_is_no_reason_to_examine_again(
    made: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = made(tmp_path / "run", [BASE])
    compare.run(recipe)
    parts = {path: path.stat().st_mtime_ns for path in (recipe.folder / "s0/evaluation/base").rglob("*.parquet")}
    compare.run(made(tmp_path / "run", [BASE], evaluate={"bootstrap_samples": 150}))
    assert read_json(recipe.folder / "compare.json")["bootstrap_samples"] == 150
    assert {path: path.stat().st_mtime_ns for path in parts} == parts != {}
    compare.run(made(tmp_path / "run", [BASE], evaluate={"max_new_tokens": 20}))
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in parts.items())


def test_an_arm_that_fails_stops_no_other_and_no_report(
    made: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = made(tmp_path / "run", [BASE, BROKEN, POLICY], (0, 1))
    with pytest.raises(RwmlError, match=r"seed 0, broken: .*nowhere"):
        compare.run(recipe)
    shown = read_json(recipe.folder / "compare.json")["arms"]
    assert shown["policy"]["seeds"] == [0, 1]
    assert shown["broken"]["missing"] == {"0": "train_policy is not done", "1": "train_policy is not done"}
    errors = capsys.readouterr().err
    assert "seed 1, broken: " in errors
    assert f"2 failed; the report is of the others: {recipe.folder / 'compare.html'}" in errors


def test_an_examination_that_lost_a_part_is_not_shown_and_not_made_up(
    made: Callable[..., Recipe], tmp_path: Path
) -> None:
    recipe = made(tmp_path / "run", [BASE, SFT])
    compare.run(recipe)
    before = read_json(recipe.folder / "compare.json")["arms"]
    folder = recipe.folder / "s0" / "evaluation" / "wm_sft"
    next(iter(sorted(folder.rglob("*.parquet")))).unlink()
    figures = compare_figures(recipe)
    assert figures["arms"]["base"] == before["base"]
    assert figures["arms"]["wm_sft"]["missing"] == {
        "0": f"a part of its answers is lost: remove {folder} and run it again"
    }
    shutil.rmtree(folder)
    compare.run(recipe)
    assert read_json(recipe.folder / "compare.json")["arms"] == before


def test_until_leaves_an_arm_that_spends_for_later(
    made: Callable[..., Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = made(tmp_path / "run", [BASE, POLICY, EQUAL])
    assert compare.run(recipe, ["equal"], until="collect") is None
    assert "left for later: its number of policy steps follows from what all of policy cost" in capsys.readouterr().err
    assert not (recipe.folder / "s0" / "equal").exists()


def test_an_interrupt_ends_all_seeds_and_begins_none(made: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = made(tmp_path / "run", [BASE, SFT], (0, 1, 2, 3), train_wm={"max_steps": 200, "epochs": 200})
    path = tmp_path / "recipe.toml"
    path.write_text(recipe_toml(recipe.model_dump(mode="json")))
    command = [sys.executable, "-m", "rwml.cli", "compare", str(path), "--jobs", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        while not all((recipe.folder / f"s{seed}" / "base").exists() for seed in (0, 1)):
            assert running.poll() is None, running.stderr and running.stderr.read()
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopped; the same command continues from here" in errors
    assert not (recipe.folder / "s2").exists()
    assert not (recipe.folder / "s3").exists()
