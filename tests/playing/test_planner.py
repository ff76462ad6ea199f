"""The plan of the best imagined episode, by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from made import hand_episode
from rwml.core.types import Episode, StopReason
from rwml.playing.planner import Plan, best_of

SHORT = hand_episode(("a", "A"), number=1)
LONG = hand_episode(("a", "A"), ("b", "B"), number=2)
BROKEN = hand_episode(("a", ""), number=3)
FAILED = replace(hand_episode(("a", "A"), number=4), stop=StopReason.ERROR, error="ValueError: gone")
WON = replace(hand_episode(("a", "A"), ("b", "B"), ("c", "C"), number=5), stop=StopReason.SUCCESS, success=True)
WON_SOONER = replace(hand_episode(("c", "C"), ("b", "B"), number=6), stop=StopReason.SUCCESS, success=True)


@pytest.mark.parametrize(
    ("better", "worse"),
    [(WON, SHORT), (WON_SOONER, WON), (SHORT, LONG), (LONG, BROKEN), (LONG, FAILED), (WON, BROKEN)],
    ids=["won", "won sooner", "shorter", "whole", "without an error", "won before whole"],
)
def test_the_order_of_episodes(better: Episode, worse: Episode) -> None:
    assert best_of([better, worse]).episode is better
    assert best_of([worse, better]).episode is better


def test_ties_go_to_the_first() -> None:
    twin = replace(SHORT, id="twin")
    assert best_of([SHORT, twin]).episode is SHORT
    assert best_of([twin, SHORT]).episode is twin
    assert best_of([BROKEN, FAILED]).episode is BROKEN


def test_what_a_plan_says() -> None:
    assert best_of([SHORT, WON, BROKEN, WON_SOONER]) == Plan(("c", "b"), True, WON_SOONER, candidates=4, winning=2)
    assert best_of([LONG]) == Plan(("a", "b"), False, LONG, candidates=1, winning=0)


def test_a_step_without_an_action_is_no_part_of_a_plan() -> None:
    episode = hand_episode(("a", "A"), ("", "Nothing happens."), ("b", "B"))
    assert best_of([episode]).actions == ("a", "b")


def test_a_plan_needs_an_episode() -> None:
    with pytest.raises(AssertionError, match="at least one episode"):
        best_of([])
