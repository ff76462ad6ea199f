"""What a stage wrote is compared with its hashes before another one reads it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.files import file_hash, folder_hash
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.run import Run
from rwml.core.run_folder.recorded import MOST_FILES, Hashes


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two stages are done: one left a folder, the other a file; both left metrics."""
    opened = Run.open(parse_recipe({"name": "r", "out": str(tmp_path / "run")}))
    with opened.stage("collect"):
        (opened.folder / "episodes" / "deep").mkdir(parents=True)
        (opened.folder / "episodes" / "deep" / "a").write_text("aaaa")
        (opened.folder / "episodes" / "b").write_text("bbbb")
        opened.metrics.append({"stage": "collect", "step": 1, "loss": 0.25})
    with opened.stage("transitions", reads=["episodes"]):
        (opened.folder / "transitions.parquet").write_text("tttt")
    return opened


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_hashes_are_those_of_files(run: Run) -> None:
    hashes = Hashes()
    assert hashes.of(run.folder / "episodes") == folder_hash(run.folder / "episodes")
    assert hashes.of(run.folder / "transitions.parquet") == file_hash(run.folder / "transitions.parquet")
    (run.folder / "transitions.parquet").write_text("other")
    assert hashes.of(run.folder / "transitions.parquet") != file_hash(run.folder / "transitions.parquet"), "read once"


def test_what_is_as_it_was_is_read(run: Run) -> None:
    run.check("episodes", run.folder / "episodes" / "b", "transitions.parquet", "metrics.jsonl", "recipe.json", "/etc")


@pytest.mark.parametrize(
    ("inner", "stage"),
    [("episodes/deep/a", "collect"), ("episodes/b", "collect"), ("transitions.parquet", "transitions")],
)
def test_one_bit_is_seen_and_the_file_and_the_stage_are_named(run: Run, inner: str, stage: str) -> None:
    flip(run.folder / inner)
    reader = {"collect": "transitions", "transitions": "filter"}[stage]
    with pytest.raises(RwmlError) as caught, run.stage(reader, reads=[inner.split("/")[0]]):
        pass
    assert caught.value.what == f"'{run.folder / inner}' is damaged: it is not what the stage {stage} wrote"
    assert f"`rwml {stage} RECIPE --force`" in caught.value.fix
    assert run.state(reader) == ("done" if reader == "transitions" else "new"), "nothing was cleared"


def test_a_missing_and_an_added_file_are_named(run: Run) -> None:
    (run.folder / "episodes" / "c").write_text("more")
    with pytest.raises(RwmlError, match="episodes/c' is damaged: it was added"):
        run.check("episodes")
    (run.folder / "episodes" / "c").unlink()
    (run.folder / "episodes" / "b").unlink()
    with pytest.raises(RwmlError, match="episodes/b' is damaged: it is gone"):
        run.check("episodes/deep")


def test_metrics_are_compared_by_stage(run: Run) -> None:
    path = run.folder / "metrics.jsonl"
    path.write_text(path.read_text().replace("0.25", "0.35"))
    with pytest.raises(RwmlError, match=r"metrics\.jsonl' is damaged: its lines of the stage collect are not those"):
        run.check("metrics.jsonl")
    run.check("episodes")


def test_a_folder_of_many_files_is_named_as_a_whole(run: Run) -> None:
    with run.stage("collect"):
        (run.folder / "episodes").mkdir()
        for number in range(MOST_FILES + 1):
            (run.folder / "episodes" / str(number)).write_text("x")
    flip(run.folder / "episodes" / "7")
    with pytest.raises(RwmlError, match="episodes' is damaged: it is not what the stage collect wrote"):
        run.check("episodes")


def test_the_recipe_of_a_run_is_compared_too(run: Run) -> None:
    from rwml.core.recipe.recipe import recipe_of_run

    assert recipe_of_run(run.folder) == run.recipe
    path = run.folder / "recipe.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 4'))
    with pytest.raises(RwmlError, match=r"recipe\.json' is damaged: it is not the recipe that manifest\.json knows"):
        recipe_of_run(run.folder)
