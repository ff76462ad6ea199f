"""Recipes: every mistake is an error that helps; every recipe in the repository loads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, load_recipe, parse_recipe, recipe_toml
from rwml.core.recipe.reward_names import reward_name
from rwml.core.recipe.sections import TrainWmConfig
from rwml.stages.pipeline import find_recipe, shipped_recipes

RECIPES = sorted((Path(__file__).parents[3] / "recipes").glob("*.toml"))


def _written(folder: Path, text: str) -> Path:
    path = folder / "r.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_loads_and_is_found_by_name(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.folder == Path("runs") / path.stem
    assert find_recipe(path.stem).read_bytes() == path.read_bytes()


def test_recipes_are_there() -> None:
    assert {"quickstart", "alfworld_paper"} <= {path.stem for path in RECIPES}
    assert set(shipped_recipes()) == {path.stem for path in RECIPES}


def test_the_papers_recipe_has_the_papers_numbers() -> None:
    recipe = load_recipe(find_recipe("alfworld_paper"))
    assert recipe.collect.num_tasks * recipe.collect.rollouts_per_task == 2048 * 3
    assert (recipe.filter.tau_d, recipe.filter.num_predictions, recipe.filter.keep_probability) == (0.1, 10, 0.1)
    train = recipe.train_wm
    assert (train.learning_rate, train.batch_size, train.group_size, train.epochs, train.tau_d) == (1e-6, 32, 8, 2, 0.2)
    policy = recipe.train_policy
    assert (policy.steps, policy.group_size, policy.episode_max_steps) == (300, 8, 15)


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = _written(tmp_path, 'name = "x"\n[train_wm]\nlearning_rat = 1e-5\n')
    with pytest.raises(RwmlError) as caught:
        load_recipe(path)
    assert "unknown key 'train_wm.learning_rat'" in caught.value.what
    assert "did you mean 'learning_rate'?" in caught.value.fix


def test_unknown_section_and_unknown_override_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match="unknown key 'colect'") as caught:
        parse_recipe({"name": "x", "colect": {}})
    assert "did you mean 'collect'?" in caught.value.fix
    with pytest.raises(RwmlError, match=r"unknown key 'train_wm\.epoch'") as caught:
        load_recipe(_written(tmp_path, 'name = "x"\n'), ("train_wm.epoch=1",))
    assert "did you mean 'epochs'?" in caught.value.fix


def test_bad_value_names_key_value_and_rule() -> None:
    with pytest.raises(RwmlError) as caught:
        parse_recipe({"name": "x", "train_wm": {"group_size": 1}})
    assert "train_wm.group_size = 1 is not valid" in caught.value.what
    assert "greater than or equal to 2" in caught.value.what
    with pytest.raises(RwmlError, match=r"train_wm\.method = 'dpo' is not valid"):
        parse_recipe({"name": "x", "train_wm": {"method": "dpo"}})


@pytest.mark.parametrize("key", ["seeds", "splits"])
def test_an_evaluation_of_nothing_is_refused(key: str) -> None:
    with pytest.raises(RwmlError, match=f"evaluate.{key} = "):
        parse_recipe({"name": "x", "evaluate": {key: []}})


def test_a_reward_for_all_next_states_or_by_kind(tmp_path: Path) -> None:
    assert parse_recipe({"name": "x"}).train_wm.reward == "embedding"
    path = _written(tmp_path, 'name = "x"\n[train_wm]\nreward = { tool = "rouge", user = "embedding" }\n')
    recipe = load_recipe(path)
    assert recipe.train_wm.reward == {"tool": "rouge", "user": "embedding"}
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe
    assert parse_recipe(tomllib.loads(recipe_toml(recipe.model_dump(mode="json")))) == recipe
    assert load_recipe(path, ("train_wm.reward=exact",)).train_wm.reward == "exact"
    changed = load_recipe(path, ("train_wm.reward.tool=exact",)).train_wm.reward
    kinds = ("tool", "user", "text")
    assert [reward_name(changed, kind) for kind in kinds] == ["exact", "embedding", "embedding"]
    assert [reward_name("rouge", kind) for kind in kinds] == ["rouge"] * 3


@pytest.mark.parametrize(
    ("reward", "what", "fix"),
    [
        ("rogue", "no reward 'rogue'", "did you mean 'rouge'?"),
        ({"tool": "exakt"}, "no reward 'exakt'", "did you mean 'exact'?"),
        (
            {"tool": 0.2},
            "no reward '0.2'",
            "known: continuous, embedding, exact, f1, judge,",
        ),
        ({"tools": "rouge"}, "no kind of next state 'tools'", "did you mean 'tool'?"),
    ],
)
def test_an_unknown_reward_is_refused_when_the_recipe_is_read(reward: object, what: str, fix: str) -> None:
    with pytest.raises(RwmlError, match=what) as caught:
        parse_recipe({"name": "x", "train_wm": {"reward": reward}})
    assert fix in caught.value.fix
    assert "train_wm.reward" in caught.value.what


def test_a_judge_is_named_in_the_recipe_that_asks_it() -> None:
    judge = {"base_url": "http://127.0.0.1:8000/v1", "model": "m"}
    for reward in ("judge", "judge_graded", {"user": "judge"}):
        with pytest.raises(RwmlError, match=r"asks a judge, .* not set judge\.base_url and judge\.model"):
            parse_recipe({"name": "x", "train_wm": {"reward": reward}})
        with pytest.raises(RwmlError, match=r"does not set judge\.model\n") as caught:
            parse_recipe({"name": "x", "train_wm": {"reward": reward}, "judge": {**judge, "model": ""}})
        assert "[judge]" in caught.value.fix
        recipe = parse_recipe({"name": "x", "train_wm": {"reward": reward}, "judge": {**judge, "temperature": 0.5}})
        assert parse_recipe(tomllib.loads(recipe_toml(recipe.model_dump(mode="json")))) == recipe
        assert recipe.judge_settings == ("judge",)
    assert parse_recipe({"name": "x", "judge": judge}).judge_settings == ()


def test_a_reward_that_is_no_name_at_all() -> None:
    with pytest.raises(RwmlError, match=r"train_wm\.reward.* = 3 is not valid"):
        parse_recipe({"name": "x", "train_wm": {"reward": 3}})


def test_broken_toml_and_missing_file_are_said_plainly(tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match="is not TOML"):
        load_recipe(_written(tmp_path, "name = \n"))
    with pytest.raises(RwmlError, match="no recipe at") as caught:
        load_recipe(tmp_path / "t.toml")
    assert "r.toml" in caught.value.fix
    with pytest.raises(RwmlError, match="no recipe at"):
        load_recipe(find_recipe(str(tmp_path)))


def test_a_folder_of_a_recipe_s_name_does_not_hide_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quickstart").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_recipe("quickstart").name == "quickstart.toml"


def test_a_bare_name_that_is_no_recipe_names_the_nearest() -> None:
    with pytest.raises(RwmlError) as caught:
        find_recipe("quickstat")
    assert "did you mean 'quickstart'?" in caught.value.fix


def test_overrides_are_typed_nested_and_win(tmp_path: Path) -> None:
    path = _written(tmp_path, 'name = "x"\n[train_wm]\nepochs = 2\n')
    recipe = load_recipe(
        path,
        (
            "seed=7",
            "train_wm.epochs=3",
            "train_wm.tau_d=0.25",
            "model.path=some/model",
            "world.options.size=small",
            "evaluate.seeds=[4, 5]",
        ),
    )
    assert (recipe.seed, recipe.train_wm.epochs, recipe.train_wm.tau_d) == (7, 3, 0.25)
    assert recipe.model.path == "some/model"
    assert recipe.world.options == {"size": "small"}
    assert recipe.evaluate.seeds == (4, 5)


@pytest.mark.parametrize("override", ["seed", "=3", "name.x=3"])
def test_malformed_override_is_an_error(tmp_path: Path, override: str) -> None:
    with pytest.raises(RwmlError, match="override"):
        load_recipe(_written(tmp_path, 'name = "x"\n'), (override,))


def test_recipes_are_frozen_and_round_trip_through_json() -> None:
    recipe = parse_recipe({"name": "x", "train_wm": {"tau_d": 0.1}})
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
    assert recipe.folder == Path("runs/x")
    assert Recipe(name="y", out="/data/{name}/1").folder == Path("/data/y/1")


def test_the_rate_of_sft_before_rwml_is_its_own() -> None:
    config = TrainWmConfig(learning_rate=1e-4, warmup_steps=4, sft_steps=3, sft_learning_rate=2e-3)
    assert [config.rate_at(step) for step in range(5)] == pytest.approx([5e-4, 1e-3, 1.5e-3, 1e-4, 1e-4])
    assert TrainWmConfig(learning_rate=1e-4, sft_steps=3).rate_at(0) == 1e-4


@pytest.mark.parametrize(
    ("out", "name", "folder"),
    [
        ("runs/{name}", "a b", "runs/a b"),
        ("{name}/{name}", "x", "x/x"),
        ("a{{0}}/{name}", "x", "a{0}/x"),
        ("~/runs/{name}", "x", "/home/me/runs/x"),
        ("~", "x", "/home/me"),
        ("here/~/{name}", "x", "here/~/x"),
        ("/abs/{name}", "{0}", "/abs/{0}"),
        ("../{name}", "{name.__class__}", "../{name.__class__}"),
        (".", "x", "."),
    ],
)
def test_out_says_where_the_run_folder_lies(
    out: str, name: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    recipe = parse_recipe({"name": name, "out": out})
    assert recipe.folder == Path(folder)
    assert parse_recipe(recipe.model_dump(mode="json")).folder == recipe.folder


@pytest.mark.parametrize("out", ["runs/{x}", "{0}", "runs/{", "}", "{name.__class__}", "{name!r}", "{name:>9}", "{}"])
def test_out_fills_in_the_name_and_nothing_else(out: str) -> None:
    with pytest.raises(RwmlError, match=r"that is not a part of \{name\}") as caught:
        parse_recipe({"name": "x", "out": out})
    assert "write it twice" in caught.value.fix


@pytest.mark.parametrize("out", ["a\nb", "a\x1b]0;b", "~nobody-of-that-name/x"])
def test_an_out_that_is_no_path_is_refused(out: str) -> None:
    with pytest.raises(RwmlError, match="out ") as caught:
        parse_recipe({"name": "x", "out": out})
    assert caught.value.fix.startswith("write the ")


NAMES = ["../x", "/x", "a/b", "a\\b", "..", ".", ".git", "~", "~me", "a\nb", "\x1b[2J", "x" * 201, "é" * 101]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_has_no_parts(name: str) -> None:
    with pytest.raises(RwmlError, match="cannot be the name of a folder") as caught:
        parse_recipe({"name": name})
    assert "would lie elsewhere than `out` says" in caught.value.why
    assert "set `out`" in caught.value.fix
