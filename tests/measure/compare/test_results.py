"""Results of arms folded into compare.json: every number worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.compare import ArmConfig
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.run import Run
from rwml.core.types import PredictedState, Transition
from rwml.measure.compare.arm_evaluations import ArmResult
from rwml.measure.compare.results import curves, fold, weight_change
from rwml.measure.figures.arm_rows import ArmEvaluation, SeedPredictions

ARMS: list[dict[str, Any]] = [
    {"name": "base"},
    {"name": "wm", "label": "RWML", "stages": ["train_wm"]},
    {"name": "late", "stages": ["train_wm"]},
]
CHANGE = {"share": 0.5, "by_module": {"mlp": {"share": 0.25}}}


def recipe_of(folder: Path) -> Recipe:
    sections = {"train_wm": {"tau_d": 0.2}, "compare": {"seeds": [0, 1], "arms": ARMS, "num_examples": 1}}
    return parse_recipe({"name": "by-hand", "out": str(folder), "evaluate": {"seeds": [7]}} | sections)


def trained(folder: Path, weights: str, rows: tuple[dict[str, Any], ...] = ()) -> Run:
    """A run folder whose world model is a file with this text; its cost is one step of 30 tokens."""
    run = Run.open(parse_recipe({"name": folder.name, "out": str(folder)}))
    with run.stage("train_wm"):
        (run.folder / "world_model").mkdir()
        (run.folder / "world_model" / "weights").write_text(weights)
        for row in rows:
            run.metrics.append({"stage": "train_wm", "tokens": 30, "sampled_tokens": 5} | row)
    return run


def evaluation(arm: str, seed: int, gaps: tuple[float, ...]) -> ArmEvaluation:
    """One question about each of four tasks."""
    rows = [
        Transition(f"q{i}", "e", f"t{i}", "valid_seen", 0, "hall", (), "go", "You go.", "text", "go", True, True)
        for i in range(len(gaps))
    ]
    predictions = [
        PredictedState(row.id, "x", f"{arm} {row.id}", distance=gap) for row, gap in zip(rows, gaps, strict=True)
    ]
    return ArmEvaluation(arm, seed, [SeedPredictions(arm, "valid_seen", 7, predictions)], [], rows)


@pytest.fixture
def results(tmp_path: Path) -> list[ArmResult]:
    base, wm, late = (ArmConfig.model_validate(arm) for arm in ARMS)
    empty = Run.open(parse_recipe({"name": "base", "out": str(tmp_path / "base")}))
    rows = ({"step": 1, "within_tau": 0.5}, {"step": 2, "within_tau": 0.75})
    copies = [evaluation("copy_last", seed, (0.9, 0.9, 0.9, 0.1)) for seed in (0, 1)]
    return [
        ArmResult(base, 0, empty, [evaluation("base", 0, (0.1, 0.9, 0.9, 0.9)), copies[0]]),
        ArmResult(wm, 0, trained(tmp_path / "wm0", "a", rows), [evaluation("wm", 0, (0.1, 0.1, 0.9, 0.9))], CHANGE),
        ArmResult(late, 0, missing="not run"),
        ArmResult(base, 1, empty, [evaluation("base", 1, (0.1, 0.9, 0.9, 0.9)), copies[1]]),
        ArmResult(wm, 1, trained(tmp_path / "wm1", "b", rows), [evaluation("wm", 1, (0.1, 0.1, 0.1, 0.9))], CHANGE),
        ArmResult(late, 1, missing="train_wm is not done"),
    ]


def test_results_of_three_arms_and_two_seeds(tmp_path: Path, results: list[ArmResult]) -> None:
    figures = fold(recipe_of(tmp_path / "run"), results)
    assert list(figures["arms"]) == ["base", "wm", "late"]
    assert list(figures["baselines"]) == ["copy_last"]
    assert figures["arms"]["wm"]["world_model"]["all"]["within"]["by_seed"] == {"0": 0.5, "1": 0.75}
    assert figures["arms"]["late"]["missing"] == {"0": "not run", "1": "train_wm is not done"}
    assert figures["arms"]["late"]["seeds"] == []
    assert figures["arms"]["late"]["world_model"] == figures["arms"]["late"]["cost"] == {}
    assert figures["arms"]["wm"]["weight_change"]["all"] == {"mean": 0.5, "sd": 0.0, "by_seed": {"0": 0.5, "1": 0.5}}
    assert figures["arms"]["base"]["weight_change"] == {}
    # Each seed logs two steps of 30 tokens read and 5 sampled.
    cost = figures["arms"]["wm"]["cost"]
    assert (cost["trained"], cost["sampled"], cost["tokens"]) == (60, 10, 70)
    [contrast] = figures["contrasts"]
    whole = contrast["splits"]["all"]
    # Of 8 rows 2 were within before and 5 after; by seed 1/4 and 2/4 more.
    assert (whole["before"], whole["after"], whole["n"], whole["clusters"]) == (0.25, 0.625, 8, 4)
    assert whole["by_seed"] == {"0": 0.25, "1": 0.5}
    assert contrast["sentence"].startswith("The data do not support a difference between RWML and base: ")
    [line] = figures["curves"]
    assert (line["arm"], line["metric"]) == ("wm", "within_tau")
    assert line["seeds"] == {str(seed): {"steps": [1, 2], "values": [0.5, 0.75]} for seed in (0, 1)}
    [example] = figures["examples"]
    assert list(example["answers"]) == ["base", "copy_last", "wm"]


def test_without_the_base_arm_nothing_is_compared(tmp_path: Path, results: list[ArmResult]) -> None:
    others = [ArmResult(r.arm, r.seed, missing="not run") if r.arm.name == "base" else r for r in results]
    with pytest.raises(RwmlError, match="the arm 'base' was not examined under any seed"):
        fold(recipe_of(tmp_path / "run"), others)


def test_a_curve_is_shared_by_its_checkpoint_and_not_by_its_values(tmp_path: Path) -> None:
    rows = ({"step": 1, "within_tau": 0.5, "exact": 0.5}, {"step": 2, "within_tau": 1.0, "exact": 1.0})
    results = [
        ArmResult(ArmConfig(name=name, stages=("train_wm",)), 0, trained(tmp_path / name, weights, rows))
        for name, weights in (("first", "a"), ("same", "a"), ("other", "b"))
    ]
    lines = [(line["metric"], line["arm"]) for line in curves(results)]
    assert lines == [("within_tau", "first"), ("exact", "first"), ("within_tau", "other"), ("exact", "other")]


def test_a_module_that_one_seed_lacks() -> None:
    change = weight_change({0: CHANGE, 1: {"share": 0.1, "by_module": {}}, 2: {}})
    assert change["all"]["mean"] == pytest.approx(0.3)
    assert change["by_module"]["mlp"] == {"mean": 0.25, "sd": None, "by_seed": {"0": 0.25, "1": None}}
    assert weight_change({0: {}}) == {}
