"""Game files: the same bytes each time, and games that the official engine plays alike."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld.engine.game import Game
from rwml.worlds.alfworld.engine.parse import read_game
from rwml.worlds.alfworld.pddl import generate, write_game
from rwml.worlds.alfworld.scenes import SceneConfig, plan_game


def read_all(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_generate_writes_the_layout_once_and_the_same_bytes_each_time(tmp_path):
    config = SceneConfig("tiny", seed=2, num_train=6, num_valid_seen=2, num_valid_unseen=3)
    first, second = generate(tmp_path / "a", config), generate(tmp_path / "b", config)
    files = read_all(first)
    assert files == read_all(second)
    assert len(files) == 2 * 11 + 1
    plan = plan_game(config, "valid_unseen", 1)
    folder = first / "json_2.1.1" / "valid_unseen" / plan.folder
    assert json.loads((folder / "game.tw-pddl").read_text()) == write_game(plan)
    assert json.loads((folder / "traj_data.json").read_text())["task_type"] == "look_at_obj_in_light"
    assert read_game(folder).walkthrough == plan.walkthrough
    changed = folder / "game.tw-pddl"
    stamp = changed.stat().st_mtime_ns
    generate(first, config)
    assert changed.stat().st_mtime_ns == stamp
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    with pytest.raises(RwmlError, match="already holds something else"):
        generate(first, SceneConfig("tiny", seed=3, num_train=1))


def official_env():
    pytest.importorskip("alfworld", reason="the official engine is an optional extra")
    from alfworld.agents.environment.alfred_tw_env import AlfredDemangler, AlfredInfos
    from textworld import EnvInfos
    from textworld.envs import PddlEnv

    infos = EnvInfos(admissible_commands=True, won=True, extras=["gamefile", "walkthrough"])
    return AlfredInfos(AlfredDemangler(PddlEnv(infos), shuffle=False))


@pytest.mark.slow
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_official_engine_plays_the_same(size, tmp_path):
    env = official_env()
    config = SceneConfig(size, seed=9, num_train=6)
    folder = generate(tmp_path / "scenes", config)
    for index in range(6):
        plan = plan_game(config, "train", index)
        path = folder / "json_2.1.1" / "train" / plan.folder / "game.tw-pddl"
        ours = Game(read_game(path))
        env.load(str(path))
        state = env.reset()
        assert ours.reset() == state.feedback.strip()
        rng = random.Random(index)
        for command in [None] * 8 + list(plan.walkthrough):
            assert ours.admissible_commands == sorted(state.admissible_commands)
            command = command or rng.choice(ours.admissible_commands)
            state, _, _ = env.step(command)
            text, _, _ = ours.step(command)
            assert (text.strip(), ours.won) == (state.feedback.strip(), bool(state.won))
