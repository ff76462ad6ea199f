"""A comparison's questions are dropped when a setting that they depend on changes, and by no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rwml.core.recipe.recipe import parse_recipe
from rwml.measure.compare.arm_evaluations import ArmEvaluations

BASE: dict[str, Any] = {
    "name": "c",
    "world": {"name": "chat"},
    "model": {"path": "tiny"},
    "train_wm": {"tau_d": 0.2, "reward": "judge"},
    "judge": {"base_url": "http://127.0.0.1:9/v1", "model": "m"},
    "compare": {"arms": [{"name": "base", "stages": []}]},
}


def questions(tmp_path: Path, *, seed: int = 0, **change: dict[str, Any]) -> dict[str, Any]:
    changed = {key: BASE.get(key, {}) | values for key, values in change.items()}
    recipe = parse_recipe(BASE | {"out": str(tmp_path / "run")} | changed)
    return ArmEvaluations(recipe, seed).questions()


@pytest.mark.parametrize(
    "change",
    [
        {"judge": {"base_url": "http://127.0.0.1:10/v1"}},
        {"judge": {"timeout_s": 7.0}},
        {"evaluate": {"bootstrap_samples": 100}},
        {"train_policy": {"steps": 7}},
        {"measure": {"depth": 2}},
    ],
    ids=str,
)
def test_what_no_answer_depends_on_keeps_the_answers(tmp_path: Path, change: dict[str, Any]) -> None:
    assert questions(tmp_path, **change) == questions(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"judge": {"model": "another"}},
        {"evaluate": {"num_tasks": 3}},
        {"evaluate": {"tau_d": 0.3}},
        {"train_wm": {"reward": "exact"}},
        {"collect": {"temperature": 0.5}},
        {"transitions": {"history_steps": 2}},
        {"world": {"max_steps": 3}},
    ],
    ids=str,
)
def test_what_answers_depend_on_asks_again(tmp_path: Path, change: dict[str, Any]) -> None:
    assert questions(tmp_path, **change) != questions(tmp_path)


def test_every_seed_has_its_own_questions(tmp_path: Path) -> None:
    assert questions(tmp_path, seed=1) != questions(tmp_path)
