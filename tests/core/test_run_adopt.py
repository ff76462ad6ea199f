"""Taking a stage over from a run beside this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rwml.core.recipe.recipe import parse_recipe
from rwml.core.records import read_json, write_json
from rwml.core.run import Run, adopt


def opened(folder: Path, **sections: Any) -> Run:
    return Run.open(parse_recipe({"name": "x", "out": str(folder), **sections}), say=lambda text: None)


def collect(run: Run, text: str = "episodes") -> None:
    with run.stage("collect", sections=["world", "collect"]) as stage:
        run.metrics.rewind("collect", 0)
        for step in (1, 2):
            run.metrics.append({"stage": "collect", "step": step, "tokens": 10.0 * step})
        write_json(run.folder / "episodes" / "00000.json", text)
        stage.counts["episodes"] = 1


def transitions(run: Run) -> None:
    with run.stage("transitions", reads=["episodes"], sections=["transitions"]):
        write_json(run.folder / "transitions.parquet", read_json(run.folder / "episodes" / "00000.json"))


def test_what_is_taken_over_is_the_same_and_done(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "b", train_wm={"epochs": 7})
    collect(first)
    transitions(first)
    second.metrics.append({"stage": "train_wm", "step": 1})
    assert adopt(second, "transitions", [first.folder]) is None, "its input is not here yet"
    assert adopt(second, "collect", [second.folder, tmp_path / "nowhere", first.folder]) == first.folder
    assert adopt(second, "transitions", [first.folder]) == first.folder
    assert second.is_done("collect")
    assert second.is_done("transitions")
    ours, theirs = second.summary()["collect"], first.summary()["collect"]
    assert ours == theirs | {"adopted_from": "../a"}
    assert ours["seconds"] == theirs["seconds"]
    assert [row["tokens"] for row in second.metrics.read() if row["stage"] == "collect"] == [10.0, 20.0]
    assert len(second.metrics.read()) == 3
    # Reopened, nothing is to be done.
    assert opened(tmp_path / "b", train_wm={"epochs": 7}).is_done("transitions")


@pytest.mark.parametrize(
    "sections",
    [{"seed": 1}, {"collect": {"num_tasks": 3}}, {"world": {"max_steps": 3}}],
    ids=["seed", "settings", "world"],
)
def test_other_work_is_not_taken_over(tmp_path: Path, sections: dict[str, Any]) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "b", **sections)
    collect(first)
    assert adopt(second, "collect", [first.folder]) is None
    assert second.state("collect") == "new"


def test_other_inputs_are_not_taken_over(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "b")
    collect(first)
    transitions(first)
    collect(second, "others")
    assert adopt(second, "transitions", [first.folder]) is None


def test_what_is_not_done_or_was_changed_is_not_taken_over(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "b")
    with pytest.raises(ValueError, match="cut off"), first.stage("collect", sections=["world", "collect"]):
        write_json(first.folder / "episodes" / "00000.json", "half")
        raise ValueError("cut off")
    assert adopt(second, "collect", [first.folder]) is None
    collect(first)
    write_json(first.folder / "episodes" / "00000.json", "changed by hand")
    assert adopt(second, "collect", [first.folder]) is None


def test_later_stages_are_stale_after_it(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "a"), opened(tmp_path / "b")
    collect(first)
    collect(second, "others")
    transitions(second)
    second.invalidate("collect")
    assert adopt(second, "collect", [first.folder]) == first.folder
    assert second.state("transitions") == "stale"
    transitions(second)
    assert read_json(second.folder / "transitions.parquet") == "episodes"
