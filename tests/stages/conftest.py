"""A recipe so small that all stages together take seconds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rwml.core.recipe.recipe import Recipe, parse_recipe

MINI: dict[str, Any] = {
    "name": "mini",
    "seed": 1,
    "world": {
        "max_steps": 4,
        "options": {"size": "tiny", "num_train": 12, "num_valid_seen": 3, "num_valid_unseen": 3, "num_scenes": 12},
    },
    "model": {"prompts": "brief", "device": "cpu", "max_context_tokens": 400},
    "embedding": {"device": "cpu"},
    "collect": {"num_tasks": 8, "rollouts_per_task": 2, "max_new_tokens": 24, "episodes_in_flight": 6},
    "transitions": {"valid_fraction": 0.2},
    "filter": {
        "predictor_fraction": 0.4,
        "predictor_learning_rate": 1e-3,
        "num_predictions": 2,
        "max_new_tokens": 30,
        "keep_probability": 0.2,
    },
    "train_wm": {
        "batch_size": 8,
        "group_size": 4,
        "learning_rate": 1e-3,
        "max_new_tokens": 30,
        "max_steps": 3,
        "checkpoint_every": 2,
        "tau_d": 0.6,
    },
    "train_policy": {
        "steps": 3,
        "tasks_per_step": 3,
        "group_size": 4,
        "learning_rate": 1e-3,
        "max_new_tokens": 24,
        "episode_max_steps": 3,
        "checkpoint_every": 2,
    },
    "evaluate": {
        "seeds": [0],
        "num_tasks": 2,
        "num_transitions": 6,
        "max_new_tokens": 30,
        "bootstrap_samples": 100,
    },
}


@pytest.fixture(scope="session")
def mini(mind_folder: Path) -> Callable[..., Recipe]:
    """`mini(folder, train_wm={...})` is the small recipe in a run folder, with changes to its sections."""

    def make(folder: Path, **changes: dict[str, Any]) -> Recipe:
        data = {key: dict(value) if isinstance(value, dict) else value for key, value in MINI.items()}
        data["model"]["path"] = str(mind_folder)
        for section, values in changes.items():
            data[section] = {**data.get(section, {}), **values}
        return parse_recipe({**data, "out": str(folder)})

    return make
