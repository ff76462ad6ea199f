"""The example of a world of one's own: its rules by hand, the checker, and a small training through the package."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import pytest

from rwml.core.files import read_json
from rwml.core.records import read_records
from rwml.core.types import Transition
from rwml.worlds.checker import check_world

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module("own_world")


def test_a_climb(example: ModuleType) -> None:
    world = example.Ladder()
    (task,) = [task for task in world.tasks("train") if task.id == "ladder-8-9"]
    env = world.env()
    assert env.reset(task) == "You are at shelf 8. Your task: go to shelf 9."
    down = env.step("go down")
    assert (down.observation, down.valid, down.terminated, down.reward) == ("You arrive at shelf 7.", True, False, 0.0)
    assert env.step("go left").observation == "Nothing happens."
    env.step("go up")
    up = env.step("go up")
    assert (up.observation, up.valid, up.terminated, up.reward) == ("You arrive at shelf 9.", True, True, 1.0)
    assert env.success
    assert env.admissible == ["go down"]


def test_the_world_is_sound_and_short(example: ModuleType) -> None:
    """No violation; 72 climbs, of which 16 are held out; fewer than 60 lines up to the recipe."""
    world = example.Ladder()
    assert check_world(world) == []
    assert world.splits() == ("train", "valid_unseen")
    assert [len(world.tasks(split)) for split in world.splits()] == [56, 16]
    lines = (EXAMPLES / "own_world.py").read_text().splitlines()
    assert lines.index("RECIPE = {") < 60


@pytest.mark.slow
def test_a_small_training(example: ModuleType, tmp_path: Path) -> None:
    """The stages run, every transition follows the rule of the ladder, and the figures are there."""
    recipe = example.RECIPE | {
        "collect": example.RECIPE["collect"] | {"num_tasks": 16},
        "filter": example.RECIPE["filter"] | {"predictor_epochs": 6, "num_predictions": 2},
        "train_wm": example.RECIPE["train_wm"] | {"sft_steps": 6, "max_steps": 8, "group_size": 4},
        "evaluate": example.RECIPE["evaluate"] | {"num_tasks": 1, "num_transitions": 16, "bootstrap_samples": 100},
    }
    line = example.main(str(tmp_path / "run"), recipe)
    assert line.startswith("own_world: world_model 0.")
    rows = read_records(tmp_path / "run" / "filtered.parquet", Transition)
    assert len(rows) > 40
    for row in rows:
        before = (row.history[-1] if row.history else row.opening.split(" Your task")[0]).rstrip(".")
        shelf = int(before.split()[-1]) + (1 if row.action == "go up" else -1)
        assert row.next_state == f"You arrive at shelf {shelf}."
    figures = read_json(tmp_path / "run" / "filter.json")
    # Rows of the split `valid` are not judged.
    assert figures["predictor_rows"] + figures["judged_rows"] == sum(row.split == "train" for row in rows)
    assert sum(figures["hits_histogram"]) == figures["judged_rows"]
    assert 0 <= read_json(tmp_path / "run" / "eval.json")["summary"]["world_model"]["after"] <= 1
