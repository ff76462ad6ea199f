"""The checker on worlds that are broken in one way each: every fault is a sentence, and nothing is raised."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from rwml.core.errors import RwmlError
from rwml.core.types import Task
from rwml.worlds.base import BaseWorld, Prompts, StepResult
from rwml.worlds.checker import WorldCheck, check_world

BOXES = [f"open box {number}" for number in range(1, 4)]


class BoxesEnv:
    """Three boxes, one of which hides a ball. listed, solved: `admissible` and `success` at the start."""

    listed: Any = tuple(BOXES)
    solved: Any = False

    def reset(self, task: Task, seed: int = 0) -> Any:
        self.success, self.admissible, self.ball = self.solved, self.listed, random.Random(task.id).choice(BOXES)
        return "Boxes 1 to 3 are closed. Your task is to: find the ball."

    def step(self, action: str) -> Any:
        if action not in BOXES:
            return StepResult("Nothing happens.", 0.0, False, False)
        self.success = action == self.ball
        return StepResult("The ball!" if self.success else "It is empty.", float(self.success), self.success, True)


class Boxes(BaseWorld):
    texts = Prompts("Find the ball.", "Predict.", "\n\nAfter {action}?")

    def __init__(self, make_env: Callable[[], Any] = BoxesEnv) -> None:
        self.make_env = make_env

    def tasks(self, split: str) -> Any:
        return [Task(f"{split}/{n}", self.name, split, "find") for n in range({"train": 8, "test": 2}.get(split, 0))]

    def env(self) -> Any:
        return self.make_env()


def test_a_sound_world_has_no_violation_and_is_counted() -> None:
    check = WorldCheck(Boxes())
    assert (check.splits, check.policy) == (("train", "test"), "random")
    check.tasks_of("train", 4)
    check.tasks_of("test", 4)
    assert check.violations == check_world(Boxes()) == []
    assert check.num_tasks == 6
    assert check.num_states > 12


def test_a_world_that_lists_no_actions_is_checked_at_its_first_states() -> None:
    check = WorldCheck(Boxes(env_with(listed=())))
    check.tasks_of("train", 3)
    assert (check.policy, check.num_tasks, check.num_states, check.violations) == ("", 3, 3, [])


def env_with(**members: Any) -> Callable[[], Any]:
    return type("Broken", (BoxesEnv,), members)


def world_with(**members: Any) -> Boxes:
    return type("Boxes", (Boxes,), members)()  # type: ignore[no-any-return]


def fail(*arguments: Any) -> Any:
    raise ValueError("no luck")


def refuse(*arguments: Any) -> Any:
    raise RwmlError("it is shut", "nobody can play", "open it")


def results(**fields: Any) -> Callable[..., Any]:
    return lambda *_: StepResult(**{"observation": "x", "reward": 0.0, "terminated": False, "valid": False} | fields)


class Unshowable:
    def __repr__(self) -> str:
        raise ValueError


@pytest.mark.parametrize(
    ("make_env", "sentence"),
    [
        (fail, "the world: env() raises ValueError: no luck"),
        (lambda: None, "the world: env() gives None, which is of another type than object."),
        (object, "train/0: reset() raises AttributeError: 'object' object has no attribute 'reset'"),
        (env_with(reset=fail), "train/0: reset() raises ValueError: no luck"),
        (env_with(reset=refuse), "train/0: reset() raises RwmlError: it is shut"),
        (env_with(reset=lambda *_: None), "train/0: reset() gives None, which is of another type than str."),
        (env_with(step=fail), "') raises ValueError: no luck"),
        (env_with(step=lambda *_: None), "gives None, which is of another type than StepResult."),
        (env_with(step=lambda *_: ("x", 0.0, False)), "gives ('x', 0.0, False), which is of another type than"),
        (env_with(step=results(observation=None)), "gives observation=None, which is of a wrong type."),
        (env_with(step=results(reward="1")), "gives reward='1', which is of a wrong type."),
        (env_with(step=results(terminated=Unshowable())), "gives terminated=an object whose repr raises ValueError"),
        (env_with(step=results(valid=True)), "nonsense ('sing a song to the moon 7') is valid."),
        (env_with(step=results(terminated=True)), "nonsense ('sing a song to the moon 7') terminates the episode."),
        (env_with(step=results()), "'open box 1' is listed as admissible, and is not valid."),
        (env_with(step=results(observation=" ")), "the observation is empty."),
        (
            env_with(success=property(fail, lambda *_: None), step=results()),
            "train/0: success raises ValueError: no luck",
        ),
        (env_with(listed=BOXES * 2), "an action is listed twice as admissible."),
        (env_with(listed="open box 1"), "admissible gives 'open box 1', which is not a list of texts."),
        (env_with(listed=[1, 2]), "admissible gives [1, 2], which is not a list of texts."),
        (env_with(solved=lambda _: True, step=results()), "train/0: success gives <bound method"),
    ],
)
def test_a_broken_environment_is_a_sentence(make_env: Callable[[], Any], sentence: str) -> None:
    world = Boxes(make_env)
    world.policies = lambda: ("random",)  # type: ignore[method-assign]
    found = check_world(world, "train", num_tasks=2, max_steps=3)
    assert any(sentence in violation for violation in found), found


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        ({"tasks": fail}, "the world: splits() raises ValueError: no luck"),
        ({"splits": lambda self: None}, "the world: splits() gives None"),
        ({"splits": lambda self: "train"}, "the world: splits() gives 'train', which is not a list of texts."),
        ({"tasks": lambda self, split: ["train/0"]}, "lists 'train/0', which is not a Task."),
        ({"tasks": lambda self, split: [Task(1, "boxes", split, "find")]}, "whose fields are not all texts."),
        ({"tasks": lambda self, split: iter(())}, "raises TypeError; it must list none or raise RwmlError."),
        (
            {"tasks": lambda self, split: [Task("a", "boxes", split, "find")]},
            "a: this id is listed twice, in train and in valid_seen.",
        ),
        (
            {"tasks": lambda self, split: [Task(split, "box", split, "")]},
            "its world 'box' and its kind ''; it is listed in 'train' of 'boxes', and needs a kind.",
        ),
        (
            {"tasks": lambda self, split: [Task(f"{split}/{random.random()}", "boxes", split, "find")]},
            "train: tasks() lists other tasks, or another order, when it is asked again.",
        ),
        (
            {"tasks": lambda self, split: [Task(split, "boxes", split, "find")]},
            "tasks('no such split') lists 1 tasks; it must list none or raise RwmlError.",
        ),
        ({"texts": None}, "the world: prompts('full') gives None"),
        ({"texts": Prompts("", "", "What then?")}, "prompts('full'): the question does not hold {action}."),
        ({"texts": Prompts("", "", "{actions}?")}, "prompts('full'): the question cannot be filled in: KeyError"),
        ({"texts": Prompts(None, "", "{action}?")}, "prompts('full'): agent is None, which is not a text."),
        ({"texts": Prompts("", "", "{action}?", "words")}, 'actions is \'words\'; it must be "tags" or "calls".'),
        ({"policies": fail}, "the world: policies() raises ValueError: no luck"),
        ({"policy": fail}, "the world: policy('random') raises ValueError: no luck"),
        ({"policy": lambda *_: object()}, "raises AttributeError: 'object' object has no attribute 'act'"),
        ({"name": ""}, "the world's name is ''; it must be a text."),
        ({"verb": lambda *_: "invalid"}, "the action is valid, and its verb is 'invalid'."),
        ({"verb": lambda *_: None}, "verb('open box"),
        ({"inefficient": lambda *_: None}, "inefficient('open box"),
        ({"target": lambda *_: ""}, "the target is empty."),
        ({"knowable": lambda *_: 1}, "gives 1, which is of another type than bool."),
        ({"world_model_opening": lambda *_: "Boxes."}, "world_model_opening() leaves out what the policy reads."),
    ],
)
def test_a_broken_world_is_a_sentence(members: dict[str, Any], sentence: str) -> None:
    found = check_world(world_with(**members), num_tasks=2, max_steps=3)
    assert any(sentence in violation for violation in found), found


def test_play_that_differs_and_solved_tasks_that_continue_are_seen() -> None:
    class Moody(BoxesEnv):
        def step(self, action: str) -> StepResult:
            return StepResult(str(random.random()), 0.0, False, action in BOXES)

    class Endless(BoxesEnv):
        def step(self, action: str) -> StepResult:
            self.success = action in BOXES
            return StepResult("So be it.", 0.0, False, action in BOXES)

    moody = check_world(Boxes(Moody), "train", num_tasks=1, max_steps=3)
    assert moody == ["train/0: the same seed and actions play differently the second time."]
    endless = check_world(Boxes(Endless), "train", num_tasks=1, max_steps=3)
    assert endless == ["train/0: the task is solved, and the episode is not terminated."]


def test_the_expert_alone_has_to_solve_the_tasks() -> None:
    class Lazy:
        def act(self, observation: str, admissible: Sequence[str]) -> str:
            return "wait"

        def thought(self) -> str:
            return ""

    members = {"policies": lambda self: ("lazy", "expert"), "policy": lambda self, name, seed: Lazy()}
    assert check_world(world_with(**members), "train", "lazy", num_tasks=3, max_steps=2) == []
    found = check_world(world_with(**members), "train", num_tasks=3, max_steps=2)
    assert found == ["train: the expert solves 0 of 3 tasks, fewer than 90%."]


def test_a_split_without_tasks_and_one_that_is_unknown_are_said() -> None:
    assert check_world(Boxes(), "valid") == [
        "valid: this split is not among splits(), which gives ('train', 'test').",
        "valid: the split has no tasks.",
    ]
