"""Imagination and retention in a comparison: the figures over seeds by hand, and those of a small comparison."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

import made
from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.measure.compare.arm_measures import flat, over_seeds
from rwml.reports.compare_tables import imagination_table, retention_table
from rwml.stages import compare
from rwml.stages.measure import run as measure_run

pytestmark = pytest.mark.slow  # measures several arms

ARMS: list[dict[str, Any]] = [
    {"name": "base"},
    {"name": "wm_sft", "stages": ["train_wm"], "set": {"train_wm.method": "sft"}},
    {"name": "again", "stages": ["train_wm"], "set": {"train_wm.method": "sft"}},
]


def text(*losses: float) -> dict[str, Any]:
    """What `measure_text` returns of passages with these losses."""
    rows = {str(n): {"loss": loss, "tokens": 10, "cluster": str(n)} for n, loss in enumerate(losses)}
    return {"loss": {"mean": sum(losses) / len(losses)}, "bits_per_byte": 2.0, "rows": rows}


def plans(recall: float, false_alarm: float) -> dict[str, Any]:
    shares = {"precision": {"mean": None}, "recall": {"mean": recall}, "false_alarm": {"mean": false_alarm}}
    cell = shares | {"gap": recall - false_alarm}
    names = ("wins_if_all_is_admitted", "executable", "refused")
    return {"by_source": {"all": {"wins": None, **dict.fromkeys(names, cell)}}}


def test_means_spreads_and_changes_over_seeds_by_hand() -> None:
    base = {
        0: {"text": text(1.0, 2.0), "plans": plans(0.9, 0.5)},
        1: {"text": text(1.0, 3.0), "plans": plans(0.8, 0.5)},
    }
    arm = {0: {"text": text(1.5, 2.5), "plans": plans(0.5, 0.5)}, 1: {"text": text(2.5, 4.5), "plans": plans(1.0, 0.2)}}
    figures = over_seeds(arm, base, 200)
    loss = figures["text"]["loss"]
    assert loss["mean"] == 2.75  # of 2.0 and 3.5
    assert loss["sd"] == pytest.approx(1.5 / 2**0.5)
    assert loss["by_seed"] == {"0": 2.0, "1": 3.5}
    # Row by row: 0.5 and 0.5 under seed 0, 1.5 and 1.5 under seed 1; both passages change by 1 on average.
    assert loss["change"]["difference"] == 1.0
    assert loss["change"]["interval"] == [1.0, 1.0]
    assert (loss["change"]["n"], loss["change"]["clusters"]) == (4, 2)
    assert loss["change"]["by_seed"] == {"0": 0.5, "1": 1.5}
    assert loss["change"]["sd"] == pytest.approx(0.5**0.5)
    _, [row] = retention_table({"x": {"title": "x", "measures": figures}})
    assert row[3] == "+1.00 ± 0.71 (+1.00 to +1.00)"
    assert figures["plans"]["executable"]["gap"]["by_seed"] == {"0": 0.0, "1": 0.8}
    assert figures["plans"]["executable"]["gap"]["mean"] == pytest.approx(0.4)
    assert figures["plans"]["wins"]["gap"] == {"mean": None, "sd": None, "by_seed": {"0": None, "1": None}}


def test_no_change_is_not_the_same_as_nothing_to_compare_with() -> None:
    measured = {0: {"text": text(1.0, 2.0)}}
    arms = {
        "base": {"title": "base", "measures": over_seeds(measured, {}, 200)},
        "same": {"title": "same", "measures": over_seeds(measured, measured, 200)},
    }
    assert "change" not in arms["base"]["measures"]["text"]["loss"]
    _, rows = retention_table(arms)
    assert [row[3] for row in rows] == ["–", "+0.00 (+0.00 to +0.00)"]


def test_a_seed_that_was_not_measured_does_not_count() -> None:
    base = {0: {"text": text(1.0)}, 1: {"text": text(2.0)}}
    figures = over_seeds({0: {"text": text(3.0)}, 1: {}}, base, 200)
    assert figures["text"]["loss"]["by_seed"] == {"0": 3.0}
    assert figures["text"]["loss"]["change"]["difference"] == 2.0
    assert over_seeds({0: {}, 1: {}}, base, 200) == {}
    assert imagination_table({"x": {"title": "x", "measures": {}}}) == ([], [])
    assert retention_table({"x": {"title": "x", "measures": {}}}) == ([], [])


@pytest.fixture(scope="module")
def done(mini: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    place = tmp_path_factory.mktemp("measured") / "run"
    data = mini(
        place,
        train_wm={"max_steps": 2},
        evaluate={"num_transitions": 4},
        measure=made.MEASURE,
        filter={"enabled": False},
    ).model_dump(mode="json")
    measures = ["rollouts", "plans", "held_out", "text"]
    recipe = parse_recipe(data | {"compare": {"seeds": [0], "arms": ARMS, "measures": measures}})
    compare.run(recipe)
    return recipe


def test_the_figures_are_those_of_rwml_measure(done: Recipe) -> None:
    arms = json.loads((done.folder / "compare.json").read_text())["arms"]
    alone = measure_run(done.folder / "s0" / "wm_sft")
    mine = arms["wm_sft"]["measures"]
    for arm, name in (("base", "model"), ("wm_sft", "world_model")):
        ours, theirs = arms[arm]["measures"], alone["arms"][name]
        assert ours["text"]["loss"]["mean"] == theirs["text"]["loss"]["mean"]
        assert ours["rollouts"]["steps_right"]["mean"] == theirs["rollouts"]["steps_right"]["mean"]
        by_depth = theirs["rollouts"]["by_depth"]["2"]
        assert ours["rollouts"]["by_depth"]["2"]["one_step"]["exact"]["mean"] == by_depth["one_step"]["exact"]["mean"]
        gap = theirs["plans"]["by_source"]["all"]["executable"]["gap"]
        assert ours["plans"]["executable"]["gap"]["mean"] == gap
    [world] = mine["held_out"]
    change = alone["retention"]["world_model"]["held_out"][world]["loss"]
    assert mine["held_out"][world]["loss"]["change"]["difference"] == pytest.approx(change["difference"]) != 0


def test_arms_of_one_checkpoint_are_measured_once_and_kept(done: Recipe) -> None:
    folder = done.folder / "s0" / "evaluation" / "measures"
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert sum(path.suffix == ".json" for path in files) == 2 * 4  # the base model's and one checkpoint's
    before = (done.folder / "compare.md").read_text()
    compare.run(done)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == files
    assert (done.folder / "compare.md").read_text() == before


def test_every_form_of_the_report_shows_them(done: Recipe) -> None:
    arms = json.loads((done.folder / "compare.json").read_text())["arms"]
    loss = arms["wm_sft"]["measures"]["text"]["loss"]
    text = (done.folder / "compare.md").read_text()
    assert "## Imagination" in text
    table = text.split("## Retention")[1].split("##")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    assert lines[0] == "| arm | on | loss | CHANGE | exact | CHANGE | bits per byte |".replace(
        "CHANGE", "change ± over seeds (95% interval)"
    )
    (row,) = [line for line in lines if line.startswith("| wm_sft | plain text |")]
    assert f"| {loss['mean']:.2f} | {loss['change']['difference']:+.2f} (".replace("-", "−") in row
    assert len(lines) == 2 + 3 * 2  # a header, a rule; three arms, a held-out world and the plain text
    assert "<h2>Retention</h2>" in (done.folder / "compare.html").read_text()
    rows = list(csv.DictReader(io.StringIO((done.folder / "compare.csv").read_text())))
    (line,) = [r for r in rows if (r["arm"], r["part"], r["measure"]) == ("wm_sft", "text", "loss")]
    assert float(line["mean"]) == pytest.approx(loss["mean"], rel=1e-5)
    names = {(part, where, figure) for part, where, figure, _ in flat(arms["wm_sft"]["measures"])}
    assert {("rollouts", "by_depth 2 one_step", "exact"), ("plans", "executable", "gap")} <= names


def test_harness_tasks_must_be_named(done: Recipe) -> None:
    data = done.model_dump(mode="json")
    data["compare"]["measures"] = ["lm_eval"]
    with pytest.raises(RwmlError, match=r"measure\.lm_eval names no task"):
        compare.run(parse_recipe(data))


def test_what_is_not_measured_is_shown(done: Recipe) -> None:
    folder = done.folder / "s0" / "evaluation" / "measures"
    lost = next(path for path in folder.glob("*/text-*.json") if path.parent.name != "model")
    lost.unlink()
    compare.run(done, arms=("base",))
    arms = json.loads((done.folder / "compare.json").read_text())["arms"]
    assert (arms["wm_sft"]["measures"], arms["base"]["missing"]) == ({}, {})
    assert arms["wm_sft"]["missing"] == {"0": "examined, but compare.measures is not taken"}
    assert "- examined, but compare.measures is not taken: wm_sft; again" in (done.folder / "compare.md").read_text()
    compare.run(done)
    assert lost.exists()
