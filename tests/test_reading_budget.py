"""How much there is to read to follow one step of world-model training: counted from a step that really runs.

A profiler sees every file of rwml whose code runs while `Trainer.fit` works. Each is to be read (`STEP`), lies in a
part that can be taken as given (`BLACK_BOXES`), or only carries (`PLUMBING`). A file that is in none of these, and one
that is listed but never runs, fails the test.
"""

from __future__ import annotations

import math
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import rwml
from house_rules import PACKAGE
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import write_json, write_records
from rwml.core.run import Run
from rwml.core.types import Transition
from rwml.stages import train_wm
from rwml.train.trainer import Trainer

MOST_FILES, MOST_LINES = 8, 1300
CARRIERS = ("core/", "loading.py", "models/language_model.py", "train/checkpoints.py")
MOST_CARRYING = 14
INSTALLED = Path(rwml.__file__).parent

STEP = {
    "core/prompts.py",
    "models/chat.py",
    "rewards/rewards.py",
    "train/batches.py",
    "train/drift.py",
    "train/steps.py",
    "train/trainer.py",
    "world_models/language.py",
}
BLACK_BOXES = {
    "models/embedding/": "texts in, distances out",
    "models/sampling/": "prompts in, completions out",
    "trees/": "paths in, losses and gradients out",
}
PLUMBING = {
    "train/checkpoints.py": "weights and optimiser state, written and read back",
    "core/files.py": "a checkpoint is written whole or not at all",
    "core/progress.py": "the line that shows how far the stage is",
    "core/recipe/declared.py": "a stage reads only the sections that it declared",
    "core/recipe/sections.py": "settings by their names, and the learning rate of a step",
    "core/registry.py": "the class of a reward by its name",
    "core/types.py": "records: the query of a row",
    "core/recipe/reward_names.py": "which reward the recipe names for a kind",
    "core/records.py": "a line of metrics.jsonl",
    "core/run.py": "notes the stage's time so far in the manifest",
    "core/seeds.py": "a random generator by what it is for",
    "core/text.py": "whether two texts are the same up to white space",
    "loading.py": "loads the embedder when it is first needed",
    "models/language_model.py": "the device of the weights",
}


@contextmanager
def watched(around: CodeType, seen: dict[str, set[str]]) -> Iterator[None]:
    """Note in `seen` each file of rwml, with the functions of it that are called while `around` is on the stack."""
    depth = 0

    def profile(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth
        if frame.f_code is around:
            depth += {"call": 1, "return": -1}.get(event, 0)
        if depth and event == "call" and frame.f_code.co_filename.startswith(f"{INSTALLED}/"):
            path = Path(frame.f_code.co_filename).relative_to(INSTALLED).as_posix()
            seen.setdefault(path, set()).add(frame.f_code.co_qualname)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        yield
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@pytest.fixture(scope="module")
def step(
    mini: Callable[..., Recipe], rows: list[Transition], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, set[str]]:
    """The files that run in one step, with their functions. A step of GRPO, with an update and a checkpoint."""
    run = Run.open(mini(tmp_path_factory.mktemp("step") / "run", train_wm={"max_steps": 1, "group_size": 8}))
    write_records(run.folder / "filtered.parquet", rows, Transition)
    write_json(run.folder / "filter.json", {})
    seen: dict[str, set[str]] = {}
    with pytest.MonkeyPatch.context() as patch, watched(Trainer.fit.__code__, seen):
        patch.setattr("rwml.core.run.NOTE_EVERY_S", math.inf)  # what a slow machine also runs is no part of a step
        train_wm.run(run)
    (line,) = run.metrics.read()
    assert line["signal_share"] > 0
    assert line["tokens"] > 0
    return seen


def test_every_file_that_runs_is_listed(step: dict[str, set[str]]) -> None:
    listed = {*STEP, *PLUMBING}
    assert {name: calls for name, calls in step.items() if not name.startswith((*listed, *BLACK_BOXES))} == {}


def test_every_file_that_is_listed_runs(step: dict[str, set[str]]) -> None:
    assert [name for name in (*STEP, *PLUMBING) if name not in step] == []
    assert [box for box in BLACK_BOXES if not any(name.startswith(box) for name in step)] == []


def test_what_only_carries_is_not_where_the_method_is() -> None:
    assert [name for name in PLUMBING if not name.startswith(CARRIERS)] == []
    assert STEP.isdisjoint(PLUMBING)
    assert len(PLUMBING) <= MOST_CARRYING


def test_a_step_is_short_to_read() -> None:
    lines = {name: len((PACKAGE / name).read_text(encoding="utf-8").splitlines()) for name in STEP}
    assert len(lines) <= MOST_FILES
    assert sum(lines.values()) <= MOST_LINES, lines
