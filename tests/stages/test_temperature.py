"""Which updates of the two GRPO stages are at the sampling temperature: those on samples, and no others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rwml.core.recipe.recipe import Recipe
from rwml.core.run import Run
from rwml.loading import load_model
from rwml.models.language_model import LanguageModel
from rwml.stages import train_policy, train_wm
from rwml.stages.pipeline import run_all
from rwml.train.trainer import Trainer
from rwml.trees.forward import PassOptions, tree_logprobs
from rwml.trees.tree import Tree, pack

pytestmark = pytest.mark.slow  # runs whole pipelines

Mini = Callable[..., Recipe]
# Weights that stay as they are, so that each step's figures are those of the model at the start.
STILL = {"learning_rate": 1e-30, "temperature": 0.5, "max_steps": 2}


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[list[Tree]]:
    """The trees of every update, in their order."""
    seen: list[list[Tree]] = []
    update = Trainer._update

    def noting(self: Trainer, trees: list[Tree], *rest: Any) -> dict[str, float]:
        seen.append(trees)
        return update(self, trees, *rest)

    monkeypatch.setattr(Trainer, "_update", noting)
    return seen


def mean_logp(lm: LanguageModel, trees: Sequence[Tree], field: str, temperature: float) -> float:
    """Over the tokens with a positive weight in that field."""
    parts = [
        tree_logprobs(lm.model, row, PassOptions(temperature=temperature)).numpy()[getattr(row, field) > 0]
        for row in pack(trees, 4096)
    ]
    return float(np.concatenate(parts).mean())


def lines(run: Run, stage: str) -> list[dict[str, Any]]:
    return [line for line in run.metrics.read() if line["stage"] == stage]


def test_the_sft_steps_before_rwml_take_no_temperature(mini: Mini, tmp_path: Path, updates: list[list[Tree]]) -> None:
    settings = STILL | {"sft_steps": 1, "kl_groups": "all"}
    run = Run.open(mini(tmp_path / "run", filter={"enabled": False}, train_wm=settings))
    run_all(run, until="filter")
    train_wm.run(run)
    lm = load_model(run.recipe.model)
    sft, grpo = lines(run, "train_wm")
    first, second = updates
    assert (sft["policy_tokens"], grpo["ce_tokens"]) == (0, 0)
    assert sft["cross_entropy"] == pytest.approx(-mean_logp(lm, first, "w_ce", 1.0), abs=1e-4)
    assert grpo["logp"] == pytest.approx(mean_logp(lm, second, "w_kl", 0.5), abs=1e-4)
    assert abs(mean_logp(lm, first, "w_ce", 0.5) + sft["cross_entropy"]) > 0.005


@pytest.mark.parametrize("method", ["sft", "spin"])
def test_real_next_states_take_no_temperature(
    mini: Mini, tmp_path: Path, updates: list[list[Tree]], method: str
) -> None:
    run = Run.open(mini(tmp_path / "run", filter={"enabled": False}, train_wm=STILL | {"method": method}))
    run_all(run, until="filter")
    train_wm.run(run)
    lm = load_model(run.recipe.model)
    for line, trees in zip(lines(run, "train_wm"), updates, strict=True):
        assert line["cross_entropy"] == pytest.approx(-mean_logp(lm, trees, "w_ce", 1.0), abs=1e-4)


def test_transition_updates_take_no_temperature(mini: Mini, tmp_path: Path, updates: list[list[Tree]]) -> None:
    """Cross-entropy on observations, which is a term of the policy's own loss, has its temperature."""
    settings = STILL | {"start": "model", "kl_groups": "all", "observation_weight": 0.5, "transition_every": 2}
    run = Run.open(mini(tmp_path / "run", train_policy=settings))
    train_policy.run(run)
    lm = load_model(run.recipe.model)
    first, second = lines(run, "train_policy")
    assert len(updates) == 3
    for line, trees in zip((first, second), updates[:2], strict=True):
        assert line["logp"] == pytest.approx(mean_logp(lm, trees, "w_kl", 0.5), abs=1e-4)
        assert line["cross_entropy"] == pytest.approx(-mean_logp(lm, trees, "w_ce", 0.5), abs=1e-4)
    assert second["transition_cross_entropy"] == pytest.approx(-mean_logp(lm, updates[2], "w_ce", 1.0), abs=1e-4)
    assert abs(mean_logp(lm, updates[2], "w_ce", 0.5) + second["transition_cross_entropy"]) > 0.005


def test_demonstrations_take_no_temperature(mini: Mini, tmp_path: Path, updates: list[list[Tree]]) -> None:
    settings = STILL | {"method": "sft", "episodes": "expert", "start": "model", "tasks_per_step": 2}
    run = Run.open(mini(tmp_path / "run", train_policy=settings, world={"max_steps": 30}))
    train_policy.run(run)
    lm = load_model(run.recipe.model)
    found = lines(run, "train_policy")
    assert len(found) == len(updates) == 2
    for line, trees in zip(found, updates, strict=True):
        assert line["cross_entropy"] == pytest.approx(-mean_logp(lm, trees, "w_ce", 1.0), abs=1e-4)
