"""What the verbs make of a run folder that was written before the nouns (see tests/core/recipe/test_older.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwml.core.files import read_json
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.run import CHAIN, Run
from rwml.stages.pipeline import run_all, summary_line

pytestmark = pytest.mark.slow  # runs whole pipelines


def test_its_report_is_written_again_and_nothing_else_runs(run_before_nouns: Path) -> None:
    before = read_json(run_before_nouns / "manifest.json")["stages"]
    (run_before_nouns / "report.html").unlink()
    run = Run.open(parse_recipe(read_json(run_before_nouns / "recipe.json") | {"out": str(run_before_nouns)}))
    run_all(run)
    assert all(run.is_done(name) for name in CHAIN)
    after = read_json(run_before_nouns / "manifest.json")["stages"]
    assert [name for name in CHAIN if before[name]["versions"] != after[name]["versions"]] in ([], ["report"])
    assert [before[name]["outputs"] for name in CHAIN[:-1]] == [after[name]["outputs"] for name in CHAIN[:-1]]
    page = (run_before_nouns / "report.html").read_text()
    assert "history_steps = &#34;all&#34;" in page
    assert "over 4 held-out episodes from 4 tasks" in page


def test_its_summary_is_that_of_its_figures(run_before_nouns: Path) -> None:
    line = summary_line(run_before_nouns, "before")
    figures = read_json(run_before_nouns / "eval.json")["summary"]
    seconds = sum(stage["seconds"] for stage in read_json(run_before_nouns / "manifest.json")["stages"].values())
    assert f"success {figures['success']['before']:.2f} -> {figures['success']['after']:.2f}" in line
    assert f"{seconds / 60:.1f} min" in line
