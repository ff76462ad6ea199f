"""All stages of a small recipe: what they leave, that the numbers add up, and what runs again after a change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rwml import loading
from rwml.core.errors import RwmlError
from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import Recipe, recipe_toml
from rwml.core.records import Parts, read_episodes, read_json, read_records, write_json, write_records
from rwml.core.run import CHAIN, OUTPUTS, Run
from rwml.core.seeds import share_of
from rwml.core.text import same_text
from rwml.core.types import Episode, PredictedState, StopReason, Task, Transition
from rwml.loading import training_tau_d
from rwml.measure.compare import setups
from rwml.models.language_model import load_language_model
from rwml.stages import evaluate, report, train_wm
from rwml.stages import filter as filter_stage
from rwml.stages.pipeline import run_all, summary_line
from rwml.world_models.baselines import BASELINES, MostFrequent
from rwml.worlds.alfworld.world import AlfWorld

pytestmark = pytest.mark.slow  # runs whole pipelines

Mini = Callable[..., Recipe]


@pytest.fixture(scope="module")
def done(mini: Mini, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The small recipe, run through. Tests that change something work on a copy."""
    run = Run.open(mini(tmp_path_factory.mktemp("pipeline") / "run"))
    run_all(run)
    return run


@pytest.fixture
def copied(done: Run, mini: Mini, tmp_path: Path) -> Callable[..., Run]:
    """`copied(train_wm={...})` opens a copy of the finished run with a changed recipe."""

    def make(**changes: dict[str, Any]) -> Run:
        folder = tmp_path / "copy"
        shutil.copytree(done.folder, folder, ignore=shutil.ignore_patterns(".lock"))
        return Run.open(mini(folder, **changes), say=lambda text: None)

    return make


def files(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of every file that a stage writes."""
    notes = {"manifest.json", "recipe.json", ".lock"}
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in notes)
    return {
        path.relative_to(folder).as_posix(): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in found
    }


def counts(run: Run, stage: str) -> dict[str, Any]:
    return dict(run.summary()[stage]["counts"])


def filtered(run: Run) -> list[Transition]:
    return read_records(run.folder / "filtered.parquet", Transition)


def test_every_stage_is_done_and_leaves_what_it_should(done: Run) -> None:
    assert [name for name in CHAIN if done.is_done(name)] == list(CHAIN)
    for outputs in OUTPUTS.values():
        assert (done.folder / outputs[0]).exists()
    for record in done.summary().values():
        assert (record["state"], record["attempts"], record["error"]) == ("done", 1, "")
    hidden = [path for path in done.folder.rglob(".*") if path.name != ".lock"]
    assert hidden == []


def test_collect_counts_every_episode_and_step(done: Run) -> None:
    episodes = read_episodes(done.folder / "episodes")
    found = counts(done, "collect")
    assert len(episodes) == found["episodes"] == 8 * 2
    assert sorted(Counter(e.task.id for e in episodes).values()) == [2] * 8
    assert len({e.id for e in episodes}) == 16
    assert sum(value for key, value in found.items() if key.startswith("stopped by")) == 16
    steps = [step for e in episodes for step in e.steps]
    assert found["steps"] == len(steps)
    assert found["unparsed actions"] == sum(not s.parsed for s in steps) > 0
    assert found["invalid actions"] == sum(s.parsed and not s.valid for s in steps)
    assert all(len(e.steps) == 4 for e in episodes if e.stop is StopReason.STEP_LIMIT)


def test_transitions_are_the_parsed_steps(done: Run) -> None:
    episodes = read_episodes(done.folder / "episodes")
    rows = read_records(done.folder / "transitions.parquet", Transition)
    expected = [
        (f"{e.id}@{n}", e.opening, tuple(t for s in e.steps[:n] for t in (s.action, s.observation)), s.action,
         s.observation, s.valid)
        for e in episodes
        for n, s in enumerate(e.steps)
        if s.parsed
    ]  # fmt: skip
    assert [(r.id, r.opening, r.history, r.action, r.next_state, r.valid) for r in rows] == expected
    found = counts(done, "transitions")
    assert found["transitions"] + found["unparsed actions left out"] == counts(done, "collect")["steps"]
    assert found["split train"] + found["split valid"] == len(rows)
    valid = {r.task for r in rows if r.split == "valid"}
    assert valid == {r.task for r in rows if share_of("valid", r.task) < 0.2}, "whole tasks are set aside"


def test_the_filter_keeps_or_drops_every_transition_with_a_reason(done: Run) -> None:
    """Recomputed from the predictions on disk, with the rule of the paper written out once more."""
    before = read_records(done.folder / "transitions.parquet", Transition)
    rows, found, figures = filtered(done), counts(done, "filter"), read_json(done.folder / "filter.json")
    dropped = [row for row in rows if not row.kept]
    assert found["kept"] + len(dropped) == found["transitions"] == len(rows) == len(before)
    assert found.get("too easy", 0) == len(dropped)
    assert all((row.reason == "") == row.kept for row in rows)
    assert [replace(row, pass_rate=-1.0, kept=True, reason="") for row in rows] == before

    parts = Parts(done.folder / "predictor" / "predictions")
    predictions = parts.read(PredictedState, len(list(parts.folder.iterdir())))
    hits: Counter[str] = Counter()
    for prediction in predictions:
        hits[prediction.transition] += prediction.distance < figures["tau_d"]
    assert len(predictions) == 2 * len(hits) == 2 * figures["judged_rows"]
    train = [row for row in rows if row.split == "train"]
    assert figures["judged_rows"] + figures["predictor_rows"] == len(train)
    needed = max(1, int(np.ceil(figures["tau_easy"] * 2 - 1e-6)))
    for row in rows:
        if row.id not in hits:
            assert (row.pass_rate, row.kept) == (-1.0, True)
            continue
        lucky = share_of(1, "filter", "keep", row.id) < 0.2
        assert row.pass_rate == hits[row.id] / 2
        assert row.kept == (hits[row.id] < needed or lucky)
    assert figures["hits_histogram"] == [sum(hits[i] == n for i in hits) for n in range(3)]
    assert all((p.next_state is None) == (p.distance == 2.0) for p in predictions)


def test_metrics_have_a_line_for_every_step(done: Run) -> None:
    steps = Counter(line["stage"] for line in done.metrics.read())
    assert steps == {"filter": 2, "train_wm": 3, "train_policy": 3}
    from rwml.core.metric_names import unnamed

    assert unnamed(done.metrics.read()) == set()
    for line in done.metrics.read():
        if line["stage"] != "filter":
            assert 0 <= line["signal_share"] <= 1
            assert line["tokens"] <= line["tokens_unshared"]
    assert any(line["signal_share"] > 0 for line in done.metrics.read() if line["stage"] == "train_wm")


@pytest.mark.parametrize("stage", ["world_model", "policy"])
def test_trained_models_are_plain_checkpoints(done: Run, model_folder: Path, stage: str) -> None:
    before, after = (
        load_language_model(model_folder, device="cpu"),
        load_language_model(done.folder / stage / "final", device="cpu"),
    )
    assert after.tokenizer.get_vocab() == before.tokenizer.get_vocab()
    assert after.chat.stop_ids == before.chat.stop_ids
    pairs = list(zip(before.model.parameters(), after.model.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in pairs)
    assert all(torch.isfinite(b).all() for _, b in pairs)


def test_evaluation_asks_every_arm_the_same(done: Run) -> None:
    folder, asked, played = done.folder / "evaluation", 0, 0
    for split in ("valid_seen", "valid_unseen"):
        rows = read_records(folder / f"transitions-{split}.parquet", Transition)
        assert {row.task.split("/")[0] for row in rows} == {split}
        for arm in ("model", "world_model", "policy"):
            predictions = Parts(folder / arm / f"predictions-{split}-0").read(PredictedState, 1)
            assert [p.transition for p in predictions] == [row.id for row in rows]
            assert all(p.reward == (p.distance < 0.6) for p in predictions)
            episodes = Parts(folder / arm / f"episodes-{split}-0").read(Episode, 1)
            assert len({e.task.id for e in episodes}) == len(episodes) == 2
            asked, played = asked + len(predictions), played + len(episodes)
        train = [row for row in read_records(done.folder / "transitions.parquet", Transition) if row.split == "train"]
        frequent, copied = (
            Parts(folder / name / f"predictions-{split}-0").read(PredictedState, 1)
            for name in ("most_frequent", "copy_last")
        )
        guess = MostFrequent(train)
        for row, f, c in zip(rows, frequent, copied, strict=True):
            assert (f.transition, f.next_state, c.transition) == (row.id, guess.next_state(row.query), row.id)
            assert (f.distance == 0.0) == same_text(f.next_state, row.next_state)
            assert f.reward == (f.distance < 0.6)
            assert (c.next_state is None) == (row.action not in row.history[::2]) == (c.distance == 2.0)
    assert counts(done, "evaluate")["transitions asked"] == asked
    assert counts(done, "evaluate")["episodes played"] == played == 12
    summary = read_json(done.folder / "eval.json")["summary"]
    for key in ("world_model", "success"):
        assert 0 <= summary[key]["before"] <= 1
        assert 0 <= summary[key]["after"] <= 1
    figures = read_json(done.folder / "eval.json")
    for name in BASELINES:
        found = figures["baselines"][name]
        assert (found["arm"], found["within"]["all"]["n"], found["within"]["all"]["unpaired"]) == (
            "world_model",
            asked // 3,
            0,
        )
        assert found["reward"]["all"] == found["within"]["all"], "the reward of this recipe is binary"
    assert "<html" in (done.folder / "report.html").read_text()


def test_imported_episodes_of_a_world_that_cannot_play_are_asked_about(
    done: Run, copied: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Held-out questions come from the logs of the split; success is not measured, and the report says so."""

    class Unplayable(AlfWorld):
        def tasks(self, split: str) -> list[Task]:
            return []

    logs = read_episodes(done.folder / "episodes")
    held_out = [replace(e, task=replace(e.task, split="valid_unseen")) for e in logs[:3]]
    foreign = replace(held_out[0], id="foreign", task=replace(held_out[0].task, world="elsewhere"))
    Parts(tmp_path / "logs").write(0, [*held_out, foreign, *logs[3:]], Episode)
    run = copied(
        collect={"episodes": str(tmp_path / "logs")}, evaluate={"splits": ["valid_unseen"], "num_transitions": "all"}
    )
    run_all(run, until="transitions")
    for module in (loading, setups):
        monkeypatch.setattr(module, "load_world", lambda recipe: Unplayable(**recipe.world.options))
    evaluate.run(run)
    asked = read_records(run.folder / "evaluation/transitions-valid_unseen.parquet", Transition)
    assert sorted(row.id for row in asked) == sorted(
        f"{e.id}@{n}" for e in held_out for n, step in enumerate(e.steps) if step.parsed
    )
    figures = read_json(run.folder / "eval.json")
    assert figures["summary"] == {"world_model": None, "success": None}
    assert set(figures["arms"]) == {"model", *BASELINES}
    assert all(parts["success"] == {} for parts in figures["arms"].values())
    assert figures["arms"]["model"]["world_model"]["all"]["overall"]["n"] == len(asked)
    assert counts(run, "evaluate")["episodes played"] == 0
    report.run(run)
    assert "Success was not measured" in (run.folder / "report.html").read_text()
    assert "world_model not measured; success not measured" in summary_line(run.folder, "logs")


def test_nothing_held_out_is_refused(copied: Callable[..., Run], tmp_path: Path) -> None:
    run = copied(collect={"episodes": str(tmp_path / "logs")}, evaluate={"splits": ["valid_unseen"]})
    Parts(tmp_path / "logs").write(0, read_episodes(run.folder / "episodes"), Episode)
    run_all(run, until="transitions")
    with pytest.raises(RwmlError, match="the splits valid_unseen hold no transition to examine by"):
        evaluate.run(run)


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"collect": {"policy": "expret"}}, "expert"),
        ({"collect": {"policy": "no_such_module:Policy"}}, "PYTHONPATH"),
        ({"collect": {"policy": "antigravity:Policy"}}, "--allow-code antigravity:Policy"),
        ({"evaluate": {"collect_policy": "nosy"}}, "noisy"),
        ({"world": {"options": {"sise": "tiny"}}}, "size"),
        ({"model": {"sampler": "loca"}}, "local"),
        ({"model": {"device": "cuda:9"}}, "cpu"),
        ({"train_wm": {"reward": "no_such_module:Reward"}}, "--allow-code"),
        ({"evaluate": {"baselines": ["copy_lst"]}}, "copy_last"),
    ],
)
def test_a_misspelt_name_is_refused_before_a_file_is_touched(
    copied: Callable[..., Run], changes: dict[str, Any], fix: str
) -> None:
    allow(code=["no_such_module:Policy"])
    run = copied(**changes)
    before = files(run.folder)
    with pytest.raises(RwmlError) as error:
        run_all(run)
    assert fix in error.value.fix
    assert files(run.folder) == before


def test_a_second_run_on_the_command_line_does_nothing(done: Run, tmp_path: Path) -> None:
    shutil.copytree(done.folder, tmp_path / "again", ignore=shutil.ignore_patterns(".lock"))
    recipe = tmp_path / "mini.toml"
    recipe.write_text(recipe_toml(done.recipe.model_dump(mode="json") | {"out": str(tmp_path / "again")}))
    before = files(tmp_path / "again")
    command = [sys.executable, "-m", "rwml.cli", "run", str(recipe)]
    again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("done already") == len(CHAIN)
    assert again.stdout.startswith("mini: world_model ")
    assert again.stdout.endswith(f"; {tmp_path / 'again' / 'report.html'}\n")
    assert files(tmp_path / "again") == before


def test_a_change_of_train_wm_runs_from_there_on_only(
    done: Run, copied: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(train_wm={"max_steps": 2}, train_policy={"steps": 1}, evaluate={"num_tasks": 1})
    states = {name: run.state(name) for name in CHAIN}
    assert states == dict.fromkeys(CHAIN[:3], "done") | dict.fromkeys(CHAIN[3:], "stale")
    before = files(run.folder)
    run_all(run, until="train-policy")
    said = capsys.readouterr().err
    assert said.count("done already") == 3
    assert "[4/7] train-wm: again" in said
    after = files(run.folder)
    untouched = ("episodes/", "transitions.parquet", "filtered.parquet", "filter.json", "predictor/")
    assert {k: v for k, v in after.items() if k.startswith(untouched)} == {
        k: v for k, v in before.items() if k.startswith(untouched)
    }
    steps = Counter(line["stage"] for line in run.metrics.read())
    assert steps == {"filter": 2, "train_wm": 2, "train_policy": 1}
    assert [run.state(name) for name in CHAIN] == ["done"] * 5 + ["stale"] * 2


def test_sft_learns_the_real_next_states(copied: Callable[..., Run]) -> None:
    run = copied(train_wm={"method": "sft", "max_steps": 2, "learning_rate": 3e-3, "tau_d": None})
    train_wm.run(run)
    lines = [line for line in run.metrics.read() if line["stage"] == "train_wm"]
    assert [line["step"] for line in lines] == [1, 2]
    assert lines[1]["cross_entropy"] < lines[0]["cross_entropy"]
    assert all("reward" not in line and line["policy_tokens"] == 0 for line in lines)


def test_a_low_signal_is_reported_early_with_what_to_do(
    copied: Callable[..., Run], capsys: pytest.CaptureFixture[str]
) -> None:
    run = copied(train_wm={"low_signal_share": 1.0, "low_signal_steps": 1, "max_steps": 2, "tau_d": 1e-6})
    train_wm.run(run)
    said = capsys.readouterr().err
    assert said.count("warning: only") == 1
    assert "of the groups had signal in the first 1 steps (tau_d 1e-06)" in said
    assert "why it matters" in said
    assert "raise train_wm.tau_d or train_wm.group_size" in said
    assert said.index("warning: only") < said.index("2/2 step")


def test_nothing_to_learn_from_is_refused(copied: Callable[..., Run]) -> None:
    run = copied()
    rows = [replace(row, kept=False, reason="too easy") for row in filtered(run)]
    figures = read_json(run.folder / "filter.json")
    with run.stage("filter"):
        write_records(run.folder / "filtered.parquet", rows, Transition)
        write_json(run.folder / "filter.json", figures)
    with pytest.raises(RwmlError) as caught:
        train_wm.run(run)
    assert caught.value.what == "filtered.parquet keeps no transition of split 'train'"
    assert "keep_probability" in caught.value.fix
    assert run.state("train_wm") == "failed"


def test_without_filter_and_tau_d_there_is_no_threshold(copied: Callable[..., Run]) -> None:
    run = copied(filter={"enabled": False}, train_wm={"tau_d": None})
    filter_stage.run(run)
    assert [(row.kept, row.pass_rate) for row in filtered(run)] == [(True, -1.0)] * len(filtered(run))
    assert counts(run, "filter") == {"transitions": len(filtered(run)), "kept": len(filtered(run))}
    with pytest.raises(RwmlError) as caught:
        train_wm.run(run)
    assert "train_wm.tau_d is not set" in caught.value.what
    assert "set train_wm.tau_d" in caught.value.fix


def test_tau_d_is_the_recipes_or_the_filters(copied: Callable[..., Run]) -> None:
    run = copied(train_wm={"tau_d": None})
    assert training_tau_d(run) == read_json(run.folder / "filter.json")["training_tau_d"]
    write_json(run.folder / "filter.json", {"training_tau_d": 0.4})
    assert training_tau_d(run) == 0.4


def test_lora_built_in_policies_and_no_filter(mini: Mini, tmp_path: Path) -> None:
    """The other ways through the stages, up to the policy: checkpoints are whole and load without the base model."""
    recipe = mini(
        tmp_path / "run",
        model={"lora_rank": 2},
        collect={"policy": "noisy", "num_tasks": 4},
        filter={"enabled": False},
        train_wm={"max_steps": 1},
        train_policy={"max_steps": 1, "tasks_per_step": 2},
    )
    run = Run.open(recipe)
    run_all(run, until="train-policy")
    assert {e.policy for e in read_episodes(run.folder / "episodes")} == {"noisy"}
    assert counts(run, "filter")["kept"] == counts(run, "transitions")["transitions"]
    for stage in ("world_model", "policy"):
        names = {
            name for name, _ in load_language_model(run.folder / stage / "final", device="cpu").model.named_parameters()
        }
        assert not any("lora" in name for name in names)
    line = next(line for line in run.metrics.read() if line["stage"] == "train_policy")
    assert line["kl"] == pytest.approx(0.0, abs=1e-6), "the reference is where the policy began"
