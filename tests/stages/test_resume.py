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

from rwml.core.recipe.recipe import Recipe, recipe_toml
from rwml.core.records import MetricsLog, read_json

pytestmark = pytest.mark.slow  # a pipeline that is killed a dozen times

# What a kill strikes, and in which share of the writes to it; in the order of the stages. `predictor` is the filter's
# model and its predictions, `metrics` the steps of the training stages. What a first kill left is not written again.
KILLS = [
    ("episodes", 0.0, 0.9),
    ("transitions", 0.0, 0.9),
    ("predictor", 0.0, 0.4),
    ("predictor", 0.0, 0.4),
    ("filtered", 0.0, 0.9),
    ("metrics", 0.0, 0.35),
    ("world_model", 0.0, 0.5),
    ("manifest", 0.0, 0.05),
    ("metrics", 0.0, 0.35),
    ("policy", 0.0, 0.5),
    ("evaluation", 0.0, 0.5),
    ("evaluation", 0.0, 0.3),
]
# They tell times, places or attempts; the embedding cache only saves work.
NOT_DATA = {"manifest.json", "recipe.json", "metrics.jsonl", "report.html", "report.png", ".lock"}


def write(recipe: Recipe) -> str:
    path = recipe.folder.with_suffix(".toml")
    path.write_text(recipe_toml(recipe.model_dump(mode="json")))
    return str(path)


def data(folder: Path) -> dict[str, bytes]:
    """Every file that later stages or people read, by its name in the run folder."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in NOT_DATA)
    named = {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
    return {name: content for name, content in named.items() if not name.startswith("cache/")}


def metrics(folder: Path) -> list[dict[str, Any]]:
    rows = MetricsLog(folder / "metrics.jsonl").read()
    return [{key: value for key, value in row.items() if not key.endswith("_s")} for row in rows]


@pytest.mark.timeout(600)
def test_a_killed_run_ends_as_an_undisturbed_one(mini: Callable[..., Recipe], tmp_path: Path) -> None:
    whole, killed = mini(tmp_path / "whole"), mini(tmp_path / "killed")
    draw = random.Random(0)
    kills = [(part, draw.uniform(low, high)) for part, low, high in KILLS]
    script = Path(__file__).with_name("killer.py")
    command = [sys.executable, str(script), write(whole), write(killed), json.dumps(kills)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=560)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["statuses"] == [0] + [-9] * len(KILLS) + [0], (result, done.stderr[-3000:])

    expected, found = data(whole.folder), data(killed.folder)
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    assert metrics(killed.folder) == metrics(whole.folder)
    assert len(metrics(whole.folder)) == 8
    stages = read_json(killed.folder / "manifest.json")["stages"]
    assert {stage["state"] for stage in stages.values()} == {"done"}
    assert sum(stage["attempts"] for stage in stages.values()) > len(stages) + len(KILLS) // 2
    for name, stage in read_json(whole.folder / "manifest.json")["stages"].items():
        assert stages[name]["counts"] == stage["counts"] or name == "report", name
