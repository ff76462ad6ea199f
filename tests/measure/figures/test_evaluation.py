from __future__ import annotations

import json
from dataclasses import replace

import pytest

from made import answer, episode, transition
from rwml.core.types import Step
from rwml.measure.figures.arm_rows import SeedEpisodes, SeedPredictions
from rwml.measure.figures.evaluation import EvaluationPlan, evaluate_arms


def test_evaluate_arms_assembles_the_documented_schema() -> None:
    transitions = [transition(f"t{i}", f"task{i}") for i in range(6)]
    transitions += [transition(f"u{i}", f"task{i}", split="valid_unseen") for i in range(6)]
    answers, plays = [], []
    for arm, gap, wins in (("model", 0.4, 1), ("world_model", 0.1, 1), ("policy", 0.4, 4)):
        for split, letter in (("valid_seen", "t"), ("valid_unseen", "u")):
            for seed in (0, 1):
                if arm != "policy":
                    answers.append(
                        SeedPredictions(arm, split, seed, [answer(f"{letter}{i}", "x", gap) for i in range(6)])
                    )
                done = [episode(f"task{i}", (Step("go", "go", "."),), success=i < wins, split=split) for i in range(6)]
                plays.append(SeedEpisodes(arm, split, seed, done))
    result = evaluate_arms(answers, plays, transitions, lambda action: False, EvaluationPlan(0.2, num_samples=500))
    assert result["summary"]["world_model"] == {
        "before": 0.0, "after": 1.0, "difference": 1.0, "interval": [1.0, 1.0], "n": 24, "clusters": 12,
        "unpaired": 0, "tau_d": 0.2,
    }  # fmt: skip
    success = result["summary"]["success"]
    assert (success["before"], success["after"]) == (pytest.approx(1 / 6), pytest.approx(4 / 6))
    assert 0.0 < success["interval"][0] < 0.5 < success["interval"][1] < 1.0
    assert set(result["differences"]["success"]) == {"all", "valid_seen", "valid_unseen"}
    assert result["differences"]["success"]["valid_seen"]["n"] == 12
    assert set(result["arms"]) == {"model", "world_model", "policy"}
    assert result["arms"]["policy"]["world_model"] == {}
    assert result["arms"]["policy"]["success"]["all"]["overall"]["n"] == 24
    assert result["arms"]["model"]["world_model"]["valid_seen"]["by_seed"]["1"]["n"] == 6
    assert (result["splits"], result["seeds"]) == (["valid_seen", "valid_unseen"], [0, 1])
    json.dumps(result, allow_nan=False)


def test_a_figure_without_both_arms_is_none() -> None:
    plays = [SeedEpisodes("model", "valid_seen", 0, [episode("a", (), success=True)])]
    result = evaluate_arms([], plays, [], lambda action: False, EvaluationPlan(0.2, num_samples=100))
    assert result["summary"] == {"world_model": None, "success": None}
    assert result["arms"]["model"]["success"]["all"]["overall"]["invalid"]["mean"] is None


def test_baselines_are_compared_row_by_row_with_the_trained_world_model() -> None:
    """Three tasks, two seeds. Gaps below 0.2 are within: the model is within at t0 and t1, a baseline at t1 and u2."""
    transitions = [transition("t0", "a"), transition("t1", "b"), replace(transition("u2", "c"), kind="user")]
    model = [answer("t0", "x", 0.1), answer("t1", "x", 0.1), answer("u2", "x", 0.9)]
    guess = [answer("t0", None, 2.0), replace(answer("t1", "x", 0.1), reward=0.4), answer("u2", "x", 0.1)]
    answers = [SeedPredictions(arm, "valid_seen", seed, rows) for seed in (0, 1) for arm, rows in (
        ("model", model[:0]), ("world_model", model), ("copy_last", guess), ("most_frequent", model),
    )]  # fmt: skip
    names = ("copy_last", "most_frequent")
    result = evaluate_arms(answers, [], transitions, lambda action: False, EvaluationPlan(0.2, names, num_samples=400))
    beside = result["baselines"]["copy_last"]
    assert beside["arm"] == "world_model"
    assert beside["within"]["all"] == {
        "before": pytest.approx(2 / 3), "after": pytest.approx(2 / 3), "difference": 0.0, "interval": [-1.0, 1.0],
        "n": 6, "clusters": 3, "unpaired": 0,
    }  # fmt: skip
    by_kind = beside["within"]["by_kind"]
    assert [(k, d["before"], d["after"], d["n"]) for k, d in by_kind.items()] == [
        ("text", 0.5, 1, 4),
        ("user", 1, 0, 2),
    ]
    assert beside["within"]["by_split"] == {"valid_seen": beside["within"]["all"]}
    assert beside["reward"]["all"]["before"] == pytest.approx((0 + 0.4 + 1) / 3)
    assert beside["reward"]["all"]["difference"] == pytest.approx((1 + 0.6 - 1) / 3)
    same = result["baselines"]["most_frequent"]["within"]["all"]
    assert (same["difference"], same["interval"]) == (0.0, [0.0, 0.0])
    assert result["arms"]["copy_last"]["world_model"]["all"]["overall"]["unparsed"]["mean"] == pytest.approx(1 / 3)
    assert result["arms"]["copy_last"]["success"] == {}
    json.dumps(result, allow_nan=False)


def test_without_a_trained_world_model_the_untrained_one_is_compared() -> None:
    rows = [answer("t0", "x", 0.1)]
    answers = [
        SeedPredictions("model", "valid_seen", 0, rows),
        SeedPredictions("copy_last", "valid_seen", 0, [answer("t0", None, 2.0)]),
    ]
    plan = EvaluationPlan(0.2, ("copy_last",), num_samples=100)
    result = evaluate_arms(answers, [], [transition("t0", "a")], lambda action: False, plan)
    assert result["summary"] == {"world_model": None, "success": None}
    beside = result["baselines"]["copy_last"]
    assert (beside["arm"], beside["within"]["all"]["before"], beside["within"]["all"]["after"]) == ("model", 0.0, 1.0)
    assert beside["within"]["all"]["interval"] == [None, None], "one task says nothing about another"
