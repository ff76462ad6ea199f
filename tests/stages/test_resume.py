"""`kill -9` at many moments, then the same command: the same files as a run that nobody disturbed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwml.core.config import Recipe
from rwml.core.store import MetricsLog, read_json
from rwml.stages.wording import recipe_toml

# What a kill strikes, in the order of the stages. `predictor` is the filter's model and its predictions.
PARTS = ("episodes", "transitions", "predictor", "predictor", "filtered", "metrics", "world_model", "world_model",
         "manifest", "policy", "metrics", "evaluation", "evaluation", "eval", "report")  # fmt: skip
# They tell times, places or attempts; the embedding cache only saves work.
NOT_DATA = {"manifest.json", "recipe.json", "metrics.jsonl", "report.html", "report.png", ".lock"}


def run_killed(recipe: Recipe, kills: list[tuple[str, int]]) -> dict[str, Any]:
    path = recipe.folder.with_suffix(".toml")
    path.write_text(recipe_toml(recipe.model_dump(mode="json")))
    command = [sys.executable, str(Path(__file__).with_name("killer.py")), str(path), json.dumps(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["statuses"][-1] == 0, done.stderr[-3000:]
    return result


def data(folder: Path) -> dict[str, bytes]:
    """Every file that later stages or people read, by its name in the run folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in NOT_DATA)
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return {name: content for name, content in named.items() if not name.startswith("cache/")}


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = MetricsLog(folder / "metrics.jsonl").read()
    return [{key: value for key, value in row.items() if not key.endswith("_s")} for row in rows]


def kill_plan(touched: dict[str, int], seed: int) -> list[tuple[str, int]]:
    """A moment for every entry of PARTS. A part that is struck twice is struck in its first half at first."""
    draw = random.Random(seed)
    plan, struck = [], set[str]()
    for part in PARTS:
        most = touched[part]
        if part in ("metrics", "manifest", *struck):
            most = max(1, most // 4)  # what is done by then is not touched again
        elif PARTS.count(part) > 1:
            most = max(1, most // 2)
        struck.add(part)
        plan.append((part, draw.randint(1, most)))
    return plan


@pytest.fixture(scope="module")
def undisturbed(mini: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    recipe = mini(tmp_path_factory.mktemp("undisturbed") / "run")
    return recipe.folder, run_killed(recipe, [])["touched"]


@pytest.mark.parametrize("seed", [0])
def test_killed_runs_end_as_undisturbed_ones(
    mini: Callable[..., Recipe], undisturbed: tuple[Path, dict[str, int]], tmp_path: Path, seed: int
) -> None:
    whole, touched = undisturbed
    assert all(touched[part] >= 2 for part in PARTS), touched
    plan = kill_plan(touched, seed)
    recipe = mini(tmp_path / "run")
    statuses = run_killed(recipe, plan)["statuses"]
    assert statuses == [-9] * len(plan) + [0], list(zip(plan, statuses, strict=False))
    expected, found = data(whole), data(recipe.folder)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert metrics(recipe.folder) == metrics(whole)
    assert len(metrics(whole)) == 8
    stages = read_json(recipe.folder / "manifest.json")["stages"]
    assert {stage["state"] for stage in stages.values()} == {"done"}
    assert sum(stage["attempts"] for stage in stages.values()) > len(stages)
    for name, stage in read_json(whole / "manifest.json")["stages"].items():
        assert stages[name]["counts"] == stage["counts"] or name == "report", name
