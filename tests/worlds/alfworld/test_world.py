"""ALFWorld behind the contract of worlds, and the checker of that contract."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from rwml.core.errors import RwmlError
from rwml.worlds.alfworld.world import AlfEnv, AlfWorld
from rwml.worlds.base import BuiltInPolicy, Env, World
from rwml.worlds.by_name import get_world
from rwml.worlds.checker import NONSENSE, check_world

FEW = {"num_train": 12, "num_valid_seen": 6, "num_valid_unseen": 6}


@pytest.mark.parametrize("size", ["tiny", "small", "medium", "official"])
def test_the_contract_holds(size):
    world = get_world("alfworld", size=size, **FEW)
    assert isinstance(world, World)
    assert isinstance(world.env(), Env)
    assert isinstance(world.policy("expert", 0), BuiltInPolicy)
    for split in world.splits():
        assert check_world(world, split, "expert", 3, min_success=1.0) == []


class Careless(AlfWorld):
    """Breaks the contract in several ways."""

    def tasks(self, split):
        tasks = super().tasks(split)
        return [*tasks, replace(tasks[0], kind="")]

    def env(self):
        return CarelessEnv(self)


class CarelessEnv(AlfEnv):
    def step(self, action):
        result = super().step(action)
        if action == NONSENSE:
            return replace(result, valid=True)
        if action == "look":
            return replace(result, valid=False)
        return result


def test_the_checker_finds_what_is_wrong():
    found = check_world(Careless(size="tiny", **FEW), "train", "random", 2, max_steps=3)
    text = "\n".join(found)
    for words in ("listed twice", "kind ''", "('sing a song to the moon 7') is valid", "'look' is listed"):
        assert words in text


def test_tasks_are_stable_and_any_first_part_is_a_fair_sample():
    world = get_world("alfworld", size="tiny", num_train=240)
    tasks = world.tasks("train")
    assert tasks == get_world("alfworld", size="tiny", num_train=240).tasks("train")
    assert len({task.id for task in tasks}) == 240
    assert {task.id.split("/")[0] for task in tasks} == {"train"}
    first = [task.kind for task in tasks[:48]]
    assert all(3 <= first.count(kind) <= 15 for kind in set(first))
    assert len(set(first)) == 6


def test_files_and_memory_play_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {"size": "tiny", "num_train": 6, "num_valid_seen": 2, "num_valid_unseen": 0}
    memory = get_world("alfworld", **options)
    files = get_world("alfworld", data=str(tmp_path / "scenes"), **options)
    official = get_world("alfworld", source="official", data=str(tmp_path / "scenes"))
    assert memory.splits() == ("train", "valid_seen")
    for world in (files, official):
        assert world.tasks("train") == memory.tasks("train")
        for task in memory.tasks("train"):
            assert world.env().reset(task) == memory.env().reset(task)
    assert [path.suffix for path in (tmp_path / "cache" / "rwml").iterdir()] == [".games"]


def test_a_folder_whose_name_is_no_utf8_is_a_task_that_plays(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    options = {"size": "tiny", "num_train": 2, "num_valid_seen": 0, "num_valid_unseen": 0}
    world = get_world("alfworld", data=str(tmp_path / "scenes"), **options)
    first, trial = world.tasks("train"), next((tmp_path / "scenes").glob("json_2.1.1/train/*/*"))
    opening = {task.id: world.env().reset(task) for task in first}["/".join(trial.parts[-3:])]
    (tmp_path / "copy" / "json_2.1.1" / "train" / trial.parent.name).mkdir(parents=True)
    try:
        trial.rename(tmp_path / "copy" / "json_2.1.1" / "train" / trial.parent.name / "trial_\udce9")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system takes no such name")
    [task] = get_world("alfworld", source="official", data=str(tmp_path / "copy")).tasks("train")
    assert task.id == f"train/{trial.parent.name}/trial_\\udce9"
    again = get_world("alfworld", source="official", data=str(tmp_path / "copy"))
    for _ in range(2):
        assert again.env().reset(task) == opening


def test_valid_says_whether_an_action_was_admissible():
    world = get_world("alfworld", size="small", **FEW)
    rng = random.Random(0)
    kinds = set()
    for task in world.tasks("train"):
        env = world.env()
        env.reset(task)
        for _ in range(30):
            admissible = env.admissible
            action = rng.choice(admissible)
            if rng.random() < 0.5:
                words = action.split()
                action = " ".join([rng.choice(("open", "use", "take", "go to")), *words[1:]])
            result = env.step(action)
            assert result.valid == (action in admissible)
            assert (result.terminated, result.reward) == (env.success, float(env.success))
            kinds.add(result.valid)
    assert kinds == {True, False}


@pytest.mark.parametrize(
    ("action", "verb"),
    [
        ("go to desk 1", "go"),
        ("take mug 1 from desk 1", "take"),
        ("look", "look"),
        ("examine mug 1", "examine"),
        ("go desk", "invalid"),
        ("", "invalid"),
    ],
)
def test_verbs(action, verb):
    world = AlfWorld()
    assert world.verb(action) == verb
    assert world.inefficient(action) == (verb in ("look", "examine"))


def test_prompts_name_what_is_answered():
    full, brief = AlfWorld().prompts("full"), AlfWorld().prompts("brief")
    assert all(tag in full.agent for tag in ("<think>", "</think>", "<action>", "</action>"))
    assert all(tag in full.world_model for tag in ("<think>", "<next_state>", "</next_state>"))
    assert full.question.format(action="look").count("look") == 1
    assert (brief.agent, brief.world_model) == ("", "")
    assert brief.question == "\nIf I do: {action}\nthen?"


def refused(call) -> str:
    with pytest.raises(RwmlError) as caught:
        call()
    error = caught.value
    assert error.what
    assert error.why
    assert error.fix
    return str(error)


def test_mistakes_are_explained(monkeypatch, tmp_path):
    monkeypatch.delenv("ALFWORLD_DATA", raising=False)
    assert "did you mean 'alfworld'" in refused(lambda: get_world("alfword"))
    assert "ALFWORLD_DATA is not set" in refused(lambda: get_world("alfworld", source="official"))
    assert "has no folder json_2.1.1" in refused(lambda: get_world("alfworld", source="official", data=str(tmp_path)))
    assert "did you mean 'official'" in refused(lambda: get_world("alfworld", source="offical"))
    assert "did you mean 'size'" in refused(lambda: get_world("alfworld", sizes="tiny"))
    assert "did you mean 'tiny'" in refused(lambda: get_world("alfworld", size="tinny"))
    assert "num_train" in refused(lambda: get_world("alfworld", num_train=-1))
    assert "take no option 'size'" in refused(
        lambda: get_world("alfworld", source="official", data=str(tmp_path), size="tiny")
    )
    world = get_world("alfworld", size="tiny", **FEW)
    assert "did you mean 'valid_unseen'" in refused(lambda: world.tasks("valid_unsen"))
    assert "did you mean 'brief'" in refused(lambda: world.prompts("breif"))
    task = replace(world.tasks("train")[0], id="train/nothing/trial_1")
    assert "no task 'train/nothing/trial_1'" in refused(lambda: world.env().reset(task))
    assert "reset" in refused(lambda: world.env().step("look"))
