"""`rwml evaluate` with world models of all kinds: the engine is always right, rules are never wrong."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.files import read_json
from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import Recipe
from rwml.core.records import Parts
from rwml.core.run import Run
from rwml.core.types import PredictedState
from rwml.stages import evaluate
from rwml.stages.pipeline import run_all

pytestmark = pytest.mark.slow  # runs whole stages

OWN = """
from rwml.world_models.world_model import register, repeated


@register("nothing_happens")
class NothingHappens:
    name = "nothing_happens"

    @classmethod
    def make(cls, materials):
        return cls()

    def predict(self, queries, num_samples, generator):
        return [repeated(query, "Nothing happens.", num_samples) for query in queries]
"""


def test_any_world_model_is_examined_by_its_name(
    mini: Callable[..., Recipe], install: Callable[..., None], tmp_path: Path
) -> None:
    install("own_world_model", OWN)
    allow(code=["own_world_model:NothingHappens"])
    names = ["copy_last", "engine", "beliefs", "language", "own_world_model:NothingHappens"]
    run = Run.open(mini(tmp_path / "run", evaluate={"baselines": names, "num_transitions": 12}), say=lambda text: None)
    run_all(run, until="transitions")
    evaluate.run(run)
    figures = read_json(run.folder / "eval.json")
    exact = {name: figures["arms"][name]["world_model"]["all"]["overall"]["exact"]["mean"] for name in names}
    assert exact["engine"] == 1.0
    assert set(figures["baselines"]) == set(names)
    for split in run.recipe.evaluate.splits:
        of = {
            name: Parts(run.folder / "evaluation" / name / f"predictions-{split}-0").read(PredictedState, 1)
            for name in ("engine", "beliefs", "own_world_model:NothingHappens")
        }
        truths = [state.next_state for state in of["engine"]]
        for state, truth in zip(of["beliefs"], truths, strict=True):
            assert state.next_state in (None, truth)
        assert {state.next_state for state in of["own_world_model:NothingHappens"]} == {"Nothing happens."}


SAMPLER = """
from rwml.models.sampling.local import local_sampler

asked = []


class Counting:
    def __init__(self, lm, autocast=None):
        asked.append(lm.source)
        self._local = local_sampler(lm, autocast)

    def sample(self, *arguments):
        return self._local.sample(*arguments)

    def session(self, *arguments):
        return self._local.session(*arguments)
"""


def test_any_sampler_samples_by_its_name(
    mini: Callable[..., Recipe], install: Callable[..., None], tmp_path: Path
) -> None:
    install("own_sampler", SAMPLER)
    runs = [
        Run.open(mini(tmp_path / name, model={"sampler": name}), say=lambda text: None)
        for name in ("local", "own_sampler:Counting")
    ]
    allow(code=["own_sampler:Counting"])
    for run in runs:
        run_all(run, until="collect")
    asked = importlib.import_module("own_sampler").asked
    assert asked == [runs[0].recipe.model.path]
    first, second = ((run.folder / "episodes" / "00000.parquet").read_bytes() for run in runs)
    assert first == second


def test_an_unknown_world_model_names_the_nearest(mini: Callable[..., Recipe], tmp_path: Path) -> None:
    run = Run.open(mini(tmp_path / "run", evaluate={"baselines": ["enginee"]}), say=lambda text: None)
    with pytest.raises(RwmlError, match="there is no world model 'enginee'") as error:
        run_all(run)
    assert "did you mean 'engine'" in error.value.fix
