"""The sections of a recipe: one frozen class for each, with its keys, their ranges and their defaults."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

from rwml.core.errors import RwmlError
from rwml.core.recipe.reward_names import DEFAULT_REWARD, check_reward

Measure = Literal["rollouts", "plans", "held_out", "text", "lm_eval"]
"""Of one checkpoint; weight change is a measure of two."""

MEASURES: tuple[Measure, ...] = get_args(Measure)


def _count(value: Any) -> Any:
    """`"all"` -> None; also 0, which older recipes wrote for "all"."""
    return None if value in ("all", 0) and value is not False else value


def _word(value: int | None) -> int | str:
    return "all" if value is None else value


Count = Annotated[
    Annotated[int, Field(ge=1)] | None,
    BeforeValidator(_count),
    PlainSerializer(_word, return_type=int | str, when_used="json"),
]
"""How many of something: a number from 1, or all there are: None in Python, the word "all" in TOML and JSON."""


class Section(BaseModel):
    """A frozen section. `without_effect`: keys that say how the work is done; no outcome depends on them.

    No number of any section may be NaN or infinite.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    without_effect: ClassVar[tuple[str, ...]] = ()


class WorldConfig(Section):
    """Which world, and which of its tasks. `options` go to the world itself (see its docs page)."""

    name: str = "alfworld"
    options: dict[str, Any] = Field(default_factory=dict)
    max_steps: int = Field(30, ge=1)


class ModelConfig(Section):
    """The language model that is trained. path: "tiny", a folder, or a hub name."""

    path: str = "tiny"
    prompts: Literal["full", "brief"] = "full"
    dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: bool = False
    sampler: str = Field("local", description="who samples (`rwml.samplers`)")
    device: str = "auto"
    lora_rank: int = Field(0, ge=0)
    trust_remote_code: bool = False
    max_context_tokens: int = Field(4096, ge=64)


class EmbeddingConfig(Section):
    """The embedding space of the sim-to-real gap. path: "minilm" (embedded default), a folder, or a hub name."""

    path: str = "minilm"
    prefix: str = ""
    batch_size: int = Field(64, ge=1)
    device: str = "auto"


class CollectConfig(Section):
    """Rollouts of the target model itself (RWML, step 1), or episodes that were imported from logs."""

    episodes: str = Field("", description="folder of imported episodes, taken instead of playing")
    split: str = "train"
    policy: str = "model"
    num_tasks: Count = None
    rollouts_per_task: int = Field(3, ge=1)
    temperature: float = Field(1.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    episodes_in_flight: int = Field(64, ge=1)


class TransitionsConfig(Section):
    """history_steps: H, the number of past exchanges kept before each action."""

    history_steps: Count = None
    valid_fraction: float = Field(0.1, ge=0, lt=1)


class FilterConfig(Section):
    """The easy filter (RWML, step 3). `tau_d`/`tau_easy` None = calibrated to `target_share`."""

    enabled: bool = True
    predictor_fraction: float = Field(0.1, gt=0, lt=1)
    predictor_epochs: int = Field(2, ge=1)
    predictor_learning_rate: float = Field(2e-6, gt=0)
    num_predictions: int = Field(10, ge=1, description="K")
    temperature: float = Field(1.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    target_share: float = Field(0.3, gt=0, lt=1)
    tau_d: float | None = Field(None, gt=0, le=2)
    tau_easy: float | None = Field(None, ge=0, le=1)
    keep_probability: float = Field(0.1, ge=0, le=1)


class OptimizerConfig(Section):
    """What every training has: AdamW, the size of a pass, checkpoints."""

    learning_rate: float = Field(1e-6, gt=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    updates_per_batch: int = Field(1, ge=1)
    tokens_per_pass: int = Field(16384, ge=256)
    checkpoint_every: int = Field(10, ge=1, description="steps")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step (from 0): constant after the warm-up."""
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps))


class SftConfig(OptimizerConfig):
    """Cross-entropy on the real next states (WM SFT), in shuffled passes over the transitions."""

    epochs: int = Field(2, ge=1)
    batch_size: int = Field(32, ge=1, description="transitions per step")


class GrpoConfig(OptimizerConfig):
    """GRPO on groups of samples, with the KL term and the clipping of its loss."""

    group_size: int = Field(8, ge=2)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(512, ge=1)
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.2, gt=0)
    kl_weight: float = Field(0.01, ge=0)
    kl_groups: Literal["signal", "all"] = Field("signal", description="all: also groups without signal, at their cost")
    advantage_scale: Literal["std", "none"] = "std"
    aggregation: Literal["sequence", "token", "constant"] = "sequence"


class SpinConfig(Section):
    """The real next state against the model's own earlier guess (SPIN, arXiv 2401.01335)."""

    rounds: int = Field(1, ge=1, description="the opponent is the model as it was when the round began")
    beta: float = Field(0.1, gt=0)


class TrainWmConfig(GrpoConfig, SftConfig):
    """World-model training (RWML, step 4) by one of three methods.

    rwml: GRPO on the sim-to-real reward; it reads the keys of `GrpoConfig`. sft: cross-entropy with an empty think; it
    reads only the keys of `SftConfig`. spin: preferences; it reads the same keys, the section [train_wm.spin], and the
    temperature and length of the guesses.
    """

    method: Literal["rwml", "sft", "spin"] = "rwml"
    spin: SpinConfig = SpinConfig()
    max_steps: Count = Field(None, description="all: as many as the epochs have")
    branches: int = Field(0, ge=0, description="other actions tried at every step of expert episodes; 0 = no episodes")
    branch_tasks: Count = Field(None, description="all: those of collect.num_tasks")
    sft_steps: int = Field(0, ge=0, description="first steps by SFT, for a model that cannot answer in this form yet")
    sft_learning_rate: float | None = Field(None, gt=0, description="of the sft_steps; None = learning_rate")
    reward: str | dict[str, str] = Field(DEFAULT_REWARD, description="one for all next states, or a table by kind")
    tau_d: float | None = Field(None, gt=0, le=2, description="None = the filter's choice by the paper's rule")
    low_signal_share: float = Field(0.05, ge=0, le=1)
    low_signal_steps: int = Field(5, ge=1)
    drift_share: float = Field(0.25, ge=0, le=1, description="of answers that predict nothing: the alarm; 1 = off")

    @field_validator("reward", mode="before")
    @classmethod
    def _reward_is_known(cls, choice: Any) -> Any:
        if isinstance(choice, (str, dict)):
            check_reward(choice)
        return choice

    def rate_at(self, step: int) -> float:
        """Learning rate of a step (from 0); that of the SFT before RWML is its own."""
        own = self.sft_learning_rate if step < self.sft_steps else None
        return super().rate_at(step) * ((own or self.learning_rate) / self.learning_rate)

    @model_validator(mode="after")
    def _settings_fit_the_method(self) -> TrainWmConfig:
        if self.branches and self.method != "sft":
            raise RwmlError(
                f"train_wm.branches = {self.branches} with train_wm.method = '{self.method}'",
                "branched transitions are labels for cross-entropy (IWM); they are not the model's own play",
                'set train_wm.method = "sft", or train_wm.branches = 0',
            )
        if self.method == "spin" and self.updates_per_batch > 1:
            raise RwmlError(
                f"train_wm.updates_per_batch = {self.updates_per_batch} with train_wm.method = 'spin'",
                "a pair's weight is computed from the current model; a second update would use a stale one",
                "set train_wm.updates_per_batch = 1",
            )
        return self


class TrainPolicyConfig(GrpoConfig):
    """Policy training: `grpo` on task success (RWML, step 5), or `sft` on `episodes`; from the weights of `start`.

    `sft` reads only the keys of `OptimizerConfig`.
    """

    method: Literal["grpo", "sft"] = "grpo"
    episodes: Literal["own", "expert", "reflections"] = "own"
    alternatives: int = Field(3, ge=0, description="other actions that a reflection is shown, per step")
    observation_weight: float = Field(0.0, ge=0, description="of an added cross-entropy on observations")
    transition_every: int = Field(0, ge=0, description="updates between two by WM SFT on the own rollouts; 0 = never")
    start: Literal["world_model", "model"] = "world_model"
    split: str = "train"
    steps: int = Field(300, ge=1)
    tasks_per_step: int = Field(16, ge=1)
    episode_max_steps: int = Field(15, ge=1)
    reward_success: float = 10.0
    reward_invalid: float = -0.1

    @model_validator(mode="after")
    def _extra_losses_have_rollouts(self) -> TrainPolicyConfig:
        for key in ("observation_weight", "transition_every"):
            if self.method == "sft" and getattr(self, key):
                raise RwmlError(
                    f"train_policy.{key} is {getattr(self, key)} with train_policy.method 'sft'",
                    "it is a loss on rollouts, and only 'grpo' plays any",
                    f"set train_policy.{key} = 0, or train_policy.method = 'grpo'",
                )
        return self

    @property
    def asks_judge(self) -> bool:
        """Whether the language model of the section [judge] is asked for reflections."""
        return self.method == "sft" and self.episodes == "reflections"


class EvaluateConfig(Section):
    """Held-out figures. Each arm is evaluated on the same tasks and the same transitions with the same seeds."""

    splits: tuple[str, ...] = Field(("valid_seen", "valid_unseen"), min_length=1)
    num_tasks: Count = Field(None, description="per split")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    temperature: float = Field(0.4, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    num_transitions: Count = Field(500, description="per split: whole episodes, until there are as many")
    world_model_temperature: float = Field(0.4, ge=0)
    collect_policy: str = Field("model", description="who plays the held-out transitions; model = before training")
    tau_d: float | None = Field(None, gt=0, le=2, description="None = as trained")
    baselines: tuple[str, ...] = Field(
        ("copy_last", "most_frequent"),
        description="world models (`rwml.world_models`) that the trained one has to beat",
    )
    bootstrap_samples: int = Field(2000, ge=100)


class HeldOutWorld(Section):
    """A world that the training did not show, and who plays the episodes that its questions are cut from."""

    name: str = "alfworld"
    options: dict[str, Any] = Field(default_factory=dict)
    split: str = "valid_unseen"
    policy: str = "noisy"
    num_episodes: int = Field(20, ge=1)
    max_steps: int = Field(20, ge=1)


class MeasureConfig(Section):
    """Imagination, retention and weight change of a run's checkpoints, compared with the model that it started from."""

    splits: tuple[str, ...] = ("valid_seen", "valid_unseen")
    policies: tuple[str, ...] = Field(("model", "expert", "noisy"), description="whose episodes are imagined")
    num_episodes: int = Field(32, ge=1, description="per split and policy")
    leave_one_out: bool = Field(True, description="also plans of won episodes with one step left out")
    depth: int = Field(5, ge=1, description="k, steps that are imagined, each from the one before")
    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    held_out: tuple[HeldOutWorld, ...] = Field((), description="empty = ALFWorld scenes of other sizes")
    num_transitions: int = Field(200, ge=1, description="per held-out world")
    corpus: str = Field("", description='plain text; "" = the one that ships with rwml')
    lm_eval: tuple[str, ...] = Field((), description="tasks of lm-evaluation-harness")
    lm_eval_limit: Count = Field(None, description="examples per task")
    bootstrap_samples: int = Field(2000, ge=100)


class JudgeConfig(Section):
    """A language model behind an OpenAI-compatible server that judges predictions. base_url: up to and with "/v1"."""

    without_effect: ClassVar[tuple[str, ...]] = ("base_url", "api_key_env", "max_concurrency", "timeout_s")

    base_url: str = ""
    model: str = ""
    api_key_env: str = Field("", description="environment variable with the key; empty = a server without keys")
    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    max_concurrency: int = Field(32, ge=1)
    timeout_s: float = Field(120.0, gt=0)


class RewardLabConfig(Section):
    """What `rwml reward-lab` looks at. policy: who plays if nothing is collected yet; "" = the collecting policy."""

    policy: str = ""
    num_tasks: int = Field(48, ge=1)
    num_transitions: int = Field(400, ge=1, description="questions that the cheats are asked")
    num_states: int = Field(200, ge=1, description="next states that pairs are made of")
    num_judged: int = Field(20, ge=0, description="of either, for a judge")
    tau_d: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


class ReportConfig(Section):
    num_examples: int = Field(20, ge=1)
