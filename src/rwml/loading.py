"""From a recipe to the things that play: the world, the model, its sampler and the policy around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path

import torch

from rwml.core.errors import RwmlError
from rwml.core.files import read_json
from rwml.core.guard.trust import check_code
from rwml.core.progress import note
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.reward_names import (
    DEFAULT_REWARD,
    REWARDS,
    STATE_KINDS,
    asks_judge,
    may_ask_judge,
    reward_name,
    unset_judge_keys,
)
from rwml.core.recipe.sections import EmbeddingConfig, JudgeConfig, ModelConfig
from rwml.core.recipe.words_needed import check_words
from rwml.core.run import Run, Stage
from rwml.core.types import Transition
from rwml.models.embedding.embedder import Embedder
from rwml.models.language_model import LanguageModel, load_language_model, pick_device
from rwml.models.sampling.sampler import SAMPLERS, Sampler, SamplingParams
from rwml.playing.policies import Policy, PolicyMaterials, check_policy, make_policy
from rwml.playing.rollout import LanguageModelPolicy
from rwml.rewards.judge import Judge
from rwml.rewards.rewards import KindReward
from rwml.world_models.language import LanguageWorldModel
from rwml.world_models.world_model import WORLD_MODELS, Materials, WorldModel, make_world_model
from rwml.worlds.base import World
from rwml.worlds.by_name import world_of

RewardChoice = str | dict[str, str]


def load_world(recipe: Recipe) -> World:
    """The recipe's world."""
    return world_of(recipe.world.name, recipe.world.options)


def check_names(recipe: Recipe) -> None:
    """RwmlError for what the user has not allowed, and for a world, an option of it, a policy, reward, sampler,
    baseline or device that is not there: a stage has cleared nothing by then."""
    check_words(recipe)
    world = load_world(recipe)
    SAMPLERS.get(recipe.model.sampler)
    for kind in STATE_KINDS:
        REWARDS.get(reward_name(recipe.train_wm.reward, kind))
    for name in recipe.evaluate.baselines:
        WORLD_MODELS.get(name)
    pick_device(recipe.model.device)
    pick_device(recipe.embedding.device, "embedding.device")
    if not recipe.collect.episodes:  # imported episodes are played by nobody
        for name in (recipe.collect.policy, recipe.evaluate.collect_policy):
            check_policy(name, world)


def load_model(config: ModelConfig, path: str | Path | None = None, *, trainable: bool = False) -> LanguageModel:
    """The recipe's model, or a checkpoint of it at `path`; with `trainable`, a LoRA adapter is put on if asked for."""
    if config.trust_remote_code:
        check_code([("model.path", config.path)])
    lm = load_language_model(
        path or config.path, config.device, config.dtype, trust_remote_code=config.trust_remote_code
    )
    if not (trainable and config.lora_rank):
        return lm
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=config.lora_rank, lora_alpha=2 * config.lora_rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng():  # the adapter's first weights are random, and a run repeats itself
        torch.manual_seed(0)
        adapted = get_peft_model(lm.model, lora)
    return LanguageModel(adapted, lm.tokenizer, lm.chat, lm.source)


def autocast_of(config: ModelConfig) -> torch.dtype | None:
    """The dtype that matrix products run in, or None for the weights' own."""
    return torch.bfloat16 if config.autocast else None


def sampler_of(lm: LanguageModel, config: ModelConfig) -> Sampler:
    """A sampler for the model, with its stop tokens."""
    return SAMPLERS.get(config.sampler)(lm, autocast_of(config))


def load_policy(recipe: Recipe, name: str, world: World | None = None, max_steps: int = 0) -> Policy:
    """The policy of that name, as the recipe collects with it. "model" is loaded when it first plays.

    world, max_steps: that it plays; None and 0 are the recipe's.
    """
    played, steps, config = world or load_world(recipe), max_steps or recipe.world.max_steps, recipe.collect

    @lru_cache(maxsize=1)
    def language_model() -> LanguageModelPolicy:
        params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
        return policy_of(recipe, load_model(recipe.model), params, steps, world=played)

    return make_policy(name, PolicyMaterials(played, steps, language_model))


def policy_of(
    recipe: Recipe,
    lm: LanguageModel,
    params: SamplingParams,
    max_steps: int,
    name: str = "model",
    *,
    world: World | None = None,
) -> LanguageModelPolicy:
    """The language-model policy around a model that is already loaded. world: that it plays; None = the recipe's."""
    prompts = (world or load_world(recipe)).prompts(recipe.model.prompts)
    sampler = sampler_of(lm, recipe.model)
    return LanguageModelPolicy(lm, sampler, prompts, params, max_steps, recipe.model.max_context_tokens, name)


def world_model_of(
    recipe: Recipe, lm: LanguageModel, params: SamplingParams, *, world: World | None = None
) -> LanguageWorldModel:
    """A loaded language model as a world model. world: that it is asked about; None = the recipe's."""
    prompts = (world or load_world(recipe)).prompts(recipe.model.prompts)
    return LanguageWorldModel(lm, sampler_of(lm, recipe.model), prompts, params, recipe.model.max_context_tokens)


def baselines_of(recipe: Recipe, training: Sequence[Transition]) -> dict[str, Callable[[], WorldModel]]:
    """The world models that a trained one is compared with, by name. training: the rows that they learn from."""
    config = recipe.evaluate

    def language() -> LanguageWorldModel:
        params = SamplingParams(config.max_new_tokens, config.world_model_temperature)
        return world_model_of(recipe, load_model(recipe.model), params)

    materials = Materials(load_world(recipe), training, language=language)
    return {name: partial(make_world_model, name, materials) for name in config.baselines}


def load_embedder(config: EmbeddingConfig, cache: Path | None) -> Embedder:
    """The embedding model, with its cache on disk."""
    return Embedder(config.path, config.prefix, config.batch_size, config.device, cache)


def load_judge(config: JudgeConfig, cache: Path | None) -> Judge:
    """The judge of the section [judge], with its cache on disk."""
    return Judge(config, cache)


def load_reward(run: Run | Stage, tau_d: float, choice: RewardChoice | None = None) -> KindReward:
    """The reward that the recipe trains the world model with, under the threshold `tau_d`.

    choice: another reward than `train_wm.reward`.
    """
    recipe, cache = run.recipe, run.cache_folder
    reward = recipe.train_wm.reward if choice is None else choice
    # The section is read only where a reward may ask: a stage that asks nobody does not depend on it.
    asked = may_ask_judge(reward) and not unset_judge_keys(recipe.judge.base_url, recipe.judge.model)
    judge = partial(load_judge, recipe.judge, cache) if asked else None
    return KindReward(reward, lambda: load_embedder(recipe.embedding, cache), tau_d, judge)


def load_measuring_reward(run: Run, tau_d: float) -> KindReward:
    """The same, but the embedding reward replaces a judge's, which would be called thousands of times; in a table the
    kinds that have another reward keep theirs."""
    choice, kinds = run.recipe.train_wm.reward, ""
    if not asks_judge(choice):
        return load_reward(run, tau_d)
    other: RewardChoice = DEFAULT_REWARD
    if not isinstance(choice, str):
        judged = [kind for kind, name in choice.items() if asks_judge(name)]
        other, kinds = choice | dict.fromkeys(judged, DEFAULT_REWARD), f" of kind {', '.join(judged)}"
    note(f"measure: imagined next states{kinds} are scored by the embedding reward, not by the judge")
    return load_reward(run, tau_d, other)


def training_tau_d(run: Run | Stage) -> float:
    """The threshold of the training reward: the recipe's, or the filter's choice carried over by the paper's rule."""
    chosen = run.recipe.train_wm.tau_d or read_json(run.folder / "filter.json").get("training_tau_d")
    if chosen is None:
        raise RwmlError(
            "there is no tau_d: train_wm.tau_d is not set, and the filter, which would choose it, is off",
            "a prediction is right when it is nearer to the real next state than tau_d",
            "set train_wm.tau_d (the paper's ALFWorld run: 0.2), or filter.enabled = true",
        )
    return float(chosen)
