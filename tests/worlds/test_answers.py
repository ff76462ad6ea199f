"""What a world may not answer: each fault is one reason, which names the value or its type."""

from __future__ import annotations

import copy
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from rwml.core.errors import RwmlError
from rwml.core.types import Task
from rwml.worlds.answers import (
    MAX_ACTIONS,
    MAX_CHARACTERS,
    SoundEnv,
    WorldFailed,
    answered,
    reason_of,
    splits_of,
    tasks_of,
)
from rwml.worlds.base import StepResult

SURROGATE = "holds a lone surrogate (half a character), which no file can keep"
TASK = Task("t", "w", "train", "k")


def fail(*_: Any) -> Any:
    raise ValueError("no luck")


def leave(*_: Any) -> Any:
    raise SystemExit(3)


def env_with(**members: Any) -> SoundEnv:
    base = {"reset": lambda *_: "a room", "step": lambda *_: StepResult("x", 0.0, False, True), "success": False,
            "admissible": ()}  # fmt: skip
    return SoundEnv(type("Env", (), base | members))


def step_with(**fields: Any) -> SoundEnv:
    values: dict[str, Any] = {"observation": "x", "reward": 0.5, "terminated": False, "valid": True} | fields
    return env_with(step=lambda *_: StepResult(**values))


class Text(str):
    """A text of a class of its own."""


class Mute(Exception):
    def __str__(self) -> str:
        raise KeyError


@pytest.mark.parametrize(
    ("reset", "reason"),
    [
        (lambda *_: None, "the opening is of type NoneType, not a text"),
        (lambda *_: 5, "the opening is of type int, not a text"),
        (lambda *_: b"x", "the opening is of type bytes, not a text"),
        (lambda *_: ["x"], "the opening is of type list, not a text"),
        (lambda *_: "x\udc80", f"the opening {SURROGATE}"),
        (lambda *_: "x" * (MAX_CHARACTERS + 1), "the opening has 1,000,001 characters, more than 1,000,000"),
        (fail, "ValueError: no luck"),
        (leave, "SystemExit: 3"),
    ],
)
def test_an_opening_that_is_none(reset: Any, reason: str) -> None:
    with pytest.raises(WorldFailed) as caught:
        env_with(reset=reset).reset(TASK)
    assert caught.value.reason == reason
    assert reason in caught.value.what


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"observation": None}, "the observation is of type NoneType, not a text"),
        ({"observation": 1.5}, "the observation is of type float, not a text"),
        ({"observation": "\ud83d"}, f"the observation {SURROGATE}"),
        ({"reward": None}, "the reward is of type NoneType, not a number"),
        ({"reward": "1"}, "the reward is of type str, not a number"),
        ({"reward": float("nan")}, "the reward is not a number (nan)"),
        ({"reward": float("-inf")}, "the reward is infinite"),
        ({"reward": np.float32("inf")}, "the reward is infinite"),
        ({"reward": 10**400}, "the reward is infinite"),
        ({"reward": 1j}, "the reward is of type complex, not a number"),
        ({"reward": np.zeros(1)}, "the reward is of type ndarray, not a number"),
        ({"terminated": 1}, "terminated is of type int, not True or False"),
        ({"terminated": None}, "terminated is of type NoneType, not True or False"),
        ({"valid": "yes"}, "valid is of type str, not True or False"),
        ({"kind": None}, "the kind is of type NoneType, not a text"),
        ({"kind": ["tool"]}, "the kind is of type list, not a text"),
    ],
)
def test_a_step_with_a_field_that_is_none(fields: dict[str, Any], reason: str) -> None:
    env = step_with(**fields)
    env.reset(TASK)
    with pytest.raises(WorldFailed) as caught:
        env.step("look")
    assert caught.value.reason == reason


def test_an_answer_of_another_class_and_lists_of_other_things() -> None:
    def reason(read: Any, **members: Any) -> str:
        env = env_with(**members)
        env.reset(TASK)
        with pytest.raises(WorldFailed) as caught:
            read(env)
        return caught.value.reason

    assert reason(lambda e: e.step("x"), step=lambda *_: ("x", 1.0, False)) == (
        "the answer to an action is of type tuple, not a StepResult"
    )
    for value, wrong in (("go", "str"), (None, "NoneType"), ({"go"}, "set"), (7, "int")):
        assert reason(lambda e: e.admissible, admissible=value) == (
            f"admissible is of type {wrong}, not a list of texts"
        )
    assert reason(lambda e: e.admissible, admissible=["go", None]) == (
        "an entry of admissible is of type NoneType, not a text"
    )
    assert reason(lambda e: e.admissible, admissible=range(MAX_ACTIONS + 1)) == (
        "admissible has 100,001 entries, more than 100,000"
    )
    assert reason(lambda e: e.success, success=1) == "success is of type int, not True or False"
    assert reason(lambda e: e.success, success=property(fail)) == "ValueError: no luck"


def test_sound_answers_pass_as_plain_values() -> None:
    env = step_with(observation=Text("x"), reward=Fraction(1, 4), terminated=np.bool_(True), valid=np.False_)
    assert env.reset(TASK) == "a room"
    result = env.step("look")
    assert result == StepResult("x", 0.25, True, False, "text")
    assert [type(value) for value in (result.observation, result.reward, result.terminated, result.valid)] == [
        str, float, bool, bool,
    ]  # fmt: skip
    assert step_with(observation="x" * MAX_CHARACTERS).reset(TASK) == "a room"


def test_an_environment_that_cannot_be_made_fails_at_the_start() -> None:
    env = SoundEnv(fail)
    with pytest.raises(WorldFailed, match="no luck"):
        env.reset(TASK)
    with pytest.raises(WorldFailed, match="'NoneType' object has no attribute 'reset'"):
        SoundEnv(lambda: None).reset(TASK)


def test_reasons_can_be_written_whatever_was_raised() -> None:
    assert reason_of(Mute()) == "Mute: its message raises KeyError"
    assert reason_of(ValueError("\ud83d")) == r"ValueError: \ud83d"
    assert reason_of(ValueError("x" * 3000)) == f"ValueError: {'x' * 2000}... (3,000 characters)"
    assert reason_of(RwmlError("it is shut", "no", "open it")) == str(RwmlError("it is shut", "no", "open it"))
    failed = WorldFailed("why")
    again = copy.copy(failed)
    assert (again.reason, again.what, again.fix) == (failed.reason, failed.what, failed.fix)
    assert answered("x", lambda: 3, lambda what, value: (what, value)) == ("x", 3)


class Lists:
    name = "lists"

    def __init__(self, value: Any) -> None:
        self.value = value

    def tasks(self, split: str) -> Any:
        return self.value() if callable(self.value) else self.value

    splits: Any = lambda self: self.tasks("")


def test_lists_of_tasks_and_splits_are_read_or_refused_in_three_parts() -> None:
    good: Any = Lists((TASK,))
    assert tasks_of(good, "train") == [TASK]
    assert splits_of(Lists(["train"])) == ("train",)  # type: ignore[arg-type]
    for value, what in (
        (fail, "ValueError: no luck"),
        (None, "of type NoneType, not a list"),
        ([None], "hold a value of type NoneType, not a Task"),
        ([Task("\udc80", "w", "s", "k")], "the id of one of the tasks of the split 'train' holds a lone surrogate"),
        ([Task("a", "w", "s", 3)], "the kind of one of the tasks of the split 'train' is of type int"),  # type: ignore[arg-type]
    ):
        world: Any = Lists(value)
        with pytest.raises(RwmlError) as caught:
            tasks_of(world, "train")
        assert caught.value.what.startswith("the world lists cannot list the tasks of the split 'train': ")
        assert what in caught.value.what
        assert "rwml worlds check" in caught.value.fix

    def unknown() -> Any:
        raise RwmlError("no split", "none", "did you mean 'train'?")

    refusing: Any = Lists(unknown)
    with pytest.raises(RwmlError, match="did you mean 'train'"):
        tasks_of(refusing, "trian")
