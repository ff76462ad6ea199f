"""What a world of one's own gets for free, and how it is found: module:Class, decorator, entry point."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rwml.core.errors import RwmlError
from rwml.core.guard.trust import allow
from rwml.core.types import Task
from rwml.worlds.base import BuiltInPolicy, Env, Prompts, World
from rwml.worlds.by_name import WORLDS, get_world, register

MODULE = """
from rwml.core.types import Task
from rwml.worlds.base import BaseWorld, Prompts, StepResult


class Coins(BaseWorld):
    texts = Prompts("Guess.", "Predict.", "After {action}?")

    def __init__(self, num_tasks=3):
        self.num_tasks = num_tasks

    def tasks(self, split):
        return [Task(f"{split}/{n}", self.name, split, "guess") for n in range(self.num_tasks * (split == "train"))]

    def env(self):
        return CoinsEnv()


class CoinsEnv:
    admissible = ("heads", "tails")
    success = False

    def reset(self, task, seed=0):
        return "A coin lies under a cup. Your task is to: guess its side."

    def step(self, action):
        valid = action in self.admissible
        return StepResult("It was heads." if valid else "Nothing happens.", 0.0, valid, valid)


class Half(BaseWorld):
    def env(self):
        return CoinsEnv()


class Failing(Coins):
    def __init__(self):
        raise ZeroDivisionError("no coins")


class Odd(Coins):
    def splits(self):
        return ("train", "odd")
"""


@pytest.fixture
def coins(install: Callable[..., None]) -> World:
    install("coins", MODULE, "[rwml.worlds]\npennies = coins:Coins\n")
    allow(code=["coins:Coins", "coins:Half", "coins:Cions", "coins:CoinsEnv", "os:system", "subprocess:Popen"])
    return get_world("coins:Coins", num_tasks=2)


def test_the_defaults_of_a_world(coins: World) -> None:
    assert isinstance(coins, World)
    assert isinstance(coins.env(), Env)
    assert (coins.name, coins.splits(), coins.policies()) == ("coins", ("train",), ("random",))
    assert isinstance(coins.policy("random", 0), BuiltInPolicy)
    assert coins.prompts("full") == Prompts("Guess.", "Predict.", "After {action}?")
    assert coins.prompts("brief") == Prompts("", "", "\nIf I do: {action}\nthen?")
    assert (coins.verb("open box 1"), coins.verb(" ")) == ("open", "invalid")
    assert coins.inefficient("look") is False
    assert coins.world_model_opening(Task("a", "coins", "train", "guess"), "A coin.") == "A coin."
    assert coins.target("text", '{"a": 1}') == '{"a": 1}'
    assert coins.knowable("A coin.", [], "heads", "It was heads.") is True


def test_the_random_policy_is_uniform_and_follows_its_seed(coins: World) -> None:
    drawn = [coins.policy("random", seed).act("", ("heads", "tails")) for seed in range(200)]
    assert drawn == [coins.policy("random", seed).act("", ("heads", "tails")) for seed in range(200)]
    assert 80 <= drawn.count("heads") <= 120
    assert coins.policy("random", 0).thought() == "try"


def test_mistakes_with_a_world_of_ones_own_are_explained(coins: World) -> None:
    for call, words in (
        (lambda: coins.policy("expert", 0), "no policy 'expert'"),
        (lambda: coins.prompts("ful"), "did you mean 'full'"),
        (lambda: get_world("coins:Coins", num_task=2), "did you mean 'num_tasks'"),
        (lambda: get_world("coins:Half"), "the world coins:Half has no tasks"),
        (lambda: get_world("coins:Cions"), "cannot be imported"),
        (lambda: get_world("coins:CoinsEnv", task=1), "'coins:CoinsEnv' is no world: the class has no splits, tasks,"),
        (lambda: get_world("os:system", command="exit 1"), "'os:system' is no world: it is no class"),
        (lambda: get_world("subprocess:Popen", args=["false"]), "'subprocess:Popen' is no world: the class has no"),
        (lambda: get_world("pennys"), "did you mean 'pennies'"),
    ):
        with pytest.raises(RwmlError, match=words):
            call()


def test_a_world_is_found_by_entry_point_and_by_decorator(coins: World) -> None:
    assert {"alfworld", "tau2", "chat", "pennies"} <= set(WORLDS.names())
    assert get_world("pennies", num_tasks=5).tasks("train")[4].id == "train/4"
    register("test-coins")(type(coins))
    assert get_world("test-coins").tasks("train") == get_world("coins:Coins").tasks("train")


def _check(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    script = "import sys\nfrom rwml.cli import main\nsys.argv[0] = 'rwml'\nmain()\n"
    command = [sys.executable, "-P", "-c", script, "worlds", "check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=120)


@pytest.mark.slow
def test_the_command_checks_a_world_in_the_folder_at_hand(tmp_path: Path) -> None:
    (tmp_path / "coins.py").write_text(MODULE)
    done = _check(tmp_path, "coins:Coins", "-o", "num_tasks=4", "--tasks", "3")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "coins:Coins: no violations in 3 tasks and 6 states (played by random)\n"
    done = _check(tmp_path, "coins:Odd")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "odd: the split has no tasks.",
        "coins:Odd: 1 violation in 3 tasks and 6 states (played by random)",
    ]
    done = _check(tmp_path, "coins:Failing")
    assert (done.returncode, done.stdout) == (1, "coins:Failing cannot be made: ZeroDivisionError: no coins\n")
    done = _check(tmp_path, "coins:Coin")
    assert done.returncode == 2
    assert "write module:Name" in done.stderr
