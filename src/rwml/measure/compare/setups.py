"""What a recipe's arms are examined and measured by, built from its sections."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rwml.core.recipe.declared import declared, settings_hash
from rwml.core.recipe.recipe import Recipe
from rwml.core.recipe.sections import EvaluateConfig
from rwml.core.types import Transition
from rwml.loading import load_model, load_policy, load_world, policy_of, world_model_of
from rwml.measure.examiner import Examinee, ExamSetup
from rwml.measure.suite import MeasureSetup
from rwml.models.language_model import LanguageModel, load_chat
from rwml.models.sampling.sampler import SamplingParams
from rwml.playing.rollout import LanguageModelPolicy
from rwml.world_models.language import LanguageWorldModel, too_long
from rwml.world_models.world_model import WorldModel
from rwml.worlds.base import World

MEASURED_UNDER = ("world", "model", "embedding", "collect", "transitions")
"""Sections besides [measure] that measures depend on."""

EXAMINED_UNDER = (
    *MEASURED_UNDER,
    *(f"evaluate.{key}" for key in EvaluateConfig.model_fields if key != "bootstrap_samples"),
)
"""What an exam depends on; figures are drawn together later, and read `evaluate.bootstrap_samples` then."""


def exam_setup(recipe: Recipe) -> ExamSetup:
    """What every arm of the recipe is examined by."""
    recipe = declared(recipe, "exam", EXAMINED_UNDER)
    world, model = load_world(recipe), recipe.model

    def too_long_for_it(rows: Sequence[Transition]) -> frozenset[str]:
        chat, prompts = load_chat(model.path, trust_remote_code=model.trust_remote_code), world.prompts(model.prompts)
        return too_long(chat, prompts, rows, recipe.evaluate.max_new_tokens, model.max_context_tokens)

    return ExamSetup(
        world=world,
        config=recipe.evaluate,
        seed=recipe.seed,
        history_steps=recipe.transitions.history_steps,
        episodes_in_flight=recipe.collect.episodes_in_flight,
        imported=recipe.collect.episodes,
        collector=load_policy(recipe, recipe.evaluate.collect_policy),
        too_long=too_long_for_it,
    )


def examinee_of(recipe: Recipe, name: str, path: Path | None) -> Examinee:
    """An arm to examine: the checkpoint at `path`, None = the recipe's model."""
    recipe = declared(recipe, "exam", EXAMINED_UNDER)
    config = recipe.evaluate

    def load() -> tuple[WorldModel, LanguageModelPolicy]:
        lm = load_model(recipe.model, path)
        model = world_model_of(recipe, lm, SamplingParams(config.max_new_tokens, config.world_model_temperature))
        params = SamplingParams(config.max_new_tokens, config.temperature)
        return model, policy_of(recipe, lm, params, recipe.world.max_steps, name)

    return Examinee(name, load)


def measure_setup(recipe: Recipe) -> MeasureSetup:
    """What all checkpoints of the recipe are measured by."""
    depends_on = {"recipe": settings_hash(recipe, MEASURED_UNDER)}
    recipe = declared(recipe, "measure", ("measure", *MEASURED_UNDER))
    config, world = recipe.measure, load_world(recipe)

    def model(lm: LanguageModel, of: World) -> LanguageWorldModel:
        return world_model_of(recipe, lm, SamplingParams(config.max_new_tokens, config.temperature), world=of)

    return MeasureSetup(
        config=config,
        world=world,
        world_options=recipe.world.options,
        seed=recipe.seed,
        history_steps=recipe.transitions.history_steps,
        max_context=recipe.model.max_context_tokens,
        imported=recipe.collect.episodes,
        policy=partial(load_policy, recipe),
        model=model,
        load=partial(load_model, recipe.model),
        depends_on=depends_on,
    )
