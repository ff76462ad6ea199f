"""From a recipe to the things that play: the world, the model, its sampler and the player around them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch

from rwml.core.errors import RwmlError
from rwml.core.files import read_json
from rwml.core.recipe.recipe import EmbeddingConfig, ModelConfig, Recipe
from rwml.core.recipe.reward_names import unset_judge_keys
from rwml.core.run import Run
from rwml.models.embedding.embedder import Embedder
from rwml.models.language_model import LanguageModel, load_language_model
from rwml.models.sampling.sampler import Sampler, SamplingParams
from rwml.play.rollout import ModelPlayer
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
    return Sampler(lm.model, lm.chat.stop_ids, autocast_of(config))


def load_player(
    recipe: Recipe,
    temperature: float,
    max_new_tokens: int,
    max_steps: int,
    path: str | Path | None = None,
    name: str = "model",
) -> Callable[[], ModelPlayer]:
    """A function that loads the language-model policy once, when it is first needed."""

    @lru_cache(maxsize=1)
    def player() -> ModelPlayer:
        lm = load_model(recipe.model, path)
        params = SamplingParams(max_new_tokens=max_new_tokens, temperature=temperature)
        return player_of(recipe, lm, params, max_steps, name)

    return player


def player_of(
    recipe: Recipe, lm: LanguageModel, params: SamplingParams, max_steps: int, name: str = "model"
) -> ModelPlayer:
    """The language-model policy around a model that is already loaded."""
    prompts = load_world(recipe).prompts(recipe.model.prompts)
    sampler = sampler_of(lm, recipe.model)
    return ModelPlayer(lm, sampler, prompts, params, max_steps, recipe.model.max_context_tokens, name)


def load_embedder(config: EmbeddingConfig, cache: Path | None) -> Embedder:
    """The embedding model, with its cache on disk."""
    return Embedder(config.path, config.prefix, config.batch_size, config.device, cache)


def load_reward(run: Run, tau_d: float) -> KindReward:
    """The reward that the recipe trains the world model with, under a threshold of its own."""
    recipe, cache = run.recipe, run.cache_folder
    judge = None if unset_judge_keys(recipe.judge.base_url, recipe.judge.model) else lambda: Judge(recipe.judge, cache)
    return KindReward(recipe.train_wm.reward, lambda: load_embedder(recipe.embedding, cache), tau_d, judge)


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
