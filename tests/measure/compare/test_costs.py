"""What stages cost, from the log of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwml.core.recipe.recipe import parse_recipe
from rwml.core.run import Run
from rwml.measure.compare.costs import price, stage_costs
from rwml.models.language_model import load_chat


def test_the_cost_of_a_training_stage_by_hand(tmp_path: Path) -> None:
    """Two steps; each batch is read twice, its transitions once."""
    recipe = parse_recipe({"name": "x", "out": str(tmp_path / "run"), "train_policy": {"updates_per_batch": 2}})
    run = Run.open(recipe)
    with run.stage("train_policy"):
        run.metrics.append({"stage": "train_policy", "step": 1, "tokens": 100, "sampled_tokens": 7})
        run.metrics.append({"stage": "train_policy", "step": 2, "tokens": 50, "transition_tokens": 9})
        run.metrics.append({"stage": "train_wm", "step": 1, "tokens": 1000})
        (run.folder / "policy").mkdir()
    costs = stage_costs(run, ("train_wm", "train_policy"), load_chat("tiny"))
    assert list(costs) == ["train_policy"]
    cost = costs["train_policy"]
    assert (cost["sampled"], cost["trained"], cost["steps"]) == (7, 2 * 150 + 9, 2)
    assert price(costs, "tokens") == {"train_policy": 316}
    assert price(costs, "seconds") == {"train_policy": pytest.approx(cost["seconds"])}
