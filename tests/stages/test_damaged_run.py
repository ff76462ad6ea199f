"""Any byte of a finished run may be wrong: each verb that reads it says so, or gives what it gave before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from damaged import READERS, damage_run
from rwml.core.recipe.recipe import Recipe
from rwml.core.run import Run
from rwml.stages.pipeline import run_all

pytestmark = pytest.mark.slow  # runs a whole pipeline


@pytest.fixture(scope="module")
def done(mini: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run.open(mini(tmp_path_factory.mktemp("damaged") / "whole"))
    run_all(run)
    return run.folder


def test_a_damaged_file_is_named_or_changes_nothing(done: Path, tmp_path: Path) -> None:
    outcomes, faults = damage_run(done, tmp_path, number=36, seed=7)
    assert faults == []
    assert outcomes["refused"] > len(READERS) * 3
    assert outcomes["the same"] > len(READERS) * 3
