"""Comparisons: the `[compare]` section of a recipe, its arms, and which recipe and stages each of them comes to.

An arm is a set of settings and the training stages that run under them. `docs/compare.md` tells every key.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rwml.core.errors import RwmlError, nearest
from rwml.core.recipe.measure import Measure

if TYPE_CHECKING:
    from rwml.core.recipe.recipe import Recipe

TRAINING = ("train_wm", "train_policy")
ARM_SECTIONS = ("collect", "transitions", "filter", "train_wm", "train_policy", "judge")
"""Sections that an arm may change. All others say what is measured, and how: they are the same for every arm."""

RESERVED = ("evaluation", "baselines", "measures", "copy_last", "most_frequent")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ArmConfig(_Section):
    """One arm of a comparison: which training stages run (none: the model as it is), under which settings."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="its folder: base, wm_sft, ...")
    label: str = Field("", description="its row in the tables; empty: the name")
    group: str = Field("main", description="arms of one group share a table")
    paper: str = Field("", description="key of the paper's row to stand beside")
    enabled: bool = Field(True, description="false: runs only when it is asked for by name")
    stages: tuple[Literal["train_wm", "train_policy"], ...] = ()
    set: dict[str, Any] = Field(default_factory=dict, description='{"section.key" = value}')
    against: tuple[str, ...] = Field((), description="arms to compare with, besides the base arm")
    compute: str = Field("", description="arm whose whole cost this one's policy training may spend")

    @property
    def title(self) -> str:
        """Its row in the tables."""
        return self.label or self.name

    @property
    def final(self) -> str:
        """Where the checkpoint that is examined lies in the run folder; empty: the model before training."""
        if "train_policy" in self.stages:
            return "policy/final"
        return "world_model/final" if "train_wm" in self.stages else ""


class CompareConfig(_Section):
    """A comparison of arms over training seeds (`rwml compare`)."""

    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    base: str = Field("base", description="the arm that all others are compared with: no stages, no settings")
    compute_unit: Literal["tokens", "seconds"] = "tokens"
    num_examples: int = Field(8, ge=0)
    measures: tuple[Measure, ...] = Field((), description="asked of every arm's checkpoint, as section [measure] says")
    arms: tuple[ArmConfig, ...] = ()

    def arm(self, name: str) -> ArmConfig:
        """The arm of that name; RwmlError names the nearest one."""
        named = {arm.name: arm for arm in self.arms}
        if name not in named:
            raise RwmlError(f"compare.arms has no arm '{name}'", "nothing would run", nearest(name, named))
        return named[name]

    def chosen(self, names: Sequence[str] = ()) -> list[ArmConfig]:
        """The enabled arms, or those that are named, and with them the base arm and those that set their cost.

        In the order of the recipe, but the base arm comes first, and an arm after the one whose cost it may spend.
        """
        wanted = {self.arm(name).name for name in names} or {arm.name for arm in self.arms if arm.enabled}
        wanted |= {self.base} | {self.arm(name).compute for name in wanted}
        arms = [arm for arm in self.arms if arm.name in wanted]
        return sorted(arms, key=lambda arm: (arm.name != self.base, bool(arm.compute)))


def check_arms(recipe: Recipe, source: str) -> None:
    """RwmlError where an arm of the recipe's comparison could not run as it is written."""
    compare = recipe.compare
    if not compare.arms:
        return
    names = [arm.name for arm in compare.arms]
    for name in names:
        if names.count(name) > 1:
            raise RwmlError(
                f"{source}: two arms are called '{name}'", "their files would mix", "give one of them another name"
            )
        if name in RESERVED:
            raise RwmlError(f"{source}: an arm is called '{name}'", "that folder is taken", "give it another name")
    if len(set(compare.seeds)) < len(compare.seeds):
        raise RwmlError(
            f"{source}: compare.seeds = {list(compare.seeds)} names a seed twice",
            "the same run would count as two",
            "name each seed once",
        )
    for key, references in _references(compare):
        for name in references:
            if name not in names:
                raise RwmlError(
                    f"{source}: {key} names the arm '{name}', which is not there",
                    "there would be nothing to compare with",
                    nearest(name, names),
                )
    for arm in compare.arms:
        _check_arm(recipe, arm, f"{source}, arm '{arm.name}'")


def _references(compare: CompareConfig) -> Iterable[tuple[str, Sequence[str]]]:
    yield "compare.base", [compare.base]
    for arm in compare.arms:
        yield f"arm '{arm.name}': against", arm.against
        yield f"arm '{arm.name}': compute", [arm.compute] if arm.compute else []


def _check_arm(recipe: Recipe, arm: ArmConfig, source: str) -> None:
    base = arm.name == recipe.compare.base
    if base != (not arm.stages) or (base and arm.set):
        raise RwmlError(
            f"{source}: stages = {list(arm.stages)}, set = {arm.set}",
            "the base arm is the model before any training, and every other arm trains",
            "give the base arm (compare.base) no stages and no settings, and each other arm at least one stage",
        )
    for key in arm.set:
        _check_key(key, source)
    resolved = recipe.with_settings(arm.set, source)
    if "train_policy" in arm.stages and "train_wm" not in arm.stages and resolved.train_policy.start != "model":
        raise RwmlError(
            f"{source}: policy training starts from the world model, which this arm does not train",
            "there would be no checkpoint to begin with",
            'set "train_policy.start" = "model", or add "train_wm" to its stages',
        )
    if arm.compute:
        reference = recipe.compare.arm(arm.compute)
        if "train_policy" not in arm.stages or "train_policy" not in reference.stages or reference.compute:
            raise RwmlError(
                f"{source}: compute = '{arm.compute}' does not fit",
                "an equal cost is reached by more steps of policy training, priced by those of the other arm",
                "name an arm that trains a policy by steps of its own, on an arm that trains one",
            )


def _check_key(key: str, source: str) -> None:
    section, _, rest = key.partition(".")
    if section not in ARM_SECTIONS:
        raise RwmlError(
            f"{source}: it sets '{key}', which an arm cannot change",
            "arms are compared in the same world, from the same model, by the same questions",
            f"change it for the whole recipe; an arm sets {', '.join(ARM_SECTIONS)}",
        )
    if not rest:
        raise RwmlError(
            f"{source}: it sets the whole section '{key}'",
            "what the recipe says there would silently be lost",
            f'set single keys, with quotes: set = {{ "{section}.key" = value }}',
        )


def data_stages(recipe: Recipe, arm: ArmConfig) -> tuple[str, ...]:
    """The stages before training that this arm's training reads the files of, in order.

    recipe: the arm's own. They count to its cost; the base arm has them for the evaluation alone.
    """
    if "train_wm" in arm.stages and not recipe.train_wm.branches:
        return ("collect", "transitions", "filter")
    policy = recipe.train_policy
    own = "train_policy" in arm.stages and policy.method == "sft" and policy.episodes == "own"
    return ("collect",) if own else ()


def arm_recipe(recipe: Recipe, arm: ArmConfig, seed: int, steps: int = 0) -> Recipe:
    """The ordinary recipe that an arm comes to under one seed, in a folder of its own.

    steps: of policy training, for an arm that may spend what another one costs.
    """
    folder = str(recipe.folder / f"s{seed}" / arm.name).replace("{", "{{").replace("}", "}}")
    settings: dict[str, Any] = {**arm.set, "seed": seed, "out": folder, "name": f"{recipe.name}-s{seed}-{arm.name}"}
    if steps:
        settings |= {"train_policy.steps": steps, "train_policy.max_steps": 0}
    return recipe.with_settings(settings, f"arm '{arm.name}'")


def equal_steps(reference: Mapping[str, float], reference_steps: int) -> int:
    """How many steps of policy training cost what a whole arm cost, by that arm's own price of a step; rounded up.

    reference: cost of each of its stages, `train_policy` among them, in tokens or seconds.
    """
    price = reference["train_policy"] / reference_steps
    assert price > 0, "policy training has a cost"
    return max(1, math.ceil(sum(reference.values()) / price - 1e-9))
