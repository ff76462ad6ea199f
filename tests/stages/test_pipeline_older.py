"""What the verbs make of a run folder that was written before the nouns (see tests/core/recipe/test_older.py)."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from rwml.core.files import read_json
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.run import CHAIN, Run
from rwml.stages.pipeline import run_all, summary_line

pytestmark = pytest.mark.slow  # runs whole pipelines

BEFORE = Path(__file__).parents[1] / "data" / "run_before_nouns.tar.xz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "run"


def test_its_report_is_written_again_and_nothing_else_runs(folder: Path) -> None:
    before = read_json(folder / "manifest.json")["stages"]
    (folder / "report.html").unlink()
    run = Run.open(parse_recipe(read_json(folder / "recipe.json") | {"out": str(folder)}))
    run_all(run)
    assert all(run.is_done(name) for name in CHAIN)
    after = read_json(folder / "manifest.json")["stages"]
    assert [name for name in CHAIN if before[name]["versions"] != after[name]["versions"]] in ([], ["report"])
    assert [before[name]["outputs"] for name in CHAIN[:-1]] == [after[name]["outputs"] for name in CHAIN[:-1]]
    page = (folder / "report.html").read_text()
    assert "history_steps = &#34;all&#34;" in page
    assert "over 4 held-out episodes from 4 tasks" in page


def test_its_summary_is_that_of_its_figures(folder: Path) -> None:
    line = summary_line(folder, "before")
    figures = read_json(folder / "eval.json")["summary"]
    seconds = sum(stage["seconds"] for stage in read_json(folder / "manifest.json")["stages"].values())
    assert f"success {figures['success']['before']:.2f} -> {figures['success']['after']:.2f}" in line
    assert f"{seconds / 60:.1f} min" in line
