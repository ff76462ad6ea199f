"""The `[measure]` section of a recipe: what `rwml measure` looks at (docs/measures.md tells every key)."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

Measure = Literal["rollouts", "plans", "held_out", "text", "lm_eval"]
"""Of one checkpoint; weight change is a measure of two."""

MEASURES: tuple[Measure, ...] = get_args(Measure)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class HeldOutWorld(_Section):
    """A world that the training did not show, and who plays the episodes that its questions are cut from."""

    name: str = "alfworld"
    options: dict[str, Any] = Field(default_factory=dict)
    split: str = "valid_unseen"
    policy: str = "noisy"
    num_episodes: int = Field(20, ge=1)
    max_steps: int = Field(20, ge=1)


class MeasureConfig(_Section):
    """Imagination, retention and weight change of a run's checkpoints beside the model that it started from."""

    splits: tuple[str, ...] = ("valid_seen", "valid_unseen")
    policies: tuple[str, ...] = Field(("model", "expert", "noisy"), description="whose episodes are imagined")
    num_episodes: int = Field(32, ge=1, description="per split and policy")
    leave_one_out: bool = Field(True, description="also plans of won episodes with one step left out")
    depth: int = Field(5, ge=1, description="k, steps that are imagined one upon another")
    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    held_out: tuple[HeldOutWorld, ...] = Field((), description="empty = ALFWorld scenes of other sizes")
    num_transitions: int = Field(200, ge=1, description="per held-out world")
    corpus: str = Field("", description='plain text; "" = the one that ships with rwml')
    lm_eval: tuple[str, ...] = Field((), description="tasks of lm-evaluation-harness")
    lm_eval_limit: int = Field(0, ge=0, description="examples per task; 0 = all")
    bootstrap_samples: int = Field(2000, ge=100)
