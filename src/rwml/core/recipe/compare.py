"""The `[compare]` section of a recipe and its arms.

An arm is a set of settings and the training stages that run under them. `docs/reference/compare.md` explains every key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from rwml.core.errors import RwmlError, nearest
from rwml.core.recipe.sections import Measure, Section


class ArmConfig(Section):
    """One arm of a comparison: which training stages run (none: the model as it is), under which settings."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="its folder: base, wm_sft, ...")
    label: str = Field("", description="its row in the tables; empty: the name")
    group: str = Field("main", description="arms of one group share a table")
    paper: str = Field("", description="key of the paper's row to compare with")
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


class CompareConfig(Section):
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
