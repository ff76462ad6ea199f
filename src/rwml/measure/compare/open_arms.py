"""The arms of a comparison as runs: a folder for each arm and seed, RUN/s<seed>/<arm>/."""

from __future__ import annotations

from rwml.core.errors import RwmlError
from rwml.core.progress import note
from rwml.core.recipe.compare import ArmConfig
from rwml.core.recipe.recipe import Recipe
from rwml.core.run import Run
from rwml.measure.compare.arms import arm_recipe, data_stages, equal_steps
from rwml.measure.compare.costs import price, stage_costs
from rwml.models.language_model import load_chat


def open_arm(recipe: Recipe, arm: ArmConfig, seed: int) -> Run:
    """The run folder of an arm under one seed, to work in. RwmlError if its steps are not known yet (`peek_arm`)."""
    run = peek_arm(recipe, arm, seed)
    if run is None:
        raise RwmlError(
            f"seed {seed}: the arm '{arm.name}' may spend what '{arm.compute}' costs, which is not done",
            "its number of steps follows from that cost",
            f"run it first: --arms {arm.compute}",
        )
    return Run.open(run.recipe, note)


def peek_arm(recipe: Recipe, arm: ArmConfig, seed: int) -> Run | None:
    """The run folder of an arm under one seed, to read from (`Run.peek`).

    None if the arm may spend what another one costs, and that one is not done.
    """
    if not arm.compute:
        return Run.peek(arm_recipe(recipe, arm, seed))
    steps = _steps_to_spend(recipe, arm, seed)
    return Run.peek(arm_recipe(recipe, arm, seed, steps)) if steps else None


def paid_stages(recipe: Recipe, arm: ArmConfig) -> tuple[str, ...]:
    """The stages that an arm pays for. recipe: the arm's own. The base arm trains nothing and pays nothing."""
    return (*data_stages(recipe, arm), *arm.stages) if arm.stages else ()


def _steps_to_spend(recipe: Recipe, arm: ArmConfig, seed: int) -> int:
    """Policy steps that cost what all of the arm `arm.compute` cost; 0 if that one is not done."""
    reference = recipe.compare.arm(arm.compute)
    run = Run.peek(arm_recipe(recipe, reference, seed))  # its own steps are in the recipe: `check_arms`
    stages = paid_stages(run.recipe, reference)
    if not all(map(run.is_done, stages)):
        return 0
    costs = stage_costs(run, stages, load_chat(recipe.model.path, trust_remote_code=recipe.model.trust_remote_code))
    return equal_steps(price(costs, recipe.compare.compute_unit), round(costs["train_policy"]["steps"]))
