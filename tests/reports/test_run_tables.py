"""Tables of the report for a world of tools, and what it says of a baseline that is not beaten."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.records import write_json
from rwml.core.run import Run
from rwml.core.types import Episode, PredictedState, Step, StopReason, Task, Transition
from rwml.measure.figures.arm_rows import SeedEpisodes, SeedPredictions
from rwml.measure.figures.evaluation import EvaluationPlan, evaluate_arms
from rwml.reports import run_tables as report_tables
from rwml.stages import report
from rwml.world_models.baselines import BASELINES


def text_of(page: str) -> str:
    """What a reader sees, in one line."""
    body = re.sub(r"<style>.*?</style>|</?(?:span|code|strong|em)\b[^>]*>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def tool_figures(tools: int, *, played: bool) -> dict[str, Any]:
    """A world of tools: tool i is asked about i + 1 times. The model is right about the first half of the tools and
    all of what users say, the copy about every tool and no user."""
    asked: list[Transition] = []
    for tool in range(tools):
        for n in range(tool + 1):
            name, call = f"{tool}/{n}", f'{{"name": "tool_{tool:02}", "arguments": {{}}}}'
            asked.append(
                Transition(
                    name, f"e{n}", f"task{n}", "test", 0, "o", (), call, "{}", "tool", f"tool_{tool:02}", True, True
                )
            )
    users = [
        Transition(f"u{n}", f"e{n}", f"task{n}", "test", 0, "o", (), "Hi", "Yes.", "user", "message", True, True)
        for n in range(3)
    ]
    right = {row.id: int(row.verb[-2:]) < tools // 2 for row in asked} | {row.id: True for row in users}

    def prediction(row: Transition, *, hit: bool) -> PredictedState:
        return PredictedState(row.id, "x", "x", distance=0.0 if hit else 0.6, reward=1.0 if hit else 0.4)

    rows = asked + users
    answers = [SeedPredictions("model", "test", 0, [prediction(row, hit=False) for row in rows])]
    answers += [SeedPredictions("world_model", "test", 0, [prediction(row, hit=right[row.id]) for row in rows])]
    answers += [SeedPredictions("copy_last", "test", 0, [prediction(row, hit=row.kind == "tool") for row in rows])]
    answers += [SeedPredictions("most_frequent", "test", 0, [prediction(row, hit=right[row.id]) for row in rows])]
    call, refused = Step("c", "c", "{}", "tool"), Step("c", "c", "Error: no", "tool", valid=False)
    plays = []
    for arm, steps in (("model", (call, refused)), ("policy", (call, call, call, refused))):
        episodes = [
            Episode(f"{arm}{n}", Task(f"task{n}", "tau2", "test", "airline"), arm, 0, 0, "o", steps,
                    StopReason.STEP_LIMIT, False) for n in range(3)
        ]  # fmt: skip
        plays += [SeedEpisodes(arm, "test", 0, episodes)] if played else []
    return evaluate_arms(answers, plays, rows, lambda action: False, EvaluationPlan(0.4, BASELINES, num_samples=200))


def page_of(folder: Path, figures: dict[str, Any]) -> str:
    run = Run.open(parse_recipe({"name": folder.name, "out": str(folder)}))
    write_json(run.folder / "eval.json", figures)
    report.run(run)
    return (run.folder / "report.html").read_text()


def test_a_world_model_that_does_not_beat_a_baseline_is_shown_to_fall_short(tmp_path: Path) -> None:
    """Of 210 tool rows the model knows the 55 of the first 10 tools, of 3 users all; the copy has the tools alone."""
    figures = tool_figures(20, played=False)
    seen = text_of(page_of(tmp_path / "short", figures))
    difference = figures["baselines"]["copy_last"]["within"]["all"]
    assert (difference["before"], difference["after"]) == (pytest.approx(210 / 213), pytest.approx(58 / 213))
    assert difference["interval"][1] < 0
    assert (
        "The trained world model does not beat “copy last” but falls short of it: the share within τ_d is 27.2%" in seen
    )
    assert "copy last 98.6% not beaten, it is better, −71.4 points" in seen
    assert (
        "does not beat “most frequent”, as far as these data can tell: the share within τ_d is 27.2% against 27.2%"
        in seen
    )
    reward = (58 + 0.4 * 155) / 213
    assert (
        f"falls short of it: the mean reward is {100 * reward:.1f}% against {100 * (210 + 3 * 0.4) / 213:.1f}%" in seen
    )
    tools = (55 + 0.4 * 155) / 210
    assert f"Tool responses {100 * tools:.1f}% against 100.0%, not beaten, it is better" in seen
    assert "User messages 100.0% against 40.0%, beaten (+60.0 points" in seen


def test_many_tools_are_shown_by_name_as_far_as_they_matter(tmp_path: Path) -> None:
    """Of 20 tools and `message` 15 are named: tools 19 to 5. Tools 4 to 0 (5 to 1 rows) and the 3 users are one."""
    figures = tool_figures(20, played=False)
    page = page_of(tmp_path / "many", figures)
    seen = text_of(page)
    assert "tool_19 20 0.0% → 0.0% 100.0% 0.0%" in seen
    assert "tool_05 6 0.0% → 100.0% 100.0% 100.0%" in seen
    assert "tool_04" not in seen
    # 15 tool rows and 3 users: all are right after training; the copy knows the tools.
    assert f"other (6 more) 18 0.0% → 100.0% {100 * 15 / 18:.1f}% 100.0% 40.0% → 100.0%" in seen
    rows = report_tables.world_model_part(figures)["tables"]["Action"]  # type: ignore[index]
    assert (len(rows), rows[-1].before["within"]) == (16, {"mean": 0.0, "low": None, "high": None, "n": 18})
    assert sum(row.after["n"] for row in rows) == 213


def test_success_without_games_is_shown_as_unmeasured(tmp_path: Path) -> None:
    seen = text_of(page_of(tmp_path / "logs", tool_figures(4, played=False)))
    assert "Success was not measured: no held-out game was played, because the world had none to play" in seen
    assert "Not measured: the world had no held-out task to play." in seen
    assert "invalid calls" not in seen


def test_invalid_calls_have_a_column_in_a_world_of_calls(tmp_path: Path) -> None:
    seen = text_of(page_of(tmp_path / "calls", tool_figures(4, played=True)))
    assert "before any training 3 0.0% 2.0 – 50.0% 50.0% 0.0%" in seen
    assert "after policy RL 3 0.0% 4.0 – 25.0% 25.0% 0.0%" in seen
    assert "all splits 3 0.0% → 0.0% 50.0% → 25.0% 50.0% → 25.0%" in seen
    assert "Success was not measured" not in seen


def test_figures_of_another_schema_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match="has schema 1, this rwml reads 2") as caught:
        page_of(tmp_path / "old", tool_figures(2, played=False) | {"schema_version": 1})
    assert caught.value.fix == "run `rwml evaluate` again"
