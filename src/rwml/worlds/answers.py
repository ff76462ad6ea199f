"""What a world answers, checked where it comes in: the code of a world may raise anything, and return anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Real
from typing import Any, TypeVar

import numpy as np

from rwml.core.errors import RwmlError
from rwml.core.text import as_unicode, is_unicode, shortened
from rwml.core.types import Task
from rwml.worlds.base import StepResult, World

T = TypeVar("T")

MAX_CHARACTERS, MAX_ACTIONS = 1_000_000, 100_000
"""Of one text of a world, and of one list of admissible actions. What is longer is a failure of the world."""
_MESSAGE = 2_000  # characters of an error's own message that are kept


class WorldFailed(RwmlError):
    """A world raised, or answered with what no world may answer. reason: the fault alone, as an episode keeps it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the world failed: {reason}",
            "what it answers is what is learnt and measured",
            "mend the world (`rwml worlds check` names its faults), or leave the task out",
        )
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason,)


def reason_of(error: BaseException) -> str:
    """An error of a world in words that a file can keep: its type and message, or all that an `RwmlError` says."""
    if isinstance(error, WorldFailed):
        return error.reason
    try:
        text = str.__str__(str(error))
    except Exception as inner:  # a class of the world may do anything
        text = f"its message raises {type(inner).__name__}"
    text = shortened(as_unicode(text), _MESSAGE)
    return text if isinstance(error, RwmlError) else f"{type(error).__name__}: {text}"


def answered(what: str, give: Callable[[], object], read: Callable[[str, Any], T]) -> T:
    """What a world gives, read by one of the functions below; `WorldFailed` where it raises or gives something else.

    what: names the value in the reason.
    """
    try:
        return read(what, give())
    except WorldFailed:
        raise
    except (Exception, SystemExit) as error:  # whatever a world raises
        raise WorldFailed(reason_of(error)) from error


def a_text(what: str, value: object) -> str:
    """A text that a file can keep."""
    if not isinstance(value, str):
        raise WorldFailed(f"{what} is of type {type(value).__name__}, not a text")
    text = str.__str__(value)
    if len(text) > MAX_CHARACTERS:
        raise WorldFailed(f"{what} has {len(text):,} characters, more than {MAX_CHARACTERS:,}")
    if not is_unicode(text):
        raise WorldFailed(f"{what} holds a lone surrogate (half a character), which no file can keep")
    return text


def a_flag(what: str, value: object) -> bool:
    """True or False."""
    if not isinstance(value, bool | np.bool_):
        raise WorldFailed(f"{what} is of type {type(value).__name__}, not True or False")
    return bool(value)


def a_number(what: str, value: object) -> float:
    """A finite number."""
    if not isinstance(value, Real):
        raise WorldFailed(f"{what} is of type {type(value).__name__}, not a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise WorldFailed(f"{what} is {'not a number (nan)' if math.isnan(number) else 'infinite'}")
    return number


def texts(what: str, value: object) -> tuple[str, ...]:
    """A list of texts."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise WorldFailed(f"{what} is of type {type(value).__name__}, not a list of texts")
    if len(value) > MAX_ACTIONS:
        raise WorldFailed(f"{what} has {len(value):,} entries, more than {MAX_ACTIONS:,}")
    return tuple(a_text(f"an entry of {what}", entry) for entry in value)


def a_result(what: str, value: object) -> StepResult:
    """A `StepResult` whose fields are what they should be."""
    if not isinstance(value, StepResult):
        raise WorldFailed(f"{what} is of type {type(value).__name__}, not a StepResult")
    return StepResult(
        a_text("the observation", value.observation),
        a_number("the reward", value.reward),
        a_flag("terminated", value.terminated),
        a_flag("valid", value.valid),
        a_text("the kind", value.kind),
    )


class SoundEnv:
    """The environment of a world, whose every answer is checked; see `Env`. All that it raises is `WorldFailed`.

    make: makes the environment, at the first `reset`: a world that cannot make one fails like one that cannot start.
    """

    def __init__(self, make: Callable[[], object]) -> None:
        self._make = make
        self._env: Any = None

    def reset(self, task: Task, seed: int = 0) -> str:
        """Start `task`."""
        if self._env is None:
            self._env = answered("the environment", self._make, lambda what, env: env)
        return answered("the opening", lambda: self._env.reset(task, seed), a_text)

    def step(self, action: str) -> StepResult:
        """Play one action."""
        return answered("the answer to an action", lambda: self._env.step(action), a_result)

    @property
    def admissible(self) -> Sequence[str]:
        """The actions that the world admits now."""
        return answered("admissible", lambda: self._env.admissible, texts)

    @property
    def success(self) -> bool:
        """Whether the task is solved now."""
        return answered("success", lambda: self._env.success, a_flag)


def inefficient_of(world: World) -> Callable[[str], bool]:
    """`World.inefficient`, checked: it raises `WorldFailed` where the world raises or gives no flag."""
    return lambda action: answered("inefficient", lambda: world.inefficient(action), a_flag)


def splits_of(world: World) -> tuple[str, ...]:
    """The world's splits; RwmlError where it raises or lists something else."""
    return _listed(world, "its splits", world.splits, texts)


def tasks_of(world: World, split: str) -> list[Task]:
    """The world's tasks of a split; RwmlError where it raises or lists something else."""
    return _listed(world, f"the tasks of the split '{split}'", lambda: world.tasks(split), _tasks)


def _tasks(what: str, value: object) -> list[Task]:
    if not isinstance(value, list | tuple):
        raise WorldFailed(f"{what} are of type {type(value).__name__}, not a list")
    for task in value:
        if not isinstance(task, Task):
            raise WorldFailed(f"{what} hold a value of type {type(task).__name__}, not a Task")
        for field in fields(Task):
            a_text(f"the {field.name} of one of {what}", getattr(task, field.name))
    return list(value)


def _listed(world: World, what: str, give: Callable[[], object], read: Callable[[str, Any], T]) -> T:
    try:
        return answered(what, give, read)
    except WorldFailed as error:
        if isinstance(error.__cause__, RwmlError):  # the world's own message, which names the nearest split or option
            raise error.__cause__ from None
        raise RwmlError(
            f"the world {getattr(world, 'name', type(world).__name__)} cannot list {what}: {error.reason}",
            "there is nothing to play without its list",
            "mend the world: `rwml worlds check` names its faults",
        ) from None
