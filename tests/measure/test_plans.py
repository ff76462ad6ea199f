"""Plans in imagination: figures by hand, and against the real world as world model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from made import Scripted, hand_episode
from rwml.core.types import Episode
from rwml.measure.plans import LEFT_OUT, confusion, leave_one_out, measure_plans
from rwml.playing.rollout import play_built_in, seats_for
from rwml.world_models.engine import EngineWorldModel
from rwml.world_models.imagination import BEFORE, Imagination
from rwml.world_models.world_model import UNPARSED
from rwml.worlds.base import ReadsWins, World
from rwml.worlds.chat_world import ChatLogs


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_confusion_by_hand() -> None:
    truth = [True, True, True, False, False, False, False]
    said = [True, True, False, True, False, False, False]
    found = confusion(truth, said, list("abcdefg"), 100)
    assert (found["n"], found["true"], found["said"], found["both"]) == (7, 3, 3, 2)
    means = [found[name]["mean"] for name in ("precision", "recall", "false_alarm")]
    assert means == pytest.approx([2 / 3, 2 / 3, 1 / 4])
    assert found["gap"] == pytest.approx(2 / 3 - 1 / 4)
    alone = confusion([True], [True], ["a"], 100)
    assert (alone["precision"]["mean"], alone["false_alarm"]["mean"], alone["gap"]) == (1.0, None, None)


@pytest.fixture(scope="session")
def plans(world: World) -> dict[str, list[Episode]]:
    """Winning plans of six tasks, their variants with one step left out, and noisy play that was cut short."""
    seats = seats_for(world.tasks("train")[:6], 1, 0)
    won = [one for one in play_built_in(world, seats, "expert", 30) if one.success and len(one.steps) > 1]
    cut = [leave_one_out(world, one, generator()) for one in won]
    return {"expert": won, LEFT_OUT: cut, "noisy": play_built_in(world, seats, "noisy:0.8", 4)}


def test_one_step_is_left_out_and_the_rest_is_really_played(plans: dict[str, list[Episode]], world: World) -> None:
    assert len(plans["expert"]) > 3
    for whole, cut in zip(plans["expert"], plans[LEFT_OUT], strict=True):
        actions, kept = [step.action for step in whole.steps], [step.action for step in cut.steps]
        missing = [actions[:n] + actions[n + 1 :] for n in range(len(actions))]
        assert any(kept == one[: len(kept)] for one in missing)
        assert cut.success or len(kept) == len(actions) - 1
        env = world.env()
        assert env.reset(cut.task) == cut.opening
        for step in cut.steps:
            result = env.step(step.action)
            assert (result.observation, result.valid) == (step.observation, step.valid)
        assert env.success == cut.success
        assert (cut.policy, cut.task) == (LEFT_OUT, whole.task)
    assert not all(one.success for one in plans[LEFT_OUT])


def test_the_world_itself_as_world_model_is_always_right(plans: dict[str, list[Episode]], world: World) -> None:
    engine = EngineWorldModel(world, [one for group in plans.values() for one in group])
    found = measure_plans(Imagination(engine, world), plans, generator(), 100)
    assert list(found["by_source"]) == ["all", *plans]
    everything = found["by_source"]["all"]
    episodes = [one for group in plans.values() for one in group]
    assert everything["plans"] == len(episodes)
    assert everything["actions"] == sum(len(one.steps) for one in episodes)
    assert everything["exact"]["mean"] == everything["whole_plan_exact"]["mean"] == 1.0
    assert everything["wins"]["true"] == sum(one.success for one in episodes)
    for name in ("wins", "wins_read_from_real_text", "executable", "refused"):
        cell = everything[name]
        assert (cell["precision"]["mean"], cell["recall"]["mean"], cell["gap"]) == (1.0, 1.0, 1.0), name
    assert found["refusals"] == ["Nothing happens."]
    assert found["left_out"] == 0


def test_a_model_that_admits_everything_is_the_baseline(plans: dict[str, list[Episode]], world: World) -> None:
    assert isinstance(world, ReadsWins)
    episodes = [one for group in plans.values() for one in group]
    yes = Scripted(lambda query, truth: world.granted(query.action), episodes, world)
    found = measure_plans(Imagination(yes, world), plans, generator(), 100)["by_source"]
    for source in found:
        assert found[source]["wins"] == found[source]["wins_if_all_is_admitted"]
    assert found["all"]["refused"]["said"] == 0
    assert found["all"]["executable"]["said"] == found["all"]["plans"]
    assert found["expert"]["wins"]["recall"]["mean"] == 1.0
    assert found[LEFT_OUT]["wins"]["false_alarm"]["mean"] > 0


def test_plans_by_hand() -> None:
    """Four plans of one action in a world of logs, which cannot read wins; a model that takes `b` for refused."""
    admitted, refused = (hand_episode(("a", "yes"), number=1), hand_episode(("b", "no"), number=2))
    refused = replace(refused, steps=(replace(refused.steps[0], valid=False),))
    wrong = replace(hand_episode(("b", "yes"), number=3))
    failed = replace(hand_episode(("a", "yes"), number=4), error="broken")
    empty = hand_episode(number=5)
    logs, episodes = ChatLogs(), [admitted, refused, wrong, failed, empty]
    asker = Scripted(lambda query, truth: "no" if query.action == "b" else "yes", episodes, logs)
    found = measure_plans(Imagination(asker, logs), {"logs": episodes}, generator(), 100)
    cells = found["by_source"]["logs"]
    assert (cells["plans"], cells["actions"], found["left_out"], found["refusals"]) == (3, 3, 2, ["no"])
    assert cells["exact"]["mean"] == pytest.approx(2 / 3)
    assert [cells["refused"][name] for name in ("true", "said", "both")] == [1, 2, 1]
    assert [cells["executable"][name] for name in ("true", "said", "both")] == [2, 1, 1]
    assert cells["wins"] is cells["wins_if_all_is_admitted"] is cells["wins_read_from_real_text"] is None
    assert cells["unreadable"] == 3


def test_a_plan_that_imagination_cannot_finish_is_not_executable_there() -> None:
    logs, real = ChatLogs(), hand_episode(("a", "yes"), ("a", "yes"))
    asker = Scripted(lambda query, truth: None, [real], logs)
    cells = measure_plans(Imagination(asker, logs), {"logs": [real]}, generator(), 100)["by_source"]["all"]
    assert (cells["executable"]["true"], cells["executable"]["said"]) == (1, 0)
    assert cells["ended"] == {UNPARSED: 1, BEFORE: 1}
