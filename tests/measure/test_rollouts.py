"""Figures of imagined rollouts, worked by hand."""

from __future__ import annotations

import pytest
import torch

from made import Scripted, hand_episode
from rwml.core.types import Query
from rwml.measure.rollouts import measure_rollouts
from rwml.rewards.rewards import KindReward
from rwml.world_models.imagination import BEFORE, Imagination
from rwml.world_models.world_model import UNPARSED
from rwml.worlds.base import World

EXACT = KindReward("exact", lambda: pytest.fail("no embedder is needed"), 0.5)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_rollout_figures_worked_by_hand(world: World) -> None:
    """Two tasks, stretches of two steps. The model knows a world in which what follows a lie is a lie: from the real
    history it errs at `b` alone, in imagination also at the step after it."""
    first = hand_episode(("a", "A"), ("b", "B"), ("c", "C"), number=1)
    second = hand_episode(("b", "B"), ("c", "C"), ("a", "A"), ("c", "C"), number=2)

    def rule(query: Query, truth: str) -> str | None:
        return "lie" if query.action == "b" or query.history[-1:] == ("lie",) else truth

    asker = Scripted(rule, [first, second], world)
    found = measure_rollouts(Imagination(asker, world), EXACT, [first, second], 2, generator(), num_samples=100)
    one, two = found["by_depth"]["1"], found["by_depth"]["2"]
    # Stretches: a b | c and b c | a c. Depth 1: a, c, b, a; depth 2: b, c after a lie, c.
    assert (one["n"], one["exact"]["mean"], one["one_step"]["exact"]["mean"]) == (4, 3 / 4, 3 / 4)
    assert (two["n"], two["exact"]["mean"], two["one_step"]["exact"]["mean"]) == (3, 1 / 3, 2 / 3)
    assert two["difference"]["exact"]["difference"] == pytest.approx(-1 / 3)
    assert two["within"]["mean"] == 1 / 3
    assert two["distance"]["mean"] == pytest.approx(2 / 3)
    # Full stretches: a b (1 right), b c (0), a c (2).
    assert (found["steps_right"]["mean"], found["steps_right"]["n"]) == (1.0, 3)
    assert (found["episodes"], found["steps"], found["ended"]) == (2, 7, {})
    # Seven one-step questions, then the three of depth 2 again under an imagined history.
    assert len(asker.asked) == 10


def test_steps_after_an_unreadable_answer_count_as_wrong(world: World) -> None:
    real = hand_episode(("a", "A"), ("b", "B"), ("c", "C"))
    asker = Scripted(lambda query, truth: None if query.action == "a" else truth, [real], world)
    found = measure_rollouts(Imagination(asker, world), EXACT, [real], 3, generator(), num_samples=100)
    assert [found["by_depth"][d]["exact"]["mean"] for d in "123"] == [0, 0, 0]
    assert [found["by_depth"][d]["distance"]["mean"] for d in "123"] == [2, 2, 2]
    assert [found["by_depth"][d]["one_step"]["exact"]["mean"] for d in "123"] == [0, 1, 1]
    assert found["ended"] == {UNPARSED: 1, BEFORE: 2}
