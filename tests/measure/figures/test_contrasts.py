"""Arms over seeds: every number worked by hand."""

from __future__ import annotations

import math

import pytest

from rwml.core.types import Episode, PredictedState, Step, StopReason, Task, Transition
from rwml.measure.figures.arm_rows import ArmEvaluation, SeedEpisodes, SeedPredictions, within_rows, won_rows
from rwml.measure.figures.contrasts import arm_figures, contrast, spread
from rwml.measure.figures.sentences import verdict

TASKS = ("t1", "t2", "t3", "t4")


def episode(task: str, split: str, steps: int = 2, *, won: bool, valid: bool = True) -> Episode:
    done = tuple(Step("go", "go", "there", valid=valid) for _ in range(steps))
    stop = StopReason.SUCCESS if won else StopReason.STEP_LIMIT
    return Episode(f"{task}/0", Task(task, "w", split, "kind"), "model", 0, 0, "hall", done, stop, won)


def transition(name: str, task: str, *, valid: bool = True) -> Transition:
    return Transition(name, f"{task}/0", task, "seen", 0, "hall", (), "go", "there", "text", "go", valid, True)


def evaluation(arm: str, seed: int, won: str, gaps: tuple[float, ...] = ()) -> ArmEvaluation:
    """won: one sign for each task, `1` = success; the first two tasks are of split seen. gaps: distance by task."""
    split = {task: "seen" if i < 2 else "unseen" for i, task in enumerate(TASKS)}
    plays = [
        SeedEpisodes(
            arm, name, 0, [episode(t, name, won=w == "1") for t, w in zip(TASKS, won, strict=True) if split[t] == name]
        )
        for name in ("seen", "unseen")
    ]
    rows = [transition(f"q{i}", task) for i, task in enumerate(TASKS)]
    predictions = [PredictedState(row.id, "x", "x", distance=gap) for row, gap in zip(rows, gaps, strict=False)]
    return ArmEvaluation(arm, seed, [SeedPredictions(arm, "seen", 0, predictions)] if predictions else [], plays, rows)


def test_means_and_spread_over_seeds() -> None:
    figures = arm_figures(
        [evaluation("a", 0, "1000"), evaluation("a", 1, "1101"), evaluation("a", 2, "1001")], 0.1, bool, 200
    )
    whole = figures["success"]["all"]["success"]
    # Seeds: 1/4, 3/4, 2/4. Mean 1/2; deviations -1/4, 1/4, 0: sd = sqrt((1/16 + 1/16) / 2) = 1/4.
    assert whole["mean"] == 0.5
    assert whole["sd"] == pytest.approx(0.25)
    assert whole["by_seed"] == {"0": 0.25, "1": 0.75, "2": 0.5}
    assert (whole["n"], whole["clusters"]) == (12, 4)
    assert figures["success"]["seen"]["success"]["by_seed"] == {"0": 0.5, "1": 1.0, "2": 0.5}
    assert figures["success"]["unseen"]["success"]["mean"] == pytest.approx(2 / 6)
    # Won episodes alone: six, of two steps each; nothing was invalid.
    assert figures["success"]["all"]["steps_won"]["mean"] == 2.0
    assert figures["success"]["all"]["invalid"]["mean"] == 0.0
    assert figures["world_model"] == {}


def test_questions_of_two_seeds_are_kept_apart_though_their_ids_are_equal() -> None:
    first, second = (
        evaluation("a", 0, "0000", (0.05, 0.2, 0.2, 0.2)),
        evaluation("a", 1, "0000", (0.05, 0.05, 0.05, 0.2)),
    )
    within = arm_figures([first, second], 0.1, bool, 200)["world_model"]["all"]["within"]
    assert within["by_seed"] == {"0": 0.25, "1": 0.75}
    assert (within["mean"], within["n"], within["clusters"]) == (0.5, 8, 4)
    assert len(within_rows([first, second], 0.1)) == 8


def test_answers_to_refused_actions_are_kept_apart() -> None:
    rows = [transition("q0", "t1"), transition("q1", "t2", valid=False), transition("q2", "t2", valid=False)]
    predictions = [
        PredictedState(row.id, "x", "x", distance=gap) for row, gap in zip(rows, (0.05, 0.05, 0.2), strict=True)
    ]
    figures = arm_figures(
        [ArmEvaluation("a", 0, [SeedPredictions("a", "seen", 0, predictions)], [], rows)], 0.1, bool, 200
    )
    within = {action: measures["within"]["mean"] for action, measures in figures["world_model_by_action"].items()}
    assert within == {"admitted": 1.0, "refused": 0.5}
    assert figures["world_model"]["all"]["within"]["mean"] == pytest.approx(2 / 3)


def test_a_paired_difference_by_hand() -> None:
    before = won_rows([evaluation("a", 0, "1000"), evaluation("a", 1, "1000")])
    after = won_rows([evaluation("b", 0, "1100"), evaluation("b", 1, "1111")])
    figures = contrast(before, after, 500)
    whole = figures["all"]
    # Of 8 rows, 2 were won before and 6 after: t2 in both seeds, t3 and t4 in the second.
    assert (whole["before"], whole["after"], whole["difference"], whole["n"]) == (0.25, 0.75, 0.5, 8)
    assert whole["by_seed"] == {"0": 0.25, "1": 0.75}
    assert whole["sd"] == pytest.approx(math.sqrt(2 * 0.25**2))
    assert whole["clusters"] == 4
    # Tasks gain 0, 1, 1/2, 1/2: the mean of four drawn ones lies between 0 and 1, never outside.
    assert 0.0 <= whole["interval"][0] < 0.5 < whole["interval"][1] <= 1.0
    assert figures["seen"]["difference"] == 0.5
    assert figures["unseen"]["difference"] == 0.5
    assert whole["unpaired"] == 0


def test_only_rows_of_both_arms_are_compared() -> None:
    before = won_rows([evaluation("a", 0, "1000")])
    after = won_rows([evaluation("b", 0, "1100"), evaluation("b", 1, "1111")])
    whole = contrast(before, after, 200)["all"]
    assert (whole["n"], whole["unpaired"], whole["difference"]) == (4, 4, 0.25)
    assert whole["by_seed"] == {"0": 0.25}
    assert whole["sd"] is None
    assert contrast(before, won_rows([evaluation("b", 1, "1111")])) == {}


def test_equal_arms_differ_by_nothing() -> None:
    rows = won_rows([evaluation("a", 0, "1010"), evaluation("a", 1, "1000")])
    whole = contrast(rows, rows, 200)["all"]
    assert (whole["difference"], whole["interval"]) == (0.0, [0.0, 0.0])
    assert verdict(whole) == "unsure"


def test_spread_of_few_seeds() -> None:
    assert spread({0: 0.5}) == {"sd": None, "by_seed": {"0": 0.5}}
    assert spread({0: 1.0, 1: None, 2: 3.0})["sd"] == pytest.approx(math.sqrt(2))
