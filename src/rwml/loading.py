"""From a recipe to the things that play: the world, the model, its sampler and the policy around them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from rwml.core.errors import RwmlError
from rwml.core.files import read_json
from rwml.core.recipe.recipe import EmbeddingConfig, ModelConfig, Recipe
from rwml.core.run import Run
from rwml.models.embedding.embedder import Embedder
from rwml.models.language_model import LanguageModel, load_language_model
from rwml.models.sampling.sampler import Sampler, SamplingParams, samplers
from rwml.play.policies import Policy, PolicyMaterials, make_policy
from rwml.play.rollout import LanguageModelPolicy
from rwml.rewards.judge import Judge
from rwml.rewards.rewards import KindReward
from rwml.worlds.base import World
from rwml.worlds.registry import get_world


def load_world(recipe: Recipe) -> World:
    """The recipe's world."""
    return get_world(recipe.world.name, **recipe.world.options)


def load_model(config: ModelConfig, path: str | Path | None = None, trainable: bool = False) -> LanguageModel:
    """The recipe's model, or a checkpoint of it at `path`; with `trainable`, a LoRA adapter is put on if asked for."""
    lm = load_language_model(path or config.path, config.device, config.dtype, config.trust_remote_code)
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
    return samplers.get("local")(lm, autocast_of(config))


def load_policy(recipe: Recipe, name: str) -> Policy:
    """The policy of that name, as the recipe collects with it. "model" is loaded when it first plays."""
    world, config, steps = load_world(recipe), recipe.collect, recipe.world.max_steps

    @lru_cache(maxsize=1)
    def language_model() -> LanguageModelPolicy:
        params = SamplingParams(max_new_tokens=config.max_new_tokens, temperature=config.temperature)
        return policy_of(recipe, load_model(recipe.model), params, steps)

    return make_policy(name, PolicyMaterials(world, steps, language_model))


def policy_of(
    recipe: Recipe, lm: LanguageModel, params: SamplingParams, max_steps: int, name: str = "model"
) -> LanguageModelPolicy:
    """The language-model policy around a model that is already loaded."""
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    sampler = sampler_of(lm, recipe.model)
    return LanguageModelPolicy(lm, sampler, prompts, params, max_steps, recipe.model.max_context_tokens, name)


def load_embedder(config: EmbeddingConfig, cache: Path | None) -> Embedder:
    """The embedding model, with its cache on disk."""
    return Embedder(config.path, config.prefix, config.batch_size, config.device, cache)


def load_reward(run: Run, tau_d: float) -> KindReward:
    """The reward that the recipe trains the world model with, under a threshold of its own."""
    recipe, cache = run.recipe, run.cache_folder
    embedder, judge = lambda: load_embedder(recipe.embedding, cache), lambda: Judge(recipe.judge, cache)
    return KindReward(recipe.train_wm.reward, embedder, tau_d, judge)


def training_tau_d(run: Run) -> float:
    """The threshold of the training reward: the recipe's, or the filter's choice carried over by the paper's rule."""
    chosen = run.recipe.train_wm.tau_d or read_json(run.folder / "filter.json").get("training_tau_d")
    if chosen is None:
        raise RwmlError(
            "there is no tau_d: train_wm.tau_d is not set, and the filter, which would choose it, is off",
            "a prediction is right when it is nearer to the real next state than tau_d",
            "set train_wm.tau_d (the paper's ALFWorld run: 0.2), or filter.enabled = true",
        )
    return float(chosen)
