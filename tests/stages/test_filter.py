"""The filter on logs that are longer than the model reads; its thresholds and marks are tested with the whole chain."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from rwml.core.errors import RwmlError
from rwml.core.files import file_hash, read_json
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import read_records
from rwml.core.run import Run
from rwml.core.types import Transition
from rwml.models.language_model import load_chat
from rwml.stages import import_logs
from rwml.stages.pipeline import run_all
from rwml.world_models.language import TOO_LONG, label_ids, question_ids
from rwml.worlds.chat_world import ChatLogs

Mini = Callable[..., Recipe]
LOGS, STEPS, ANSWER = 4, 25, 6


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An import of logs whose later steps have histories of some thousand tokens."""
    folder = tmp_path_factory.mktemp("long")
    with (folder / "logs.jsonl").open("w") as handle:
        for log in range(LOGS):
            messages: list[dict[str, Any]] = [{"role": "user", "content": f"Mend {log}."}]
            for step in range(STEPS):
                call = {"id": "c", "function": {"name": "cat", "arguments": json.dumps({"file": f"{log}-{step}"})}}
                text = f"line {step} of {log}. " * 10
                messages += [{"role": "assistant", "content": None, "tool_calls": [call]}]
                messages += [{"role": "tool", "tool_call_id": "c", "content": text}]
            handle.write(json.dumps({"messages": messages, "success": True}) + "\n")
    import_logs.run([folder / "logs.jsonl"], folder / "imported")
    return folder / "imported"


def recipe_of(mini: Mini, imported: Path, folder: Path, max_context_tokens: int) -> Recipe:
    return mini(
        folder,
        world={"name": "chat", "options": {}},
        model={"max_context_tokens": max_context_tokens},
        collect={"episodes": str(imported / "episodes"), "split": "train"},
        transitions={"valid_fraction": 0.0},
        filter={"predictor_fraction": 0.3, "num_predictions": 2, "max_new_tokens": ANSWER},
        train_wm={"reward": "rouge", "max_new_tokens": ANSWER},
    )


@pytest.mark.slow
def test_rows_beyond_the_context_are_dropped_with_their_reason_and_the_files_hold_each_text_once(
    mini: Mini, imported: Path, tmp_path: Path
) -> None:
    recipe = recipe_of(mini, imported, tmp_path / "run", 1000)
    run_all(Run.open(recipe), until="filter")
    rows = read_records(tmp_path / "run" / "filtered.parquet", Transition)
    assert len(rows) == LOGS * STEPS
    chat, prompts = load_chat(recipe.model.path), ChatLogs().prompts(recipe.model.prompts)
    for row in rows:
        size = len(question_ids(chat, prompts, row)) + max(ANSWER, len(label_ids(chat, row)))
        assert (row.reason == TOO_LONG) == (size > 1000)
    long = sum(row.reason == TOO_LONG for row in rows)
    assert 0 < long < len(rows)
    counts = read_json(tmp_path / "run" / "manifest.json")["stages"]["filter"]["counts"]
    assert (counts["transitions"], counts[TOO_LONG]) == (len(rows), long)
    for path in (imported / "transitions.parquet", *(tmp_path / "run").glob("*ed.parquet")):
        texts = pyarrow.parquet.read_table(path)["history_new"].to_pylist()
        assert sum(map(len, texts)) == LOGS * (STEPS - 1) * 2
    run_all(Run.open(recipe_of(mini, imported, tmp_path / "again", 1000)), until="filter")
    for name in ("transitions.parquet", "filtered.parquet"):
        assert file_hash(tmp_path / "run" / name) == file_hash(tmp_path / "again" / name)


def test_a_run_none_of_whose_rows_can_be_read_says_which_setting_helps(
    mini: Mini, imported: Path, tmp_path: Path
) -> None:
    with pytest.raises(RwmlError) as caught:
        run_all(Run.open(recipe_of(mini, imported, tmp_path / "run", 64)), until="filter")
    assert caught.value.what == (
        "all 100 transitions are longer than model.max_context_tokens = 64, with their next state or an answer of 6 "
        "tokens"
    )
    assert "nothing to learn from" in caught.value.why
    assert "transitions.history_steps" in caught.value.fix
