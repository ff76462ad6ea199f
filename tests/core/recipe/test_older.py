"""A run folder that was written before names, sections and the manifest changed is still read.

`data/run_before_nouns.tar.xz` was made by `rwml run` at commit 301ea16 with the recipe `MINI` of `made.py`, on a model
of 0.1 M parameters. Weights, tokenizers, the cache and report.png are left out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from rwml.core import records
from rwml.core.errors import RwmlError
from rwml.core.files import read_json
from rwml.core.recipe.older import in_todays_words
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.records import MetricsLog, Upgrade, read_episodes, read_records
from rwml.core.run import CHAIN, Run, read_manifest
from rwml.core.types import Transition


def recipe_of(folder: Path, **changes: dict[str, Any]) -> Recipe:
    data = read_json(folder / "recipe.json") | {"out": str(folder)}
    for section, values in changes.items():
        data[section] = data[section] | values
    return parse_recipe(data)


def test_its_recipe_says_the_same_in_todays_words(run_before_nouns: Path) -> None:
    data = read_json(run_before_nouns / "recipe.json")
    assert (data["transitions"]["history_steps"], data["train_wm"]["branch_tasks"]) == (0, 0), "0 was the word for all"
    assert (data["train_wm"]["spin_rounds"], data["train_policy"]["max_steps"]) == (1, 0)
    recipe = recipe_of(run_before_nouns)
    assert (recipe.transitions.history_steps, recipe.train_wm.branch_tasks, recipe.measure.lm_eval_limit) == (None,) * 3
    assert (recipe.train_wm.max_steps, recipe.train_policy.steps, recipe.collect.num_tasks) == (3, 3, 8)
    assert (recipe.train_wm.spin.rounds, recipe.train_wm.spin.beta) == (1, 0.1)
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe
    assert recipe.model_dump(mode="json")["transitions"]["history_steps"] == "all"


def test_what_was_done_stays_done(run_before_nouns: Path) -> None:
    before = read_json(run_before_nouns / "manifest.json")
    assert before["format"] == 1
    lines: list[str] = []
    run = Run.open(recipe_of(run_before_nouns), lines.append)
    assert lines == []
    assert [name for name in CHAIN if run.is_done(name)] == list(CHAIN[:-1]), "report.png is not in the archive"
    assert run.state("report") == "done"
    after = read_json(run_before_nouns / "manifest.json")
    assert after["format"] == 2
    for name, record in before["stages"].items():
        hashes = {"config_hash": after["stages"][name]["config_hash"]}
        assert record | hashes == after["stages"][name]
    # Read once more, now in today's format.
    assert Run.peek(recipe_of(run_before_nouns)).is_done("evaluate")


def test_other_settings_make_the_same_stages_stale_as_before(run_before_nouns: Path) -> None:
    lines: list[str] = []
    run = Run.open(recipe_of(run_before_nouns, train_wm={"epochs": 5}), lines.append)
    assert [name for name in CHAIN if run.is_done(name)] == ["collect", "transitions", "filter"]
    assert "settings for train_wm changed" in lines[0]
    assert "these run again: train_wm, train_policy, evaluate, report" in lines[0]


def test_a_stage_that_ran_under_other_settings_runs_again(run_before_nouns: Path) -> None:
    manifest = read_json(run_before_nouns / "manifest.json")
    manifest["stages"]["filter"]["config_hash"] = "0" * 64
    (run_before_nouns / "manifest.json").write_text(json.dumps(manifest))
    run = Run.peek(recipe_of(run_before_nouns))
    assert [name for name in CHAIN if run.is_done(name)] == ["collect", "transitions"]


def test_without_its_recipe_only_settings_of_the_same_words_count(run_before_nouns: Path) -> None:
    recipe = recipe_of(run_before_nouns)
    (run_before_nouns / "recipe.json").unlink()
    stages = read_manifest(run_before_nouns)["stages"]
    assert stages == read_json(run_before_nouns / "manifest.json")["stages"]
    run = Run.peek(recipe)  # the section [model], which all stages but one read, has a new key
    assert [name for name in CHAIN if run.is_done(name)] == []


def test_a_recipe_that_nothing_reads_any_more_makes_stages_run_again(run_before_nouns: Path) -> None:
    recipe = recipe_of(run_before_nouns)
    data = read_json(run_before_nouns / "recipe.json")
    (run_before_nouns / "recipe.json").write_text(json.dumps(data | {"gone": {"key": 1}}))
    lines: list[str] = []
    run = Run.open(recipe, lines.append)
    assert [name for name in CHAIN if run.is_done(name)] == []
    assert "these run again: collect, transitions, filter, train_wm, train_policy, evaluate, report" in lines[0]


def test_its_records_are_read(run_before_nouns: Path) -> None:
    episodes = read_episodes(run_before_nouns / "episodes")
    assert (len(episodes), sum(len(e.steps) for e in episodes)) == (16, 64)
    rows = read_records(run_before_nouns / "filtered.parquet", Transition)
    counts = read_manifest(run_before_nouns)["stages"]["filter"]["counts"]
    assert (len(rows), sum(row.kept for row in rows)) == (counts["transitions"], counts["kept"])
    assert {row["stage"] for row in MetricsLog(run_before_nouns / "metrics.jsonl").read()} == {
        "filter",
        "train_wm",
        "train_policy",
    }
    assert set(read_json(run_before_nouns / "eval.json")["summary"]) >= {"success", "world_model"}


def test_whole_histories_of_schema_1_are_read_and_are_places_when_written_again(
    run_before_nouns: Path, tmp_path: Path
) -> None:
    for path in (run_before_nouns / "transitions.parquet", *run_before_nouns.glob("evaluation/transitions-*.parquet")):
        table = pyarrow.parquet.read_table(path)
        assert table.schema.metadata[b"rwml.schema_version"] == b"1"
        rows = read_records(path, Transition)
        assert [list(row.history) for row in rows] == table["history"].to_pylist()
        assert max(len(row.history) for row in rows) >= 4
        records.write_records(tmp_path / "again.parquet", rows, Transition)
        again = pyarrow.parquet.read_table(tmp_path / "again.parquet")
        assert again.schema.metadata[b"rwml.schema_version"] == b"2"
        assert "history" not in again.column_names
        assert read_records(tmp_path / "again.parquet", Transition) == rows
        texts = sum(map(len, again["history_new"].to_pylist()))
        last = {row.episode: len(row.history) for row in rows}
        assert texts == sum(last.values()) <= sum(map(len, table["history"].to_pylist()))


@dataclass(frozen=True, slots=True)
class NextState:
    """As the record `Prediction` of schema 1, with a field renamed, one gone, and two new ones."""

    transition: str
    text: str
    next_state: str | None
    distance: float
    truncated: bool
    source: str
    tokens: int = 0


def test_a_record_that_was_renamed_is_read_by_its_upgrade(
    run_before_nouns: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = sorted((run_before_nouns / "evaluation").glob("*/predictions-*-0/00000.parquet"))
    with pytest.raises(RwmlError, match="holds Prediction records, not NextState"):
        read_records(paths[0], NextState)
    upgrade = Upgrade("NextState", {"answer": "next_state"}, {"source": "model"}, dropped=("reward",))
    monkeypatch.setitem(records.UPGRADES, ("Prediction", 1), upgrade)
    states = [state for path in paths for state in read_records(path, NextState)]
    unparsed = [state for state in states if state.next_state is None]
    counts = read_manifest(run_before_nouns)["stages"]["evaluate"]["counts"]
    assert (len(states), len(unparsed)) == (counts["transitions asked"], counts["unparsed answers"]) == (24, 11)
    assert {(state.source, state.tokens) for state in states} == {("model", 0)}
    assert all(f">{state.next_state}<" in state.text for state in states if state.next_state)
    with pytest.raises(RwmlError, match="not Transition"):
        read_records(paths[0], Transition)


def test_old_keys_are_read_under_their_new_names() -> None:
    recipe = parse_recipe({"name": "x", "train_wm": {"method": "spin", "spin_rounds": 4, "spin_beta": 0.5}})
    assert (recipe.train_wm.spin.rounds, recipe.train_wm.spin.beta) == (4, 0.5)
    assert recipe.overridden(("train_wm.spin_beta=0.25",)).train_wm.spin.beta == 0.25
    with pytest.raises(RwmlError, match=r"unknown key 'train_wm\.spin_beta'"):
        parse_recipe({"name": "x", "train_wm": {"spin_beta": 0.5, "spin": {"beta": 0.1}}})
    assert in_todays_words({"name": "x"}) == {"name": "x"}


@pytest.mark.parametrize(
    ("policy", "steps"),
    [
        ({"max_steps": 0}, 300),
        ({"max_steps": 7}, 7),
        ({"steps": 5, "max_steps": 7}, 5),
        ({"steps": 9, "max_steps": 7}, 7),
    ],
)
def test_the_second_limit_of_policy_steps_becomes_the_one(policy: dict[str, int], steps: int) -> None:
    recipe = parse_recipe({"name": "x", "train_policy": policy})
    assert recipe.train_policy.steps == steps
    assert recipe.overridden(("train_policy.max_steps=3",)).train_policy.steps == 3
