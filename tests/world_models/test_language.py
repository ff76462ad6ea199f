"""Imagined courses: whose history is read, against asking step by step, and figures worked by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import pytest
import torch

from rwml.core.recipe.recipe import ModelConfig
from rwml.core.types import Episode, Step, StopReason, Task, Transition
from rwml.loading import sampler_of
from rwml.measure.plans import LEFT_OUT, confusion, leave_one_out, measure_plans
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SamplingParams
from rwml.play.rollout import play_built_in, seats_for
from rwml.rewards.rewards import KindReward
from rwml.world_models.language import BEFORE, CONTEXT, UNPARSED, Walk, WorldModel, measure_rollouts
from rwml.world_models.questions import Answer, ask
from rwml.worlds.base import World
from rwml.worlds.chat import ChatLogs

GREEDY = SamplingParams(max_new_tokens=24, temperature=0.0)
TASK = Task("train/one", "alfworld", "train", "pick_and_place_simple")


@dataclass(frozen=True, slots=True)
class Scripted(WorldModel):
    """A world model that answers by a rule; it notes what it was asked."""

    rule: Callable[[Transition], str | None] = lambda row: row.next_state
    asked: list[Transition] = field(default_factory=list)

    def answers(self, rows: Sequence[Transition], generator: torch.Generator) -> list[Answer]:
        self.asked.extend(rows)
        return [Answer((), "", self.rule(row), False) for row in rows]


@pytest.fixture
def model(lm: LanguageModel, world: World) -> WorldModel:
    return WorldModel(lm, sampler_of(lm, ModelConfig()), world, "brief", GREEDY, 400)


def scripted(model: WorldModel, rule: Callable[[Transition], str | None], **changes: object) -> Scripted:
    fields = {name: getattr(model, name) for name in WorldModel.__dataclass_fields__} | changes
    return Scripted(**fields, rule=rule)


def episode(*exchanges: tuple[str, str], number: int = 0) -> Episode:
    steps = tuple(Step(action, action, seen, parsed=bool(action)) for action, seen in exchanges)
    task = replace(TASK, id=f"train/{number}")
    return Episode(f"e{number}", task, "hand", 0, 0, "Start.", steps, StopReason.STEP_LIMIT, False)


EXACT = KindReward("exact", lambda: pytest.fail("no embedder is needed"), 0.5)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_the_history_is_real_before_the_walk_and_imagined_in_it(model: WorldModel) -> None:
    one = episode(("a", "A"), ("b", "B"), ("", "Nothing."), ("c", "C"), ("d", "D"))
    asker = scripted(model, lambda row: row.next_state.lower())
    (course,) = asker.imagine([Walk(one, 1, 5)], generator())
    assert [row.history for row in asker.asked] == [
        ("a", "A"),
        ("a", "A", "b", "b", "", "Nothing."),
        ("a", "A", "b", "b", "", "Nothing.", "c", "c"),
    ]
    assert [(step.depth, step.answer, step.row.next_state) for step in course] == [
        (1, "b", "B"),
        (2, "c", "C"),
        (3, "d", "D"),
    ]
    assert course[2].row.history == ("a", "A", "b", "B", "", "Nothing.", "c", "C"), "the record is the real one"
    short = scripted(model, lambda row: row.next_state.lower(), history_steps=1)
    short.imagine([Walk(one, 1, 5)], generator())
    assert [row.history for row in short.asked] == [("a", "A"), ("", "Nothing."), ("c", "c")]


def test_a_walk_ends_where_an_answer_cannot_be_read(model: WorldModel) -> None:
    one = episode(("a", "A"), ("b", "B"), ("c", "C"), ("d", "D"))
    asker = scripted(model, lambda row: None if row.action == "b" else row.next_state)
    (course,) = asker.imagine([Walk(one, 0, 4)], generator())
    assert [(step.answer, step.ended) for step in course] == [
        ("A", ""),
        (None, UNPARSED),
        (None, BEFORE),
        (None, BEFORE),
    ]
    assert [row.action for row in asker.asked] == ["a", "b"]
    narrow = scripted(model, lambda row: row.next_state, max_context=1)
    (course,) = narrow.imagine([Walk(one, 0, 2)], generator())
    assert [step.ended for step in course] == [CONTEXT, BEFORE]
    assert narrow.asked == []


def test_a_real_model_imagines_what_it_says_when_asked_step_by_step(model: WorldModel, world: World) -> None:
    episodes = play_built_in(world, seats_for(world.tasks("train")[:3], 1, 0), "noisy", 4)
    walks = [Walk(one, start, len(one.steps)) for one, start in zip(episodes, (0, 1, 0), strict=True)]
    courses = model.imagine(walks, generator())
    for walk, course in zip(walks, courses, strict=True):
        rows = model.rows(walk.episode)
        history = [text for step in walk.episode.steps[: walk.start] for text in (step.action, step.observation)]
        for number, step in enumerate(course):
            row = replace(rows[walk.start + number], history=tuple(history))
            answers = ask(model.lm, model.sampler, world.prompts("brief"), [row], 1, GREEDY, generator())
            if step.ended == BEFORE:
                break
            assert step.answer == answers[0][0].next_state
            history += [row.action, step.answer or ""]
    assert any(step.answer for course in courses for step in course)


def test_rollout_figures_worked_by_hand(model: WorldModel) -> None:
    """Two tasks, stretches of two steps. The model knows a world in which what follows a lie is a lie: from the real
    history it errs at `b` alone, in imagination also at the step after it."""
    first = episode(("a", "A"), ("b", "B"), ("c", "C"), number=1)
    second = episode(("b", "B"), ("c", "C"), ("a", "A"), ("c", "C"), number=2)

    def rule(row: Transition) -> str | None:
        return "lie" if row.action == "b" or row.history[-1:] == ("lie",) else row.next_state

    asker = scripted(model, rule)
    found = measure_rollouts(asker, EXACT, 0.5, [first, second], 2, generator(), 100)
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


def test_steps_after_an_unreadable_answer_count_as_wrong(model: WorldModel) -> None:
    one = episode(("a", "A"), ("b", "B"), ("c", "C"))
    found = measure_rollouts(
        scripted(model, lambda row: None if row.action == "a" else row.next_state),
        EXACT,
        0.5,
        [one],
        3,
        generator(),
        100,
    )
    assert [found["by_depth"][d]["exact"]["mean"] for d in "123"] == [0, 0, 0]
    assert [found["by_depth"][d]["distance"]["mean"] for d in "123"] == [2, 2, 2]
    assert [found["by_depth"][d]["one_step"]["exact"]["mean"] for d in "123"] == [0, 1, 1]
    assert found["ended"] == {UNPARSED: 1, BEFORE: 2}


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


def test_the_world_itself_as_world_model_is_always_right(plans: dict[str, list[Episode]], model: WorldModel) -> None:
    found = measure_plans(scripted(model, lambda row: row.next_state, max_context=10**6), plans, generator(), 100)
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


def test_a_model_that_admits_everything_is_the_baseline(plans: dict[str, list[Episode]], model: WorldModel) -> None:
    yes = scripted(model, lambda row: model.world.granted(row.action), max_context=10**6)  # type: ignore[attr-defined]
    found = measure_plans(yes, plans, generator(), 100)["by_source"]
    for source in found:
        assert found[source]["wins"] == found[source]["wins_if_all_is_admitted"]
    assert found["all"]["refused"]["said"] == 0
    assert found["all"]["executable"]["said"] == found["all"]["plans"]
    assert found["expert"]["wins"]["recall"]["mean"] == 1.0
    assert found[LEFT_OUT]["wins"]["false_alarm"]["mean"] > 0


def test_plans_by_hand(model: WorldModel) -> None:
    """Four plans of one action in a world of logs, which cannot read wins; a model that takes `b` for refused."""
    admitted, refused = (episode(("a", "yes"), number=1), episode(("b", "no"), number=2))
    refused = replace(refused, steps=(replace(refused.steps[0], valid=False),))
    wrong = replace(episode(("b", "yes"), number=3))
    failed = replace(episode(("a", "yes"), number=4), error="broken")
    empty = episode(number=5)
    asker = scripted(model, lambda row: "no" if row.action == "b" else "yes", world=ChatLogs())
    found = measure_plans(asker, {"logs": [admitted, refused, wrong, failed, empty]}, generator(), 100)
    cells = found["by_source"]["logs"]
    assert (cells["plans"], cells["actions"], found["left_out"], found["refusals"]) == (3, 3, 2, ["no"])
    assert cells["exact"]["mean"] == pytest.approx(2 / 3)
    assert [cells["refused"][name] for name in ("true", "said", "both")] == [1, 2, 1]
    assert [cells["executable"][name] for name in ("true", "said", "both")] == [2, 1, 1]
    assert cells["wins"] is cells["wins_if_all_is_admitted"] is cells["wins_read_from_real_text"] is None
    assert cells["unreadable"] == 3


def test_a_plan_that_imagination_cannot_finish_is_not_executable_there(model: WorldModel) -> None:
    asker = scripted(model, lambda row: None, world=ChatLogs())
    cells = measure_plans(asker, {"logs": [episode(("a", "yes"), ("a", "yes"))]}, generator(), 100)["by_source"]["all"]
    assert (cells["executable"]["true"], cells["executable"]["said"]) == (1, 0)
    assert cells["ended"] == {UNPARSED: 1, BEFORE: 1}
