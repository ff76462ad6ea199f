"""Examining arms of the tiny world: what is held out, what is asked and played, and that nothing is done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from made import Scripted
from rwml.core.errors import RwmlError
from rwml.core.recipe.sections import EvaluateConfig
from rwml.core.records import Parts, read_episodes
from rwml.core.seeds import seed_of
from rwml.core.types import Episode, PredictedState, Transition
from rwml.measure import examiner as examiner_file
from rwml.measure.examiner import Examinee, Examiner, ExamSetup, baseline_predictions, held_out
from rwml.playing.policies import Policy, WorldPolicy
from rwml.playing.rollout import play_built_in, seats_for
from rwml.rewards.rewards import KindReward
from rwml.world_models.baselines import CopyLast
from rwml.world_models.world_model import WorldModel
from rwml.worlds.base import World
from rwml.worlds.transitions import transitions_of

SPLIT, SEED, STEPS = "valid_seen", 4, 5
EXACT = KindReward("exact", lambda: pytest.fail("no embedder is needed"), 0.5)


@pytest.fixture
def setup(world: World) -> ExamSetup:
    config = EvaluateConfig(splits=(SPLIT,), seeds=(0, 1), num_transitions=None)
    expert = WorldPolicy("expert", STEPS)
    return ExamSetup(world, config, SEED, None, 1, "", expert, too_long=lambda rows: frozenset())


@pytest.fixture
def episodes(world: World) -> list[Episode]:
    """Those that the held-out transitions are cut from."""
    seats = seats_for(world.tasks(SPLIT), 1, seed_of(SEED, "evaluate", "transitions"))
    return play_built_in(world, seats, "expert", STEPS)


def scripted(episodes: Sequence[Episode], world: World) -> Scripted:
    """It is right about every action but the first of an episode, which it cannot answer."""
    return Scripted(lambda query, truth: truth if query.history else None, episodes, world)


def not_again() -> tuple[WorldModel, Policy | None]:
    pytest.fail("what is done is not loaded for again")


def test_held_out_transitions_are_cut_once(
    setup: ExamSetup, episodes: list[Episode], world: World, tmp_path: Path
) -> None:
    expected = [row for episode in episodes for row in transitions_of(episode, world, SPLIT)]
    items = held_out(setup, tmp_path)
    assert items.tasks == {SPLIT: world.tasks(SPLIT)}
    assert (items.rows, items.sizes, items.long) == (expected, (len(expected), 2), 0)
    nobody = replace(setup, collector=WorldPolicy("nobody", STEPS))
    assert held_out(nobody, tmp_path) == items, "they are read back"
    # As many whole episodes as hold the wanted number of transitions.
    few = replace(setup, config=setup.config.model_copy(update={"num_transitions": 1}))
    assert held_out(few, tmp_path / "few").rows == [row for row in expected if row.episode == episodes[0].id]
    one_task = replace(setup, config=setup.config.model_copy(update={"num_tasks": 1}))
    drawn = [held_out(one_task, tmp_path / "one", draw).tasks[SPLIT] for draw in range(8)]
    assert {len(tasks) for tasks in drawn} == {1}
    assert {tasks[0].id for tasks in drawn} == {task.id for task in world.tasks(SPLIT)}


def test_transitions_that_are_too_long_are_counted_and_none_left_is_an_error(setup: ExamSetup, tmp_path: Path) -> None:
    def first(rows: Sequence[Transition]) -> frozenset[str]:
        return frozenset([rows[0].id])

    whole = held_out(setup, tmp_path)
    items = held_out(replace(setup, too_long=first), tmp_path)
    assert (items.rows, items.long) == (whole.rows[1:], 1)
    with pytest.raises(RwmlError, match="the splits valid_seen hold no transition to examine by"):
        held_out(replace(setup, too_long=lambda rows: frozenset(row.id for row in rows)), tmp_path)


def test_every_arm_is_asked_and_plays_once_under_each_seed(
    setup: ExamSetup, episodes: list[Episode], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examiner_file, "PREDICTIONS_IN_FLIGHT", 3)
    items = held_out(setup, tmp_path)
    model, loads = scripted(episodes, world), []

    def load() -> tuple[WorldModel, Policy | None]:
        loads.append(1)
        return model, WorldPolicy("expert", 3)

    examiner = Examiner(setup, items, EXACT)
    answers, games = examiner.examine(Examinee("arm", load), tmp_path / "arm")
    assert len(loads) == 1
    assert [(part.arm, part.split, part.seed) for part in answers] == [("arm", SPLIT, 0), ("arm", SPLIT, 1)]
    assert [(part.arm, part.split, part.seed) for part in games] == [("arm", SPLIT, 0), ("arm", SPLIT, 1)]
    for part in answers:
        assert part.predictions == [
            PredictedState(row.id, row.next_state, row.next_state, distance=0.0, reward=1.0)
            if row.history
            else PredictedState(row.id, "", None, reason="unparsed", distance=2.0, reward=0.0)
            for row in items.rows
        ]
    for part in games:
        seats = seats_for(world.tasks(SPLIT), 1, seed_of("evaluate", part.seed))
        assert part.episodes == play_built_in(world, seats, "expert", 3)
    assert read_episodes(tmp_path / "arm" / f"episodes-{SPLIT}-1") == games[1].episodes

    asked = len(model.asked)
    assert asked == 2 * len(items.rows)
    assert examiner.examine(Examinee("arm", not_again), tmp_path / "arm") == (answers, games)
    Parts(tmp_path / "arm" / f"predictions-{SPLIT}-1").path(1).unlink()
    assert examiner.examine(Examinee("arm", load), tmp_path / "arm") == (answers, games)
    assert [query.id for query in model.asked[asked:]] == [row.id for row in items.rows[3:6]]


def test_an_examinee_without_a_policy_is_asked_only(
    setup: ExamSetup, episodes: list[Episode], world: World, tmp_path: Path
) -> None:
    examiner = Examiner(setup, held_out(setup, tmp_path), EXACT)
    examinee = Examinee("asked", lambda: (scripted(episodes, world), None))
    answers, games = examiner.examine(examinee, tmp_path / "asked", plays=False)
    assert ([len(part.predictions) for part in answers], games) == ([len(examiner.items.rows)] * 2, [])
    assert not list((tmp_path / "asked").glob("episodes-*"))
    with pytest.raises(AssertionError, match="only arms with a policy play"):
        examiner.examine(examinee, tmp_path / "asked")


def test_baselines_answer_the_same_questions(setup: ExamSetup, world: World, tmp_path: Path) -> None:
    items = held_out(setup, tmp_path)
    examiner = Examiner(setup, items, EXACT)
    models = {"copy_last": partial(CopyLast, world), "again": partial(CopyLast, world)}
    parts = baseline_predictions(examiner, models, tmp_path / "baselines")
    assert [(part.arm, part.seed) for part in parts] == [(name, seed) for name in models for seed in (0, 1)]
    groups = CopyLast(world).predict([row.query for row in items.rows], 1, torch.Generator())
    expected = [group[0].next_state for group in groups]
    for part in parts:
        assert [state.next_state for state in part.predictions] == expected
    made = [path.name for path in sorted((tmp_path / "baselines").iterdir())]
    assert made == ["again", "copy_last"]
    refused = {name: partial(pytest.fail, "what is done is not made again") for name in models}
    assert baseline_predictions(examiner, refused, tmp_path / "baselines") == parts
