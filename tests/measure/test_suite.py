"""What a run is measured on: imported episodes of its world and splits, and the reward where a judge gave it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import made
from rwml.core.errors import RwmlError
from rwml.core.guard.trust import allow
from rwml.core.recipe.recipe import Recipe, parse_recipe
from rwml.core.records import write_records
from rwml.core.run import Run
from rwml.core.types import Episode, Step
from rwml.loading import load_measuring_reward
from rwml.measure.compare.setups import measure_setup
from rwml.measure.suite import KeptMeasures, MeasureContext

JUDGE = {"base_url": "http://127.0.0.1:9/v1", "model": "a-judge"}


def episode(task: str, world: str, split: str) -> Episode:
    done = made.episode(task, (Step("go", "go", "You go."),), split=split, success=True)
    return replace(done, task=replace(done.task, world=world))


def write(folder: Path, *episodes: Episode) -> None:
    write_records(folder / "00000.parquet", list(episodes), Episode)


def measuring(recipe: Recipe) -> MeasureContext:
    reward = load_measuring_reward(Run.peek(recipe), 0.4)
    return MeasureContext(measure_setup(recipe), recipe.folder / "measures", reward)


def imported(tmp_path: Path, **measure: Any) -> MeasureContext:
    """Of a run whose episodes are those in `tmp_path`/logs, of the world chat."""
    data = {"world": {"name": "chat"}, "collect": {"episodes": str(tmp_path / "logs")}, "measure": measure}
    return measuring(parse_recipe({"name": "r", "out": str(tmp_path / "run"), **data}))


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Episodes of two worlds, whose held-out split begins with those of the other one."""
    others = [episode(f"o{number}", "tau2", "test") for number in range(3)]
    own = [episode(f"c{number}", "chat", "test") for number in range(3)]
    write(tmp_path / "logs", *others, *own, episode("t", "chat", "train"))
    return tmp_path / "logs"


def test_as_many_imported_episodes_of_the_world_as_are_asked_for(logs: Path, tmp_path: Path) -> None:
    found = imported(tmp_path, splits=["train", "test"], num_episodes=2).episodes
    assert {source: [one.task.id for one in group] for source, group in found.items()} == {
        "imported": ["t", "c0", "c1"]
    }


def test_no_imported_episode_is_an_error_that_names_those_there(logs: Path, tmp_path: Path) -> None:
    with pytest.raises(RwmlError, match="world chat in the splits valid_seen, valid_unseen") as error:
        _ = imported(tmp_path).episodes
    assert "it holds chat/test, chat/train, tau2/test: set measure.splits" in error.value.fix
    write(logs, episode("o", "tau2", "test"))
    with pytest.raises(RwmlError, match="no episodes of the world chat in the splits test"):
        _ = imported(tmp_path, splits=["test"]).episodes


def test_a_split_without_an_imported_episode_is_said(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(imported(tmp_path, splits=["test"]).episodes["imported"]) == 3
    assert capsys.readouterr().err == ""
    assert len(imported(tmp_path, splits=["test", "tset"]).episodes["imported"]) == 3
    assert "no episodes of the world chat in the split 'tset'" in capsys.readouterr().err


def test_another_import_into_the_same_folder_is_measured_anew(logs: Path, tmp_path: Path) -> None:
    def places() -> dict[str, Path]:
        kept = KeptMeasures(imported(tmp_path, splits=["test"]), None, "", "model")
        return {name: kept.path(name) for name in ("rollouts", "plans", "held_out", "text")}

    before = places()
    assert places() == before
    write(logs, episode("new", "chat", "test"))
    assert {name for name, path in places().items() if path != before[name]} == {"rollouts", "plans"}


PLAYER = """
from rwml.playing.policies import ActionsPolicy

class Looks(ActionsPolicy):
    def __init__(self, materials):
        super().__init__(("look", "inventory"), "looks")
"""


def test_a_policy_from_elsewhere_plays_and_a_misspelt_one_is_left_out(
    tmp_path: Path, install: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    install("suite_player", PLAYER)
    allow(code=["suite_player:Looks"])
    options = {"source": "scenes", "num_train": 1, "num_valid_seen": 2, "num_valid_unseen": 1}
    names, held_out = ["suite_player:Looks", "exprt"], [{"options": options, "policy": "suite_player:Looks"}]
    measure = {"policies": names, "leave_one_out": False, "splits": ["valid_seen"], "held_out": held_out}
    data = {"name": "r", "out": str(tmp_path), "world": {"name": "alfworld", "options": options}, "measure": measure}
    context = measuring(parse_recipe(data))
    assert {who: [e.policy for e in group] for who, group in context.episodes.items()} == {
        "suite_player:Looks": ["looks"] * 2
    }
    assert "has no policy 'exprt'" in capsys.readouterr().err
    [(_, rows)] = context.held_out_rows.values()
    assert [row.action for row in rows] == ["look", "inventory"]


@pytest.mark.parametrize(
    ("choice", "measured"),
    [
        ("judge", "embedding"),
        ({"tool": "rouge", "user": "judge"}, {"tool": "rouge", "user": "embedding"}),
        (
            {"text": "judge_graded", "tool": "exact", "user": "judge"},
            {"text": "embedding", "tool": "exact", "user": "embedding"},
        ),
        ({"tool": "rouge"}, {"tool": "rouge"}),
    ],
)
def test_only_judged_kinds_are_scored_by_the_embedding(
    tmp_path: Path, choice: str | Mapping[str, str], measured: str | Mapping[str, str]
) -> None:
    data = {"name": "r", "out": str(tmp_path), "judge": JUDGE}
    recipe = parse_recipe({**data, "train_wm": {"reward": choice}})
    found = measuring(recipe)
    assert found.reward.choice == measured
    assert recipe.train_wm.reward == choice
    plain = measuring(parse_recipe({**data, "train_wm": {"reward": measured}}))
    places = [KeptMeasures(each, None, "", "model").path("rollouts") for each in (found, plain)]
    assert places[0] == places[1]
