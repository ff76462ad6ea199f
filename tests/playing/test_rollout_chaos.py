"""Worlds that answer anything: every episode is whole or failed with a reason, can be written, and harms no other."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from chaos_world import Chaos, ChaosEnv
from rwml.core.errors import RwmlError
from rwml.core.records import read_records, write_records
from rwml.core.types import Episode, StopReason, Transition
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.local import local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.branches import branched_transitions, other_steps
from rwml.playing.failures import failures
from rwml.playing.policies import ActionsPolicy, play_seats
from rwml.playing.rollout import LanguageModelPolicy, play_built_in, seats_for
from rwml.world_models.engine import EngineWorldModel
from rwml.world_models.env import ImaginedWorld
from rwml.worlds.answers import MAX_CHARACTERS
from rwml.worlds.base import StepResult
from rwml.worlds.checker import check_world
from rwml.worlds.transitions import transitions_of

pytestmark = pytest.mark.slow  # seconds in all


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def check(episodes: list[Episode], number: int, path: Path) -> None:
    """Whole and failed episodes add up; files keep them; a failed one says why, in words that can be shown."""
    write_records(path, episodes, Episode)
    assert read_records(path, Episode) == episodes
    whole = [episode for episode in episodes if not episode.error]
    failed = [episode for episode in episodes if episode.stop is StopReason.ERROR]
    assert len(whole) + len(failed) == len(episodes) == number
    assert whole
    assert failed
    assert all(episode.error and not episode.success for episode in failed)
    assert {episode.opening for episode in whole} <= {"A room.", "", "\x00\x1b[2J"}
    assert all(math.isfinite(step.reward) for episode in episodes for step in episode.steps)
    assert failures(episodes).total() == len(failed)
    assert all(reason.isprintable() for reason in failures(episodes))


@pytest.mark.parametrize("seed", range(4))
def test_every_way_to_play_keeps_all_episodes(seed: int, tmp_path: Path) -> None:
    started = time.process_time()
    world: Any = Chaos(0.06, seed=seed)
    seats = seats_for(world.tasks("train"), 2, seed)
    check(play_built_in(world, seats, "expert", 5, lambda action, thought: f"{thought}{action}"), 80, tmp_path / "a")
    check(play_seats(world, seats, ActionsPolicy(("look",) * 4), generator()), 80, tmp_path / "b")
    imagined: Any = ImaginedWorld(EngineWorldModel(world, tasks=world.tasks("train")), world)
    check(play_seats(imagined, seats[:40], ActionsPolicy(("look",) * 4), generator()), 40, tmp_path / "c")
    assert time.process_time() - started < 20


@pytest.mark.parametrize("seed", range(3))
def test_rows_and_branches_of_such_a_world_add_up(seed: int, tmp_path: Path) -> None:
    world: Any = Chaos(0.03, seed=seed)
    calm: Any = Chaos(0)
    episodes = play_built_in(calm, seats_for(calm.tasks("train"), 1, 0), "expert", 5)
    failed: list[str] = []
    rows = [row for e in episodes for row in transitions_of(e, world, "train", None, failed=failed)]
    assert len(rows) + len(failed) == sum(len(episode.steps) for episode in episodes) == 120
    assert failed
    write_records(tmp_path / "rows", rows, Transition)
    assert read_records(tmp_path / "rows", Transition) == rows
    for episode in episodes:
        try:
            tried = other_steps(world, episode, 1, 0)
        except RwmlError as error:
            assert "in a replay with the same seed" in error.what  # noqa: PT017  an answer that differs is refused
        else:
            assert len(tried) == 3
    world.odds = 0.0
    assert len(branched_transitions(world, world.tasks("train"), 1, 0, 5)) == 2 * 120


def test_a_language_model_plays_on_where_others_fail(lm: LanguageModel, tmp_path: Path) -> None:
    world: Any = Chaos(0.05, 20, seed=1)
    policy = LanguageModelPolicy(lm, local_sampler(lm), world.prompts("brief"), SamplingParams(8, 1.0), 4, 300)
    episodes = [p.episode for p in policy.play(world, seats_for(world.tasks("train"), 1, 0), generator())]
    check(episodes, 20, tmp_path / "episodes")


def test_an_opening_that_no_model_can_read_is_not_read(lm: LanguageModel) -> None:
    """Its attention alone would take minutes."""

    class Long(ChaosEnv):
        def reset(self, task: Any, seed: int = 0) -> str:
            return "a b " * (MAX_CHARACTERS // 4 if task.id == "train/0" else 1)

    world: Any = Chaos(0, 2)
    world.env = lambda: Long(world)
    policy = LanguageModelPolicy(lm, local_sampler(lm), world.prompts("brief"), SamplingParams(8, 1.0), 2, 300)
    long, short = (p.episode for p in policy.play(world, seats_for(world.tasks("train"), 1, 0), generator()))
    assert (long.stop, len(long.opening), long.steps) == (StopReason.CONTEXT_LIMIT, MAX_CHARACTERS, ())
    assert (short.stop, len(short.steps)) == (StopReason.STEP_LIMIT, 2)


@pytest.mark.parametrize("seed", range(20))
def test_the_checker_names_faults_and_raises_nothing(seed: int) -> None:
    world: Any = Chaos(0.02, 5, seed=seed)
    found = check_world(world, "train", num_tasks=5)
    assert found
    assert all(sentence.isprintable() for sentence in found)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"reward": float("nan")}, "step('look'): the reward is not a number (nan)."),
        ({"observation": "\ud83d"}, "step('look'): the observation holds a lone surrogate"),
        ({"observation": "x" * (MAX_CHARACTERS + 1)}, "step('look'): the observation has 1,000,001 characters"),
    ],
)
def test_the_checker_names_what_play_would_refuse(fields: dict[str, Any], sentence: str) -> None:
    class Off(ChaosEnv):
        def step(self, action: str) -> StepResult:
            return StepResult(**{"observation": "x", "reward": 0.0, "terminated": False, "valid": True} | fields)

    world: Any = Chaos(0, 2)
    world.env = lambda: Off(world)
    assert any(sentence in violation for violation in check_world(world, "train", num_tasks=1))
