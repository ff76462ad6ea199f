"""Values that no setting can have are refused where a recipe is read, with their place; a seeded search finds none that
comes through or ends in a traceback."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

import fuzz_recipes
from fuzz_recipes import recipe_faults
from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, key_and_value, load_recipe, parse_recipe, read_settings, recipe_toml
from rwml.core.recipe.sections import RewardLabConfig, TrainPolicyConfig, TrainWmConfig
from rwml.stages.pipeline import shipped_recipes


def _read(folder: Path, text: str, *overrides: str) -> Recipe:
    path = folder / "r.toml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def _float_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of a recipe whose value is a floating-point number, as `section.key`."""
    keys = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += _float_keys(inner, f"{prefix}{name}.")
        elif inner is float or float in get_args(inner):
            keys.append(prefix + name)
    return keys


FLOATS = _float_keys(Recipe)


def test_all_floats_are_found() -> None:
    known = {"train_wm.learning_rate", "train_policy.reward_invalid", "judge.timeout_s", "train_wm.spin.beta"}
    assert known <= set(FLOATS)
    assert len(FLOATS) > 30


@pytest.mark.parametrize("key", FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_float_of_any_section_is_infinite_or_nan(tmp_path: Path, key: str, value: str) -> None:
    with pytest.raises(RwmlError) as caught:
        _read(tmp_path, 'name = "x"\n', f"{key}={value}")
    assert f"{key} = {value} is not a finite number" in caught.value.what.replace("[0]", "")
    assert key in caught.value.fix


def test_sections_that_a_program_makes_refuse_them_too() -> None:
    for make in (
        lambda: TrainWmConfig(learning_rate=math.inf),
        lambda: TrainPolicyConfig(reward_success=math.nan),
        lambda: RewardLabConfig(tau_d=(0.1, math.nan)),
    ):
        with pytest.raises(ValidationError, match="finite"):
            make()
    assert TrainPolicyConfig(reward_invalid=-1e300).reward_invalid == -1e300


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("seed = " + "7" * 5000, "holds a number of thousands of digits"),
        ("seed = 0x" + "e" * 5000, "seed is an integer of 20000 bits"),
        ("seed = 9223372036854775808", "seed is an integer of 64 bits; 64 are allowed"),
        ("[world.options]\nx = " + "[" * 3000 + "]" * 3000, "nested too deep"),
        ("[world.options]\nx = " + "[" * 33 + "]" * 33, "is nested more than 32 levels deep"),
        ("[world.options" + ".a" * 3000 + "]\nx = 1", "is nested more than 32 levels deep"),
        ("[world.options]\nx = [1, {y = -inf}]", "world.options.x[1].y = -inf is not a finite number"),
        ("[world.options]\nday = 1979-05-27", "world.options.day = 1979-05-27 is a date or time"),
        ('[model]\npath = "a\\u0000b"', "model.path = 'a\\x00b' holds a character"),
        ('[compare]\n[[compare.arms]]\nname = "a"\nset = {"train_wm.tau_d" = nan}', "train_wm.tau_d = nan is not"),
    ],
)
def test_what_toml_can_say_and_no_setting_can_be(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(RwmlError) as caught:
        _read(tmp_path, f'name = "x"\n{text}\n')
    assert what in caught.value.what
    assert len(str(caught.value)) < 2000


def test_numbers_of_64_bits_and_deep_options_are_read(tmp_path: Path) -> None:
    text = 'name = "x"\nseed = -9223372036854775808\n[world.options]\nx = ' + "[" * 29 + "1.5" + "]" * 29
    recipe = _read(tmp_path, text)
    assert recipe.seed == -(2**63)
    value: Any = recipe.world.options["x"]
    for _ in range(29):
        [value] = value
    assert value == 1.5


def test_a_recipe_that_is_no_table_and_files_that_are_no_text(tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match="holds list, not a table of settings"):
        parse_recipe([1, 2], "recipe.json")  # type: ignore[arg-type]
    (tmp_path / "bytes.toml").write_bytes(b'name = "\xff"\n')
    with pytest.raises(RwmlError, match=r"bytes\.toml' cannot be read"):
        load_recipe(tmp_path / "bytes.toml")
    with pytest.raises(RwmlError, match="cannot be read"):
        load_recipe(tmp_path / ("n" * 5000 + ".toml"))
    (tmp_path / "marked.toml").write_bytes(b'\xef\xbb\xbfname = "marked"\n')
    assert load_recipe(tmp_path / "marked.toml").name == "marked"


def test_an_override_is_one_value() -> None:
    assert key_and_value("a.b = [1, 2]", "override", "") == ("a.b", [1, 2])
    assert key_and_value("name=1\nseed=2", "override", "") == ("name", "1\nseed=2")
    for text, what in {
        "a=" + "9" * 5000: "thousands of digits",
        "a=" + "[" * 9000: "nested too deep",
        "a={" + ".".join("b" * 3000) + "=1}": "levels deep",
        "a=\udcff": "no file name and no text file can hold",
    }.items():
        with pytest.raises(RwmlError, match=what):
            key_and_value(text, "override", "")
    with pytest.raises(RwmlError, match=r"unknown key|levels deep"):
        read_settings(TrainWmConfig, (".".join("k" * 4000) + "=1",), "test")


def test_a_long_or_hostile_value_is_cut_and_escaped_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(RwmlError) as caught:
        _read(tmp_path, 'name = "x"\n', "train_wm.method=\x1b[31m" + "y" * 100_000)
    assert "\x1b" not in caught.value.what
    assert len(caught.value.what) < 400


def test_a_recipe_with_a_del_sign_is_written_as_toml_that_reads_back(tmp_path: Path) -> None:
    recipe = parse_recipe({"name": "x", "embedding": {"prefix": "a\x7fb\t"}})
    assert _read(tmp_path, recipe_toml(recipe.model_dump(mode="json"))) == recipe


@pytest.mark.slow
def test_mutated_recipes_and_overrides_are_read_or_refused(tmp_path: Path) -> None:
    texts = [path.read_text(encoding="utf-8") for path in shipped_recipes().values()]
    assert recipe_faults(texts, 150, tmp_path, seed=5) == []


def test_the_search_sees_faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path, overrides: tuple[str, ...]) -> None:
        raise KeyError(str(overrides))

    monkeypatch.setattr(fuzz_recipes, "load_recipe", broken)
    assert [fault[:12] for fault in recipe_faults(['name = "x"'], 2, tmp_path)] == ["0: KeyError:", "1: KeyError:"]
