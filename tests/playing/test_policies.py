"""Policies by name: a world's own, the language model, and one of another author."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from rwml.core.errors import RwmlError
from rwml.core.guard.trust import allow
from rwml.core.types import StopReason
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.local import local_sampler
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.policies import (
    POLICIES,
    ActionsPolicy,
    Policy,
    PolicyMaterials,
    WorldPolicy,
    check_policy,
    has_policy,
    make_policy,
    play_seats,
)
from rwml.playing.rollout import Game, LanguageModelPolicy, SampledEpisode, Seat, play_built_in, seats_for
from rwml.worlds.base import World


@POLICIES.register("test-first-action")
class FirstAction:
    """Takes the first admissible action, all games in lockstep."""

    def __init__(self, materials: PolicyMaterials) -> None:
        self.max_steps = materials.max_steps

    def play(self, world: World, seats: Sequence[Seat], generator: torch.Generator) -> list[SampledEpisode]:
        games = [Game(seat, world.env(), "first", self.max_steps) for seat in seats]
        for game in games:
            game.start()
        while live := [game for game in games if game.stop is None]:
            for game in live:
                game.play(game.env.admissible[0], "the first")
        return [game.finish() for game in games]


def never() -> LanguageModelPolicy:
    raise AssertionError("the language model is not needed")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_a_worlds_own_policy_plays_as_it_does_alone(world: World) -> None:
    seats = seats_for(world.tasks("train")[:2], 2, seed=1)
    for name in ("expert", "noisy:0.5"):
        policy = make_policy(name, PolicyMaterials(world, 9, never))
        assert isinstance(policy, Policy)
        assert policy == WorldPolicy(name, 9)
        assert play_seats(world, seats, policy, generator()) == play_built_in(world, seats, name, 9)


def test_the_language_model_is_loaded_when_it_first_plays(lm: LanguageModel, world: World) -> None:
    loaded = []
    sampler, prompts = local_sampler(lm), world.prompts("brief")
    model = LanguageModelPolicy(lm, sampler, prompts, SamplingParams(12), 3, 1000)
    assert isinstance(model, Policy)

    def load() -> LanguageModelPolicy:
        loaded.append(model)
        return model

    policy = make_policy("model", PolicyMaterials(world, 3, load))
    assert loaded == []
    seats = seats_for(world.tasks("train")[:2], 2, seed=1)
    assert policy.play(world, seats, generator()) == model.play(world, seats, generator())
    assert loaded == [model]


@pytest.mark.parametrize("name", ["test-first-action", f"{__name__}:FirstAction"])
def test_a_policy_of_ones_own_is_a_class_with_a_name(world: World, name: str) -> None:
    allow(code=[f"{__name__}:FirstAction"])
    seats = seats_for(world.tasks("train")[:2], 1, seed=1)
    episodes = play_seats(world, seats, make_policy(name, PolicyMaterials(world, 4, never)), generator())
    for seat, episode in zip(seats, episodes, strict=True):
        env = world.env()
        assert episode.opening == env.reset(seat.task, seat.seed)
        assert (episode.id, episode.stop) == (f"{seat.task.id}#first0", StopReason.STEP_LIMIT)
        assert len(episode.steps) == 4
        for step in episode.steps:
            assert step.action == env.admissible[0]
            assert (step.observation, step.valid) == (env.step(step.action).observation, True)


def test_an_unknown_policy_is_refused_with_the_nearest(world: World) -> None:
    seats = seats_for(world.tasks("train")[:1], 1, seed=1)
    with pytest.raises(RwmlError, match="expert"):
        play_seats(world, seats, make_policy("expret", PolicyMaterials(world, 4, never)), generator())
    with pytest.raises(RwmlError, match="that you have not allowed: policy = 'no_such_module:Policy'"):
        check_policy("no_such_module:Policy", world)
    allow(code=["no_such_module:Policy"])
    with pytest.raises(RwmlError, match="cannot be imported"):
        make_policy("no_such_module:Policy", PolicyMaterials(world, 4, never))


def test_a_policy_that_leaves_an_episode_out_is_refused(world: World) -> None:
    class Lazy(ActionsPolicy):
        def play(self, world: World, seats: Sequence[Seat], generator: torch.Generator) -> list[SampledEpisode]:
            return super().play(world, seats[1:], generator)

    seats = seats_for(world.tasks("train")[:2], 1, seed=1)
    with pytest.raises(RwmlError, match="Lazy was given 2 seats and returned 1 episodes"):
        play_seats(world, seats, Lazy(("look",)), generator())


def test_a_policy_is_known_by_the_world_or_the_registry(world: World) -> None:
    names = ("expert", "noisy:0.3", "model", "test-first-action", "mine:Policy", "expret", "expret:0.3")
    assert [name for name in names if has_policy(name, world)] == list(names[:5])


def test_given_actions_are_played_in_order_until_the_game_ends(world: World) -> None:
    [seat] = seats_for(world.tasks("train")[:1], 1, seed=1)
    [won] = play_built_in(world, [seat], "expert", 30)
    actions = tuple(step.action for step in won.steps)
    [same] = play_seats(world, [seat], ActionsPolicy((*actions, "look"), "again"), generator())
    assert (same.success, same.policy, same.id) == (True, "again", won.id.replace("#expert", "#again"))
    assert [step.observation for step in same.steps] == [step.observation for step in won.steps]
    [cut] = play_seats(world, [seat], ActionsPolicy(actions[:-1]), generator())
    assert (cut.stop, len(cut.steps)) == (StopReason.STEP_LIMIT, len(actions) - 1)
