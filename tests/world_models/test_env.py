"""A world model as an environment: with the real engine inside, playing in imagination is playing."""

from __future__ import annotations

from typing import cast

import torch

from made import Scripted
from rwml.core.recipe.recipe import ModelConfig
from rwml.loading import sampler_of
from rwml.models.language_model import LanguageModel
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.rollout import LanguageModelPolicy, play_built_in, seats_for
from rwml.world_models.engine import EngineWorldModel
from rwml.world_models.env import ImaginedEnv, ImaginedWorld
from rwml.world_models.language import LanguageWorldModel
from rwml.worlds.base import Env, World


def test_the_engine_imagined_is_the_engine(world: World) -> None:
    tasks = world.tasks("train")[:4]
    model = EngineWorldModel(world, tasks=tasks)
    real = play_built_in(world, seats_for(tasks, 1, 0), "expert", 30)
    won = 0
    for episode in real:
        env = ImaginedEnv(model, world)
        assert isinstance(env, Env)
        assert env.reset(episode.task, episode.seed) == episode.opening
        for step in episode.steps:
            result = env.step(step.action)
            assert (result.observation, result.kind) == (step.observation, step.kind)
            if result.terminated:
                break
        assert env.success == episode.success
        won += env.success
    assert won > 1


def test_an_answer_without_a_next_state_ends_the_episode(world: World) -> None:
    task = world.tasks("train")[0]
    [episode] = play_built_in(world, seats_for([task], 1, 0), "expert", 3)
    model = Scripted(lambda query, truth: None if query.history else truth, [episode], world)
    model.truths = {f"{task.id}@{n}": truth for n, truth in enumerate(model.truths.values())}
    env = ImaginedEnv(model, world, history_steps=1)
    env.reset(task)
    first = env.step(episode.steps[0].action)
    assert (first.observation, first.terminated, env.ended) == (episode.steps[0].observation, False, "")
    second = env.step(episode.steps[1].action)
    assert (second.observation, second.terminated, second.valid) == ("", True, False)
    assert (env.ended, env.success, list(env.admissible)) == ("unparsed", False, [])


def test_a_language_model_imagines_the_same_under_the_same_seed(lm: LanguageModel, world: World) -> None:
    params = SamplingParams(max_new_tokens=24)
    model = LanguageWorldModel(lm, sampler_of(lm, ModelConfig()), world.prompts("brief"), params, 400)
    task = world.tasks("train")[0]

    def play(seed: int) -> list[str]:
        env = ImaginedEnv(model, world)
        texts = [env.reset(task, seed)]
        for _ in range(3):
            result = env.step("look")
            texts.append(result.observation)
            if result.terminated:
                break
        return texts

    assert play(0) == play(0)
    assert len({tuple(play(seed)) for seed in range(6)}) > 1


def test_policies_play_an_imagined_world_as_any_other(lm: LanguageModel, world: World) -> None:
    tasks = world.tasks("train")[:3]
    imagined = cast(World, ImaginedWorld(EngineWorldModel(world, tasks=tasks), world))
    assert (imagined.name, imagined.tasks("train")[:3]) == (world.name, tasks)
    policy = LanguageModelPolicy(lm, sampler_of(lm, ModelConfig()), world.prompts("brief"), SamplingParams(24), 4, 400)
    seats = seats_for(tasks, 2, 0)
    inside, outside = (policy.play(w, seats, torch.Generator().manual_seed(1)) for w in (imagined, world))
    assert [game.ids for game in inside] == [game.ids for game in outside]
    assert any(game.episode.steps for game in inside)
