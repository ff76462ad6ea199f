"""A world whose every answer may be anything, drawn by a seed: for tests, and at any size from a benchmark."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from rwml.core.types import Task
from rwml.worlds.base import BaseWorld, Prompts, StepResult


class Rude(Exception):
    """An error that cannot even be shown."""

    def __str__(self) -> str:
        raise TypeError("no words")


def _raise(error: BaseException) -> Any:
    raise error


ANYTHING: tuple[Callable[[], Any], ...] = (
    lambda: None, lambda: 7, lambda: 2.5, lambda: float("nan"), lambda: float("inf"), lambda: 10**400, lambda: True,
    lambda: b"bytes", lambda: ["a", None], lambda: {"a": 1}, lambda: object, lambda: "\ud83d", lambda: "a\udc80b",
    lambda: "", lambda: "\x00\x1b[2J", lambda: "x" * 1_000_001, lambda: ("look",), lambda: {"look"},
    lambda: StepResult("a", 0.0, False, True), lambda: _raise(ValueError("no luck")), lambda: _raise(Rude()),
    lambda: _raise(SystemExit(1)), lambda: _raise(RecursionError("deep")), lambda: _raise(ValueError("\udc80\x1b[31m")),
)  # fmt: skip
"""What a world may give or do in place of a right answer."""


class Chaos(BaseWorld):
    """Answers rightly, but with the chance `odds` it answers anything, at every call of an episode or of a row."""

    texts = Prompts("Act.", "Predict.", "\n\nAfter {action}?")
    name = "chaos"

    def __init__(self, odds: float = 0.05, num_tasks: int = 40, seed: int = 0) -> None:
        self.odds, self.num_tasks, self.rng = odds, num_tasks, random.Random(seed)

    def either(self, right: Any) -> Any:
        """The right value, or anything."""
        return self.rng.choice(ANYTHING)() if self.rng.random() < self.odds else right

    def splits(self) -> tuple[str, ...]:
        return ("train", "valid_seen")

    def tasks(self, split: str) -> list[Task]:
        return [Task(f"{split}/{n}", "chaos", split, "any") for n in range(self.num_tasks)]

    def policies(self) -> tuple[str, ...]:
        return ("random", "expert")

    def policy(self, name: str, seed: int) -> Any:
        return self.either(ChaosPolicy(self))

    def env(self) -> Any:
        return self.either(ChaosEnv(self))

    def verb(self, action: str) -> Any:
        return self.either("look")

    def target(self, kind: str, observation: str) -> Any:
        return self.either(observation)

    def knowable(self, *_: Any) -> Any:
        return self.either(True)

    def world_model_opening(self, task: Task, opening: str) -> Any:
        return self.either(opening)


class ChaosPolicy:
    def __init__(self, world: Chaos) -> None:
        self.either = world.either

    def act(self, observation: str, admissible: Any) -> Any:
        return self.either(admissible[0])

    def thought(self) -> Any:
        return self.either("try")


class ChaosEnv:
    """Three steps to the end."""

    def __init__(self, world: Chaos) -> None:
        self.either, self.steps = world.either, 0

    def reset(self, task: Task, seed: int = 0) -> Any:
        self.steps = 0
        return self.either("A room.")

    def step(self, action: str) -> Any:
        self.steps += 1
        fields = (f"Step {self.steps}.", 0.5, self.steps == 3, True, "text")
        return self.either(StepResult(*map(self.either, fields)))

    @property
    def admissible(self) -> Any:
        return self.either(["look", "wait"])

    @property
    def success(self) -> Any:
        return self.either(self.steps == 3)
