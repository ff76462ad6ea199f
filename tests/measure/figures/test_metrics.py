from __future__ import annotations

import json

import pytest

from made import answer, episode, transition
from rwml.core.errors import RwmlError
from rwml.core.types import PredictedState, Step
from rwml.measure.figures.metrics import success_summary, within_gap, world_model_summary


def test_gap_is_strictly_below_its_threshold_and_needs_an_answer() -> None:
    assert within_gap(answer("t", "x", 0.19), 0.2)
    assert not within_gap(answer("t", "x", 0.2), 0.2)
    assert not within_gap(answer("t", None, 0.0), 0.2)


def test_world_model_summary_by_hand() -> None:
    asked = [
        transition("t1", "a"), transition("t2", "a", verb="open", knowable=False),
        transition("t3", "b", verb="open"),
    ]  # fmt: skip
    predictions = [
        answer("t1", "On the desk 1,  you see a pen 1.", 0.0),
        answer("t2", "The drawer 1 is open.", 0.3),
        answer("t3", "On the desk 1, you see a pen 2.", 0.1),
        answer("t3", None, 0.7, truncated=True),
    ]
    summary = world_model_summary(asked, predictions, 0.2, seeds=[0, 0, 0, 1], num_samples=200)
    overall = summary["overall"]
    assert (overall["n"], overall["clusters"]) == (4, 2)
    assert overall["exact"]["mean"] == 1 / 4
    assert overall["within"]["mean"] == 2 / 4
    assert overall["reward"]["mean"] == 2 / 4
    assert overall["distance"]["mean"] == pytest.approx((0.0 + 0.3 + 0.1 + 2.0) / 4)
    assert overall["unparsed"]["mean"] == 1 / 4
    assert overall["truncated"]["mean"] == 1 / 4
    assert {verb: group["n"] for verb, group in summary["by_verb"].items()} == {"go": 1, "open": 3}
    assert summary["by_verb"]["open"]["within"]["mean"] == pytest.approx(1 / 3)
    assert summary["by_knowable"]["no"]["within"]["mean"] == 0.0
    assert summary["by_knowable"]["yes"]["n"] == 3
    assert summary["by_valid"]["yes"]["n"] == 4
    assert summary["by_seed"]["1"]["unparsed"]["mean"] == 1.0
    json.dumps(summary, allow_nan=False)


def test_a_prediction_without_its_transition_is_refused() -> None:
    with pytest.raises(RwmlError, match="'lost', which is not a held-out one"):
        world_model_summary([transition("t1", "a")], [answer("lost", "x", 0.1)], 0.2, num_samples=100)


def test_success_summary_by_hand() -> None:
    good, look = Step("take pen 1", "take pen 1", "ok", reward=0.0), Step("look", "look", "nothing")
    bad = Step("fly", "fly", "Nothing happens.", valid=False)
    lost = Step("", "hm", "Nothing happens.", parsed=False, valid=False, truncated=True)
    looked_in_vain = Step("look", "look", "Nothing happens.", valid=False)
    won = Step("put pen 1", "put pen 1", "done", reward=10.0)
    episodes = [
        episode("a", (good, won), success=True),
        episode("a", (good, look, bad, lost), success=False, seed=1),
        episode("b", (looked_in_vain, look), success=False, kind="heat", split="valid_unseen"),
    ]
    summary = success_summary(episodes, lambda action: action == "look", num_samples=300)
    overall = summary["overall"]
    assert (overall["n"], overall["clusters"], overall["actions"]) == (3, 2, 8)
    assert overall["success"]["mean"] == pytest.approx(1 / 3)
    assert overall["return"]["mean"] == pytest.approx(10 / 3)
    assert overall["steps"]["mean"] == pytest.approx(8 / 3)
    assert overall["steps_won"]["mean"] == 2.0
    assert overall["invalid"]["mean"] == 3 / 8
    assert overall["inefficient"]["mean"] == 2 / 8, "a look that the world refused is invalid, not inefficient"
    assert overall["invalid_or_inefficient"]["mean"] == 5 / 8
    assert (overall["unparsed"], overall["truncated"], overall["errors"]) == (1, 1, 0)
    assert overall["stops"] == {"success": 1, "failure": 0, "step_limit": 2, "context_limit": 0, "error": 0}
    assert summary["by_split"]["valid_unseen"]["n"] == 1
    assert summary["by_task_kind"]["pick"]["success"]["mean"] == 0.5
    assert summary["by_seed"]["1"]["success"]["mean"] == 0.0
    json.dumps(summary, allow_nan=False)


def test_reward_is_what_training_paid_whatever_the_gap() -> None:
    predictions = [
        PredictedState("t1", "x", "x", distance=0.35, reward=0.6),
        PredictedState("t1", "x", "x", distance=0.1, reward=1.0),
        PredictedState("t1", "", None, distance=2.0),
    ]
    overall = world_model_summary([transition("t1", "a")], predictions, 0.2, num_samples=100)["overall"]
    assert overall["reward"]["mean"] == pytest.approx((0.6 + 1.0 + 0.0) / 3)
    assert overall["within"]["mean"] == pytest.approx(1 / 3)


def test_invalid_calls_are_shares_of_calls() -> None:
    """Of seven steps four are calls: two admitted, one refused, one that could not be read; messages are not."""
    call, refused = Step("a", "a", "{}", "tool"), Step("b", "b", "Error: no", "tool", valid=False)
    unread = Step("", "{", "Error: unreadable", "tool", parsed=False, valid=False)
    message = Step("Hello?", "Hello?", "Hi.", "user")
    episodes = [
        episode("a", (message, call, refused, message, call), success=True),
        episode("b", (message, unread), success=False),
    ]
    summary = success_summary(episodes, lambda action: False, num_samples=200)
    overall = summary["overall"]
    assert (overall["calls"], overall["actions"]) == (4, 7)
    assert overall["invalid_calls"]["mean"] == 2 / 4
    assert overall["invalid_calls"]["clusters"] == 2
    assert overall["invalid"]["mean"] == pytest.approx(2 / 7)
    silent = [
        episode("a", (message, message), success=True),
        episode("b", (call,), success=True, kind="talk"),
    ]
    by_kind = success_summary(silent, lambda action: False, num_samples=100)["by_task_kind"]
    assert by_kind["pick"]["invalid_calls"]["mean"] is None
    assert by_kind["talk"]["invalid_calls"]["mean"] == 0.0


def test_where_nothing_is_called_no_share_of_calls_is_given() -> None:
    lost = Step("", "hm", "Nothing happens.", parsed=False, valid=False)
    overall = success_summary([episode("a", (lost, lost), success=False)], lambda action: False, num_samples=100)[
        "overall"
    ]
    assert (overall["calls"], overall["invalid_calls"]["mean"], overall["invalid"]["mean"]) == (0, None, 1.0)


def test_a_return_that_is_no_number_is_counted_and_left_out_of_the_mean() -> None:
    """Of five episodes two have no return: NaN, and infinity by the sum of what is finite."""
    won = [Step("a", "a", "x", reward=value) for value in (1.0, float("nan"), 1e308)]
    episodes = [
        episode("a", (won[0],), success=True), episode("b", (won[1], won[0]), success=False),
        episode("c", (won[2], won[2]), success=False), episode("d", (won[0], won[0]), success=True),
        episode("e", (), success=False),
    ]  # fmt: skip
    overall = success_summary(episodes, lambda action: False, num_samples=100)["overall"]
    assert (overall["return"]["mean"], overall["return"]["n"]) == (1.0, 3)
    assert (overall["returns_not_finite"], overall["n"], overall["success"]["mean"]) == (2, 5, 2 / 5)
    assert success_summary(episodes[:1], lambda action: False, num_samples=100)["overall"]["returns_not_finite"] == 0
