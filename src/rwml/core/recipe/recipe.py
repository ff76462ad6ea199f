"""A recipe: its sections in one frozen object, read once from TOML; an unknown key names the nearest one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, model_validator

from rwml.core.errors import RwmlError, nearest
from rwml.core.files import damaged, file_hash, read_json, read_sealed
from rwml.core.guard.trust import refuse_secrets
from rwml.core.recipe.compare import ArmConfig, CompareConfig
from rwml.core.recipe.older import MOVED, in_todays_words
from rwml.core.recipe.reward_names import check_judge, may_ask_judge, unset_judge_keys
from rwml.core.recipe.run_place import IN_OUT, check_name, check_out, home
from rwml.core.recipe.sections import (
    CollectConfig,
    EmbeddingConfig,
    EvaluateConfig,
    FilterConfig,
    JudgeConfig,
    MeasureConfig,
    ModelConfig,
    ReportConfig,
    RewardLabConfig,
    Section,
    TrainPolicyConfig,
    TrainWmConfig,
    TransitionsConfig,
    WorldConfig,
)
from rwml.core.recipe.toml_values import MAX_DEPTH, check_values, read_toml, short_repr

M = TypeVar("M", bound=BaseModel)

ARM_SECTIONS = ("collect", "transitions", "filter", "train_wm", "train_policy", "judge")
"""Sections that an arm may change. All other sections define the measurement and are equal in every arm."""

RESERVED = ("evaluation", "baselines", "measures")



class Recipe(Section):
    """A whole run."""

    name: str = Field(min_length=1)
    seed: int = Field(0, strict=True)
    out: str = Field("runs/{name}", min_length=1)
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
        """The run folder: `out` with `~` for the home folder and the name for `{name}`; `{{` and `}}` are one brace."""
        meant = {"{name}": self.name, "{{": "{", "}}": "}"}
        out = self.out
        if out.startswith("~"):
            first, slash, rest = out.partition("/")
            out = str(home(first)).replace("{", "{{").replace("}", "}}") + slash + rest
        return Path(IN_OUT.sub(lambda match: meant[match[0]], out))

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
        return parse_recipe(data, "overrides") if overrides else self

    @property
    def judge_settings(self) -> tuple[str, ...]:
        """The section of the judge, as `Run.stage` takes it, if the training reward may ask one."""
        return ("judge",) if may_ask_judge(self.train_wm.reward) else ()

    @model_validator(mode="after")
    def _the_folder_is_where_out_says(self) -> Recipe:
        check_name(self.name)
        check_out(self.out)
        return self

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
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        beside = [p.name for p in path.parent.glob("*.toml")] if path.parent.is_dir() else []
        raise RwmlError(
            f"no recipe at '{path}'", "a run is described by its recipe alone", nearest(path.name, beside)
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RwmlError(
            f"the recipe '{path}' cannot be read: {error}",
            "a run is described by its recipe alone",
            "give a text file in UTF-8 that you may read",
        ) from None
    try:
        data = read_toml(text, f"'{path}'")
    except tomllib.TOMLDecodeError as error:
        raise RwmlError(
            f"'{path}' is not TOML: {error}", "a recipe that is half read would train something else", "mend that line"
        ) from None
    check_values(data, f"'{path}'")
    data = in_todays_words(data)
    _refuse_unknown(data, Recipe, str(path), "")
    for override in overrides:
        _apply(data, override)
        data = in_todays_words(data)
        _refuse_unknown(data, Recipe, f"the override {override}", "")
    return parse_recipe(data, str(path))


def parse_recipe(data: dict[str, Any], source: str = "recipe") -> Recipe:
    """Validate a recipe that was read elsewhere (a file, `recipe.json`), the arms of its comparison included."""
    if not isinstance(data, dict):
        raise RwmlError(
            f"{source} holds {type(data).__name__}, not a table of settings",
            "a recipe is a table with a name and sections",
            "give a recipe, or the folder of a run",
        )
    recipe = _validate(Recipe, data, source)
    check_arms(recipe, source)
    return recipe


def recipe_of_run(folder: Path) -> Recipe:
    """The recipe that a run folder keeps, with this folder as its `out`. Raises RwmlError if the folder is not a
    run."""
    path = folder / "recipe.json"
    if not path.is_file():
        raise RwmlError(
            f"'{folder}' is not a run folder: it holds no recipe.json",
            "a run keeps the recipe that it was made under",
            "give the folder that `rwml run` wrote",
        )
    manifest = folder / "manifest.json"
    known = read_sealed(manifest).get("recipes") if manifest.is_file() else None
    if known and file_hash(path) not in known:
        raise damaged(
            path,
            "it is not the recipe that manifest.json knows",
            "put back a copy of it, or give the recipe's TOML file instead of the folder; give changes as key=value",
        )
    recipe = parse_recipe(read_json(path), str(path))
    if recipe.folder.resolve() == folder.resolve():
        return recipe
    # It was moved, or is opened from another working directory.
    return recipe.model_copy(update={"out": str(folder.resolve()).replace("{", "{{").replace("}", "}}")})


def read_settings(model: type[M], overrides: tuple[str, ...], source: str) -> M:
    """Settings outside any recipe: the model's defaults with `key=value` overrides."""
    data: dict[str, Any] = {}
    for override in overrides:
        _apply(data, override)
    return _validate(model, data, source)


def read_values(model: type[M], values: dict[str, Any], source: str) -> M:
    """One section of plain values; RwmlError names the key that is unknown or wrong, and the nearest known one."""
    return _validate(model, values, source)


def _validate(model: type[M], data: dict[str, Any], source: str) -> M:
    check_values(data, source)
    data = in_todays_words(data) if model is Recipe else data
    refuse_secrets(data, source)
    _refuse_unknown(data, model, source, "")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise RwmlError(
            f"{source}: {key} = {short_repr(first.get('input'))} is not valid: {first['msg']}",
            "a run with a wrong value is a wrong run",
            f"set {key} to an allowed value, in the file or with {key}=VALUE on the command line",
        ) from None


def key_and_value(text: str, kind: str, example: str) -> tuple[str, Any]:
    """`key=value` as a pair; the value is read as TOML if it is one TOML value, else as plain text.

    kind, example: for the message of the RwmlError that any other text raises, such as "override" and "seed=1".
    """
    key, separator, written = text.partition("=")
    if not separator or not key.strip():
        raise RwmlError(f"{kind} '{text}' is not of the form key=value", "it would change nothing", f"write {example}")
    key, source, value = key.strip(), f"{kind} {short_repr(text)}", written
    with suppress(tomllib.TOMLDecodeError):
        read = read_toml(f"x = {written}", source)
        value = read["x"] if read.keys() == {"x"} else written
    check_values({key: value}, source)
    return key, value


def _apply(data: dict[str, Any], override: str) -> None:
    key, value = key_and_value(override, "override", "e.g. train_wm.epochs=1")
    _set(data, key, value, f"override {short_repr(override)}")


def _set(data: dict[str, Any], key: str, value: Any, source: str) -> None:
    *parents, last = MOVED.get(key, key).split(".", MAX_DEPTH)
    for part in parents:
        data = data.setdefault(part, {})
        if not isinstance(data, dict):
            raise RwmlError(f"{source}: '{part}' is not a section", "it has no keys to set", "check the key")
    data[last] = value


def _refuse_unknown(data: dict[str, Any], model: type[BaseModel], source: str, prefix: str) -> None:
    for key, value in data.items():
        field = model.model_fields.get(key)
        if field is None:
            raise RwmlError(
                f"{source}: unknown key '{prefix}{key}'",
                "nothing reads it, and the key that it was meant for would keep its default",
                nearest(key, model.model_fields),
            )
        inner = field.annotation
        items: Iterable[Any] = [value]
        if isinstance(value, list) and get_args(inner):
            inner, items = get_args(inner)[0], value
        for item in items:
            if isinstance(item, dict) and isinstance(inner, type) and issubclass(inner, BaseModel):
                _refuse_unknown(item, inner, source, f"{prefix}{key}.")


def recipe_toml(recipe: Mapping[str, Any]) -> str:
    """A resolved recipe (`Recipe.model_dump(mode="json")`) as TOML that reads back as the same recipe; keys that are
    None are left to their default."""
    plain = [f"{key} = {_toml(value)}" for key, value in recipe.items() if not isinstance(value, Mapping)]
    sections = [
        "\n".join([f"\n[{name}]", *(f"{key} = {_toml(value)}" for key, value in section.items() if value is not None)])
        for name, section in recipe.items()
        if isinstance(section, Mapping)
    ]
    return "\n".join(plain + sections) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(inner) for inner in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")  # TOML allows no plain DEL


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
        if name in (*RESERVED, *recipe.evaluate.baselines):
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
                "name an arm that trains a policy with its own number of steps, on an arm that trains one",
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
