"""Recipes: one frozen class per stage, read once from TOML; an unknown key is an error that names the nearest one."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from rwml.core.errors import RwmlError, nearest
from rwml.core.recipe.compare import CompareConfig, check_arms
from rwml.core.recipe.measure import MeasureConfig
from rwml.core.recipe.reward_names import DEFAULT_REWARD, check_judge, check_reward, may_ask_judge, unset_judge_keys

M = TypeVar("M", bound=BaseModel)


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WorldConfig(_Section):
    """Which world, and which of its tasks. `options` go to the world itself (see its docs page)."""

    name: str = "alfworld"
    options: dict[str, Any] = Field(default_factory=dict)
    max_steps: int = Field(30, ge=1)


class ModelConfig(_Section):
    """The language model that is trained. path: "tiny", a folder, or a hub name."""

    path: str = "tiny"
    prompts: Literal["full", "brief"] = "full"
    dtype: Literal["float32", "bfloat16"] = "float32"
    autocast: bool = False
    device: str = "auto"
    lora_rank: int = Field(0, ge=0)
    trust_remote_code: bool = False
    max_context_tokens: int = Field(4096, ge=64)


class EmbeddingConfig(_Section):
    """The embedding space of the sim-to-real gap. path: "minilm" (embedded default), a folder, or a hub name."""

    path: str = "minilm"
    prefix: str = ""
    batch_size: int = Field(64, ge=1)
    device: str = "auto"


class CollectConfig(_Section):
    """Rollouts of the target model itself (RWML, step 1), or episodes that were imported from logs."""

    episodes: str = Field("", description="folder of imported episodes, taken instead of playing")
    split: str = "train"
    policy: str = "model"
    num_tasks: int = Field(0, ge=0, description="0 = all")
    rollouts_per_task: int = Field(3, ge=1)
    temperature: float = Field(1.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    episodes_in_flight: int = Field(64, ge=1)


class TransitionsConfig(_Section):
    """history_steps: H, the number of past exchanges kept before each action; 0 keeps all."""

    history_steps: int = Field(0, ge=0)
    valid_fraction: float = Field(0.1, ge=0, lt=1)


class FilterConfig(_Section):
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


class GrpoConfig(_Section):
    """What both GRPO stages share."""

    learning_rate: float = Field(1e-6, gt=0)
    warmup_steps: int = Field(0, ge=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    group_size: int = Field(8, ge=2)
    temperature: float = Field(1.0, gt=0)
    max_new_tokens: int = Field(512, ge=1)
    clip_low: float = Field(0.2, gt=0)
    clip_high: float = Field(0.2, gt=0)
    kl_weight: float = Field(0.01, ge=0)
    kl_groups: Literal["signal", "all"] = Field("signal", description="all: groups without signal, too, at their cost")
    advantage_scale: Literal["std", "none"] = "std"
    aggregation: Literal["sequence", "token", "constant"] = "sequence"
    updates_per_batch: int = Field(1, ge=1)
    tokens_per_pass: int = Field(16384, ge=256)
    checkpoint_every: int = Field(10, ge=1)
    max_steps: int = Field(0, ge=0, description="0 = as the epochs say")

    def rate_at(self, step: int) -> float:
        """Learning rate of a step (from 0): constant after the warm-up."""
        return self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps))


class TrainWmConfig(GrpoConfig):
    """World-model training (RWML, step 4): `rwml` by GRPO, `sft` by cross-entropy with an empty think, `spin` by
    preferring the real next state to the model's own earlier guess (SPIN, arXiv 2401.01335)."""

    method: Literal["rwml", "sft", "spin"] = "rwml"
    spin_rounds: int = Field(1, ge=1, description="the opponent is the model as it was when the round began")
    spin_beta: float = Field(0.1, gt=0)
    branches: int = Field(0, ge=0, description="other actions tried at every step of expert episodes; 0 = no episodes")
    branch_tasks: int = Field(0, ge=0, description="0 = as many as collect.num_tasks")
    sft_steps: int = Field(0, ge=0, description="first steps by SFT, for a model that cannot answer in this form yet")
    sft_learning_rate: float | None = Field(None, gt=0, description="of the sft_steps; None = learning_rate")
    epochs: int = Field(2, ge=1)
    batch_size: int = Field(32, ge=1, description="prompts per step")
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

    @property
    def of_loss(self) -> TrainWmConfig:
        """As the loss needs them: `sft` and `spin` have no KL term (the loss of `spin` has a reference of its own)."""
        return self if self.method == "rwml" else self.model_copy(update={"kl_weight": 0.0})

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
                "the weight of a pair follows from the weights of now, and a second update would take an old one",
                "set train_wm.updates_per_batch = 1",
            )
        return self


class TrainPolicyConfig(GrpoConfig):
    """Policy training: `grpo` on task success (RWML, step 5), or `sft` on `episodes`; from the weights of `start`."""

    method: Literal["grpo", "sft"] = "grpo"
    episodes: Literal["own", "expert", "reflections"] = "own"
    alternatives: int = Field(3, ge=0, description="other actions that a reflection is shown, per step")
    observation_weight: float = Field(0.0, ge=0, description="of cross-entropy on observations, beside the policy loss")
    transition_every: int = Field(0, ge=0, description="updates between two by WM SFT on the own rollouts; 0 = none")
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

    @property
    def of_loss(self) -> TrainPolicyConfig:
        """As the loss needs them: `sft` has no KL term."""
        return self.model_copy(update={"kl_weight": 0.0}) if self.method == "sft" else self


class EvaluateConfig(_Section):
    """Held-out figures. Each arm is evaluated on the same tasks and the same transitions with the same seeds."""

    splits: tuple[str, ...] = ("valid_seen", "valid_unseen")
    num_tasks: int = Field(0, ge=0, description="per split; 0 = all")
    seeds: tuple[int, ...] = (0, 1, 2)
    temperature: float = Field(0.4, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    num_transitions: int = Field(500, ge=0, description="per split; 0 = all of the collected ones")
    world_model_temperature: float = Field(0.4, ge=0)
    collect_policy: str = Field("model", description="who plays the held-out transitions; model = before training")
    tau_d: float | None = Field(None, gt=0, le=2, description="None = as trained")
    bootstrap_samples: int = Field(2000, ge=100)


class JudgeConfig(_Section):
    """A language model behind an OpenAI-compatible server that judges predictions. base_url: up to and with "/v1"."""

    base_url: str = ""
    model: str = ""
    api_key_env: str = Field("", description="environment variable with the key; empty = a server without keys")
    temperature: float = Field(0.0, ge=0)
    max_new_tokens: int = Field(512, ge=1)
    max_concurrency: int = Field(32, ge=1)
    timeout_s: float = Field(120.0, gt=0)


class RewardLabConfig(_Section):
    """What `rwml reward` looks at. policy: who plays where nothing is collected yet; "" = the collecting policy."""

    policy: str = ""
    num_tasks: int = Field(48, ge=1)
    num_transitions: int = Field(400, ge=1, description="questions that the cheats are asked")
    num_states: int = Field(200, ge=1, description="next states that pairs are made of")
    num_judged: int = Field(20, ge=0, description="of either, for a judge")
    tau_d: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5)


class ReportConfig(_Section):
    num_examples: int = Field(20, ge=1)


class Recipe(_Section):
    """A whole run."""

    name: str
    seed: int = 0
    out: str = "runs/{name}"
    world: WorldConfig = WorldConfig()
    model: ModelConfig = ModelConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    collect: CollectConfig = CollectConfig()
    transitions: TransitionsConfig = TransitionsConfig()
    filter: FilterConfig = FilterConfig()
    train_wm: TrainWmConfig = TrainWmConfig()
    train_policy: TrainPolicyConfig = TrainPolicyConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    measure: MeasureConfig = MeasureConfig()
    judge: JudgeConfig = JudgeConfig()
    reward_lab: RewardLabConfig = RewardLabConfig()
    report: ReportConfig = ReportConfig()
    compare: CompareConfig = CompareConfig()

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.out.format(name=self.name))

    def with_settings(self, settings: Mapping[str, Any], source: str = "settings") -> Recipe:
        """The same recipe, without its comparison, under other settings: {"section.key": value}."""
        data = self.model_dump(mode="json", exclude={"compare"})
        for key, value in settings.items():
            _set(data, key, value, source)
        return _validate(Recipe, data, source)

    def overridden(self, overrides: tuple[str, ...]) -> Recipe:
        """The same recipe under `key.sub=value` overrides, as on the command line."""
        data = self.model_dump(mode="json")
        for override in overrides:
            _apply(data, override)
        return _validate(Recipe, data, "overrides") if overrides else self

    @property
    def judge_settings(self) -> tuple[str, ...]:
        """The settings of the judge that rewards depend on, as `Run.stage` takes them: none where none is asked."""
        settings = ("judge.model", "judge.temperature", "judge.max_new_tokens")
        return settings if may_ask_judge(self.train_wm.reward) else ()

    @model_validator(mode="after")
    def _the_judge_is_known(self) -> Recipe:
        check_judge(self.train_wm.reward, self.judge.base_url, self.judge.model)
        return self

    @model_validator(mode="after")
    def _the_writer_of_reflections_is_known(self) -> Recipe:
        if self.train_policy.asks_judge and unset_judge_keys(self.judge.base_url, self.judge.model):
            raise RwmlError(
                "train_policy.episodes is 'reflections', and judge.base_url or judge.model is not set",
                "reflections are written by a language model behind an OpenAI-compatible server; nothing says which",
                'set base_url = "http://HOST:PORT/v1" and model = "NAME" in the section [judge]',
            )
        return self


def load_recipe(path: str | Path, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a TOML recipe and apply `key.sub=value` overrides; RwmlError on any bad file, key or value."""
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text())
    except (FileNotFoundError, IsADirectoryError):
        there = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise RwmlError(
            f"no recipe at '{path}'", "a run is described by its recipe alone", nearest(path.name, there)
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RwmlError(
            f"'{path}' is not TOML: {error}", "a recipe that is half read would train something else", "mend that line"
        ) from None
    for override in overrides:
        _apply(data, override)
    return parse_recipe(data, str(path))


def parse_recipe(data: dict[str, Any], source: str = "recipe") -> Recipe:
    """Validate a recipe that was read elsewhere (a file, `recipe.json`), the arms of its comparison included."""
    recipe = _validate(Recipe, data, source)
    check_arms(recipe, source)
    return recipe


def read_settings(model: type[M], overrides: tuple[str, ...], source: str) -> M:
    """Settings that stand in no recipe: the model's defaults with `key=value` overrides."""
    data: dict[str, Any] = {}
    for override in overrides:
        _apply(data, override)
    return _validate(model, data, source)


def _validate(model: type[M], data: dict[str, Any], source: str) -> M:
    _refuse_unknown(data, model, source, "")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RwmlError(
            f"{source}: {key} = {first.get('input')!r} is not valid: {first['msg']}",
            "a run with a wrong value is a wrong run",
            f"set {key} to an allowed value, in the file or with {key}=VALUE on the command line",
        ) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key.strip():
        raise RwmlError(
            f"override '{override}' is not of the form key.sub=value",
            "it would change nothing",
            "write e.g. train_wm.epochs=1",
        )
    try:
        value = tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        value = text
    _set(data, key.strip(), value, f"override '{override}'")


def _set(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    *parents, last = key.split(".")
    for part in parents:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise RwmlError(f"{source}: '{part}' is no section", "it has no keys to set", "check the key")
    data[last] = value


def _refuse_unknown(data: dict[str, Any], model: type[BaseModel], source: str, prefix: str) -> None:
    for key, value in data.items():
        field = model.model_fields.get(key)
        if field is None:
            raise RwmlError(
                f"{source}: unknown key '{prefix}{key}'",
                "a misspelt key would silently leave the default in force",
                nearest(key, model.model_fields),
            )
        inner = field.annotation
        items: Iterable[Any] = [value]
        if isinstance(value, list) and get_args(inner):
            inner, items = get_args(inner)[0], value
        for item in items:
            if isinstance(item, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
                _refuse_unknown(item, inner, source, f"{prefix}{key}.")
