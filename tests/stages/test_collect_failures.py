"""Stages over games and worlds that fail: what fails is a row, counted and said; what fails wholly is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from chaos_world import Chaos, ChaosEnv
from rwml.cli import app
from rwml.core.errors import RwmlError
from rwml.core.recipe.recipe import parse_recipe
from rwml.core.records import read_episodes, read_records
from rwml.core.run import Run
from rwml.core.types import Task, Transition
from rwml.stages import collect, transitions
from rwml.worlds.alfworld.pddl import generate
from rwml.worlds.alfworld.scenes import SceneConfig
from rwml.worlds.base import StepResult
from rwml.worlds.by_name import WORLDS


def opened(folder: Path, world: dict[str, Any], policy: str = "expert") -> Run:
    sections = {"world": world, "collect": {"policy": policy, "rollouts_per_task": 1, "episodes_in_flight": 3}}
    return Run.open(parse_recipe({"name": "x", "out": str(folder), **sections}))


@pytest.fixture
def games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Eight official game files of our own, in an ALFWORLD_DATA."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = generate(tmp_path / "data", SceneConfig("tiny", num_train=8, num_valid_seen=0, num_valid_unseen=0))
    monkeypatch.setenv("ALFWORLD_DATA", str(root))
    return sorted(root.glob("json_2.1.1/train/*/*/game.tw-pddl"))


def test_one_broken_game_is_one_failed_episode(
    games: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    games[2].write_text(games[2].read_text()[:2000])
    run = opened(tmp_path / "run", {"name": "alfworld", "options": {"source": "official"}})
    collect.run(run)
    episodes = read_episodes(run.folder / "episodes")
    assert [bool(episode.error) for episode in episodes].count(True) == 1
    [failed] = [episode for episode in episodes if episode.error]
    assert failed.task.id == "/".join(games[2].parts[-4:-1])
    assert f"{games[2]} is not a playable game file: it ends early or is not JSON" in failed.error
    assert sum(episode.success for episode in episodes) == 7
    counts = run.summary()["collect"]["counts"]
    assert (counts["episodes"], counts["won"], counts["stopped by error"]) == (8, 7, 1)
    assert [key for key in counts if key.startswith(f"failed, {games[2]}")]
    assert f"collect: 1 of 8 episodes failed: 1 x {games[2]}" in capsys.readouterr().err
    transitions.run(run)
    rows = read_records(run.folder / "transitions.parquet", Transition)
    assert len(rows) == sum(len(episode.steps) for episode in episodes) > 0
    assert run.summary()["transitions"]["counts"]["failed episodes"] == 1


def test_a_run_in_which_every_game_is_broken_is_not_done(games: list[Path], tmp_path: Path) -> None:
    for path in games:
        path.write_text("{")
    run = opened(tmp_path / "run", {"name": "alfworld", "options": {"source": "official"}})
    with pytest.raises(RwmlError) as caught:
        collect.run(run)
    assert caught.value.what.startswith("all 8 episodes failed, 1 of them so: ")
    assert "alfworld-download" in caught.value.fix
    assert "--force collect" in caught.value.fix
    assert run.state("collect") == "failed"
    assert len(read_episodes(run.folder / "episodes")) == 8, "they are kept with their reasons"


def register(monkeypatch: pytest.MonkeyPatch, world: type) -> dict[str, Any]:
    monkeypatch.setitem(WORLDS._entries, "odd", world)  # type: ignore[arg-type]
    return {"name": "odd"}


def test_every_part_of_a_chaotic_world_is_written_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = opened(tmp_path / "run", register(monkeypatch, Chaos))
    collect.run(run)
    transitions.run(run)
    episodes, counts = read_episodes(run.folder / "episodes"), run.summary()["collect"]["counts"]
    failed = sum(bool(episode.error) for episode in episodes)
    assert (len(episodes), counts["episodes"], counts["stopped by error"]) == (40, 40, failed)
    assert 0 < failed < 40
    assert f"collect: {failed} of 40 episodes failed: " in capsys.readouterr().err
    of_rows = run.summary()["transitions"]["counts"]
    asked = [step for episode in episodes for step in episode.steps if step.observation]
    assert of_rows["transitions"] + of_rows["steps that the world failed to describe"] == len(asked)


class Wordless(Chaos):
    """Plays, and cannot say what is to be predicted."""

    def __init__(self) -> None:
        super().__init__(0, 4)

    def target(self, kind: str, observation: str) -> Any:
        raise LookupError("no words")


class Mute(Wordless):
    def env(self) -> Any:
        class Silent(ChaosEnv):
            def step(self, action: str) -> Any:
                return None

        return Silent(self)


class Listless(Chaos):
    def tasks(self, split: str) -> list[Task]:
        raise ZeroDivisionError("no list")


class Unmade(Chaos):
    def __init__(self) -> None:
        raise KeyError("no house")


def test_stages_without_a_row_and_without_a_world_end_in_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = opened(tmp_path / "a", register(monkeypatch, Wordless))
    collect.run(run)
    with pytest.raises(RwmlError, match="4 episodes with 12 steps gave no transition: the world failed to describe 12"):
        transitions.run(run)
    assert run.state("transitions") == "failed"
    for name, world, what in (
        ("b", Mute, "all 4 episodes failed, 4 of them so: the answer to an action is of type NoneType, not a Step"),
        ("c", Listless, "the world chaos cannot list the tasks of the split 'train': ZeroDivisionError: no list"),
        ("d", Unmade, "odd cannot be made: KeyError: 'no house'"),
    ):
        with pytest.raises(RwmlError, match=re.escape(what)):
            collect.run(opened(tmp_path / name, register(monkeypatch, world)))


def test_the_verbs_of_worlds_show_messages_and_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = CliRunner()

    class Loud(Chaos):
        def __init__(self) -> None:
            super().__init__(0, 2)

        def env(self) -> Any:
            class Red(ChaosEnv):
                def step(self, action: str) -> StepResult:
                    if action == "fall":
                        raise OSError("the roof")
                    return StepResult("\x1b[31mred", 0.0, False, True)

            return Red(self)

    register(monkeypatch, Loud)
    played = runner.invoke(app, ["worlds", "play", "odd"], input="look\nfall\n")
    assert played.exit_code == 2
    assert r"\x1b[31mred" in played.output
    assert "\x1b[31mred" not in played.output.replace("error", "")
    assert "error: the world failed: OSError: the roof" in played.output
    register(monkeypatch, Unmade)
    checked = runner.invoke(app, ["worlds", "check", "odd"])
    assert (checked.exit_code, "odd cannot be made: KeyError" in checked.output) == (1, True)
    register(monkeypatch, Mute)
    checked = runner.invoke(app, ["worlds", "check", "odd", "--split", "train"])
    assert checked.exit_code == 1
    assert "gives None, which is of another type than StepResult" in checked.output
    register(monkeypatch, Listless)
    listed = runner.invoke(app, ["worlds", "--only", "odd"])
    assert listed.exit_code == 2
    assert "cannot list the tasks of the split 'train': ZeroDivisionError: no list" in listed.output
    assert "what to do" in listed.output
